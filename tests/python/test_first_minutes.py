"""The first five minutes: one file of rows, one command, no YAML. Splits that are drawn, tasks that the columns tell,
flags that are short for keys."""
from __future__ import annotations

import csv
import json
import random
import re
import shutil

import pytest
import yaml

WORDS = "good bad fine awful great poor nice sad happy broken works fails love hate blue red".split()


def text(rng):
    return " ".join(rng.choice(WORDS) for _ in range(rng.randint(3, 8)))


def write_csv(path, columns, rows):
    with open(path, "w", encoding="utf-8", newline="") as out:
        writer = csv.writer(out)
        writer.writerow(columns)
        writer.writerows(rows)
    return path


@pytest.fixture(scope="session")
def reviews(tmp_path_factory):
    """60 texts of two classes, 40 to 20."""
    rng = random.Random(1)
    rows = [[f"{text(rng)} {i}", "pos" if i % 3 else "neg"] for i in range(60)]
    return write_csv(tmp_path_factory.mktemp("reviews") / "rows.csv", ["text", "label"], rows)


@pytest.fixture()
def finetune(run, tiny_archive, tmp_path):
    """finetune("--train", ..., model="bert"): a short run in tmp_path; gives standard error and the run folder."""
    def call(*arguments, model=("bert", "encoder"), folder="run", code=0, steps=4):
        steps = ["--steps", steps] if steps and "--epochs" not in arguments else []
        done = run("finetune", "--model", tiny_archive(*model), *arguments, *steps, "--run", tmp_path / folder, "--set",
                   "train.batch_size=8",
                   "--set", "data.max_length=24", code=code)
        return done.stderr, tmp_path / folder
    return call


def config(folder):
    return yaml.safe_load((folder / "config.yaml").read_text())


def result(folder):
    return json.loads((folder / "result.json").read_text())


# ---- no YAML ----

def test_one_file_and_a_model_are_enough(finetune, reviews, run):
    said, folder = finetune("--train", reviews)
    assert "task: classification, since column label holds 2 different values" in said
    assert "a tenth of data.train is drawn (data.dev_share: 0.1" in said
    assert "6 rows drawn as dev; labels neg 2, pos 4" in said
    found = result(folder)
    assert found["task"] == "classification" and found["method"] == "lora"
    assert found["rows"] == {"train": 54, "train_file": 54, "dev": 6, "test": 0}
    assert found["best"]["accuracy"] >= 0
    scored = json.loads(run("evaluate", folder, "--json").stdout)
    assert scored["rows"] == 6 and scored["accuracy"] == pytest.approx(found["best"]["accuracy"])


def test_the_run_is_what_its_config_yaml_stands_for(finetune, reviews, run, tmp_path):
    _, first = finetune("--train", reviews, "--method", "deep-lora", "--rank", "3", "--lr", "1e-2", "--seed", "4")
    kept = config(first)
    assert (kept["data"]["task"], kept["adapter"]["method"], kept["adapter"]["rank"], kept["train"]["lr"],
            kept["train"]["steps"],
            kept["train"]["seed"]) == ("classification", "deep-lora", 3, 0.01, 4, 4)
    run("finetune", first / "config.yaml", "--run", tmp_path / "second")
    assert (tmp_path / "second" / "adapter.safetensors").read_bytes() == (first / "adapter.safetensors").read_bytes()


def test_flags_go_before_a_configuration_and_set_before_flags(run, reviews, tiny_archive, tmp_path):
    path = tmp_path / "config.yaml"
    path.write_text(f"model: {{path: nowhere.pt}}\ndata: {{task: classification, train: {reviews}}}\nadapter: {{rank: "
                    f"2}}\ntrain: {{steps: 300}}\n")
    printed = yaml.safe_load(run("finetune", path, "--model", tiny_archive("bert", "encoder"), "--rank", 5, "--epochs",
                                 2, "--set", "adapter.rank=6",
                                 "--print-config").stdout)
    assert printed["model"]["path"].endswith(".pt") and printed["model"]["path"] != "nowhere.pt"
    assert printed["adapter"]["rank"] == 6
    assert printed["train"]["epochs"] == 2 and "steps" not in printed["train"]


