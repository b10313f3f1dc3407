"""Writes tests/golden/ratings.json: biases, folds, alternation and the choice among a grid, computed again with NumPy.

    python tests/golden/make/ratings.py

The random numbers are those of src/ratings/portable_random.h, so that folds and starts are the same; everything else is
written anew, with dense solves where the program uses conjugate gradients and packed triangles.
"""
from __future__ import annotations

import json
from pathlib import Path

import numpy as np

MASK = (1 << 64) - 1


class PortableRandom:
    """splitmix64."""

    def __init__(self, seed):
        self.state = seed & MASK

    def next(self):
        self.state = (self.state + 0x9E3779B97F4A7C15) & MASK
        z = self.state
        z = ((z ^ (z >> 30)) * 0xBF58476D1CE4E5B9) & MASK
        z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) & MASK
        return z ^ (z >> 31)

    def below(self, bound):
        limit = MASK - MASK % bound
        drawn = self.next()
        while drawn >= limit:
            drawn = self.next()
        return drawn % bound

    def normal(self):
        u = ((self.next() >> 11) + 0.5) * 2.0**-53
        v = (self.next() >> 11) * 2.0**-53
        return np.sqrt(-2 * np.log(u)) * np.cos(6.283185307179586 * v)


def permutation(size, seed):
    random, order = PortableRandom(seed), list(range(size))
    for i in range(size, 1, -1):
        j = random.below(i)
        order[i - 1], order[j] = order[j], order[i - 1]
    return order


def random_split(size, share, seed):
    held = permutation(size, seed)[: int(np.floor(share * size + 0.5))]
    mark = np.zeros(size, bool)
    mark[held] = True
    return np.flatnonzero(~mark), np.flatnonzero(mark)


def k_folds(size, k, seed):
    order, begin, folds = permutation(size, seed), 0, []
    for f in range(k):
        end = begin + size // k + (f < size % k)
        mark = np.zeros(size, bool)
        mark[order[begin:end]] = True
        folds.append((np.flatnonzero(~mark), np.flatnonzero(mark)))
        begin = end
    return folds


class Data:
    """Entries of an m x n matrix."""

    def __init__(self, row, col, value, m, n):
        self.row, self.col, self.value, self.m, self.n = np.asarray(row), np.asarray(col), np.asarray(value,
            float), m, n

    def at(self, index):
        return Data(self.row[index], self.col[index], self.value[index], self.m, self.n)


def closed_form_biases(data, row_penalty, col_penalty):
    """The ridge problem of all biases together as one linear system."""
    design = np.zeros((len(data.value), data.m + data.n))
    design[np.arange(len(data.value)), data.row] = 1
    design[np.arange(len(data.value)), data.m + data.col] = 1
    penalty = np.diag([row_penalty] * data.m + [col_penalty] * data.n)
    mean = data.value.mean()
    solution = np.linalg.solve(design.T @ design + penalty, design.T @ (data.value - mean))
    return mean, solution[: data.m], solution[data.m :]


def errors(predicted, value):
    e = predicted - value
    return {"rmse": float(np.sqrt((e**2).mean())), "mae": float(np.abs(e).mean())}


def start(data, rank, seed):
    random = PortableRandom(seed)
    sides = []
    for size in (data.m, data.n):
        side = np.zeros((size, rank + 1))
        for i in range(size):
            for k in range(rank):
                side[i, k] = 0.1 * random.normal()
        sides.append(side)
    return sides


def implicit_prior(indicator, x, ridge):
    """F Y with Y = argmin |X - F Y|^2 + ridge |Y|^2."""
    count = np.maximum(indicator.sum(1, keepdims=True), 1)
    f = indicator / np.sqrt(count)
    return f @ np.linalg.solve(f.T @ f + ridge * np.eye(f.shape[1]), f.T @ x)


