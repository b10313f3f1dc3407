"""deeplora compare through the program: cells are plain fine-tuning runs, none is repeated, none is silently
missing."""
from __future__ import annotations

import csv
import json
import os
import random
import signal
import subprocess
import time

import pytest

from fork_server import started

WORDS = "good bad fine awful great poor nice sad happy broken works fails love hate blue red big small old new".split()


@pytest.fixture(scope="module")
def rows(tmp_path_factory):
    folder = tmp_path_factory.mktemp("compare-rows")
    for split, count, seed in (("train", 48, 1), ("dev", 24, 2), ("test", 24, 3)):
        rng = random.Random(seed)
        with open(folder / f"{split}.jsonl", "w", encoding="utf-8") as out:
            for _ in range(count):
                words = [rng.choice(WORDS) for _ in range(rng.randint(3, 9))]
                label = sum(w in ("good", "fine", "great", "nice", "happy", "works", "love") for w
                            in words) - 0.4 * len(words)
                out.write(json.dumps({"text": " ".join(words), "label": round(label, 2)}) + "\n")
    return folder


BASE = """model: {{path: {archive}}}
data: {{task: regression, train: {rows}/train.jsonl, dev: {rows}/dev.jsonl, test: {rows}/test.jsonl, max_length: 24}}
adapter: {{targets: query-value}}
train: {{steps: 6, batch_size: 8, log_every: 1}}
compare:
  baseline: LoRA
  evaluations: 2
  samples: [16]
  seeds: [1, 2]
  methods:
    - {{name: LoRA, adapter: {{method: lora, rank: 2}}, lr: [1e-3, 1e-2]}}
    - {{name: Deep LoRA, adapter: {{method: deep-lora, rank: 2}}, lr: [1e-2]}}
    - {{name: head only, adapter: {{method: none}}}}
"""


@pytest.fixture()
def config(tmp_path, tiny_archive, rows):
    path = tmp_path / "compare.yaml"
    path.write_text(BASE.format(archive=tiny_archive("bert", "encoder"), rows=rows))
    return path


def table(folder):
    """What must not depend on how the cells were run: everything but times and memory."""
    out = []
    for row in json.loads((folder / "results.json").read_text())["rows"]:
        for key in ("seconds", "peak_rss_mb", "samples_per_second"):
            row.pop(key)
        out.append(row)
    return out


def finished(folder):
    return {p.parent.name: p.stat().st_mtime_ns for p in (folder / "cells").glob("*/result.json")}


@pytest.fixture(scope="module")
def whole(run, tmp_path_factory, tiny_archive, rows):
    """A comparison that ran through, two cells at once."""
    folder = tmp_path_factory.mktemp("whole")
    path = folder / "compare.yaml"
    path.write_text(BASE.format(archive=tiny_archive("bert", "encoder"), rows=rows))
    done = run("compare", path, "--run", folder / "run", "--set", "compare.workers=2")
    return folder / "run", done


def test_report_has_every_part_and_needs_no_network(whole):
    folder, done = whole
    assert len(finished(folder)) == 8
    assert "Deep LoRA" in done.stdout and "difference" in done.stdout
    html = (folder / "report.html").read_text()
    for part in ("Verdict", "Learning rates", "Learning curves", "Cost", "Learned updates", "How this was made",
                 "compare:"):
        assert part in html, part
    assert "http://" not in html and "https://" not in html and "<script" not in html
    markdown = (folder / "report.md").read_text()
    assert "| Deep LoRA |" in markdown and "```yaml" in markdown
    assert len(list(csv.DictReader(open(folder / "cells.csv")))) == 8
    assert {r["method"] for r in csv.DictReader(open(folder / "table.csv"))} == {"LoRA", "Deep LoRA", "head only"}
    updates = list(csv.DictReader(open(folder / "updates.csv")))
    assert updates and all(len(r["singular_values"].split()) == 2 for r in updates)


