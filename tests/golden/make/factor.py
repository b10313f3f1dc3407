"""Writes tests/golden/factor_*.json: what PyTorch, PEFT, NumPy and SciPy say about factor chains.

Run from the repository root: .venv/bin/python tests/golden/make/factor.py
Needs torch, peft, numpy and scipy; everything is seeded, so the files change only with those libraries.
"""

import json
import pathlib

import numpy as np
import peft
import scipy
import scipy.linalg
import scipy.stats
import torch
from peft.tuners.lora import Embedding, Linear, LoraConfig

GOLDEN = pathlib.Path(__file__).resolve().parents[1]


def packed(tensor):
    """{"shape", "data"} in row-major order; 17 digits keep a float64 exactly."""
    tensor = torch.as_tensor(tensor).detach()
    return {"shape": list(tensor.shape), "data": tensor.double().reshape(-1).tolist()}


def write(name, content):
    content["versions"] = {
        "torch": torch.__version__,
        "peft": peft.__version__,
        "numpy": np.__version__,
        "scipy": scipy.__version__,
    }
    (GOLDEN / name).write_text(json.dumps(content) + "\n")


def multiply(factors):
    product = factors[0]
    for factor in factors[1:]:
        product = factor @ product
    return product


def train(factors, scale, x, target, lr, lr_scales, steps):
    """Adam on mean((scale x (W_L .. W_1)^T - target)^2); a factor with scale 0 stays."""
    trained = [{"params": [f], "lr": lr * s} for f, s in zip(factors, lr_scales) if s > 0]
    optimizer = torch.optim.Adam(trained, lr=lr)
    losses = []
    for _ in range(steps):
        optimizer.zero_grad()
        loss = (scale * x @ multiply(factors).T - target).square().mean()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return losses


def chain_case(widths, scale, lr_scales, seed):
    """Outputs, gradients and 20 Adam steps of a chain; widths from input to output."""
    generator = torch.Generator().manual_seed(seed)

    def randn(*shape):
        return torch.randn(*shape, generator=generator, dtype=torch.float64)

    factors = [randn(o, i) / i**0.5 for i, o in zip(widths, widths[1:])]
    x, cotangent = randn(2, 3, widths[0]), randn(2, 3, widths[-1])
    ids = torch.tensor([[0, widths[-1] - 1], [1, 0]])
    rows_cotangent = randn(2, 2, widths[0])
    case = {"scale": scale, "lr_scales": lr_scales, "factors": [packed(f) for f in factors]}
    case |= {"x": packed(x), "cotangent": packed(cotangent), "ids": packed(ids),
             "rows_cotangent": packed(rows_cotangent)}

    leaves = [f.clone().requires_grad_() for f in factors]
    x_leaf = x.clone().requires_grad_()
    y = x_leaf @ (scale * multiply(leaves)).T
    gradients = torch.autograd.grad((y * cotangent).sum(), [x_leaf, *leaves])
    case |= {"y": packed(y), "x_gradient": packed(gradients[0]), "gradients": [packed(g) for g in gradients[1:]]}
    rows = torch.nn.functional.embedding(ids, scale * multiply(leaves))
    gradients = torch.autograd.grad((rows * rows_cotangent).sum(), leaves)
    case |= {"rows": packed(rows), "rows_gradients": [packed(g) for g in gradients]}

    leaves = [f.clone().requires_grad_(s > 0) for f, s in zip(factors, lr_scales)]
    case["lr"], case["losses"] = 0.02, train(leaves, scale, x, cotangent, 0.02, lr_scales, steps=20)
    case["trained"] = [packed(f) for f in leaves]
    return case


def peft_samples():
    """PEFT's own start of A, and that B is zero."""
    torch.manual_seed(11)
    inputs, outputs, rank = 64, 24, 8
    layer = Linear(torch.nn.Linear(inputs, outputs), "default", LoraConfig(r=rank, lora_alpha=16), r=rank,
                   lora_alpha=16)
    a, b = layer.lora_A["default"].weight, layer.lora_B["default"].weight
    embedding = Embedding(torch.nn.Embedding(40, 64), "default", LoraConfig(r=rank, lora_alpha=16), r=rank,
                          lora_alpha=16)
    return {
        "in": inputs,
        "out": outputs,
        "rank": rank,
        "a_sorted": packed(a.reshape(-1).sort().values),
        "b_largest": b.abs().max().item(),
        "embedding_a_largest": embedding.lora_embedding_A["default"].abs().max().item(),
        "embedding_b_std": embedding.lora_embedding_B["default"].std().item(),
        "kolmogorov_critical_1e-6": scipy.stats.kstwo.isf(1e-6, inputs * rank),
    }


