"""Going on with a run under other settings: every key of the program's own list is refused by name, or may change as documented; a refused run
leaves its folder as it was."""
from __future__ import annotations

import hashlib
import json
import re
import shutil
from typing import NamedTuple

import pytest
import yaml


class Key(NamedTuple):
    base: str             # the run that is resumed
    value: str            # another value than the run's
    names: str = ""       # what the refusal names; the key itself when empty
    free: bool = False    # may change
    also: tuple = ()      # --set beside it, without which the value could not stand
    alone: bool = False   # not tried together with others


ROWS = [{"text": f"word {i} of some", "other": f"another text {i}", "label": i % 2, "second": (i // 2) % 2} for i in range(24)]
PAIRS = [{"prompt": f"apple {i} is", "completion": " red", "text": "plain words", "question": f"is {i} red", "references": ["blue"],
          "target": "red", "more": "yes"} for i in range(8)]
WORDS = [{"tokens": ["word", str(i), "here"], "tags": ["O", "B-NUM", "O"]} for i in range(8)]

BASES = {
    "lora": "model: {path: bert.pt}\ndata: {task: classification, train: rows.jsonl, dev: rows.jsonl, test: rows.jsonl}\n"
            "adapter: {method: lora, rank: 2}\ntrain: {steps: 4, batch_size: 8, eval_every: 2, log_every: 1}\n",
    "labels": "model: {path: bert.pt}\ndata: {task: multi-label, train: rows.jsonl}\nadapter: {method: lora, rank: 2}\ntrain: {steps: 1, batch_size: 8}\n",
    "ranking": "model: {path: bert.pt}\ndata: {task: ranking, train: rows.jsonl, query: other}\nadapter: {method: lora, rank: 2}\ntrain: {steps: 1, batch_size: 8}\n",
    "tags": "model: {path: bert.pt}\ndata: {task: token-classification, train: words.jsonl}\nadapter: {method: lora, rank: 2}\ntrain: {steps: 1, batch_size: 8}\n",
    "epochs": "model: {path: bert.pt}\ndata: {task: classification, train: rows.jsonl}\nadapter: {method: none}\ntrain: {epochs: 1, batch_size: 8}\n",
    "gaussian": "model: {path: bert.pt}\ndata: {task: classification, train: rows.jsonl}\nadapter: {method: lora, rank: 2, init: gaussian}\ntrain: {steps: 1, batch_size: 8}\n",
    "deep": "model: {path: bert.pt}\ndata: {task: classification, train: rows.jsonl}\nadapter: {method: deep-lora, rank: 2}\ntrain: {steps: 1, batch_size: 8}\n",
    "compressed": "model: {path: bert.pt}\ndata: {task: classification, train: rows.jsonl}\nadapter: {method: deep-lora, rank: 2, compress: true}\n"
                  "train: {steps: 1, batch_size: 8}\n",
    "plus": "model: {path: bert.pt}\ndata: {task: classification, train: rows.jsonl}\nadapter: {method: lora-plus, rank: 2}\ntrain: {steps: 1, batch_size: 8}\n",
    "one": "model: {path: bert.pt}\ndata: {task: classification, train: rows.jsonl}\nadapter: {method: lora-one, rank: 2}\ntrain: {steps: 1, batch_size: 8}\n",
    "ga": "model: {path: bert.pt}\ndata: {task: classification, train: rows.jsonl}\nadapter: {method: lora-ga, rank: 2}\ntrain: {steps: 1, batch_size: 8}\n",
    "started": "model: {path: bert.pt}\ndata: {task: classification, train: rows.jsonl}\nadapter: {method: lora, rank: 2, path: start.safetensors}\n"
               "train: {steps: 1, batch_size: 8}\n",
    "causal": "model: {path: gpt2.pt}\ndata: {task: causal-lm, train: pairs.jsonl, dev: pairs.jsonl, max_length: 32}\nadapter: {method: lora, rank: 2}\n"
              "train: {steps: 2, batch_size: 4}\n",
    "pairs": "model: {path: gpt2.pt}\ndata: {task: preference, train: pairs.jsonl, prompt: question, chosen: text, rejected: target, max_length: 64}\n"
             "adapter: {method: lora, rank: 2}\ntrain: {steps: 1, batch_size: 4}\n",
    "sampled": "model: {path: gpt2.pt}\ndata: {task: causal-lm, train: pairs.jsonl, max_length: 32, generation: {temperature: 1, max_new_tokens: 2}}\n"
               "adapter: {method: lora, rank: 2}\ntrain: {steps: 1, batch_size: 4}\n",
    "texts": "model: {path: bert.pt}\ndata: {task: embedding, train: texts.jsonl, max_length: 32}\nadapter: {method: lora, rank: 2}\ntrain: {steps: 1, batch_size: 4}\n",
    "scored": "model: {path: bert.pt}\ndata: {task: embedding, train: scored.jsonl, loss: cosine, max_length: 32}\nadapter: {method: lora, rank: 2}\n"
              "train: {steps: 1, batch_size: 4}\n",
    "seq2seq": "model: {path: t5.pt}\ndata: {task: seq2seq, train: pairs.jsonl, max_length: 32}\nadapter: {method: lora, rank: 2}\ntrain: {steps: 1, batch_size: 4}\n",
}

TEXTS = [{"text": f"word {i} of some", "text_pair": f"another text {i}", "negative": f"no {i}", "wrong": f"not {i}"} for i in range(12)]
SCORED = [{"text": f"word {i} of some", "text_pair": f"another text {i}", "label": i / 12} for i in range(12)]

KEYS = {
    "model.path": Key("lora", "moved/bert.pt", free=True),
    "model.backend": Key("lora", "graph"),
    "model.tokenizer": Key("lora", "other-tokenizer", names="rows of data.train", alone=True),
    "model.inputs.input_ids": Key("lora", "ids", names="ids", alone=True),
    "model.inputs.attention_mask": Key("lora", "mask", names="mask", alone=True),
    "model.inputs.token_type_ids": Key("lora", "types", names="types", alone=True),
    "model.inputs.position_ids": Key("lora", "places", names="model.inputs.position_ids", alone=True),
    "model.inputs.lengths": Key("lora", "counts", names="model.inputs.lengths", alone=True),
    "model.inputs.decoder_input_ids": Key("lora", "decoder", names="model.inputs.decoder_input_ids", alone=True),
    "model.output": Key("lora", "logits", names="output", alone=True),
    "model.pooling": Key("lora", "cls"),
    "model.normalize": Key("lora", "true"),
    "model.dropout": Key("lora", "0.3"),
    "model.device": Key("lora", "cuda:0", alone=True),  # another kind of device; where there is none, the configuration says so
    "model.precision": Key("lora", "bfloat16-always"),
    "model.quantize": Key("lora", "int8"),
    "model.deterministic": Key("lora", "no"),
    "data.task": Key("lora", "sst2", alone=True),
    "data.train": Key("lora", "moved/rows.jsonl", free=True),
    "data.dev": Key("lora", "moved/rows.jsonl", free=True),
    "data.test": Key("lora", "other.jsonl", free=True),
    "data.format": Key("lora", "jsonl"),
    "data.header": Key("lora", "yes", alone=True),
    "data.separator": Key("lora", "comma", alone=True),
    "data.quoting": Key("lora", "none", alone=True),
    "data.encoding": Key("lora", "latin-1"),
    "data.bad_rows": Key("lora", "skip"),
    "data.bad_rows_share": Key("lora", "0.1"),
    "data.samples": Key("lora", "20"),
    "data.dev_share": Key("epochs", "0.3", names="rows of data.train", alone=True),
    "data.test_share": Key("epochs", "0.2", names="rows of data.train", alone=True),
    "data.split_seed": Key("epochs", "5", names="rows of data.train", alone=True),
    "data.class_weights": Key("lora", "balanced"),
    "data.threshold": Key("lora", "0.3"),
    "data.text": Key("lora", "other"),
    "data.text_pair": Key("lora", "other"),
    "data.label": Key("lora", "second"),
    "data.max_length": Key("lora", "12"),
    "data.label_separator": Key("labels", "|"),
    "data.label_column": Key("tags", "1"),
    "data.word_column": Key("tags", "0"),
    "data.tag_scheme": Key("tags", "iob2"),
    "data.query": Key("ranking", "text"),
    "data.positive": Key("lora", "0"),
    "data.prompt": Key("causal", "question"),
    "data.completion": Key("causal", "text"),
    "data.messages": Key("causal", "talk"),
    "data.chat_template": Key("causal", "zephyr"),
    "data.chat_variables": Key("causal", "[x=1]"),
    "data.chat_date": Key("causal", "2024-01-01"),
    "data.pack": Key("causal", "no"),
    "data.too_long": Key("causal", "cut"),
    "data.prompt_template": Key("causal", "Say {question}"),
    "data.references": Key("causal", "more"),
    "data.metric": Key("causal", "rougeL"),
    "data.generate": Key("causal", "true"),
    "data.generation.max_new_tokens": Key("causal", "3"),
    "data.generation.beams": Key("causal", "2"),
    "data.generation.length_penalty": Key("causal", "0.5"),
    "data.generation.early_stopping": Key("causal", "true"),
    "data.generation.temperature": Key("sampled", "0.5"),
    "data.generation.top_k": Key("sampled", "3"),
    "data.generation.top_p": Key("sampled", "0.5"),
    "data.generation.repetition_penalty": Key("causal", "1.5"),
    "data.generation.seed": Key("causal", "2"),
    "data.generation.stop": Key("causal", "[x]"),
    "data.chosen": Key("pairs", "completion"),
    "data.rejected": Key("pairs", "more"),
    "data.beta": Key("pairs", "0.2"),
    "data.source_language": Key("seq2seq", "en", alone=True),
    "data.target_language": Key("seq2seq", "de", alone=True),
    "data.target": Key("seq2seq", "more"),
    "data.max_target_length": Key("seq2seq", "9"),
    "data.negative": Key("texts", "wrong", names="rows of data.train"),
    "data.loss": Key("scored", "cosent"),
    "data.temperature": Key("texts", "0.1"),
    "data.both_directions": Key("texts", "true"),
    "data.negatives_batch": Key("texts", "6"),
    "data.prefix.query": Key("texts", "'ask: '"),
    "data.prefix.passage": Key("texts", "'say: '"),
    "data.embed_as": Key("texts", "passage"),
    "data.matryoshka": Key("texts", "[8]"),
    "data.score_range": Key("scored", "[0, 2]"),
    "adapter.method": Key("epochs", "full", alone=True),
    "adapter.targets": Key("lora", "query-value"),
    "adapter.fused_layout": Key("lora", "blocks"),
    "adapter.path": Key("started", "other-start.safetensors", names="factors to start from (adapter.path)"),
    "adapter.rank": Key("lora", "3"),
    "adapter.alpha": Key("lora", "8"),
    "adapter.ranks": Key("lora", "['*query=1']"),
    "adapter.alphas": Key("lora", "['*query=3']"),
    "adapter.train_also": Key("lora", "['*query.bias']", alone=True),
    "adapter.dropout": Key("lora", "0.2"),
    "adapter.init": Key("lora", "gaussian"),
    "adapter.zero_side": Key("gaussian", "input"),
    "adapter.depth": Key("deep", "4"),
    "adapter.init_scale": Key("deep", "1e-2"),
    "adapter.compress": Key("deep", "true", alone=True),
    "adapter.outer_lr_ratio": Key("compressed", "0.1"),
    "adapter.lr_ratio": Key("plus", "4"),
    "adapter.gamma": Key("one", "64"),
    "adapter.stable_gamma": Key("ga", "64"),
    "head.type": Key("lora", "linear"),
    "head.train": Key("lora", "no", alone=True),
    "head.dropout": Key("lora", "0.3"),
    "train.optimizer": Key("lora", "adam"),
    "train.lr": Key("lora", "1e-3"),
    "train.head_lr": Key("lora", "1e-3"),
    "train.beta1": Key("lora", "0.8"),
    "train.beta2": Key("lora", "0.99"),
    "train.eps": Key("lora", "1e-6"),
    "train.weight_decay": Key("lora", "0.1"),
    "train.momentum": Key("lora", "0.5"),
    "train.schedule": Key("lora", "cosine"),
    "train.warmup": Key("lora", "0.5"),
    "train.batch_size": Key("lora", "4"),
    "train.accumulate": Key("lora", "2"),
    "train.steps": Key("lora", "5", names="steps of the run (train.steps"),
    "train.epochs": Key("epochs", "2", names="steps of the run (train.steps, train.epochs)"),
    "train.clip": Key("lora", "0.5"),
    "train.eval_every": Key("lora", "1"),
    "train.keep": Key("lora", "last", alone=True),
    "train.early_stopping": Key("lora", "9"),
    "train.shuffle": Key("lora", "no", also=("train.group_by_length=no",)),
    "train.group_by_length": Key("lora", "no"),
    "train.seed": Key("lora", "2"),
    "train.threads": Key("lora", "2", free=True),
    "train.eval_batch_size": Key("lora", "5", free=True),
    "train.log_every": Key("lora", "2", free=True),
    "train.save_every": Key("lora", "1", free=True),
    "train.keep_checkpoints": Key("lora", "1", free=True),
    "train.contrastive": Key("lora", "true", alone=True),
    "train.gradient_checkpointing": Key("lora", "yes", free=True),
    "train.distributed_timeout": Key("lora", "60", free=True),
    "report.title": Key("lora", "another title", free=True),
}


def jsonl(rows):
    return "".join(json.dumps(row) + "\n" for row in rows)


def tree(folder):
    """Every file of a folder: mode and bytes."""
    return {str(p.relative_to(folder)): (p.lstat().st_mode, hashlib.sha256(p.read_bytes()).hexdigest() if p.is_file() else "") for p in sorted(folder.rglob("*"))}


@pytest.fixture(scope="module")
def place(run, tiny_archive, tiny_folder, tmp_path_factory):
    folder = tmp_path_factory.mktemp("resume")
    for name, archive in {"bert": tiny_archive("bert", "encoder"), "gpt2": tiny_archive("gpt2"), "t5": tiny_archive("t5")}.items():
        shutil.copy(archive, folder / f"{name}.pt")
    (folder / "rows.jsonl").write_text(jsonl(ROWS))
    (folder / "other.jsonl").write_text(jsonl({**row, "label": 1 - row["label"]} for row in ROWS[:9]))
    (folder / "pairs.jsonl").write_text(jsonl(PAIRS))
    (folder / "texts.jsonl").write_text(jsonl(TEXTS))
    (folder / "scored.jsonl").write_text(jsonl(SCORED))
    (folder / "words.jsonl").write_text(jsonl(WORDS))
    (folder / "moved").mkdir()
    for name in ("bert.pt", "rows.jsonl"):
        shutil.copy(folder / name, folder / "moved" / name)
    shutil.copytree(tiny_folder("distilbert"), folder / "other-tokenizer")
    vocabulary = json.loads((folder / "other-tokenizer/tokenizer.json").read_text())
    words = [word for word in vocabulary["model"]["vocab"] if not word.startswith("[")]
    ids = [vocabulary["model"]["vocab"][word] for word in words]
    vocabulary["model"]["vocab"].update(zip(words, ids[1:] + ids[:1]))
    (folder / "other-tokenizer/tokenizer.json").write_text(json.dumps(vocabulary))
    for name, config in BASES.items():
        (folder / f"{name}.yaml").write_text(config)
    for seed, name in ((7, "start"), (8, "other-start")):
        run("finetune", "lora.yaml", "--set", f"train.seed={seed}", "--set", "train.steps=1", "--run", name, cwd=folder)
        shutil.copy(folder / name / "adapter.safetensors", folder / f"{name}.safetensors")
    return folder


@pytest.fixture(scope="module")
def base(run, place):
    """base("lora"): a finished run; made once."""
    def made(name):
        if not (place / "runs" / name).exists():
            run("finetune", f"{name}.yaml", "--run", f"runs/{name}", cwd=place)
        return place / "runs" / name
    return made


def settings(keys):
    return [part for name in keys for setting in (f"{name}={KEYS[name].value}", *KEYS[name].also) for part in ("--set", setting)]


def test_every_key_of_the_program_is_known_here(run):
    listed = set(re.findall(r"^\| `((?:model|data|adapter|head|train|report)\.[^`]+)`", run("reference", "config").stdout, re.M))
    assert listed, "the reference lists no keys"
    assert listed == set(KEYS), "say in KEYS how a resumed run takes another value of these keys, and in docs/reliability.md where it is free"


REFUSED = {}
for name, key in KEYS.items():
    if not key.free:
        group = f"{key.base}: {name}" if key.alone else next(
            (g for g, names in REFUSED.items() if g.startswith(key.base + " ") and len(names) < 5), f"{key.base} {len(REFUSED)}")
        REFUSED.setdefault(group, []).append(name)


@pytest.mark.parametrize("group", REFUSED)
def test_another_value_is_refused_by_name_and_the_run_folder_stays_as_it_was(group, run, base, place):
    names = REFUSED[group]
    folder = base(KEYS[names[0]].base)
    before = tree(folder)
    done = run("finetune", "--resume", "--run", folder, *settings(names), cwd=place, code=1)
    for name in names:
        assert (KEYS[name].names or name) in done.stderr, (name, done.stderr)
    assert done.stderr.count("error: ") == 1
    assert tree(folder) == before


def test_free_keys_change_and_the_run_folder_says_so(run, base, place):
    names = [name for name, key in KEYS.items() if key.free]
    folder = base("lora")
    adapter = (folder / "adapter.safetensors").read_bytes()
    run("finetune", "--resume", "--run", folder, *settings(names), cwd=place)
    config, result = yaml.safe_load((folder / "config.yaml").read_text()), json.loads((folder / "result.json").read_text())
    for name in names:
        section, key = name.split(".")
        assert config[section][key] == yaml.safe_load(KEYS[name].value), name
    assert (folder / "adapter.safetensors").read_bytes() == adapter
    # What result.json says of the test file is what evaluate finds with the run's own configuration.
    assert result["rows"]["test"] == 9
    scores = json.loads(run("evaluate", folder, "--json", cwd=place).stdout)
    assert scores["file"] == "other.jsonl"
    assert scores["accuracy"] == result["test"]["accuracy"]
    run("finetune", "--resume", "--run", folder, "--set", "data.test=rows.jsonl", cwd=place)
    again = json.loads((folder / "result.json").read_text())
    assert again["rows"]["test"] == len(ROWS)
    assert again["test"]["accuracy"] == json.loads(run("evaluate", folder, "--json", cwd=place).stdout)["accuracy"]


def test_another_metric_does_not_judge_what_a_stopped_run_chose(run, place):
    """The run is stopped after its first evaluation; with another metric its best score would be compared with a loss."""
    folder = place / "runs" / "stopped"
    run("finetune", "causal.yaml", "--set", "train.eval_every=1", "--run", folder, cwd=place)
    checkpoints = sorted((folder / "checkpoints").iterdir())
    shutil.rmtree(checkpoints[-1])
    (folder / "result.json").unlink()
    before = tree(folder)
    assert "data.metric" in run("finetune", "--resume", "--run", folder, "--set", "data.metric=rougeL", cwd=place, code=1).stderr
    (place / "answers.jsonl").write_text(jsonl({**row, "references": ["green"]} for row in PAIRS))
    assert "rows of data.dev" in run("finetune", "--resume", "--run", folder, "--set", "data.dev=answers.jsonl", cwd=place, code=1).stderr
    assert tree(folder) == before
    run("finetune", "--resume", "--run", folder, cwd=place)
    assert json.loads((folder / "result.json").read_text())["last"]["step"] == 2


def test_drawn_rows_keep_the_order_of_the_file_without_shuffling(run, place):
    common = ["--set", "train={batch_size: 1, epochs: 1, lr: 1e-12, head_lr: 1e-12, log_every: 1, shuffle: false}", "--set", "model.dropout=0",
              "--set", "head.dropout=0", "--set", "data.dev=", "--set", "data.test=", "--set", "data.dev_share=0"]
    losses = {}
    for name, sets in {"all": [], "drawn": ["--set", "data.samples=9", "--set", "train.seed=5"]}.items():
        run("finetune", "lora.yaml", *common, *sets, "--set", "train.seed=5", "--run", f"runs/order-{name}", cwd=place)
        rows = [json.loads(line) for line in (place / f"runs/order-{name}/metrics.jsonl").read_text().splitlines()]
        losses[name] = [row["loss"] for row in rows if "loss" in row]
    assert len(losses["all"]) == len(ROWS) and len(losses["drawn"]) == 9
    places = [min(range(len(ROWS)), key=lambda i: abs(losses["all"][i] - loss)) for loss in losses["drawn"]]
    assert all(abs(losses["all"][i] - loss) < 1e-5 for i, loss in zip(places, losses["drawn"]))
    assert places == sorted(places) and len(set(places)) == 9
