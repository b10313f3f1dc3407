"""Every mistake of a user gives one clear line, the right exit code, and leaves nothing behind. One row of CASES per
mistake: to add one, write down the command, what is spoilt, and words that the message must hold."""
from __future__ import annotations

import json
import os
import shutil
import subprocess
import zipfile
from typing import Callable, NamedTuple

import pytest
import torch

from conftest import ROOT

GOOD_ROWS = [{"text": f"some words {i}", "label": i % 3 - 1.5 * (i % 2)} for i in range(24)]
PAIRS = [{"prompt": "apple is", "completion": " red today"}] * 4
TEXT_PAIRS = [{"text": f"some words {i}", "text_pair": f"other words {i}"} for i in range(24)]
RATINGS = "user,item,rating\na,x,1\na,y,5\nb,x,3\na,x,2\n"


class Case(NamedTuple):
    command: str
    words: list[str]                          # that the message must hold
    files: dict[str, str | bytes] = {}        # written over the good ones
    sets: list[str] = []                      # --set key=value
    spoil: Callable | None = None             # anything else that is done to the folder before
    code: int = 1
    writes: bool = False                      # what is found on the way leaves a run folder behind
    absent: str = ""                          # that it must not hold


def jsonl(rows):
    return "".join(json.dumps(row) + "\n" for row in rows)


CONFIGS = {
    "config.yaml": """model: {path: model.pt}
data: {task: regression, train: rows.jsonl, dev: rows.jsonl}
adapter: {method: lora, rank: 2}
train: {steps: 2, batch_size: 8}
""",
    "compare.yaml": """model: {path: model.pt}
data: {task: regression, train: rows.jsonl, dev: rows.jsonl, test: rows.jsonl, max_length: 24}
adapter: {targets: query-value}
train: {steps: 2, batch_size: 8}
compare:
  baseline: LoRA
  samples: [16]
  seeds: [1, 2]
  methods:
    - {name: LoRA, adapter: {method: lora, rank: 2}, lr: [1e-3, 1e-2]}
    - {name: Deep LoRA, adapter: {method: deep-lora, rank: 2}, lr: [1e-2]}
    - {name: head only, adapter: {method: none}}
""",
    "synthetic.yaml": "completion: {synthetic: {rows: 24, rank: 2, observed: 0.4}, rank: 4, depth: 3, optimizer: gd, "
                      "steps: 5}\n",
    "ratings.yaml": "completion: {train: ratings.csv}\n",
    "embedding.yaml": """model: {path: model.pt}
data: {task: embedding, train: texts.jsonl, dev: texts.jsonl}
adapter: {method: lora, rank: 2}
train: {steps: 1, batch_size: 8}
""",
    "lm.yaml": """model: {path: gpt2.pt}
data: {task: causal-lm, train: pairs.jsonl}
adapter: {method: lora, rank: 2}
train: {steps: 1, batch_size: 4}
""",
}


@pytest.fixture(scope="session")
def good(run, tiny_archive, tmp_path_factory):
    """A folder with good models, rows and configurations, and two finished runs."""
    folder = tmp_path_factory.mktemp("good")
    for name, content in {**CONFIGS, "rows.jsonl": jsonl(GOOD_ROWS), "pairs.jsonl": jsonl(PAIRS),
                          "texts.jsonl": jsonl(TEXT_PAIRS), "ratings.csv": RATINGS}.items():
        (folder / name).write_text(content)
    for name, archive in {"model": tiny_archive("bert", "encoder"), "gpt2": tiny_archive("gpt2"),
                          "t5": tiny_archive("t5")}.items():
        shutil.copy(archive, folder / f"{name}.pt")
    run("finetune", "config.yaml", "--run", "done", cwd=folder)
    run("finetune", "lm.yaml", "--run", "done-lm", cwd=folder)
    run("export", "done", "--to", "torchscript", "--output", "exported.pt", cwd=folder)
    return folder


@pytest.fixture()
def place(good, tmp_path):
    """A copy for a case to spoil."""
    return shutil.copytree(good, tmp_path / "place")


def without_tokenizer(place):
    source, target = place / "model.pt", place / "bare.pt"
    torch.jit.save(torch.jit.load(str(source)), str(target), _extra_files={"config.json": extra(source, "config.json")})
    os.replace(target, source)


def extra(path, name):
    with zipfile.ZipFile(path) as archive:
        return archive.read(next(n for n in archive.namelist() if n.endswith("/extra/" + name)))


def torch_save(place):
    torch.save({"weight": torch.zeros(2)}, place / "model.pt")


