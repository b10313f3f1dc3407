"""Hugging Face folders as model.path. Oracles: the archive of the same folder, and transformers."""
from __future__ import annotations

import json
import shutil

import pytest
import safetensors.torch
import torch
import transformers

from test_finetune import predictions, result, rows, tokenize  # noqa: F401  (rows is a fixture)

NATIVE = ["bert", "bert-classifier", "roberta", "distilbert", "deberta-v2", "modernbert", "gpt2", "llama", "mistral",
          "qwen2", "t5"]


def task_of(name, rows, folder):
    """The `data` section of a small task that the model can do, and the archive's task."""
    if name == "t5":
        path = folder / "pairs.jsonl"
        path.write_text("".join(json.dumps({"text": f"say {w} twice", "target": f"{w} {w}"}) + "\n"
                                for w in ("one", "two", "red", "blue", "old", "new", "big", "small")))
        return f"{{task: seq2seq, train: {path}, dev: {path}, max_length: 24}}", "seq2seq"
    if name in ("gpt2", "llama", "mistral", "qwen2"):
        path = folder / "texts.txt"
        path.write_text("".join(f"the {w} house is {v}\n" for w in ("red", "blue", "old", "new") for v
                                in ("big", "small")))
        return f"{{task: causal-lm, train: {path}, dev: {path}, max_length: 24}}", "causal-lm"
    kind = "classification"
    return (f"{{task: {kind}, train: {rows[kind, 'train']}, dev: {rows[kind, 'dev']}, max_length: 24}}",
            "classifier" if name == "bert-classifier" else "encoder")


def finetune(run, tmp_path, model, data, out, *settings, method="full", steps=6, code=0):
    config = tmp_path / f"{out}.yaml"
    config.write_text(f"model: {{path: {model}, dropout: 0}}\ndata: {data}\nadapter: {{method: {method}}}\n"
                      f"head: {{dropout: 0}}\n"
                      f"train: {{steps: {steps}, batch_size: 4, eval_every: 3, log_every: 1, seed: 5, lr: 1e-3}}\n")
    done = run("finetune", config, "--run", tmp_path / out, *settings, code=code)
    if code != 0:
        return done
    return [{k: v for k, v in json.loads(line).items() if "second" not in k and "memory" not in k and "rss" not in k
             and "time" not in k}
            for line in (tmp_path / out / "metrics.jsonl").read_text().splitlines()]


def with_tokenizer_json(folder, tmp_path):
    """A copy with the file that published Mistral folders have: of a bare tokenizer.model under LlamaTokenizer's name,
    transformers 5 makes another tokenizer for this model type than for Llama's."""
    out = tmp_path / "with_tokenizer"
    shutil.copytree(folder, out)
    transformers.AutoTokenizer.from_pretrained(folder).save_pretrained(out)
    return out


def two_labels(folder, tmp_path):
    """bert-classifier has three labels; the rows here have two."""
    model = transformers.AutoModelForSequenceClassification.from_pretrained(
        folder, num_labels=2, ignore_mismatched_sizes=True, id2label={0: "negative", 1: "positive"},
        label2id={"negative": 0, "positive": 1})
    out = tmp_path / "two_labels"
    shutil.copytree(folder, out)
    model.save_pretrained(out)
    return out


@pytest.mark.parametrize("name", NATIVE)
def test_a_folder_trains_as_the_archive_of_the_folder_does(name, run, rows, tmp_path, tiny_folder):
    import export_torchscript

    folder = with_tokenizer_json(tiny_folder(name), tmp_path) if name == "mistral" else tiny_folder(name)
    if name == "bert-classifier":
        folder = two_labels(folder, tmp_path)
    data, task = task_of(name, rows, tmp_path)
    export_torchscript.export(str(folder), str(tmp_path / "m.pt"), task, None)
    # The archive of an encoder has no place for the family's own head.
    of_folder = finetune(run, tmp_path, folder, data, "folder", *(("--set", "head.type=linear") if task == "encoder"
        else ()))
    of_archive = finetune(run, tmp_path, tmp_path / "m.pt", data, "archive")
    assert of_folder == of_archive and len(of_folder) >= 6


