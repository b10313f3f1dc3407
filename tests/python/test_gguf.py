"""export --to gguf: LoRA adapters as llama.cpp reads them. Oracles: the gguf package (file, names of tensors) and the
merged weights of the same run."""
from __future__ import annotations

import json
import shutil

import numpy as np
import pytest
import safetensors.torch
import torch
import transformers

from test_model_folder import finetune

gguf = pytest.importorskip("gguf", reason="tools/setup --python installs it")

SIZES = dict(hidden_size=32, num_hidden_layers=2, num_attention_heads=4, num_key_value_heads=2, intermediate_size=48,
             max_position_embeddings=64)
# model_type -> (class, what differs, the architecture of llama.cpp)
MODELS = {
    "llama": ("LlamaForCausalLM", {}, "llama"),
    "llama without groups": ("LlamaForCausalLM", dict(num_key_value_heads=4), "llama"),
    "mistral": ("MistralForCausalLM", dict(head_dim=12), "llama"),
    "qwen2": ("Qwen2ForCausalLM", dict(tie_word_embeddings=True), "qwen2"),
    "qwen3": ("Qwen3ForCausalLM", dict(head_dim=16, tie_word_embeddings=True), "qwen3"),
    "gemma": ("GemmaForCausalLM", dict(head_dim=16, num_key_value_heads=1), "gemma"),
    "gemma2": ("Gemma2ForCausalLM", dict(head_dim=16, query_pre_attn_scalar=16), "gemma2"),
    "gemma3": ("Gemma3ForCausalLM", dict(head_dim=16, query_pre_attn_scalar=16), "gemma3"),
    "phi3": ("Phi3ForCausalLM", dict(num_key_value_heads=4), "phi3"),
    "gpt2": ("GPT2LMHeadModel", dict(n_embd=32, n_layer=2, n_head=4, n_inner=48, n_positions=64), "gpt2"),
}
METHODS = {
    "lora": "{method: lora, rank: 3, alpha: 5, targets: all-linear}",
    "own "
    "ranks": "{method: lora, rank: 4, targets: all-linear, ranks: ['*q_proj=2', '*down_proj=7'], alphas: "
             "['*v_proj=9']}",
    "rslora": "{method: rslora, rank: 4, targets: all-linear}",
    "deep-lora": "{method: deep-lora, rank: 6, depth: 3, targets: all-linear}",
    "compressed": "{method: deep-lora, rank: 6, depth: 3, compress: true, targets: all-linear}",
    "pissa": "{method: pissa, rank: 3, targets: all-linear}",
    "query-value": "{method: lora, rank: 3, targets: query-value}",
}


@pytest.fixture(scope="module")
def folder_of(tiny_folder, tmp_path_factory):
    root = tmp_path_factory.mktemp("gguf")

    def made(name):
        out = root / name.replace(" ", "_")
        if out.exists():
            return out
        shutil.copytree(tiny_folder("gpt2"), out, ignore=shutil.ignore_patterns("*.safetensors", "config.json",
            "generation_config.json"))
        known = json.loads((tiny_folder("gpt2") / "config.json").read_text())
        special = {key: known[key] for key in ("vocab_size", "bos_token_id", "eos_token_id")}
        model_class, differs, _ = MODELS[name]
        cls = getattr(transformers, model_class)
        sizes = {} if name == "gpt2" else SIZES
        torch.manual_seed(3)
        cls(cls.config_class(**{**sizes, **special, "pad_token_id": None, "initializer_range": 0.1,
                                **differs})).save_pretrained(out)
        return out

    return made


@pytest.fixture(scope="module")
def texts(tmp_path_factory):
    path = tmp_path_factory.mktemp("texts") / "texts.txt"
    path.write_text("".join(f"the {w} house is {v}\n" for w in ("red", "blue", "old", "new") for v in ("big", "small")))
    return path


def train(run, tmp_path, folder, texts, adapter, out="run", steps=5):
    data = f"{{task: causal-lm, train: {texts}, dev: {texts}, max_length: 24}}"
    finetune(run, tmp_path, folder, data, out, "--set", f"adapter={adapter}", "--set", "train.lr=0.02", steps=steps)
    return tmp_path / out


def read(path):
    reader = gguf.GGUFReader(path)
    fields = {key: field.contents() for key, field in reader.fields.items() if not key.startswith("GGUF.")}
    return fields, {tensor.name: np.array(tensor.data) for tensor in reader.tensors}


def permute(weights, heads):
    """As convert_hf_to_gguf.py of llama.cpp orders the rows of Llama's query and key."""
    return weights.reshape(heads, 2, weights.shape[0] // heads // 2, *weights.shape[1:]).swapaxes(1,
        2).reshape(weights.shape)


def updates(run, folder, run_folder, tmp_path):
    """What merging adds to each weight [out, in], by its name: in float64, of the values of both files."""
    run("export", run_folder, "--to", "safetensors", "--output", tmp_path / "merged")
    before, after = (safetensors.torch.load_file(f / "model.safetensors") for f in (folder, tmp_path / "merged"))
    out = {name: (after[name].double() - before[name].double()).numpy() for name in before if name in after
           and before[name].dim() == 2}
    if json.loads((folder / "config.json").read_text())["model_type"] == "gpt2":  # which keeps them [in, out]
        out = {name: value.T for name, value in out.items()}
    return {name: value for name, value in out.items() if np.abs(value).max() > 0}


