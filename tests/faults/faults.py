#!/usr/bin/env python3
"""Kills runs at random moments and takes their disk, files and clock away, and checks that nothing half-written is
taken for whole.

  faults.py                          every trial, 100 kills (some minutes)
  faults.py --kills 20 --only kill   one trial
  faults.py --program build/deeplora --folder /tmp/faults --seed 3

Trials: kill (finetune, compare, complete on a synthetic target and on ratings, kill -9, resumed until they end: the
results must have the bits of runs that were let alone), export (killed: no file or the whole file), disk (a small
tmpfs; needs root), readonly (needs root), replaced (data and model rewritten while they are read), two (two runs in one
folder), clock (the wall clock jumps). Prints a line per trial with its counts; exit code 1 at the first thing that is
wrong.
"""
from __future__ import annotations

import argparse
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from contextlib import contextmanager
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
WORDS = "good bad fine awful great poor nice sad happy broken works fails love hate blue red big small old new".split()


class Wrong(AssertionError):
    """Something that must not happen happened."""


def expect(condition, *message):
    if not condition:
        raise Wrong(" ".join(map(str, message)))


def write_rows(path: Path, count: int, seed: int) -> Path:
    rng = random.Random(seed)
    rows = []
    for _ in range(count):
        words = [rng.choice(WORDS) for _ in range(rng.randint(3, 9))]
        rows.append({"text": " ".join(words), "label": round(sum(len(w) for w in words) / 10, 2)})
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def write_ratings(path: Path, seed: int) -> Path:
    rng = random.Random(seed)
    side = [rng.gauss(0, 1) for _ in range(140)]
    lines = [f"u{i},m{j},{3 + side[i] * side[80 + j] + 0.3 * rng.gauss(0, 1):.3f}" for i in range(80) for j in range(60)
             if rng.random() < 0.4]
    path.write_text("\n".join(lines) + "\n")
    return path


class Bench:
    """The program, a folder to work in, and small inputs made from one archive."""

    def __init__(self, program: Path, archive: Path, folder: Path, seed: int = 1, steps: int = 40):
        self.program, self.folder, self.random = Path(program).resolve(), Path(folder), random.Random(seed)
        self.folder.mkdir(parents=True, exist_ok=True)
        shutil.copy(archive, self.folder / "model.pt")
        self.archive = self.folder / "model.pt"
        for split, count in (("train", 64), ("dev", 24), ("test", 24)):
            write_rows(self.folder / f"{split}.jsonl", count, count)
        data = ((f"task: regression, train: {folder}/train.jsonl, dev: {folder}/dev.jsonl, test: {folder}/test.jsonl, "
                 f"max_length: 24"))
        common = f"model: {{path: {self.archive}}}\ndata: {{{data}}}\n"
        self.write("finetune.yaml", common + "adapter: {method: rslora, rank: 4, targets: query-value, dropout: 0.1}\n"
                   f"train: {{steps: {steps}, batch_size: 8, eval_every: 5, log_every: 1, save_every: 3, seed: 5}}\n")
        self.write("compare.yaml", common + "adapter: {targets: query-value, rank: 2}\n"
                   "train: {steps: 8, batch_size: 8, eval_every: 4, log_every: 1, save_every: 2}\n"
                   "compare: {baseline: LoRA, seeds: [1, 2], workers: 2, methods: [{name: LoRA, adapter: {method: "
                   "lora}, lr: 1e-2}, "
                   "{name: Deep LoRA, adapter: {method: deep-lora}, lr: 1e-2}]}\n")
        self.write("synthetic.yaml",
                   "completion: {synthetic: {rows: 60, rank: 3, observed: 0.3}, rank: 6, depth: 3, optimizer: adam, "
                   "steps: 1500, "
                   "save_every: 50, log_every: 50, eval_every: 100}\n")
        write_ratings(self.folder / "ratings.csv", 4)
        self.write("ratings.yaml",
                   f"completion: {{train: {folder}/ratings.csv, grid: {{rank: [2, 4, 8]}}, test_share: 0.2}}\n")

    def write(self, name: str, text: str) -> Path:
        (self.folder / name).write_text(text)
        return self.folder / name

    def arguments(self, *arguments) -> list[str]:
        return [str(self.program), *map(str, arguments)]

    def environment(self, **more) -> dict:
        return {**os.environ, "OMP_NUM_THREADS": "1", **more}

    def run(self, *arguments, code: int | None = 0, **environment) -> subprocess.CompletedProcess:
        done = subprocess.run(self.arguments(*arguments), capture_output=True, text=True, timeout=300,
                              env=self.environment(**environment))
        expect(code is None or done.returncode == code, f"exit code {done.returncode}, expected {code}:", *arguments,
               done.stdout, done.stderr)
        return done

    def refused(self, *arguments, words=(), **environment) -> str:
        """The one line with which the program ends with exit code 1."""
        done = self.run(*arguments, code=1, **environment)
        lines = [line for line in done.stderr.splitlines() if line.startswith("error: ")]
        expect(len(lines) == 1, "expected one line 'error: ...', found", done.stderr)
        for word in words:
            expect(word in lines[0], f"expected '{word}' in: {lines[0]}")
        return lines[0]


