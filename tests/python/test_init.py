"""deeplora init: the configuration that it writes runs as it stands, and says what was found."""
from __future__ import annotations

import json
import random
import re

import pytest
import yaml

from test_first_minutes import text, write_csv


def labelled(columns, label):
    def write(folder):
        rng = random.Random(6)
        return write_csv(folder / "rows.csv", columns, [[text(rng), label(i, rng)] for i in range(40)])
    return write


def rows_of(row, name="rows.jsonl"):
    def write(folder):
        path = folder / name
        path.write_text("".join(json.dumps(row(i)) + "\n" for i in range(24)))
        return path
    return write


CASES = {
    "classes": (("bert", "encoder"), labelled(["text", "label"], lambda i, rng: "ab"[i % 2]), {"task": "classification",
        "text": "text", "label": "label"}),
    "columns of other names": (("bert", "encoder"), labelled(["body", "stars"], lambda i, rng: i % 3),
                               {"task": "classification", "text": "body", "label": "stars"}),
    "numbers": (("bert", "encoder"), labelled(["text", "score"], lambda i, rng: rng.random()),
                {"task": "regression", "text": "text", "label": "score"}),
    "prompts": (("gpt2",), rows_of(lambda i: {"prompt": f"apple {i} is", "completion": " red"}), {"task": "causal-lm"}),
    "pairs": (("gpt2",), rows_of(lambda i: {"prompt": f"apple {i} is", "chosen": " red", "rejected": " blue"}),
              {"task": "preference"}),
    "sources and targets": (("t5",), rows_of(lambda i: {"prompt": f"apple {i} is", "completion": "red"}),
                            {"task": "seq2seq", "text": "prompt", "target": "completion"}),
}


@pytest.mark.parametrize("name", CASES)
def test_what_is_written_runs(name, run, tiny_archive, tmp_path):
    model, write, expected = CASES[name]
    data = write(tmp_path)
    done = run("init", tiny_archive(*model), data, "--output", tmp_path / "made.yaml")
    assert f"next  deeplora finetune {tmp_path / 'made.yaml'}" in done.stdout
    made = (tmp_path / "made.yaml").read_text()
    read = yaml.safe_load(made)
    assert {key: read["data"][key] for key in expected} == expected
    assert re.search(r"targets: all-linear +# \d+ weights: ",
                     made) and re.search(r"max_length: \d+ +# tokens; the texts: median \d+, longest \d+", made)
    run("finetune", tmp_path / "made.yaml", "--steps", 2, "--run", tmp_path / "run")
    assert json.loads((tmp_path / "run" / "result.json").read_text())["test"]


def test_nothing_is_overwritten_and_what_does_not_fit_is_said(run, tiny_archive, tmp_path):
    data = CASES["classes"][1](tmp_path)
    (tmp_path / "rows.yaml").write_text("mine")
    assert "exists already" in run("init", tiny_archive("bert", "encoder"), data, code=1, cwd=tmp_path).stderr
    assert (tmp_path / "rows.yaml").read_text() == "mine"
    prompts = CASES["prompts"][1](tmp_path)
    assert "logits" in run("init", tiny_archive("bert", "encoder"), prompts, "--output", tmp_path / "x.yaml",
                           code=1).stderr
    assert not (tmp_path / "x.yaml").exists()