def peft_linear(use_rslora):
    """Output and gradients of PEFT's layer holding given A and B (float64)."""
    generator = torch.Generator().manual_seed(12)
    inputs, outputs, rank, alpha = 7, 5, 3, 12
    base = torch.nn.Linear(inputs, outputs, dtype=torch.float64)
    config = LoraConfig(r=rank, lora_alpha=alpha, use_rslora=use_rslora)
    layer = Linear(base, "default", config, r=rank, lora_alpha=alpha).double()
    a, b = layer.lora_A["default"].weight, layer.lora_B["default"].weight
    case = {"rank": rank, "alpha": alpha}
    with torch.no_grad():
        for name, value in {"weight": base.weight, "bias": base.bias, "a": a, "b": b}.items():
            value.copy_(torch.randn(value.shape, generator=generator, dtype=torch.float64))
            case[name] = packed(value)
    x = torch.randn(2, 4, inputs, generator=generator, dtype=torch.float64)
    cotangent = torch.randn(2, 4, outputs, generator=generator, dtype=torch.float64)
    y = layer(x)
    (y * cotangent).sum().backward()
    case |= {"x": packed(x), "cotangent": packed(cotangent), "y": packed(y), "scaling": layer.scaling["default"]}
    return case | {"a_gradient": packed(a.grad), "b_gradient": packed(b.grad),
                   "delta": packed(layer.get_delta_weight("default"))}


def peft_embedding():
    """PEFT's embedding layer: its A is [r, V], its B [D, r]; our chain has B [V, r] = A^T and A [r, D] = B^T."""
    generator = torch.Generator().manual_seed(13)
    vocabulary, width, rank, alpha = 9, 6, 2, 8
    base = torch.nn.Embedding(vocabulary, width, dtype=torch.float64)
    layer = Embedding(base, "default", LoraConfig(r=rank, lora_alpha=alpha), r=rank, lora_alpha=alpha).double()
    a, b = layer.lora_embedding_A["default"], layer.lora_embedding_B["default"]
    case = {"rank": rank, "alpha": alpha}
    with torch.no_grad():
        for name, value in {"weight": base.weight, "a": a, "b": b}.items():
            value.copy_(torch.randn(value.shape, generator=generator, dtype=torch.float64))
            case[name] = packed(value)
    ids = torch.tensor([[3, 0, 8], [3, 3, 1]])
    cotangent = torch.randn(2, 3, width, generator=generator, dtype=torch.float64)
    y = layer(ids)
    (y * cotangent).sum().backward()
    case |= {"ids": packed(ids), "cotangent": packed(cotangent), "y": packed(y)}
    return case | {"a_gradient": packed(a.grad), "b_gradient": packed(b.grad)}


def subspaces():
    """SciPy's subspace angles (falling there, rising here), also for nearly equal spaces; NumPy's ranks."""
    generator = np.random.default_rng(14)
    a, b = generator.standard_normal((12, 4)), generator.standard_normal((12, 3))
    tilted = a @ generator.standard_normal((4, 4)) + 1e-9 * generator.standard_normal((12, 4))
    deficient = a @ np.array([[1, 0, 1], [0, 1, 1], [0, 0, 0], [0, 0, 0.0]])
    pairs = [(a, b), (b, a), (a, tilted), (a, deficient), (a[:, :2], a[:, 2:]), (np.eye(12)[:, :3], np.eye(12)[:, 2:5])]
    angle_cases = [
        {"a": packed(p), "b": packed(q), "angles": sorted(scipy.linalg.subspace_angles(p, q).tolist())} for p,
        q in pairs
    ]
    matrices = [a @ b[:4], a, a @ a.T, deficient, np.zeros((5, 3)), np.diag([1, 1e-3, 1e-14, 1e-17, 0])]
    rank_cases = []
    for matrix in matrices:
        values = np.linalg.svd(matrix, compute_uv=False)
        case = {"matrix": packed(matrix), "rank": int(np.linalg.matrix_rank(matrix))}
        case["rank_1e-2"] = int(np.sum(values > 1e-2 * values.max()))
        case["effective_rank"] = float(np.exp(scipy.stats.entropy(values))) if values.max() > 0 else 0.0
        rank_cases.append(case)
    return {"angles": angle_cases, "ranks": rank_cases}


def main():
    GOLDEN.mkdir(parents=True, exist_ok=True)
    write(
        "factor_chain.json",
        {
            "cases": [
                chain_case([6, 3, 5], scale=2.0, lr_scales=[1, 1], seed=1),
                chain_case([5, 2, 2, 7], scale=1.0, lr_scales=[1, 1, 1], seed=2),
                chain_case([6, 4, 4, 4, 5], scale=0.5, lr_scales=[0.01, 1, 1, 0.01], seed=3),
                chain_case([4, 3, 3, 4], scale=1.0, lr_scales=[0, 1, 0], seed=4),
            ]
        },
    )
    write(
        "factor_peft.json",
        {
            "start": peft_samples(),
            "lora": peft_linear(use_rslora=False),
            "rslora": peft_linear(use_rslora=True),
            "embedding": peft_embedding(),
        },
    )
    write("factor_subspaces.json", subspaces())


if __name__ == "__main__":
    main()
