"""train.lr: auto. Each trial is what a plain run of as many steps at that rate gives; the best on dev is taken, kept,
and found again."""
from __future__ import annotations

import json
import random
import shutil

import pytest

from test_first_minutes import text, write_csv


@pytest.fixture(scope="session")
def rows(tmp_path_factory):
    rng = random.Random(4)
    folder = tmp_path_factory.mktemp("rates")
    for split, count in (("train", 64), ("dev", 40)):
        made = [text(rng) for _ in range(count)]
        write_csv(folder / f"{split}.csv", ["text", "label"],
                  [[t, sum(w in t for w in ("good", "great", "love")) - len(t) / 40] for t in made])
    return folder


@pytest.fixture()
def finetune(run, rows, tiny_archive, tmp_path):
    def call(name, *arguments, code=0):
        sets = ["--set", "data.max_length=24", "--set", "train.batch_size=8", "--set", "train.schedule=constant"]
        done = run("finetune", "--model", tiny_archive("bert", "encoder"), "--train", rows / "train.csv", "--dev",
                   rows / "dev.csv", *sets, "--run", tmp_path / name, *arguments,
                   code=code)
        return tmp_path / name, done.stderr
    return call


def result(folder):
    return json.loads((folder / "result.json").read_text())


@pytest.mark.parametrize("method, default", [("lora", 2e-3), ("deep-lora", 6e-3), ("none", 5e-3)])
def test_the_best_of_the_trials_is_taken_and_each_is_a_plain_run(method, default, finetune):
    folder, said = finetune("auto", "--lr", "auto", "--steps", 40, "--method", method)
    search = result(folder)["lr_search"]
    rates = [trial["lr"] for trial in search["trials"]]
    assert len(rates) == 5 and rates == sorted(rates) and rates[2] == default
    assert all(trial["steps"] == 10 for trial in search["trials"])  # of 40: a fifth is less than 10
    scored = [trial for trial in search["trials"] if trial["score"] is not None]
    assert search["lr"] == max(scored, key=lambda trial: trial["score"])["lr"] and search["metric"] == "pearson"
    assert f"train.lr: auto: {search['lr']:g} is best on dev" in said
    page = (folder / "report.html").read_text()
    assert (f"dev pearson after 10 steps: {search['trials'][0]['lr']:g}: " in page and f"{search['lr']:g} is taken"
            in page)
    for trial in (search["trials"][0], search["trials"][3]):
        plain, _ = finetune(f"plain-{trial['lr']}", "--lr", trial["lr"], "--steps", 10, "--method", method)
        assert result(plain)["last"]["pearson"] == trial["score"], trial
    chosen, _ = finetune("chosen", "--lr", search["lr"], "--steps", 40, "--method", method)
    for name in ("last.safetensors", "adapter.safetensors"):
        assert (chosen / name).read_bytes() == (folder / name).read_bytes()  # the trials leave nothing behind


def test_a_run_that_goes_on_keeps_its_rate_and_one_that_begins_again_finds_the_same(finetune, run, tmp_path):
    folder, _ = finetune("run", "--lr", "auto", "--steps", 12, "--set", "train.eval_every=4")
    expected, state = result(folder), (folder / "last.safetensors").read_bytes()
    for path in (folder / "checkpoints").glob("step-*12"):
        shutil.rmtree(path)
    (folder / "result.json").unlink()
    done = run("finetune", "--resume", "--run", folder)
    assert "is best on dev" not in done.stderr and (folder / "last.safetensors").read_bytes() == state
    assert result(folder)["lr_search"] == expected["lr_search"]
    shutil.rmtree(folder / "checkpoints")
    (folder / "lr_search.json").unlink()
    (folder / "result.json").unlink()
    done = run("finetune", "--resume", "--run", folder)
    assert "is best on dev" in done.stderr and result(folder)["lr_search"] == expected["lr_search"]
    assert (folder / "last.safetensors").read_bytes() == state


def test_there_is_nothing_to_choose_by_without_dev(finetune, run, rows, tiny_archive, tmp_path):
    said = run("finetune", "--model", tiny_archive("bert", "encoder"), "--train", rows / "train.csv", "--lr", "auto",
               "--set", "data.dev_share=0", "--run", tmp_path / "run",
               code=1).stderr
    assert "train.lr: auto chooses on dev rows, and there are none" in said and "data.dev_share" in said
    assert not (tmp_path / "run").exists()


def test_another_word_is_no_rate(finetune):
    _, said = finetune("run", "--lr", "automatic", code=1)
    assert "--lr (train.lr): expected a number, found automatic" in said
