#!/usr/bin/env python3
"""Writes tests/golden/posteriors.json: posterior means and standard deviations of small tables of ratings under the
model of `solver: gibbs`.

    python tests/golden/make/posteriors.py

A sampler of its own in NumPy, which shares nothing with the program's: every single number (a factor of a row, a bias,
an effect of a period, a vector of implicit feedback) is drawn from its conditional given all the others, in 150 or 200
chains side by side, where the program draws whole rows and solves for all implicit vectors together; cutpoints are
drawn between the latent values beside them (Albert and Chib 1993), where the program integrates these out.

The model, in standardised ratings v (ordinal: latent values of precision 1):
  v ~ N(x_i . z_j + b_i + c_j + row period + column period, 1 / precision), precision flat in its logarithm
  every coordinate (factors, bias) of a side: N(center + |N|^-1/2 sum of y over the others rated, 1 / penalty), y ~ N(0,
  1 / (ridge penalty)) center ~ N(0, 1 / penalty), penalty ~ Gamma(1/2, rate 0.005); effects of periods ~ N(0, 1 /
  penalty'), penalty' alike
"""
from __future__ import annotations

import json
from pathlib import Path

import numpy as np

RIDGE, USUAL = 2.0, (200, 400, 2000)  # chains, sweeps before and after the first that counts
LONG = 150, 4000, 4000  # cutpoints drawn so move slowly


class Side:
    def __init__(self, own, other, size, others, rank, implicit, rng):
        self.entries = [np.flatnonzero(own == i) for i in range(size)]
        self.other, self.size, self.K = other, size, rank + 1
        self.x = 0.3 * rng.standard_normal((CHAINS, size, rank + 1))
        self.center, self.penalty = np.zeros((CHAINS, rank + 1)), np.full((CHAINS, rank + 1), 3.0)
        self.weight = np.zeros((size, others))
        for i, entries in enumerate(self.entries):
            if implicit:
                self.weight[i, other[entries]] = 1 / np.sqrt(len(entries))
        self.y = np.zeros((CHAINS, others, rank + 1)) if implicit else None

    def prior(self):
        out = np.repeat(self.center[:, None], self.size, 1)
        return out if self.y is None else out + np.einsum("ij,cjk->cik", self.weight, self.y)