@pytest.mark.parametrize("name", ["bert", "gpt2", "llama", "t5"])
def test_shards_and_half_precision_are_read_as_transformers_reads_them(name, run, rows, tmp_path, tiny_folder):
    data, _ = task_of(name, rows, tmp_path)
    model = transformers.AutoModel if name == "bert" else (
        transformers.AutoModelForSeq2SeqLM if name == "t5" else transformers.AutoModelForCausalLM)
    half = model.from_pretrained(tiny_folder(name), dtype=torch.bfloat16)
    for out, size in (("one", "5GB"), ("shards", "20KB")):
        shutil.copytree(tiny_folder(name), tmp_path / out)
        (tmp_path / out / "model.safetensors").unlink()
        half.save_pretrained(tmp_path / out, max_shard_size=size)
    assert len(list((tmp_path / "shards").glob("model-*.safetensors"))) > 2
    one = finetune(run, tmp_path, tmp_path / "one", data, "run_one")
    assert one == finetune(run, tmp_path, tmp_path / "shards", data, "run_shards")
    # The values of bfloat16, widened, in a float32 folder give the same run.
    wide = half.float()
    shutil.copytree(tiny_folder(name), tmp_path / "wide")
    wide.save_pretrained(tmp_path / "wide")
    assert one == finetune(run, tmp_path, tmp_path / "wide", data, "run_wide")


@pytest.mark.parametrize("name", ["gpt2", "llama", "qwen2", "mistral"])
def test_the_loss_of_a_causal_folder_is_that_of_transformers(name, run, tmp_path, tiny_folder):
    texts = ["the red house is big", "a blue car and an old tree", "new"]
    (tmp_path / "texts.jsonl").write_text("".join(json.dumps({"text": text}) + "\n" for text in texts))
    data = (f"{{task: causal-lm, train: {tmp_path}/texts.jsonl, dev: {tmp_path}/texts.jsonl, max_length: 24, pack: "
            f"false}}")
    folder = with_tokenizer_json(tiny_folder(name), tmp_path) if name == "mistral" else tiny_folder(name)
    finetune(run, tmp_path, folder, data, "run", method="none", steps=0)
    assert result(tmp_path / "run")["last"]["loss"] == pytest.approx(loss_of_transformers(folder, texts), rel=2e-6)


def loss_of_transformers(folder, texts):
    model, tokenizer = transformers.AutoModelForCausalLM.from_pretrained(
        folder).eval(), transformers.AutoTokenizer.from_pretrained(folder)
    total, count = 0.0, 0
    for text in texts:
        ids = tokenizer(text, return_tensors="pt")["input_ids"]
        if ids[0, -1] != tokenizer.eos_token_id:
            ids = torch.cat([ids, torch.tensor([[tokenizer.eos_token_id]])], 1)
        with torch.no_grad():
            total += model(ids, labels=ids).loss.item() * (ids.size(1) - 1)
        count += ids.size(1) - 1
    return total / count


def test_a_second_output_layer_counts_where_its_values_are_its_own(run, tmp_path, tiny_folder):
    """transformers 5 ties what the configuration ties, unless the file holds two layers that differ."""
    texts = ["the red house is big", "a blue car and an old tree"]
    (tmp_path / "texts.jsonl").write_text("".join(json.dumps({"text": text}) + "\n" for text in texts))
    data = (f"{{task: causal-lm, train: {tmp_path}/texts.jsonl, dev: {tmp_path}/texts.jsonl, max_length: 24, pack: "
            f"false}}")
    shutil.copytree(tiny_folder("qwen2"), tmp_path / "spare")
    weights = safetensors.torch.load_file(tmp_path / "spare/model.safetensors")
    assert "lm_head.weight" not in weights
    losses = []
    for name, layer in (("copy", weights["model.embed_tokens.weight"].clone()),
                        ("other", 0.3 * torch.randn_like(weights["model.embed_tokens.weight"]))):
        weights["lm_head.weight"] = layer
        safetensors.torch.save_file(weights, tmp_path / "spare/model.safetensors", {"format": "pt"})
        finetune(run, tmp_path, tmp_path / "spare", data, name, method="none", steps=0)
        losses.append(result(tmp_path / name)["last"]["loss"])
        assert losses[-1] == pytest.approx(loss_of_transformers(tmp_path / "spare", texts), rel=2e-6)
    assert losses[0] == pytest.approx(loss_of_transformers(tiny_folder("qwen2"), texts), rel=2e-6) and abs(losses[1]
        - losses[0]) > 0.01
    # An untied model without its layer would start at random in transformers.
    config = json.loads((tmp_path / "spare/config.json").read_text())
    config["tie_word_embeddings"] = False
    (tmp_path / "spare/config.json").write_text(json.dumps(config))
    del weights["lm_head.weight"]
    safetensors.torch.save_file(weights, tmp_path / "spare/model.safetensors", {"format": "pt"})
    done = finetune(run, tmp_path, tmp_path / "spare", data, "untied", code=1)
    assert "missing lm_head.weight" in done.stderr and "does not tie" in done.stderr


