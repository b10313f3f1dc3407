#!/usr/bin/env python3
"""Writes tests/golden/metrics.json: scores of scikit-learn and SciPy on seeded and degenerate predictions."""

import json
import math
import warnings
from pathlib import Path

import numpy
import scipy.stats
import sklearn
import sklearn.metrics as metrics

OUTPUT = Path(__file__).resolve().parents[1] / "metrics.json"


def class_cases(generator):
    noisy = generator.integers(0, 2, 1000)
    many = generator.integers(0, 7, 300)
    return {
        "binary of 1000 rows": (numpy.where(generator.random(1000) < 0.3, 1 - noisy, noisy), noisy),
        "seven classes": (numpy.where(generator.random(300) < 0.5, generator.integers(0, 7, 300), many), many),
        "rare positive": ((generator.random(200) < 0.02).astype(int), (generator.random(200) < 0.05).astype(int)),
        "two rows": ([1, 0], [1, 1]),
        "one row": ([1], [1]),
        "perfect": ([0, 1, 2, 1], [0, 1, 2, 1]),
        "all wrong": ([1, 0, 1, 0], [0, 1, 0, 1]),
        "constant prediction": ([1, 1, 1, 1, 1], [0, 1, 1, 0, 1]),
        "single class on both sides": ([0, 0, 0], [0, 0, 0]),
        "single class expected": ([0, 1, 2], [1, 1, 1]),
        "a class never expected": ([0, 3, 1, 1], [0, 1, 1, 2]),
        "labels far apart": ([-5, 1000000, 7], [-5, 7, 7]),
    }


def class_scores(predicted, expected):
    return {
        "accuracy": metrics.accuracy_score(expected, predicted),
        "f1_of_class_1": metrics.f1_score(expected, predicted, labels=[1], average="macro", zero_division=math.nan),
        "f1_macro": metrics.f1_score(expected, predicted, average="macro", zero_division=math.nan),
        "f1_weighted": metrics.f1_score(expected, predicted, average="weighted", zero_division=math.nan),
        "matthews": metrics.matthews_corrcoef(expected, predicted),
    }


def value_cases(generator):
    x = numpy.round(generator.normal(size=1000), 3)
    return {
        "1000 rows": (numpy.round(x + generator.normal(size=1000), 3), x),
        "ratings with ties": (generator.integers(0, 6, 80) / 2, generator.integers(0, 11, 80) / 2),
        "no relation": (generator.normal(size=50), generator.normal(size=50)),
        "large offset": (1e8 + x[:100], 3e7 - x[:100] + generator.normal(size=100)),
        "tiny spread": (1 + 1e-9 * x[:60], x[:60] + 0.1),
        "huge values": (1e160 * x[:20], x[:20] ** 3),
        "two rows": ([1.0, 2.0], [5.0, 3.0]),
        "perfect": ([1.0, 2.0, 4.0], [10.0, 20.0, 40.0]),
        "monotone but curved": (list(numpy.exp(numpy.arange(12.0))), list(numpy.arange(12.0))),
        "constant prediction": ([0.1, 0.1, 0.1], [1.0, 2.0, 3.0]),
        "constant expected": ([1.0, 2.0, 3.0], [0.3, 0.3, 0.3]),
        "all ties on one side but one": ([2.0, 2.0, 2.0, 1.0], [1.0, 2.0, 3.0, 4.0]),
        "infinite prediction": ([1.0, math.inf, 3.0], [1.0, 2.0, 3.0]),
    }


def value_scores(predicted, expected):
    finite = bool(numpy.all(numpy.isfinite(predicted)))
    squared = metrics.mean_squared_error(expected, predicted) if finite else math.inf
    return {
        "pearson": scipy.stats.pearsonr(predicted, expected).statistic,
        "spearman": scipy.stats.spearmanr(predicted, expected).statistic,
        "mse": squared,
        "rmse": math.sqrt(squared),
        "mae": metrics.mean_absolute_error(expected, predicted) if finite else math.inf,
        "ranks": list(scipy.stats.rankdata(predicted)),
    }


def label_cases(generator):
    """{name: (probabilities [N, C], expected [N, C])}; a label is predicted from 0.5 on."""
    def drawn(rows, labels, share, step=0.001):
        expected = (generator.random((rows, labels)) < share).astype(int)
        noisy = numpy.clip(0.4 * expected + 0.7 * generator.random((rows, labels)), 0, 1)
        return numpy.round(numpy.round(noisy / step) * step, 6), expected
    none, all_of = numpy.zeros((3, 2), int), numpy.ones((3, 2), int)
    return {
        "200 rows of 6 labels": drawn(200, 6, 0.3),
        "ties": drawn(60, 4, 0.4, step=0.25),
        "rare labels": drawn(40, 8, 0.03),
        "one row": drawn(1, 3, 0.5),
        "many labels": drawn(20, 50, 0.1),
        "a label that no row has": (drawn(30, 2, 0.5)[0],
                                    numpy.stack([numpy.zeros(30, int), drawn(30, 1, 0.5)[1][:, 0]], 1)),
        "no labels at all, none predicted": (0.1 + 0 * none, none),
        "no labels at all, all predicted": (0.9 + 0 * none, none),
        "all labels, none predicted": (0.1 + 0 * none, all_of),
        "perfect": (0.9 * numpy.eye(4), numpy.eye(4, dtype=int)),
    }


def label_scores(probabilities, expected):
    predicted = (probabilities >= 0.5).astype(int)
    return {
        "micro_f1": metrics.f1_score(expected, predicted, average="micro"),
        "macro_f1": metrics.f1_score(expected, predicted, average="macro"),
        "subset_accuracy": metrics.accuracy_score(expected, predicted),
        "map": metrics.average_precision_score(expected, probabilities, average="macro"),
        "precision": metrics.precision_score(expected, predicted, average=None, zero_division=math.nan),
        "recall": metrics.recall_score(expected, predicted, average=None, zero_division=math.nan),
    }


def plain(value):
    """JSON has neither NaN nor infinity: strings stand for them."""
    if isinstance(value, (list, tuple, numpy.ndarray)):
        return [plain(item) for item in value]
    value = value.item() if isinstance(value, numpy.generic) else value
    return str(value) if isinstance(value, float) and not math.isfinite(value) else value


def rows(cases, scores):
    out = []
    for name, (predicted, expected) in cases.items():
        got = scores(numpy.asarray(predicted), numpy.asarray(expected))
        out.append({"name": name, "predicted": plain(predicted), "expected": plain(expected),
                    "scores": {key: plain(value) for key, value in got.items()}})
    return out


def main():
    warnings.simplefilter("ignore")  # the undefined cases warn; what they return is the point
    generator = numpy.random.default_rng(20240612)
    # Rounded inputs keep the file small; the scores are of the rounded ones.
    values = {name: tuple(numpy.asarray([float(f"{v:.12g}") for v in side]) for side in sides)
              for name, sides in value_cases(generator).items()}
    golden = {"made_with": {"scikit-learn": sklearn.__version__, "scipy": scipy.__version__},
              "classes": rows(class_cases(generator), class_scores), "values": rows(values, value_scores),
              "labels": rows(label_cases(generator), label_scores)}
    for case in golden["values"]:
        if len(case["predicted"]) > 100:
            del case["scores"]["ranks"]
    OUTPUT.parent.mkdir(parents=True, exist_ok=True)
    OUTPUT.write_text(json.dumps(golden, separators=(",", ":")).replace('{"name"', '\n{"name"') + "\n")


if __name__ == "__main__":
    main()
