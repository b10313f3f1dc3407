#!/usr/bin/env python3
"""deeplora complete beside myFM, SMURFF, Surprise and cmfrec on the same folds of a ratings file. Prints one table of
RMSE, MAE and seconds.

  .venv/bin/python tools/bench/ratings_vs_peers.py RATINGS [--folds 5] [--only-fold 0] [--peers-python PYTHON]
  [--methods NAME ...] [--json FILE]

RATINGS is user,item,rating[,time] with or without a header, or a dense table of Jester's kind (no header, 99 or blank:
missing). Every method gets the same training files and predicts the same test pairs; predictions are clipped to the
range of the training ratings for all. What has to be chosen (rank, regularization, epochs) is chosen by every method
alike: on the tenth of its training ratings that is held out, then fitted again on all of them; "default" methods take
their package's defaults. Times hold all of that, each method as a process of its own.

The peers need a Python with myfm, with smurff, or with scikit-surprise (which wants numpy < 2) and cmfrec:
--peers-python names it. Packages that are not there are said and left out. Methods with days are left out where the
ratings have no times. What samples (gibbs, myFM, SMURFF) chooses nothing: all of train is used once.
`implicit` has no model of ratings (it ranks), so it is not compared.
"""
from __future__ import annotations

import argparse
import csv
import json
import math
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]

CHAIN = {"solver": "chain", "optimizer": "adam", "lr": "1e-3", "init_scale": "0.01", "eval_every": "20",
         "steps": "3000", "grid.rank": "[5, 10]"}
OURS = {
    "deeplora bayes": {"solver": "bayes", "implicit": "none", "grid.rank": "[2, 5, 10, 20]"},
    "deeplora bayes, implicit": {"solver": "bayes", "implicit": "both", "grid.rank": "[5, 10, 20]"},
    "deeplora als": {"solver": "als", "grid.rank": "[5, 10]", "grid.regularization": "[10, 15, 20]"},
    "deeplora chain, depth 3": {**CHAIN, "grid.depth": "[3]", "grid.regularization": "[0, 1e-6, 1e-5]"},
    "deeplora chain, depth 2": {**CHAIN, "grid.depth": "[2]", "grid.regularization": "[1e-4, 2e-4, 4e-4]"},
}
GIBBS = {"solver": "gibbs", "rank": "10", "implicit": "both", "ranking.at": "0", "dev_share": "0"}
DAYS = {"periods.rows": "86400", "periods.cols": "2592000"}
OURS |= {
    "deeplora gibbs": {**GIBBS, "implicit": "none"},
    "deeplora gibbs, implicit": GIBBS,
    "deeplora gibbs, implicit, days": {**GIBBS, **DAYS},
    "deeplora gibbs, implicit, days, ordinal": {**GIBBS, **DAYS, "likelihood": "ordinal"},
    "deeplora gibbs, implicit, ordinal": {**GIBBS, "likelihood": "ordinal"},
    "deeplora bayes, implicit, days": {"solver": "bayes", "implicit": "both", "grid.rank": "[5, 10, 20]", **DAYS},
}
MYFM = [f"myFM rank {rank}, implicit{more}" for rank in (10, 20) for more in ("", ", days", ", ordinal",
    ", days, ordinal")]
PEERS = [*MYFM, "SMURFF rank 10", "SMURFF rank 20", "surprise baseline",
         "surprise SVD default", "surprise SVD", "surprise SVD++ default", "surprise SVD++",
         "cmfrec default", "cmfrec", "cmfrec, implicit"]


# ---- folds ----

def read(path: Path) -> list[tuple]:
    """(user, item, rating) or, where there are times, (user, item, rating, time)."""
    with open(path, encoding="utf-8", newline="") as file:
        rows = [row for row in csv.reader(file) if row]
    if len(rows[-1]) > 4:
        return [(str(i), str(j), float(v)) for i, row in enumerate(rows) for j, v in enumerate(row) if v.strip()
                and float(v) != 99]

    def number(text):
        try:
            return float(text)
        except ValueError:
            return None

    timed = len(rows[-1]) == 4 and number(rows[-1][3]) is not None
    return [(r[0], r[1], float(r[2]), *([float(r[3])] if timed else [])) for r in rows[number(rows[0][2]) is None :]]


