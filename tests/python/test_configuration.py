"""The program on configurations and on the files that users name: what --print-config prints is what PyYAML reads
(test_config.py draws thousands of cases on the same code), and --output writes through what is there."""
from __future__ import annotations

import json
import os
import random
import stat
import subprocess
import threading

import pytest
import yaml
import yaml_reader

KEYS = {"model.path": "path", "model.dropout": "number", "model.deterministic": "auto|yes|no", "data.task": "text",
        "data.train": "path", "data.header": "auto|yes|no",
        "data.samples": "maybe whole", "data.positive": "text", "adapter.method": "text", "adapter.rank": "whole",
        "adapter.alpha": "number", "adapter.targets": "texts",
        "train.lr": "number", "train.steps": "whole", "train.eps": "number", "train.clip": "number",
        "train.shuffle": "flag", "train.schedule": "text"}
VALUES = {"model.dropout": ["0.5", ".5", "5e-1", "00.5", "'0.25'"], "model.deterministic": ["yes", "true", "Off",
    "auto", "maybe"],
          "data.header": ["true", "no", "'yes'", "auto", "1"], "data.samples": ["16", "0x10", "1e1", "016", "1_6"],
          "data.positive": ["'null'", "żółć", "007", "'#1'", "'yes'", "null", "NULL", "'a: b'", "\"\\u00e9\\n\""],
          "adapter.rank": ["3", "4.0", "0x4", "04", "3.5"],
          "adapter.alpha": ["16", "1.6e1", "-.5", "1e400"], "adapter.targets": ["all-linear", "[query, 'value']",
              "['*.query']", "[[a]]"],
          "train.lr": ["1e-3", "0.001", "'1e-3'", "1e-320", "1e-400", "abc"], "train.steps": ["100", "1e2", "010", "0"],
          "train.eps": ["1e-310", "0", "5e-324"],
          "train.clip": ["0", "1.5", ".5"], "train.shuffle": ["no", "FALSE", "y", "0"], "train.schedule": ["cosine",
              "\"linear\""]}
BASE = {"model.path": "bert.pt", "data.task": "classification", "data.train": "rows.jsonl", "adapter.method": "lora"}


def drawn(seed):
    """A file in nested, dotted and flow style with anchors, and overrides."""
    draw = random.Random(seed)
    pick = lambda key: VALUES[key][0] if draw.random() < 0.6 else draw.choice(VALUES[key])
    chosen = {**BASE, **{key: pick(key) for key in draw.sample(sorted(VALUES), 6)}}
    lines = []
    for section in ("model", "data", "adapter", "train"):
        inside = {key.split(".")[1]: value for key, value in chosen.items() if key.startswith(section + ".")}
        style = draw.choice(["block", "flow", "dotted"])
        if style == "block":
            lines += [f"{section}:"] + [f"  {key}: &{section}-{key} {value}" for key, value in inside.items()]
        elif style == "flow":
            lines.append(f"{section}: {{" + ", ".join(f"{key}: {value}" for key, value in inside.items()) + "}")
        else:
            lines += [f"{section}.{key}: {value}" for key, value in inside.items()]
        if style == "block" and section == "adapter" and "rank" in inside:
            lines.append("train.eval_every: *adapter-rank")
    sets = [f"{key}={pick(key)}" for key in draw.sample(sorted(VALUES), draw.randrange(3))]
    return "\n".join(lines) + "\n", sets


@pytest.mark.parametrize("seed", range(24))
def test_the_printed_configuration_is_what_another_reader_reads(seed, run, tmp_path):
    text, sets = drawn(seed)
    (tmp_path / "case.yaml").write_text(text)
    keys = {**KEYS, "train.eval_every": "maybe whole"}
    done = run("finetune", "case.yaml", "--print-config", *[part for s in sets for part in ("--set", s)], cwd=tmp_path,
               code=None)
    try:
        expected = yaml_reader.read(text, sets, keys)
    except yaml_reader.Refused:
        assert done.returncode == 1, (text, sets, done.stdout)
        return
    assert done.returncode == 0, (text, sets, done.stderr)
    given = {key for key in keys if expected[key] not in (None, "", 0, [], False)}
    printed = yaml_reader.parse(done.stdout)
    for key in given:
        section, name = key.split(".")
        assert yaml_reader.typed(printed[section][name], keys[key]) == expected[key], (key, text, sets)
    # What was printed prints the same.
    (tmp_path / "printed.yaml").write_text(done.stdout)
    assert yaml.safe_load(run("finetune", "printed.yaml", "--print-config", cwd=tmp_path).stdout) == yaml.safe_load(
        done.stdout)


