"""Several processes of the program train one model together (comparisons dealt out: test_compare.py). The peer is the
same run in one process."""
from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest
from fork_server import started
from safetensors.torch import load_file
from test_finetune import rows  # noqa: F401 (fixture)

# No dropout: its masks depend on which rows a process has.
PLAIN = """model: {{path: {archive}, dropout: 0}}
head: {{dropout: 0}}
data: {{task: classification, train: {train}, dev: {dev}, test: {test}, max_length: 64}}
adapter: {{method: deep-lora, rank: 4, depth: 3, compress: true, targets: query-value}}
train: {{steps: 14, batch_size: 10, accumulate: 2, eval_every: 5, save_every: 1, log_every: 1, seed: 5, clip: 0.5, distributed_timeout: 60}}
"""  # noqa: E501


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


def environment(rank, size, port, **more):
    return {**os.environ, "RANK": str(rank), "WORLD_SIZE": str(size), "MASTER_ADDR": "127.0.0.1",
            "MASTER_PORT": str(port),
            "LOCAL_RANK": str(rank), "LOCAL_WORLD_SIZE": str(size), **more}


@contextlib.contextmanager
def processes(program, size, *arguments, prefix=lambda rank: [], **more):
    port = free_port()

    def start(rank):
        env = environment(rank, size, port, **more)
        first = [*prefix(rank), str(program)] if prefix(rank) else started(program, env)
        return subprocess.Popen([*first, *map(str, arguments)], env=env, stdout=subprocess.PIPE,
                                stderr=subprocess.PIPE, text=True)

    running = [start(rank) for rank in range(size)]
    try:
        yield running
    finally:
        for process in running:
            if process.poll() is None:
                process.kill()
            process.communicate()


def together(program, size, *arguments, code=0, **more):
    """Starts `size` processes with the same arguments; what each wrote on standard error."""
    with processes(program, size, *arguments, **more) as running:
        said = [process.communicate(timeout=120) for process in running]
        assert [process.returncode for process in running] == [code] * size, said
    return [err for _, err in said]


def difference(a, b):
    """Of the trained tensors of two runs, both the best and the last."""
    largest = 0.0
    for name in ("adapter.safetensors", "last.safetensors"):
        left, right = load_file(a / name), load_file(b / name)
        assert left.keys() == right.keys() and left
        largest = max(largest, max((left[k] - right[k]).abs().max().item() for k in left))
    return largest


def result(folder):
    return json.loads((folder / "result.json").read_text())


@pytest.fixture(scope="module")
def plain(tmp_path_factory, run, rows, tiny_archive):  # noqa: F811
    """The configuration and its run in one process."""
    folder = tmp_path_factory.mktemp("plain")
    config = folder / "config.yaml"
    config.write_text(PLAIN.format(archive=tiny_archive("bert", "encoder"), **{s: rows["classification", s] for s
        in ("train", "dev", "test")}))
    run("finetune", config, "--run", folder / "run")
    return config, folder / "run"


def test_two_and_three_processes_train_what_one_trains(program, run, plain, tmp_path):
    config, alone = plain
    for size in (2, 3):
        folder = tmp_path / str(size)
        said = together(program, size, "finetune", config, "--run", folder)
        assert said[1:] == [""] * (size - 1), "only rank 0 speaks, warnings apart"
        assert difference(alone, folder) < 1e-6
        one, several = result(alone), result(folder)
        for part in ("best", "last", "test"):
            assert several[part] == pytest.approx(one[part], abs=1e-6)
        assert "processes" not in one and several["processes"] == size and several["backend"] == "gloo"
        tensors = sum(1 for _ in load_file(alone / "last.safetensors"))
        # Factors and head, a flag for each of their tensors, and three numbers of the step.
        assert several["bytes_per_step"] <= 4 * (one["trainable_parameters"] + tensors + 3)
        assert several["bytes_per_step"] >= 4 * one["trainable_parameters"]
        scored = json.loads(run("evaluate", folder, "--json").stdout)
        assert {key: scored[key] for key in several["test"]} == pytest.approx(several["test"], abs=1e-6)


