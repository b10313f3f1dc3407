"""torch.nn's transformers as people save them: scripted, traced under no_grad (where torch takes its fused operators
for inference) or with gradients. All have the same sites, and the adapted model is the module in PyTorch with W +
delta."""
from __future__ import annotations

import copy
import itertools

import pytest
import torch
from torch import nn

import graph_oracle
from graph_models import WORDS

pytestmark = pytest.mark.filterwarnings("ignore")
HOW = ["script", "no_grad", "grad"]


class Encoder(nn.Module):
    """nn.TransformerEncoder with its padding masked; with `causal` its attention too, which leaves no fused path for
    padding."""

    def __init__(self, norm_first: bool, batch_first: bool, activation: str, nested: bool = True, causal: bool = False):
        super().__init__()
        self.batch_first, self.causal = batch_first, causal
        self.embed = nn.Embedding(WORDS, 16)
        layer = nn.TransformerEncoderLayer(16, 4, 32, batch_first=batch_first, norm_first=norm_first,
                                           activation=activation)
        self.encoder = nn.TransformerEncoder(layer, 2, norm=nn.LayerNorm(16), enable_nested_tensor=nested)
        self.classifier = nn.Linear(16, 2)

    def forward(self, input_ids, attention_mask):
        x = self.embed(input_ids)
        if not self.batch_first:
            x = x.transpose(0, 1)
        if self.causal:
            mask = torch.ones(input_ids.size(1), input_ids.size(1), dtype=torch.bool).triu(1)
            x = self.encoder(x, mask=mask, src_key_padding_mask=attention_mask == 0)
        else:
            x = self.encoder(x, src_key_padding_mask=attention_mask == 0)
        if not self.batch_first:
            x = x.transpose(0, 1)
        keep = attention_mask.unsqueeze(-1).to(x.dtype)
        return self.classifier((x * keep).sum(1) / keep.sum(1))


class Attention(nn.Module):
    def __init__(self, batch_first: bool, weights: bool):
        super().__init__()
        self.batch_first, self.weights = batch_first, weights
        self.embed, self.attention, self.classifier = nn.Embedding(WORDS, 16), nn.MultiheadAttention(16, 4,
            batch_first=batch_first), nn.Linear(16, 2)

    def forward(self, input_ids, attention_mask):
        x = self.embed(input_ids)
        if not self.batch_first:
            x = x.transpose(0, 1)
        y, weights = self.attention(x, x, x, key_padding_mask=attention_mask == 0, need_weights=self.weights)
        if not self.batch_first:
            y = y.transpose(0, 1)
        keep = attention_mask.unsqueeze(-1).to(y.dtype)
        if weights is not None:
            keep = keep * (1.0 + weights.sum(1).unsqueeze(-1))
        return self.classifier((y * keep).sum(1))


def causal_mask(size: int) -> torch.Tensor:
    return torch.ones(size, size, dtype=torch.bool).triu(1)


class Decoder(nn.Module):
    """Attention over itself and over another sequence, whose weight torch.nn cuts into pieces."""

    def __init__(self, norm_first: bool, batch_first: bool = True, activation: str = "relu", causal: bool = False,
                 norm: bool = False):
        super().__init__()
        self.causal, self.batch_first = causal, batch_first
        self.embed, self.memory = nn.Embedding(WORDS, 16), nn.Embedding(WORDS, 16)
        layer = nn.TransformerDecoderLayer(16, 4, 32, batch_first=batch_first, norm_first=norm_first,
                                           activation=activation)
        self.decoder = nn.TransformerDecoder(layer, 2, nn.LayerNorm(16) if norm else None)
        self.classifier = nn.Linear(16, 2)

    def forward(self, input_ids, attention_mask):
        x, memory, padding = self.embed(input_ids), self.memory(input_ids.flip(1)), attention_mask == 0
        if not self.batch_first:
            x, memory = x.transpose(0, 1), memory.transpose(0, 1)
        if self.causal:
            x = self.decoder(x, memory, tgt_mask=causal_mask(input_ids.size(1)), tgt_is_causal=True,
                             memory_key_padding_mask=padding.flip(1))
        else:
            x = self.decoder(x, memory, tgt_key_padding_mask=padding, memory_key_padding_mask=padding.flip(1))
        if not self.batch_first:
            x = x.transpose(0, 1)
        keep = attention_mask.unsqueeze(-1).to(x.dtype)
        return self.classifier((x * keep).sum(1) / keep.sum(1))


class Transformer(nn.Module):
    """nn.Transformer whole: an encoder, a decoder over its states, and every mask that it takes."""

    def __init__(self, norm_first: bool, batch_first: bool, causal: bool):
        super().__init__()
        self.causal, self.batch_first = causal, batch_first
        self.source, self.target = nn.Embedding(WORDS, 16), nn.Embedding(WORDS, 16)
        self.transformer = nn.Transformer(16, 4, 1, 2, 32, batch_first=batch_first, norm_first=norm_first)
        self.classifier = nn.Linear(16, 2)

    def forward(self, input_ids, attention_mask):
        source, target, padding = self.source(input_ids), self.target(input_ids[:, :5]), attention_mask == 0
        if not self.batch_first:
            source, target = source.transpose(0, 1), target.transpose(0, 1)
        if self.causal:
            words, read = input_ids.size(1), input_ids[:, :5].size(1)
            x = self.transformer(source, target, src_mask=causal_mask(words), tgt_mask=causal_mask(read),
                                 memory_mask=causal_mask(words)[:read],
                                 src_key_padding_mask=padding, tgt_key_padding_mask=padding[:, :5],
                                 memory_key_padding_mask=padding)
        else:
            x = self.transformer(source, target, src_key_padding_mask=padding, memory_key_padding_mask=padding)
        if not self.batch_first:
            x = x.transpose(0, 1)
        return self.classifier(x.mean(1))


