"""Every mistake of a user gives one clear line, exit code 1, and leaves nothing behind. One row per case."""
from __future__ import annotations

import json
import os
import subprocess
import zipfile

import pytest
import torch

GOOD_ROWS = [{"text": f"some words {i}", "label": i % 3 - 1.5 * (i % 2)} for i in range(24)]


def jsonl(rows):
    return "".join(json.dumps(row) + "\n" for row in rows)


@pytest.fixture()
def place(tmp_path, tiny_archive):
    """A folder with a good model, good rows and a good configuration, for a case to spoil."""
    (tmp_path / "rows.jsonl").write_text(jsonl(GOOD_ROWS))
    (tmp_path / "model.pt").write_bytes(tiny_archive("bert", "encoder").read_bytes())
    (tmp_path / "config.yaml").write_text(
        "model: {path: model.pt}\n"
        "data: {task: regression, train: rows.jsonl, dev: rows.jsonl}\n"
        "adapter: {method: lora, rank: 2}\n"
        "train: {steps: 2, batch_size: 8}\n")
    return tmp_path


def without_tokenizer(place):
    source, target = place / "model.pt", place / "bare.pt"
    torch.jit.save(torch.jit.load(str(source)), str(target), _extra_files={"config.json": extra(source, "config.json")})
    os.replace(target, source)


def extra(path, name):
    with zipfile.ZipFile(path) as archive:
        return archive.read(next(n for n in archive.namelist() if n.endswith("/extra/" + name)))


def rows_file(content, name="rows.jsonl"):
    def spoil(place):
        (place / name).write_bytes(content if isinstance(content, bytes) else content.encode())
    return spoil


def torch_save(place):
    torch.save({"weight": torch.zeros(2)}, place / "model.pt")


