#!/usr/bin/env python3
"""Writes tests/golden/families: one tiny folder for every kind of model that has a native family, with what
transformers computes from it in float64.

  .venv/bin/python tests/golden/make/families.py [KIND...]

A folder holds config.json, model.safetensors (float32) and expected.safetensors: inputs, and the output for them. Rows
are padded on the right, on the left, and not at all. Every setting that changes the arithmetic is on in some kind.
"""
from __future__ import annotations

import json
import shutil
import sys
import tempfile
from pathlib import Path

import safetensors.torch
import torch
import transformers

ROOT = Path(__file__).resolve().parents[3]
sys.path.insert(0, str(ROOT / "tests" / "python"))

import random_families as families  # noqa: E402

OUTPUT = ROOT / "tests" / "golden" / "families"
ENCODER = dict(vocab_size=40, hidden_size=12, num_hidden_layers=2, num_attention_heads=3, intermediate_size=20,
               max_position_embeddings=24, layer_norm_eps=1e-3,
               type_vocab_size=2)
DECODER = dict(vocab_size=40, hidden_size=24, num_hidden_layers=2, num_attention_heads=4, num_key_value_heads=2,
               intermediate_size=20, max_position_embeddings=32,
               head_dim=8, rms_norm_eps=1e-3, pad_token_id=0, bos_token_id=1, eos_token_id=2)
GEMMA = dict(DECODER, num_attention_heads=2, num_key_value_heads=1)
T5 = dict(vocab_size=40, d_model=12, d_kv=5, d_ff=20, num_layers=1, num_decoder_layers=2, num_heads=3,
          relative_attention_num_buckets=8,
          relative_attention_max_distance=9, pad_token_id=0, eos_token_id=1, decoder_start_token_id=0)
BART = dict(vocab_size=40, d_model=12, encoder_layers=1, decoder_layers=2, encoder_attention_heads=3,
            decoder_attention_heads=2, encoder_ffn_dim=20,
            decoder_ffn_dim=16, max_position_embeddings=24, pad_token_id=1, bos_token_id=0, eos_token_id=2,
            decoder_start_token_id=2)
KINDS = ["sliding_attention", "full_attention"]
LLAMA3 = dict(rope_type="llama3", rope_theta=500.0, factor=4.0, low_freq_factor=1.0, high_freq_factor=4.0,
              original_max_position_embeddings=16)