def test_aliases_in_a_comparison_and_a_sweep_are_copies(run, tmp_path):
    (tmp_path / "compare.yaml").write_text("""model: {path: bert.pt}
data: {task: classification, train: rows.jsonl, dev: &d rows.jsonl, test: *d}
train: {steps: &n 4, eval_every: *n}
compare:
  methods: [{name: one, adapter: &a {method: lora, rank: 8}}, {name: two, adapter: *a}]
""")
    printed = yaml.safe_load(run("compare", "compare.yaml", "--print-config", "--set",
                                 "compare.methods.0.adapter.rank=4", "--set", "train.steps=100",
                                 "--set", "data.test=other.jsonl", cwd=tmp_path).stdout)
    assert [method["adapter"]["rank"] for method in printed["compare"]["methods"]] == [4, 8]
    assert (printed["train"], printed["data"]["dev"]) == ({"steps": 100, "eval_every": 4}, "rows.jsonl")
    (tmp_path / "sweep.yaml").write_text(
        "completion: {synthetic: {rows: 20, rank: &r 5, observed: 0.5}, rank: *r, steps: 2, optimizer: gd, sweep: "
        "{rank: [2, 8]}}\n")
    run("complete", "sweep.yaml", "--run", "sweep", cwd=tmp_path)
    members = [yaml.safe_load(file.read_text())["completion"] for file
               in sorted(tmp_path.glob("sweep/runs/*/config.yaml"))]
    assert sorted((member["rank"], member["synthetic"]["rank"]) for member in members) == [(2, 5), (8, 5)]


@pytest.fixture(scope="module")
def rated(run, tmp_path_factory):
    """A run on ratings with a range that is open above."""
    folder = tmp_path_factory.mktemp("rated")
    draw = random.Random(3)
    (folder / "ratings.csv").write_text("user,item,rating\n" + "".join(f"u{u},i{i},{draw.randrange(1, 6)}\n" for u
        in range(12) for i in range(8) if (u + i) % 3))
    (folder / "rated.yaml").write_text(
        "completion: {train: ratings.csv, rank: 2, sweeps: 5, range: [0, .inf], threads: 1}\n")
    run("complete", "rated.yaml", "--run", "run", cwd=folder)
    return folder


def test_an_infinite_bound_reads_back_and_folded_in_ratings_are_checked_against_it(run, rated):
    assert yaml.safe_load((rated / "run/config.yaml").read_text())["completion"]["range"] == [0, float("inf")]
    run("complete", "--run", "run", "--resume", cwd=rated)
    (rated / "new.csv").write_text("user,item,rating\nnew,i1,4\nnew,i2,-3\n")
    assert "-3" in run("complete", "--run", "run", "--fold-in", "new.csv", cwd=rated, code=1).stderr
    (rated / "new.csv").write_text("user,item,rating\nnew,i1,4\nnew,i2,3000\n")
    run("complete", "--run", "run", "--fold-in", "new.csv", cwd=rated)
    config = (rated / "run/config.yaml").read_text()
    (rated / "run/config.yaml").write_text(config.replace("completion:", "completion:\n  unknown: 1", 1))
    assert "completion.unknown: unknown key" in run("complete", "--run", "run", "--top", "2", cwd=rated, code=1).stderr
    (rated / "run/config.yaml").write_text(config)


OUTPUT = ("complete", "--run", "run", "--top", "2", "--output")


def test_output_goes_through_a_pipe_a_link_and_a_device(run, program, rated, tmp_path):
    expected = run(*OUTPUT[:-1], cwd=rated).stdout
    assert expected.count("\n") > 10
    pipe, read = tmp_path / "pipe", []
    os.mkfifo(pipe)
    reader = threading.Thread(target=lambda: read.append(pipe.read_text()))
    reader.start()
    run(*OUTPUT, pipe, cwd=rated)
    reader.join(timeout=60)
    assert read == [expected] and stat.S_ISFIFO(pipe.lstat().st_mode)
    (tmp_path / "far").mkdir()
    (tmp_path / "far/private.csv").write_text("old")
    (tmp_path / "far/private.csv").chmod(0o600)
    (tmp_path / "link.csv").symlink_to("far/private.csv")
    run(*OUTPUT, tmp_path / "link.csv", cwd=rated)
    assert (tmp_path / "link.csv").is_symlink()
    assert (tmp_path / "far/private.csv").read_text() == expected
    assert stat.S_IMODE((tmp_path / "far/private.csv").stat().st_mode) == 0o600
    assert run(*OUTPUT, "/dev/stdout", cwd=rated).stdout == expected
    both = (subprocess.run(["bash", "-c",
                           f'cd "{rated}" && (echo before; "{program}" {" ".join(OUTPUT)} /dev/stdout) > '
                           f'"{tmp_path}/both"'], check=True))
    assert (tmp_path / "both").read_text() == "before\n" + expected, both
    assert sorted(p.name for p in tmp_path.iterdir()) == ["both", "far", "link.csv",
                                                          "pipe"] and len(list((tmp_path / "far").iterdir())) == 1


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may make devices")
def test_output_leaves_a_device_a_device(run, rated, tmp_path):
    device = tmp_path / "null"
    try:
        os.mknod(device, 0o600 | stat.S_IFCHR, os.makedev(1, 3))
        device.write_text("x")
    except OSError as no:
        pytest.skip(f"no devices here: {no}")
    run(*OUTPUT, device, cwd=rated)
    assert stat.S_ISCHR(device.lstat().st_mode)
    assert "cannot write" in run(*OUTPUT, "/dev/full", cwd=rated, code=1).stderr
    assert stat.S_ISCHR(os.lstat("/dev/full").st_mode) and stat.S_ISCHR(os.lstat("/dev/null").st_mode)