def truncate(place):
    data = (place / "model.pt").read_bytes()
    (place / "model.pt").write_bytes(data[: len(data) // 2])


def extra_files(path):
    with zipfile.ZipFile(path) as archive:
        return {n.partition("/extra/")[2]: archive.read(n) for n in archive.namelist() if "/extra/" in n}


def with_extra(name, model="model.pt", **values):
    """Keys of a JSON file that the archive brings along, set to `values`."""
    def spoil(place):
        files = extra_files(place / model)
        files[name] = json.dumps({**json.loads(files.get(name, b"{}")), **values})
        torch.jit.save(torch.jit.load(str(place / model)), str(place / "other.pt"), _extra_files=files)
        os.replace(place / "other.pt", place / model)
    return spoil


def with_json(file, **values):
    """The same for a file of a run."""
    def spoil(place):
        content = json.loads((place / file).read_text())
        (place / file).write_text(json.dumps({**content, **values}))
    return spoil


def with_weight(value):
    def spoil(place):
        module = torch.jit.load(str(place / "model.pt"))
        with torch.no_grad():
            dict(module.named_parameters())["model.encoder.layer.1.output.dense.weight"][3, 5] = value
        files = {name: extra(place / "model.pt", name) for name in ("config.json", "tokenizer.json", "export.json")}
        torch.jit.save(module, str(place / "other.pt"), _extra_files=files)
        os.replace(place / "other.pt", place / "model.pt")
    return spoil


def all_weights_moved(place):
    module = torch.jit.load(str(place / "model.pt"))
    with torch.no_grad():
        next(module.parameters()).add_(0.5)
    files = {name: extra(place / "model.pt", name) for name in ("config.json", "tokenizer.json", "export.json")}
    torch.jit.save(module, str(place / "other.pt"), _extra_files=files)
    os.replace(place / "other.pt", place / "model.pt")
    # the run would find the model beside the folder that this one was copied from
    (place / "done/places.json").unlink()


def unfinished(place):
    (place / "done" / "result.json").unlink()


def removed(name):
    return lambda place: (place / name).unlink()


def cut(name):
    return lambda place: (place / name).write_bytes((place / name).read_bytes()[:-9])


def flipped(name):
    def spoil(place):
        data = bytearray((place / name).read_bytes())
        data[len(data) // 2] ^= 1
        (place / name).write_bytes(bytes(data))
    return spoil


def folder_with_a_letter(place):
    (place / "foreign").mkdir()
    (place / "foreign" / "letter.txt").write_text("dear")


def spoil_extra(place, name, content):
    files = {**extra_files(place / "model.pt"), name: content}
    torch.jit.save(torch.jit.load(str(place / "model.pt")), str(place / "other.pt"), _extra_files=files)
    os.replace(place / "other.pt", place / "model.pt")


def cell_with(name, content):
    def spoil(place):
        cell = place / "run" / "cells" / "lora-n16-lr0.001-s1"
        cell.mkdir(parents=True)
        (cell / name).write_text(json.dumps(content))
    return spoil


def printed(config, setting):
    """The configuration as a run of it saves it."""
    program = os.environ.get("DEEPLORA_PROGRAM", str(ROOT / "build" / "deeplora"))
    done = subprocess.run([program, "complete", str(config), "--print-config", "--set", setting], capture_output=True,
                          text=True, cwd=config.parent, check=True)
    return done.stdout


def rated(place):
    (place / "rated").mkdir()
    (place / "rated" / "config.yaml").write_text("completion: {train: ratings.csv}\n")


def finished_part(result):
    def spoil(place):
        part = place / "sweep" / "runs" / "rank=2"
        part.mkdir(parents=True)
        for folder, setting in ((part, "completion.rank=2"), (place / "sweep", "completion.sweep={rank: [2, 3]}")):
            (folder / "config.yaml").write_text(printed(place / "synthetic.yaml", setting))
        (part / "result.json").write_text(json.dumps(result))
    return spoil


def peft_folder(**values):
    def spoil(place):
        (place / "peft").mkdir()
        settings = {"peft_type": "LORA", "r": 2, "lora_alpha": 4, "bias": "none"}
        (place / "peft" / "adapter_config.json").write_text(json.dumps({**settings, **values}))
    return spoil


FINETUNE, COMPARE, SYNTHETIC, RATING = ("finetune config.yaml --run run", "compare compare.yaml --run run",
                                        "complete synthetic.yaml --run run",
                                        "complete ratings.yaml --run run")


def finetune(words, *sets, **more):
    return Case(FINETUNE, words, sets=list(sets), **more)


def rows(content, words, *sets, name="rows.jsonl"):
    return Case(FINETUNE, words, files={name: content}, sets=list(sets))


def several(content, words, *sets):
    return rows(content, words, "data.task=multi-label", *sets)


def ranked(train, dev, words):
    return Case(FINETUNE, words, sets=["data.task=ranking", "data.dev=" + ("dev.jsonl" if dev else "")],
                files={"rows.jsonl": jsonl(train * 4), "dev.jsonl": jsonl(dev)})


def tagged(pairs, words, *sets, name="rows.jsonl"):
    """Rows of words and their tags, or the content of a file."""
    content = pairs if isinstance(pairs, str) else jsonl([{"tokens": tokens, "tags": tags} for tokens, tags in pairs])
    return Case(FINETUNE, words, files={name: content}, sets=["data.task=token-classification", f"data.train={name}",
                                                              "data.dev=", *sets])


def compare(words, *sets):
    return Case(COMPARE, words, sets=list(sets))


def synthetic(words, *sets, **more):
    return Case(SYNTHETIC, words, sets=list(sets), **more)


def ratings(words, *sets, **files):
    return Case(RATING, words, sets=list(sets), files={f"{name}.csv": content for name, content in files.items()})


def embedding(more, words, *sets, spoil=None):
    """Pairs, each with the further columns of `more`."""
    return Case("finetune embedding.yaml --run new", words, files={"texts.jsonl": jsonl({**row, **columns} for row,
        columns in zip(TEXT_PAIRS, more))}, sets=list(sets),
                spoil=spoil)


def language(words, *sets, command="finetune lm.yaml --run run", **more):
    return Case(command, words, sets=list(sets), **more)


def pairs(words, row, *sets, **more):
    """A second row of pairs that is wrong."""
    good = {"prompt": "apple is", "chosen": " red", "rejected": " blue"}
    rows = [good, {key: value for key, value in {**good, **row}.items() if value is not None}, good]
    return language(words, "data.task=preference", "data.train=two.jsonl", "data.dev_share=0", *sets,
                    files={"two.jsonl": jsonl(rows)}, **more)


def talk(*texts):
    return [{"role": role, "content": text} for role, text in zip(["user", "assistant"] * len(texts), texts)]


NO_RANKS = [f"compare.methods.{i}.adapter.rank=null" for i in (0, 1)]
TSV = ["data.train=data.tsv", "data.dev="]

CASES = {
    # the model
    "not TorchScript": rows(b"hello, no model", ["model.pt", "not a TorchScript file", "export_torchscript.py"],
                            name="model.pt"),
    "empty model file": rows(b"", ["model.pt", "0 bytes"], name="model.pt"),
    "torch.save checkpoint": finetune(["model.pt", "torch.save checkpoint"], spoil=torch_save),
    "truncated archive": finetune(["model.pt", "truncated or damaged"], spoil=truncate),
    "model is missing": finetune(["nowhere.pt", "does not exist"], "model.path=nowhere.pt"),
    "no tokenizer": finetune(["tokenizer", "input_ids", "model.tokenizer"], spoil=without_tokenizer),
    "tokenizer folder is missing": finetune(["model.tokenizer", "nowhere", "does not exist"],
                                            "model.tokenizer=nowhere"),
    "config.json of another model": finetune(["does not compute what the archive computes", "layer 0"],
                                             "model.backend=native", spoil=with_extra("config.json",
                                                 num_attention_heads=1)),
    "a NaN among the weights": finetune(["model.pt", "model.encoder.layer.1.output.dense.weight", "nan at [3, 5]",
                                         "1 of 2048"], spoil=with_weight(float("nan"))),
    "an infinity among the weights": finetune(["model.encoder.layer.1.output.dense.weight", "inf at [3, 5]"],
                                              spoil=with_weight(float("inf"))),
    "no such device": finetune(["model.device", "expected cpu, cuda or cuda:N"], "model.device=gpu"),
    "two rates of the only head": finetune(["train.lr is 0.1", "train.head_lr 0.2", "give train.lr alone"],
                                           "adapter={method: none}", "train.lr=0.1", "train.head_lr=0.2"),
    "unknown precision": finetune(["model.precision", "bfloat16", "float16"], "model.precision=float16"),
    "unknown bits": finetune(["model.quantize", "none", "int8", "nf4"], "model.quantize=int4"),
    "fewer bits of weights that train": finetune(["model.quantize", "adapter.method: full",
                                                  "trains the weights themselves", "quantize: none"],
                                                 "model.quantize=nf4", "adapter={method: full}"),
    "fewer bits by the graph backend": finetune(["model.quantize: nf4 needs a native model family", "bfloat16"],
                                                "model.quantize=nf4", "model.backend=graph"),
    "unknown output": finetune(["model.output", "nonsense"], "model.output=nonsense"),
    # values of another type in what an archive brings along
    "config.json: a word for a number": finetune(
        ['model.pt: config.json: num_attention_heads: expected a whole number, found "four"'],
                                                 "model.backend=native", spoil=with_extra("config.json",
                                                     num_attention_heads="four")),
    "config.json: a number for a word": finetune(["model.pt: config.json: model_type: expected a text, found 5"],
                                                 "model.backend=native",
                                                 spoil=with_extra("config.json", model_type=5)),
    "config.json: a list for a share": finetune(["config.json: hidden_dropout_prob: expected a number, found [0.1]"],
                                                "model.backend=native",
                                                spoil=with_extra("config.json", hidden_dropout_prob=[0.1])),
    "config.json: a share above 1": finetune(
        ["config.json: attention_probs_dropout_prob: expected a number from 0 to 1, found 7"],
                                             "model.backend=native", spoil=with_extra("config.json",
                                                 attention_probs_dropout_prob=7)),
    "config.json: heads beyond 64 bits": finetune(
        ["config.json: num_attention_heads: expected a whole number, found 1e+30"], "model.backend=native",
                                                  spoil=with_extra("config.json", num_attention_heads=1e30)),
    "config.json: a word for an id": finetune(['config.json: pad_token_id: expected a whole number, found "none"'],
                                              spoil=with_extra("config.json", pad_token_id="none")),
    "config.json: not JSON": finetune(["model.pt: config.json: not valid JSON"], spoil=lambda place: spoil_extra(place,
        "config.json", "{")),
    "export.json: a list for a word": finetune(['export.json: output: expected a text, found ["hidden"]'],
                                               spoil=with_extra("export.json", output=["hidden"])),
    "generation_config.json: a word for an id": language(
        ['gpt2.pt: generation_config.json: eos_token_id: expected a whole number, found "end"'],
                                                         spoil=with_extra("generation_config.json", "gpt2.pt",
                                                             eos_token_id="end")),
    "generation_config.json: a list of words": language(
        ["generation_config.json: eos_token_id: expected a list of whole numbers"],
                                                        spoil=with_extra("generation_config.json", "gpt2.pt",
                                                            eos_token_id=["end"])),
    "tokenizer_config.json: a template that is a number": language(
        ["tokenizer_config.json: chat_template: expected a text, found 5"],
                                                                   spoil=with_extra("tokenizer_config.json", "gpt2.pt",
                                                                       chat_template=5)),
    "tokenizer_config.json: a list of numbers": language(["tokenizer_config.json: chat_template: template is missing"],
                                                         spoil=with_extra("tokenizer_config.json", "gpt2.pt",
                                                             chat_template=[5])),
    "deeplora.json: a number for the task": Case("predict exported.pt --text x",
                                                 ["exported.pt: deeplora.json: task: expected a text, found 5"],
                                                 spoil=with_extra("deeplora.json", "exported.pt", task=5)),
    "deeplora.json: a list for settings": Case("predict exported.pt --text x",
                                               ["deeplora.json: data: expected an object, found [1]"],
                                               spoil=with_extra("deeplora.json", "exported.pt", data=[1])),
    "deeplora.json: numbers for names": Case("predict exported.pt --text x",
                                             ['deeplora.json: inputs: expected an object of texts, found '
                                              '{"input_ids":1}'],
                                             spoil=with_extra("deeplora.json", "exported.pt", inputs={"input_ids": 1})),
    "deeplora.json: no state of the task": Case("predict exported.pt --text x",
                                                ["deeplora.json: task_state: mean is missing"],
                                                spoil=with_extra("deeplora.json", "exported.pt",
                                                    task_state={"spread": 1})),
    # and in a run's own files
    "task.json: a word for a number": Case("evaluate done", ['task.json: state: mean: expected a number, found "high"'],
                                           spoil=with_json("done/task.json", state={"mean": "high", "spread": 1})),
    "task.json: no spread": Case("evaluate done", ["task.json: state: spread: expected a number above 0, found 0"],
                                 spoil=with_json("done/task.json", state={"mean": 1, "spread": 0})),
    "task.json: a list for the state": Case("predict done --text x", ["task.json: state: expected an object, found []"],
                                            spoil=with_json("done/task.json", state=[])),
    "task.json: a number for the fingerprint": Case("evaluate done",
                                                    ["task.json: fingerprint: expected a text, found 7"],
                                                    spoil=with_json("done/task.json", fingerprint=7)),
    "result.json of a compared cell": Case(COMPARE, ["lora-n16-lr0.001-s1/result.json: best: rmse: expected a number",
                                                     "to run that cell again"],
                                           spoil=cell_with("result.json", {"metric": "rmse", "best": {"rmse": "low"}}),
                                           writes=True),
    "diverged.json of a compared cell": Case(COMPARE, ["diverged.json: message: expected a text, found 3",
                                                       "to run that cell again"],
                                             spoil=cell_with("diverged.json", {"message": 3}), writes=True),
    "result.json of a part of a sweep": Case("complete synthetic.yaml --run sweep --resume",
                                             ["result.json: seconds: expected a number", "to run that part again"],
                                             sets=["completion.sweep={rank: [2, 3]}"],
                                             spoil=finished_part({"seconds": "long"}), writes=True),
    "adapter_config.json: a word for the rank": finetune(['adapter_config.json: r: expected a whole number, found "2"'],
                                                         "adapter.path=peft",
                                                         spoil=peft_folder(r="2")),
    # the configuration
    "unknown key": finetune(["train.learning_rate", "unknown key"], "train.learning_rate=1"),
    "unknown key of another trainer": finetune(
        ["train.per_device_train_batch_size: unknown key (did you mean 'train.batch_size'?)"],
                                               "train.per_device_train_batch_size=4"),
    "unknown key in the file": rows("model: {path: model.pt}\nadaptor: {rank: 3}\n",
                                    ["config.yaml:2: adaptor: unknown key", "did you mean 'adapter'"],
                                    name="config.yaml"),
    "key of another method": finetune(["adapter.depth", "unknown key"], "adapter.depth=3"),
    "unknown method": finetune(["adapter.method", "did you mean 'lora'"], "adapter.method=lroa"),
    "unknown task": finetune(["data.task", "did you mean 'regression'"], "data.task=regresion"),
    "unknown task, said alone": finetune(["error: --set data.task: expected one of classification", "found 'classify'"],
                                         "data.task=classify", "data.max_length=20", absent="unknown key"),
    "a run of ratings": Case("evaluate rated", ["rated is a run of ratings or matrices",
                                                "deeplora complete --run rated"], spoil=rated),
    "predict with a run of ratings": Case("predict rated --text x", ["deeplora complete --run rated"], spoil=rated),
    "target that matches nothing": finetune(["adapter.targets", "'qery' matches no weight", "did you mean 'query'"],
                                            "adapter.targets=qery"),
    "rank 0": finetune(["adapter.rank", "at least 1"], "adapter.rank=0"),
    "rank above the matrix": finetune(["rank", "4096", "query.weight"], "adapter.rank=4096"),
    "depth 1": finetune(["adapter.depth", "at least 2"], "adapter.method=deep-lora", "adapter.depth=1"),
    "broken YAML": rows("model: {path\n", ["config.yaml:", "YAML"], name="config.yaml"),
    "configuration is missing": finetune(["config.yaml", "does not exist"], spoil=removed("config.yaml")),
    "--set without a value": finetune(["--set train.lr", "key=value"], "train.lr"),
    "number expected": finetune(["train.lr", "expected a number, found fast"], "train.lr=fast"),
    "a learning rate that is no number": finetune(["train.lr", "above 0"], "train.lr=.nan"),
    "several at once": finetune(["train.lr", "adapter.rank", "data.tset"], "train.lr=fast", "adapter.rank=0",
                                "data.tset=x"),
    # the data
    "text label in a regression": rows(jsonl(GOOD_ROWS[:5] + [{"text": "x", "label": "good"}]),
                                       ["rows.jsonl:6", "label", "expected a number, found 'good'"]),
    "NaN as label": rows(jsonl(GOOD_ROWS[:5] + [{"text": "x", "label": "NaN"}]), ["rows.jsonl:6", "label",
        "expected a number, found 'NaN'"]),
    "infinite label": rows(jsonl(GOOD_ROWS[:5] + [{"text": "x", "label": "inf"}]), ["rows.jsonl:6", "label",
        "found 'inf'"]),
    "NaN as JSON": rows(jsonl(GOOD_ROWS[:5]) + '{"text": "x", "label": NaN}\n', ["rows.jsonl:6", "JSON"]),
    "one label only": rows(jsonl([{"text": "x", "label": "a"}] * 9), ["only one label, 'a'"],
                           "data.task=classification"),
    "labels that are a list in one row and a text in another": several(jsonl([{"text": "x", "label": ["a", "b"]}] * 4
        + [{"text": "y", "label": "a,b"}]),
        ['rows.jsonl:5: label: a text ("a,b"), but rows.jsonl:1 has a list', "in one way"]),
    "a list of labels that is no JSON": several(jsonl([{"text": "x", "label": "['a', 'b']"}] * 4),
                                                ["rows.jsonl:1: label: begins with [, but is no list in JSON",
                                                 "(4 rows"]),
    "a label within a label": several(jsonl([{"text": "x", "label": [["a"], "b"]}] * 4),
                                      ["rows.jsonl:1: label: expected a list of names", '["a"]']),
    "an empty label among others": several(jsonl([{"text": "x", "label": "a,,b"}] * 4),
                                           ["rows.jsonl:1: label: an empty label among others"]),
    "one label in several": several(jsonl([{"text": "x", "label": ["a"]}, {"text": "x", "label": []}] * 4),
                                    ["only one label, 'a'", "data.label_separator: ','"]),
    "no labels at all": several(jsonl([{"text": "x", "label": []}] * 4),
                                ["no training row has a label (column label)"]),
    "tags of too few words": tagged([(["Anna", "left"], ["B-PER"])] * 4,
                                    ["rows.jsonl:1: tags: 1 tag for 2 words in tokens; expected a tag for every word "
                                     "(4 rows, the last rows.jsonl:4)"]),
    "tags that are a list in one row and a text in another": tagged([(["Anna", "left"], ["B-PER", "O"])] * 4
        + [(["Anna", "left"], "B-PER O")],
                                                                    ["rows.jsonl:5: tags: expected a list of tags, "
                                                                     "found a text", '"B-PER O"']),
    "words that are a text": tagged([("Anna left", ["B-PER", "O"])] * 4,
                                    ["rows.jsonl:1: tokens: expected a list of words, found a text", '"Anna left"']),
    "no words": tagged([(["Anna"], ["B-PER"]), ([], [])],
                       ["rows.jsonl:2: tokens: an empty list; expected at least one word"]),
    "an empty tag": tagged([(["Anna"], [" "])] * 4, ["rows.jsonl:1: tags: tag 1 is empty"]),
    "an inner tag without its first": tagged([(["Anna", "left"], ["B-PER", "O"])] * 4
                                             + [(["Anna", "left"], ["I-PER", "O"])],
                                             ["rows.jsonl:5: tags: tag 1, 'I-PER', follows nothing",
                                              "data.tag_scheme: iob2"], "data.tag_scheme=iob2"),
    "tags of two schemes": tagged([(["Anna", "left"], ["B-PER", "O"]), (["Oslo", "Anna"], ["LOC", "O"])],
                                  ["column tags: tags of mixed schemes: 'B-PER' (rows.jsonl:1)", "'LOC' (rows.jsonl:2)",
                                   "data.tag_scheme: plain"]),
    "one tag alone": tagged([(["Anna"], ["O"])] * 4, ["only one tag, 'O' (column tags)"]),
    "a score of entities for plain tags": tagged([(["Anna", "left"], ["NOUN", "VERB"])] * 4,
                                                 ["data.metric: f1: it is one of entities"], "data.metric=f1"),
    "a pooling for tags": tagged([(["Anna", "left"], ["B-PER", "O"])] * 4,
                                 ["model.pooling: cls: a head for tokens reads every state"], "model.pooling=cls"),
    "a column of words alone": tagged("Anna\nleft\n", ["rows.conll:1: one column; expected a word and its tag"],
                                      name="rows.conll"),
    "columns of several lengths": tagged("Anna B-PER\nleft O x\n\nOslo B-LOC\n",
                                         ["rows.conll:1: line 2 has 3 columns, expected 2 as in line 1"],
                                         name="rows.conll"),
    "a column of tags that is not there": tagged("Anna B-PER\n",
                                                 ["data.label_column: 4 is beyond the 2 columns of rows.conll:1"],
                                                 "data.label_column=4", name="rows.conll"),
    "weights of no label": several(jsonl([{"text": "x", "label": ["a", "b"]}] * 4),
                                   ["data.class_weights: 'c' is no label; known: a, b"], "data.class_weights={c: 2}"),
    "no query with a relevant text": ranked([{"query": "a", "text": "x", "label": 1}],
                                            [{"query": "b", "text": "x", "label": 0}, {"query": "b", "text": "y",
                                                "label": 0}],
                                            ["data.dev: no query has a relevant text (label above 0)", "dev.jsonl:1"]),
    "no relevant row to train on": ranked([{"query": "a", "text": "x", "label": 0}], [],
                                          ["none of the 4 training rows is relevant (column label above 0)"]),
    "a relevance below 0": ranked([{"query": "a", "text": "x", "label": -1}], [],
                                  ["rows.jsonl:1: label: expected how relevant the text is, a number from 0, found "
                                   "'-1'"]),
    "a ranking without queries": ranked([{"question": "a", "text": "x", "label": 1}], [],
                                        ["no field 'query'", "set data.query"]),
    "missing column": finetune(["rows.jsonl", "sentense"], "data.text=sentense"),
    "one mistake in every row": rows(jsonl([{"review": "x", "label": i} for i in range(50)]),
                                     ["data.train: rows.jsonl:1: set data.text: ...; no field 'text'; fields there: "
                                      "review, label (50 rows, the last rows.jsonl:50)"]),
    "one value in many rows": rows(jsonl(GOOD_ROWS + [{"text": "x", "label": "good"}] * 30),
                                   ["rows.jsonl:25: label: expected a number, found 'good'", "(30 rows"]),
    "a header or a row": rows("kind\tphrase\n" + "a\tit is so\nb\tit is not\n" * 4,
                              ["data.tsv:1: set data.header: true or false", "(kind | phrase)"], *TSV,
                              "data.text=1", "data.label=0", name="data.tsv"),
    "a table that several separators fit": rows("a;b,1\nc;d,2\n", ["set data.separator to one of ,, ;"],
                                                "data.train=data.csv", "data.dev=", "data.text=0", "data.label=1",
                                                name="data.csv"),
    "an unknown separator": finetune(["data.separator: expected auto, comma", "found 'comm'"], "data.separator=comm",
                                     *TSV, files={"data.tsv": "text\tlabel\n"}),
    "a separator for JSON": finetune(["data.separator: ';' applies to TSV and CSV only", "rows.jsonl is read as jsonl"],
                                     "data.separator=;"),
    "an unknown encoding": finetune(["data.encoding", "did you mean 'utf-8'"], "data.encoding=utf8"),
    "Windows-1252": rows("text\tlabel\ncaf\u00e9\t1\n".encode("cp1252"), ["data.tsv:2: not valid UTF-8",
        "data.encoding: cp1252"], *TSV, name="data.tsv"),
    "UTF-16 without a mark": rows("text\tlabel\na\t1\n".encode("utf-16-le"), ["data.tsv:1: a NUL byte",
        "data.encoding: utf-16"], *TSV, name="data.tsv"),
    "an open quote": rows("text,label\n\"a,1\n", ["data.csv:2: a quote is opened and never closed",
                                                  "data.quoting: none"], "data.train=data.csv", "data.dev=",
                          name="data.csv"),
    "short rows": rows("text\tlabel\n" + "a b\t1\n" * 30 + "c\n" * 2,
                       ["data.tsv:32: 1 columns, expected 2 as in line 1 (2 rows, the last data.tsv:33)",
                                                                     "data.bad_rows: skip"], *TSV, name="data.tsv"),
    "too many bad rows": rows("text\tlabel\n" + "a b\t1\n" * 30 + "c\n" * 2,
                              ["2 of 32 rows cannot be read, more than data.bad_rows_share: 0.01"], *TSV,
                              "data.bad_rows=skip", name="data.tsv"),
    "a share of all rows": finetune(["data.bad_rows_share", "from 0 to below 1"], "data.bad_rows_share=1"),
    "an open list of rows": rows('[{"text": "a", "label": 1},', ["data.json:1: the list of rows is never closed"],
                                 "data.train=data.json", "data.dev=", name="data.json"),
    "missing label column": rows(jsonl([{"text": "x"}] * 9), ["rows.jsonl", "label"]),
    "empty file": rows(b"", ["rows.jsonl", "no rows"]),
    "too few rows": finetune(["data.samples", "24 rows", "5000"], "data.samples=5000"),
    "invalid UTF-8": rows(b'{"text": "a\xff", "label": 1}\n', ["rows.jsonl:1", "UTF-8"]),
    "invalid JSON": rows('{"text": "a", "label": 1}\n{"text": \n', ["rows.jsonl:2", "JSON"]),
    "data file is missing": finetune(["nowhere.jsonl", "does not exist"], "data.train=nowhere.jsonl"),
    "a share of a file beside another": finetune(["data.dev_share", "is given beside",
                                                  "data.dev; take one of them out"], "data.dev_share=0.1"),
    "a share above a half": finetune(["data.test_share: expected a number from 0 to 0.5, found 0.6"],
                                     "data.test_share=0.6"),
    "a share of equal rows": rows(jsonl([{"text": "x", "label": i % 3} for i in range(30)]),
                                  ["data.dev_share: 0.1: no row of rows.jsonl can be drawn"], "data.dev=",
                                  "data.dev_share=0.1"),
    "nothing that tells the task": rows("body,stars\n" + "a b,1\n" * 9, ["no column 'label' tells the task", "--label",
        "columns there"], "data.train=data.csv", "data.dev=", "data.task=",
                                        "data.header=true", name="data.csv"),
    "training rows of nobody": finetune(["data.train"], "data.train="),
    # runs that are there
    "a folder that holds a run": Case("finetune config.yaml --run done", ["done", "--resume"]),
    "a folder that holds something else": Case("finetune config.yaml --run foreign", ["foreign", "letter.txt"],
                                               spoil=folder_with_a_letter),
    "a run folder that is a file": Case("finetune config.yaml --run rows.jsonl", ["rows.jsonl", "is a file"]),
    "resuming what is not there": Case("finetune config.yaml --run nowhere --resume", ["nowhere", "does not exist"]),
    "resuming with another method": Case("finetune config.yaml --run done --resume", ["adapter.alpha was", "99"],
                                         sets=["adapter.alpha=99"], spoil=unfinished),
    "resuming with another learning rate": Case("finetune config.yaml --run done --resume", ["train.lr was"],
                                                sets=["train.lr=0.5"], spoil=unfinished),
    "resuming with another model": Case("finetune config.yaml --run done --resume", ["weights of the model was"],
                                        spoil=all_weights_moved),
    "resuming with other rows": Case("finetune config.yaml --run done --resume", ["rows of data.train"],
                                     files={"rows.jsonl": jsonl(GOOD_ROWS[1:])}),
    "evaluate with another model": Case("evaluate done", ["fingerprint", "put the original model back"],
                                        spoil=all_weights_moved),
    "predict with another model": Case("predict done --text x", ["fingerprint"], spoil=all_weights_moved),
    "export with another model": Case("export done --to torchscript --output m.pt", ["fingerprint"],
                                      spoil=all_weights_moved),
    "evaluate what is no run": Case("evaluate foreign", ["not a run folder"], spoil=folder_with_a_letter),
    "predict with what is no run": Case("predict foreign --text x", ["not a run folder"], spoil=folder_with_a_letter),
    "export what is not there": Case("export nowhere --to peft --output p", ["nowhere", "does not exist"]),
    "predict with what is no export": Case("predict model.pt --text x", ["was not exported by deeplora"]),
    "a PEFT folder with the name of a file": Case("export done --to peft --output x.safetensors",
                                                  ["a PEFT adapter is a folder", "name one without .safetensors"]),
    "a TorchScript file with the name of a folder": Case("export done --to torchscript --output merged",
                                                         ["a TorchScript model is a file", ".pt"]),
    "steps that blow up": finetune(["last good checkpoint", "lower train.lr"], "train.lr=1e30", "train.clip=0",
                                   "train.steps=20", writes=True),
    "export over a file": Case("export done --to torchscript --output rows.jsonl", ["rows.jsonl", "exists already"]),
    "export into a folder that is not there": Case("export done --to torchscript --output nowhere/m.pt",
                                                   ["nowhere", "does not exist"]),
    "adapter is missing": Case("evaluate done", ["done", "adapter.safetensors", "--resume"],
                               spoil=removed("done/adapter.safetensors")),
    "adapter is cut": Case("evaluate done", ["adapter.safetensors"], spoil=cut("done/adapter.safetensors")),
    "task of the run is damaged": Case("evaluate done", ["task.json", "not valid JSON"], files={"done/task.json": "{"}),
    "rows to score are missing": Case("evaluate done --data nowhere.jsonl", ["nowhere.jsonl", "does not exist"]),
    "rows to predict are missing": Case("predict done --input nowhere.jsonl", ["nowhere.jsonl", "does not exist"]),
    "a key that cannot change after training": Case("predict done-lm --prompt x", ["data section"],
                                                    sets=["adapter.rank=2"]),
    "sampling without a temperature": Case("predict done-lm --prompt x --top-p 0.5", ["top_p"]),
    # comparisons
    "compare: unknown key": compare(["compare.seed: unknown key", "did you mean 'seeds'"], "compare.seed=[1]"),
    "compare: unknown method": compare(["did you mean 'deep-lora'"], "compare.methods.1.adapter.method=deep-lroa"),
    "compare: unknown key of a method": compare(["adapter.alhpa: unknown key"], "compare.methods.1.adapter.alhpa=3"),
    "compare: unknown key beside a method": compare(["compare.methods.1.rate: unknown key"],
                                                    "compare.methods.1.rate=3"),
    "compare: unknown baseline": compare(["compare.baseline", "did you mean 'LoRA'"], "compare.baseline=Lora"),
    "compare: same name twice": compare(["two methods are called 'LoRA'"], "compare.methods.1.name=LoRA"),
    "compare: no seeds": compare(["compare.seeds: expected at least one seed"], "compare.seeds=[]"),
    "compare: a seed twice": compare(["compare.seeds: expected different values"], "compare.seeds=[1,1]"),
    "compare: no count of seeds": compare(["compare.seeds", "how many"], "compare.seeds=0"),
    "compare: seeds that are no numbers": compare(["compare.seeds"], "compare.seeds=many"),
    "compare: seeds of two places": compare(["compare.seeds", "train.seed", "take one of them out"], "train.seed=77"),
    "compare: a seed of a method": compare(["compare.seeds", "compare.methods.1.train.seed"],
                                           "compare.methods.1.train={seed: 3}"),
    "compare: learning rates of a method in two places": compare(["compare.methods.0.lr", "compare.methods.0.train.lr"],
        "compare.methods.0.train={lr: 0.5}"),
    "compare: learning rates of all in two places": compare(["compare.lr", "train.lr", "take one of them out"],
                                                            "compare.lr=[1e-3,1e-2]", "train.lr=0.5"),
    "compare: a learning rate that nobody takes": compare(["every method has learning rates of its own", "train.lr",
                                                           "take it out"], "train.lr=0.5", "compare.methods.2.lr=0.1"),
    "compare: learning rates that nobody takes": compare(["every method has learning rates of its own", "compare.lr"],
                                                         "compare.lr=0.5", "compare.methods.2.lr=0.1"),
    "compare: two rates of a head": compare(["compare.methods.2.lr", "compare.methods.2.train.head_lr"],
                                            "compare.methods.2.train={head_lr: 0.5}", "compare.methods.2.lr=0.1"),
    "compare: steps of two places": compare(["compare.steps", "train.steps", "take one of them out"],
                                            "compare.steps=9"),
    "compare: evaluations of two places": compare(["compare.evaluations", "train.eval_every"], "compare.evaluations=2",
                                                  "train.eval_every=1"),
    "compare: ranks of two places": compare(["compare.ranks", "compare.methods.0.adapter.rank"], "compare.ranks=[2,4]"),
    "compare: samples of two places": compare(["compare.samples", "data.samples"], "data.samples=20"),
    "compare: negative learning rate": compare(["lr: expected numbers above 0"], "compare.methods.0.lr=[-1]"),
    "compare: steps for other sizes": compare(["compare.steps"], "compare.steps=[1,2,3]"),
    "compare: no methods": compare(["compare.methods: expected a list of methods"], "compare.methods=[]"),
    "compare: a method that is a word": compare(["compare.methods.0: expected keys below it"],
                                                "compare.methods=[lora]"),
    "compare: no test rows": compare(["data.test: a comparison scores on test rows"], "data.test="),
    "compare: no dev rows": compare(["data.dev: a comparison chooses learning rates on dev rows"], "data.dev="),
    "compare: a rank that no weight has": compare(["rank", "4000"], "compare.ranks=[2,4000]", *NO_RANKS),
    "compare: more rows than there are": compare(["data.samples: 4000"], "compare.samples=[16,4000]"),
    "compare: a shared key that nobody has": compare(["adapter.gamma: no compared method has this key"],
                                                     "adapter.gamma=1"),
    "compare: model is missing": compare(["nowhere.pt", "does not exist"], "model.path=nowhere.pt"),
    "compare: half a rank": compare(["rank", "2.5"], "compare.ranks=[5]", *NO_RANKS,
                                    "compare.methods.0.rank_scale=0.5"),
    # completion
    "complete: no target": Case(SYNTHETIC, ["completion.train", "synthetic: {rows: 100}"],
                                files={"synthetic.yaml": "completion: {}\n"}),
    "complete: unknown key": synthetic(["optimiser", "optimizer"], "completion.optimiser=gd"),
    "complete: unknown method": synthetic(["completion.method", "compressed"], "completion.method=compresed"),
    "complete: depth 1": synthetic(["completion.depth", "2"], "completion.depth=1"),
    "complete: compressed beyond the matrix": synthetic(["completion.rank", "at most 12", "found 13"],
                                                        "completion.method=compressed", "completion.rank=13"),
    "complete: gradient that auto has not": synthetic(["completion.gradient"], "completion.optimizer=auto",
                                                      "completion.gradient=feedback-alignment"),
    "complete: learning rate that auto has not": synthetic(["completion.lr"], "completion.optimizer=auto",
                                                           "completion.lr=0.1"),
    "complete: unknown key of a sweep": synthetic(["widht", "width"], "completion.sweep={widht: [1, 2]}"),
    "complete: a variant without a value": synthetic(["completion.variants", "key=value"],
                                                     "completion.variants=[method]"),
    "complete: rank above the matrix": synthetic(["completion.synthetic.rank", "24"], "completion.synthetic.rank=30"),
    "complete: nothing observed": synthetic(["completion.synthetic.observed"], "completion.synthetic.observed=0"),
    "complete: steps that blow up": synthetic(["the loss is", "at iteration", "last good checkpoint: none",
                                               "completion.lr"], "completion.lr=1e6", "completion.steps=100",
                                              writes=True),
    "ratings: file is missing": ratings(["completion.train nowhere.csv", "does not exist"],
                                        "completion.train=nowhere.csv"),
    "ratings: range upside down": ratings(["completion.range", "[lowest, highest]"], "completion.range=[5, 1]"),
    "ratings: outside the range": ratings(["lie outside the declared range [1, 2]", "out_of_range"],
                                          "completion.range=[1, 2]"),
    "ratings: duplicates": ratings(["rated more than once", "(a, x)"], "completion.duplicates=error"),
    "ratings: no times": ratings(["needs a time for every rating"], "completion.split=time"),
    "ratings: folds and a test part": ratings(["completion.folds", "cross-validation makes its own"],
                                              "completion.folds=3", "completion.test_share=0.2"),
    "ratings: unknown column": ratings(["no column 'usr'", "did you mean 'user'"], "completion.columns={row: usr}"),
    "ratings: and a synthetic target": ratings(["completion.synthetic.rows"], "completion.synthetic={rows: 10}"),
    "ratings: a word": ratings(["ratings.csv:6", "expected a number as rating, found 'good'"], ratings=RATINGS
                               + "b,y,good\n"),
    "ratings: an infinity": ratings(["ratings.csv:6", "the rating is infinite"], ratings=RATINGS + "b,y,inf\n"),
    "ratings: nothing given": Case(RATING, ["completion.train", "expected a file of ratings"],
                                   files={"ratings.yaml": "completion: {rank: 3}\n"}),
    # language models
    "seq2seq model as causal-lm": language(["use seq2seq"], "model.path=t5.pt"),
    "causal model as seq2seq": language(["use causal-lm"], "data.task=seq2seq", "data.text=prompt",
                                        "data.target=completion"),
    "encoder as causal-lm": language(["causal"], "model.path=model.pt"),
    "no head to train": language(["trains the head only"], spoil=lambda place: (place / "lm.yaml").write_text(
        CONFIGS["lm.yaml"].replace("method: lora, rank: 2", "method: none"))),
    "no target column": language(["no field 'target'"], "model.path=t5.pt", "data.task=seq2seq", "data.text=prompt"),
    "no completion column": language(["data.completion"], "data.completion=answer"),
    "prompts that leave no room": language(["too_long"], "data.max_length=3"),
    # vectors of texts
    "a triplet whose negative is its positive": embedding([{"negative": f"wrong {i}"} for i in range(23)]
                                                          + [{"negative": "other words 23"}],
                                                          ["texts.jsonl:24", "negative: is the same text as "
                                                                             "text_pair"]),
    "a score that is no number": embedding([{"label": i} for i in range(23)] + [{"label": "high"}],
                                           ["texts.jsonl:24", "label: expected a number, found 'high'"]),
    "a pair without its other text": embedding([{}] * 23 + [{"text_pair": None}],
                                               ["texts.jsonl:24", "text_pair: expected a text, found null"]),
    "no column of partners": embedding([{}] * 24, ["set data.text_pair", "no field 'partner'",
                                                   "fields there: text, text_pair"], "data.text_pair=partner"),
    "pairs and triplets in one file": embedding([{}] * 23 + [{"negative": "wrong"}],
                                                ["texts.jsonl:24: is a triplet, but texts.jsonl:1 is a pair"]),
    "scores and negatives": embedding([{"negative": "wrong", "label": 1}] * 24, ["texts.jsonl:1", "has a hard negative",
        "data.negative or data.label"]),
    "mnr on scored pairs": embedding([{"label": i} for i in range(24)], ["data.loss: mnr takes pairs or triplets"],
                                     "data.loss=mnr"),
    "cosent without scores": embedding([{}] * 24, ["data.loss: cosent takes scored pairs"], "data.loss=cosent"),
    "scores that no cosine is": embedding([{"label": i} for i in range(24)], ["from -1 to 1", "data.score_range"],
                                          "data.loss=cosine"),
    "negatives for cosine": embedding([{"label": 0.5}] * 24, ["data.negatives_batch"], "data.loss=cosine",
                                      "data.negatives_batch=9"),
    "a temperature of 0": embedding([{}] * 24, ["data.temperature", "above 0"], "data.temperature=0"),
    "wider than the vectors": embedding([{}] * 24, ["data.matryoshka: 4096", "entries"], "data.matryoshka=[4096]"),
    "vectors without a head to train": embedding([{}] * 24, ["trains the head only"],
                                                 spoil=lambda place: (place / "embedding.yaml").write_text(
        CONFIGS["embedding.yaml"].replace("method: lora, rank: 2", "method: none"))),
    "vectors of a language model": embedding([{}] * 24, ["language model", "hidden states"], "model.path=gpt2.pt"),
    "vectors of a task without": Case("predict done --input rows.jsonl --output x.npy", ["x.npy", "vectors of texts",
        "regression"]),
    # pairs of answers
    "pairs: equal answers": pairs(["two.jsonl:2: chosen and rejected are the same", "leave the row out"],
                                  {"rejected": " red"}),
    "pairs: an empty answer": pairs(["two.jsonl:2: rejected: an empty answer"], {"rejected": ""}),
    "pairs: no rejected column": pairs(["two.jsonl:2", "rejected", "data.rejected"], {"rejected": None}),
    "pairs: a column of another name": pairs(["two.jsonl:1", "'worse'", "data.rejected"], {}, "data.rejected=worse"),
    "pairs: a prompt of another name": pairs(["two.jsonl:2: no column 'prompt' and no messages; found question",
                                              "data.prompt"],
                                             {"prompt": None, "question": "apple is", "chosen": "it is red",
                                              "rejected": "it is blue"}),
    "pairs: answers that leave no room": pairs(["two.jsonl:2: the answer has", "data.too_long"],
                                               {"chosen": " red" * 40}, "data.max_length=24"),
    "pairs: a user's last word": pairs(["two.jsonl:2: rejected: the last message is of the user",
                                        "expected an answer of the assistant"],
                                       {"prompt": None, "chosen": talk("a", "b"), "rejected": talk("a", "c", "d")},
                                       "data.chat_template=chatml"),
    "pairs: two questions": pairs(["two.jsonl:2: chosen and rejected begin with different messages"],
                                  {"prompt": None, "chosen": talk("a", "b"), "rejected": talk("c", "d")},
                                  "data.chat_template=chatml"),
    "pairs: a text and messages": pairs(
        ["two.jsonl:2: chosen and rejected: expected two texts or two lists of messages"], {"chosen": talk("a", "b")}),
    "pairs: no message": pairs(["two.jsonl:2: chosen", "expected a list of"],
                               {"chosen": [], "rejected": talk("a", "b")}),
    "pairs: no template": pairs(["two.jsonl:2", "chat template", "data.chat_template"], {"chosen": talk("a", "b"),
        "rejected": talk("a", "c")}),
    "pairs: an encoder": pairs(["data.task: preference needs", "causal"], {}, "model.path=model.pt"),
    "pairs: a sequence-to-sequence model": pairs(["data.task: preference needs a causal language model"], {},
                                                 "model.path=t5.pt"),
    "pairs: unknown loss": pairs(["data.loss", "dpo", "orpo"], {}, "data.loss=ipo"),
    "pairs: beta 0": pairs(["data.beta", "above 0"], {}, "data.beta=0"),
    "pairs: a metric of texts": pairs(["data.metric", "accuracy"], {}, "data.metric=rouge1"),
    "pairs: references": pairs(["data.references"], {}, "data.references=more"),
    # usage
    "no command": Case("", [], code=2),
    "unknown command": Case("finetun", ["unknown command 'finetun' (did you mean 'finetune'?)"], code=2),
    "unknown option of another trainer": Case("finetune --learning_rate 1",
                                              ["unknown option --learning_rate (did you mean '--lr'?)"], code=2),
    "steps and epochs": Case("finetune --model m --train t --steps 1 --epochs 1", ["--steps", "--epochs"], code=2),
    "resuming nothing": Case("finetune --resume", ["--run"], code=2),
    "a learning rate to be found without dev": finetune(["train.lr: auto chooses on dev rows"], "train.lr=auto",
                                                        "data.dev=", "data.dev_share=0"),
    "compare: a learning rate to be found": compare(["cannot be auto", "train.lr", "list some"], "train.lr=auto"),
    "half a command": Case("export x", ["--output"], code=2),
    "unknown option": Case("finetune --frobnicate", ["--frobnicate"], code=2),
    "no configuration": Case("finetune", ["CONFIG"], code=2),
    "unknown export form": Case("export done --to onnx --output m", ["unknown export form 'onnx'", "torchscript"]),
    "misspelt export form": Case("export done --to safetensor --output m", ["did you mean 'safetensors'"]),
    "a finished run and a configuration": Case("complete ratings.yaml --run done --top 3", ["--run", "without CONFIG"],
                                               code=2),
}


def one_line(done):
    lines = [line for line in done.stderr.splitlines() if line.startswith("error: ")]
    assert len(lines) == 1, done.stderr
    assert done.stderr.rstrip().splitlines()[-1] == lines[0], "the error is not the last line"
    assert "Exception raised" not in done.stderr and "frame #" not in done.stderr
    return lines[0]


def listing(place):
    return {str(p.relative_to(place)): p.stat().st_size for p in place.rglob("*") if p.name != ".lock" and p.is_file()}


@pytest.mark.parametrize("name", CASES)
def test_a_mistake_is_one_line_and_leaves_nothing_behind(name, run, place):
    case = CASES[name]
    for file, content in case.files.items():
        (place / file).write_bytes(content if isinstance(content, bytes) else content.encode())
    if case.spoil:
        case.spoil(place)
    before = listing(place)
    done = run(*case.command.split(), *[part for one in case.sets for part in ("--set", one)], code=case.code,
               cwd=place)
    message = one_line(done) if case.code == 1 else done.stderr
    assert message
    for word in case.words:
        assert word in message, message
    assert not case.absent or case.absent not in message, message
    if not case.writes:
        assert listing(place) == before


def test_help_and_version_are_exit_code_0(run):
    assert torch.__version__.split("+")[0] in run("--version").stdout
    for command in ("inspect", "finetune", "evaluate", "predict", "compare", "export", "complete"):
        assert "Example:" in run(command, "--help").stdout
