#!/usr/bin/env python3
"""Writes tests/golden/schedule.json and optimizer.json: learning-rate factors of transformers, and steps and clipped
gradients of PyTorch's optimizers in float64."""

import json
from pathlib import Path

import torch
import transformers
from transformers import (get_constant_schedule_with_warmup, get_cosine_schedule_with_warmup,
                          get_linear_schedule_with_warmup)

OUTPUT = Path(__file__).resolve().parents[1]
STEPS = 20


def schedule_factors(name, total, warmup):
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=1.0)
    if name == "constant":
        scheduler = get_constant_schedule_with_warmup(optimizer, warmup)
    elif name == "linear":
        scheduler = get_linear_schedule_with_warmup(optimizer, warmup, total)
    else:
        scheduler = get_cosine_schedule_with_warmup(optimizer, warmup, total)
    factors = []
    for _ in range(total):
        factors.append(scheduler.get_last_lr()[0])
        optimizer.step()
        scheduler.step()
    return factors


def schedules():
    cases = [(name, total, warmup) for name in ("constant", "linear", "cosine")
             for total, warmup in ((10, 0), (10, 1), (17, 5), (6, 6), (1, 0), (2, 2))]
    return [{"name": n, "total": t, "warmup": w, "factors": schedule_factors(n, t, w)} for n, t, w in cases]


def seeded_parameters(seed):
    generator = torch.Generator().manual_seed(seed)
    draw = lambda *shape: torch.randn(*shape, generator=generator, dtype=torch.float64)
    return draw, [torch.nn.Parameter(draw(3, 2)), torch.nn.Parameter(draw(4)), torch.nn.Parameter(draw(2, 2))]


def optimizer_case(name, make, lr, decay):
    """Minimises 1/2 (p - target)^2 . curvature; the third tensor, in the second group, has a gradient at even steps
    only."""
    draw, parameters = seeded_parameters(7)
    start = [p.tolist() for p in parameters]
    targets, curvatures = [draw(*p.shape) for p in parameters], [draw(*p.shape).abs() for p in parameters]
    optimizer = make([{"params": parameters[:1], "lr": lr, "weight_decay": decay},
                      {"params": parameters[1:], "lr": lr * 10, "weight_decay": 0.0}])
    scheduler = get_linear_schedule_with_warmup(optimizer, 4, STEPS)
    course = []
    for step in range(STEPS):
        for i, (p, target, curvature) in enumerate(zip(parameters, targets, curvatures)):
            p.grad = None if i == 2 and step % 2 else curvature * (p.detach() - target)
        optimizer.step()
        scheduler.step()
        course.append([p.detach().flatten().tolist() for p in parameters])
    return {"name": name, "lr": lr, "weight_decay": decay, "warmup": 4, "start": start,
            "targets": [t.tolist() for t in targets], "curvatures": [c.tolist() for c in curvatures], "course": course}


def optimizers():
    adam = {"betas": (0.8, 0.99), "eps": 1e-6}
    return [optimizer_case("adamw", lambda groups: torch.optim.AdamW(groups, **adam), 0.01, 0.1),
            optimizer_case("adam", lambda groups: torch.optim.Adam(groups, **adam), 0.01, 0.1),
            optimizer_case("sgd", lambda groups: torch.optim.SGD(groups, momentum=0.9), 0.02, 0.1),
            # Values that happen to be the library's own defaults must not be taken for "not set".
            optimizer_case("adamw", lambda groups: torch.optim.AdamW(groups, **adam), 0.001, 0.01)]


def clipping():
    cases = []
    for largest in (0.5, 3.0, 100.0):
        _, parameters = seeded_parameters(11)
        for p in parameters:
            p.grad = p.detach().clone()
        norm = torch.nn.utils.clip_grad_norm_(parameters, largest)
        cases.append({"largest": largest, "gradients": [p.tolist() for p in parameters], "norm": norm.item(),
                      "clipped": [p.grad.flatten().tolist() for p in parameters]})
    return cases


def write(name, content):
    made_with = {"torch": torch.__version__.split("+")[0], "transformers": transformers.__version__}
    (OUTPUT / name).write_text(json.dumps({"made_with": made_with, **content}) + "\n")


def main():
    write("schedule.json", {"schedules": schedules()})
    write("optimizer.json", {"optimizers": optimizers(), "clipping": clipping()})


if __name__ == "__main__":
    main()