# ---- what a run leaves ----

def tensors(file: Path) -> dict[str, bytes]:
    """Raw content of a safetensors file; Wrong when it is not whole."""
    data = file.read_bytes()
    expect(len(data) >= 8, file, "is cut")
    length = int.from_bytes(data[:8], "little")
    expect(len(data) >= 8 + length, file, "is cut")
    header = json.loads(data[8:8 + length])
    header.pop("__metadata__", None)
    out = {}
    for name, entry in header.items():
        begin, end = entry["data_offsets"]
        expect(8 + length + end <= len(data), file, "is cut")
        out[name] = data[8 + length + begin:8 + length + end]
    return out


CHANGING = ("seconds", "samples_per_second", "peak_rss_mb", "seconds_per_iteration", "seconds_to_first_step",
            "training_seconds", "start_seconds")


def without_times(value):
    if isinstance(value, dict):
        return {k: without_times(v) for k, v in value.items() if k not in CHANGING}
    return [without_times(v) for v in value] if isinstance(value, list) else value


def check_whole(folder: Path) -> None:
    """Every file under its own name is whole, whatever happened to the program."""
    for place, folders, names in os.walk(folder):
        folders[:] = [name for name in folders if ".tmp-" not in name]
        for file in (Path(place) / name for name in names if ".tmp-" not in name):
            try:
                check_file(file)
            except FileNotFoundError:
                # the cells of a killed comparison save and stop by themselves, and remove old checkpoints meanwhile
                pass


def check_file(file: Path) -> None:
    if file.suffix == ".json":
        json.loads(file.read_text())
    elif file.suffix == ".safetensors":
        tensors(file)
    elif file.suffix == ".html":
        expect(file.read_text().rstrip().endswith("</html>"), file, "is cut")


def outcome(folder: Path) -> dict:
    """Everything that must not depend on interruptions: tensors, scores, curves."""
    out = {}
    for file in sorted(folder.rglob("*")):
        name = str(file.relative_to(folder))
        if "checkpoints" in name or ".tmp-" in name:
            continue
        if file.suffix == ".safetensors":
            out[name] = tensors(file)
        elif file.name in ("result.json", "results.json"):
            out[name] = without_times(json.loads(file.read_text()))
        elif file.name == "metrics.jsonl":
            out[name] = [without_times(json.loads(line)) for line in file.read_text().splitlines()]
    return out


def expect_same(found: dict, expected: dict, what: str) -> None:
    expect(found.keys() == expected.keys(), what, "files differ:", sorted(found.keys() ^ expected.keys()))
    for name in expected:
        expect(found[name] == expected[name], what, name, "differs from that of a run that was let alone")


# ---- trials; each returns what it counted ----

JOBS = {  # name: (subcommand, configuration, does it take --resume)
    "finetune": ("finetune", "finetune.yaml", True),
    "compare": ("compare", "compare.yaml", False),
    "synthetic": ("complete", "synthetic.yaml", True),
    "ratings": ("complete", "ratings.yaml", True),
}


def start(bench: Bench, arguments, **environment) -> subprocess.Popen:
    return subprocess.Popen(bench.arguments(*arguments), stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True,
                            env=bench.environment(**environment))


