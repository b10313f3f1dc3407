#!/usr/bin/env python3
"""Writes tests/golden/ranking.json: scores of trec_eval (package pytrec-eval-terrier) on random graded queries, with
ties, few texts or none that is relevant.

trec_eval puts texts with equal scores in falling order of their names, so they are named for the less relevant to stand
first. It has no mrr@10: that is its recip_rank of the first ten texts in that order."""
from __future__ import annotations

import json
import random
from importlib.metadata import version
from pathlib import Path

import pytrec_eval

OUTPUT = Path(__file__).resolve().parents[1] / "ranking.json"
KINDS = ["graded", "binary", "ties", "all equal", "few", "one", "many", "unanswered", "mixed"]


def query(rng, kind):
    """[score, relevance] of every text; scores are exact in float32, which trec_eval reads them in."""
    kind = rng.choice(KINDS[:-1]) if kind == "mixed" else kind
    count = {"few": rng.randint(2, 4), "one": 1, "many": rng.randint(40, 80)}.get(kind, rng.randint(5, 25))
    grades = {"binary": [0, 1], "unanswered": [0]}.get(kind, [0, 0, 0, 1, 2, 3])
    steps = {"ties": 4, "all equal": 1}.get(kind, 4096)
    return [[rng.randrange(steps) / 64 - 3, rng.choice(grades)] for _ in range(count)]


def scored(queries):
    names = [[f"{9 - relevance}-{i:03}" for i, (_, relevance) in enumerate(texts)] for texts in queries]
    truth = {str(q): {name: relevance for name, (_, relevance) in zip(names[q], texts)} for q,
             texts in enumerate(queries)}
    found = {str(q): {name: score for name, (score, _) in zip(names[q], texts)} for q, texts in enumerate(queries)}
    first = {q: dict(sorted(texts.items(), key=lambda one: (one[1], one[0]), reverse=True)[:10]) for q,
             texts in found.items()}
    whole = pytrec_eval.RelevanceEvaluator(truth, {"map", "ndcg_cut.10"}).evaluate(found)
    cut = pytrec_eval.RelevanceEvaluator(truth, {"recip_rank"}).evaluate(first)
    assert len(whole) == len(cut) == len(queries)

    def mean(results, name):
        return sum(one[name] for one in results.values()) / len(queries)

    return {"mrr@10": mean(cut, "recip_rank"), "ndcg@10": mean(whole, "ndcg_cut_10"), "map": mean(whole, "map"),
            "without_relevant": sum(all(relevance == 0 for _, relevance in texts) for texts in queries)}


def main():
    rng = random.Random(31)
    cases = []
    for kind in KINDS:
        for _ in range(4):
            queries = [query(rng, kind) for _ in range(rng.randint(1, 6))]
            cases.append({"kind": kind, "queries": queries, **scored(queries)})
    golden = {"made_with": {"pytrec-eval-terrier": version("pytrec-eval-terrier")}, "cases": cases}
    OUTPUT.write_text(json.dumps(golden, separators=(",", ":")).replace('{"kind"', '\n{"kind"') + "\n", "utf-8")


if __name__ == "__main__":
    main()
