"""Prints the lines of requirement files that the running Python does not meet, without importing or asking anyone.

  missing_packages.py requirements.txt...              name==version as written in the file
  missing_packages.py --torch-at-least 2.6             nothing when this Python has such a torch, else why not
"""
import importlib.util
import sys
from importlib import metadata


def installed(name):
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None


def unmet(path):
    """The requirements of file `path` that apply to this Python and are not met, as text. Needs pip (a venv has it)."""
    from pip._vendor.packaging.requirements import Requirement

    found = []
    with open(path, encoding="utf-8") as lines:
        for line in lines:
            text = line.split("#")[0].strip()
            if not text:
                continue
            requirement = Requirement(text)
            if requirement.marker is not None and not requirement.marker.evaluate():
                continue
            version = installed(requirement.name)
            if version is None or not requirement.specifier.contains(version, prereleases=True):
                found.append(f"{requirement.name}{requirement.specifier}")
    return found


def torch_lack(least):
    """Why this Python has no torch of version `least` ("2.6") or newer; empty when it has."""
    version = installed("torch")
    if importlib.util.find_spec("torch") is None or version is None:
        return ["no torch"]
    numbers = [tuple(int(part) for part in text.split(".")[:2]) for text in (version, least)]
    return [f"torch {version} is older than {least}"] if numbers[0] < numbers[1] else []


def main(arguments):
    lacks = torch_lack(arguments[1]) if arguments[0] == "--torch-at-least" else [
        text for path in arguments for text in unmet(path)]
    print("\n".join(lacks), end="\n" if lacks else "")


if __name__ == "__main__":
    main(sys.argv[1:])
