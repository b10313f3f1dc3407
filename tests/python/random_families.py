#!/usr/bin/env python3
"""Random configurations of every native model family, as config.json files say them, and what transformers computes
from such a folder.

  random_families.py --draws 60 [KIND...]        draws that many of each kind and prints a table: equal, refused,
  largest differences

A draw is equal to transformers in float64 and in float32, or deeplora refuses the folder and names the setting. Keys
are left out at random, so that defaults count too, and older spellings are drawn beside today's. Nothing is downloaded.
"""
from __future__ import annotations

import argparse
import json
import os
import random
import re
import shutil
import subprocess
import sys
import tempfile
from contextlib import contextmanager
from pathlib import Path

os.environ.setdefault("HF_HUB_OFFLINE", "1")

import safetensors.torch
import torch
import transformers
from torch.overrides import TorchFunctionMode

from fork_server import started

ROOT = Path(__file__).resolve().parents[2]
ACTIVATIONS = ["gelu", "gelu_new", "gelu_pytorch_tanh", "gelu_fast", "quick_gelu", "relu", "silu", "swish", "tanh"]
OTHER_ACTIVATIONS = ["mish", "relu2", "sigmoid", "gelu_10", "leaky_relu", "laplace", "linear", "gelu_python"]


class Draw(random.Random):
    """Random settings; `often` and `seldom` say how likely something unusual is."""

    def often(self) -> bool:
        return self.random() < 0.5

    def seldom(self) -> bool:
        return self.random() < 0.08

    def activation(self) -> str:
        return self.choice(OTHER_ACTIVATIONS if self.seldom() else ACTIVATIONS)

    def epsilon(self) -> float:
        return self.choice([1e-12, 1e-6, 1e-5, 1e-3, 0.02])

    def some(self, settings: dict, keep: float = 0.7) -> dict:
        """Those of the settings that config.json says; the others are left to their defaults."""
        return {key: value for key, value in settings.items() if self.random() < keep}


# ---- kinds: what config.json holds ----


def encoder(draw: Draw, **more) -> dict:
    heads = draw.choice([1, 2, 3, 4])
    settings = dict(vocab_size=draw.randint(30, 97), hidden_size=heads * draw.randint(3, 9),
                    num_hidden_layers=draw.randint(1, 3), num_attention_heads=heads,
                    intermediate_size=draw.randint(5, 40), max_position_embeddings=draw.randint(32, 50),
                    type_vocab_size=draw.randint(1, 3))
    optional = dict(hidden_act=draw.activation(), layer_norm_eps=draw.epsilon(), pad_token_id=draw.randint(0, 4),
                    hidden_dropout_prob=0.2,
                    attention_probs_dropout_prob=draw.choice([0.0, 0.3]), classifier_dropout=None, use_cache=True)
    if draw.seldom():
        optional["is_decoder"] = True
    if draw.seldom():
        optional["position_embedding_type"] = draw.choice(["absolute", "relative_key", "relative_key_query"])
    return {**settings, **draw.some(optional), **more}


def distilbert(draw: Draw) -> dict:
    heads = draw.choice([1, 2, 3])
    settings = dict(vocab_size=draw.randint(30, 97), dim=heads * draw.randint(3, 9), n_layers=draw.randint(1, 3),
                    n_heads=heads, hidden_dim=draw.randint(5, 40),
                    max_position_embeddings=draw.randint(32, 50))
    return {**settings, **draw.some(dict(activation=draw.activation(), pad_token_id=draw.randint(0, 4),
                                         sinusoidal_pos_embds=draw.often(), dropout=0.2))}


def electra(draw: Draw) -> dict:
    settings = encoder(draw)
    return {**settings, "embedding_size": draw.choice([settings["hidden_size"], draw.randint(4, 20)])}


def albert(draw: Draw) -> dict:
    more = dict(num_hidden_groups=2 if draw.seldom() else 1, inner_group_num=2 if draw.seldom() else 1)
    return {**electra(draw), **draw.some(more)}


def mpnet(draw: Draw) -> dict:
    settings = encoder(draw)
    del settings["type_vocab_size"]
    settings.setdefault("pad_token_id", 1)
    return {**settings, **draw.some(dict(relative_attention_num_buckets=draw.choice([16, 32, 32, 40])), keep=0.5)}


