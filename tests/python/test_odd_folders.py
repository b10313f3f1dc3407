"""Hugging Face folders as people have them: each is read as transformers reads it, or gets one clear line.

The oracle of what is read is a plain folder of the same weights; that both are the same model is asked of transformers
itself.
"""
from __future__ import annotations

import json
import re
import shutil
import struct
from pathlib import Path

import pytest
import safetensors.torch
import torch
import transformers

from test_finetune import result, rows  # noqa: F401  (rows is a fixture)
from test_model_folder import finetune, task_of

NO_PYTHON = {"PATH": "", "OMP_NUM_THREADS": "1"}


def weights_of(folder):
    return safetensors.torch.load_file(Path(folder) / "model.safetensors")


def save(weights, folder, metadata={"format": "pt"}):  # noqa: B006
    safetensors.torch.save_file({name: value.contiguous() for name, value in weights.items()},
                                Path(folder) / "model.safetensors", metadata)


def edit_config(folder, edit):
    path = folder / "config.json"
    config = json.loads(path.read_text())
    edit(config)
    path.write_text(json.dumps(config))


def as_class(name):
    """The folder as that class of transformers saves it: with its prefix and what else it has."""
    def change(folder):
        plain = weights_of(folder)
        model = getattr(transformers, name).from_pretrained(folder)
        with torch.no_grad():  # what is new is drawn; the weights that are there stay
            for key, value in model.base_model.state_dict().items():
                if key in plain:
                    value.copy_(plain[key])
        model.save_pretrained(folder)
    return change


def with_weights(edit):
    def change(folder):
        weights = weights_of(folder)
        save(edit(weights) or weights, folder)
    return change


def hub_cache(folder):
    """As the hub's cache lays files: blobs under their hashes, a folder of links for each revision."""
    blobs, snapshot = folder / "blobs", folder / "snapshots/0123abc"
    blobs.mkdir()
    snapshot.mkdir(parents=True)
    for i, file in enumerate(sorted(p for p in folder.iterdir() if p.is_file())):
        file.rename(blobs / f"{i:040x}")
        (snapshot / file.name).symlink_to(f"../../blobs/{i:040x}")
    return snapshot


def beside_a_pickle(folder):
    (folder / "pytorch_model.bin").write_bytes(b"not read")


def old_names(folder):
    with_weights(lambda w: {k.replace("LayerNorm.weight", "LayerNorm.gamma").replace("LayerNorm.bias",
        "LayerNorm.beta"): v for k, v in w.items()})(folder)


def mark(folder):
    """A byte order mark before config.json, as editors of one system write it."""
    (folder / "config.json").write_bytes(b"\xef\xbb\xbf" + (folder / "config.json").read_bytes())


def shards(count):
    def change(folder):
        weights = weights_of(folder)
        names = sorted(weights)
        (folder / "model.safetensors").unlink()
        index = {}
        for i in range(count):
            file = f"model-{i + 1:05}-of-{count:05}.safetensors"
            part = {name: weights[name] for name in names[i::count]}
            safetensors.torch.save_file(part, folder / file)
            index.update(dict.fromkeys(part, file))
        (folder / "model.safetensors.index.json").write_text(json.dumps({"metadata": {"total_size": 1},
            "weight_map": index}))
    return change


def half_of_it_in_half_precision(folder):
    """Values that float16 holds exactly, so that nothing but the dtype differs."""
    weights = weights_of(folder)
    save({name: value.half() if i % 2 else value for i, (name, value) in enumerate(sorted(weights.items()))}, folder)


