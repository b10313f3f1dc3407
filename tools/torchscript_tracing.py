"""How export_torchscript.py traces a Hugging Face model and finds out whether the trace is right.

B batch, T tokens, D width, V vocabulary, C classes. The mask code of transformers bakes the traced length or does not
trace at all in several versions; the wrappers here therefore build four-dimensional additive masks and position ids
from the [B, T] mask with operations that stay dynamic, and transformers passes such masks on untouched.
"""
from __future__ import annotations

import contextlib
import functools
import inspect

import torch

# Largest difference allowed, relative to the largest output. Kernels may differ (a fused attention in one of the two),
# the mathematics may not: float32 rounding is about 1e-6 here, a wrong mask or position 1e-2 and more.
TOLERANCE = {torch.float32: 3e-5, torch.bfloat16: 6e-2, torch.float16: 8e-3}
# Added to the score of a key that must not be seen. exp(-30000) is 0 in every dtype, and unlike the dtype's lowest
# number it cannot overflow to -inf (and to NaN in a row without any visible key) when a negative score is added to it.
HIDDEN_SCORE = -30000.0


class TraceError(Exception):
    """The model cannot be traced, or its trace is wrong; the message is one line."""


def first_line(error: BaseException) -> str:
    """The first line of the message, cut to a readable length."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    text = lines[0] if lines else type(error).__name__
    return text if len(text) <= 240 else text[:237] + "..."


# ---- masks and positions ----


def norm_weight(model: torch.nn.Module) -> torch.Tensor:
    """A one-dimensional parameter: masks follow its dtype, also after the archive is converted to another one."""
    return next(p for p in model.parameters() if p.dim() == 1 and p.is_floating_point())


def padding_scores(attention_mask: torch.Tensor, like: torch.Tensor) -> torch.Tensor:
    """[B, T] of 1 (seen) and 0 (padding) -> additive scores [B, 1, 1, T]."""
    return (1 - attention_mask)[:, None, None, :].type_as(like) * HIDDEN_SCORE


def causal_scores(attention_mask: torch.Tensor, like: torch.Tensor, window: int | None = None) -> torch.Tensor:
    """[B, T] -> additive scores [B, 1, T, T]: hides padding, the future, and keys `window` or more tokens back."""
    place = torch.ones_like(attention_mask[0]).cumsum(0)  # 1..T by the input's own size
    distance = place[:, None] - place[None, :]
    seen = distance >= 0
    if window is not None:
        seen = seen & (distance < window)
    seen = seen[None, None] & (attention_mask[:, None, None, :] > 0)
    return torch.logical_not(seen).type_as(like) * HIDDEN_SCORE


def positions(attention_mask: torch.Tensor) -> torch.Tensor:
    """Position of each token [B, T], counted without the padding; 0 at padding on the left."""
    return (attention_mask.cumsum(1) - 1).clamp(min=0)


def sliding_window(config) -> int | None:
    """The window in tokens, or None when every layer sees everything."""
    if getattr(config, "use_sliding_window", True) is False:
        return None
    return getattr(config, "sliding_window", None)


# ---- wrappers: what is traced. `model` is the Hugging Face model, so parameters are model.<its name> ----


class Wrapper(torch.nn.Module):
    """forward() takes the archive's inputs and returns its one output."""

    def __init__(self, model: torch.nn.Module, own_masks: bool):
        super().__init__()
        self.model = model
        self.own_masks = own_masks  # False: hand over the [B, T] mask and let the model expand it

    def visible(self, attention_mask):
        return padding_scores(attention_mask, norm_weight(self.model)) if self.own_masks else attention_mask


class EncoderWrapper(Wrapper):
    def forward(self, input_ids, attention_mask):
        return self.model(input_ids=input_ids, attention_mask=self.visible(attention_mask))[0]


class SegmentEncoderWrapper(Wrapper):
    def forward(self, input_ids, attention_mask, token_type_ids):
        return self.model(
            input_ids=input_ids, attention_mask=self.visible(attention_mask), token_type_ids=token_type_ids)[0]