def write_folds(ratings, folds: int, seed: int, folder: Path) -> None:
    import random

    order = list(range(len(ratings)))
    random.Random(seed).shuffle(order)
    for f in range(folds):
        held = set(order[f::folds])
        for name, wanted in (("train", False), ("test", True)):
            with open(folder / f"{name}{f}.csv", "w", encoding="utf-8", newline="") as file:
                out = csv.writer(file)
                out.writerow(["user", "item", "rating", "timestamp"][: len(ratings[0])])
                out.writerows(r for i, r in enumerate(ratings) if (i in held) == wanted)


# ---- the peers, in a process of their own ----

def split(ratings, seed=1):
    import random

    order = list(range(len(ratings)))
    random.Random(seed).shuffle(order)
    held = set(order[: len(order) // 10])
    return [r for i, r in enumerate(ratings) if i not in held], [r for i, r in enumerate(ratings) if i in held]


def surprise_fit(make, train):
    import pandas
    from surprise import Dataset, Reader

    values = [r[2] for r in train]
    frame = pandas.DataFrame([r[:3] for r in train], columns=["user", "item", "rating"])
    data = Dataset.load_from_df(frame, Reader(rating_scale=(min(values), max(values)))).build_full_trainset()
    model = make()
    model.fit(data)
    return lambda pairs: [model.predict(u, i).est for u, i, *_ in pairs]


def cmfrec_fit(options, train):
    import numpy
    import pandas
    from cmfrec import CMF

    frame = pandas.DataFrame([r[:3] for r in train], columns=["UserId", "ItemId", "Rating"])
    model = CMF(method="als", verbose=False, nthreads=int(os.environ.get("OMP_NUM_THREADS", "1")), **options).fit(frame)
    low, high = frame.Rating.min(), frame.Rating.max()

    def predict(pairs):
        users, items = [p[0] for p in pairs], [p[1] for p in pairs]
        out = numpy.asarray(model.predict(users, items), float)
        return numpy.clip(numpy.where(numpy.isnan(out), frame.Rating.mean(), out), low, high)

    return predict


def one_hot(index, width):
    import numpy
    from scipy import sparse

    rows = numpy.arange(len(index))
    known = numpy.asarray(index) >= 0
    return sparse.csr_matrix((numpy.ones(known.sum()), (rows[known], numpy.asarray(index)[known])),
                             shape=(len(index), width))


def myfm_fit(rank, days, ordinal, train, iterations=400):
    """SVD++ both ways as myFM's examples have it: ids and what else each has rated, in a block each; days one-hot; a
    prior for every group of features."""
    import myfm
    import numpy
    from scipy import sparse

    users, items = ({key: k for k, key in enumerate(dict.fromkeys(r[side] for r in train))} for side in (0, 1))
    day_of = lambda r: int(r[3] // 86400)
    first, last = (f(day_of(r) for r in train) for f in (min, max)) if days else (0, 0)
    row, col, value = [users[r[0]] for r in train], [items[r[1]] for r in train], numpy.array([r[2] for r in train])
    rated = sparse.csr_matrix((numpy.ones(len(train)), (row, col)), shape=(len(users), len(items)))
    scaled = lambda m: sparse.diags(1 / numpy.sqrt(numpy.maximum(numpy.asarray(m.sum(1)).ravel(), 1))) @ m
    # The last line of each block stands for an id that was not trained on.
    with_unknown = lambda m: sparse.vstack([m, sparse.csr_matrix((1, m.shape[1]))]).tocsr()
    blocks = [with_unknown(sparse.hstack([sparse.identity(len(users)), scaled(rated)])),
              with_unknown(sparse.hstack([sparse.identity(len(items)), scaled(rated.T.tocsr())]))]
    shapes = ([last - first + 1] if days else []) + [len(users), len(items), len(items), len(users)]

    def features(pairs):
        x = one_hot([min(max(day_of(r), first), last) - first for r in pairs], last - first + 1) if days else None
        index = [[users.get(r[0], len(users)) for r in pairs], [items.get(r[1], len(items)) for r in pairs]]
        return x, [myfm.RelationBlock(numpy.asarray(i), block) for i, block in zip(index, blocks)]

    levels = numpy.unique(value)
    model = (myfm.MyFMOrderedProbit if ordinal else myfm.MyFMRegressor)(rank=rank, random_seed=1)
    x, relations = features(train)
    model.fit(x, numpy.searchsorted(levels, value) if ordinal else value, X_rel=relations, n_iter=iterations,
              n_kept_samples=iterations - 50, group_shapes=shapes)

    def predict(pairs):
        x, relations = features(pairs)
        found = model.predict_proba(x, relations) @ levels if ordinal else model.predict(x, relations)
        return numpy.clip(found, value.min(), value.max())

    return predict


def smurff_fit(rank, train, burnin=100, draws=300):
    """Bayesian matrix factorization with normal priors (BPMF) and a noise that is learnt, about the mean rating."""
    import numpy
    import smurff
    from scipy import sparse

    users, items = ({key: k for k, key in enumerate(dict.fromkeys(r[side] for r in train))} for side in (0, 1))
    values = numpy.array([r[2] for r in train])
    shape = (len(users) + 1, len(items) + 1)  # the last of each stands for an id that was not trained on

    def matrix(pairs, numbers):
        return sparse.coo_matrix((numbers, ([users.get(r[0], len(users)) for r in pairs],
                                            [items.get(r[1], len(items)) for r in pairs])), shape=shape)

    def predict(pairs):
        # Pairs of two unknown ids are one entry; they are asked for once, with any value but zero.
        asked = matrix(pairs, numpy.ones(len(pairs))).tocsr().tocoo()
        session = smurff.TrainSession(priors=["normal", "normal"], num_latent=rank, burnin=burnin, nsamples=draws,
                                      num_threads=int(os.environ.get("OMP_NUM_THREADS", "1")), seed=1, verbose=0)
        session.addTrainAndTest(matrix(train, values - values.mean()), asked, smurff.AdaptiveNoise(1.0, 10.0))
        found = {tuple(one.coords): one.pred_avg for one in session.run()}
        where = zip(*(matrix(pairs, numpy.ones(len(pairs))).coords))
        out = [found[int(i), int(j)] + values.mean() for i, j in where]
        return numpy.clip(out, values.min(), values.max())

    return predict


def candidates(name: str):
    """Functions train -> predictor; one candidate: nothing to choose."""
    if name.startswith("myFM"):
        return [lambda t: myfm_fit(int(name.split()[2].rstrip(",")), "days" in name, "ordinal" in name, t)]
    if name.startswith("SMURFF"):
        return [lambda t: smurff_fit(int(name.split()[2]), t)]
    if name.startswith("surprise"):
        from surprise import SVD, BaselineOnly, SVDpp

        if name == "surprise baseline":
            return [lambda t: surprise_fit(lambda: BaselineOnly(verbose=False), t)]
        kind = SVDpp if "SVD++" in name else SVD
        if name.endswith("default"):
            return [lambda t: surprise_fit(lambda: kind(random_state=1), t)]
        grid = [dict(n_factors=k, n_epochs=e, reg_all=reg, lr_all=0.007) for k, e, reg in
                ([(10, 20, 0.05), (10, 40, 0.1), (20, 30, 0.08)] if kind is SVDpp else
                 [(k, e, reg) for k in (20, 50, 100) for e in (30, 60) for reg in (0.05, 0.08, 0.12)])]
        return [lambda t, g=g: surprise_fit(lambda: kind(random_state=1, **g), t) for g in grid]
    if name == "cmfrec default":
        return [lambda t: cmfrec_fit({}, t)]
    if name == "cmfrec":
        return [lambda t, k=k, p=p: cmfrec_fit({"k": k, "lambda_": p, "scale_lam": s}, t) for k in (5, 10, 40) for p,
                s in
                ((5.0, False), (10.0, False), (20.0, False), (0.03, True), (0.06, True), (0.1, True)) for s in [s]]
    return [lambda t, k=k, p=p: cmfrec_fit({"k": k, "lambda_": p, "add_implicit_features": True}, t) for k
            in (5, 10, 40) for p in (5.0, 10.0, 20.0)]


def rmse(predicted, pairs) -> float:
    return math.sqrt(sum((p - r[2]) ** 2 for p, r in zip(predicted, pairs)) / len(pairs))


def work(name: str, train_file: str, test_file: str) -> None:
    train, test = read(Path(train_file)), read(Path(test_file))
    choices = candidates(name)
    best = choices[0]
    if len(choices) > 1:
        inner, dev = split(train)
        best = min(choices, key=lambda c: rmse(c(inner)(dev), dev))
    predicted = list(best(train)(test))
    print(json.dumps({"rmse": rmse(predicted, test), "mae": sum(abs(p - r[2]) for p,
                                                                r in zip(predicted, test)) / len(test)}))


# ---- the comparison ----

def run_ours(program: str, settings: dict, folder: Path, fold: int, seed: int) -> dict:
    config = folder / "config.yaml"
    config.write_text("completion: {}\n", "utf-8")
    run = folder / f"run{fold}-{abs(hash(tuple(settings.items())))}"
    command = [program, "complete", str(config), "--run", str(run), "--set",
               f"completion.train={folder}/train{fold}.csv", "--set",
               f"completion.test={folder}/test{fold}.csv", "--set", f"completion.seed={seed}", "--set",
               "completion.duplicates=error"]
    for key, value in settings.items():
        command += ["--set", f"completion.{key}={value}"]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode != 0:
        sys.exit(f"error: {' '.join(command)}\n{done.stderr[-2000:]}")
    result = json.loads((run / "result.json").read_text("utf-8"))
    return {**result["test"], "baselines": result["baselines"], "chosen": result["chosen"]}


def run_peer(python: str, name: str, folder: Path, fold: int) -> dict | None:
    command = [python, __file__, "--worker", name, f"{folder}/train{fold}.csv", f"{folder}/test{fold}.csv"]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode == 0:
        return json.loads(done.stdout.strip().splitlines()[-1])
    print(f"left out: {name}: {(done.stderr.strip().splitlines() or ['no message'])[-1]}", file=sys.stderr)
    return None


def main() -> None:
    if len(sys.argv) == 5 and sys.argv[1] == "--worker":
        return work(*sys.argv[2:])
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("ratings", type=Path)
    parser.add_argument("--program", default=str(ROOT / "build/deeplora"))
    parser.add_argument("--peers-python", default=sys.executable)
    parser.add_argument("--folds", type=int, default=5)
    parser.add_argument("--only-fold", type=int, action="append")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--methods", nargs="*", default=[*OURS, *PEERS], help=f"of: {', '.join([*OURS, *PEERS])}")
    parser.add_argument("--json", type=Path)
    parser.add_argument("--set", action="append", default=[], help="key=value over the settings of deeplora's methods")
    options = parser.parse_args()
    unknown = [m for m in options.methods if m not in [*OURS, *PEERS]]
    if unknown:
        parser.error(f"unknown methods {unknown}")
    results: dict[str, list[dict]] = {}
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        ratings = read(options.ratings)
        methods = [name for name in options.methods if "days" not in name or len(ratings[0]) == 4]
        write_folds(ratings, options.folds, options.seed, folder)
        for fold in options.only_fold or range(options.folds):
            for name in methods:
                began = time.perf_counter()
                row = run_ours(options.program, {**OURS[name], **dict(pair.split("=", 1) for pair in options.set)},
                               folder, fold, options.seed) if name in OURS else run_peer(options.peers_python, name,
                                   folder, fold)
                if row is None:
                    continue
                row["seconds"] = time.perf_counter() - began
                results.setdefault(name, []).append(row)
                for baseline, errors in row.pop("baselines", {}).items():
                    kept = results.setdefault(f"{baseline} baseline", [])
                    if len(kept) < len(results[name]):
                        kept.append({**errors, "seconds": float("nan")})
                print(f"fold {fold}: {name}: rmse {row['rmse']:.4f}, {row['seconds']:.1f} s", file=sys.stderr,
                      flush=True)
    print(f"{options.ratings.name}, {len(options.only_fold or range(options.folds))} folds of {options.folds}\n\n| "
          f"method | RMSE | MAE | seconds a fold |\n|---|---|---|---|")
    for name, rows in sorted(results.items(), key=lambda item: statistics.mean(r["rmse"] for r in item[1])):
        mean = {key: statistics.mean(r[key] for r in rows) for key in ("rmse", "mae", "seconds")}
        spread = f" +- {statistics.stdev(r['rmse'] for r in rows):.4f}" if len(rows) > 1 else ""
        print(f"| {name} | {mean['rmse']:.4f}{spread} | {mean['mae']:.4f} | "
              f"{'' if math.isnan(mean['seconds']) else format(mean['seconds'], '.1f')} |")
    if options.json:
        options.json.write_text(json.dumps(results, indent=1) + "\n", "utf-8")


if __name__ == "__main__":
    main()