# What is done to a folder that leaves the model as it is.
SAME = {
    "for masked words": ("bert", as_class("BertForMaskedLM")),
    "for pre-training": ("bert", as_class("BertForPreTraining")),
    "for answers": ("bert", as_class("BertForQuestionAnswering")),
    "for tokens": ("bert", as_class("BertForTokenClassification")),
    "for choices": ("bert", as_class("BertForMultipleChoice")),
    "roberta for masked words": ("roberta", as_class("RobertaForMaskedLM")),
    "roberta for tokens": ("roberta", as_class("RobertaForTokenClassification")),
    "distilbert for masked words": ("distilbert", as_class("DistilBertForMaskedLM")),
    "distilbert for tokens": ("distilbert", as_class("DistilBertForTokenClassification")),
    "electra's discriminator": ("electra", as_class("ElectraForPreTraining")),
    "electra's generator": ("electra", as_class("ElectraForMaskedLM")),
    "albert for masked words": ("albert", as_class("AlbertForMaskedLM")),
    "mpnet for masked words": ("mpnet", as_class("MPNetForMaskedLM")),
    "position ids": ("bert", with_weights(lambda w: w.update({"embeddings.position_ids": torch.arange(64).unsqueeze(
        0)}))),
    "no pooler": ("bert", with_weights(lambda w: [w.pop(k) for k in list(w) if k.startswith("pooler.")] and w)),
    "no metadata": ("bert", lambda f: save(weights_of(f), f, None)),
    "shards": ("bert", shards(5)),
    "links": ("bert", hub_cache),
    "a pickle too": ("bert", beside_a_pickle),
    "norms under old names": ("bert", old_names),
    "byte order mark": ("bert", mark),
    "gpt2 without prefix and with masks": ("gpt2", with_weights(lambda w: {
        **{k.removeprefix("transformer."): v for k, v in w.items()}, "h.0.attn.bias": torch.ones(1, 1, 64, 64),
        "h.0.attn.masked_bias": torch.tensor(-1e4)})),
    "llama with frequencies": ("llama",
                               with_weights(lambda w: w.update(
                                   {"model.layers.0.self_attn.rotary_emb.inv_freq": torch.rand(4)}))),
    "t5 with its table three times": ("t5",
                                      with_weights(lambda w: w.update(
                                          {f"{part}.embed_tokens.weight": w["shared.weight"].clone() for part
                                           in ("encoder", "decoder")}))),
}


@pytest.mark.parametrize("case", SAME)
def test_the_same_model_lies_in_it(case, run, rows, tmp_path, tiny_folder):  # noqa: F811
    name, change = SAME[case]
    data, _ = task_of(name if name in ("gpt2", "llama", "t5") else "bert", rows, tmp_path)
    plain, odd = (shutil.copytree(tiny_folder(name), tmp_path / folder) for folder in ("plain", "odd"))
    odd = change(odd) or odd
    if "byte order" not in case:  # which transformers does not read
        ids = torch.tensor([[5, 7, 9, 8]])
        with torch.no_grad():
            inputs = {"input_ids": ids, **({"decoder_input_ids": ids} if name == "t5" else {})}
            a, b = (transformers.AutoModel.from_pretrained(folder).eval()(**inputs).last_hidden_state for folder
                    in (plain, odd))
        assert torch.equal(a, b)
    # Under a linear head: the family's own may take what these folders differ in (a pooler, a classifier).
    head = () if name in ("gpt2", "llama", "t5") else ("--set", "head.type=linear")
    assert finetune(run, tmp_path, odd, data, "a", *head) == finetune(run, tmp_path, plain, data, "b", *head)


def test_any_prefix_and_any_spelling_of_the_folder(run, rows, tmp_path, tiny_folder):  # noqa: F811
    data, _ = task_of("bert", rows, tmp_path)
    expected = finetune(run, tmp_path, tiny_folder("bert"), data, "plain")
    odd = shutil.copytree(tiny_folder("bert"), tmp_path / "Modèle 2, neu")
    save({"encoder_of_texts." + k: v for k, v in weights_of(odd).items()}, odd)
    assert finetune(run, tmp_path, f"'{odd}/'", data, "slash") == expected
    assert finetune(run, tmp_path, f"'{odd}/./'", data, "dot") == expected
    (tmp_path / "link").symlink_to(odd)
    assert finetune(run, tmp_path, tmp_path / "link", data, "linked") == expected
    assert "Modèle 2, neu" in (tmp_path / "slash/report.html").read_text()


