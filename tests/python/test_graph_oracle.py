"""Adapters spliced into a graph against the original module with W + delta(factors) written into it, output and
gradients, on every model of the set. The other side is PyTorch: torch.jit.load of the same file, autograd down to its
weights, and on to the factors through delta = scale x W_L ... W_1."""
from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

import graph_models
import make_tiny_models
from fork_server import started

ROOT = Path(__file__).resolve().parents[2]
MODELS = [*make_tiny_models.MODELS, *graph_models.MODELS]
# options, spread, scale
METHODS = {"lora": ("{rank: 2, alpha: 6}", 0.15, 3.0), "deep-lora": ("{rank: 2, depth: 3}", 0.4, 1.0)}
ALL = ["all-linear", "embedding"]
TARGETS = {"roberta": ["all-linear", "*.word_embeddings", "*.position_embeddings"],  # its only token type has rank 1
           "scripted-transformer": ["attention-mlp", "embedding"],  # what a branch leaves out has no gradient
           "lstm": ["head", "all-weights"]}
SPREAD = {"t5": 0.5}  # its scores are not divided by sqrt(d): large updates saturate its softmax and amplify rounding
TOLERANCE = {torch.float32: 1e-5, torch.float64: 1e-10}  # what differs is the order of additions
DTYPES = {"float32": torch.float32, "float64": torch.float64}


@pytest.fixture(scope="session")
def oracle() -> Path:
    path = Path(os.environ.get("DEEPLORA_GRAPH_ORACLE", ROOT / "build" / "tests" / "deeplora_graph_oracle"))
    if not os.access(path, os.X_OK):
        pytest.fail(f"{path} is not built (cmake --build build), or DEEPLORA_GRAPH_ORACLE names another place")
    return path


@pytest.fixture(scope="session")
def archive_of(tiny_folder, tmp_path_factory):
    """archive_of("bert", "float64"): a tiny Hugging Face model or one of graph_models, traced or scripted in that
    dtype."""
    folder = tmp_path_factory.mktemp("oracle")

    def archive(name: str, dtype: str) -> Path:
        path = folder / f"{name}-{dtype}.pt"
        if not path.exists():
            if name in graph_models.MODELS:
                graph_models.save(name, path, DTYPES[dtype])
            else:
                trace(tiny_folder(name), path, DTYPES[dtype])
        return path

    return archive


def trace(folder: Path, path: Path, dtype: torch.dtype) -> None:
    """As tools/export_torchscript.py does, which knows no float64. DeBERTa wants the [B, T] mask itself."""
    import export_torchscript
    import torchscript_tracing

    task = export_torchscript.choose_task(export_torchscript.load_config(str(folder)), None)
    model = export_torchscript.load_model(str(folder), task, None, "float32", "eager").to(dtype)
    wrapper = torchscript_tracing.wrap(model, task, own_masks=model.config.model_type != "deberta-v2").eval()
    traced = torch.jit.trace(wrapper, tuple(torchscript_tracing.example(wrapper, 2, 7, "right", 0).values()),
                             check_trace=False)
    torch.jit.save(traced, str(path), _extra_files={"config.json": (folder / "config.json").read_bytes()})


def first_tensor(value):
    while not isinstance(value, torch.Tensor):
        value = next(iter(value.values())) if isinstance(value, dict) else value[0]
    return value


def batch_for(name: str, module) -> dict[str, torch.Tensor]:
    """Two rows, one of them padded, by our names; batch and length are not those of the trace."""
    generator = torch.Generator().manual_seed(3)
    ids, mask = torch.randint(5, 50, (3, 9), generator=generator), torch.ones(3, 9, dtype=torch.int64)
    values = {"input_ids": ids, "attention_mask": mask, "token_type_ids": torch.zeros_like(ids),
              "decoder_input_ids": torch.randint(5, 50, (3, 5), generator=generator),
              "decoder_attention_mask": torch.ones(3, 5, dtype=torch.int64)}
    if name == "torch-encoder":  # its sizes are baked in
        values = {key: value[:2] for key, value in values.items()}
    if name != "lstm":
        values["attention_mask"][1, 6:] = 0
    theirs = {ours: argument for ours, argument in graph_models.INPUTS.get(name, {}).items()}
    arguments = {argument.name for argument in module.forward.schema.arguments[1:]}
    return {key: value for key, value in values.items() if theirs.get(key, key) in arguments}


def tied(module) -> dict[str, list[torch.nn.Parameter]]:
    """Parameters by the name of the first of those that share a storage: a tied weight may load as several tensors."""
    places: dict[int, tuple[str, list]] = {}
    for name, parameter in module.named_parameters():
        parameter.requires_grad_(True)
        places.setdefault(parameter.data_ptr(), (name, []))[1].append(parameter)
    return dict(places.values())


class Layout:
    """Where a site's delta [out, in] lies in the archive's weight, by the original modules' own code."""

    def __init__(self, model: str, site: str):
        self.name, self.block, self.model = site, None, model
        for i, role in enumerate(("query", "key", "value")):
            if model in ("gpt2", "gpt-neox", "modernbert") and site.endswith(f".{role}.weight"):
                self.name, self.block = site.replace(f".{role}.weight", ".weight"), i
        self.transposed = model == "gpt2" and any(f".{part}.weight" in self.name for part in ("c_attn", "c_proj",
            "c_fc"))

    def part(self, weight: torch.Tensor) -> torch.Tensor:
        """The view of a weight, or of its gradient, that the delta is added to: [out, in]."""
        matrix = weight.squeeze(-1) if weight.dim() == 3 else weight.T if self.transposed else weight
        if self.block is None:
            return matrix
        # modeling_gpt2: query, key, value = self.c_attn(x).split(self.split_size, dim=2)
        if self.model in ("gpt2", "modernbert"):
            return matrix.chunk(3, 0)[self.block]
        # modeling_gpt_neox: self.query_key_value(x).view(*input_shape, heads, 3 * head_size).transpose(1, 2).chunk(3,
        # dim=-1)
        heads = make_tiny_models.HEADS
        return matrix.unflatten(0, (heads, 3, -1))[:, self.block]