def test_the_default_folder_is_named_after_rows_and_method(run, reviews, tiny_archive, tmp_path):
    arguments = ["finetune", "--model", tiny_archive("bert", "encoder"), "--train", reviews, "--steps", "1", "--method",
                 "none"]
    run(*arguments, cwd=tmp_path)
    assert (tmp_path / "runs" / "rows-none" / "result.json").exists()
    assert "--resume" in run(*arguments, cwd=tmp_path, code=1).stderr


def test_help_shows_the_shortest_call_and_the_defaults_that_hold(run):
    said = re.sub(r"\s+", " ", run("finetune", "--help").stdout)
    assert "deeplora finetune --model model.pt --train rows.csv" in said
    reference = run("reference", "config").stdout
    checked = 0
    for part in re.split(r" (?=--[a-z])", said):
        key = re.search(r"\[([a-z_.]+)\]", part)
        if not key:
            continue
        row = re.search(rf"^\| `{re.escape(key[1])}` \| (.*?) \|", reference, re.M)
        assert row, key[1]
        if re.fullmatch(r"`[a-z0-9.-]+`", row[1]):
            assert f"(default: {row[1].strip('`')})" in part, part
            checked += 1
    assert checked >= 3  # those of a task differ from task to task
    for flag in ("--model", "--train", "--dev", "--test", "--task", "--method", "--rank", "--lr", "--steps", "--epochs",
                 "--run"):
        assert flag + " " in said, flag


# ---- the task, by the columns ----

TASKS = {
    "few numbers": (["text", "label"], lambda i, rng: [text(rng), i % 5 + 1], "classification"),
    "many numbers": (["text", "label"], lambda i, rng: [text(rng), i * 0.37], "regression"),
    "whole numbers, one of its own for most rows": (["text", "label"], lambda i, rng: [text(rng), i], "regression"),
    "names": (["text", "label"], lambda i, rng: [text(rng), "abc"[i % 3]], "classification"),
    "numbers and a word": (["text", "label"], lambda i, rng: [text(rng), i if i else "none"], "classification"),
    "a label column of another name": (["text", "stars"], lambda i, rng: [text(rng), i % 2], "classification"),
    "prompt and completion": (["prompt", "completion"], lambda i, rng: [text(rng), " red"], "causal-lm"),
    "pairs of answers": (["prompt", "chosen", "rejected"], lambda i, rng: [text(rng), " red", " blue"], "preference"),
    "instructions": (["instruction", "input", "output"], lambda i, rng: [text(rng), "", " red"], "causal-lm"),
}


@pytest.mark.parametrize("name", TASKS)
def test_columns_tell_the_task(name, run, tiny_archive, tmp_path):
    columns, row, expected = TASKS[name]
    rng = random.Random(2)
    path = write_csv(tmp_path / "rows.csv", columns, [row(i, rng) for i in range(30)])
    more = ["--label", "stars"] if "stars" in columns else []
    done = run("finetune", "--model", tiny_archive("bert", "encoder"), "--train", path, *more, "--print-config")
    assert yaml.safe_load(done.stdout)["data"]["task"] == expected
    assert f"task: {expected}, since" in done.stderr


def test_other_kinds_of_files_tell_it_too(run, tiny_archive, tmp_path):
    for name, content in ({"talk.jsonl": '{"messages": [{"role": "user", "content": "hi"}, {"role": "assistant", '
                                         '"content": "ho"}]}\n',
                          "share.json": '[{"conversations": [{"from": "human", "value": "hi"}, {"from": "gpt", '
                                        '"value": "ho"}]}]',
                          "book.txt": "once upon a time\nthere was\n", "only.csv": "text\nonce upon\n"}.items()):
        (tmp_path / name).write_text(content)
        done = run("finetune", "--model", "model.pt", "--train", tmp_path / name, "--print-config")
        assert yaml.safe_load(done.stdout)["data"]["task"] == "causal-lm", name


