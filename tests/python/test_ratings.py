"""deeplora complete on ratings, through the program. Oracles: NumPy on the exported factors, and the words of the contract."""
from __future__ import annotations

import csv
import io
import json
import subprocess
import time

import numpy as np
import pytest
from safetensors.numpy import load_file


def ratings(seed=0, rows=60, cols=40, share=0.6):
    rng = np.random.RandomState(seed)
    truth = 3 + 0.5 * rng.randn(rows, 1) + 0.5 * rng.randn(1, cols) + rng.randn(rows, 2) @ rng.randn(2, cols)
    return [(f"user {i}", f'item,"{j}"', float(np.clip(truth[i, j] + 0.2 * rng.randn(), -3, 9))) for i in range(rows) for j in range(cols)
            if rng.rand() < share]


def write(path, rows, header=("user", "item", "rating")):
    with open(path, "w", newline="", encoding="utf-8") as file:
        out = csv.writer(file)
        if header:
            out.writerow(header)
        out.writerows(rows)
    return path


def table(text):
    return list(csv.DictReader(io.StringIO(text)))


@pytest.fixture(scope="module")
def trained(run, tmp_path_factory):
    folder = tmp_path_factory.mktemp("ratings")
    data = ratings()
    write(folder / "train.csv", data[::2] + data[1::4])
    write(folder / "test.csv", data[3::4])
    (folder / "c.yaml").write_text("completion: {train: %s, test: %s, grid: {rank: [1, 2, 4]}, threads: 1}\n" % (folder / "train.csv", folder / "test.csv"))
    done = run("complete", folder / "c.yaml", "--run", folder / "run")
    return folder, data, done


def exported(run, folder):
    out = folder / "factors"
    if not out.exists():
        run("complete", "--run", folder / "run", "--export", out)
    load = lambda name: np.load(out / f"{name}.npy")
    ids = {side: [row["id"] for row in table((out / f"{side}.csv").read_text("utf-8"))] for side in ("rows", "cols")}
    low, high = json.loads((folder / "run/result.json").read_text())["range"]
    values = load("mean")[0] + load("row_biases")[:, None] + load("col_biases")[None] + load("row_factors") @ load("col_factors").T
    return ids, values, (low, high), {"col_factors": load("col_factors"), "col_biases": load("col_biases"), "mean": load("mean")[0]}


def test_result_holds_the_baselines_on_the_same_ratings(trained):
    folder, data, done = trained
    result = json.loads((folder / "run/result.json").read_text())
    train, test = data[::2] + data[1::4], data[3::4]
    mean = np.mean([r[2] for r in train])
    values = np.array([r[2] for r in test])
    assert result["baselines"]["mean"]["rmse"] == pytest.approx(np.sqrt(((values - mean) ** 2).mean()), abs=1e-6)
    assert result["baselines"]["mean"]["mae"] == pytest.approx(np.abs(values - mean).mean(), abs=1e-6)
    assert result["test"]["rmse"] < 0.5 * result["baselines"]["bias"]["rmse"] < 0.5 * result["baselines"]["mean"]["rmse"]
    assert result["low_rank_helps"] and result["beats_bias"] and "lower the bias baseline's rmse" in done.stdout
    assert result["chosen"]["rank"] >= 2 and len(result["candidates"]) == 3
    assert {"iterations", "seconds", "seconds_per_iteration"} <= set(result)
    assert "<svg" in (folder / "run/report.html").read_text("utf-8")


def test_predictions_are_those_of_the_exported_factors(run, trained):
    folder, data, _ = trained
    test = data[3::4]
    done = run("complete", "--run", folder / "run", "--predict", folder / "test.csv")
    ids, values, (low, high), _ = exported(run, folder)
    predicted = table(done.stdout)
    assert [(r["row"], r["col"]) for r in predicted] == [r[:2] for r in test]
    expected = [np.clip(values[ids["rows"].index(u), ids["cols"].index(i)], low, high) for u, i, _ in test]
    np.testing.assert_allclose([float(r["prediction"]) for r in predicted], expected, atol=1e-9)
    halves = load_file(folder / "run/adapter.safetensors")  # the two factors of a chain, as adapters have them
    np.testing.assert_array_equal(halves["B"] @ halves["A"], np.load(folder / "factors/row_factors.npy") @ np.load(folder / "factors/col_factors.npy").T)
    errors = np.array(expected) - [r[2] for r in test]
    assert json.loads((folder / "run/result.json").read_text())["test"]["rmse"] == pytest.approx(np.sqrt((errors**2).mean()), abs=1e-9)