def test_dtypes_may_differ_within_a_file(run, rows, tmp_path, tiny_folder):  # noqa: F811
    data, _ = task_of("bert", rows, tmp_path)
    plain = shutil.copytree(tiny_folder("bert"), tmp_path / "plain")
    save({k: v.half().float() for k, v in weights_of(plain).items()}, plain)
    mixed = shutil.copytree(plain, tmp_path / "mixed")
    half_of_it_in_half_precision(mixed)
    assert finetune(run, tmp_path, mixed, data, "a") == finetune(run, tmp_path, plain, data, "b")


def pickled(folder):
    torch.save(weights_of(folder), folder / "pytorch_model.bin")
    (folder / "model.safetensors").unlink()


def pointer(folder):
    (folder / "model.safetensors").write_text(
        "version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 90868376\n")


def hanging(folder):
    (folder / "model.safetensors").unlink()
    (folder / "model.safetensors").symlink_to("../../blobs/ffff")


def without_index(folder):
    shards(3)(folder)
    (folder / "model.safetensors.index.json").unlink()


def adapter(folder):
    for path in folder.iterdir():
        path.unlink()
    (folder / "adapter_config.json").write_text("{}")
    (folder / "adapter_model.safetensors").write_bytes(b"")


def adapter_with_config(folder):
    (folder / "model.safetensors").rename(folder / "adapter_model.safetensors")
    (folder / "adapter_config.json").write_text("{}")


def gguf(folder):
    for path in folder.iterdir():
        path.unlink()
    (folder / "m.gguf").write_bytes(b"GGUF" + bytes(20))


def gguf_file(folder):
    (folder / "m.gguf").write_bytes(b"GGUF" + bytes(20))
    return folder / "m.gguf"


def empty(folder):
    for path in folder.iterdir():
        path.unlink()


def float8(folder):
    weights = {k: v for k, v in weights_of(folder).items()}
    weights["embeddings.word_embeddings.weight"] = weights["embeddings.word_embeddings.weight"].to(torch.float8_e4m3fn)
    save(weights, folder)


def no_tensors(folder):
    header = b"{}      "
    (folder / "model.safetensors").write_bytes(struct.pack("<Q", len(header)) + header)


def both_names(folder):
    weights = weights_of(folder)
    weights["embeddings.LayerNorm.gamma"] = weights["embeddings.LayerNorm.weight"].clone()
    save(weights, folder)


def cache_of_the_hub(folder):
    hub_cache(folder)


def raw_config(text):
    return lambda folder: (folder / "config.json").write_text(text)


def nan(folder):
    text = (folder / "config.json").read_text().rstrip()
    (folder / "config.json").write_text(text[:-1] + ', "note": "NaN in a text is fine", "loss_scale": NaN}')


def old_sentence_transformers(folder):
    inner = folder / "0_Transformer"
    inner.mkdir()
    for path in [p for p in folder.iterdir() if p.is_file()]:
        path.rename(inner / path.name)


def an_extra(name, *shape):
    return with_weights(lambda w: w.update({name: torch.rand(*shape)}))


