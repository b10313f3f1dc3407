"""Sampling, times, scores of recommendations and further ratings, through the program. Oracles: NumPy on the exported
factors, and the ratings' own truth."""
from __future__ import annotations

import json
import subprocess
import time

import numpy as np
import pytest

from test_ratings import table
from test_ratings import write as write_table

DAY = 86400


def timed_ratings(seed=0, rows=50, cols=30):
    """(user, item, rating, time): two factors, biases, and a mood of each user on each of three days."""
    rng = np.random.RandomState(seed)
    truth = 3 + 0.5 * rng.randn(rows, 1) + 0.5 * rng.randn(1, cols) + 0.7 * rng.randn(rows, 2) @ rng.randn(2, cols)
    mood, day = rng.randn(rows, 3), rng.randint(0, 3, (rows, cols))
    return [(f"u{i}", f"i{j}", round(float(truth[i, j] + mood[i, day[i, j]] + 0.3 * rng.randn()), 3), int(day[i, j])
             * DAY + 60)
            for i in range(rows) for j in range(cols) if rng.rand() < 0.6]


def write(path, rows, header=("user", "item", "rating", "timestamp")):
    return write_table(path, rows, header[: len(rows[0])])


@pytest.fixture(scope="module")
def sampled(run, tmp_path_factory):
    folder = tmp_path_factory.mktemp("sampled")
    data = timed_ratings()
    write(folder / "train.csv", data[::3] + data[1::3]), write(folder / "test.csv", data[2::3])
    (folder / "c.yaml").write_text(
        "completion: {train: %s, test: %s, solver: gibbs, rank: 2, burn_in: 30, draws: 40, thin: 2, implicit: rows, "
        "threads: 1,"
                                   " periods: {rows: %d}, ranking: {at: 5}}\n" % (folder / "train.csv",
                                       folder / "test.csv", DAY))
    done = run("complete", folder / "c.yaml", "--run", folder / "run")
    run("complete", "--run", folder / "run", "--export", folder / "factors")
    load = lambda name: np.load(folder / f"factors/{name}.npy")
    ids = {side: [row["id"] for row in table((folder / f"factors/{side}.csv").read_text("utf-8"))] for side
           in ("rows", "cols")}
    values = load("mean")[0] + load("row_biases")[:, None] + load("col_biases")[None] + load("row_factors") @ load(
        "col_factors").T
    return folder, data, done, ids, values


def test_days_matter_and_intervals_hold(run, sampled):
    folder, data, _, ids, values = sampled
    result = json.loads((folder / "run/result.json").read_text())
    assert result["method"] == "gibbs" and result["test"]["rmse"] < 0.75 * result["baselines"]["bias"]["rmse"]
    test = data[2::3]
    write(folder / "timed.csv", [(u, i, t) for u, i, _, t in test], ("user", "item", "timestamp"))
    timed = table(run("complete", "--run", folder / "run", "--predict", folder / "timed.csv").stdout)
    errors = np.array([float(p["prediction"]) - r[2] for p, r in zip(timed, test)])
    assert np.sqrt((errors**2).mean()) == pytest.approx(result["test"]["rmse"], abs=1e-9)
    inside = np.abs(errors) < [float(p["sd"]) for p in timed]
    assert 0.6 < inside.mean() < 0.76
    # Without times the prediction is the product of the exported halves, and its spread is larger.
    write(folder / "untimed.csv", [(u, i) for u, i, *_ in test], ("user", "item"))
    untimed = table(run("complete", "--run", folder / "run", "--predict", folder / "untimed.csv").stdout)
    low, high = result["range"]
    expected = [np.clip(values[ids["rows"].index(u), ids["cols"].index(i)], low, high) for u, i, *_ in test]
    np.testing.assert_allclose([float(p["prediction"]) for p in untimed], expected, atol=1e-9)