class CausalWrapper(Wrapper):
    def __init__(self, model: torch.nn.Module, own_masks: bool):
        super().__init__(model, own_masks)
        self.takes_positions = "position_ids" in inspect.signature(model.forward).parameters

    def masks(self, attention_mask):
        """One mask, or one a kind of layer for models that mix sliding windows and full attention."""
        if not self.own_masks:
            return attention_mask
        like, window = norm_weight(self.model), sliding_window(self.model.config)
        kinds = set(getattr(self.model.config, "layer_types", None) or ())
        if window is None or kinds == {"full_attention"}:
            return causal_scores(attention_mask, like)
        if kinds <= {"sliding_attention"}:
            return causal_scores(attention_mask, like, window)
        return {"full_attention": causal_scores(attention_mask, like),
                "sliding_attention": causal_scores(attention_mask, like, window)}

    def forward(self, input_ids, attention_mask):
        more = {"position_ids": positions(attention_mask)} if self.takes_positions else {}
        return self.model(
            input_ids=input_ids, attention_mask=self.masks(attention_mask), use_cache=False, **more)[0]


class Seq2SeqWrapper(Wrapper):
    def forward(self, input_ids, attention_mask, decoder_input_ids, decoder_attention_mask):
        decoder_mask = decoder_attention_mask
        if self.own_masks:
            decoder_mask = causal_scores(decoder_attention_mask, norm_weight(self.model))
        return self.model(
            input_ids=input_ids, attention_mask=self.visible(attention_mask), decoder_input_ids=decoder_input_ids,
            decoder_attention_mask=decoder_mask, use_cache=False)[0]


def wrap(model: torch.nn.Module, task: str, own_masks: bool) -> Wrapper:
    """The wrapper of `task`; encoders take token_type_ids where there is more than one segment to tell apart."""
    if task == "causal-lm":
        return CausalWrapper(model, own_masks)
    if task == "seq2seq":
        return Seq2SeqWrapper(model, own_masks)
    segments = "token_type_ids" in inspect.signature(model.forward).parameters
    segments = segments and getattr(model.config, "type_vocab_size", 0) > 1
    return (SegmentEncoderWrapper if segments else EncoderWrapper)(model, own_masks)


def input_names(wrapper: Wrapper) -> list[str]:
    """The archive's inputs in order."""
    return list(inspect.signature(wrapper.forward).parameters)


# ---- comparing ----


