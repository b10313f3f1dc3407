"""deeplora complete on ratings, through the program. Oracles: NumPy on the exported factors, and the words of the
contract."""
from __future__ import annotations

import csv
import io
import json
import os
import random
import subprocess
import time

import numpy as np
import pytest
from safetensors.numpy import load_file


def ratings(seed=0, rows=60, cols=40, share=0.6):
    rng = np.random.RandomState(seed)
    truth = 3 + 0.5 * rng.randn(rows, 1) + 0.5 * rng.randn(1, cols) + rng.randn(rows, 2) @ rng.randn(2, cols)
    return [(f"user {i}", f'item,"{j}"', float(np.clip(truth[i, j] + 0.2 * rng.randn(), -3, 9))) for i in range(rows)
            for j in range(cols)
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
    (folder / "c.yaml").write_text("completion: {train: %s, test: %s, grid: {rank: [1, 2, 4]}, threads: 1}\n" % (
        folder / "train.csv", folder / "test.csv"))
    done = run("complete", folder / "c.yaml", "--run", folder / "run")
    return folder, data, done


def exported(run, folder):
    out = folder / "factors"
    if not out.exists():
        run("complete", "--run", folder / "run", "--export", out)
    load = lambda name: np.load(out / f"{name}.npy")
    ids = {side: [row["id"] for row in table((out / f"{side}.csv").read_text("utf-8"))] for side in ("rows", "cols")}
    low, high = json.loads((folder / "run/result.json").read_text())["range"]
    values = load("mean")[0] + load("row_biases")[:, None] + load("col_biases")[None] + load("row_factors") @ load(
        "col_factors").T
    return ids, values, (low, high), {"col_factors": load("col_factors"), "col_biases": load("col_biases"),
                                      "mean": load("mean")[0]}


def test_result_holds_the_baselines_on_the_same_ratings(trained):
    folder, data, done = trained
    result = json.loads((folder / "run/result.json").read_text())
    train, test = data[::2] + data[1::4], data[3::4]
    mean = np.mean([r[2] for r in train])
    values = np.array([r[2] for r in test])
    assert result["baselines"]["mean"]["rmse"] == pytest.approx(np.sqrt(((values - mean) ** 2).mean()), abs=1e-6)
    assert result["baselines"]["mean"]["mae"] == pytest.approx(np.abs(values - mean).mean(), abs=1e-6)
    assert result["test"]["rmse"] < 0.5 * result["baselines"]["bias"]["rmse"] < 0.5 * result["baselines"]["mean"][
        "rmse"]
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
    np.testing.assert_array_equal(halves["B"] @ halves["A"],
                                  np.load(folder / "factors/row_factors.npy") @ np.load(
                                      folder / "factors/col_factors.npy").T)
    errors = np.array(expected) - [r[2] for r in test]
    assert json.loads((folder / "run/result.json").read_text())["test"]["rmse"] == pytest.approx(
        np.sqrt((errors**2).mean()), abs=1e-9)


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
    seen = {r[:2] for r in data}  # those of the test file too
    expected = []
    for user in ("user 5", "user 0"):
        order = np.argsort(-values[ids["rows"].index(user)], kind="stable")
        expected += [(user, ids["cols"][j]) for j in order if (user, ids["cols"][j]) not in seen][:3]
    assert [(r["row"], r["col"]) for r in rows] == expected
    (folder / "who.txt").write_text("user 55555\n")
    assert "not trained on: user 55555" in run("complete", "--run", folder / "run", "--top", 3, "--rows",
                                               folder / "who.txt", code=1).stderr


def test_new_rows_are_folded_in(run, trained):
    folder, data, _ = trained
    mine = [("me", i, v) for u, i, v in data if u == "user 7"]
    write(folder / "new.csv", mine)
    factors = table(run("complete", "--run", folder / "run", "--fold-in", folder / "new.csv").stdout)
    write(folder / "ask.csv", [("me", i) for _, i, _ in mine], ("user", "item"))
    predicted = table(run("complete", "--run", folder / "run", "--fold-in", folder / "new.csv", "--predict",
                          folder / "ask.csv").stdout)
    ids, _, (low, high), parts = exported(run, folder)
    x = np.array([float(factors[0][f"factor_{k}"]) for k in range(parts["col_factors"].shape[1])])
    cols = [ids["cols"].index(i) for _, i, _ in mine]
    expected = np.clip(parts["mean"] + float(factors[0]["bias"]) + parts["col_biases"][cols]
                       + parts["col_factors"][cols] @ x, low, high)
    np.testing.assert_allclose([float(r["prediction"]) for r in predicted], expected, atol=1e-9)
    assert np.sqrt(np.mean((expected - [r[2] for r in mine]) ** 2)) < 0.4
    top = table(run("complete", "--run", folder / "run", "--fold-in", folder / "new.csv", "--top", 2).stdout)
    assert {r["row"] for r in top} == {"me"} and not {r["col"] for r in top} & {i for _, i, _ in mine}


def test_noise_is_left_to_the_biases(run, tmp_path):
    rng = np.random.RandomState(1)
    write(tmp_path / "noise.tsv", [(f"u{i}", f"i{j}", round(3 + 0.02 * i - 0.02 * j + rng.randn(), 3)) for i
                                   in range(40) for j in range(30)])
    (tmp_path / "c.yaml").write_text(
        "completion: {train: %s, solver: als, regularization: 0.0001, test_share: 0.2}\n" % (tmp_path / "noise.tsv"))
    done = run("complete", tmp_path / "c.yaml", "--run", tmp_path / "run")
    result = json.loads((tmp_path / "run/result.json").read_text())
    assert not result["low_rank_helps"] and not result["beats_bias"] and result["method"] == "bias"
    assert result["test"] == result["baselines"]["bias"]
    assert "low rank adds nothing over the biases" in done.stdout


def test_cross_validation_scores_every_rating_once(run, tmp_path):
    data = ratings(3)
    write(tmp_path / "r.csv", data)
    (tmp_path / "c.yaml").write_text("completion: {train: %s, folds: 3, rank: 3, sweeps: 20, implicit: both}\n" % (
        tmp_path / "r.csv"))
    run("complete", tmp_path / "c.yaml", "--run", tmp_path / "run")
    result = json.loads((tmp_path / "run/result.json").read_text())
    folds = result["cross_validation"]["folds"]
    assert len(folds) == 3 and sum(f["ratings"] for f in folds) == len(data)
    assert result["test"]["rmse"] == pytest.approx(np.mean([f["test"]["rmse"] for f in folds]))
    assert result["cross_validation"]["model"]["rmse"]["sd"] == pytest.approx(np.std([f["test"]["rmse"] for f in folds],
        ddof=1))
    assert result["test"]["rmse"] < result["baselines"]["bias"]["rmse"]


def test_deep_chain_beats_the_biases(run, tmp_path):
    data = ratings(4)
    write(tmp_path / "r.csv", data)
    (tmp_path / "c.yaml").write_text(
        "completion: {train: %s, solver: chain, depth: 3, rank: 2, optimizer: adam, init_scale: 0.1, steps: 800, "
        "eval_every: 20, test_share: 0.2}\n" % (tmp_path / "r.csv"))
    run("complete", tmp_path / "c.yaml", "--run", tmp_path / "run")
    result = json.loads((tmp_path / "run/result.json").read_text())
    assert result["method"] == "chain" and result["chosen"]["depth"] == 3
    assert result["test"]["rmse"] < 0.7 * result["baselines"]["bias"]["rmse"]


def test_a_killed_run_goes_on_with_the_next_fit(run, program, tmp_path):
    write(tmp_path / "r.csv", ratings(5))
    ranks, penalties = list(range(1, 9)), [0.01, 0.1, 1, 10, 100]
    (tmp_path / "c.yaml").write_text(
        "completion: {train: %s, solver: als, grid: {rank: %s, regularization: %s}, folds: 4, threads: 1}\n" %
                                     (tmp_path / "r.csv", ranks, penalties))
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    run("complete", tmp_path / "c.yaml", "--run", whole)
    process = subprocess.Popen([program, "complete", tmp_path / "c.yaml", "--run", killed], stdout=subprocess.DEVNULL,
                               stderr=subprocess.DEVNULL)
    while process.poll() is None and len(list(killed.glob("fits/*.safetensors"))) < 5:
        time.sleep(0.001)
    process.kill()
    assert process.wait() != 0, "the run ended before it could be killed"
    write(tmp_path / "other.csv", ratings(6))
    refused = run("complete", "--resume", "--run", killed, "--set", f"completion.train={tmp_path / 'other.csv'}",
                  code=1)
    assert "training ratings was" in refused.stderr and "ratings, checksum" in refused.stderr
    assert "completion.patience was" in run("complete", "--resume", "--run", killed, "--set", "completion.patience=3",
                                            code=1).stderr
    done = run("complete", "--resume", "--run", killed)
    assert done.stderr.count("kept from before") >= 5
    for name in ("adapter.safetensors", "seen.safetensors", "metrics.jsonl"):
        assert (killed / name).read_bytes() == (whole / name).read_bytes(), name
    assert not (killed / "fits").exists()
    # Killed behind its last file, before the fits were removed.
    (killed / "fits").mkdir()
    assert "this run is finished" in run("complete", "--resume", "--run", killed).stderr
    assert not (killed / "fits").exists()
    assert "completion.patience was" in run("complete", "--resume", "--run", killed, "--set", "completion.patience=3",
                                            code=1).stderr


def entries_of(folder):
    """{(row, column): rating} and the ids of a finished run, from its files."""
    rows, cols = ((folder / name).read_text("utf-8").splitlines() for name in ("rows.txt", "cols.txt"))
    seen = load_file(folder / "seen.safetensors")
    row = np.repeat(np.arange(len(rows)), np.diff(seen["begin"]))
    return rows, cols, {(rows[i], cols[j]): v for i, j, v in zip(row, seen["col"], seen["value"])}


QUICK = "solver: als, rank: 1, sweeps: 1, dev_share: 0.2, threads: 1"


def read_back(run, folder, settings=""):
    (folder / "c.yaml").write_text("completion: {train: %s, %s%s}\n" % (folder / "t.csv", QUICK, settings))
    name = folder / f"run{len(list(folder.iterdir()))}"
    done = run("complete", folder / "c.yaml", "--run", name)
    return (*entries_of(name), done)


def pivoted(triplets, corner):
    """What pandas' pivot().to_csv() writes; by hand where pandas is not installed, in the same way."""
    try:
        import pandas

        frame = pandas.DataFrame(triplets, columns=["u", "i", "r"]).pivot(index="u", columns="i", values="r")
        frame.index.name = corner or None
        return frame.to_csv()
    except ImportError:
        rows, cols = sorted({t[0] for t in triplets}), sorted({t[1] for t in triplets})
        cell = {t[:2]: t[2] for t in triplets}
        out = io.StringIO()
        writer = csv.writer(out, lineterminator="\n")
        writer.writerow([corner, *cols])
        writer.writerows([u, *(float(cell[u, i]) if (u, i) in cell else "" for i in cols)] for u in rows)
        return out.getvalue()


@pytest.mark.parametrize("ids", ["numbers", "texts", "numeric rows", "numeric columns"])
@pytest.mark.parametrize("corner", ["userId", "reader", ""])
def test_pivoted_tables_are_read_back(run, tmp_path, ids, corner):
    draw = random.Random(f"{ids} {corner}")
    rows = draw.sample(range(10, 400), 40) if "rows" in ids or ids == "numbers" else [f"u {n};{n}" for n in range(40)]
    cols = draw.sample(range(10, 4000), 12) if "columns" in ids or ids == "numbers" else [f'i,"{n}"' for n in range(12)]
    triplets = [(u, i, draw.choice([1, 2, 3.5, 4, 5])) for u in rows for i in cols if draw.random() < 0.5
                or i == cols[0] or u == rows[0]]
    (tmp_path / "t.csv").write_text(pivoted(triplets, corner), "utf-8")
    if corner == "reader" and ids == "numeric rows":  # nothing says that "reader" is no item
        done = run("complete", "/dev/stdin", "--run", tmp_path / "r",
                   input="completion: {train: %s, %s}\n" % (tmp_path / "t.csv", QUICK), code=1)
        assert "set completion.row_names: yes or no" in done.stderr and not (tmp_path / "r").exists()
        settings = ", row_names: yes"
    else:
        settings = ""
    found_rows, found_cols, entries, done = read_back(run, tmp_path, settings)
    assert found_rows == [str(u) for u in sorted(rows)] and found_cols == [str(i) for i in sorted(cols)]
    assert entries == {(str(u), str(i)): v for u, i, v in triplets}
    assert ("read as a dense table of 40 rows, named by the first column, and 12 columns, named by the first line"
            in done.stderr)


@pytest.mark.parametrize("seed", range(12))
def test_written_triplets_are_read_back(run, tmp_path, seed):
    """csv.writer's dialects, ids that hold separators and quotes, ids that pandas writes as floating-point numbers."""
    draw = random.Random(seed)
    separator = draw.choice(",;\t")
    hard = lambda side, n: [f"{side}{draw.choice([';', ',', '::', '|', chr(34), ' '])}{k}" for k in range(n)]
    rows = hard("u", 8) if draw.random() < 0.5 else draw.sample(range(1000), 8)
    cols = hard("i", 6) if draw.random() < 0.5 else draw.sample(range(1000), 6)
    header = draw.choice([None, ("userId", "movieId", "rating"), ("who", "what", "how much")])
    triplets = [(u, i, draw.choice([0.5, 1.0, 2.5, 4.0])) for u in rows for i in cols if draw.random() < 0.7
                or i == cols[0] or u == rows[0]]
    as_float = header is not None and all(isinstance(u, int) for u in rows) and draw.random() < 0.5
    draw.shuffle(triplets)
    with open(tmp_path / "t.csv", "w", newline="", encoding="utf-8") as file:
        out = csv.writer(file, delimiter=separator, quoting=draw.choice([csv.QUOTE_MINIMAL, csv.QUOTE_ALL,
            csv.QUOTE_NONNUMERIC]))
        if header:
            out.writerow(header)
        out.writerows((float(u) if as_float and k % 2 else u, i, v) for k, (u, i, v) in enumerate(triplets))
    found_rows, found_cols, entries, done = read_back(run, tmp_path)
    plain = lambda text: text.removesuffix(".0")
    assert {(plain(u), i): v for (u, i), v in entries.items()} == {(str(u), str(i)): v for u, i, v in triplets}
    assert len(found_rows) == len({u for u, _, _ in triplets})
    assert ("ids that are equal numbers were taken as one" in done.stderr) == as_float


def test_triplets_with_unknown_names_are_no_table_in_silence(run, tmp_path):
    draw = random.Random(5)
    lines = [[draw.randrange(100, 140), draw.randrange(7000, 7030), draw.randrange(1, 6), draw.randrange(4),
              draw.randrange(53)] for _ in range(400)]
    write(tmp_path / "t.csv", lines, ("customer_no", "article_no", "points", "store", "week"))
    (tmp_path / "c.yaml").write_text("completion: {train: %s, %s}\n" % (tmp_path / "t.csv", QUICK))
    done = run("complete", tmp_path / "c.yaml", "--run", tmp_path / "run", code=1)
    assert "set completion.format: triplets" in done.stderr and not (tmp_path / "run").exists()
    _, cols, entries, done = read_back(run, tmp_path, ", format: triplets")
    assert "columns not used: store, week" in done.stderr
    assert entries == {(str(u), str(i)): v for u, i, v, *_ in lines}
    # Pairs with the names of the training file.
    write(tmp_path / "pairs.csv", [lines[0][:2]], ("customer_no", "article_no"))
    runs = sorted(tmp_path.glob("run*"))
    predicted = table(run("complete", "--run", runs[-1], "--predict", tmp_path / "pairs.csv").stdout)
    assert [(r["row"], r["col"], r["known"]) for r in predicted] == [(str(lines[0][0]), str(lines[0][1]), "both")]


def test_how_files_are_read_may_be_set_for_a_finished_run(run, trained):
    folder, data, _ = trained
    write(folder / "odd.csv", [data[0][:2]], ("who", "what"))
    refused = run("complete", "--run", folder / "run", "--predict", folder / "odd.csv", code=1)
    assert "set completion.header: yes or no" in refused.stderr
    told = run("complete", "--run", folder / "run", "--predict", folder / "odd.csv", "--set", "completion.header=yes")
    assert [r["row"] for r in table(told.stdout)] == [data[0][0]]
    assert "only how files are read may be set" in run("complete", "--run", folder / "run", "--top", 1, "--set",
                                                       "completion.rank=3", code=1).stderr
    assert "completion.columns.rwo" in run("complete", "--run", folder / "run", "--top", 1, "--set",
                                           "completion.columns.rwo=1", code=1).stderr


def test_titles_stand_beside_recommendations(run, trained):
    folder, data, _ = trained
    items = sorted({i for _, i, _ in data})
    write(folder / "titles.csv", [(i, f"Title, {n}", "x") for n, i in enumerate(items[1:])],
          ("movieId", "title", "genres"))
    (folder / "who.txt").write_text("user 5\n")
    done = run("complete", "--run", folder / "run", "--top", 40, "--rows", folder / "who.txt", "--titles",
               folder / "titles.csv")
    titles = {i: f"Title, {n}" for n, i in enumerate(items[1:])}
    assert all(r["title"] == titles.get(r["col"], "") for r in table(done.stdout)) and len(table(done.stdout)) > 5
    assert "1 of 40 columns have no title there" in done.stderr
    latin = folder / "latin.csv"
    latin.write_bytes(f"{items[0].replace(chr(34), '')}".encode() + b";caf\xe9\n")
    assert "completion.encoding: cp1252" in run("complete", "--run", folder / "run", "--top", 1, "--titles", latin,
                                                code=1).stderr
    assert "--titles adds titles to --top" in run("complete", "--run", folder / "run", "--export", folder / "no",
                                                  "--titles", latin, code=1).stderr


def test_top_leaves_out_what_all_parts_hold(run, tmp_path):
    data = ratings(8)
    write(tmp_path / "train.csv", data[::3]), write(tmp_path / "dev.csv", data[1::3]), write(tmp_path / "test.csv",
        data[2::3])
    (tmp_path / "c.yaml").write_text("completion: {train: %s, %s}\n" % (tmp_path / "train.csv", QUICK))
    for name, settings, parts in [("files", ["dev=%s" % (tmp_path / "dev.csv"), "test=%s" % (tmp_path / "test.csv")],
                                   data),
                                  ("shares", ["test_share=0.3"], data[::3])]:
        run("complete", tmp_path / "c.yaml", "--run", tmp_path / name,
            *(w for s in settings for w in ("--set", f"completion.{s}")))
        top = table(run("complete", "--run", tmp_path / name, "--top", 100).stdout)
        rows, cols, _ = entries_of(tmp_path / name)
        assert {(r["row"], r["col"]) for r in top} == {(u, i) for u in rows for i in cols} - {r[:2] for r
            in parts}, name


def test_shared_pairs_are_counted(run, tmp_path):
    data = ratings(9)
    write(tmp_path / "train.csv", data), write(tmp_path / "test.csv", data[:89] + [("user 1", "new", 3.0)])
    (tmp_path / "c.yaml").write_text("completion: {train: %s, test: %s, %s}\n" % (tmp_path / "train.csv",
        tmp_path / "test.csv", QUICK))
    done = run("complete", tmp_path / "c.yaml", "--run", tmp_path / "run")
    assert "completion.test: 89 of 90 ratings are of pairs that completion.train holds too" in done.stderr
    result = json.loads((tmp_path / "run/result.json").read_text())
    assert result["overlap"] == {"dev": 0, "test": 89} and any("89 of 90" in r for r in result["remarks"])


def test_the_kept_model_can_be_of_all_ratings(run, tmp_path):
    """The scores are those without refit; the model is that of a run on all files together, fitted for as many
    sweeps."""
    data = ratings(10)
    late = [("late", i, v) for _, i, v in data[:15]]
    write(tmp_path / "train.csv", data[::2]), write(tmp_path / "test.csv",
                                                    data[1::2] + late), write(tmp_path / "all.csv",
                                                        data[::2] + data[1::2] + late)
    base = "completion: {train: %s, solver: als, rank: 3, regularization: 2, threads: 1, %s}\n"
    (tmp_path / "c.yaml").write_text(base % (tmp_path / "train.csv", f"test: {tmp_path / 'test.csv'}"))
    run("complete", tmp_path / "c.yaml", "--run", tmp_path / "none")
    done = run("complete", tmp_path / "c.yaml", "--run", tmp_path / "kept", "--set", "completion.refit=all")
    none, kept = (json.loads((tmp_path / name / "result.json").read_text()) for name in ("none", "kept"))
    assert kept["test"] == none["test"] and kept["best"] == none["best"]
    assert none["ratings"]["kept_model"] == len(data[::2]) and kept["ratings"]["kept_model"] == len(data) + len(late)
    assert f"the model kept is fitted on all {len(data) + len(late)} ratings" in done.stdout
    # Without early stopping, on all: the same factors.
    (tmp_path / "all.yaml").write_text(base % (tmp_path / "all.csv", f"sweeps: {kept['best']['step']}, patience: 1000"))
    run("complete", tmp_path / "all.yaml", "--run", tmp_path / "all")
    whole = json.loads((tmp_path / "all/result.json").read_text())
    if whole["best"]["step"] == kept["best"]["step"]:
        a, b = load_file(tmp_path / "kept/adapter.safetensors"), load_file(tmp_path / "all/adapter.safetensors")
        assert entries_of(tmp_path / "kept")[0][-1] == "late"
        np.testing.assert_allclose(sorted((a["B"] @ a["A"]).ravel()), sorted((b["B"] @ b["A"]).ravel()), atol=1e-6)
    assert {r["row"] for r in table(run("complete", "--run", tmp_path / "kept", "--top", 2).stdout)} >= {"late"}
    assert "expected one of none, all" in run("complete", tmp_path / "c.yaml", "--run", tmp_path / "x", "--set",
                                              "completion.refit=some", code=1).stderr


def test_resume_with_other_files_is_refused(run, tmp_path):
    write(tmp_path / "a.csv", ratings(11)), write(tmp_path / "b.csv", ratings(12)), write(tmp_path / "test.csv",
        ratings(13)[:50])
    (tmp_path / "c.yaml").write_text("completion: {train: %s, test: %s, %s}\n" % (tmp_path / "a.csv",
        tmp_path / "test.csv", QUICK))
    folder = tmp_path / "run"
    run("complete", tmp_path / "c.yaml", "--run", folder)
    files = lambda: {p.name: p.read_bytes() for p in folder.rglob("*") if p.is_file() and p.name != ".lock"}
    before = files()
    for key in ("train", "test"):
        done = run("complete", "--resume", "--run", folder, "--set", f"completion.{key}={tmp_path / 'b.csv'}", code=1)
        assert f"{'training' if key == 'train' else 'test'} ratings was" in done.stderr
    assert 'completion.rank was "1", now "2"' in run("complete", "--resume", "--run", folder, "--set",
                                                     "completion.rank=2", code=1).stderr
    assert files() == before
    os.rename(tmp_path / "a.csv", tmp_path / "moved.csv")  # the same ratings elsewhere are the same
    run("complete", "--resume", "--run", folder, "--set", f"completion.train={tmp_path / 'moved.csv'}")
    run("complete", "--resume", "--run", folder)  # and of a finished run nothing is read where they are gone
    write(tmp_path / "a.csv", ratings(12))
    assert "training ratings was" in run("complete", "--resume", "--run", folder, code=1).stderr


def test_threads_are_those_of_the_environment(run, tmp_path):
    write(tmp_path / "r.csv", ratings(14))
    (tmp_path / "c.yaml").write_text("completion: {train: %s, rank: 1, sweeps: 1}\n" % (tmp_path / "r.csv"))
    threads = lambda name, **given: json.loads((run("complete", tmp_path / "c.yaml", "--run", tmp_path / name,
                                                    *given.get("set", []), env={
        **os.environ, "OMP_NUM_THREADS": given["omp"]}), tmp_path / name / "result.json")[1].read_text())["threads"]
    assert threads("one", omp="1") == 1
    assert threads("three", omp="3") == 3
    assert threads("set", omp="3", set=["--set", "completion.threads=2"]) == 2


def test_latin_1_is_read_by_name(run, tmp_path):
    lines = [(f"Andr\xe9 {i}", f"caf\xe9 {j}", 1 + (i * j) % 5) for i in range(8) for j in range(6)]
    (tmp_path / "t.csv").write_bytes("".join(f"{u};{i};{v}\n" for u, i, v in lines).encode("latin-1"))
    (tmp_path / "c.yaml").write_text("completion: {train: %s, %s}\n" % (tmp_path / "t.csv", QUICK))
    done = run("complete", tmp_path / "c.yaml", "--run", tmp_path / "run", code=1)
    assert "t.csv:1: not valid UTF-8" in done.stderr and "completion.encoding: cp1252" in done.stderr
    assert read_back(run, tmp_path, ", encoding: latin-1")[2] == {(u, i): v for u, i, v in lines}


def test_a_chain_wider_than_the_table_is_fitted(run, tmp_path):
    write(tmp_path / "r.csv", [(u, i, v) for u, i, v in ratings(15) if i.endswith(('0"', '1"', '2"', '3"', '4"'))
                               and len(i) == 8])
    (tmp_path / "c.yaml").write_text(
        "completion: {train: %s, solver: chain, steps: 60, eval_every: 5, test_share: 0.1}\n" % (tmp_path / "r.csv"))
    run("complete", tmp_path / "c.yaml", "--run", tmp_path / "run")
    result = json.loads((tmp_path / "run/result.json").read_text())
    assert result["cols"] == 5 and result["test"]["rmse"] <= 1.5 * result["baselines"]["bias"]["rmse"]
