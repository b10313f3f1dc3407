"""Oracle: scikit-learn's train_test_split. Parts drawn from one file have its sizes, and as many rows of each class."""

import collections
import json
import os
import random
import subprocess
import sys
import unittest

try:
    from sklearn.model_selection import train_test_split
except ImportError as missing:
    print(f"skipped: {missing}")
    sys.exit(77)

HELPER = os.environ["DEEPLORA_BASE_HELPER"]


def draw(seed):
    r = random.Random(seed)
    classes = [f"class {i}" for i in range(r.randint(1, 6))]
    weights = [r.random() + 0.05 for _ in classes]
    strata = r.choices(classes, weights, k=r.randint(60, 900))
    for name in set(strata):  # scikit-learn wants two of each, and a part to hold every class
        strata += [name] * 12
    return {"strata": strata, "dev": round(r.uniform(0.05, 0.5), 2), "test": 0.0, "seed": seed}


class Splitting(unittest.TestCase):
    def test_sizes_and_counts_of_classes_are_those_of_scikit_learn(self):
        draws = [draw(seed) for seed in range(200)]
        done = subprocess.run([HELPER, "splits"], input=json.dumps(draws), capture_output=True, text=True, check=True)
        exact = 0
        for one, line in zip(draws, done.stdout.splitlines(), strict=True):
            parts = json.loads(line)
            strata = one["strata"]
            self.assertEqual(sorted(parts["train"] + parts["dev"]), list(range(len(strata))))
            _, dev = train_test_split(range(len(strata)), test_size=one["dev"], stratify=strata,
                                      random_state=one["seed"])
            self.assertEqual(len(parts["dev"]), len(dev))
            ours, theirs = (collections.Counter(strata[i] for i in part) for part in (parts["dev"], dev))
            for name in set(strata):  # equal remainders are drawn there
                self.assertLessEqual(abs(ours[name] - theirs[name]), 1, (one["seed"], ours, theirs))
            exact += ours == theirs
        self.assertGreater(exact, 150)


if __name__ == "__main__":
    unittest.main()
