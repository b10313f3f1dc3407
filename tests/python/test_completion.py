"""`deeplora complete` through the program. Oracles: the same iterations in a few lines of NumPy, from the factors and
the problem that the program writes; the paper's claims about the methods."""
import json
import os
import re
import resource
import signal
import subprocess
import time

import numpy as np
import pytest
from safetensors.numpy import load_file

SMALL = {"synthetic": {"rows": 24, "cols": 24, "rank": 2, "observed": 0.5}, "rank": 2, "depth": 3, "init_scale": 0.3,
         "reduction": "sum", "lr": 4e-3,
         "optimizer": "gd", "eval_every": 1000, "log_every": 1000}


@pytest.fixture
def complete(run, tmp_path):
    """complete(config, name, *arguments, code=0): (run folder, result.json or None, finished process)."""

    def call(config, name, *arguments, code=0, **options):
        file = tmp_path / f"{name}.yaml"
        file.write_text(json.dumps({"completion": config}))  # JSON is YAML
        done = run("complete", file, "--run", tmp_path / name, *arguments, code=code, **options)
        result = tmp_path / name / "result.json"
        return tmp_path / name, json.loads(result.read_text()) if result.exists() else None, done

    return call


def in_order(factors):
    return sorted(factors, key=lambda n: (n == "U", n != "V", n))  # input to output


def chain_product(factors, names):
    out = factors[names[0]]
    for name in names[1:]:
        out = factors[name] @ out
    return out


class Numpy:
    """The chain and its gradient on one problem."""

    def __init__(self, folder):
        self.factors = load_file(folder / "last.safetensors")
        self.problem = load_file(folder / "problem.safetensors")
        self.names = in_order(self.factors)

    def gamma(self, w):
        """dLoss/dW of the summed loss, and the loss."""
        p = self.problem
        if "matrices" in p:
            residual = p["matrices"] @ w.ravel() - p["values"]
            return (residual @ p["matrices"]).reshape(w.shape), residual @ residual / 2
        gamma = np.zeros_like(w)
        gamma[p["row"], p["col"]] = w[p["row"], p["col"]] - p["value"]
        return gamma, (gamma**2).sum() / 2

    def gradients(self, feedback=False):
        values = [self.factors[n] for n in self.names]
        back = [self.problem[f"feedback/{n}"] if feedback else self.factors[n] for n in self.names]
        inputs = [np.eye(values[0].shape[1])]
        for v in values:
            inputs.append(v @ inputs[-1])
        delta, loss = self.gamma(inputs[-1])
        out = {}
        for i in reversed(range(len(values))):
            out[self.names[i]] = delta @ inputs[i].T
            delta = back[i].T @ delta
        return out, loss


def run_numpy(model, update, steps, feedback=False):
    for t in range(steps):
        gradients, model.loss = model.gradients(feedback)
        for name, gradient in gradients.items():
            update(model.factors, name, gradient, t)


def updates(kind, lr, scale, decay):
    first, second = {}, {}

    def update(factors, name, gradient, t):
        step = lr * scale(name)
        gradient = gradient + decay * factors[name]
        if kind == "gd":
            change = gradient
        elif kind == "momentum":
            first[name] = change = 0.9 * first[name] + gradient if name in first else gradient
        elif kind == "adam":
            first[name] = 0.9 * first.get(name, 0) + 0.1 * gradient
            second[name] = 0.999 * second.get(name, 0) + 0.001 * gradient**2
            change = first[name] / (1 - 0.9 ** (t + 1)) / (np.sqrt(second[name] / (1 - 0.999 ** (t + 1))) + 1e-8)
        else:
            second[name] = 0.99 * second.get(name, 0) + 0.01 * gradient**2
            change = gradient / (np.sqrt(second[name]) + 1e-8)
        factors[name] = factors[name] - step * change

    return update


