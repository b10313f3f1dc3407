"""Adapted archives beside their own PyTorch module: deeplora_graph_oracle splices the adapters in,
torch.func.functional_call runs the module with W + delta in place of W. Outputs, gradients of all factors, and the
merged file in plain torch.jit.load."""
from __future__ import annotations

import hashlib
import json
import os
import subprocess
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from torch.func import functional_call

from fork_server import started

ROOT = Path(__file__).resolve().parents[2]
ORACLE = Path(os.environ.get("DEEPLORA_GRAPH_ORACLE", ROOT / "build" / "tests" / "deeplora_graph_oracle"))
# options, spread, alpha
METHODS = {"lora": ("{rank: 2, alpha: 6}", 0.15, 6.0), "deep-lora": ("{rank: 2, depth: 3}", 0.4, None)}
TOLERANCE = {torch.float32: 1e-5, torch.float64: 1e-10}  # what differs is the order of additions


def first_tensor(value):
    while not isinstance(value, torch.Tensor):
        value = next(iter(value.values())) if isinstance(value, dict) else value[0]
    return value


def deltas_of(factors: dict[str, torch.Tensor], alpha: float | None) -> dict[str, torch.Tensor]:
    """site -> scale x W_L ... W_1, of factors named adapter/<site>/<A, B or W1, W2, ...> that autograd follows. LoRA's
    scale is alpha over the rank that the weight's smaller side leaves."""
    out = {}
    for site in dict.fromkeys(key.removeprefix("adapter/").rpartition("/")[0] for key in factors):
        own = [factors[key] for key in sorted(factors) if key.rpartition("/")[0] == f"adapter/{site}"]
        delta = own[0] * (1.0 if alpha is None else alpha / own[0].shape[0])
        for factor in own[1:]:
            delta = factor @ delta
        out[site] = delta
    return out


def assert_near(actual: torch.Tensor, expected: torch.Tensor, tolerance: float, what: str) -> None:
    assert actual.shape == expected.shape and actual.dtype == expected.dtype, (
        f"{what}: {actual.shape} {actual.dtype}, expected {expected.shape} {expected.dtype}")
    allowed = tolerance * max(1.0, expected.abs().max().item())
    assert (actual - expected).abs().max().item() <= allowed, (
        f"{what}: off by {(actual - expected).abs().max().item():.2e}, allowed {allowed:.2e}")


def load_merged(path: Path):
    """The file's own forward in plain PyTorch, of inputs in their order. Shapes alone make no other file, and
    torch.export takes seconds to read one."""
    content = path.suffix, hashlib.sha256(path.read_bytes()).digest()
    if last_merged[0] != content:
        last_merged[:] = content, forward_of(path)
    return last_merged[1]


last_merged = [None, None]


def forward_of(path: Path):
    if path.suffix == ".pt":
        return torch.jit.load(str(path))
    program = torch.export.load(str(path))
    names = [spec.arg.name for spec in program.graph_signature.input_specs if spec.kind
             == torch.export.graph_signature.InputKind.USER_INPUT]
    by_name = bool(program.example_inputs[1])
    module = program.module()
    return lambda *values: module(**dict(zip(names, values))) if by_name else module(*values)


class Job:
    """One archive with adapters at `targets`; batch by our names, passed to the module in the order of its
    arguments."""

    def __init__(self, archive: Path, model: torch.nn.Module, batch: dict[str, torch.Tensor], targets: list[str],
                 folder: Path, method: str = "lora",
                 names: dict[str, str] | None = None, spread: float = 1.0, tag: str = ""):
        self.archive, self.model, self.batch, self.method = archive, model, batch, method
        self.dtype = next(p.dtype for p in model.parameters() if p.is_floating_point())
        with torch.no_grad():
            self.base = first_tensor(model(*batch.values()))
        generator = torch.Generator().manual_seed(5)
        self.cotangent = torch.randn(self.base.shape, dtype=self.base.dtype,
                                     generator=generator) / self.base.numel() ** 0.5
        folder.mkdir(parents=True, exist_ok=True)
        stem = f"{archive.stem}-{method}{tag}"
        save_file({**batch, "cotangent": self.cotangent}, folder / f"{stem}-in.safetensors")
        options, own_spread, self.alpha = METHODS[method]
        self.output, self.merged = folder / f"{stem}-out.safetensors", folder / f"{stem}-merged{archive.suffix}"
        self.description = {"archive": str(archive), "inputs": str(folder / f"{stem}-in.safetensors"), "method": method,
                            "options": options, "merged": str(self.merged),
                            "spread": spread * own_spread, "targets": targets, "names": names or {},
                            "output": str(self.output)}

    def check(self) -> list[str]:
        """Paths of the sites, after everything was compared."""
        found = load_file(self.output)
        factors = {key.removeprefix("factor/"): value.clone().requires_grad_(True) for key, value in found.items()
                   if key.startswith("factor/")}
        deltas = deltas_of(factors, self.alpha)
        changed = {}
        for site, delta in deltas.items():
            name, weight, shaped = self.parameter_of(site, found[f"weight/{site}"], delta)
            changed[name] = weight.detach() + shaped
        out = first_tensor(functional_call(self.model, changed, tuple(self.batch.values())))
        (out * self.cotangent).sum().backward()
        where, tolerance = f"{self.archive.name} {self.method}", TOLERANCE[self.dtype]
        assert (self.base - out).abs().max() > 1e-3 * self.base.abs().max(), f"{where}: the update does not show"
        assert_near(found["out"], out.detach(), tolerance, where)
        assert factors
        for key, factor in factors.items():
            assert_near(found["gradient/" + key], factor.grad, tolerance, f"{where} {key}")
        with torch.no_grad():
            merged = first_tensor(load_merged(self.merged)(*self.batch.values()))
        assert_near(merged, out.detach(), tolerance, f"{where}: merged file")
        return list(deltas)

    def parameter_of(self, site: str, seen: torch.Tensor, delta: torch.Tensor):
        """(name, weight, delta in its layout) of the module's parameter behind a site [out, in]: by its name, or of a
        constant of the code by its value."""
        parameters = dict(self.model.named_parameters())
        for name, weight in [(site, parameters[site])] if site in parameters else parameters.items():
            flat = weight.detach().flatten(1) if weight.dim() > 1 else weight.detach()
            if flat.shape == seen.shape and torch.equal(flat, seen):
                return name, weight, delta.reshape(weight.shape)
            if weight.dim() == 2 and weight.shape == seen.T.shape and torch.equal(weight.detach().T, seen):
                return name, weight, delta.T
        raise AssertionError(f"{site} is no parameter of the module")


def run(jobs: list[Job], folder: Path) -> list[list[str]]:
    assert os.access(ORACLE, os.X_OK), (
        f"{ORACLE} is not built (cmake --build build), or DEEPLORA_GRAPH_ORACLE names another place")
    (folder / "jobs.json").write_text(json.dumps([job.description for job in jobs]))
    done = subprocess.run([*started(ORACLE), folder / "jobs.json"], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return [job.check() for job in jobs]
