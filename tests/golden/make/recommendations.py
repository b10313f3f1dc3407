#!/usr/bin/env python3
"""Writes tests/golden/recommendations.json: precision, recall, ndcg and map at k of random recommendations, by
trec_eval through pytrec_eval.

    pip install pytrec-eval-terrier; python tests/golden/make/recommendations.py
"""
from __future__ import annotations

import json
from importlib.metadata import version
from pathlib import Path

import numpy as np
import pytrec_eval


def case(seed, m, n, r, k, share, test_share, relevant):
    rng = np.random.RandomState(seed)
    b, a, bias = rng.randn(m, r), rng.randn(n, r), rng.randn(n)
    score = b @ a.T + bias
    known = rng.rand(m, n) < share
    test = ~known & (rng.rand(m, n) < test_share)
    value = np.round(rng.uniform(1, 5, (m, n)), 1)
    cells = np.argwhere(test)
    unknown = [[int(u), -1, 5.0] for u in range(0, m, 3)]  # relevant columns that the model does not know
    qrels, run, shown = {}, {}, set()
    for u in range(m):
        good = [j for j in range(n) if test[u, j] and value[u, j] >= relevant]
        more = [f"new{u}"] if [u, -1, 5.0] in unknown else []
        if not good and not more:
            continue
        order = [j for j in np.argsort(-score[u]) if not known[u, j]][:k]
        shown.update(order)
        qrels[str(u)] = {**{str(j): 1 for j in good}, **{name: 1 for name in more}}
        run[str(u)] = {str(j): float(score[u, j]) for j in order}
    measures = {f"P_{k}", f"recall_{k}", f"ndcg_cut_{k}", f"map_cut_{k}"}
    found = pytrec_eval.RelevanceEvaluator(qrels, measures).evaluate({q: r or {"none": 0.0} for q, r in run.items()})
    mean = lambda name: float(np.mean([found[q][f"{name}_{k}"] for q in qrels]))
    return {"rows": m, "cols": n, "rank": r, "k": k, "relevant": relevant, "row_factor": b.ravel().tolist(),
            "col_factor": a.ravel().tolist(),
            "col_bias": bias.tolist(), "known": np.argwhere(known).tolist(),
            "test": [[int(u), int(j), float(value[u, j])] for u, j in cells] + unknown,
            "scores": {"precision": mean("P"), "recall": mean("recall"), "ndcg": mean("ndcg_cut"),
                       "map": mean("map_cut"), "coverage": len(shown) / n,
                       "rows": len(qrels)}}


if __name__ == "__main__":
    cases = [case(1, 12, 30, 2, 5, 0.3, 0.4, 3.0), case(2, 20, 15, 1, 10, 0.4, 0.5, 4.5), case(3, 6, 8, 3, 20, 0.5, 0.6,
        2.0), case(4, 9, 40, 2, 1, 0.1, 0.1, 4.0)]
    path = Path(__file__).resolve().parents[1] / "recommendations.json"
    path.write_text(json.dumps({"pytrec_eval": version("pytrec-eval-terrier"), "cases": cases}) + "\n", "utf-8")
    print(path)