def compare_with_numpy(complete, config, kind="gd", steps=40, feedback=False):
    start, _, _ = complete({**config, "optimizer": kind, "steps": 0, "save_problem": True}, "start")
    end, result, _ = complete({**config, "optimizer": kind, "steps": steps}, "end")
    model = Numpy(start)
    gamma = config.get("outer_lr_ratio", 0.01)
    scale = lambda name: gamma if config.get("method") == "compressed" and name in "UV" else 1
    run_numpy(model, updates(kind, config["lr"], scale, config.get("weight_decay", 0)), steps, feedback)
    found = load_file(end / "last.safetensors")
    begun = load_file(start / "last.safetensors")
    assert set(found) == set(model.factors)
    for name in found:
        np.testing.assert_allclose(found[name], model.factors[name], rtol=1e-9, atol=1e-11, err_msg=name)
    assert max(abs(found[n] - begun[n]).max() for n in found) > 1e-3  # it did move
    assert result["loss"] == pytest.approx(model.loss, rel=1e-9)
    return model, result


@pytest.mark.parametrize("kind,lr", [("gd", 4e-3), ("momentum", 5e-4), ("adam", 1e-2), ("rmsprop", 1e-3)])
@pytest.mark.parametrize("method", ["compressed", "narrow", "full"])
def test_trajectory_of_each_optimizer(complete, kind, lr, method):
    compare_with_numpy(complete, {**SMALL, "method": method, "lr": lr}, kind)


def test_depth_two_and_five(complete):
    compare_with_numpy(complete, {**SMALL, "method": "deep", "rank": 3, "depth": 2})


def test_depth_five_on_a_wide_matrix(complete):
    compare_with_numpy(complete, {**SMALL, "method": "narrow", "depth": 5, "init_scale": 0.7, "synthetic": {"rows": 17,
        "cols": 31, "rank": 2, "observed": 0.6}})


def test_recovery_error_is_the_mean_over_unobserved_entries(complete, run):
    start, result, _ = complete({**SMALL, "method": "narrow", "steps": 0, "save_problem": True}, "start")
    model = Numpy(start)
    p = model.problem
    target, w = p["u"] @ p["v"].T, chain_product(model.factors, model.names)
    unseen = np.ones(w.shape, bool)
    unseen[p["row"], p["col"]] = False
    assert (~unseen).sum() == round(0.5 * 24 * 24)
    expected = 0.5 * ((w - target)[unseen] ** 2).mean()
    assert result["recovery_error"] == pytest.approx(expected, rel=1e-9)
    assert result["test"]["rmse"] == pytest.approx(np.sqrt(2 * expected), rel=1e-9)
    # small: the sample is everything
    assert result["test"]["mae"] == pytest.approx(abs((w - target)[unseen]).mean(), rel=1e-9)
    mean = p["value"].mean()
    assert result["baselines"]["mean"]["rmse"] == pytest.approx(np.sqrt(((target - mean)[unseen] ** 2).mean()),
                                                                rel=1e-9)
    # The biases are those that a run on the same entries as ratings takes for its baseline.
    entries = lambda where: "".join(f"{i},{j},{float(target[i, j])!r}\n" for i, j in np.argwhere(where))
    (start / "train.csv").write_text(entries(~unseen))
    (start / "test.csv").write_text(entries(unseen))
    (start / "c.yaml").write_text(
        f"completion: {{train: {start}/train.csv, test: {start}/test.csv, rank: 1, range: [-100, 100], threads: 1}}\n")
    run("complete", start / "c.yaml", "--run", start / "ratings")
    as_ratings = json.loads((start / "ratings/result.json").read_text())["baselines"]["bias"]
    assert result["baselines"]["bias"] == pytest.approx({name: as_ratings[name] for name in ("rmse", "mae")}, rel=1e-6)
    assert result["baselines"]["bias"]["rmse"] != pytest.approx(result["baselines"]["mean"]["rmse"], rel=1e-6)
    # The best rank-2 approximation of a Gaussian: two equal-sized singular values, orthogonal vectors.
    assert np.linalg.matrix_rank(target) == 2