def test_torchrun_starts_it(plain, program, tmp_path):
    torchrun = Path(sys.executable).with_name("torchrun")
    if not torchrun.exists():
        pytest.skip(f"no torchrun beside {sys.executable}")
    config, alone = plain
    done = subprocess.run([torchrun, "--standalone", "--nproc-per-node", "2", "--no-python", "--", program, "finetune",
                           config, "--run", tmp_path / "run"],
                          capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    assert difference(alone, tmp_path / "run") < 1e-6


def test_language_models_are_weighted_by_tokens_and_generated_texts_are_gathered(program, run, tiny_archive, tmp_path):
    import random

    rng, words = random.Random(1), "red blue green small large old new fast slow".split()
    for split, count in (("train", 23), ("dev", 7)):
        with open(tmp_path / f"{split}.jsonl", "w", encoding="utf-8") as out:
            for _ in range(count):
                text = [rng.choice(words) for _ in range(rng.randint(1, 9))]
                out.write(json.dumps({"prompt": "say " + text[0], "completion": " " + " ".join(text)}) + "\n")
    config = tmp_path / "config.yaml"
    config.write_text(f"""model: {{path: {tiny_archive("gpt2", "causal-lm")}, dropout: 0}}
data: {{task: causal-lm, train: {tmp_path}/train.jsonl, dev: {tmp_path}/dev.jsonl, max_length: 40, generate: true, metric: chrf, generation: {{max_new_tokens: 6}}}}
adapter: {{method: lora, rank: 2}}
train: {{steps: 6, batch_size: 5, eval_every: 3, log_every: 1}}
""")  # noqa: E501
    run("finetune", config, "--run", tmp_path / "one")
    together(program, 2, "finetune", config, "--run", tmp_path / "two")
    assert difference(tmp_path / "one", tmp_path / "two") < 1e-6
    assert result(tmp_path / "two")["best"] == pytest.approx(result(tmp_path / "one")["best"], rel=1e-5)


def test_a_search_for_the_rate_is_refused_where_several_train(program, plain, tmp_path):
    config, _ = plain
    said = together(program, 2, "finetune", config, "--run", tmp_path / "run", "--set", "train.lr=auto", code=1)
    assert any("train.lr: auto is for a process alone" in one for one in said) and not (tmp_path / "run").exists()


def wait_for_checkpoint(folder, processes_):
    end = time.monotonic() + 60
    while not list((folder / "checkpoints").glob("step-*")):
        assert time.monotonic() < end and all(p.poll() is None for p in processes_)
        time.sleep(0.01)


@pytest.mark.parametrize("killed", [0, 1])
def test_a_killed_process_ends_the_others_and_fewer_go_on(killed, program, plain, tmp_path):
    config, alone = plain
    folder = tmp_path / "run"
    with processes(program, 3, "finetune", config, "--run", folder) as running:
        wait_for_checkpoint(folder, running)
        running[killed].kill()
        for rank in {0, 1, 2} - {killed}:
            _, err = running[rank].communicate(timeout=60)
            assert running[rank].returncode == 1, err
            assert f"error: process {rank} of 3 lost another one: " in err and "--resume" in err, err
            if rank == 0:
                assert "saved after step" in err, err
    assert not (folder / "result.json").exists()
    together(program, 2, "finetune", config, "--run", folder, "--resume")
    assert difference(alone, folder) < 1e-6
    assert result(folder)["steps"] == 14


def test_a_signal_to_one_process_stops_all_after_saving(program, run, plain, tmp_path):
    config, alone = plain
    folder = tmp_path / "run"
    with processes(program, 2, "finetune", config, "--run", folder) as running:
        wait_for_checkpoint(folder, running)
        running[1].send_signal(signal.SIGTERM)
        said = [process.communicate(timeout=60)[1] for process in running]
        assert [process.returncode for process in running] == [130, 130], said
        assert "a signal to another process" in said[0] and "signal 15" in said[1]
    run("finetune", "--run", folder, "--resume")
    assert difference(alone, folder) < 1e-6


def test_mistakes_are_said(program, run, plain, tmp_path):
    config, _ = plain
    alone = {key: value for key, value in os.environ.items() if key != "WORLD_SIZE"}
    said = run("finetune", config, "--run", tmp_path / "a", code=1, env={**alone, "RANK": "0"})
    assert said.stderr.startswith("error: environment variable RANK is set but WORLD_SIZE is not")
    assert not (tmp_path / "a").exists()
    # Only rank 0 finds that the folder is taken; the other one must not wait for the timeout.
    (tmp_path / "taken").mkdir()
    (tmp_path / "taken" / "letter.txt").write_text("mine")
    began = time.monotonic()
    said = together(program, 2, "finetune", config, "--run", tmp_path / "taken", code=1)
    assert "letter.txt" in said[0] and time.monotonic() - began < 50
    other = tmp_path / "other.yaml"
    other.write_text(config.read_text().replace("seed: 5", "seed: 6"))
    port = free_port()
    both = [subprocess.Popen([str(program), "finetune", str(path), "--run", str(tmp_path / "b")],
                             env=environment(rank, 2, port), stderr=subprocess.PIPE, text=True)
            for rank, path in enumerate((config, other))]
    for process in both:
        assert "error: the processes do not train the same run" in (err := process.communicate(timeout=60)[
            1]) and 'train.seed is "6", with rank 0 "5"' in err, err


def test_processes_in_network_namespaces(program, plain, tmp_path):
    """Two machines as far as the network goes: each with an address of its own, nothing shared but a cable."""
    if os.geteuid() != 0 or not shutil.which("ip"):
        pytest.skip("network namespaces need root and the ip command")
    names = [f"deeplora{os.getpid()}{i}" for i in range(2)]
    made = subprocess.run(["ip", "netns", "add", names[0]], capture_output=True, text=True)
    if made.returncode != 0:
        pytest.skip(f"this system gives no network namespaces: {made.stderr.strip()}")
    config, alone = plain
    try:
        subprocess.run(["ip", "netns", "add", names[1]], check=True)
        inside = [["ip", "netns", "exec", name] for name in names]
        subprocess.run(["ip", "link", "add", "veth0", "netns", names[0], "type", "veth", "peer", "name", "veth0",
                        "netns", names[1]], check=True)
        for i, where in enumerate(inside):
            subprocess.run([*where, "ip", "addr", "add", f"10.117.0.{i + 1}/24", "dev", "veth0"], check=True)
            for device in ("veth0", "lo"):
                subprocess.run([*where, "ip", "link", "set", device, "up"], check=True)

        def sent(rank):
            return int(subprocess.run([*inside[rank], "cat", "/sys/class/net/veth0/statistics/tx_bytes"],
                                      capture_output=True, text=True, check=True).stdout)

        together(program, 2, "finetune", config, "--run", tmp_path / "run", prefix=lambda rank: inside[rank],
                 MASTER_ADDR="10.117.0.1")
        assert difference(alone, tmp_path / "run") < 1e-6
        written = result(tmp_path / "run")
        payload = written["bytes_per_step"] * written["steps"]
        print(f"{written['bytes_per_step']} bytes a step, {sent(0)} and {sent(1)} bytes sent in {written['steps']} "
              f"steps")
        assert min(sent(0), sent(1)) > payload, "what is summed went over the cable"

        # The cable is pulled: both sides give up by themselves, and rank 0 has saved.
        with processes(program, 2, "finetune", config, "--set", "train.steps=100000", "--set", "train.save_every=100",
                       "--set", "train.eval_every=1000",
                       "--set", "train.distributed_timeout=5", "--run", tmp_path / "cut",
                       prefix=lambda rank: inside[rank], MASTER_ADDR="10.117.0.1") as running:
            wait_for_checkpoint(tmp_path / "cut", running)
            subprocess.run([*inside[1], "ip", "link", "set", "veth0", "down"], check=True)
            said = [process.communicate(timeout=60)[1] for process in running]
            assert [process.returncode for process in running] == [1, 1], said
            assert "saved after step" in said[0] and "--resume" in said[1], said
    finally:
        for name in names:
            subprocess.run(["ip", "netns", "delete", name], capture_output=True)