def test_a_pair_column_is_taken_and_said(run, tmp_path):
    path = write_csv(tmp_path / "rows.csv", ["text", "text_pair", "label"], [["a", "b", i % 2] for i in range(9)])
    done = run("finetune", "--model", "model.pt", "--train", path, "--print-config")
    assert yaml.safe_load(done.stdout)["data"]["text_pair"] == "text_pair"
    assert "pairs with column text_pair" in done.stderr


# ---- drawn splits ----

def test_drawn_splits_hold_every_row_once_and_their_share_of_each_label(finetune, reviews, run):
    said, folder = finetune("--train", reviews, "--set", "data.dev_share=0.2", "--set", "data.test_share=0.25")
    assert result(folder)["rows"] == {"train": 33, "train_file": 33, "dev": 12, "test": 15}
    assert "12 rows drawn as dev; labels neg 4, pos 8" in said and "15 rows drawn as test; labels neg 5, pos 10" in said
    found, scored = result(folder), json.loads(run("evaluate", folder, "--json").stdout)
    assert scored["rows"] == 15 and scored["accuracy"] == pytest.approx(found["test"]["accuracy"])
    assert scored["loss"] == pytest.approx(found["test"]["loss"])


def test_no_dev_where_the_share_is_0_or_the_file_is_small(finetune, reviews, tmp_path):
    said, folder = finetune("--train", reviews, "--set", "data.dev_share=0")
    assert "there will be no dev score" in said
    assert result(folder)["best"] == {} and result(folder)["rows"]["dev"] == 0
    small = write_csv(tmp_path / "small.csv", ["text", "label"], [["a b", i % 2] for i in range(12)])
    said, folder = finetune("--train", small, folder="small")
    assert "too few rows to draw some" in said and result(folder)["rows"]["dev"] == 0


def test_another_seed_draws_other_rows_unless_the_split_has_its_own(finetune, reviews):
    losses = {}
    for name, sets in {"1": [], "2": ["train.seed=2"], "fixed": ["train.seed=2", "data.split_seed=1"]}.items():
        said, folder = finetune("--train", reviews, "--steps", "0", *[part for one in sets for part in ("--set", one)],
                                folder=name, steps=None)
        losses[name] = json.loads((folder / "task.json").read_text())["split"]
    assert losses["1"] == losses["fixed"] != losses["2"]