@pytest.mark.parametrize("method", ["full", "narrow", "compressed"])
def test_sensing(complete, method):
    compare_with_numpy(complete, {**SMALL, "method": method, "synthetic": {"rows": 12, "cols": 10, "rank": 1},
                                  "rank": 1, "lr": 2e-2, "sensing": {"measurements": 60}})


def test_sensing_recovers_from_fewer_measurements_than_entries(complete):
    _, result, _ = complete({"synthetic": {"rows": 20, "cols": 20, "rank": 1}, "sensing": {"measurements": 160},
                             "rank": 1, "method": "compressed",
                             "init_scale": 1e-2, "optimizer": "gd", "steps": 5000, "tolerance": 1e-10,
                             "eval_every": 20}, "sensing")
    assert result["recovery_error"] <= 1e-10 and result["observed"] == 160


def test_feedback_alignment(complete):
    config = {**SMALL, "method": "narrow", "gradient": "feedback-alignment", "synthetic": {"rows": 15, "cols": 12,
        "rank": 2, "observed": 1}, "lr": 1e-3}
    compare_with_numpy(complete, config, feedback=True)
    compare_with_numpy(lambda c, n: complete(c, n + "4"), {**config, "depth": 4, "init_scale": 0.6}, feedback=True)


def test_weight_decay(complete):
    model, _ = compare_with_numpy(complete, {**SMALL, "method": "full", "depth": 2, "init_scale": 1.0,
                                             "weight_decay": 0.5}, steps=100)


def test_weight_decay_under_batches_lowers_the_rank(complete):
    config = {"synthetic": {"rows": 20, "cols": 20, "rank": 2, "observed": 0.8}, "method": "full", "depth": 2,
              "init_scale": 1.0, "optimizer": "gd",
              "reduction": "sum", "lr": 1e-3, "batch": 40, "steps": 6000, "eval_every": 1000, "track": True}
    ranks = {}
    for decay in (0, 1):
        folder, _, _ = complete({**config, "weight_decay": decay}, f"decay{decay}")
        rows = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
        tracked = [r["track"] for r in rows if "track" in r]
        factors = load_file(folder / "last.safetensors")
        values = np.linalg.svd(chain_product(factors, in_order(factors)), compute_uv=False)
        np.testing.assert_allclose(tracked[-1]["singular_values"][:4], values[:4], rtol=1e-9)
        assert tracked[-1]["numerical_rank"] == (values > 0.01 * values[0]).sum()
        ranks[decay] = [t["numerical_rank"] for t in tracked]
    assert ranks[0][0] == ranks[1][0] == 20  # orthogonal start
    assert ranks[1][-1] <= 3 < ranks[0][-1]


def evaluations(folder):
    rows = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    return {r["step"]: r["eval"]["recovery_error"] for r in rows if "eval" in r}


FIGURE = {"synthetic": {"rows": 40, "cols": 40, "rank": 2, "observed": 0.7}, "rank": 2, "init_scale": 1e-2,
          "optimizer": "gd", "reduction": "sum",
          "lr": 2e-2, "steps": 4000, "tolerance": 1e-10, "eval_every": 20, "log_every": 1000, "track": True,
          "variants": ["method=full", "method=compressed same_start=true outer_lr_ratio=0.01",
                       "method=compressed same_start=true outer_lr_ratio=0"]}