ONE_LINE = {
    "pickle alone": (pickled, ["pytorch_model.bin alone", "save_pretrained"]),
    "pointer of Git LFS": (pointer, ["model.safetensors is a pointer of Git LFS", "git lfs pull"]),
    "a link to nothing": (hanging, ["model.safetensors is a link to ../../blobs/ffff, which is not there"]),
    "shards without index": (without_index,
                             ["holds model-00001-of-00003.safetensors but no model.safetensors and no "
                              "model.safetensors.index.json"]),
    "an adapter": (adapter, ["is a PEFT folder", "adapter.path"]),
    "an adapter with a config.json": (adapter_with_config, ["is a PEFT folder", "adapter.path"]),
    "a folder of GGUF": (gguf, ["holds m.gguf", "gguf_file='m.gguf'"]),
    "a GGUF file": (gguf_file, ["is a GGUF file", "name the Hugging Face folder"]),
    "the file of weights": (lambda f: f / "model.safetensors", ["file of weights alone", "name its folder"]),
    "config.json": (lambda f: f / "config.json", ["is not a TorchScript file"]),
    "nothing": (empty, ["without config.json"]),
    "weights in 8 bits": (float8, ["F8_E4M3"]),
    "quantized": (lambda f: edit_config(f, lambda c: c.update(quantization_config={"quant_method": "gptq", "bits": 4})),
                  ["quantized", "gptq"]),
    "no tensors": (no_tensors, ["holds no weights"]),
    "a norm under both names": (both_names, ["embeddings.LayerNorm.weight twice"]),
    "cache of the hub": (cache_of_the_hub, ["hub's cache", "snapshots"]),
    "NaN in config.json": (nan, ["config.json: holds NaN"]),
    "config.json is a list": (raw_config("[1]"), ["config.json: expected a JSON object"]),
    "config.json cut off": (raw_config('{"model_type": "be'), ["config.json: not valid JSON"]),
    "config.json without a type": (raw_config("{}"), ["no config.json with a model_type"]),
    "old sentence-transformers": (old_sentence_transformers, ["0_Transformer", "model.pooling"]),
    "a layer more than declared": (an_extra("encoder.layer.2.attention.self.query.weight", 32, 32),
                                   ["config.json: num_hidden_layers is 2, but the weights show 3"]),
    "a weight that nobody knows": (an_extra("encoder.layer.1.adapter.down.weight", 4, 32),
                                   ["unexpected encoder.layer.1.adapter.down.weight"]),
    "a weight is a folder": (lambda f: ((f / "model.safetensors").unlink(), (f / "model.safetensors").mkdir()) and None,
                             ["model.safetensors is a folder"]),
    "another head": (as_class("BertForSequenceClassification"), ["'negative', 'positive' are none of the classes",
        "a, b, c"]),
}


@pytest.mark.parametrize("case", ONE_LINE)
def test_what_cannot_be_read_gets_one_line(case, run, rows, tmp_path, tiny_folder):  # noqa: F811
    change, expected = ONE_LINE[case]
    folder = shutil.copytree(tiny_folder("bert"), tmp_path / "odd")
    if case == "another head":
        edit_config(folder, lambda c: c.update(id2label={"0": "a", "1": "b", "2": "c"}, label2id={"a": 0, "b": 1,
            "c": 2}))
    folder = change(folder)
    folder = folder if isinstance(folder, Path) else tmp_path / "odd"
    data, _ = task_of("bert", rows, tmp_path)
    done = finetune(run, tmp_path, folder, data, "run", code=1)
    errors = [line for line in done.stderr.splitlines() if line.startswith("error: ")]
    assert len(errors) == 1 and all(part in errors[0] for part in [*expected, *([str(folder)] if case != "another head"
        else [])]), done.stderr
    assert done.stderr.rstrip().endswith(errors[0]) and "c10" not in errors[0] and not (tmp_path / "run").exists()


def test_a_decoder_without_its_output_layer_and_an_encoder_of_two(run, tmp_path, tiny_folder):
    """LlamaModel and T5EncoderModel as transformers saves them are half of what a language model needs."""
    for name, cls, expected in (("llama", "LlamaModel", "missing lm_head.weight"),
                                ("t5", "T5EncoderModel", "seq2seq needs a sequence-to-sequence model")):
        folder = shutil.copytree(tiny_folder(name), tmp_path / name)
        getattr(transformers, cls).from_pretrained(folder).save_pretrained(folder)
        data, _ = task_of(name, None, tmp_path)
        done = finetune(run, tmp_path, folder, data, "run", code=1)
        errors = [line for line in done.stderr.splitlines() if line.startswith("error: ")]
        assert len(errors) == 1 and expected in errors[0], done.stderr


