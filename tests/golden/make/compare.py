#!/usr/bin/env python3
"""Writes tests/golden/compare_statistics.json: Student's t, paired tests and Holm's adjustment as SciPy computes
them."""

import json
from pathlib import Path

import numpy
import scipy
import scipy.special
import scipy.stats

OUTPUT = Path(__file__).resolve().parents[1] / "compare_statistics.json"


def quantiles():
    dofs = [1, 2, 3, 4, 5, 7, 9, 10, 19, 29, 30, 99, 1000, 1e6, 0.5, 2.5]
    probabilities = [0.5, 0.6, 0.75, 0.9, 0.95, 0.975, 0.99, 0.995, 0.9995, 0.999999, 0.025, 0.001]
    return [{"dof": d, "p": p, "t": scipy.stats.t.ppf(p, d)} for d in dofs for p in probabilities]


# No t nearer to 0: there SciPy itself returns 0.5 for one degree of freedom, where 0.5 + t / pi is right.
def tails():
    return [{"dof": d, "t": t, "cdf": scipy.stats.t.cdf(t, d), "two_sided": 2 * scipy.stats.t.sf(abs(t), d)}
            for d in [1, 2, 4, 9, 30, 200, 12345.0] for t in [-40, -3, -1e-3, 0, 1e-2, 0.3, 1, 2.776, 8, 30, 1e3]]


def betas():
    return [{"a": a, "b": b, "x": x, "value": scipy.special.betainc(a, b, x)}
            for a in [0.5, 1, 2.5, 10, 100] for b in [0.5, 1, 3, 40] for x in [0, 1e-8, 0.1, 0.5, 0.9, 0.999999, 1]]


def paired():
    generator = numpy.random.default_rng(5)
    out = []
    for n in (2, 3, 5, 10, 40):
        for shift in (0, 0.02, 1):
            b = numpy.round(generator.normal(0.7, 0.05, n), 4)
            a = numpy.round(b + shift + generator.normal(0, 0.03, n), 4)
            test = scipy.stats.ttest_rel(a, b)
            interval = test.confidence_interval(0.95)
            d = a - b
            out.append({"a": a.tolist(), "b": b.tolist(), "mean": d.mean(), "sd": d.std(ddof=1), "low": interval.low,
                        "high": interval.high, "p": test.pvalue,
                        "higher": int((a > b).sum()), "lower": int((a < b).sum())})
    return out


def stepped():
    """Coarse scores: the square of one step is added to the variance of the differences."""
    generator = numpy.random.default_rng(7)
    out = []
    for n in (2, 3, 5, 10):
        for rows in (20, 365):
            while True:
                a, b = (generator.binomial(rows, 0.8, n) / rows for _ in range(2))
                d = a - b
                if not numpy.allclose(d, d[0]):
                    break
            error = numpy.sqrt((d.var(ddof=1) + 1 / rows**2) / n)
            low, high = scipy.stats.t.interval(0.95, n - 1, loc=d.mean(), scale=error)
            out.append({"a": a.tolist(), "b": b.tolist(), "step": 1 / rows, "mean": d.mean(), "sd": d.std(ddof=1),
                        "low": low, "high": high,
                        "p": 2 * scipy.stats.t.sf(abs(d.mean() / error), n - 1)})
    return out


def holm():
    # Holm 1979, step by step as he writes it: the k-th smallest p times the number of hypotheses left, never falling,
    # at most 1.
    out = []
    generator = numpy.random.default_rng(6)
    for n in (1, 2, 5, 12):
        p = numpy.round(generator.random(n) ** 3, 6)
        order = numpy.argsort(p, kind="stable")
        adjusted = numpy.empty(n)
        adjusted[order] = numpy.minimum(1, numpy.maximum.accumulate(p[order] * numpy.arange(n, 0, -1)))
        out.append({"p": p.tolist(), "adjusted": adjusted.tolist()})
    return out


def main():
    golden = {"made_with": {"scipy": scipy.__version__}, "quantiles": quantiles(), "tails": tails(), "betas": betas(),
              "paired": paired(), "holm": holm(), "stepped": stepped()}
    OUTPUT.write_text(json.dumps(golden, separators=(",", ":")).replace("},{", "},\n{") + "\n")


if __name__ == "__main__":
    main()