def test_numbers_are_those_of_the_cells_by_scipy(whole):
    scipy_stats = pytest.importorskip("scipy.stats")
    folder, _ = whole
    by_name = {r["method"]: r for r in json.loads((folder / "results.json").read_text())["rows"]}
    cells = {p.parent.name: json.loads(p.read_text()) for p in (folder / "cells").glob("*/result.json")}
    dev = {lr: sum(cells[f"lora-n16-lr{lr}-s{s}"]["best"]["pearson"] for s in (1, 2)) for lr in ("0.001", "0.01")}
    best = max(dev, key=dev.get)
    assert by_name["LoRA"]["lr"] == float(best)
    lora = [cells[f"lora-n16-lr{best}-s{s}"]["test"]["pearson"] for s in (1, 2)]
    deep = [cells[f"deep-lora-n16-lr0.01-s{s}"]["test"]["pearson"] for s in (1, 2)]
    assert by_name["LoRA"]["test_scores"] == pytest.approx(lora, abs=1e-12)
    test = scipy_stats.ttest_rel(deep, lora)
    found = by_name["Deep LoRA"]["difference"]
    assert found["p"] == pytest.approx(test.pvalue, rel=1e-9)
    interval = test.confidence_interval(0.95)
    assert (found["low"], found["high"]) == pytest.approx((interval.low, interval.high), rel=1e-9)


def test_a_cell_is_bit_for_bit_the_plain_fine_tuning_run(whole, run, tmp_path):
    from safetensors.torch import load_file
    import torch

    folder, _ = whole
    name = "deep-lora-n16-lr0.01-s2"
    run("finetune", folder / "cells" / f"{name}.yaml", "--set", "train.threads=1", "--run", tmp_path / "plain")
    ours, theirs = (load_file(place / "adapter.safetensors") for place in (tmp_path / "plain", folder / "cells" / name))
    assert ours.keys() == theirs.keys() and all(torch.equal(ours[k], theirs[k]) for k in ours)


def test_one_worker_gives_the_same_table_and_repeating_runs_nothing(whole, run, config, tmp_path):
    folder = tmp_path / "single"
    run("compare", config, "--run", folder, "--set", "compare.workers=1")
    assert table(folder) == table(whole[0])
    before = finished(folder)
    again = run("compare", config, "--run", folder)
    assert finished(folder) == before and "0 to run" in again.stderr
    # More seeds: only the new cells run.
    run("compare", config, "--run", folder, "--set", "compare.seeds=[1,2,3]")
    after = finished(folder)
    assert len(after) == 12 and all(after[name] == before[name] for name in before)


def test_a_cell_whose_checkpoint_cannot_go_on_starts_over(whole, run, config, tmp_path):
    import shutil

    folder = tmp_path / "run"
    shutil.copytree(whole[0], folder)
    cell = folder / "cells" / "deep-lora-n16-lr0.01-s1"
    (cell / "result.json").unlink()
    run("finetune", "--run", tmp_path / "other", folder / "cells" / "deep-lora-n16-lr0.01-s2.yaml")
    # of another seed: refused by a resumed run
    shutil.copytree(tmp_path / "other" / "checkpoints", cell / "checkpoints")
    done = run("compare", config, "--run", folder)
    assert "1 to run" in done.stderr and table(folder) == table(whole[0])


def wait_for(condition, process, seconds=60):
    limit = time.time() + seconds
    while time.time() < limit and process.poll() is None and not condition():
        time.sleep(0.01)