@pytest.mark.parametrize("name", ["bert", "gpt2", "llama", "t5"])
def test_every_command_takes_a_folder_and_needs_no_python(name, run, rows, tmp_path, tiny_folder):  # noqa: F811
    """evaluate, predict, compare, resume and export of a run on a folder, with no program on the PATH."""
    data, _ = task_of(name, rows, tmp_path)
    file = {"bert": rows["classification", "dev"], "t5": tmp_path / "pairs.jsonl"}.get(name, tmp_path / "texts.txt")
    with_test = data[:-1] + f", test: {file}}}"

    def call(*arguments, **options):
        return run(*arguments, env=NO_PYTHON, **options)

    config = tmp_path / "c.yaml"
    config.write_text(f"model: {{path: {tiny_folder(name)}, dropout: 0}}\ndata: {with_test}\nadapter: {{method: "
                      f"lora}}\n"
                      "train: {steps: 6, batch_size: 4, eval_every: 3, log_every: 1, seed: 5, lr: 1e-3}\n")
    folder = tmp_path / "run"
    call("finetune", config, "--run", folder)
    scores = json.loads(call("evaluate", folder, "--json").stdout)
    best = result(folder)["test"]
    assert {k: v for k, v in scores.items() if k in best} == {k: v for k, v in best.items() if k in scores} and best
    lines = [json.loads(line) for line in call("predict", folder, "--text", "the red house", "--text",
                                               "a blue car").stdout.splitlines()]
    assert len(lines) == 2 and set(lines[0]) >= ({"prediction", "logits"} if name == "bert" else {"text"})
    call("export", folder, "--to", "safetensors", "--output", tmp_path / "merged")
    call("export", folder, "--to", "peft", "--output", tmp_path / "peft")
    # Interrupted after the first checkpoint, it ends with the same bits.
    adapter_bytes = (folder / "adapter.safetensors").read_bytes()
    shutil.rmtree(sorted((folder / "checkpoints").iterdir())[-1])
    for gone in ("result.json", "adapter.safetensors", "last.safetensors"):
        (folder / gone).unlink()
    assert "resumed after step 3" in call("finetune", "--run", folder, "--resume").stderr
    assert (folder / "adapter.safetensors").read_bytes() == adapter_bytes
    config.write_text(config.read_text().replace("adapter: {method: lora}\n", "").replace(", seed: 5, lr: 1e-3", "") +
                      "compare:\n  methods: [{adapter: {method: lora}}, {adapter: {method: deep-lora}}]\n  seeds: [1, "
                      "2]\n")
    call("compare", config, "--run", tmp_path / "compare")
    assert len(list((tmp_path / "compare/cells").glob("*/result.json"))) == 4


def wrapped(prefix, inside=""):
    """Names as trainers write them that kept the model inside something of their own."""
    def change(weights):
        return {prefix + re.sub(r"(layers?\.|transformer\.h\.)", r"\g<1>" + inside, name) if inside else prefix
                + name: value
                for name, value in weights.items()}
    return change


WRAPPED = {"data parallel": ("module.", ""), "compiled": ("_orig_mod.", ""), "both": ("module._orig_mod.", ""),
           "twice": ("module.module.", ""),
           "a training module": ("model.", ""), "inside two": ("net.model.", ""), "compiled layers": ("", "_orig_mod."),
           "sharded": ("_fsdp_wrapped_module.model.", "_fsdp_wrapped_module.")}
CLASSES = ["BertForMaskedLM", "BertModel", "RobertaForSequenceClassification", "DistilBertForSequenceClassification",
           "ModernBertForMaskedLM", "DebertaV2ForSequenceClassification",
           "GPT2LMHeadModel", "LlamaForCausalLM", "T5ForConditionalGeneration", "BartForConditionalGeneration"]