def test_compression_has_the_original_trajectory_where_everything_is_observed(complete):
    """Then the gradient's directions never turn (Theorem 2.1), so the two agree at every evaluation."""
    config = {**FIGURE, "synthetic": {**FIGURE["synthetic"], "observed": 1}, "variants": FIGURE["variants"][:2],
              "lr": 1e-2}
    folder, result, _ = complete(config, "same")
    full, compressed = (evaluations(folder / "runs" / name) for name
                        in sorted(p.name for p in (folder / "runs").iterdir())[::-1])
    assert result["runs"][0]["result"]["iterations"] == result["runs"][1]["result"]["iterations"] < 4000
    for step, error in full.items():
        if error > 1e-6:  # below, the eps^3 of the directions that the compressed chain leaves out shows
            assert compressed[step] == pytest.approx(error, rel=1e-2), step
    # Outside 2r directions the factors stay where they started.
    rows = [json.loads(line) for line in (folder / "runs" / "method=full" / "metrics.jsonl").read_text().splitlines()]
    last = [r["track"] for r in rows if "track" in r][-1]
    for factor in last["factors"]:
        assert factor["tail_change"] < 0.01 and factor["singular_values"][1] > 1
        assert factor["singular_values"][3:] == pytest.approx([1e-2] * 3, rel=1e-2)


def test_compressed_follows_the_original(complete):
    """The paper's first figure: original and compressed take the same course until the observed entries' own directions
    matter, which the outer factors learn at gamma x the rate; with gamma = 0 they never do."""
    folder, result, _ = complete(FIGURE, "figure")
    first = lambda name: min(step for step, error in evaluations(folder / "runs" / name).items() if error < 1e-2)
    assert abs(first("method=full") - first("method=compressed_same_start=true_outer_lr_ratio=0.01")) <= 20
    full, compressed, frozen = (r["result"] for r in result["runs"])
    assert full["recovery_error"] <= 1e-10 and compressed["recovery_error"] <= 1e-10
    # small and dense: further apart than at the paper's size
    assert full["iterations"] < compressed["iterations"] < 2.5 * full["iterations"]
    assert frozen["stopped"] == "steps" and frozen["recovery_error"] > 1e-6
    page = (folder / "report.html").read_text()
    assert "Recovery error by iteration" in page and "Change outside the invariant subspace" in page


def test_auto_recovers_and_writes_the_chain(complete):
    config = {"synthetic": {"rows": 150, "cols": 120, "rank": 4, "observed": 0.4}, "method": "compressed", "rank": 4,
              "tolerance": 1e-20, "eval_every": 1,
              "steps": 300, "save_problem": True}
    folder, result, _ = complete(config, "auto")
    assert result["recovery_error"] <= 1e-18 and result["iterations"] < 150
    model = Numpy(folder)
    np.testing.assert_allclose(chain_product(model.factors, model.names), model.problem["u"] @ model.problem["v"].T,
                               atol=1e-7)
    u = model.factors["U"]
    np.testing.assert_allclose(u.T @ u, np.eye(u.shape[1]), atol=1e-10)


def test_auto_does_not_overfit_a_wide_chain(complete):
    """Depth 2 by gradient descent overfits there (method.md's depth and width figure); growing the rank does not."""
    _, result, _ = complete({"synthetic": {"rows": 100, "cols": 100, "rank": 5, "observed": 0.4}, "method": "narrow",
                             "width": 20, "depth": 2,
                             "tolerance": 1e-12, "eval_every": 5, "steps": 2000}, "wide")
    assert result["recovery_error"] <= 1e-12


def test_auto_with_weight_decay_reaches_the_regularised_optimum(complete):
    """At an optimum of 1/2 |R|^2 + decay/2 (|B|^2 + |A|^2) the halves of the balanced chain satisfy Gamma A^T + decay B
    = 0."""
    config = {"synthetic": {"rows": 40, "cols": 30, "rank": 3, "observed": 0.6, "noise": 0.1}, "method": "deep",
              "rank": 3, "depth": 2,
              "weight_decay": 0.5, "reduction": "sum", "steps": 2000, "stall": 1e-15, "save_problem": True}
    folder, result, _ = complete(config, "ridge")
    model = Numpy(folder)
    gamma, _ = model.gamma(chain_product(model.factors, model.names))
    assert result["stopped"] == "converged"
    np.testing.assert_allclose(gamma @ model.factors["W1"].T + 0.5 * model.factors["W2"], 0, atol=1e-5)
    np.testing.assert_allclose(model.factors["W2"].T @ gamma + 0.5 * model.factors["W1"], 0, atol=1e-5)