def test_recommendations_are_scored(sampled):
    folder, data, done, ids, values = sampled
    result = json.loads((folder / "run/result.json").read_text())
    known, relevant = {r[:2] for r in data[::3] + data[1::3]}, result["ranking"]["relevant"]
    assert relevant == pytest.approx(np.mean([r[2] for r in data[::3] + data[1::3]]))
    scores, shown = [], set()
    for u, user in enumerate(ids["rows"]):
        good = {r[1] for r in data[2::3] if r[0] == user and r[2] >= relevant}
        if not good:
            continue
        best = [ids["cols"][j] for j in np.argsort(-values[u]) if (user, ids["cols"][j]) not in known][:5]
        shown |= set(best)
        hit = np.array([i in good for i in best])
        discount = 1 / np.log2(np.arange(len(best)) + 2)
        scores.append((hit.sum() / 5, hit.sum() / len(good), (hit * discount).sum() / discount[: len(good)].sum(),
                       (hit * hit.cumsum() / np.arange(1, len(best) + 1)).sum() / len(good)))
    expected = dict(zip(("precision@5", "recall@5", "ndcg@5", "map@5"), np.mean(scores, axis=0)),
                    **{"coverage@5": len(shown) / len(ids["cols"])})
    assert {key: result["test"][key] for key in expected} == pytest.approx(expected)
    assert set(expected) <= set(result["baselines"]["bias"]) and "best 5 of each row: precision" in done.stdout