KIND_OF = {"BertForMaskedLM": "bert", "BertModel": "bert", "RobertaForSequenceClassification": "roberta",
           "DistilBertForSequenceClassification": "distilbert",
           "ModernBertForMaskedLM": "modernbert", "DebertaV2ForSequenceClassification": "deberta-v2",
           "GPT2LMHeadModel": "gpt2", "LlamaForCausalLM": "llama",
           "T5ForConditionalGeneration": "t5", "BartForConditionalGeneration": "bart"}


@pytest.mark.parametrize("model_class", CLASSES)
def test_names_inside_a_trainers_own_module_are_read_as_those_of_transformers(model_class, run, tmp_path, tiny_folder):
    """The plain folder is the oracle of what is read; transformers itself of the names that are exported."""
    plain = shutil.copytree(tiny_folder(KIND_OF[model_class]), tmp_path / "plain")
    as_class(model_class)(plain)
    data = tmp_path / "rows.jsonl"
    language = model_class.endswith(("LMHeadModel", "ForCausalLM", "ForConditionalGeneration"))
    end = [json.loads((plain / "config.json").read_text()).get("eos_token_id") or 2]
    seq2seq = model_class.endswith("ForConditionalGeneration")
    lines = [{"input_ids": [5, 6 + i, 7, *end], **({"labels": [4, 5 + i, *end]} if seq2seq
                                                   else {"labels": [5, 6 + i, 7, *end]} if language
                                                   else {"label": "LABEL_%d" % (i % 2)})}
             for i in range(8)]
    data.write_text("".join(json.dumps(line) + "\n" for line in lines))
    task = "seq2seq" if seq2seq else "causal-lm" if language else "classification"

    def trained(folder, out):
        path = tmp_path / f"{out}.yaml"
        path.write_text(f"model: {{path: {folder}, dropout: 0}}\ndata: {{task: {task}, train: {data}, dev: "
                        f"{data}}}\nadapter: {{method: lora, rank: 2}}\n"
                        "train: {steps: 3, batch_size: 4, seed: 3}\n")
        said = run("finetune", path, "--run", tmp_path / out).stderr
        run("export", tmp_path / out, "--to", "safetensors", "--output", tmp_path / f"{out}-merged")
        return weights_of(tmp_path / f"{out}-merged"), said

    def seen(folder):
        found = json.loads(run("inspect", folder, "--json").stdout)
        return {key: found[key] for key in ("family", "parameters", "inputs", "sites", "targets")}

    expected, said = trained(plain, "run")
    assert "are read without" not in said
    for name, (prefix, inside) in WRAPPED.items():
        odd = shutil.copytree(plain, tmp_path / name.replace(" ", "-"))
        with_weights(wrapped(prefix, inside))(odd)
        assert set(weights_of(odd)) != set(weights_of(plain))
        assert "are read without" in run("inspect", odd).stderr and seen(odd) == seen(plain), name
        if name != "inside two":
            continue
        found, _ = trained(odd, "run-" + odd.name)
        assert found.keys() == expected.keys() and all(torch.equal(value, found[key]) for key,
                                                       value in expected.items())
    # what is exported lacks nothing there
    auto = {"seq2seq": transformers.AutoModelForSeq2SeqLM, "causal-lm": transformers.AutoModelForCausalLM}.get(task,
        transformers.AutoModelForSequenceClassification)
    _, report = auto.from_pretrained(tmp_path / "run-inside-two-merged", output_loading_info=True)
    assert not any(report[key] for key in ("missing_keys", "unexpected_keys", "mismatched_keys")), report


def test_one_weight_under_two_wrapped_names_is_refused(run, rows, tmp_path, tiny_folder):  # noqa: F811
    odd = shutil.copytree(tiny_folder("bert"), tmp_path / "odd")
    weights = weights_of(odd)
    save({**weights, "_orig_mod.embeddings.LayerNorm.weight": weights["embeddings.LayerNorm.weight"].clone()}, odd)
    said = run("inspect", odd, code=1).stderr
    assert "embeddings.LayerNorm.weight twice" in said
