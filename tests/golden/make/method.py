"""Writes tests/golden/methods.json: DoRA, PiSSA and LoRA+ as PEFT computes them, PoLAR, LoRA-One and LoRA-GA by their
papers' formulas.

Run from the repository root: .venv/bin/python tests/golden/make/method.py
Needs torch, peft, numpy and scipy; everything is seeded.
"""

import json
import pathlib

import numpy as np
import peft
import scipy
import scipy.linalg
import torch
from peft.optimizers import create_loraplus_optimizer
from peft.tuners.lora import Embedding, Linear, LoraConfig

GOLDEN = pathlib.Path(__file__).resolve().parents[1] / "methods.json"


def packed(tensor):
    """{"shape", "data"} in row-major order; 17 digits keep a float64 exactly."""
    tensor = torch.as_tensor(tensor).detach()
    return {"shape": list(tensor.shape), "data": tensor.double().reshape(-1).tolist()}


def normal(generator, *shape):
    return torch.randn(*shape, generator=generator, dtype=torch.float64)


def fill(case, generator, tensors):
    with torch.no_grad():
        for name, value in tensors.items():
            value.copy_(normal(generator, *value.shape))
            case[name] = packed(value)


def dora_linear():
    """Start, output, gradients and merged weight of PEFT's DoRA layer holding given A, B and magnitudes (float64)."""
    generator = torch.Generator().manual_seed(21)
    inputs, outputs, rank, alpha = 7, 5, 3, 12
    base = torch.nn.Linear(inputs, outputs, dtype=torch.float64)
    case = {"rank": rank, "alpha": alpha}
    fill(case, generator, {"weight": base.weight, "bias": base.bias})
    config = LoraConfig(r=rank, lora_alpha=alpha, use_dora=True)
    layer = Linear(base, "default", config, r=rank, lora_alpha=alpha).double()
    a, b, magnitude = layer.lora_A["default"].weight, layer.lora_B["default"].weight, layer.lora_magnitude_vector[
        "default"].weight
    case["start_magnitude"] = packed(magnitude)
    fill(case, generator, {"a": a, "b": b})
    with torch.no_grad():
        magnitude.mul_(1 + 0.3 * normal(generator, outputs))
    x, cotangent = normal(generator, 2, 4, inputs), normal(generator, 2, 4, outputs)
    y = layer(x)
    (y * cotangent).sum().backward()
    case |= {"magnitude": packed(magnitude), "x": packed(x), "cotangent": packed(cotangent), "y": packed(y)}
    case |= {"a_gradient": packed(a.grad), "b_gradient": packed(b.grad), "magnitude_gradient": packed(magnitude.grad)}
    layer.merge()
    return case | {"merged": packed(layer.get_base_layer().weight)}


def dora_embedding():
    """The same of an embedding: its norm runs over the vocabulary. Its A is [r, V], its B [D, r]."""
    generator = torch.Generator().manual_seed(22)
    vocabulary, width, rank, alpha = 9, 6, 2, 8
    base = torch.nn.Embedding(vocabulary, width, dtype=torch.float64)
    case = {"rank": rank, "alpha": alpha}
    fill(case, generator, {"weight": base.weight})
    config = LoraConfig(r=rank, lora_alpha=alpha, use_dora=True)
    layer = Embedding(base, "default", config, r=rank, lora_alpha=alpha).double()
    a, b, magnitude = layer.lora_embedding_A["default"], layer.lora_embedding_B["default"], layer.lora_magnitude_vector[
        "default"].weight
    case["start_magnitude"] = packed(magnitude)
    fill(case, generator, {"a": a, "b": b})
    with torch.no_grad():
        magnitude.mul_(1 + 0.3 * normal(generator, width))
    ids, cotangent = torch.tensor([[3, 0, 8], [3, 3, 1]]), normal(generator, 2, 3, width)
    y = layer(ids)
    (y * cotangent).sum().backward()
    case |= {"magnitude": packed(magnitude), "ids": packed(ids), "cotangent": packed(cotangent), "y": packed(y)}
    return case | {"a_gradient": packed(a.grad), "b_gradient": packed(b.grad),
                   "magnitude_gradient": packed(magnitude.grad)}


def pissa():
    """PEFT's start in float32: what it puts into B A and what it leaves in the base weight."""
    generator = torch.Generator().manual_seed(23)
    inputs, outputs, rank, alpha = 40, 30, 4, 12
    base = torch.nn.Linear(inputs, outputs)
    with torch.no_grad():
        base.weight.copy_(normal(generator, outputs, inputs))
    weight = base.weight.detach().clone()
    config = LoraConfig(r=rank, lora_alpha=alpha, init_lora_weights="pissa")
    layer = Linear(base, "default", config, r=rank, lora_alpha=alpha, init_lora_weights="pissa")
    a, b = layer.lora_A["default"].weight, layer.lora_B["default"].weight
    return {"rank": rank, "alpha": alpha, "weight": packed(weight), "residual": packed(layer.get_base_layer().weight),
            "product": packed(b @ a), "a_norms": packed(a.norm(dim=1)), "b_norms": packed(b.norm(dim=0))}