def test_a_run_on_drawn_rows_resumes_to_the_same_bits(run, reviews, tiny_archive, tmp_path):
    arguments = ["finetune", "--model", tiny_archive("bert", "encoder"), "--train", reviews, "--steps", "6", "--set",
                 "train.batch_size=8",
                 "--set", "train.eval_every=2", "--set", "data.max_length=24"]
    run(*arguments, "--run", tmp_path / "whole")
    run(*arguments, "--run", tmp_path / "part")
    for path in (tmp_path / "part" / "checkpoints").glob("step-*6"):
        shutil.rmtree(path)
    for name in ("result.json", "adapter.safetensors", "last.safetensors"):
        (tmp_path / "part" / name).unlink()
    run("finetune", "--resume", "--run", tmp_path / "part")
    for name in ("adapter.safetensors", "last.safetensors"):
        assert (tmp_path / "part" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()


def test_a_training_file_that_has_changed_no_longer_gives_the_drawn_rows(run, reviews, finetune, tmp_path):
    path = tmp_path / "rows.csv"
    path.write_bytes(reviews.read_bytes())
    _, folder = finetune("--train", path)
    path.write_text("text,label\n" + "".join(f"other {i},{'pos' if i % 2 else 'neg'}\n" for i in range(60)))
    said = run("evaluate", folder, code=1).stderr
    assert "is not what it was when the run drew its dev rows" in said and "--data" in said


def test_a_comparison_has_one_split_for_all_of_its_cells(run, reviews, tiny_archive, tmp_path):
    path = tmp_path / "compare.yaml"
    path.write_text(f"""model: {{path: {tiny_archive("bert", "encoder")}}}
data: {{task: classification, train: {reviews}, dev_share: 0.2, test_share: 0.2, max_length: 24}}
adapter: {{targets: query-value}}
train: {{steps: 2, batch_size: 8}}
compare:
  seeds: 2
  methods: [{{name: LoRA, adapter: {{method: lora, rank: 2}}}}, {{name: head only, adapter: {{method: none}}}}]
""")
    run("compare", path, "--run", tmp_path / "run")
    splits = [json.loads(p.read_text())["split"] for p in (tmp_path / "run" / "cells").glob("*/task.json")]
    assert len(splits) == 4 and len(set(splits)) == 1


# ---- what is said before training ----

def test_duplicates_one_class_and_cut_texts_are_said(finetune, tmp_path):
    rng = random.Random(3)
    rows = [[text(rng) + f" {i}", "ham"] for i in range(300)] + [["one of them", "spam"], ["one of them", "ham"]]
    train = write_csv(tmp_path / "train.csv", ["text", "label"], rows)
    dev = write_csv(tmp_path / "dev.csv", ["text", "label"], [rows[0], rows[5], ["quite new", "spam"]])
    test = write_csv(tmp_path / "test.csv", ["text", "label"], [["quite new", "spam"], ["word " * 60, "ham"]])
    said, _ = finetune("--train", train, "--dev", dev, "--test", test)
    assert "data.train: 301 of 302 rows have label 'ham'" in said and "data.class_weights: balanced" in said
    assert (f"data.train: 1 of 302 rows repeat the input of another, 1 of them with another label; the first at "
            f"{train}:303" in said)
    assert (f"data.dev: 2 of 3 rows have the input of a row of data.train, so that their score flatters; the first at "
            f"{dev}:2" in said)
    assert "data.test: 1 of 2 rows have the input of a row of data.dev" in said
    assert re.search(r"data.test: 1 of 2 texts \(50 %\) were cut to data.max_length tokens and lose \d+ % of theirs",
                     said)


# ---- what is mistyped ----

@pytest.mark.parametrize("command, words", [
    ("finetun x", ["unknown command 'finetun' (did you mean 'finetune'?)", "commands: inspect, init, finetune"]),
    ("finetune --modle x", ["finetune: unknown option --modle (did you mean '--model'?)", "deeplora finetune --help"]),
    ("finetune --learning-rate 1", ["unknown option --learning-rate (did you mean '--lr'?)"]),
    ("finetune --num-epochs=3", ["unknown option --num-epochs (did you mean '--epochs'?)"]),
    ("finetune --max-seq-length 3", ["(did you mean --set data.max_length=...?)"]),
    ("--versoin", ["unknown option --versoin (did you mean '--version'?)"]),
    ("predict x --imput y", ["(did you mean '--input'?)"]),
])
def test_a_mistyped_name_is_answered_with_the_nearest(command, words, run):
    said = run(*command.split(), code=2).stderr
    assert said.startswith("error: ") and len(said.splitlines()) == 1
    for word in words:
        assert word in said, said


@pytest.mark.parametrize("key, meant", {"train.learning_rate": "train.lr", "train.max_steps": "train.steps",
                                        "train.num_epochs": "train.epochs", "adapter.lora_r": "adapter.rank",
                                        "adapter.target_modules": "adapter.targets",
                                        "train.per_device_train_batch_size": "train.batch_size",
                                        "data.max_seq_length": "data.max_length",
                                        "weight_decay": "train.weight_decay"}.items())
def test_keys_of_other_trainers_are_answered_with_ours(key, meant, run, reviews):
    said = run("finetune", "--model", "model.pt", "--train", reviews, "--set", f"{key}=1", "--print-config",
               code=1).stderr
    assert f"--set {key}: unknown key (did you mean '{meant}'?)" in said