def test_killed_and_interrupted_it_goes_on_without_repeating_cells(whole, run, program, config, tmp_path):
    folder = tmp_path / "killed"
    arguments = [str(program), "compare", str(config), "--run", str(folder), "--set", "compare.workers=2"]
    seen: dict[str, int] = {}
    for signal_number, cells in ((signal.SIGKILL, 1), (signal.SIGINT, 3)):
        process = subprocess.Popen(arguments, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        wait_for(lambda: len(finished(folder)) >= cells, process)
        assert process.poll() is None, process.communicate()
        process.send_signal(signal_number)
        _, errors = process.communicate(timeout=60)
        if signal_number == signal.SIGINT:
            assert process.returncode == 130, errors
            assert "the same command goes on" in errors and (folder / "report.html").exists()
        now = finished(folder)
        assert all(now[name] == when for name, when in seen.items())
        seen = now
    assert len(seen) < 8
    run(*arguments[1:])
    now = finished(folder)
    assert len(now) == 8 and all(now[name] == when for name, when in seen.items())
    assert table(folder) == table(whole[0])


def test_two_comparisons_in_one_folder_are_kept_apart(run, program, config, tmp_path):
    folder = tmp_path / "shared"
    arguments = [*started(program), "compare", str(config), "--run", str(folder)]
    process = subprocess.Popen(arguments, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        wait_for(lambda: (folder / "inputs.json").exists(), process)
        assert process.poll() is None
        assert "in use by another deeplora process" in run(*arguments[-4:], code=1).stderr
    finally:
        process.send_signal(signal.SIGINT)
        assert process.wait(60) in (0, 130)


def test_a_diverging_learning_rate_is_given_up_and_named(run, config, tmp_path):
    folder = tmp_path / "run"
    # float32 overflows: the first cell ends with a loss that is not finite, the second seed is not tried.
    done = run("compare", config, "--run", folder, "--set", "compare.methods.0.lr=[1e-2, 1e30]", "--set",
               "train.clip=0", "--set", "compare.workers=1")
    assert "lr 1e30, seed 1: diverged" in done.stderr and "lr 1e30, seed 1 diverged: " in done.stdout
    states = {r["cell"]: r["state"] for r in csv.DictReader(open(folder / "cells.csv"))}
    assert states["lora-n16-lr1e30-s1"] == "diverged" and states["lora-n16-lr1e30-s2"] == "dropped"
    lora = next(r for r in json.loads((folder / "results.json").read_text())["rows"] if r["method"] == "LoRA")
    assert lora["lr"] == 0.01 and lora["lr_edge"] == "lowest"
    again = run("compare", config, "--run", folder, "--set", "compare.methods.0.lr=[1e-2, 1e30]", "--set",
                "train.clip=0")
    assert "0 to run" in again.stderr


def test_hopeless_learning_rates_are_given_up_after_the_early_seeds(run, config, tmp_path):
    folder = tmp_path / "run"
    done = run("compare", config, "--run", folder, "--set", "compare.early_stop={seeds: 1, margin: 0}")
    states = [r["state"] for r in csv.DictReader(open(folder / "cells.csv"))]
    assert states.count("dropped") == 1 and states.count("done") == 7
    assert "given up: LoRA, 16 rows, lr" in done.stderr


def test_a_failing_cell_is_reported_and_tried_again(run, program, config, tmp_path):
    folder = tmp_path / "run"
    arguments = ["compare", str(config), "--run", str(folder), "--set", "compare.workers=1"]
    process = subprocess.Popen([*started(program), *arguments], stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                               text=True)
    wait_for(lambda: (folder / "cells").exists(), process)
    # A file where the run folder of a later cell belongs.
    (folder / "cells" / "deep-lora-n16-lr0.01-s2").write_text("in the way")
    out, errors = process.communicate(timeout=120)
    assert process.returncode == 1 and "1 of 8 cells failed" in errors
    assert "Deep LoRA, 16 rows, lr 0.01, seed 2 failed: " in out and "is a file" in out
    assert "Only 1 of 2 seeds" in (folder / "report.md").read_text() or "one seed says nothing" in (
        folder / "report.md").read_text()
    os.remove(folder / "cells" / "deep-lora-n16-lr0.01-s2")
    before = finished(folder)
    run(*arguments)
    assert len(finished(folder)) == 8 and all(finished(folder)[name] == when for name, when in before.items())


def test_another_configuration_or_other_data_is_refused(whole, run, tmp_path, tiny_archive, rows, config):
    folder = whole[0]
    done = run("compare", config, "--run", folder, "--set", "train.batch_size=4", code=1)
    assert ("holds cells of another configuration" in done.stderr and "train.batch_size was 8, now 4 (8 cells)"
            in done.stderr)
    # What follows from the change is not named beside it.
    done = run("compare", config, "--run", folder, "--set", "train.steps=30", code=1)
    assert done.stderr.count(" was ") == 1 and "train.steps was 6, now 30 (8 cells)" in done.stderr
    # A cell of an earlier version, without a key that came later and in another order, is the same cell.
    cell = folder / "cells" / "lora-n16-lr0.01-s1.yaml"
    written = cell.read_text()
    sections = [part for part in written.replace("  keep: best\n", "").split("\n") if part]
    starts = [i for i, line in enumerate(sections) if not line.startswith(" ")] + [len(sections)]
    cell.write_text("\n".join("\n".join(sections[a:b]) for a, b in reversed(list(zip(starts, starts[1:])))) + "\n")
    assert "0 to run" in run("compare", config, "--run", folder).stderr
    cell.write_text(written)
    strange = tmp_path / "strange"
    strange.mkdir()
    (strange / "notes.txt").write_text("mine")
    assert "not a comparison's" in run("compare", config, "--run", strange, code=1).stderr


def test_a_run_that_two_methods_share_runs_once(run, config, tmp_path):
    folder = tmp_path / "run"
    run("compare", config, "--run", folder, "--set",
        "compare.methods.1={name: LoRA fixed, adapter: {method: lora, rank: 2}, lr: 1e-2}")
    assert len(finished(folder)) == 6
    cells = {r["cell"]: r for r in csv.DictReader(open(folder / "cells.csv"))}
    assert len(cells) == 8 and all(r["state"] == "done" for r in cells.values())
    for seed in (1, 2):
        assert cells[f"lora-n16-lr0.01-s{seed}"]["test"] == cells[f"lora-fixed-n16-lr0.01-s{seed}"]["test"]


def test_the_last_state_can_be_kept_instead_of_the_best(run, config, whole, tmp_path):
    cell = whole[0] / "cells" / "head-only-n16-lr0.005-s1.yaml"
    run("finetune", cell, "--set", "train.keep=last", "--run", tmp_path / "run")
    result = json.loads((tmp_path / "run" / "result.json").read_text())
    assert result["best"] == result["last"] and result["best"]["step"] == 6
    for name in ("adapter", "last"):
        assert (tmp_path / "run" / f"{name}.safetensors").read_bytes() == (
            tmp_path / "run" / "last.safetensors").read_bytes()


def test_a_dry_run_checks_and_writes_nothing(run, whole, tmp_path):
    cell = whole[0] / "cells" / "lora-n16-lr0.01-s1.yaml"
    assert "adapter: lora at" in run("finetune", cell, "--dry-run", "--run", tmp_path / "run").stderr
    assert "4000" in run("finetune", cell, "--dry-run", "--set", "adapter.rank=4000", code=1).stderr
    assert not (tmp_path / "run").exists()


def test_shipped_comparisons_are_read_without_mistakes(run, tmp_path):
    from conftest import ROOT

    found = sorted((ROOT / "configs" / "compare").glob("*.yaml"))
    assert len(found) >= 6
    for path in found:
        assert "baseline:" in run("compare", path, "--print-config").stdout


def test_print_config_names_every_default_and_reruns(run, config, tmp_path):
    printed = run("compare", config, "--print-config").stdout
    for key in ("early_stop:", "workers: 0", "threads: 0", "baseline: LoRA", "methods:", "targets: query-value"):
        assert key in printed, key
    again = tmp_path / "again.yaml"
    again.write_text(printed)
    assert run("compare", again, "--print-config").stdout == printed


def test_processes_share_the_cells_and_write_the_same_report(program, config, whole, tmp_path):
    import socket

    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        port = s.getsockname()[1]
    folder = tmp_path / "shared"
    running = [subprocess.Popen([str(program), "compare", str(config), "--set", "compare.workers=1", "--run",
                                 str(folder)], stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                                text=True, env={**os.environ, "RANK": str(rank), "WORLD_SIZE": "2",
                                                "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)})
               for rank in range(2)]
    ran = [set(), set()]  # cells that were seen as a child of each process
    while any(process.poll() is None for process in running):
        for process, cells in zip(running, ran):
            try:
                for child in open(f"/proc/{process.pid}/task/{process.pid}/children").read().split():
                    words = open(f"/proc/{child}/cmdline").read().split("\0")
                    if "finetune" in words and "--dry-run" not in words:
                        cells.add(words[2])
            except OSError:
                pass  # it ended just now
        time.sleep(0.01)
    said = [process.communicate(timeout=240) for process in running]
    assert [process.returncode for process in running] == [0, 0], said
    assert ran[0] and ran[1] and not ran[0] & ran[1], ran
    assert table(folder) == table(whole[0])
    assert "report " in said[0][0] and said[1] == ("", "")
    assert json.loads((folder / "results.json").read_text())["processes"] == 2
    assert len(finished(folder)) == 8


def copy_of(whole, tmp_path):
    import shutil

    return shutil.copytree(whole[0], tmp_path / "copy")


def test_a_report_needs_nothing_but_the_folder(whole, run, tmp_path):
    folder = copy_of(whole, tmp_path)
    yaml = folder / "compare.yaml"
    yaml.write_text(yaml.read_text().replace("path: /", "path: /gone/").replace("train: /",
        "train: /gone/").replace("dev: /", "dev: /gone/")
                    .replace("test: /", "test: /gone/"))
    for cell in (folder / "cells").glob("*.yaml"):
        cell.write_text(cell.read_text().replace("path: /", "path: /gone/").replace("train: /",
            "train: /gone/").replace("dev: /", "dev: /gone/")
                        .replace("test: /", "test: /gone/"))
    assert "/gone/" in yaml.read_text()
    before = table(folder)
    (folder / "results.json").unlink()
    done = run("compare", "--report-only", "--run", folder)
    assert table(folder) == before and "Deep LoRA" in done.stdout
    run("compare", "--report-only", "--run", folder, "--set", "compare.baseline=head only")
    assert json.loads((folder / "results.json").read_text())["baseline"] == "head only"
    assert "does not exist" in run("compare", yaml, "--run", folder, code=1).stderr  # to go on it needs them
    assert "no compare.yaml" in run("compare", "--report-only", "--run", tmp_path / "nowhere", code=1).stderr
    assert run("compare", "--report-only", code=2).returncode == 2


@pytest.fixture()
def stopped(run, program, tmp_path, config):
    """A comparison of one long cell, stopped after its first checkpoint: its folder, its command, the cell's folder."""
    text = config.read_text().replace("steps: 6,", "steps: 4000, save_every: 40,").replace("evaluations: 2",
        "evaluations: 100").replace("seeds: [1, 2]", "seeds: [1]")
    config.write_text(text[:text.index("    - {name: Deep")].replace("[1e-3, 1e-2]", "1e-3"))
    folder = tmp_path / "stopped"
    command = ["compare", str(config), "--run", str(folder), "--set", "compare.workers=1"]
    process = subprocess.Popen([*started(program), *command], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    cell = folder / "cells" / "lora-n16-lr0.001-s1"
    wait_for(lambda: list(cell.glob("checkpoints/step-*/state.json")), process)
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=120)
    assert process.returncode == 130, errors
    return folder, command, cell


def test_a_disk_that_fills_up_costs_no_checkpoint(stopped, program):
    import resource

    _, command, cell = stopped
    checkpoints = sorted(cell.glob("checkpoints/step-*"))
    assert checkpoints
    most = (checkpoints[-1] / "state.pt").stat().st_size - 1000  # no checkpoint fits, and writing one says so

    def limit():
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (most, most))

    done = subprocess.run([str(program), *command], capture_output=True, text=True, preexec_fn=limit, timeout=300)
    assert done.returncode == 1, done.stderr
    assert sorted(cell.glob("checkpoints/step-*")) == checkpoints
    log = (cell.parent / (cell.name + ".log")).read_text()
    assert "resumed after step" in log and "state.pt" in log, log
    assert "failed" in (done.stdout + done.stderr)


def test_a_refused_checkpoint_begins_again(stopped, run, program):
    folder, command, cell = stopped
    state = next(iter(sorted(cell.glob("checkpoints/step-*"))))
    yaml = cell.parent / (cell.name + ".yaml")
    # The same command alone refuses; with --restart-refused it begins again.
    done = run("finetune", yaml, "--run", cell, "--resume", "--set", "train.lr=0.002", "--set", "train.threads=1",
               code=1)
    assert "train.lr was" in done.stderr and state.exists()
    process = subprocess.Popen([*started(program), "finetune", str(yaml), "--run", str(cell), "--resume",
                                "--restart-refused", "--set", "train.lr=0.002"],
                               stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    metrics = cell / "metrics.jsonl"
    wait_for(lambda: not state.exists() and metrics.exists() and metrics.read_text().startswith('{"step":1,'), process)
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=120)
    assert process.returncode == 130 and "begins again" in errors, errors


def test_the_head_alone_learns_at_its_own_rate(run, config, tmp_path):
    folder = tmp_path / "run"
    run("compare", config, "--run", folder, "--set",
        "compare.methods=[{name: head only, adapter: {method: none}, lr: [1e-4, 1e-2]}, {name: LoRA, adapter: {method: "
        "lora}}]",
        "--set", "compare.baseline=head only", "--set", "compare.seeds=[1]")
    low, high = ((folder / "cells" / f"head-only-n16-lr{lr}-s1" / "adapter.safetensors").read_bytes() for lr
                 in ("0.0001", "0.01"))
    assert low != high


@pytest.mark.parametrize("sets, expected", [
    (["train.lr=0.5", "train.seed=77", "compare.seeds=null"], {("lora", 0.5, 77), ("deep", 0.25, 77),
                                                               ("head", 0.5, 77)}),
    (["compare.lr=[0.1,0.2]"], {("lora", 0.1, 3), ("lora", 0.2, 3), ("deep", 0.25, 3), ("head", 0.1, 3),
                                ("head", 0.2, 3)}),
    (["train.head_lr=0.125"], {("lora", 2e-3, 3), ("deep", 0.25, 3), ("head", 0.125, 3)}),
    (["train.head_lr=0.125", "compare.methods.2.lr=0.75"], {("lora", 2e-3, 3), ("deep", 0.25, 3), ("head", 0.75, 3)}),
    ([], {("lora", 2e-3, 3), ("deep", 0.25, 3), ("head", 5e-3, 3)}),
])
def test_a_rate_and_a_seed_given_elsewhere_are_the_grid(run, config, tmp_path, sets, expected):
    import yaml

    text = config.read_text()
    config.write_text(text[:text.index("  methods:")].replace("seeds: [1, 2]",
                                                              "seeds: [3]").replace("  baseline: LoRA\n", "")
                      + """  methods:
    - {name: lora, adapter: {method: lora, rank: 2}}
    - {name: deep, adapter: {method: deep-lora, rank: 2}, train: {lr: 0.25}}
    - {name: head, adapter: {method: none}}
""")
    options = [part for s in sets for part in ("--set", s)]
    printed = run("compare", config, "--print-config", *options).stdout
    again = tmp_path / "again.yaml"
    again.write_text(printed)
    assert run("compare", again, "--print-config").stdout == printed
    folder = tmp_path / "run"
    run("compare", config, "--run", folder, *options, "--set", "train.steps=1", "--set", "compare.evaluations=1")
    found = set()
    for path in (folder / "cells").glob("*/config.yaml"):
        cell = yaml.safe_load(path.read_text())
        found.add((path.parent.name.split("-")[0], cell["train"]["lr"], cell["train"]["seed"]))
    assert found == expected


@pytest.mark.parametrize("sets, reason", [
    (["train.threads=2", "compare.threads=1"], "compare.threads: is given beside --set train.threads"),
    (["compare.methods.1.train.threads=2"],
     "are the same for every method; take --set compare.methods.1.train.threads out"),
    (["compare.devices=[cpu]", "model.device=cuda:1"], "compare.devices: is given beside --set model.device"),
    (["compare.devices=[cpu]", "compare.methods.1.model.device=cuda"],
     "is given beside --set compare.methods.1.model.device"),
])
def test_threads_and_devices_are_said_in_one_place(run, config, sets, reason):
    done = run("compare", config, "--print-config", *[part for s in sets for part in ("--set", s)], code=1)
    assert reason in done.stderr, done.stderr


def test_threads_of_the_training_section_are_those_of_the_cells(run, config, tmp_path):
    options = ["--set", "train.threads=2", "--set", "compare.devices=[cpu]", "--set", "model.device=cpu"]
    printed = run("compare", config, "--print-config", *options).stdout
    again = tmp_path / "again.yaml"
    again.write_text(printed)
    assert run("compare", again, "--print-config").stdout == printed
    run("compare", config, "--run", tmp_path / "run", *options, "--set", "compare.seeds=[1]", "--set", "train.steps=2")
    assert json.loads((tmp_path / "run" / "results.json").read_text())["threads"] == 2
    assert all("  threads: 2\n" in path.read_text() for path in (tmp_path / "run" / "cells").glob("*/config.yaml"))


def test_one_number_of_seeds_is_a_count(run, config, tmp_path):
    for given, wanted in (("3", "seeds: [1, 2, 3]"), ("[3]", "seeds: [3]"), ("1", "seeds: [1]")):
        assert wanted in run("compare", config, "--set", f"compare.seeds={given}", "--print-config").stdout
    done = run("compare", config, "--run", tmp_path / "run", "--set", "compare.seeds=2", "--set", "train.steps=2")
    assert "compare.seeds: 2 is a count: seeds 1 to 2 (a list names seeds: [2])" in done.stderr
    assert len(finished(tmp_path / "run")) == 8


def test_factors_to_start_from_and_tokenizers_must_stay_the_same(run, config, tiny_folder, tmp_path, whole):
    import shutil

    start = tmp_path / "start.safetensors"
    cell = whole[0] / "cells" / "lora-n16-lr0.01-s1"
    shutil.copy(cell / "adapter.safetensors", start)
    tokens = tmp_path / "tokens"
    shutil.copytree(tiny_folder("bert"), tokens, ignore=lambda folder,
                    names: [n for n in names if not any(w in n for w in ("token", "vocab", "special"))])
    folder = tmp_path / "run"
    common = ["--set", f"model.tokenizer={tokens}", "--set", "compare.seeds=[1]", "--set", "train.steps=2"]
    warm = f"{{name: warm, adapter: {{method: lora, rank: 2, path: {start}}}}}"
    both = ["--set", f"compare.methods=[{{name: LoRA, adapter: {{method: lora, rank: 2}}}}, {warm}]"]
    alone = ["--set", "compare.methods=[{name: LoRA, adapter: {method: lora, rank: 2}}]"]
    run("compare", config, "--run", folder, *common, *both)
    record = json.loads((folder / "inputs.json").read_text())
    assert {"adapter.path of warm", "model.tokenizer of warm", "model.tokenizer of LoRA", "data.train"} <= set(record)
    run("compare", config, "--run", folder, *common, *alone)  # a method taken out
    assert json.loads((folder / "inputs.json").read_text()) == record
    old = start.read_bytes()
    shutil.copy(whole[0] / "cells" / "lora-n16-lr0.01-s2" / "adapter.safetensors", start)
    run("compare", config, "--run", folder, *common, *alone)
    assert "start.safetensors is not what the finished cells" in run("compare", config, "--run", folder, *common, *both,
        code=1).stderr
    start.write_bytes(old)
    vocabulary = next(p for p in tokens.iterdir() if p.is_file())
    vocabulary.write_text(vocabulary.read_text() + "\n")
    assert "tokens is not what the finished cells" in run("compare", config, "--run", folder, *common, *both,
                                                          code=1).stderr


def test_equal_differences_are_no_finding(run, config, tmp_path, rows):
    """Accuracies of few rows: what every seed shows alike is said to be unjudged, and the step is in the results."""
    folder = tmp_path / "labels"
    folder.mkdir()
    for split in ("train", "dev", "test"):
        lines = [json.loads(line) for line in open(rows / f"{split}.jsonl")]
        with open(folder / f"{split}.jsonl", "w") as out:
            for row in lines:
                out.write(json.dumps({"text": row["text"], "label": "up" if row["label"] > -0.2 else "down"}) + "\n")
    text = config.read_text().replace("task: regression", "task: classification").replace(str(rows), str(folder))
    config.write_text(text)
    run("compare", config, "--run", tmp_path / "run")
    result = json.loads((tmp_path / "run" / "results.json").read_text())
    assert result["metric"] == "accuracy"
    for row in result["rows"]:
        if "difference" not in row:
            continue
        found = row["difference"]
        assert found["step"] == pytest.approx(1 / 24)
        scores = row["test_scores"]
        assert all(abs(s * 24 - round(s * 24)) < 1e-9 for s in scores)
        if found["no_spread"]:
            assert found["p"] is None and found["finding"].startswith("cannot be judged")
        elif found["equal"] < 2:
            assert found["finding"].startswith("no difference shown")  # two seeds of a few rows show nothing
    assert "moves in steps of 0.0417" in (tmp_path / "run" / "report.md").read_text()