@pytest.mark.parametrize("name,method", [*((name, "lora") for name in MODELS),
                                         *((name, "query-value") for name in ("gpt2", "phi3")),
                                         *(("llama", method) for method in METHODS if method != "lora")])
def test_the_pairs_are_the_update_that_merging_makes(name, method, run, tmp_path, folder_of, texts):
    folder = folder_of(name)
    config = json.loads((folder / "config.json").read_text())
    run_folder = train(run, tmp_path, folder, texts, METHODS[method])
    done = run("export", run_folder, "--to", "gguf", "--output", tmp_path / "a.gguf")
    assert "a.gguf" in done.stdout
    fields, tensors = read(tmp_path / "a.gguf")
    assert fields["general.type"] == "adapter" and fields["adapter.type"] == "lora"
    architecture = MODELS[name][2]
    assert fields["general.architecture"] == architecture
    number = next(number for number, known in gguf.MODEL_ARCH_NAMES.items() if known == architecture)
    names = gguf.get_tensor_name_map(number, 2)
    expected = updates(run, folder, run_folder, tmp_path)
    assert len(expected) * 2 == len(tensors) and len(expected) >= 2
    for weight, update in expected.items():
        target = names.get_name(weight, try_suffixes=(".weight",))
        assert target, weight
        a, b = (tensors[f"{target}.lora_{part}"].astype(np.float64) for part in "ab")
        assert a.shape[0] == b.shape[1] and (b.shape[0], a.shape[1]) == update.shape and len(target) < 60
        found = fields["adapter.lora.alpha"] / a.shape[0] * (b @ a)
        if architecture == "llama" and ".q_proj" in weight:
            update = permute(update, config["num_attention_heads"])
        if architecture == "llama" and ".k_proj" in weight:
            update = permute(update, config["num_key_value_heads"])
        # The merged weight is rounded to float32 once, the factors too.
        assert np.abs(found - update).max() < 2e-7, (weight, np.abs(update).max())


def test_an_archive_gives_the_same_file_as_its_folder(run, tmp_path, folder_of, texts):
    import export_torchscript

    export_torchscript.export(str(folder_of("llama")), str(tmp_path / "m.pt"), "causal-lm", None)
    train(run, tmp_path, folder_of("llama"), texts, METHODS["own ranks"], "a")
    run("export", tmp_path / "a", "--to", "peft", "--output", tmp_path / "peft")
    train(run, tmp_path, tmp_path / "m.pt", texts, f"{{path: {tmp_path}/peft}}", "b", steps=0)  # the same factors
    for out in "ab":
        run("export", tmp_path / out, "--to", "gguf", "--output", tmp_path / f"{out}.gguf")
    assert (tmp_path / "a.gguf").read_bytes() == (tmp_path / "b.gguf").read_bytes()


REFUSED = {
    "dora": ("llama", "{method: dora, rank: 2, targets: query-value}", ["model.layers.0.self_attn.q_proj.weight: DoRA",
        "model.layers.1.self_attn.v_proj.weight: DoRA"]),
    "tables": ("qwen2", "{method: lora, rank: 2, targets: [query, embedding]}", ["model.embed_tokens.weight: a table"]),
    "trained beside": ("qwen2", "{method: lora, rank: 2, targets: [query], train_also: ['*k_proj.bias']}",
                       ["model.layers.0.self_attn.k_proj.bias: it was trained itself",
                        "model.layers.1.self_attn.k_proj.bias"]),
    "several at once": ("llama",
                        "{method: dora, rank: 2, targets: [query, embedding], train_also: ['*layernorm.weight']}",
                        ["q_proj.weight: DoRA", "model.embed_tokens.weight: a table",
                         "input_layernorm.weight: it was trained itself"]),
    "everything trained": ("llama", "{method: full}", ["it was trained itself"]),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_the_format_cannot_hold_is_refused_by_name(case, run, tmp_path, folder_of, texts):
    name, adapter, expected = REFUSED[case]
    run_folder = train(run, tmp_path, folder_of(name), texts, adapter)
    done = run("export", run_folder, "--to", "gguf", "--output", tmp_path / "a.gguf", code=1)
    assert all(part in done.stderr for part in expected) and done.stderr.count("error: ") == 1, done.stderr
    assert not (tmp_path / "a.gguf").exists()


def test_other_models_are_refused_with_the_list(run, tmp_path, tiny_folder, texts):
    rows = tmp_path / "rows.jsonl"
    rows.write_text("".join(json.dumps({"text": f"text {i}", "label": i % 2}) + "\n" for i in range(8)))
    data = f"{{task: classification, train: {rows}, dev: {rows}, max_length: 24}}"
    finetune(run, tmp_path, tiny_folder("bert"), data, "run", method="lora", steps=2)
    done = run("export", tmp_path / "run", "--to", "gguf", "--output", tmp_path / "a.gguf", code=1)
    assert "model_type 'bert'" in done.stderr and "llama" in done.stderr and "peft" in done.stderr