def test_unknown_ids_are_said_and_predicted_by_what_is_known(run, trained):
    folder, _, _ = trained
    write(folder / "pairs.csv", [("user 1", "new"), ("nobody", "new"), ("nobody", 'item,"3"')], ("user", "item"))
    done = run("complete", "--run", folder / "run", "--predict", folder / "pairs.csv", "--output", folder / "out.csv")
    assert "2 pairs of rows and 2 of columns that were not trained on" in done.stderr and "pairs.csv:2" in done.stderr
    rows = table((folder / "out.csv").read_text())
    assert [r["known"] for r in rows] == ["row", "none", "col"]
    *_, parts = exported(run, folder)
    assert float(rows[1]["prediction"]) == pytest.approx(parts["mean"])


def test_top_leaves_out_what_was_rated(run, trained):
    folder, data, _ = trained
    (folder / "who.txt").write_text("user 5\nuser 0\n")
    rows = table(run("complete", "--run", folder / "run", "--top", 3, "--rows", folder / "who.txt").stdout)
    ids, values, _, _ = exported(run, folder)
    seen = {r[:2] for r in data[::2] + data[1::4]}
    expected = []
    for user in ("user 5", "user 0"):
        order = np.argsort(-values[ids["rows"].index(user)], kind="stable")
        expected += [(user, ids["cols"][j]) for j in order if (user, ids["cols"][j]) not in seen][:3]
    assert [(r["row"], r["col"]) for r in rows] == expected
    (folder / "who.txt").write_text("user 55555\n")
    assert "not trained on: user 55555" in run("complete", "--run", folder / "run", "--top", 3, "--rows", folder / "who.txt", code=1).stderr


def test_new_rows_are_folded_in(run, trained):
    folder, data, _ = trained
    mine = [("me", i, v) for u, i, v in data if u == "user 7"]
    write(folder / "new.csv", mine)
    factors = table(run("complete", "--run", folder / "run", "--fold-in", folder / "new.csv").stdout)
    write(folder / "ask.csv", [("me", i) for _, i, _ in mine], ("user", "item"))
    predicted = table(run("complete", "--run", folder / "run", "--fold-in", folder / "new.csv", "--predict", folder / "ask.csv").stdout)
    ids, _, (low, high), parts = exported(run, folder)
    x = np.array([float(factors[0][f"factor_{k}"]) for k in range(parts["col_factors"].shape[1])])
    cols = [ids["cols"].index(i) for _, i, _ in mine]
    expected = np.clip(parts["mean"] + float(factors[0]["bias"]) + parts["col_biases"][cols] + parts["col_factors"][cols] @ x, low, high)
    np.testing.assert_allclose([float(r["prediction"]) for r in predicted], expected, atol=1e-9)
    assert np.sqrt(np.mean((expected - [r[2] for r in mine]) ** 2)) < 0.4
    top = table(run("complete", "--run", folder / "run", "--fold-in", folder / "new.csv", "--top", 2).stdout)
    assert {r["row"] for r in top} == {"me"} and not {r["col"] for r in top} & {i for _, i, _ in mine}