def lora_plus():
    """Learning rates that PEFT's optimizer gives A and B, and five steps of AdamW on a quadratic in float64."""
    generator = torch.Generator().manual_seed(24)
    inputs, outputs, rank, alpha, lr, ratio = 7, 5, 2, 4, 1e-2, 8.0
    base = torch.nn.Sequential(torch.nn.Linear(inputs, outputs, bias=False)).double()
    case = {"rank": rank, "alpha": alpha, "lr": lr, "lr_ratio": ratio}
    fill(case, generator, {"weight": base[0].weight})
    model = peft.get_peft_model(base, LoraConfig(r=rank, lora_alpha=alpha, target_modules=["0"])).double()
    a, b = (getattr(model.base_model.model[0], name)["default"].weight for name in ("lora_A", "lora_B"))
    fill(case, generator, {"a": a, "b": b})
    x, target = normal(generator, 6, inputs), normal(generator, 6, outputs)
    optimizer = create_loraplus_optimizer(model, torch.optim.AdamW, lr=lr, loraplus_lr_ratio=ratio,
                                          loraplus_weight_decay=0.0)
    rates = {id(p): group["lr"] for group in optimizer.param_groups for p in group["params"]}
    case |= {"lr_a": rates[id(a)], "lr_b": rates[id(b)], "x": packed(x), "target": packed(target)}
    for _ in range(5):
        optimizer.zero_grad()
        (model(x) - target).square().mean().backward()
        optimizer.step()
    return case | {"trained_a": packed(a), "trained_b": packed(b)}


def polar():
    """Riemannian gradient descent with the polar retraction, in the closed form (X - t E)(I + t^2 E^T E)^(-1/2)."""
    generator = np.random.default_rng(25)
    m, n, r, step = 9, 7, 3, 0.05
    target = generator.standard_normal((m, n))
    x, y = (np.linalg.qr(generator.standard_normal((rows, r)))[0] for rows in (m, n))
    theta = generator.standard_normal((r, r))
    case = {"step": step, "target": packed(target), "x": packed(x), "theta": packed(theta), "y": packed(y), "steps": 4}

    def moved(point, gradient):
        overlap = point.T @ gradient
        tangent = gradient - point @ (overlap + overlap.T) / 2
        return (point - step * tangent) @ np.linalg.inv(scipy.linalg.sqrtm(np.eye(r) + step**2
            * tangent.T @ tangent)).real

    for _ in range(case["steps"]):
        rest = x @ theta @ y.T - target
        gradients = rest @ y @ theta.T, rest.T @ x @ theta, x.T @ rest @ y
        x, y, theta = moved(x, gradients[0]), moved(y, gradients[1]), theta - step * gradients[2]
    return case | {"trained_x": packed(x), "trained_theta": packed(theta), "trained_y": packed(y)}


def lora_one():
    """Start of LoRA-One by the authors' code: factors of -G_r over its largest singular value and gamma."""
    generator = np.random.default_rng(26)
    m, n, rank, alpha, gamma = 12, 10, 3, 6, 32.0
    gradient = generator.standard_normal((m, n))
    u, s, vt = np.linalg.svd(-gradient)
    root = np.sqrt(s[:rank] / (gamma * s[0]))
    b, a = u[:, :rank] * root, root[:, None] * vt[:rank]
    return {"rank": rank, "alpha": alpha, "gamma": gamma, "gradient": packed(gradient),
            "delta": packed(alpha / rank**0.5 * b @ a),
            "b_norms": packed(np.linalg.norm(b, axis=0)), "a_norms": packed(np.linalg.norm(a, axis=1))}


def lora_ga():
    """Start of LoRA-GA by the authors' code ("ArB2r", stable scale): A from the first r right singular vectors of the
    gradient, B from the next r left ones; signs are the decomposition's own, so absolute values are kept."""
    generator = np.random.default_rng(27)
    m, n, rank, gamma = 12, 10, 3, 16.0
    gradient = generator.standard_normal((m, n))
    u, s, vt = np.linalg.svd(gradient)
    length = m**0.25 / gamma**0.5
    # PEFT's start by the same rule; its B is also multiplied by the singular values, which the authors' is not.
    layer = torch.nn.Linear(n, m, bias=False).double()
    layer._peft_loraga_grad = torch.tensor(gradient)
    made = Linear(layer, "default", config=LoraConfig(
        r=rank, lora_alpha=rank, init_lora_weights="lora_ga",
        lora_ga_config=peft.tuners.lora.config.LoraGAConfig(direction="ArB2r", scale="unit")), r=rank, lora_alpha=rank)
    b, a = u[:, rank:2 * rank] * length, vt[:rank] * length
    theirs_a = made.lora_A["default"].weight.detach().numpy() * length
    theirs_b = made.lora_B["default"].weight.detach().numpy() / s[rank:2 * rank] * length
    assert np.allclose(np.abs(theirs_a), np.abs(a), atol=1e-5) and np.allclose(np.abs(theirs_b), np.abs(b), atol=1e-5)
    return {"rank": rank, "alpha": 6, "gamma": gamma, "gradient": packed(gradient), "a": packed(np.abs(a)),
            "b": packed(np.abs(b))}


def main():
    cases = {"dora_linear": dora_linear(), "dora_embedding": dora_embedding(), "pissa": pissa(),
             "lora_plus": lora_plus(),
             "polar": polar(), "lora_one": lora_one(), "lora_ga": lora_ga()}
    cases["versions"] = {"torch": torch.__version__, "peft": peft.__version__, "numpy": np.__version__,
                         "scipy": scipy.__version__}
    GOLDEN.write_text(json.dumps(cases) + "\n")


if __name__ == "__main__":
    main()