@pytest.mark.parametrize("settings", [{"optimizer": "gd", "batch": 50}, {"optimizer": "adam", "lr": 1e-2},
                                      {"optimizer": "auto", "method": "deep", "width": 6}],
                         ids=lambda s: s["optimizer"])
def test_resume_is_bit_identical(complete, settings):
    config = {**SMALL, "method": "narrow", **settings, "eval_every": 5, "save_every": 7, "log_every": 5}
    if settings["optimizer"] == "auto":
        del config["lr"]
    whole, expected, _ = complete({**config, "steps": 30}, "whole")
    complete({**config, "steps": 14}, "parts")
    (whole.parent / "parts" / "result.json").unlink()
    parts, result, _ = complete({**config, "steps": 30}, "parts", "--resume")
    for file in ("last.safetensors", "adapter.safetensors"):
        assert (whole / file).read_bytes() == (parts / file).read_bytes()
    for key in ("recovery_error", "loss", "iterations"):
        assert result[key] == expected[key]
    clean = lambda rows: [{k: v for k, v in json.loads(r).items() if k not in ("seconds", "samples_per_second")} for r
                          in rows.splitlines()]
    steps = [r for r in clean((parts / "metrics.jsonl").read_text())]
    assert [r for r in steps if r["step"] > 14] == [r for r in clean((whole / "metrics.jsonl").read_text())
                                                    if r["step"] > 14]


def test_interrupted_run_resumes(complete, program, tmp_path):
    config = {**SMALL, "synthetic": {"rows": 200, "cols": 200, "rank": 2, "observed": 0.5}, "method": "narrow",
              "lr": 1e-4, "steps": 6000, "eval_every": 1000, "log_every": 100}
    whole, expected, _ = complete(config, "whole")
    file = tmp_path / "killed.yaml"
    file.write_text(json.dumps({"completion": config}))
    process = subprocess.Popen([program, "complete", file, "--run", tmp_path / "killed"], stderr=subprocess.PIPE,
                               stdout=subprocess.PIPE)
    for _ in range(600):
        if (tmp_path / "killed" / "metrics.jsonl").exists() and (
                tmp_path / "killed" / "metrics.jsonl").stat().st_size > 300:
            break
        time.sleep(0.01)
    process.send_signal(signal.SIGINT)
    _, said = process.communicate(timeout=60)
    if process.returncode != 0:  # else it was faster than the signal
        assert process.returncode == 130 and b"--resume" in said
        killed, result, _ = complete(config, "killed", "--resume")
        assert (killed / "last.safetensors").read_bytes() == (whole / "last.safetensors").read_bytes()


def test_large_and_sparse_without_a_dense_array(complete):
    """100,000 x 50,000: a dense float32 array would take 20 GB; the program gets 6 GB of addresses."""
    limit = lambda: resource.setrlimit(resource.RLIMIT_AS, (6 << 30, 6 << 30))
    config = {"synthetic": {"rows": 100000, "cols": 50000, "rank": 2, "observed": 8e-5, "target": "factors"},
              "method": "deep", "rank": 2,
              "optimizer": "gd", "steps": 3, "eval_every": 3, "threads": 1}
    _, result, _ = complete(config, "large", preexec_fn=limit, env={**os.environ, "OMP_NUM_THREADS": "1"})
    assert result["observed"] == 400000 and result["iterations"] == 3 and result["peak_rss_mb"] < 2000


def test_nan_stops_with_the_iteration(complete):
    _, result, done = complete({**SMALL, "method": "narrow", "lr": 1e6, "steps": 100}, "nan", code=1)
    assert result is None
    assert "error: the loss is" in done.stderr and "iteration" in done.stderr and "completion.lr" in done.stderr


