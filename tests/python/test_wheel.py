"""The wheel that tools/wheel makes of a build folder: what it holds, and that what pip installed of it runs on the
torch that is there."""
from __future__ import annotations

import importlib.util
import os
import re
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
import torch

from conftest import ROOT

MINOR = ".".join(torch.__version__.split(".")[:2])
BUNDLED = ("libsentencepiece", "libyaml-cpp", "libonig", "libutf8proc", "libspdlog", "libfmt")


@pytest.fixture(scope="module")
def wheel(program, tmp_path_factory):
    if not re.search(rf"LibTorch {re.escape(MINOR)}\.", subprocess.run([program, "--version"], capture_output=True,
            text=True).stdout):
        pytest.skip("the program was built with another LibTorch than Python's torch")
    dist = tmp_path_factory.mktemp("dist")
    done = subprocess.run([ROOT / "tools/wheel", program.parent], capture_output=True, text=True, env=os.environ
                          | {"DIST": str(dist)})
    if done.returncode != 0 and "requirements-wheel.txt" not in done.stderr and re.search(
            r"No matching distribution|Could not (find|fetch)", done.stderr):
        pytest.skip("the tools that pack wheels cannot be had here: " + done.stderr.strip().splitlines()[-1])
    assert done.returncode == 0, done.stdout + done.stderr
    return next(dist.iterdir())


@pytest.fixture(scope="module")
def installed(wheel, tmp_path_factory):
    """A folder that pip installed the wheel into, with torch beside it, and the environment to use it in."""
    folder = tmp_path_factory.mktemp("installed")
    subprocess.run([sys.executable, "-m", "pip", "install", "-q", "--disable-pip-version-check", "--no-deps",
                    "--target", folder, wheel], check=True)
    (folder / "torch").symlink_to(Path(torch.__file__).parent)
    return folder, {k: v for k, v in os.environ.items() if k != "LD_LIBRARY_PATH"} | {"PYTHONPATH": str(folder)}


def deeplora(installed, *arguments, code=0, **environment):
    folder, env = installed
    done = subprocess.run([folder / "bin/deeplora", *map(str, arguments)], capture_output=True, text=True,
                          env=env | environment)
    assert done.returncode == code, done.stdout + done.stderr
    return done.stdout + done.stderr


def test_it_says_which_torch_and_which_systems_it_is_for(wheel):
    version = re.search(r"project\(deeplora VERSION ([0-9.]+)", (ROOT / "CMakeLists.txt").read_text()).group(1)
    assert re.fullmatch(rf"deeplora-{version}-{re.escape(MINOR)}-py3-none-manylinux_2_\d+_x86_64\.whl", wheel.name)
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
        metadata = archive.read(f"deeplora-{version}.dist-info/METADATA").decode()
    assert re.findall(r"^Requires-Dist: torch.*$", metadata, re.M) == [f"Requires-Dist: torch=={MINOR}.*"]
    libraries = sorted(Path(name).name for name in names if name.startswith("deeplora.libs/"))
    for bundled in BUNDLED:
        assert any(name.startswith(bundled) for name in libraries), f"{bundled} is not among {libraries}"
    assert not any(re.match(r"lib(torch|c10|gomp)", name) for name in libraries)
    share = "deeplora/share/deeplora/"
    for name in ("configs/tasks/classification.yaml", "data/sentiment-amazon/train.tsv", "tools/export_torchscript.py",
                 "tools/torchscript_tracing.py"):
        assert share + name in names


def test_the_installed_command_trains_and_predicts(installed, program, tiny_archive, tmp_path):
    expected = subprocess.run([program, "--version"], capture_output=True, text=True).stdout
    assert deeplora(installed, "--version") == expected
    (tmp_path / "rows.csv").write_text("text,label\n" + "".join(f"the {w} house {i},{w}\n" for i in range(8) for w
                                                                in ("red", "blue")))
    deeplora(installed, "finetune", "--model", tiny_archive("bert", "encoder"), "--train", tmp_path / "rows.csv",
             "--steps", 3, "--run", tmp_path / "run")
    assert '"prediction":' in deeplora(installed, "predict", tmp_path / "run", "--text", "a red house")
    assert "error: " in deeplora(installed, "inspect", tmp_path / "no.pt", code=1)


def test_torch_may_lie_elsewhere(installed, tmp_path):
    folder, env = installed
    shutil.copytree(folder, tmp_path / "alone", symlinks=True, ignore=shutil.ignore_patterns("torch"))
    there = Path(torch.__file__).parents[1]
    said = deeplora((tmp_path / "alone", env), "--version", PYTHONPATH=f"{tmp_path / 'alone'}{os.pathsep}{there}")
    assert said.startswith("deeplora ")


def test_another_torch_is_named_before_anything_is_loaded(installed, tmp_path):
    (tmp_path / "torch").mkdir()
    (tmp_path / "torch/__init__.py").write_text("raise AssertionError('imported')\n")
    (tmp_path / "torch-1.13.1.dist-info").mkdir()
    (tmp_path / "torch-1.13.1.dist-info/METADATA").write_text("Metadata-Version: 2.1\nName: torch\nVersion: 1.13.1\n")
    folder, _ = installed
    said = deeplora(installed, "--version", code=1, PYTHONPATH=f"{tmp_path}{os.pathsep}{folder}")
    assert (said == (f"error: torch 1.13.1 is installed, but this deeplora was built for torch {MINOR}, whose "
                     f"libraries it runs on: "
                    f"pip install 'torch=={MINOR}.*', or the deeplora wheel for torch 1.13\n"))


def test_no_torch_is_said(tmp_path, monkeypatch):
    (tmp_path / "deeplora/share/deeplora").mkdir(parents=True)
    shutil.copy(ROOT / "tools/packaging/deeplora/__init__.py", tmp_path / "deeplora")
    (tmp_path / "deeplora/share/deeplora/libtorch-version").write_text("2.13.0\n")
    spec = importlib.util.spec_from_file_location("installed_deeplora", tmp_path / "deeplora/__init__.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    monkeypatch.setattr(module.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(module.Mismatch,
                       match=r"torch is not installed; this deeplora runs on torch 2\.13: pip install "
                             r"'torch==2\.13\.\*'"):
        module.libtorch()


def test_the_installed_exporter_is_the_one_of_the_tree(installed, tiny_folder, tmp_path):
    folder, env = installed
    done = subprocess.run([folder / "bin/deeplora-export-torchscript", tiny_folder("bert"), tmp_path / "m.pt"],
                          capture_output=True, text=True, env=env)
    assert done.returncode == 0, done.stderr
    assert "m.pt: BertModel, encoder" in done.stdout
    assert deeplora(installed, "inspect", tmp_path / "m.pt")