def killed_after(process: subprocess.Popen, seconds: float) -> bool:
    """True when the kill came before the end. The run must not have failed by itself."""
    try:
        process.wait(seconds)
    except subprocess.TimeoutExpired:
        process.send_signal(signal.SIGKILL)
    errors = process.communicate(timeout=300)[1]
    expect(process.returncode in (0, -signal.SIGKILL), f"exit code {process.returncode} after kills:", errors)
    return process.returncode != 0


def kill_job(bench: Bench, name: str, kills: int) -> tuple[int, int]:
    """(kills that came before the end, runs that were killed, resumed to their end and compared)."""
    command, configuration, resumable = JOBS[name]
    config, whole = bench.folder / configuration, bench.folder / f"whole-{name}"
    began = time.monotonic()
    bench.run(command, config, "--run", whole)
    length, expected = time.monotonic() - began, outcome(whole)
    done = finished = 0
    while done < kills:
        folder = bench.folder / f"killed-{name}-{finished}"
        for attempt in range(10_000):
            going_on = ["--resume"] if resumable and (folder / "config.yaml").exists() else []
            process = start(bench, [command, config, "--run", folder, *going_on])
            # After a few kills a run is let end: what never gets beyond its start would prove little.
            landed = killed_after(process, bench.random.uniform(0, length) if attempt < 6 and done < kills else 300)
            done += landed
            check_whole(folder)
            if not landed:
                break
        expect_same(outcome(folder), expected, folder)
        expect(not list(folder.rglob(".*.tmp-*")), folder, "still holds temporary files after its end")
        shutil.rmtree(folder)
        finished += 1
    return done, finished


def kill(bench: Bench, kills: int) -> str:
    shares = {"finetune": 0.55, "compare": 0.15, "synthetic": 0.2, "ratings": 0.1}
    parts = []
    for name, share in shares.items():
        done, finished = kill_job(bench, name, max(1, round(kills * share)))
        parts.append(f"{name} {done} kills, {finished} runs ended with the same bits")
    return "; ".join(parts)


def trained(bench: Bench) -> Path:
    folder = bench.folder / "trained"
    if not folder.exists():
        bench.run("finetune", bench.folder / "finetune.yaml", "--set", "train.steps=6", "--run", folder)
    return folder