def alternation(data, rank, sweeps, seed, bayes, regularization=None, implicit=False, ridge=0.3, then=None, further=0):
    """Yields (prediction function) after every sweep. `then`: other data, with further rows and columns, that the fit
    goes on with for `further` sweeps."""
    mean = data.value.mean()
    unit = np.sqrt(((data.value - mean) ** 2).mean())
    v = (data.value - mean) / unit
    x, z = start(data, rank, seed)
    k = rank + 1
    cx, cz = np.zeros((data.m, k, k)), np.zeros((data.n, k, k))
    px, pz = np.zeros_like(x), np.zeros_like(z)
    ax = np.full(k, 10.0 if bayes else (0.05 if regularization is None else regularization))
    az = ax.copy()
    precision = 2.0 if bayes else 1.0

    def half(own, other, size, y, cy, prior, penalty):
        out, cov, expected = np.zeros((size, k)), np.zeros((size, k, k)), 0.0
        for i in range(size):
            who = np.flatnonzero(own == i)
            phi = np.concatenate([y[other[who], :rank], np.ones((len(who), 1))], 1)
            spread = cy[other[who]].copy()
            spread[:, rank, :] = 0
            spread[:, :, rank] = 0
            gram = phi.T @ phi + spread.sum(0)
            bias = y[other[who], rank]
            cross = np.concatenate([cy[other[who]][:, :rank, rank], np.zeros((len(who), 1))], 1)
            right = ((v[who] - bias)[:, None] * phi - cross).sum(0)
            p = penalty * (1 if bayes else max(len(who), 1))
            system = precision * gram + np.diag(p)
            out[i] = np.linalg.solve(system, precision * right + p * prior[i])
            if bayes:
                cov[i] = np.linalg.inv(system)
                square = ((v[who] - bias) ** 2).sum() + cy[other[who]][:, rank, rank].sum()
                expected += square - 2 * out[i] @ right + np.sum(gram * (np.outer(out[i], out[i]) + cov[i]))
        return out, cov, expected

    indicator = np.zeros((data.m, data.n))
    indicator[data.row, data.col] = 1
    for sweep in range(sweeps + further):
        if sweep == sweeps:
            # What is known of the columns, with new ones at their prior, decides the rows; both decide the priors that
            # implicit feedback gives.
            more = then.n - data.n
            x, z = np.concatenate([x, np.zeros((then.m - data.m, k))]), np.concatenate([z, np.zeros((more, k))])
            cz = np.concatenate([cz, np.repeat(np.diag(1 / az)[None] * bayes, more, 0)])
            data, v = then, (then.value - mean) / unit
            indicator = np.zeros((data.m, data.n))
            indicator[data.row, data.col] = 1
            px = implicit_prior(indicator, x, ridge) if implicit else np.zeros_like(x)
            pz = implicit_prior(indicator.T, z, ridge) if implicit else np.zeros_like(z)
        x, cx, _unused = half(data.row, data.col, data.m, z, cz, px, ax)
        if implicit:
            px = implicit_prior(indicator, x, ridge)
        z, cz, expected = half(data.col, data.row, data.n, x, cx, pz, az)
        if implicit:
            pz = implicit_prior(indicator.T, z, ridge)
        if bayes:
            factor = 1.0 if regularization is None else regularization
            ax = factor * (data.m + 1) / (((x - px) ** 2).sum(0) + np.einsum("ikk->k", cx) + 0.01)
            az = factor * (data.n + 1) / (((z - pz) ** 2).sum(0) + np.einsum("ikk->k", cz) + 0.01)
            precision = len(v) / expected
        yield lambda row, col, x=x, z=z: mean + unit * ((x[row, :rank] * z[col, :rank]).sum(1) + x[row, rank]
                                                        + z[col, rank])


def choose(data, grid, sweeps, share, seed, patience):
    """The program's choice among als candidates on drawn dev ratings, refitted on all."""
    train, dev = (data.at(part) for part in random_split(len(data.value), share, seed + 0x5EED))
    low, high = data.value.min(), data.value.max()
    best, tried = None, []
    for rank, penalty in grid:
        found, since = {"rmse": np.inf}, 0
        for sweep, predict in enumerate(alternation(train, rank, sweeps, seed, False, penalty), 1):
            e = errors(np.clip(predict(dev.row, dev.col), low, high), dev.value)
            since = 0 if e["rmse"] < found["rmse"] * (1 - 1e-5) else since + 1
            if e["rmse"] < found["rmse"]:
                found = {**e, "sweeps": sweep, "rank": rank, "regularization": penalty}
            if since >= patience:
                break
        tried.append(found)
        if best is None or found["rmse"] < best["rmse"]:
            best = found
    for predict in alternation(data, best["rank"], best["sweeps"], seed, False, best["regularization"]):
        pass
    return best, tried, lambda test: errors(np.clip(predict(test.row, test.col), low, high), test.value)


