"""The `deeplora` command of a wheel: looks whether the installed torch is the one that the program was built for, and
becomes the program."""
import importlib.metadata
import importlib.util
import os
import runpy
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent


class Mismatch(Exception):
    """No torch, or one that the program does not fit; the message is one line."""


def libtorch() -> Path:
    """The folder of LibTorch's libraries in the installed torch, which is not imported."""
    built = (HERE / "share/deeplora/libtorch-version").read_text(encoding="utf-8").strip()
    minor = ".".join(built.split(".")[:2])
    found = importlib.util.find_spec("torch")
    if found is None or not found.submodule_search_locations:
        raise Mismatch(f"torch is not installed; this deeplora runs on torch {minor}: pip install 'torch=={minor}.*'")
    version = importlib.metadata.version("torch")
    if version.split(".")[:2] != minor.split("."):
        raise Mismatch(f"torch {version} is installed, but this deeplora was built for torch {minor}, whose libraries "
                       f"it runs on: "
                       f"pip install 'torch=={minor}.*', or the deeplora wheel for torch "
                       f"{'.'.join(version.split('.')[:2])}")
    return Path(found.submodule_search_locations[0]) / "lib"


def main() -> None:
    try:
        libraries = libtorch()
    except Mismatch as e:
        sys.exit(f"error: {e}")
    beside = HERE.parent / "torch/lib"  # where the program looks by itself
    if not (beside.is_dir() and beside.samefile(libraries)):
        others = os.environ.get("LD_LIBRARY_PATH")
        os.environ["LD_LIBRARY_PATH"] = f"{libraries}:{others}" if others else str(libraries)
    os.execv(HERE / "bin/deeplora", ["deeplora", *sys.argv[1:]])


def export_torchscript() -> None:
    """The exporter, which needs transformers too (pip install 'deeplora[export]')."""
    tools = HERE / "share/deeplora/tools"
    sys.path.insert(0, str(tools))
    runpy.run_path(str(tools / "export_torchscript.py"), run_name="__main__")