def test_norms_of_old_checkpoints_have_other_names(run, rows, tmp_path, tiny_folder):
    data, _ = task_of("bert", rows, tmp_path)
    shutil.copytree(tiny_folder("bert"), tmp_path / "old")
    weights = safetensors.torch.load_file(tmp_path / "old/model.safetensors")
    old = {name.replace("LayerNorm.weight", "LayerNorm.gamma").replace("LayerNorm.bias", "LayerNorm.beta"): value
           for name, value in weights.items()}
    assert old.keys() != weights.keys()
    safetensors.torch.save_file(old, tmp_path / "old/model.safetensors", {"format": "pt"})
    assert finetune(run, tmp_path, tmp_path / "old", data, "a") == finetune(run, tmp_path, tiny_folder("bert"), data,
        "b")


def test_pooling_follows_the_models_own_file(run, rows, tmp_path, tiny_folder):
    data, _ = task_of("bert", rows, tmp_path)
    losses = {}
    for way in ("mean", "cls", "max", "lasttoken"):
        folder = tmp_path / way
        shutil.copytree(tiny_folder("bert"), folder)
        (folder / "1_Pooling").mkdir()
        keys = {"mean": "mean_tokens", "cls": "cls_token", "max": "max_tokens", "lasttoken": "lasttoken"}
        flags = {f"pooling_mode_{key}": name == way for name, key in keys.items()}
        (folder / "1_Pooling/config.json").write_text(json.dumps({"word_embedding_dimension": 32, **flags}))
        losses[way] = finetune(run, tmp_path, folder, data, "auto_" + way)
        name = "last" if way == "lasttoken" else way
        assert losses[way] == finetune(run, tmp_path, tiny_folder("bert"), data, "set_" + way, "--set",
                                       f"model.pooling={name}")
    assert len({str(value) for value in losses.values()}) == 4
    (tmp_path / "mean/1_Pooling/config.json").write_text(json.dumps({"pooling_mode_mean_sqrt_len_tokens": True}))
    done = finetune(run, tmp_path, tmp_path / "mean", data, "sqrt", code=1)
    assert "mean_sqrt_len_tokens" in done.stderr and "model.pooling" in done.stderr


def test_a_merged_folder_predicts_as_the_run_in_transformers(run, rows, tmp_path, tiny_folder):
    data, _ = task_of("llama", rows, tmp_path)
    finetune(run, tmp_path, tiny_folder("llama"), data, "run", method="lora")
    run("export", tmp_path / "run", "--to", "safetensors", "--output", tmp_path / "merged")
    model = transformers.AutoModelForCausalLM.from_pretrained(tmp_path / "merged").eval()
    # Read as a folder again, it scores as the run did.
    finetune(run, tmp_path, tmp_path / "merged", data, "again", method="none", steps=0)
    run_loss = json.loads(run("evaluate", tmp_path / "run", "--data", tmp_path / "texts.txt", "--json").stdout)
    again = result(tmp_path / "again")["last"]["loss"]
    best = run_loss.get("loss", run_loss.get("scores", {}).get("loss"))
    assert again == pytest.approx(best, rel=1e-5)
    assert sum(p.numel() for p in model.parameters()) > 0
    done = run("export", tmp_path / "run", "--to", "torchscript", "--output", tmp_path / "m.pt", code=1)
    assert "holds no code" in done.stderr and not (tmp_path / "m.pt").exists()


