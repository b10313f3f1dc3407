"""Names in merged folders. Oracles: the loading report of transformers, and the table of names by which llama.cpp's
converter reads such folders (package gguf)."""
from __future__ import annotations

import json

import pytest
import torch
import transformers
from safetensors.torch import load_file

from test_class_heads import finetune, model_of, texts, write

ARCHITECTURES = {"llama": "LLAMA", "mistral": "LLAMA", "qwen2": "QWEN2", "qwen3": "QWEN3", "gemma": "GEMMA",
                 "gemma2": "GEMMA2", "phi3": "PHI3", "bert": "BERT"}


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_every_tensor_has_a_name_in_llama_cpp(name, run, tmp_path):
    import gguf

    rows = texts()
    language_model = name != "bert"
    model_of(name, "ForCausalLM" if language_model else "Model").save_pretrained(tmp_path / "hf")
    if language_model:
        data = tmp_path / "rows.jsonl"
        data.write_text("".join(json.dumps({"input_ids": ids, "labels": ids}) + "\n" for ids in rows))
    else:
        data = write(tmp_path / "rows.jsonl", rows, ["a", "b", "c"] * 4)
    finetune(run, tmp_path, tmp_path / "hf", data, "run", "method: deep-lora, rank: 2", steps=2, task="causal-lm"
             if language_model else "classification",
             head="" if language_model else "type: linear")
    run("export", tmp_path / "run", "--to", "safetensors", "--output", tmp_path / "out")
    auto = transformers.AutoModelForCausalLM if language_model else transformers.AutoModel
    options = {} if language_model else {"add_pooling_layer": False}
    model, report = auto.from_pretrained(tmp_path / "out", output_loading_info=True, **options)
    assert not any(report[key] for key in ("missing_keys", "unexpected_keys", "mismatched_keys")), report
    table = gguf.get_tensor_name_map(gguf.MODEL_ARCH[ARCHITECTURES[name]], 2)
    held = load_file(tmp_path / "out/model.safetensors")
    unknown = [key for key in held if table.get_name(key, try_suffixes=(".weight", ".bias")) is None]
    assert not unknown, unknown
    tied = getattr(model.config, "tie_word_embeddings", False) and language_model
    assert ("lm_head.weight" in held) == (language_model and not tied)
    assert {value.dtype for value in held.values()} == {torch.float32}