def deberta(draw: Draw) -> dict:
    settings = {**encoder(draw), "type_vocab_size": draw.choice([0, 0, 1, 2])}
    settings.pop("is_decoder", None)
    kinds = draw.choice([["c2p", "p2c"], ["p2c", "c2p"], ["c2p"], ["p2c"], [], "p2c|c2p", "C2P | p2c", "c2p"])
    more = dict(relative_attention=draw.random() < 0.85, pos_att_type=kinds, position_biased_input=draw.often(),
                share_att_key=draw.often(),
                position_buckets=draw.choice([-1, 2, 5, 6, 8, 16]), max_relative_positions=draw.choice([-1, -1, 0, 14,
                    30]),
                norm_rel_ebd=draw.choice(["layer_norm", "none", "layer_norm|none"]), legacy=draw.often(),
                pooler_dropout=0)
    if draw.random() < 0.3:
        groups = 2 if settings["hidden_size"] % 2 == 0 and draw.often() else 1
        more |= dict(conv_kernel_size=draw.choice([1, 3, 3, 5]), conv_act=draw.activation(), conv_groups=groups)
    if draw.random() < 0.2:
        more["embedding_size"] = draw.randint(4, 20)
    out = {**settings, **draw.some(more, keep=0.85)}
    if draw.seldom():
        out["attention_head_size"] = settings["hidden_size"] // settings["num_attention_heads"]
    return out


def modernbert(draw: Draw) -> dict:
    heads, layers = draw.choice([1, 2, 3, 4]), draw.randint(1, 5)
    settings = dict(vocab_size=draw.randint(30, 97), hidden_size=heads * 2 * draw.randint(2, 5),
                    num_hidden_layers=layers, num_attention_heads=heads,
                    intermediate_size=draw.randint(5, 40), max_position_embeddings=draw.randint(32, 50),
                    pad_token_id=draw.randint(0, 4), cls_token_id=1,
                    sep_token_id=2, bos_token_id=1, eos_token_id=2)
    more = dict(hidden_activation=draw.activation(), norm_eps=draw.epsilon(), norm_bias=draw.often(),
                attention_bias=draw.often(), mlp_bias=draw.often(),
                local_attention=draw.choice([2, 4, 5, 7, 8, 12, 128]), attention_dropout=0.1, mlp_dropout=0.1,
                embedding_dropout=0.1)
    out = {**settings, **draw.some(more)}
    if draw.often():
        out |= draw.some(dict(global_attn_every_n_layers=draw.randint(1, 4), global_rope_theta=draw.choice([50.0, 1e4]),
                              local_rope_theta=draw.choice([10.0, 1e4])))
    else:
        kinds = ["full_attention", "sliding_attention"]
        out |= draw.some(dict(layer_types=[draw.choice(kinds) for _ in range(layers)],
                              rope_parameters={kind: section for kind in kinds if (section := rope_section(draw))}),
                         keep=0.8)
    if draw.seldom():
        out["rope_scaling"] = {"rope_type": "linear", "factor": 2.0}
    return out


def gpt2(draw: Draw) -> dict:
    heads = draw.choice([1, 2, 3, 4])
    settings = dict(vocab_size=draw.randint(30, 97), n_embd=heads * draw.randint(3, 9), n_layer=draw.randint(1, 3),
                    n_head=heads, n_positions=draw.randint(32, 50),
                    bos_token_id=1, eos_token_id=2)
    more = dict(n_inner=draw.choice([None, draw.randint(5, 40)]), activation_function=draw.activation(),
                layer_norm_epsilon=draw.epsilon(),
                scale_attn_weights=draw.often(), scale_attn_by_inverse_layer_idx=draw.often(),
                reorder_and_upcast_attn=draw.often(),
                tie_word_embeddings=draw.often(), pad_token_id=draw.choice([None, 0]))
    if draw.seldom():
        more["add_cross_attention"] = True
    return {**settings, **draw.some(more)}