def export(bench: Bench, kills: int) -> str:
    run, counts = trained(bench), {"none": 0, "whole": 0}
    for target, suffix in (("torchscript", ".pt"), ("safetensors", ".safetensors"), ("peft", "")):
        began, whole = time.monotonic(), bench.folder / f"whole{suffix or '-peft'}"
        bench.run("export", run, "--to", target, "--output", whole)
        length = time.monotonic() - began
        content = lambda path: {p.name: p.read_bytes() for p in path.iterdir()} if path.is_dir() else path.read_bytes()
        for i in range(max(1, kills // 10)):
            output = bench.folder / f"killed-export{suffix or '-peft'}"
            killed_after(start(bench, ["export", run, "--to", target, "--output", output]), bench.random.uniform(0.3,
                1.1) * length)
            counts["whole" if output.exists() else "none"] += 1
            if output.exists():
                expect(content(output) == content(whole), output, "is not what an undisturbed export writes")
                shutil.rmtree(output) if output.is_dir() else output.unlink()
    return ((f"{sum(counts.values())} exports killed or let end: {counts['none']} left no file, {counts['whole']} the "
             f"whole one"))


@contextmanager
def mounted(folder: Path, size: str):
    folder.mkdir(exist_ok=True)
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", folder], check=True)
    try:
        yield folder
    finally:
        subprocess.run(["umount", folder], check=True)


def can_mount(bench: Bench) -> bool:
    try:
        with mounted(bench.folder / "probe", "64k"):
            return True
    except (subprocess.CalledProcessError, PermissionError, FileNotFoundError):
        return False


def disk(bench: Bench, kills: int) -> str:
    if not can_mount(bench):
        return "left out: mounting a file system needs root"
    whole, config = bench.folder / "whole-disk", bench.folder / "finetune.yaml"
    bench.run("finetune", config, "--run", whole)
    expected, full = outcome(whole), 0
    sizes = [32, 64, 96, 128, 192, 256, 384, 512][:max(2, kills // 10)]
    for size in sizes:
        with mounted(bench.folder / "small", f"{size}k") as small:
            done = bench.run("finetune", config, "--run", small / "run", code=None)
            expect(done.returncode in (0, 1), "exit code", done.returncode, done.stderr)
            if done.returncode == 1:
                full += 1
                expect("No space left" in done.stderr.splitlines()[-1], done.stderr)
                expect(not list(small.rglob("*.tmp-*")), "temporary files are left on a full disk")
                expect(not (small / "run" / "result.json").exists(), "a run on a full disk looks finished")
                check_whole(small)
                subprocess.run(["mount", "-o", "remount,size=64m", small], check=True)
                going_on = ["--resume"] if (small / "run" / "config.yaml").exists() else []
                bench.run("finetune", config, "--run", small / "run", *going_on)
            expect_same(outcome(small / "run"), expected, f"on a disk of {size} kB")
    with mounted(bench.folder / "small", "64k") as small:
        for target, name in (("torchscript", "m.pt"), ("safetensors", "m.safetensors"), ("peft", "p")):
            if target != "peft":  # a small adapter fits
                bench.refused("export", trained(bench), "--to", target, "--output", small / name,
                              words=["No space left"])
                expect(not list(small.iterdir()), "a full disk keeps", list(small.iterdir()))
    return ((f"{full} of {len(sizes)} runs met a full disk, ended with one line, and with more space ended with the "
             f"same bits; 2 exports refused"))


def readonly(bench: Bench, kills: int) -> str:
    if not can_mount(bench):
        return "left out: mounting a file system needs root"
    run = trained(bench)
    with mounted(bench.folder / "closed", "16m") as closed:
        shutil.copytree(run, closed / "run")
        (closed / "run" / "result.json").unlink()
        subprocess.run(["mount", "-o", "remount,ro", closed], check=True)
        words = ["Read-only file system"]
        bench.refused("finetune", bench.folder / "finetune.yaml", "--run", closed / "new", words=words)
        bench.refused("finetune", "--run", closed / "run", "--resume", words=words)
        bench.refused("complete", bench.folder / "ratings.yaml", "--run", closed / "new", words=words)
        bench.refused("compare", bench.folder / "compare.yaml", "--run", closed / "new", words=words)
        bench.refused("export", run, "--to", "torchscript", "--output", closed / "m.pt", words=words)
        bench.run("evaluate", closed / "run")  # reading needs no writing
    return "5 commands refused with one line, evaluate reads"


def replaced(bench: Bench, kills: int) -> str:
    """A file that is renamed over, or rewritten in place, while the program reads it: the old content, the new, or one
    line."""
    run, counts = trained(bench), {"old or new": 0, "refused": 0}
    a, b = bench.folder / "rows-a.jsonl", bench.folder / "rows-b.jsonl"
    write_rows(a, 3000, 11), write_rows(b, 2500, 12)
    target = bench.folder / "rows-now.jsonl"
    for way in ("renamed", "in place"):
        valid, contents = [], [a.read_bytes(), b.read_bytes()]
        for content in contents:
            target.write_bytes(content)
            valid.append(bench.run("evaluate", run, "--data", target, "--json").stdout)
        stop = threading.Event()

        def change():
            rng, i = random.Random(5), 0
            while not stop.is_set():
                i += 1
                if way == "renamed":
                    fresh = bench.folder / "rows-fresh.jsonl"
                    fresh.write_bytes(contents[i % 2])
                    os.replace(fresh, target)
                else:
                    with open(target, "r+b") as file:
                        file.truncate(0)
                        content = contents[i % 2]
                        for at in range(0, len(content), 1 << 14):
                            file.write(content[at:at + (1 << 14)])
                            file.flush()
                            time.sleep(0.002)
                time.sleep(rng.uniform(0, 0.05))

        writer = threading.Thread(target=change)
        writer.start()
        try:
            for _ in range(max(2, kills // 10)):
                done = bench.run("evaluate", run, "--data", target, "--json", code=None)
                if done.returncode == 0:
                    expect(done.stdout in valid, "scores of rows that were in no file:", done.stdout)
                    counts["old or new"] += 1
                else:
                    expect(done.returncode == 1 and done.stderr.splitlines()[-1].startswith("error: "), done.stderr)
                    counts["refused"] += 1
        finally:
            stop.set()
            writer.join()
    keep = bench.archive.read_bytes()
    for cut in (len(keep) // 3, len(keep) - 100):
        bench.archive.write_bytes(keep[:cut])
        bench.refused("evaluate", run, words=["model.pt"])
    bench.archive.write_bytes(keep)
    return ((f"{counts['old or new']} reads gave the old or the new rows, {counts['refused']} were refused; 2 cut "
             f"models refused"))


def two(bench: Bench, kills: int) -> str:
    count = 0
    pairs = [("finetune", "finetune.yaml"), ("compare", "compare.yaml"), ("complete", "synthetic.yaml")]
    for command, configuration in pairs[:max(1, kills // 10)]:
        folder, config = bench.folder / f"two-{command}", bench.folder / configuration
        more = ["--set", "train.steps=100000"] if command != "complete" else ["--set", "completion.steps=100000000"]
        first = start(bench, [command, config, "--run", folder, *more])
        try:
            limit = time.monotonic() + 120
            while (not any((folder / name).exists() for name in ("config.yaml",
                                                                "inputs.json")) and time.monotonic() < limit
                   and first.poll() is None):
                time.sleep(0.01)
            second = ["--resume"] if command != "compare" else []
            words = ["in use by another deeplora process", f"(pid {first.pid})"]
            for arguments in ([], second):
                bench.refused(command, config, "--run", folder, *more, *arguments, words=words)
                count += 1
            expect(first.poll() is None, "the first run ended:", first.returncode)
        finally:
            first.send_signal(signal.SIGINT)
            first.communicate(timeout=120)
        expect(first.returncode == 130, "exit code", first.returncode, "after SIGINT")
    return f"{count} second runs refused, naming the first one's process; the first went on"


def clock(bench: Bench, kills: int) -> str:
    compiler = shutil.which("cc") or shutil.which("gcc")
    if not compiler:
        return "left out: no C compiler"
    library = bench.folder / "clock_jumps.so"
    subprocess.run([compiler, "-shared", "-fPIC", "-o", library, Path(__file__).parent / "clock_jumps.c", "-ldl"],
                   check=True)
    for name in ("finetune", "synthetic"):
        command, configuration, _ = JOBS[name]
        whole, jumped = bench.folder / f"steady-{name}", bench.folder / f"jumped-{name}"
        bench.run(command, bench.folder / configuration, "--run", whole)
        process = start(bench, [command, bench.folder / configuration, "--run", jumped], LD_PRELOAD=str(library))
        if killed_after(process, 0.7) and (jumped / "config.yaml").exists():
            bench.run(command, bench.folder / configuration, "--run", jumped, "--resume", LD_PRELOAD=str(library))
        elif not (jumped / "result.json").exists():
            bench.run(command, bench.folder / configuration, "--run", jumped, LD_PRELOAD=str(library))
        expect_same(outcome(jumped), outcome(whole), f"{name} under a jumping clock")
        seconds = json.loads((jumped / "result.json").read_text())["seconds"]
        expect(0 <= seconds < 300, "the run says that it took", seconds, "seconds")
    return "2 runs under a clock that jumps by up to a year ended with the same bits and true durations"


TRIALS = {"kill": kill, "export": export, "disk": disk, "readonly": readonly, "replaced": replaced, "two": two,
          "clock": clock}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--program", type=Path, default=ROOT / "build" / "deeplora")
    parser.add_argument("--archive", type=Path,
                        help="an encoder with its tokenizer (default: a tiny random BERT made here)")
    parser.add_argument("--folder", type=Path, help="where to work (default: a temporary folder)")
    parser.add_argument("--kills", type=int, default=100)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--only", choices=TRIALS, action="append", help="this trial (may be repeated)")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="deeplora-faults-") as temporary:
        folder = (options.folder or Path(temporary)).resolve()
        archive = options.archive
        if archive is None:
            sys.path.insert(0, str(ROOT / "tools"))
            import export_torchscript
            import make_tiny_models

            make_tiny_models.make("bert", str(Path(temporary) / "bert"))
            archive = Path(temporary) / "bert.pt"
            export_torchscript.export(str(Path(temporary) / "bert"), str(archive), "encoder", None)
        bench = Bench(options.program, archive, folder, options.seed)
        for name in options.only or TRIALS:
            began = time.monotonic()
            try:
                print(f"{name}: {TRIALS[name](bench, options.kills)} ({time.monotonic() - began:.0f} s)", flush=True)
            except Wrong as wrong:
                print(f"{name}: WRONG: {wrong}", flush=True)
                return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