def truncate(place):
    data = (place / "model.pt").read_bytes()
    (place / "model.pt").write_bytes(data[: len(data) // 2])


def other_config(place):
    module = torch.jit.load(str(place / "model.pt"))
    settings = json.loads(extra(place / "model.pt", "config.json"))
    settings["num_attention_heads"] = 1
    files = {name: extra(place / "model.pt", name) for name in ("tokenizer.json", "tokenizer_config.json")}
    torch.jit.save(module, str(place / "other.pt"), _extra_files={**files, "config.json": json.dumps(settings)})
    os.replace(place / "other.pt", place / "model.pt")


# name: (what spoils the folder, further arguments, words that the message must hold)
CASES = {
    "not TorchScript": (rows_file(b"hello, no model", "model.pt"), [], ["model.pt", "not a TorchScript file", "export_torchscript.py"]),
    "empty model file": (rows_file(b"", "model.pt"), [], ["model.pt", "0 bytes"]),
    "torch.save checkpoint": (torch_save, [], ["model.pt", "torch.save checkpoint"]),
    "truncated archive": (truncate, [], ["model.pt", "truncated or damaged"]),
    "model is missing": (None, ["--set", "model.path=nowhere.pt"], ["nowhere.pt", "does not exist"]),
    "no tokenizer": (without_tokenizer, [], ["tokenizer", "input_ids", "model.tokenizer"]),
    "config.json of another model": (other_config, ["--set", "model.backend=native"], ["does not compute what the archive computes", "layer 0"]),
    "unknown key": (None, ["--set", "train.learning_rate=1"], ["train.learning_rate", "unknown key"]),
    "unknown key in the file": (rows_file("model: {path: model.pt}\nadaptor: {rank: 3}\n", "config.yaml"), [],
                                ["config.yaml:2: adaptor: unknown key", "did you mean 'adapter'"]),
    "key of another method": (None, ["--set", "adapter.depth=3"], ["adapter.depth", "unknown key"]),
    "unknown method": (None, ["--set", "adapter.method=lroa"], ["adapter.method", "did you mean 'lora'"]),
    "unknown task": (None, ["--set", "data.task=regresion"], ["data.task", "did you mean 'regression'"]),
    "target that matches nothing": (None, ["--set", "adapter.targets=qery"], ["adapter.targets", "'qery' matches no weight", "did you mean 'query'"]),
    "rank 0": (None, ["--set", "adapter.rank=0"], ["adapter.rank", "at least 1"]),
    "rank above the matrix": (None, ["--set", "adapter.rank=4096"], ["rank", "4096", "query.weight"]),
    "depth 1": (None, ["--set", "adapter.method=deep-lora", "--set", "adapter.depth=1"], ["adapter.depth", "at least 2"]),
    "text label in a regression": (rows_file(jsonl(GOOD_ROWS[:5] + [{"text": "x", "label": "good"}])), [],
                                   ["rows.jsonl:6", "label", "expected a number, found 'good'"]),
    "one label only": (rows_file(jsonl([{"text": "x", "label": "a"}] * 9)), ["--set", "data.task=classification"], ["only one label, 'a'"]),
    "missing column": (None, ["--set", "data.text=sentense"], ["rows.jsonl", "sentense"]),
    "missing label column": (rows_file(jsonl([{"text": "x"}] * 9)), [], ["rows.jsonl", "label"]),
    "empty file": (rows_file(b""), [], ["rows.jsonl", "no rows"]),
    "too few rows": (None, ["--set", "data.samples=5000"], ["data.samples", "24 rows", "5000"]),
    "invalid UTF-8": (rows_file(b'{"text": "a\xff", "label": 1}\n'), [], ["rows.jsonl:1", "UTF-8"]),
    "invalid JSON": (rows_file('{"text": "a", "label": 1}\n{"text": \n'), [], ["rows.jsonl:2", "JSON"]),
    "broken YAML": (rows_file("model: {path\n", "config.yaml"), [], ["config.yaml:", "YAML"]),
    "configuration is missing": (lambda place: (place / "config.yaml").unlink(), [], ["config.yaml", "does not exist"]),
    "--set without a value": (None, ["--set", "train.lr"], ["--set train.lr", "key=value"]),
    "number expected": (None, ["--set", "train.lr=fast"], ["train.lr", "expected a number, found fast"]),
    "data file is missing": (None, ["--set", "data.train=nowhere.jsonl"], ["nowhere.jsonl", "does not exist"]),
}


def one_line(done):
    lines = [line for line in done.stderr.splitlines() if line.startswith("error: ")]
    assert len(lines) == 1, done.stderr
    assert done.stderr.rstrip().splitlines()[-1] == lines[0], "the error is not the last line"
    assert "Exception raised" not in done.stderr and "frame #" not in done.stderr
    return lines[0]


@pytest.mark.parametrize("case", CASES)
def test_a_mistake_is_one_line_and_leaves_nothing_behind(case, run, place):
    spoil, arguments, words = CASES[case]
    if spoil:
        spoil(place)
    before = sorted(p.name for p in place.iterdir())
    done = run("finetune", "config.yaml", "--run", "run", *arguments, code=1, cwd=place)
    message = one_line(done)
    for word in words:
        assert word in message, message
    assert sorted(p.name for p in place.iterdir()) == before


def test_several_mistakes_are_said_at_once(run, place):
    message = one_line(run("finetune", "config.yaml", "--run", "run", "--set", "train.lr=fast", "--set", "adapter.rank=0", "--set",
                           "data.tset=x", code=1, cwd=place))
    for word in ("train.lr", "adapter.rank", "data.tset"):
        assert word in message, message


def test_an_output_path_that_holds_another_run_is_refused_and_kept(run, place):
    run("finetune", "config.yaml", "--run", "run", cwd=place)
    before = {p: p.stat().st_mtime_ns for p in (place / "run").rglob("*")}
    message = one_line(run("finetune", "config.yaml", "--run", "run", code=1, cwd=place))
    assert "run" in message and "--resume" in message
    assert {p: p.stat().st_mtime_ns for p in (place / "run").rglob("*")} == before
    (place / "foreign").mkdir()
    (place / "foreign" / "letter.txt").write_text("dear")
    assert "foreign" in one_line(run("finetune", "config.yaml", "--run", "foreign", code=1, cwd=place))
    merged = place / "merged.pt"
    merged.write_text("mine")
    assert "exists already" in one_line(run("export", "run", "--to", "torchscript", "--output", merged, code=1, cwd=place))
    assert merged.read_text() == "mine"


def test_a_run_folder_from_another_model_is_refused(run, place):
    run("finetune", "config.yaml", "--run", "run", cwd=place)
    module = torch.jit.load(str(place / "model.pt"))
    with torch.no_grad():
        next(module.parameters()).add_(0.5)
    files = {name: extra(place / "model.pt", name) for name in ("config.json", "tokenizer.json", "export.json")}
    torch.jit.save(module, str(place / "model.pt"), _extra_files=files)
    for command in (["evaluate", "run"], ["predict", "run", "--text", "x"], ["export", "run", "--to", "torchscript", "--output", "m.pt"]):
        assert "fingerprint" in one_line(run(*command, code=1, cwd=place))
    assert not (place / "m.pt").exists()


def test_folders_that_are_no_run_are_refused(run, place):
    for command in (["evaluate", "."], ["predict", ".", "--text", "x"], ["export", "nowhere", "--to", "peft", "--output", "p"]):
        one_line(run(*command, code=1, cwd=place))


def test_a_full_disk_is_one_line_and_leaves_nothing_half_written(run, place, tmp_path):
    mount = tmp_path / "small"
    mount.mkdir()
    if os.geteuid() != 0 or subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", mount]).returncode != 0:
        pytest.skip("mounting a small file system needs root")
    try:
        message = one_line(run("finetune", "config.yaml", "--run", mount / "run", "--set", "adapter.rank=32", code=1, cwd=place))
        assert "No space left" in message or "cannot write" in message
        assert not list(mount.rglob("*.tmp-*")) and not (mount / "run" / "result.json").exists()
        run("finetune", "config.yaml", "--run", "run", cwd=place)
        one_line(run("export", "run", "--to", "torchscript", "--output", mount / "merged.pt", code=1, cwd=place))
        assert not list(mount.rglob("*merged*"))
    finally:
        subprocess.run(["umount", mount], check=True)


def test_wrong_usage_is_exit_code_2(run):
    for arguments in ([], ["finetun"], ["export", "x"], ["finetune", "--frobnicate"], ["finetune"]):
        assert run(*arguments, code=2).stderr


def test_help_and_version_are_exit_code_0(run):
    assert torch.__version__.split("+")[0] in run("--version").stdout
    for command in ("inspect", "finetune", "evaluate", "predict", "compare", "export", "complete"):
        assert "Example:" in run(command, "--help").stdout