def rope_section(draw: Draw, older: bool = False) -> dict:
    """One set of rotary positions, `older` without its base."""
    kind = draw.choice(["default", "default", "linear", "llama3", "yarn", "dynamic"] if draw.random() < 0.7
                       else ["default"])
    section = {"type" if older and draw.often() else "rope_type": kind}
    if not older:
        section["rope_theta"] = draw.choice([20.0, 1e3, 1e4, 5e5])
    if kind != "default":
        section["factor"] = draw.choice([1.5, 2.0, 8.0])
    if kind == "llama3":
        section |= dict(low_freq_factor=1.0, high_freq_factor=draw.choice([2.0, 4.0]),
                        original_max_position_embeddings=draw.choice([8, 16, 24]))
    if kind == "yarn":
        section |= draw.some(dict(original_max_position_embeddings=16, beta_fast=8.0, beta_slow=1.0,
                                  attention_factor=1.2, mscale=0.7, mscale_all_dim=1.0,
                                  truncate=draw.often()), keep=0.5)
    if draw.seldom():
        section["partial_rotary_factor"] = 0.5
    return section


def rope(draw: Draw) -> dict:
    """Rotary positions by today's keys, by older ones, or none."""
    way = draw.choice(["none", "new", "new", "old", "old"])
    if way == "new":
        return {"rope_parameters": rope_section(draw)}
    if way == "old":
        section = rope_section(draw, older=True)
        return draw.some(dict(rope_theta=draw.choice([20.0, 1e3, 5e5]), rope_scaling=None if "default"
                              in section.values() else section), keep=0.8)
    return {}


def decoder(draw: Draw, nullable: bool = True) -> dict:
    kv_heads, shared = draw.choice([1, 2, 3]), draw.choice([1, 2, 3])
    heads, width = kv_heads * shared, 2 * draw.randint(2, 5)
    settings = dict(vocab_size=draw.randint(30, 97), hidden_size=heads * width, num_hidden_layers=draw.randint(1, 4),
                    num_attention_heads=heads,
                    num_key_value_heads=kv_heads, intermediate_size=draw.randint(5, 40),
                    max_position_embeddings=draw.randint(32, 60), head_dim=width,
                    bos_token_id=1, eos_token_id=2, pad_token_id=draw.choice([None, 0, 3]))
    optional = dict(hidden_act=draw.activation(), rms_norm_eps=draw.epsilon(), tie_word_embeddings=draw.often(),
                    attention_dropout=0.1)
    if kv_heads == heads and nullable and draw.often():
        settings["num_key_value_heads"] = None
    if draw.often():
        settings["head_dim"] = 2 * draw.randint(2, 6)
    return {**settings, **draw.some(optional), **rope(draw)}


def llama(draw: Draw) -> dict:
    out = {**decoder(draw), **draw.some(dict(attention_bias=draw.often(), mlp_bias=draw.often(), pretraining_tp=2))}
    if draw.often():
        del out["head_dim"]
    return out


def mistral(draw: Draw) -> dict:
    out = {**decoder(draw, nullable=False), **draw.some(dict(sliding_window=draw.choice([None, 3, 6, 12])))}
    if draw.often():
        out["head_dim"] = None
    return out


def windows(draw: Draw, layers: int) -> dict:
    out = draw.some(dict(use_sliding_window=draw.random() < 0.7, sliding_window=draw.choice([None, 3, 6]),
                         max_window_layers=draw.randint(0, 3)))
    if draw.often():
        out["layer_types"] = [draw.choice(["full_attention", "sliding_attention"]) for _ in range(layers)]
    return out


def qwen2(draw: Draw) -> dict:
    out = decoder(draw)
    del out["head_dim"]
    return {**out, **windows(draw, out["num_hidden_layers"])}


def qwen3(draw: Draw) -> dict:
    out = decoder(draw)
    return {**out, **draw.some(dict(attention_bias=draw.often())), **windows(draw, out["num_hidden_layers"])}


def phi3(draw: Draw) -> dict:
    out = decoder(draw)
    del out["head_dim"]
    out |= draw.some(dict(sliding_window=draw.choice([None, 3, 6]), resid_pdrop=0.1, partial_rotary_factor=0.5
                          if draw.seldom() else 1.0,
                          original_max_position_embeddings=draw.choice([8, 4096])))
    out.setdefault("pad_token_id", 0)
    if draw.seldom():
        half = out["hidden_size"] // out["num_attention_heads"] // 2
        out.pop("rope_parameters", None)
        out["rope_scaling"] = {"type": "longrope", "short_factor": [1.1] * half, "long_factor": [2.0] * half}
    return out