def make():
    rng = np.random.RandomState(5)
    m, n, count, seed = 25, 18, 260, 3
    cells = rng.permutation(m * n)[:count]
    row, col = cells // n, cells % n
    truth = 3 + rng.randn(m, 1) * 0.4 + rng.randn(1, n) * 0.4 + rng.randn(m, 2) @ rng.randn(2, n) * 0.7
    value = np.round(np.clip(truth[row, col] + 0.3 * rng.randn(count), 0.5, 5) * 2) / 2
    data = Data(row, col, value, m, n)
    out = {"rows": m, "cols": n, "seed": seed, "row": row.tolist(), "col": col.tolist(), "value": value.tolist()}
    mean, b, c = closed_form_biases(data, 2.0, 3.0)
    out["biases"] = {"row_penalty": 2.0, "col_penalty": 3.0, "mean": mean, "row": b.tolist(), "col": c.tolist()}
    out["fits"] = []
    for options in ({"bayes": False, "regularization": 0.1}, {"bayes": True}, {"bayes": True, "implicit": True}):
        for predict in alternation(data, 3, 6, seed, **options):
            pass
        out["fits"].append({**options, "rank": 3, "sweeps": 6, "prediction": predict(row, col).tolist()})
    # Further ratings: some of other values for known pairs, some of new rows and columns.
    added = [(0, 3, 4.5), (7, 2, 1.0), (m, 0, 3.5), (m, 5, 2.0), (m, n, 5.0), (4, n, 4.0), (m + 1, 1, 0.5)]
    together = {(int(i), int(j)): float(w) for i, j, w in zip(row, col, value)} | {(i, j): w for i, j, w in added}
    whole = Data([i for i, _ in together], [j for _, j in together], list(together.values()), m + 2, n + 1)
    out["update"] = {"added": added, "rows": m + 2, "cols": n + 1, "fits": []}
    for options in ({"bayes": False, "regularization": 0.1}, {"bayes": True}, {"bayes": True, "implicit": True}):
        for predict in alternation(data, 2, 5, seed, **options, then=whole, further=3):
            pass
        cells = np.arange((m + 2) * (n + 1))
        out["update"]["fits"].append({**options, "rank": 2, "sweeps": 5, "further": 3,
                                      "prediction": predict(cells // (n + 1), cells % (n + 1)).tolist()})
    grid = [(r, p) for r in (1, 2, 3) for p in (0.02, 0.1, 0.5)]
    out["grid"] = {"ranks": [1, 2, 3], "regularization": [0.02, 0.1, 0.5], "sweeps": 12, "dev_share": 0.15,
                   "patience": 4, "folds": []}
    for train, held in k_folds(count, 4, seed):
        best, tried, score = choose(data.at(train), grid, 12, 0.15, seed, 4)
        out["grid"]["folds"].append({"held_out": held.tolist(), "best": best, "tried": tried,
                                     "test": score(data.at(held))})
    # Folding a new row in: least squares with the ridge as further equations.
    a, bias, penalty, prior = rng.randn(n, 3), rng.randn(n), np.array([0.5, 1.0, 2.0, 4.0]), rng.randn(n, 4) * 0.3
    cols, values = np.array([0, 3, 4, 7, 11]), rng.randn(5) + 3
    center = prior[cols].sum(0) / np.sqrt(len(cols))
    design = np.concatenate([np.concatenate([a[cols], np.ones((5, 1))], 1), np.diag(np.sqrt(penalty))])
    target = np.concatenate([values - 3.0 - bias[cols], np.sqrt(penalty) * center])
    out["fold_in"] = {"mean": 3.0, "col_factor": a.ravel().tolist(), "col_bias": bias.tolist(),
                      "penalty": penalty.tolist(), "link": prior.ravel().tolist(),
                      "cols": cols.tolist(), "values": values.tolist(), "coordinates": np.linalg.lstsq(design, target,
                          rcond=None)[0].tolist()}
    out["numpy"] = np.__version__
    return out


if __name__ == "__main__":
    path = Path(__file__).resolve().parents[1] / "ratings.json"
    path.write_text(json.dumps(make()) + "\n", "utf-8")
    print(path)