def test_printed_configuration_reruns(complete, run, tmp_path):
    file = tmp_path / "a.yaml"
    file.write_text(json.dumps({"completion": {**SMALL, "steps": 3, "method": "narrow"}}))
    printed = run("complete", file, "--print-config", "--set", "completion.depth=4").stdout
    again = tmp_path / "b.yaml"
    again.write_text(printed)
    assert run("complete", again, "--print-config").stdout == printed
    assert "depth: 4" in printed


def test_resume_with_other_settings_is_refused(complete):
    config = {**SMALL, "method": "narrow", "steps": 4}
    folder, _, _ = complete(config, "run")
    (folder / "result.json").unlink()
    _, _, done = complete({**config, "lr": 1e-4, "steps": 8}, "run", "--resume", code=1)
    assert "completion.lr" in done.stderr


def test_sweep_resumes_only_what_is_left(complete):
    config = {**SMALL, "method": "narrow", "steps": 5, "sweep": {"rank": [1, 2], "synthetic": {"observed": [0.4, 0.6]}},
              "trials": 2}
    folder, result, _ = complete(config, "sweep")
    assert len(result["runs"]) == 8
    assert {(r["rank"], r["synthetic.observed"], r["trial"]) for r in result["runs"]} == {(a, b, c) for a in "12" for b
        in ("0.4", "0.6") for c in "12"}
    assert len({r["result"]["recovery_error"] for r in result["runs"]}) == 8
    kept = {p: p.stat().st_mtime_ns for p in folder.glob("runs/*/result.json")}
    gone = sorted(kept)[3]
    gone.unlink()
    (folder / "result.json").unlink()
    _, again, _ = complete(config, "sweep", "--resume")
    assert [r["result"]["recovery_error"] for r in again["runs"]] == [r["result"]["recovery_error"] for r
        in result["runs"]]
    assert all(p.stat().st_mtime_ns == t for p, t in kept.items() if p != gone)
    assert "Iterations by rank" in (folder / "report.html").read_text()


def contents(folder):
    return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file() and p.name != ".lock"}


def test_a_refused_resume_changes_nothing(complete):
    config = {**SMALL, "method": "narrow", "steps": 6, "save_problem": True}
    folder, _, _ = complete(config, "run")
    before = contents(folder)
    _, _, done = complete({**config, "depth": 4, "synthetic": {**SMALL["synthetic"], "noise": 0.5}}, "run", "--resume",
                          code=1)
    assert "completion.depth was" in done.stderr and "completion.synthetic.noise was" in done.stderr
    _, _, done = complete({**config, "trials": 2}, "run", "--resume", code=1)
    assert "begun without completion.sweep" in done.stderr
    assert contents(folder) == before
    # What may change: more steps, and the intervals.
    _, result, _ = complete({**config, "steps": 12, "eval_every": 3, "log_every": 2, "save_every": 5}, "run",
                            "--resume")
    assert result["iterations"] == 12 and sorted(evaluations(folder)) == [0, 6, 9, 12]


@pytest.mark.parametrize("kind", [{"trials": 2}, {"sweep": {"rank": [1, 2]}}, {"variants": ["rank=1", "rank=2"]}],
                         ids=lambda k: next(iter(k)))
def test_a_sweep_goes_on_as_it_was_begun(complete, kind):
    config = {**SMALL, "method": "narrow", "steps": 6, **kind}
    folder, first, _ = complete(config, "sweep")
    before = contents(folder)
    _, _, done = complete({**config, "depth": 4, "optimizer": "adam"}, "sweep", "--resume", code=1)
    assert "completion.depth was" in done.stderr and "completion.optimizer was" in done.stderr
    single = {k: v for k, v in config.items() if k not in kind}
    assert "begun with completion.sweep" in complete(single, "sweep", "--resume", code=1)[2].stderr
    assert contents(folder) == before
    _, more, _ = complete({**config, "steps": 12}, "sweep", "--resume")
    assert [r["result"]["iterations"] for r in first["runs"]] == [6, 6] and [r["result"]["iterations"] for r
        in more["runs"]] == [12, 12]
    _, whole, _ = complete({**config, "steps": 12}, "whole")
    assert [r["result"]["recovery_error"] for r in more["runs"]] == [r["result"]["recovery_error"] for r
        in whole["runs"]]