def gemma(draw: Draw) -> dict:
    out = {**decoder(draw, nullable=False), **draw.some(dict(attention_bias=draw.often()))}
    if draw.often():
        out["hidden_activation"] = draw.choice([None, "gelu_pytorch_tanh", "gelu"])
    if draw.seldom():
        out["use_bidirectional_attention"] = True
    return out


def gemma2(draw: Draw) -> dict:
    out = gemma(draw)
    out.pop("hidden_activation", None)
    if "hidden_act" in out and draw.often():  # not read by this kind
        out["hidden_activation"] = out.pop("hidden_act")
    more = dict(query_pre_attn_scalar=draw.choice([7, 16, 256]), sliding_window=draw.choice([3, 6, 4096]),
                attn_logit_softcapping=draw.choice([None, 2.0, 50.0]),
                final_logit_softcapping=draw.choice([None, 3.0, 30.0]))
    if draw.often():
        more["layer_types"] = [draw.choice(["full_attention", "sliding_attention"]) for _
                               in range(out["num_hidden_layers"])]
    return {**out, **draw.some(more)}


def gemma3(draw: Draw) -> dict:
    out = gemma2(draw)
    for key in ("rope_parameters", "rope_theta", "rope_scaling"):
        out.pop(key, None)
    if draw.often():
        section = rope_section(draw, older=True)
        out |= draw.some(dict(rope_theta=draw.choice([20.0, 1e6]), rope_local_base_freq=draw.choice([10.0, 1e4]),
                              sliding_window_pattern=draw.randint(1, 4),
                              rope_scaling=None if "default" in section.values() else section))
    else:
        out |= draw.some(dict(rope_parameters={kind: rope_section(draw) for kind in ("full_attention",
            "sliding_attention")}), keep=0.8)
    return out


