"""docs/exported-models.md: its examples label texts as the run does. Oracle: what `deeplora predict` says of the run
itself; for the Python example the tokenizer is Hugging Face's and the model plain torch.jit.load's."""
from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from conftest import ROOT

EXAMPLES = ROOT / "tools/examples/exported"
CPP = Path(os.environ.get("DEEPLORA_USE_MODEL", ROOT / "build/tests/deeplora_use_model"))
TEXTS = ["the red house", "a cold day in the old town", "new", "the " * 60]  # of four lengths, one of them cut


@pytest.fixture(scope="module")
def run_folder(run, tiny_archive, tmp_path_factory):
    folder = tmp_path_factory.mktemp("exported")
    words = {"calm": "blue old", "glad": "new red", "ill-fed": "cold day"}
    rows = "".join(f"the {w} house {i},{label}\n" for i in range(6) for label, ws in words.items() for w in ws.split())
    (folder / "rows.csv").write_text("text,label\n" + rows)
    run("finetune", "--model", tiny_archive("bert", "encoder"), "--train", folder / "rows.csv", "--steps", 12,
        "--run", folder / "run", "--set", "data.max_length=16", "--set", "train.lr=3e-2", "--set", "data.dev_share=0.2")
    run("export", folder / "run", "--to", "torchscript", "--output", folder / "merged.pt")
    return folder


@pytest.fixture(scope="module")
def expected(run, run_folder):
    """label, and probabilities by label, of each text."""
    said = run("predict", run_folder / "run", *[part for text in TEXTS for part in ("--text", text)]).stdout
    return [(row["prediction"], row["by_label"]) for row in map(json.loads, said.splitlines())]


def check(lines, expected):
    assert len(lines) == len(expected)
    for line, (label, probabilities) in zip(lines, expected):
        first, *shares = line.split("\t")
        found = {share.rsplit(" ", 1)[0]: float(share.rsplit(" ", 1)[1]) for share in shares}
        assert list(found) == list(probabilities)
        assert found == pytest.approx(probabilities, abs=2e-4)
        if sorted(probabilities.values())[-1] - sorted(probabilities.values())[-2] > 1e-3:
            assert first == label


def test_the_texts_tell_the_labels_apart(expected):
    """Else the tests below would compare one number with itself."""
    highest = [max(p.values()) for _, p in expected]
    assert len({round(p, 4) for p in highest}) == len(TEXTS) and max(highest) > 0.4


def test_python(run_folder, expected):
    command = [sys.executable, EXAMPLES / "use_model.py", run_folder / "merged.pt", *TEXTS]
    check(subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines(), expected)


def test_cpp(run_folder, expected):
    assert os.access(CPP, os.X_OK), (
        f"{CPP} is not built (cmake --build build), or DEEPLORA_USE_MODEL names another place")
    done = subprocess.run([CPP, run_folder / "merged.pt", *TEXTS], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    check(done.stdout.splitlines(), expected)


def test_cpp_without_a_model_says_so(run_folder, tmp_path):
    (tmp_path / "no.pt").write_text("no model")
    done = subprocess.run([CPP, tmp_path / "no.pt", "text"], capture_output=True, text=True)
    assert done.returncode == 1 and done.stderr.startswith("error: ")


def test_java_compiles_where_djl_is_there(tmp_path):
    repository = Path.home() / ".m2/repository"
    if shutil.which("mvn") is None or not (repository / "ai/djl/pytorch/pytorch-engine").is_dir():
        pytest.skip("no Maven with DJL in its local repository")
    shutil.copytree(EXAMPLES / "java", tmp_path / "java")
    done = subprocess.run(["mvn", "-q", "-o", "compile"], cwd=tmp_path / "java", capture_output=True, text=True)
    assert done.returncode == 0, done.stdout[-2000:]
    assert (tmp_path / "java/target/classes/UseModel.class").is_file()


def test_the_page_shows_the_python_example_as_it_is():
    page = (ROOT / "docs/exported-models.md").read_text("utf-8")
    shown = re.search(r"```python\n(.*?)```", page, re.S).group(1).strip()
    assert shown in (EXAMPLES / "use_model.py").read_text("utf-8")