def test_further_ratings_are_taken_in(run, sampled, tmp_path):
    folder, data, *_ = sampled
    (tmp_path / "c.yaml").write_text((folder / "c.yaml").read_text())
    for solver in ("gibbs", "bayes"):
        place = tmp_path / solver
        run("complete", tmp_path / "c.yaml", "--run", place, "--set", f"completion.solver={solver}")
        before = {p.name: p.read_bytes() for p in place.iterdir() if p.is_file() and p.name != ".lock"}
        likes = [r for r in data if r[0] == "u3"]
        write(tmp_path / "more.csv", [("twin", *r[1:]) for r in likes] + [("u3", "novel", 5.0, 100),
            (*data[0][:2], 1.5, 9 * DAY)])
        done = run("complete", "--run", place, "--update", tmp_path / "more.csv")
        assert (f"took in {len(likes) + 2} ratings (1 of pairs that were known), 1 new rows, 1 new columns"
                in done.stdout)
        assert {p.name: p.read_bytes() for p in place.iterdir() if p.is_file() and p.name != ".lock"} == before
        assert [p.name for p in (place / "updates").iterdir()] == ["1"]
        record = json.loads((place / "updates/1/update.json").read_text())
        assert record["replaced"] == 1 and record["all_ratings"] == len(data) + len(likes) + 1
        # The twin is predicted as the one whose ratings it has.
        write(tmp_path / "ask.csv", [(u, i) for u in ("twin", "u3") for i in dict.fromkeys(r[1] for r in data)],
              ("user", "item"))
        found = [float(r["prediction"]) for r in table(run("complete", "--run", place, "--predict",
                                                           tmp_path / "ask.csv").stdout)]
        twin, original = np.array(found[: len(found) // 2]), np.array(found[len(found) // 2 :])
        assert np.sqrt(((twin - original) ** 2).mean()) < 0.25
        top = table(run("complete", "--run", place, "--top", 40).stdout)
        assert {r["col"] for r in top if r["row"] == "twin"}.isdisjoint({r[1] for r in likes}) and ("u3",
            "novel") not in {(r["row"], r["col"]) for r in top}
        run("complete", "--run", place, "--update", tmp_path / "more.csv", "--set", "completion.update_sweeps=2")
        assert [p.name for p in (place / "updates").iterdir()] == ["2"]


def test_updates_that_cannot_be_are_refused(run, sampled, tmp_path):
    folder, data, *_ = sampled
    refused = lambda *words: run("complete", "--run", folder / "run", *words, code=1).stderr
    write(tmp_path / "more.csv", [("u1", "i1", 3.0)])
    assert "expected a time for every rating" in refused("--update", tmp_path / "more.csv")
    assert "--update changes the run" in refused("--update", tmp_path / "more.csv", "--top", 3)
    assert "how long its fit goes on" in refused("--update", tmp_path / "more.csv", "--set", "completion.rank=3")
    assert not (folder / "run/updates").exists()
    (tmp_path / "c.yaml").write_text(
        "completion: {train: %s, solver: chain, rank: 2, steps: 40, eval_every: 10, init_scale: 0.3}\n" % (
            folder / "train.csv"))
    run("complete", tmp_path / "c.yaml", "--run", tmp_path / "chain")
    if json.loads((tmp_path / "chain/result.json").read_text())["method"] == "chain":
        assert "solver: chain cannot go on" in run("complete", "--run", tmp_path / "chain", "--update",
                                                   folder / "test.csv", code=1).stderr


def test_a_killed_sampling_run_ends_with_the_same_bits(run, program, sampled, tmp_path):
    folder, *_ = sampled
    (tmp_path / "c.yaml").write_text((folder / "c.yaml").read_text())
    words = ["complete", tmp_path / "c.yaml", "--set", "completion.grid.rank=[1,2,3,4]", "--set", "completion.draws=60"]
    run(*words, "--run", tmp_path / "whole")
    process = subprocess.Popen([program, *words, "--run", tmp_path / "killed"], stdout=subprocess.DEVNULL,
                               stderr=subprocess.DEVNULL)
    while process.poll() is None and len(list((tmp_path / "killed").glob("fits/*.safetensors"))) < 2:
        time.sleep(0.001)
    process.kill()
    assert process.wait() != 0, "the run ended before it could be killed"
    done = run("complete", "--resume", "--run", tmp_path / "killed", "--set", "completion.threads=2")
    assert done.stderr.count("kept from before") >= 2
    for name in ("adapter.safetensors", "seen.safetensors", "metrics.jsonl"):
        assert (tmp_path / "killed" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes(), name


def test_ordinal_ratings(run, sampled, tmp_path):
    folder, data, *_ = sampled
    steps = [(u, i, int(np.clip(round(v), 1, 5)), t) for u, i, v, t in data]
    write(tmp_path / "r.csv", steps)
    base = ("completion: {train: %s, test_share: 0.3, solver: gibbs, likelihood: ordinal, rank: 2, burn_in: 40, draws: "
            "30}\n")
    (tmp_path / "c.yaml").write_text(base % (tmp_path / "r.csv"))
    run("complete", tmp_path / "c.yaml", "--run", tmp_path / "run")
    result = json.loads((tmp_path / "run/result.json").read_text())
    assert result["test"]["rmse"] < result["baselines"]["bias"]["rmse"]
    write(tmp_path / "new.csv", [("me", i, v) for _, i, v, _ in steps[:20]])
    top = table(run("complete", "--run", tmp_path / "run", "--fold-in", tmp_path / "new.csv", "--top", 3).stdout)
    assert len(top) == 3 and all(1 <= float(r["prediction"]) <= 5 for r in top)
    mistake = lambda *settings: run("complete", tmp_path / "c.yaml", "--run",
                                    tmp_path / f"no {settings[0][:9]} {len(settings)}",
                                    *(w for s in settings for w in ("--set", f"completion.{s}")), code=1).stderr
    assert "expected gaussian unless solver: gibbs" in mistake("solver=bayes")
    assert "expected 2 to 100 different ones" in mistake(f"train={folder / 'train.csv'}")
    write(tmp_path / "timeless.csv", [r[:3] for r in steps])
    assert "effects of periods need the time of every rating" in mistake(f"train={tmp_path / 'timeless.csv'}",
        "periods.rows=86400")


def test_a_single_sampled_candidate_needs_no_dev_ratings(run, sampled, tmp_path):
    folder, *_ = sampled
    (tmp_path / "c.yaml").write_text((folder / "c.yaml").read_text())
    run("complete", tmp_path / "c.yaml", "--run", tmp_path / "alone", "--set", "completion.dev_share=0")
    alone, usual = (json.loads((place / "result.json").read_text()) for place in (tmp_path / "alone", folder / "run"))
    # What the usual run refits on train and dev together is the same chain.
    assert alone["test"] == usual["test"] and alone["ratings"]["dev"] == 0 and "rmse" not in alone["best"]
    assert "<svg" in (tmp_path / "alone/report.html").read_text("utf-8")
    for settings in (["solver=bayes"], ["grid.rank=[1,2]"]):
        done = run("complete", tmp_path / "c.yaml", "--run", tmp_path / "no", "--set", "completion.dev_share=0",
                   *(w for s in settings for w in ("--set", f"completion.{s}")), code=1)
        assert "completion.dev_share: expected a share above 0" in done.stderr