def t5(draw: Draw) -> dict:
    heads = draw.choice([1, 2, 3])
    settings = dict(vocab_size=draw.randint(30, 97), d_model=draw.randint(6, 30), d_kv=draw.randint(3, 8),
                    d_ff=draw.randint(5, 40), num_layers=draw.randint(1, 3),
                    num_heads=heads, pad_token_id=0, eos_token_id=1, decoder_start_token_id=0)
    kind = draw.activation() if draw.often() else f"gated-{draw.activation()}"
    buckets = draw.choice([4, 6, 8, 16, 32])
    if draw.often():
        settings |= dict(relative_attention_num_buckets=buckets,
                         relative_attention_max_distance=draw.choice([buckets // 2 + 1, buckets + 4, 128]))
    more = dict(num_decoder_layers=draw.randint(1, 3), feed_forward_proj=draw.choice([kind, "gated-gelu", "relu"]),
                layer_norm_epsilon=draw.epsilon(),
                tie_word_embeddings=draw.often(), dropout_rate=0.1)
    if draw.seldom():
        more["scale_decoder_outputs"] = draw.often()
    return {**settings, **draw.some(more)}


def bart(draw: Draw, **more) -> dict:
    first, second = draw.choice([(1, 2), (2, 1), (3, 1), (2, 2), (4, 2)])
    width = first * second * draw.choice([2, 3, 4])
    settings = dict(vocab_size=draw.randint(30, 97), d_model=width, encoder_layers=draw.randint(1, 3),
                    decoder_layers=draw.randint(1, 3),
                    encoder_attention_heads=first, decoder_attention_heads=second, encoder_ffn_dim=draw.randint(5, 40),
                    decoder_ffn_dim=draw.randint(5, 40),
                    max_position_embeddings=draw.randint(32, 50), bos_token_id=0, eos_token_id=2,
                    decoder_start_token_id=2, pad_token_id=1)
    optional = dict(activation_function=draw.activation(), scale_embedding=draw.often(), dropout=0.2,
                    attention_dropout=0.1, activation_dropout=0.1,
                    tie_word_embeddings=draw.random() < 0.8)
    if draw.seldom():
        optional["normalize_before", "relative_attention_num_buckets", "a table of its own has no native form"] = True
    return {**settings, **draw.some(optional), **more}


def marian(draw: Draw) -> dict:
    out = bart(draw)
    out["d_model"] += out["d_model"] % 2 * out["d_model"]  # sinusoids come in pairs
    return {**out, "decoder_vocab_size": out["vocab_size"],
            **draw.some(dict(share_encoder_decoder_embeddings=not draw.seldom()))}


def pegasus(draw: Draw) -> dict:
    out = bart(draw)
    out["d_model"] += out["d_model"] % 2 * out["d_model"]
    return out


# name -> (class, config.json)
KINDS = {
    "bert": ("BertModel", encoder), "roberta": ("RobertaModel", encoder), "xlm-roberta": ("XLMRobertaModel", encoder),
    "camembert": ("CamembertModel", encoder),
    "distilbert": ("DistilBertModel", distilbert), "electra": ("ElectraModel", electra), "albert": ("AlbertModel",
        albert), "mpnet": ("MPNetModel", mpnet),
    "deberta-v2": ("DebertaV2Model", deberta), "modernbert": ("ModernBertModel", modernbert),
    "gpt2": ("GPT2LMHeadModel", gpt2), "llama": ("LlamaForCausalLM", llama), "mistral": ("MistralForCausalLM", mistral),
    "qwen2": ("Qwen2ForCausalLM", qwen2),
    "qwen3": ("Qwen3ForCausalLM", qwen3), "phi3": ("Phi3ForCausalLM", phi3), "gemma": ("GemmaForCausalLM", gemma),
    "gemma2": ("Gemma2ForCausalLM", gemma2),
    "gemma3_text": ("Gemma3ForCausalLM", gemma3),
    "t5": ("T5ForConditionalGeneration", t5), "mt5": ("MT5ForConditionalGeneration", t5),
    "bart": ("BartForConditionalGeneration", bart),
    "mbart": ("MBartForConditionalGeneration", bart), "marian": ("MarianMTModel", marian),
    "pegasus": ("PegasusForConditionalGeneration", pegasus),
}
SEQ2SEQ = {"t5", "mt5", "bart", "mbart", "marian", "pegasus"}
ENCODERS = set(list(KINDS)[:10])

# ---- what transformers computes ----


class Unrounded(TorchFunctionMode):
    """float64 stays float64 where a model asks for float32 to be safe in half precision: norms, softmax, rotary heads.
    Frequencies, which are float32 in every dtype, are left alone."""

    def __init__(self):
        super().__init__()
        self.active = True

    def __torch_function__(self, function, types, args=(), kwargs=None):
        kwargs = dict(kwargs or {})
        if self.active and args and isinstance(args[0], torch.Tensor) and args[0].dtype == torch.float64:
            if function is torch.Tensor.float:
                return args[0]
            if function is torch.Tensor.to and (torch.float32 in args or kwargs.get("dtype") is torch.float32):
                return args[0]
            if kwargs.get("dtype") is torch.float32:
                kwargs["dtype"] = torch.float64
        return function(*args, **kwargs)


@contextmanager
def unrounded(model):
    mode, hooks = Unrounded(), []
    for module in model.modules():
        if type(module).__name__.endswith("RotaryEmbedding"):
            hooks.append(module.register_forward_pre_hook(lambda *_: setattr(mode, "active", False)))
            hooks.append(module.register_forward_hook(lambda *_: setattr(mode, "active", True)))
    with mode, torch.no_grad():
        yield
    for hook in hooks:
        hook.remove()


def randomised(model, seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, value in model.state_dict().items():
            if not value.is_floating_point():
                continue
            noise = torch.randn(value.shape, generator=generator)
            if value.dim() < 2:
                value.add_(0.3 * noise)
            elif name.endswith("final_logits_bias"):
                value.copy_(0.3 * noise)
            else:
                value.copy_(noise * (0.5 if "embed" in name or "shared" in name or "wte" in name
                                     else 1.3 / value.shape[-1] ** 0.5))


class Impossible(Exception):
    """transformers itself makes no such model."""


def widened(folder: Path, out: Path) -> Path:
    """A copy of the folder whose weights are float64."""
    shutil.copytree(folder, out)
    weights = safetensors.torch.load_file(folder / "model.safetensors")
    safetensors.torch.save_file({name: value.double() if value.is_floating_point() else value for name,
                                 value in weights.items()},
                                out / "model.safetensors", {"format": "pt"})
    return out


def make_folder(kind: str, seed: int, folder: Path) -> dict:
    """A folder with random weights under folder/f32 and folder/f64; returns config.json."""
    draw = Draw(f"{kind} {seed}")
    class_name, settings = KINDS[kind]
    settings = {"model_type": kind, "architectures": [class_name], **settings(draw)}
    plain, wide = folder / "f32", folder / "f64"
    plain.mkdir(parents=True)
    (plain / "config.json").write_text(json.dumps(settings))
    model_class = getattr(transformers, class_name)
    try:
        model = model_class(model_class.config_class.from_pretrained(plain))
    except Exception as error:  # one kind for each family
        raise Impossible(f"{type(error).__name__}: {error}") from error
    randomised(model, seed)
    model.save_pretrained(plain)
    if draw.random() < 0.6:  # as it was written by hand, or as transformers writes it
        (plain / "config.json").write_text(json.dumps(settings))
    widened(plain, wide)
    return json.loads((plain / "config.json").read_text())


def make_inputs(kind: str, seed: int, config: dict) -> dict:
    draw, generator = Draw(f"inputs {kind} {seed}"), torch.Generator().manual_seed(seed)
    rows, tokens = draw.randint(1, 4), draw.choice([1, 2, 5, 13, 21, 27])
    words = config.get("vocab_size")
    inputs = {"input_ids": torch.randint(0, words, (rows, tokens), generator=generator),
              "attention_mask": torch.ones(rows, tokens, dtype=torch.long)}
    padding = draw.choice(["none", "right", "left"] + (["gaps"] if kind in ENCODERS else []))
    for row in range(rows):
        gone = draw.randint(0, tokens - 1)
        if padding == "right":
            inputs["attention_mask"][row, tokens - gone:] = 0
        elif padding == "left":
            inputs["attention_mask"][row, :gone] = 0
        elif padding == "gaps" and tokens > 2:
            inputs["attention_mask"][row, draw.sample(range(tokens), gone)] = 0
    kinds = config.get("type_vocab_size", 0 if kind in ("deberta-v2", "modernbert", "distilbert", "mpnet") else 2)
    if kind in ENCODERS and kinds and draw.often():
        inputs["token_type_ids"] = torch.randint(0, kinds, (rows, tokens), generator=generator)
    if kind in SEQ2SEQ:
        inputs["decoder_input_ids"] = torch.randint(0, words, (rows, draw.choice([1, 4, 17])), generator=generator)
    return inputs


def reference(kind: str, folder: Path, inputs: dict, dtype: torch.dtype) -> torch.Tensor:
    """What transformers gives for the folder; hidden states of an encoder, else logits."""
    options = {"add_pooling_layer": False} if kind in ("bert", "roberta", "xlm-roberta", "camembert", "albert",
                                                       "mpnet") else {}
    model = getattr(transformers, KINDS[kind][0]).from_pretrained(folder, attn_implementation="eager", dtype=dtype,
        **options).eval()
    for module in model.modules():
        # the same sums; its float32 has no float64
        if dtype == torch.float64 and hasattr(module, "reorder_and_upcast_attn"):
            module.reorder_and_upcast_attn = False
    given = dict(inputs)
    if kind not in ENCODERS and kind not in SEQ2SEQ:  # as generate() counts positions
        given["position_ids"] = (inputs["attention_mask"].cumsum(1) - 1).clamp(min=0)
    if kind not in ENCODERS:
        given["use_cache"] = False
    with unrounded(model):
        out = model(**given)
    return (out.last_hidden_state if kind in ENCODERS else out.logits).double()


def seen_cells(kind: str, inputs: dict) -> torch.Tensor:
    return torch.ones_like(inputs["decoder_input_ids"]) if kind in SEQ2SEQ else inputs["attention_mask"]


def program_outputs(program: Path, folder: Path, inputs: Path, out: Path) -> dict | str:
    """Tensors, or the message of a refusal."""
    done = subprocess.run([*started(program), "outputs", str(folder), str(inputs), str(out)], capture_output=True,
                          text=True, timeout=300)
    if done.returncode == 0:
        return safetensors.torch.load_file(out)
    assert done.returncode == 1 and done.stderr.startswith("error: "), (done.returncode, done.stdout, done.stderr)
    return done.stderr.strip()


def compare(program: Path, kind: str, seed: int, folder: Path) -> dict:
    """{"refused": message} or {"f64": difference, "f32": difference, "own": that of transformers in float32}, relative
    to the largest value."""
    config = make_folder(kind, seed, folder)
    inputs = make_inputs(kind, seed, config)
    safetensors.torch.save_file(inputs, folder / "inputs.safetensors")
    found = {}
    for name in ("f64", "f32"):
        outputs = program_outputs(program, folder / name, folder / "inputs.safetensors", folder / "out.safetensors")
        if isinstance(outputs, str):
            return {"refused": outputs, "config": config}
        found[name] = outputs
    cells = seen_cells(kind, inputs).bool()
    try:
        expected = reference(kind, folder / "f64", inputs, torch.float64)
        own = reference(kind, folder / "f32", inputs, torch.float32)
    except Exception as error:
        raise Impossible(f"{type(error).__name__}: {error}") from error
    scale = expected[cells].abs().max().item() or 1.0
    out = {"own": (own - expected)[cells].abs().max().item() / scale, "config": config}
    for name, outputs in found.items():
        difference = (outputs["output"].double() - expected)[cells].abs().max().item() / scale
        if "first" in outputs:
            first = cells[:, 0]
            if first.any():
                difference = max(difference,
                                 (outputs["first"].double() - expected[:, 0])[first].abs().max().item() / scale)
        out[name] = difference if difference == difference else float("inf")
    return out


def is_equal(found: dict) -> bool:
    # float32: rounding alone, of which an ill-conditioned draw shows more in transformers' own float32 too
    return found["f64"] < 1e-10 and found["f32"] < max(1e-5, 4 * found["own"])


# What is refused, and by which word of the message one sees why.
REFUSALS = [r"activation '\w+' is not known", r"rope scaling '\w+'", "partial_rotary_factor", "is_decoder",
            "position_embedding_type", "num_hidden_groups", "inner_group_num",
            "add_cross_attention|cross-attention", "use_bidirectional_attention", "share_encoder_decoder_embeddings",
            "rope_scaling: a ModernBERT", "normalize_before", "relative_attention_num_buckets",
            "a table of its own has no native form"]


def is_known_refusal(message: str) -> bool:
    return any(re.search(pattern, message) for pattern in REFUSALS)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("kinds", nargs="*", metavar="KIND")
    parser.add_argument("--draws", type=int, default=60)
    parser.add_argument("--first", type=int, default=0, help="seed of the first draw")
    parser.add_argument("--program", type=Path, default=Path(os.environ.get("DEEPLORA_FAMILIES",
        ROOT / "build/tests/deeplora_families")))
    options = parser.parse_args()
    transformers.utils.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()
    torch.set_num_threads(1)
    wrong = 0
    print(f"{'kind':12} {'equal':>6} {'refused':>8} {'impossible':>11} {'float64':>9} {'float32':>9}")
    for kind in options.kinds or KINDS:
        equal, refused, impossible, worst = 0, {}, 0, {"f64": 0.0, "f32": 0.0}
        for seed in range(options.first, options.first + options.draws):
            with tempfile.TemporaryDirectory() as folder:
                try:
                    found = compare(options.program, kind, seed, Path(folder))
                except Impossible as why:
                    impossible += 1
                    print(f"  {kind} {seed}: transformers: {str(why)[:160]}", file=sys.stderr)
                    continue
            if "refused" in found:
                refused[seed] = found["refused"]
                if not is_known_refusal(found["refused"]):
                    wrong += 1
                    print(f"  {kind} {seed}: {found['refused']}\n    {found['config']}")
                continue
            if is_equal(found):
                equal += 1
                worst = {name: max(value, found[name]) for name, value in worst.items()}
            else:
                wrong += 1
                print(f"  {kind} {seed}: float64 {found['f64']:.1e} float32 {found['f32']:.1e} (transformers "
                      f"{found['own']:.1e})\n    {found['config']}")
        print(f"{kind:12} {equal:6} {len(refused):8} {impossible:11} {worst['f64']:9.1e} {worst['f32']:9.1e}",
              flush=True)
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
