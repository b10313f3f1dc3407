#!/usr/bin/env python3
"""Writes tests/golden/logistic.json: scikit-learn's LogisticRegression with its defaults (C=1, lbfgs), followed to the
end (tol=1e-12)."""

import json
from pathlib import Path

import numpy
from sklearn.linear_model import LogisticRegression

OUTPUT = Path(__file__).resolve().parents[1] / "logistic.json"


def packed(values):
    return {"shape": list(values.shape), "data": values.flatten().tolist()}


def case(name, numbers, rows, width, classes, scale=1.0, shift=0.0, apart=1.0):
    y = numpy.concatenate([numpy.arange(classes), numbers.integers(0, classes, rows - classes)])
    x = numpy.round(scale * (numbers.normal(size=(rows, width)) + apart * numbers.normal(size=(classes, width))[y])
                    + shift, 4)
    fit = LogisticRegression(tol=1e-12, max_iter=100000).fit(x, y)
    return {"name": name, "classes": classes, "x": packed(x), "y": packed(y), "weight": packed(fit.coef_),
            "bias": packed(fit.intercept_),
            "probabilities": packed(fit.predict_proba(x))}


def main():
    numbers = numpy.random.default_rng(5)
    cases = [case("two classes", numbers, 24, 5, 2), case("three classes", numbers, 30, 6, 3),
             case("far apart", numbers, 20, 4, 3, apart=8),
             case("more columns than rows", numbers, 12, 20, 3), case("short vectors", numbers, 16, 8, 2, scale=0.1),
             case("off the middle", numbers, 25, 4, 5, shift=3),
             case("a row a class", numbers, 4, 3, 4), case("uneven", numbers, 40, 3, 2, apart=0.1)]
    OUTPUT.write_text(json.dumps(cases) + "\n")
    print(f"{OUTPUT}: {OUTPUT.stat().st_size} bytes")


if __name__ == "__main__":
    main()
