"""Oracle: scikit-learn's precision_recall_fscore_support, confusion_matrix and calibration_curve on random predictions,
with labels that are never predicted or never expected."""
import json
import math
import os
import subprocess
import sys
import unittest
import warnings

try:
    import numpy
    from sklearn.calibration import calibration_curve
    from sklearn.metrics import confusion_matrix, precision_recall_fscore_support
except ImportError as missing:
    print(f"skipped: {missing}")
    sys.exit(77)

HELPER = os.environ["DEEPLORA_BASE_HELPER"]
DRAWS = 200


def draw(generator):
    classes, rows = int(generator.integers(2, 9)), int(generator.integers(1, 120))
    some = generator.choice(classes, size=int(generator.integers(1, classes + 1)), replace=False)
    expected = generator.choice(some, rows)
    predicted = numpy.where(generator.random(rows) < 0.6, expected, generator.integers(0, classes, rows))
    confidence = generator.random(rows)
    if generator.random() < 0.3:  # on the edges of bins
        confidence = numpy.round(confidence, 1)
    return {"names": [f"label {i}" for i in range(classes)], "predicted": predicted.tolist(),
            "expected": expected.tolist(), "confidence": confidence.tolist()}


def number(value):
    return None if math.isnan(value) else value


class LabelReportTest(unittest.TestCase):
    def test_random_predictions(self):
        generator = numpy.random.default_rng(20240611)
        rows = [draw(generator) for _ in range(DRAWS)]
        done = subprocess.run([HELPER, "label-report"], input="\n".join(json.dumps(row) for row in rows),
                              capture_output=True, text=True, check=True)
        answers = [json.loads(line) for line in done.stdout.splitlines()]
        self.assertEqual(len(answers), DRAWS)
        undefined = 0
        for row, got in zip(rows, answers):
            labels = list(range(len(row["names"])))
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                wanted = precision_recall_fscore_support(row["expected"], row["predicted"], labels=labels,
                                                         zero_division=numpy.nan)
            for i, name in enumerate(row["names"]):
                for key, values in zip(("precision", "recall", "f1", "support"), wanted):
                    undefined += math.isnan(values[i])
                    if number(values[i]) is None:
                        self.assertIsNone(got["per_label"][name][key], (row, name, key))
                    else:
                        self.assertAlmostEqual(got["per_label"][name][key], values[i], places=12, msg=(row, name, key))
            self.assertEqual(got["confusion"]["labels"], row["names"])
            self.assertEqual(got["confusion"]["counts"], confusion_matrix(row["expected"], row["predicted"],
                labels=labels).tolist())
            self.check_calibration(row, got["calibration"])
        self.assertGreater(undefined, 100)

    def check_calibration(self, row, got):
        right = (numpy.array(row["expected"]) == numpy.array(row["predicted"])).astype(int)
        confidence = numpy.array(row["confidence"])
        # The library wants both outcomes to be there; two rows more that are taken out again would change bins, so
        # single outcomes are left to the other draws.
        bins = [one for one in got["bins"] if one["rows"] > 0]
        if len(set(right.tolist())) == 2:
            accuracy, mean = calibration_curve(right, confidence, n_bins=10, strategy="uniform")
            numpy.testing.assert_allclose([one["accuracy"] for one in bins], accuracy, atol=1e-12)
            numpy.testing.assert_allclose([one["confidence"] for one in bins], mean, atol=1e-12)
        self.assertEqual(sum(one["rows"] for one in bins), len(right))
        error = sum(one["rows"] * abs(one["accuracy"] - one["confidence"]) for one in bins) / len(right)
        self.assertAlmostEqual(got["error"], error, places=12)


if __name__ == "__main__":
    unittest.main()