CONFIGURATIONS = {
    "bert": dict(ENCODER, pad_token_id=3),
    "roberta": dict(ENCODER, pad_token_id=2, type_vocab_size=1, hidden_act="gelu_new"),
    "xlm-roberta": dict(ENCODER, pad_token_id=1, type_vocab_size=1),
    "camembert": dict(ENCODER, pad_token_id=0, type_vocab_size=1, hidden_act="quick_gelu"),
    "distilbert": dict(vocab_size=40, dim=12, n_layers=2, n_heads=3, hidden_dim=20, max_position_embeddings=24,
                       activation="relu"),
    "electra": dict(ENCODER, embedding_size=7),
    "albert": dict(ENCODER, embedding_size=7, num_hidden_layers=3),
    "mpnet": dict({k: v for k, v in ENCODER.items() if k != "type_vocab_size"}, pad_token_id=1),
    "deberta-v2": dict(ENCODER, type_vocab_size=0, relative_attention=True, pos_att_type="p2c|c2p", position_buckets=6,
                       max_relative_positions=-1,
                       norm_rel_ebd="layer_norm", share_att_key=True, position_biased_input=False, conv_kernel_size=3,
                       conv_act="gelu"),
    "modernbert": dict(vocab_size=40, hidden_size=12, num_hidden_layers=3, num_attention_heads=3, intermediate_size=10,
                       norm_eps=1e-3, local_attention=4,
                       global_attn_every_n_layers=2, global_rope_theta=300.0, local_rope_theta=20.0,
                       attention_bias=True, mlp_bias=True, norm_bias=True,
                       pad_token_id=0, bos_token_id=1, cls_token_id=1, eos_token_id=2, sep_token_id=2),
    "gpt2": dict(vocab_size=40, n_embd=12, n_layer=2, n_head=3, n_inner=20, n_positions=24,
                 scale_attn_by_inverse_layer_idx=True, layer_norm_epsilon=1e-3,
                 bos_token_id=1, eos_token_id=2),
    "llama": dict(DECODER, attention_bias=True, mlp_bias=True, rope_parameters=LLAMA3),
    "mistral": dict(DECODER, sliding_window=4, rope_theta=50.0, tie_word_embeddings=True),
    "qwen2": dict({k: v for k, v in DECODER.items() if k != "head_dim"}, use_sliding_window=True, sliding_window=4,
                  max_window_layers=1,
                  rope_scaling=dict(type="linear", factor=2.0)),
    "qwen3": dict(DECODER, tie_word_embeddings=True, use_sliding_window=True, sliding_window=3, layer_types=KINDS),
    "phi3": dict({k: v for k, v in DECODER.items() if k != "head_dim"}, sliding_window=4, tie_word_embeddings=False),
    "gemma": dict(GEMMA, hidden_act="gelu"),
    "gemma2": dict(GEMMA, query_pre_attn_scalar=7, sliding_window=4, attn_logit_softcapping=2.0,
                   final_logit_softcapping=3.0, layer_types=KINDS),
    "gemma3_text": dict(GEMMA, query_pre_attn_scalar=7, sliding_window=4, sliding_window_pattern=2, rope_theta=5000.0,
                        rope_local_base_freq=20.0,
                        rope_scaling=dict(rope_type="linear", factor=2.0)),
    "t5": dict(T5, feed_forward_proj="relu"),
    "mt5": dict(T5, feed_forward_proj="gated-gelu"),
    "bart": dict(BART, scale_embedding=True),
    "mbart": dict(BART, activation_function="relu"),
    "marian": dict(BART, scale_embedding=True, activation_function="swish", decoder_vocab_size=40),
    "pegasus": dict(BART, scale_embedding=True, pad_token_id=0, eos_token_id=1, decoder_start_token_id=0),
}


def inputs_of(kind: str, config: dict) -> dict:
    generator = torch.Generator().manual_seed(11)
    inputs = {"input_ids": torch.randint(4, 40, (3, 11), generator=generator), "attention_mask": torch.ones(3, 11,
        dtype=torch.long)}
    inputs["attention_mask"][1, 7:] = 0
    inputs["attention_mask"][2, :4] = 0
    if config.get("type_vocab_size", 0) > 1:
        inputs["token_type_ids"] = torch.randint(0, 2, (3, 11), generator=generator)
    if kind in families.SEQ2SEQ:
        inputs["decoder_input_ids"] = torch.randint(4, 40, (3, 8), generator=generator)
    return inputs


def make(kind: str) -> None:
    class_name, _ = families.KINDS[kind]
    settings = {"model_type": kind, "architectures": [class_name], **CONFIGURATIONS[kind]}
    folder = OUTPUT / kind
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    (folder / "config.json").write_text(json.dumps(settings, indent=1) + "\n")
    model_class = getattr(transformers, class_name)
    model = model_class(model_class.config_class.from_pretrained(folder))
    families.randomised(model, 7)
    with tempfile.TemporaryDirectory() as scratch:
        model.save_pretrained(scratch)
        shutil.copy(Path(scratch) / "model.safetensors", folder / "model.safetensors")
    inputs = inputs_of(kind, settings)
    wide = families.widened(folder, folder.parent / "wide")
    expected = families.reference(kind, wide, inputs, torch.float64)
    shutil.rmtree(wide)
    safetensors.torch.save_file({**inputs, "expected": expected.contiguous()}, folder / "expected.safetensors")
    print(kind, sum(file.stat().st_size for file in folder.iterdir()), "bytes")


def main() -> None:
    transformers.utils.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()
    for kind in sys.argv[1:] or CONFIGURATIONS:
        make(kind)


if __name__ == "__main__":
    main()