def reference(name: str, module, batch: dict, cotangent: torch.Tensor, found: dict, scale: float):
    """(output, gradients of all factors by name)."""
    weights = tied(module)
    factors = {key.removeprefix("factor/"): value.clone().requires_grad_(True) for key, value in found.items()
               if key.startswith("factor/")}
    deltas = {}
    for site in dict.fromkeys(key.removeprefix("adapter/").rpartition("/")[0] for key in factors):
        # A, B; W1, W2, W3: input to output
        own = [factors[key] for key in sorted(factors) if key.rpartition("/")[0] == f"adapter/{site}"]
        delta = scale * own[0]
        for factor in own[1:]:
            delta = factor @ delta
        deltas[site] = delta
    with torch.no_grad():
        for site, delta in deltas.items():
            layout = Layout(name, site)
            target = layout.part(weights[layout.name][0])
            target += delta.view(target.shape)
    theirs = graph_models.INPUTS.get(name, {})
    out = first_tensor(module(**{theirs.get(key, key): value for key, value in batch.items()}))
    (out * cotangent).sum().backward()
    for site, delta in deltas.items():
        layout = Layout(name, site)
        total = sum(parameter.grad for parameter in weights[layout.name] if parameter.grad is not None)
        delta.backward(layout.part(total).reshape(delta.shape))
    return out.detach(), {key: value.grad for key, value in factors.items()}


def assert_near(actual: torch.Tensor, expected: torch.Tensor, tolerance: float, what: str) -> None:
    assert actual.shape == expected.shape and actual.dtype == expected.dtype, what
    allowed = tolerance * max(1.0, expected.abs().max().item())
    assert (actual - expected).abs().max().item() <= allowed, (
        f"{what}: off by {(actual - expected).abs().max().item():.2e}, allowed {allowed:.2e}")


# Their code takes the softmax of attention in float32, whatever the model's dtype: a last bit may fall either way.
SINGLE_SOFTMAX = {"modernbert"}


def jobs_for(name: str, archive: Path, folder: Path, dtype: str, wanted: list[tuple[str, list[str]]]) -> list[dict]:
    """What the helper is asked for, with the batch and the cotangent written."""
    theirs = graph_models.INPUTS.get(name, {})
    module = torch.jit.load(str(archive))
    batch = batch_for(name, module)
    with torch.no_grad():
        base = first_tensor(module(**{theirs.get(key, key): value for key, value in batch.items()}))
    assert base.dtype == DTYPES[dtype]
    cotangent = torch.randn(base.shape, dtype=base.dtype,
                            generator=torch.Generator().manual_seed(5)) / base.numel() ** 0.5
    inputs = folder / f"{dtype}.safetensors"
    save_file({**batch, "cotangent": cotangent, "base": base}, inputs)
    return [{"archive": str(archive), "inputs": str(inputs), "method": method, "options": METHODS[method][0],
             "spread": SPREAD.get(name, 1.0) * METHODS[method][1], "targets": targets, "names": theirs, "dtype": dtype,
             "output": str(folder / f"{dtype}-{i}.safetensors")} for i, (method, targets) in enumerate(wanted)]


def check(name: str, job: dict) -> None:
    inputs, found = load_file(job["inputs"]), load_file(job["output"])
    cotangent, base = inputs.pop("cotangent"), inputs.pop("base")
    out, gradients = reference(name, torch.jit.load(job["archive"]), inputs, cotangent, found,
                               METHODS[job["method"]][2])
    where, tolerance = f"{name} {job['dtype']} {job['method']}", TOLERANCE[DTYPES[job["dtype"]]]
    if name in SINGLE_SOFTMAX:
        tolerance = max(tolerance, 1e-6)
    assert (base - out).abs().max() > 1e-2 * base.abs().max(), f"{where}: the update does not show"
    assert_near(found["out"], out, tolerance, where)
    assert gradients
    for key, gradient in gradients.items():
        assert_near(found["gradient/" + key], gradient, tolerance, f"{where} {key}")


def compare(oracle: Path, name: str, archive_of, folder: Path, wanted: dict[str, list[tuple[str, list[str]]]]) -> None:
    jobs = [job for dtype, list_of in wanted.items() for job in jobs_for(name, archive_of(name, dtype), folder, dtype,
        list_of)]
    (folder / "jobs.json").write_text(json.dumps(jobs))
    done = subprocess.run([*started(oracle), folder / "jobs.json"], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    for job in jobs:
        check(name, job)


@pytest.mark.parametrize("name", MODELS)
def test_spliced_graph_is_the_original_with_w_plus_delta(name, oracle, archive_of, tmp_path):
    targets = TARGETS.get(name, ALL)
    compare(oracle, name, archive_of, tmp_path, {"float32": [("lora", targets)], "float64": [("lora", targets),
        ("deep-lora", targets)]})


@pytest.mark.parametrize("name", ["gpt2", "gpt-neox"])
def test_rows_of_fused_weights_are_those_of_the_original_code(name, oracle, archive_of, tmp_path):
    compare(oracle, name, archive_of, tmp_path, {"float32": [("lora", ["query-value"])],
                                                 "float64": [("lora", ["query-value"]),
                                                             ("deep-lora", ["key", "mlp_in"])]})
