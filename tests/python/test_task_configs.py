"""Every configuration of configs/tasks runs as it stands, with a tiny model and a few rows of its columns."""
from __future__ import annotations

import json

import pytest
import yaml

from conftest import ROOT
from test_first_minutes import write_csv

FOLDER = ROOT / "configs" / "tasks"


def table(columns, row):
    return lambda path: write_csv(path, columns, [row(i) for i in range(30)])


def lines(row):
    return lambda path: path.write_text("".join(json.dumps(row(i)) + "\n" for i in range(30)))


ROWS = {
    "classification": (("bert", "encoder"), table(["text", "label"], lambda i: [f"good day {i}",
        ["bad", "good"][i % 2]])),
    "pair": (("bert", "encoder"), table(["premise", "hypothesis", "label"], lambda i: [f"good day {i}", f"day {i}",
        ["no", "yes"][i % 2]])),
    "regression": (("bert", "encoder"), table(["text", "score"], lambda i: [f"good day {i}", i / 7])),
    "multi_label": (("bert", "encoder"), lines(lambda i: {"text": f"good day {i}", "label": [["late"], ["late", "rude"],
        []][i % 3]})),
    "ranking": (("bert", "encoder"), lines(lambda i: {"query": f"day {i}", "text": "good day", "label": 1})),
    "token_classification": (("bert", "encoder"), lines(lambda i: {"tokens": ["good", "day", str(i)],
        "tags": ["O", "B-DAY", "I-DAY"]})),
    "prompts": (("gpt2",), lines(lambda i: {"prompt": f"apple {i} is", "completion": " red"})),
    "chat": (("qwen2",), lines(lambda i: {"messages": [{"role": "user", "content": f"apple {i}"},
                                                       {"role": "assistant", "content": "red"}]})),
    "embedding": (("bert", "encoder"), table(["text", "text_pair"], lambda i: [f"good day {i}", f"day {i}"])),
    "preference": (("gpt2",), lines(lambda i: {"prompt": f"apple {i} is", "chosen": " red", "rejected": " blue"})),
    "seq2seq": (("t5",), lines(lambda i: {"source": f"apple {i} is", "target": "red"})),
}


def test_all_are_known():
    assert {path.stem for path in FOLDER.glob("*.yaml")} == set(ROWS)


@pytest.mark.parametrize("name", ROWS)
def test_it_runs(name, run, tiny_archive, tmp_path):
    model, write = ROWS[name]
    kept = yaml.safe_load((FOLDER / f"{name}.yaml").read_text())
    data = tmp_path / kept["data"]["train"]
    write(data)
    sets = ["--set", "data.max_length=32"] + (["--set", "data.chat_template=chatml"] if name == "chat" else [])
    sets += ["--set", "data.generation.max_new_tokens=3"] if "generation" in kept["data"] else []
    run("finetune", FOLDER / f"{name}.yaml", "--model", tiny_archive(*model), "--train", data, "--steps", 2, "--run",
        tmp_path / "run", *sets)
    result = json.loads((tmp_path / "run" / "result.json").read_text())
    assert result["best"] and result["rows"]["dev"] == 3
    assert bool(result["test"]) == ("test_share" in kept["data"])