def test_noise_is_left_to_the_biases(run, tmp_path):
    rng = np.random.RandomState(1)
    write(tmp_path / "noise.tsv", [(f"u{i}", f"i{j}", round(3 + 0.02 * i - 0.02 * j + rng.randn(), 3)) for i in range(40) for j in range(30)])
    (tmp_path / "c.yaml").write_text("completion: {train: %s, solver: als, regularization: 0.0001, test_share: 0.2}\n" % (tmp_path / "noise.tsv"))
    done = run("complete", tmp_path / "c.yaml", "--run", tmp_path / "run")
    result = json.loads((tmp_path / "run/result.json").read_text())
    assert not result["low_rank_helps"] and not result["beats_bias"] and result["method"] == "bias"
    assert result["test"] == result["baselines"]["bias"]
    assert "low rank adds nothing over the biases" in done.stdout


def test_cross_validation_scores_every_rating_once(run, tmp_path):
    data = ratings(3)
    write(tmp_path / "r.csv", data)
    (tmp_path / "c.yaml").write_text("completion: {train: %s, folds: 3, rank: 3, sweeps: 20, implicit: both}\n" % (tmp_path / "r.csv"))
    run("complete", tmp_path / "c.yaml", "--run", tmp_path / "run")
    result = json.loads((tmp_path / "run/result.json").read_text())
    folds = result["cross_validation"]["folds"]
    assert len(folds) == 3 and sum(f["ratings"] for f in folds) == len(data)
    assert result["test"]["rmse"] == pytest.approx(np.mean([f["test"]["rmse"] for f in folds]))
    assert result["cross_validation"]["model"]["rmse"]["sd"] == pytest.approx(np.std([f["test"]["rmse"] for f in folds], ddof=1))
    assert result["test"]["rmse"] < result["baselines"]["bias"]["rmse"]


def test_deep_chain_beats_the_biases(run, tmp_path):
    data = ratings(4)
    write(tmp_path / "r.csv", data)
    (tmp_path / "c.yaml").write_text(
        "completion: {train: %s, solver: chain, depth: 3, rank: 2, optimizer: adam, init_scale: 0.1, steps: 800, eval_every: 20, test_share: 0.2}\n" % (tmp_path / "r.csv"))
    run("complete", tmp_path / "c.yaml", "--run", tmp_path / "run")
    result = json.loads((tmp_path / "run/result.json").read_text())
    assert result["method"] == "chain" and result["chosen"]["depth"] == 3
    assert result["test"]["rmse"] < 0.7 * result["baselines"]["bias"]["rmse"]


def test_a_killed_run_goes_on_with_the_next_fit(run, program, tmp_path):
    write(tmp_path / "r.csv", ratings(5))
    ranks, penalties = list(range(1, 9)), [0.01, 0.1, 1, 10, 100]
    (tmp_path / "c.yaml").write_text("completion: {train: %s, solver: als, grid: {rank: %s, regularization: %s}, folds: 4, threads: 1}\n" %
                                     (tmp_path / "r.csv", ranks, penalties))
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    run("complete", tmp_path / "c.yaml", "--run", whole)
    process = subprocess.Popen([program, "complete", tmp_path / "c.yaml", "--run", killed], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    while process.poll() is None and len(list(killed.glob("fits/*.safetensors"))) < 5:
        time.sleep(0.001)
    process.kill()
    assert process.wait() != 0, "the run ended before it could be killed"
    write(tmp_path / "other.csv", ratings(6))
    refused = run("complete", "--resume", "--run", killed, "--set", f"completion.train={tmp_path / 'other.csv'}", code=1)
    assert "training ratings was" in refused.stderr and "ratings, checksum" in refused.stderr
    assert "completion.patience was" in run("complete", "--resume", "--run", killed, "--set", "completion.patience=3", code=1).stderr
    done = run("complete", "--resume", "--run", killed)
    assert done.stderr.count("kept from before") >= 5
    for name in ("adapter.safetensors", "seen.safetensors", "metrics.jsonl"):
        assert (killed / name).read_bytes() == (whole / name).read_bytes(), name
    assert not (killed / "fits").exists()
    # Killed behind its last file, before the fits were removed.
    (killed / "fits").mkdir()
    assert "this run is finished" in run("complete", "--resume", "--run", killed).stderr
    assert not (killed / "fits").exists()
    assert "completion.patience was" in run("complete", "--resume", "--run", killed, "--set", "completion.patience=3", code=1).stderr