def random_tokens(config, batch: int, length: int, pad: str, generator) -> tuple[torch.Tensor, torch.Tensor]:
    """(ids, mask), both [batch, length]; pad: "none", "right" or "left" (every second row keeps two thirds)."""
    pad_id = getattr(config, "pad_token_id", None)
    pad_id = 0 if pad_id is None or pad_id < 0 else pad_id
    ids = torch.randint(0, config.vocab_size, (batch, length), generator=generator)
    ids[ids == pad_id] = (pad_id + 1) % config.vocab_size
    mask = torch.ones_like(ids)
    if pad != "none":
        mask[::2, max(1, 2 * length // 3):] = 0
        if pad == "left":
            mask = mask.flip(1)
    return torch.where(mask > 0, ids, torch.full_like(ids, pad_id)), mask


def example(wrapper: Wrapper, batch: int, length: int, pad: str, seed: int) -> dict[str, torch.Tensor]:
    """Random inputs by name, in the order of forward()'s arguments; decoder inputs are 2 tokens longer where they may
    be."""
    config, generator = wrapper.model.config, torch.Generator().manual_seed(seed)
    names = input_names(wrapper)
    ids, mask = random_tokens(config, batch, length, pad, generator)
    values = {"input_ids": ids, "attention_mask": mask}
    if "token_type_ids" in names:
        values["token_type_ids"] = torch.randint(0, config.type_vocab_size, ids.shape, generator=generator)
    if "decoder_input_ids" in names:
        decoder = random_tokens(config, batch, min(length + 2, longest(wrapper)), pad, generator)
        values["decoder_input_ids"], values["decoder_attention_mask"] = decoder
    return {name: values[name] for name in names}


def expected(wrapper: Wrapper, inputs: dict[str, torch.Tensor], pad: str) -> torch.Tensor:
    """What the untouched Hugging Face model computes from the same inputs with its own masks."""
    inputs = dict(inputs)
    if isinstance(wrapper, (CausalWrapper, Seq2SeqWrapper)):
        inputs["use_cache"] = False
    if pad == "left":
        inputs["position_ids"] = positions(inputs["attention_mask"])  # as transformers' generate() does
    return wrapper.model(**inputs)[0]


def longest(wrapper: Wrapper) -> int:
    """Tokens that any model with these positions takes: RoBERTa and others begin counting behind two of them."""
    return max(1, (getattr(wrapper.model.config, "max_position_embeddings", None) or 64) - 2)


def traced_length(wrapper: Wrapper) -> int:
    return min(7, longest(wrapper))


def probes(wrapper: Wrapper) -> list[tuple[int, int, str]]:
    """(batch, length, padding) of the comparisons: none of them the traced shape, one past a short sliding window."""
    limit, window = longest(wrapper), sliding_window(wrapper.model.config)
    length = min(12, limit)
    long = window + 8 if window and window <= 512 else length + 3
    shapes = [(3, length, "right"), (1, max(1, length // 2), "none"), (5, min(long, limit), "none")]
    if isinstance(wrapper, CausalWrapper) and wrapper.takes_positions:
        shapes.append((4, max(1, length - 1), "left"))
    return shapes


@torch.no_grad()
def difference(wrapper: Wrapper, traced) -> str | None:
    """None when `traced` computes what the original does at every probe, else a line about the first that differs."""
    for seed, (batch, length, pad) in enumerate(probes(wrapper)):
        inputs = example(wrapper, batch, length, pad, seed + 1)
        want, got = expected(wrapper, inputs, pad), traced(**inputs)
        where = f"batch {batch}, length {length}, padding {pad}"
        if want.shape != got.shape or want.dtype != got.dtype:
            return f"at {where}: {got.dtype} {list(got.shape)}, expected {want.dtype} {list(want.shape)}"
        tolerance, want, got = TOLERANCE[want.dtype], want.float(), got.float()
        if want.dim() == 3:  # outputs at padding mean nothing
            mask = inputs.get("decoder_attention_mask", inputs["attention_mask"]) > 0
            want, got = want[mask], got[mask]
        error = (want - got).abs().max().item()
        allowed = tolerance * max(1.0, want.abs().max().item())
        if not error <= allowed:  # this way round NaN is an error too
            return f"at {where}: outputs differ by {error:.2e} (allowed {allowed:.2e})"
    return None


@contextlib.contextmanager
def attention_dropout_kept(model: torch.nn.Module):
    """While this holds, eager attention hands its true dropout probability to a dropout that is switched off.

    In eval mode transformers passes 0 instead, and whoever switches the traced dropout on would train without it. The
    fused kernel has no switch, so it is left alone.
    """
    blocks = [m for m in model.modules() if type(m).__name__.endswith("Attention")]
    fused = getattr(model.config, "_attn_implementation", "eager") != "eager"
    dropout = torch.nn.functional.dropout

    @functools.wraps(dropout)
    def switched_off(input, p=0.5, training=True, inplace=False):
        return dropout(input, p, False, inplace)

    if not fused:
        for block in blocks:
            block.training = True  # of the block alone: its parts stay in eval mode
        torch.nn.functional.dropout = switched_off
    try:
        yield
    finally:
        torch.nn.functional.dropout = dropout
        model.eval()


def trace(model: torch.nn.Module, task: str):
    """(wrapper, traced module): the first way of masking that traces and computes the same at other shapes.

    Throws TraceError when neither does. Models that want the [B, T] mask itself (DeBERTa) fail with the first way.
    """
    failures = []
    for own_masks in (True, False):
        wrapper = wrap(model, task, own_masks).eval()
        inputs = example(wrapper, 2, traced_length(wrapper), "right", 0)
        try:
            with torch.no_grad(), attention_dropout_kept(model):
                traced = torch.jit.trace(wrapper, tuple(inputs.values()), check_trace=False)
            wrong = difference(wrapper, traced.eval())
        except Exception as error:  # the model may refuse such a mask, or the tracer the model's code
            wrong = first_line(error)
        if wrong is None:
            return wrapper, traced
        failures.append(f"{'own masks' if own_masks else 'the masks of the model'}: {wrong}")
    raise TraceError(f"{type(model).__name__} cannot be traced for task {task}: {'; '.join(failures)}")