def test_inspect_tells_what_a_folder_holds_without_python(program, run, tmp_path, tiny_folder):
    done = run("inspect", tiny_folder("bert"), "--json", env={"PATH": ""})
    found = json.loads(done.stdout)
    assert (found["kind"], found["family"], found["backend"]) == ("Hugging Face folder", "bert", "native")
    assert found["inputs"] == ["input_ids", "attention_mask", "token_type_ids"] and found["tokenizer"]
    model = transformers.AutoModel.from_pretrained(tiny_folder("bert"))
    assert found["parameters"] == sum(p.numel() for p in model.parameters())
    assert {site["path"] for site in found["sites"]} <= set(dict(model.named_parameters()))
    assert "encoder.layer.0.attention.self.query.weight" in found["targets"]["query-value"]


def broken(folder, tmp_path, change):
    out = tmp_path / "broken"
    shutil.copytree(folder, out)
    change(out)
    return out


def set_config(**values):
    def change(folder):
        config = json.loads((folder / "config.json").read_text())
        config.update(values)
        (folder / "config.json").write_text(json.dumps(config))
    return change


def to_pickle(folder):
    weights = safetensors.torch.load_file(folder / "model.safetensors")
    torch.save(weights, folder / "pytorch_model.bin")
    (folder / "model.safetensors").unlink()


def cut(folder):
    data = (folder / "model.safetensors").read_bytes()
    (folder / "model.safetensors").write_bytes(data[:len(data) // 2])


def with_index(edit):
    def change(folder):
        names = list(safetensors.torch.load_file(folder / "model.safetensors"))
        (folder / "model.safetensors").rename(folder / "model-00001-of-00001.safetensors")
        index = {"metadata": {}, "weight_map": {name: "model-00001-of-00001.safetensors" for name in names}}
        edit(index["weight_map"])
        (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    return change


BROKEN = {
    "no config": (lambda f: (f / "config.json").unlink(), "without config.json"),
    "pickle": (to_pickle, "pytorch_model.bin alone"),
    "nothing": (lambda f: (f / "model.safetensors").unlink(), "holds no model.safetensors"),
    "cut off": (cut, "cut off"),
    "shard missing": (with_index(lambda m: m.update(extra="model-00002-of-00002.safetensors")),
                      "shard model-00002-of-00002.safetensors is not there"),
    "tensor missing": (with_index(lambda m: m.update(extra="model-00001-of-00001.safetensors")),
                       "names extra in model-00001-of-00001.safetensors, which does not hold it"),
    "escape": (with_index(lambda m: m.update(extra="../model.safetensors")), "the name of a file in the folder"),
    "family": (set_config(model_type="mamba"), "model_type 'mamba'"),
    "layers": (set_config(num_hidden_layers=7), "num_hidden_layers is 7"),
    "vocabulary": (set_config(vocab_size=7), "vocab_size is 7"),
    "width": (set_config(hidden_size=64), "hidden_size is 64"),
    "no weights of the family": (set_config(model_type="gpt2"), "no native family fits"),
}


@pytest.mark.parametrize("case", BROKEN)
def test_bad_folders_get_one_line(case, run, rows, tmp_path, tiny_folder):
    change, expected = BROKEN[case]
    folder = broken(tiny_folder("bert"), tmp_path, change)
    data, _ = task_of("bert", rows, tmp_path)
    done = finetune(run, tmp_path, folder, data, "run", code=1)
    errors = [line for line in done.stderr.splitlines() if line.startswith("error: ")]
    assert len(errors) == 1 and expected in errors[0] and str(folder) in errors[0], done.stderr
    assert not (tmp_path / "run").exists()


def test_a_peft_or_run_folder_as_model_says_what_it_is(run, rows, tmp_path, tiny_folder):
    data, _ = task_of("bert", rows, tmp_path)
    finetune(run, tmp_path, tiny_folder("bert"), data, "run", method="lora")
    run("export", tmp_path / "run", "--to", "peft", "--output", tmp_path / "peft")
    assert "name it in adapter.path" in finetune(run, tmp_path, tmp_path / "peft", data, "a", code=1).stderr
    assert "is a run folder" in finetune(run, tmp_path, tmp_path / "run", data, "b", code=1).stderr
    done = finetune(run, tmp_path, tiny_folder("bert"), data, "c", "--set", "model.backend=graph", code=1)
    assert "holds no code" in done.stderr
    done = finetune(run, tmp_path, tiny_folder("bert"), data, "d", "--set", "model.output=logits", code=1)
    assert "model.output" in done.stderr and "holds no code" in done.stderr