def test_trials_count_on_from_the_seed_of_each_run(complete):
    config = {**SMALL, "method": "narrow", "steps": 3, "trials": 2}
    folder, result, _ = complete({**config, "sweep": {"seed": [5, 9]}}, "sweep")
    seeds = lambda folder: {p.name: next(line for line in (p / "config.yaml").read_text().splitlines() if "seed"
                                         in line).split()[-1] for p in (folder / "runs").iterdir()}
    assert seeds(folder) == {"seed=5__trial=1": "5", "seed=5__trial=2": "6", "seed=9__trial=1": "9",
                             "seed=9__trial=2": "10"}
    assert len({r["result"]["recovery_error"] for r in result["runs"]}) == 4
    folder, _, _ = complete({**config, "variants": ["depth=2 seed=7", "depth=3"]}, "variants")
    assert sorted(seeds(folder).values()) == ["1", "2", "7", "8"]


def test_a_failed_member_is_said_by_the_exit_code(complete):
    config = {**SMALL, "method": "narrow", "steps": 60, "sweep": {"lr": [4e-3, 1e6, 5e-3]}}
    folder, result, done = complete(config, "sweep", code=1)
    assert "1 of 3 runs left the finite numbers: lr=1" in done.stderr
    assert ["failure" in r for r in result["runs"]] == [False, True, False] and "the loss is" in result["runs"][1][
        "failure"]


def test_a_full_disk_is_no_failure_of_the_numbers(complete):
    def limit():
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)  # writes fail instead
        resource.setrlimit(resource.RLIMIT_FSIZE, (4000, 4000))

    folder, result, done = complete({**SMALL, "method": "narrow", "steps": 3, "trials": 2}, "sweep", code=1,
                                    preexec_fn=limit)
    assert result is None and "left the finite numbers" not in done.stderr and "cannot write" in done.stderr
    _, result, _ = complete({**SMALL, "method": "narrow", "steps": 3, "trials": 2}, "sweep", "--resume")
    assert all("result" in r for r in result["runs"])


def test_names_of_runs_may_be_long_but_not_the_same(complete):
    long = " ".join(f"{key}={value}" for key, value in [("momentum", 0.9), ("beta1", 0.9), ("beta2", 0.999),
                                                        ("alpha", 0.99), ("eps", 1e-8), ("weight_decay", 0.0),
                                                        ("tolerance", 1e-12), ("stall", 1e-9), ("log_every", 1000),
                                                        ("keep_checkpoints", 2),
                                                        ("early_stopping", 0), ("track", "false"), ("batch", 0),
                                                        ("precision", "float64")])
    assert len(long) > 180
    config = {**SMALL, "method": "narrow", "steps": 2, "variants": [f"{long} rank=1 init_scale=0.25",
        f"{long} rank=1 init_scale=0.35"], "sweep": {"synthetic": {"noise": [0.0, 0.1]}}}
    folder, result, _ = complete(config, "long")
    names = [p.name for p in (folder / "runs").iterdir()]
    assert len(set(names)) == 4 and all(len(n) <= 200 for n in names) and all("result" in r for r in result["runs"])
    assert complete(config, "long", "--resume")[1]["runs"] == result["runs"]
    same = complete({**SMALL, "method": "narrow", "steps": 2, "variants": ["rank=1", "rank=1"]}, "same", code=1)[2]
    assert "two runs would share one folder" in same.stderr