def batch() -> dict[str, torch.Tensor]:
    ids, mask = torch.randint(1, WORDS, (2, 7), generator=torch.Generator().manual_seed(2)), torch.ones(2, 7,
        dtype=torch.int64)
    mask[1, 5:] = 0
    return {"input_ids": ids, "attention_mask": mask}


def saved_as(model: nn.Module, how: str):
    if how == "script":
        return torch.jit.script(model)
    with torch.set_grad_enabled(how == "grad"):
        return torch.jit.trace(model, tuple(batch().values()), check_trace=False)


def compare(make, tmp_path, targets, dtypes=(torch.float32, torch.float64), **options) -> list[str]:
    """The paths of the sites, which are the same for every way of saving."""
    jobs, scripted = [], None
    for dtype, how in itertools.product(dtypes, HOW):
        torch.manual_seed(0)
        model = make().to(dtype).eval()
        path = tmp_path / f"{how}-{dtype}.pt".replace("torch.", "")
        if how == "script":  # compiling takes a second; no code of theirs asks for the dtype
            scripted = saved_as(copy.deepcopy(model), how) if scripted is None else scripted.to(dtype)
        torch.jit.save(scripted if how == "script" else saved_as(model, how), str(path))
        jobs.append(graph_oracle.Job(path, model, batch(), targets, tmp_path, "lora" if dtype == torch.float64
                                     else "deep-lora", **options))
    sites = graph_oracle.run(jobs, tmp_path)
    assert all(found == sites[0] for found in sites), sites
    return sites[0]


LAYER = ["self_attn.in_proj_weight", "self_attn.out_proj.weight", "linear1.weight", "linear2.weight"]


@pytest.mark.parametrize("activation", ["relu", "gelu"])
@pytest.mark.parametrize("batch_first", [True, False])
@pytest.mark.parametrize("norm_first", [True, False])
def test_an_encoder_has_the_same_sites_and_outputs_however_it_was_saved(norm_first, batch_first, activation, tmp_path):
    found = compare(lambda: Encoder(norm_first, batch_first, activation), tmp_path, ["all-linear", "embedding"])
    assert set(found) == {"embed.weight", *(f"encoder.layers.{i}.{name}" for i in range(2) for name in LAYER)}


@pytest.mark.parametrize("nested, causal", [(False, False), (False, True), (True, True)])
def test_an_encoder_with_other_masks(nested, causal, tmp_path):
    found = compare(lambda: Encoder(False, True, "relu", nested, causal), tmp_path, ["all-linear"])
    assert len(found) == 2 * len(LAYER)


@pytest.mark.parametrize("batch_first, weights", [(True, True), (True, False), (False, True)])
def test_attention_alone(batch_first, weights, tmp_path):
    found = compare(lambda: Attention(batch_first, weights), tmp_path, ["all-linear"])
    assert set(found) == {"attention.in_proj_weight", "attention.out_proj.weight"}


DECODER = [*LAYER, "multihead_attn.in_proj_weight", "multihead_attn.out_proj.weight"]


@pytest.mark.parametrize("norm_first, batch_first, activation, causal, norm", [
    (False, True, "relu", False, False), (True, True, "gelu", True, True), (False, False, "gelu", True, False),
    (True, False, "relu", False, True)])
def test_a_decoder_however_it_was_saved(norm_first, batch_first, activation, causal, norm, tmp_path):
    found = compare(lambda: Decoder(norm_first, batch_first, activation, causal, norm), tmp_path, ["all-weights"])
    assert set(found) == {"embed.weight", "memory.weight", *(f"decoder.layers.{i}.{name}" for i in range(2) for name
                                                             in DECODER)}


@pytest.mark.parametrize("norm_first", [True, False])
@pytest.mark.parametrize("batch_first", [True, False])
@pytest.mark.parametrize("causal", [True, False])
def test_a_whole_transformer_however_it_was_saved(norm_first, batch_first, causal, tmp_path):
    found = compare(lambda: Transformer(norm_first, batch_first, causal), tmp_path, ["all-weights"])
    assert set(found) == {"source.weight", "target.weight", *(f"transformer.encoder.layers.0.{name}" for name in LAYER),
                          *(f"transformer.decoder.layers.{i}.{name}" for i in range(2) for name in DECODER)}


def test_texts_that_are_all_of_one_length(tmp_path):
    torch.manual_seed(0)
    model = Encoder(False, True, "relu").eval()
    torch.jit.save(saved_as(model, "no_grad"), str(tmp_path / "m.pt"))
    whole = {"input_ids": batch()["input_ids"], "attention_mask": torch.ones(2, 7, dtype=torch.int64)}
    graph_oracle.run([graph_oracle.Job(tmp_path / "m.pt", model, whole, ["attention-mlp"], tmp_path)], tmp_path)