def sample(row, col, value, m, n, rank, implicit, periods, levels, seed):
    global CHAINS, BURN_IN, SWEEPS
    CHAINS, BURN_IN, SWEEPS = LONG if levels is not None else USUAL
    rng = np.random.default_rng(seed)
    normal, gamma = rng.standard_normal, rng.standard_gamma
    rows, cols = Side(row, col, m, n, rank, implicit, rng), Side(col, row, n, m, rank, implicit, rng)
    ordinal = levels is not None
    if ordinal:
        mean, unit, level = 0.0, 1.0, np.searchsorted(levels, value)
        cuts = np.repeat(np.linspace(-1, 1, len(levels) - 1)[None], CHAINS, 0)
        v = np.zeros((CHAINS, len(value)))
    else:
        mean = value.mean()
        unit = np.sqrt(((value - mean) ** 2).mean())
        v = np.repeat(((value - mean) / unit)[None], CHAINS, 0)
    precision = np.full(CHAINS, 1.0 if ordinal else 2.0)
    effect = np.zeros((CHAINS, periods.max() + 1)) if periods is not None else None
    effect_penalty = np.full(CHAINS, 3.0)

    def fit(entries=slice(None)):
        x, z = rows.x[:, row[entries]], cols.x[:, col[entries]]
        out = (x[:, :, :rank] * z[:, :, :rank]).sum(2) + x[:, :, rank] + z[:, :, rank]
        return out if effect is None else out + effect[:, periods[entries]]

    def update_side(side, far):
        prior = side.prior()
        for i, entries in enumerate(side.entries):
            seen = side.other[entries]
            for k in range(side.K):
                slope = far.x[:, seen, k] if k < rank else np.ones((CHAINS, len(seen)))
                left = v[:, entries] - fit(entries) + slope * side.x[:, i, k, None]
                information = precision * (slope**2).sum(1) + side.penalty[:, k]
                about = (precision * (slope * left).sum(1) + side.penalty[:, k] * prior[:, i, k]) / information
                side.x[:, i, k] = about + normal(CHAINS) / np.sqrt(information)
        if side.y is not None:
            for j in range(side.y.shape[1]):
                w = side.weight[:, j]
                left = side.x - side.prior() + w[None, :, None] * side.y[:, None, j]
                shrunk = (w[None, :, None] * left).sum(1) / ((w**2).sum() + RIDGE)
                side.y[:, j] = shrunk + normal((CHAINS, side.K)) / np.sqrt(side.penalty * ((w**2).sum() + RIDGE))
        about = side.x - side.prior() + side.center[:, None]
        side.center = about.mean(1) * side.size / (side.size + 1) + normal((CHAINS, side.K)) / np.sqrt(side.penalty
            * (side.size + 1))
        square = ((side.x - side.prior()) ** 2).sum(1) + side.center**2
        count = side.size + 1
        if side.y is not None:
            square, count = square + RIDGE * (side.y**2).sum(1), count + side.y.shape[1]
        side.penalty = gamma((count + 1) / 2, (CHAINS, side.K)) / ((square + 0.01) / 2)

    sums = np.zeros((2, m * n))
    grid_row, grid_col = np.divmod(np.arange(m * n), n)
    for sweep in range(BURN_IN + SWEEPS):
        if ordinal:
            f = fit()
            low = np.concatenate([np.full((CHAINS, 1), -np.inf), cuts], 1)
            high = np.concatenate([cuts, np.full((CHAINS, 1), np.inf)], 1)
            v = truncated(f, low[:, level], high[:, level], rng)
            for c in range(len(levels) - 1):
                below = np.maximum(v[:, level == c].max(1), cuts[:, c - 1] if c > 0 else -np.inf)
                above = np.minimum(v[:, level == c + 1].min(1), cuts[:, c + 1] if c + 2 < len(levels) else np.inf)
                cuts[:, c] = rng.uniform(below, above)
        update_side(rows, cols)
        update_side(cols, rows)
        if effect is not None:
            for p in range(effect.shape[1]):
                entries = np.flatnonzero(periods == p)
                left = v[:, entries] - fit(entries) + effect[:, p, None]
                information = precision * len(entries) + effect_penalty
                effect[:, p] = precision * left.sum(1) / information + normal(CHAINS) / np.sqrt(information)
            effect_penalty = gamma((effect.shape[1] + 1) / 2, CHAINS) / (((effect**2).sum(1) + 0.01) / 2)
        if not ordinal:
            precision = gamma(len(value) / 2, CHAINS) / (((v - fit()) ** 2).sum(1) / 2)
        if sweep < BURN_IN:
            continue
        latent = (rows.x[:, grid_row, :rank] * cols.x[:, grid_col, :rank]).sum(2) + rows.x[:, grid_row,
            rank] + cols.x[:, grid_col, rank]
        if ordinal:
            from scipy.special import ndtr

            below = np.concatenate([np.zeros((CHAINS, m * n, 1)), ndtr(cuts[:, None] - latent[:, :, None]),
                                    np.ones((CHAINS, m * n, 1))], 2)
            prediction = (np.diff(below, axis=2) * levels).sum(2)
        else:
            prediction = mean + unit * latent
        sums += prediction.mean(0), (prediction**2).mean(0)
    first, second = sums / SWEEPS
    return {"mean": first.tolist(), "sd": np.sqrt(second - first**2).tolist()}


def truncated(mean, low, high, rng):
    from scipy.special import ndtr, ndtri

    a, b = low - mean, high - mean
    flip = a > 0
    a, b = np.where(flip, -b, a), np.where(flip, -a, b)
    u = rng.uniform(size=mean.shape)
    x = np.clip(ndtri(ndtr(a) + u * (ndtr(b) - ndtr(a))), a, b)
    return mean + np.where(flip, -x, x)


def make():
    rng = np.random.RandomState(11)
    m, n, rank, count = 9, 8, 1, 44
    cells = rng.permutation(m * n)[:count]
    row, col = cells // n, cells % n
    truth = 3 + 0.5 * rng.randn(m, 1) + 0.4 * rng.randn(1, n) + rng.randn(m, 1) @ rng.randn(1, n)
    value = np.round(truth[row, col] + 0.4 * rng.randn(count), 2)
    few = np.clip(np.round(value), 2, 4)
    day = rng.randint(0, 3, count)
    slots = {key: s for s, key in enumerate(sorted(set(zip(row.tolist(), day.tolist()))))}
    periods = np.array([slots[key] for key in zip(row.tolist(), day.tolist())])
    out = {"rows": m, "cols": n, "rank": rank, "ridge": RIDGE, "row": row.tolist(), "col": col.tolist(),
           "value": value.tolist(), "few": few.tolist(),
           "day": day.tolist(), "cases": []}
    for name, implicit, with_periods, ordinal in (("plain", False, False, False), ("implicit", True, False, False),
                                                  ("periods", False, True, False),
                                                  ("ordinal", False, False, True)):
        found = sample(row, col, few if ordinal else value, m, n, rank, implicit, periods if with_periods else None,
                       np.unique(few) if ordinal else None, 7 if ordinal else 5)
        out["cases"].append({"name": name, "implicit": implicit, "periods": with_periods, "ordinal": ordinal,
                             "mean": found["mean"], "sd": found["sd"]})
    out["numpy"] = np.__version__
    return out


if __name__ == "__main__":
    path = Path(__file__).resolve().parents[1] / "posteriors.json"
    path.write_text(json.dumps(make()) + "\n", "utf-8")
    print(path)