@pytest.mark.parametrize("setting, reason", [
    ({"variants": ["rank=1 rank=2"]}, "'rank=1 rank=2' sets rank twice"),
    ({"variants": ["rank=1"], "sweep": {"rank": [1, 2]}}, "'rank=1' sets rank, which completion.sweep.rank sets too"),
    ({"variants": ["synthetic.noise=1"], "sweep": {"synthetic": {"noise": [0, 1]}}},
     "sets synthetic.noise, which completion.sweep.synthetic.noise sets too"),
    ({"sweep": {"trials": [2, 3]}}, "completion.sweep.trials: expected a key of one run"),
    ({"variants": ["trials=2"]}, "expected keys of one run, found 'trials=2'"),
    ({"variants": ["sweep.rank=[2]"]}, "expected keys of one run, found 'sweep.rank=[2]'"),
    ({"sweep": {"init_scale": ["1e-3", "0.001"]}}, "'init_scale=1e-3' and 'init_scale=0.001' are one run"),
    ({"variants": ["rank=1", "rank=1 weight_decay=0"]}, "'rank=1' and 'rank=1 weight_decay=0' are one run"),
], ids=str)
def test_nothing_of_a_sweep_is_set_over_or_run_twice(complete, setting, reason):
    done = complete({**SMALL, "method": "narrow", "steps": 2, **setting}, "sweep", code=1)[2]
    assert reason in done.stderr, done.stderr


def test_trials_of_neighbouring_seeds_may_be_the_same(complete):
    _, result, _ = complete({**SMALL, "method": "narrow", "steps": 2, "sweep": {"seed": [1, 2]}, "trials": 2}, "sweep")
    errors = [r["result"]["recovery_error"] for r in result["runs"]]
    assert len(errors) == 4 and errors[1] == errors[2] and len(set(errors)) == 3


def test_median_of_two_trials_lies_between_them(complete):
    folder, result, _ = complete({**SMALL, "method": "narrow", "steps": 4, "trials": 2}, "two")
    least, most = sorted(r["result"]["recovery_error"] for r in result["runs"])
    page = (folder / "report.html").read_text()
    row = page[page.index("Over trials"):]
    cells = [float(c) for c in re.findall(r"<td[^>]*>([0-9.e+-]+)</td>", row[: row.index("</table>")])]
    assert cells[-3:] == pytest.approx([least, (least + most) / 2, most], rel=2e-2) and most > 1.05 * least


@pytest.mark.parametrize("method", ["deep", "narrow", "full"])
@pytest.mark.parametrize("shape", [(6, 24), (24, 6)])
def test_auto_takes_chains_wider_than_the_matrix(complete, method, shape):
    config = {"synthetic": {"rows": shape[0], "cols": shape[1], "rank": 2, "observed": 0.8}, "method": method,
              "tolerance": 1e-16, "eval_every": 1, "steps": 400,
              "save_problem": True, "save_every": 3}
    folder, result, _ = complete(config, "wide")  # the default rank, 8
    model = Numpy(folder)
    assert result["recovery_error"] <= 1e-12 and model.factors[model.names[0]].shape[0] == {"deep": 8, "narrow": 16,
        "full": 6}[method]
    np.testing.assert_allclose(chain_product(model.factors, model.names), model.problem["u"] @ model.problem["v"].T,
                               atol=1e-5)
    decayed = {**config, "synthetic": {**config["synthetic"], "observed": 1}, "reduction": "sum", "weight_decay": 0.7,
               "steps": 2000, "stall": 1e-15, "tolerance": 0}
    folder, _, _ = complete(decayed, "decayed")
    model = Numpy(folder)
    u, s, vt = np.linalg.svd(model.problem["u"] @ model.problem["v"].T, full_matrices=False)
    np.testing.assert_allclose(chain_product(model.factors, model.names), u * np.maximum(s - 0.7, 0) @ vt, atol=1e-6)


def test_a_compression_wider_than_the_matrix_is_refused_before_anything_is_written(complete):
    folder, _, done = complete({"synthetic": {"rows": 12, "cols": 30}, "method": "compressed", "rank": 7,
                                "sweep": {"depth": [2, 3]}}, "wide", code=1)
    assert "completion.rank" in done.stderr and "at most 6" in done.stderr and not folder.exists()
