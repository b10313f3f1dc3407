"""Matrix completion against plain JAX: cost of an iteration, time to a recovery error, growth with the observed
entries.

    python tools/bench/completion_vs_jax.py --jax-python PYTHON_WITH_JAX [--quick] [--output FILE.json]

Both programs run the same iterations on the same problem from the same factors, in float64, one after the other and in
turns, so that only ratios matter; every ratio comes with its spread over the repeats. Run it on an otherwise idle
machine. Without --jax-python only the program's own numbers are printed.
"""
from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
WORKER = Path(__file__).with_name("completion_jax.py")


class Bench:
    def __init__(self, program: Path, jax_python: str | None, work: Path):
        self.program, self.jax_python, self.work, self.count = program, jax_python, work, 0

    def complete(self, config: dict, **settings) -> tuple[dict, Path]:
        """Runs `deeplora complete`; returns result.json and the run folder."""
        self.count += 1
        run = self.work / f"run{self.count}"
        file = self.work / f"config{self.count}.yaml"
        file.write_text(json.dumps({"completion": {**config, **settings}}))  # JSON is YAML
        subprocess.run([str(self.program), "complete", str(file), "--run", str(run)], check=True,
                       stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        return json.loads((run / "result.json").read_text()), run

    def jax(self, run: Path, *arguments) -> dict:
        command = [self.jax_python, str(WORKER), str(run), *map(str, arguments)]
        return json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)


def spread(values: list[float]) -> str:
    return f"{statistics.median(values):.3g} ({min(values):.3g} to {max(values):.3g})"


def problem(size: int, observed: float, method: str, lr: float) -> dict:
    return {"synthetic": {"rows": size, "cols": size, "rank": 5, "observed": observed}, "rank": 5, "depth": 3,
            "method": method,
            "optimizer": "gd", "reduction": "mean-all", "lr": lr, "log_every": 1000000, "eval_every": 1000000}


def iteration_cost(bench: Bench, size: int, observed: float, method: str, lr: float, ours: int, theirs: int,
                   repeats: int) -> dict:
    """Seconds of one iteration of plain gradient descent: the program's, JAX's, and their ratio, pair by pair."""
    config = problem(size, observed, method, lr)
    _, start = bench.complete(config, steps=0, save_problem=True)
    mine, other = [], []
    for _ in range(repeats):
        mine.append(bench.complete(config, steps=ours)[0]["seconds_per_iteration"])
        if bench.jax_python:
            other.append(statistics.median(bench.jax(start, "--lr", lr, "--gamma", 0.01 if method == "compressed"
                                                     else 1, "--iterations", theirs, "--repeats",
                                                     3)["seconds_per_iteration"]))
    out = {"deeplora": mine, "jax": other, "ratio": [b / a for a, b in zip(mine, other)]}
    print(f"iteration, {method}, d {size}, {observed:.0%} observed: deeplora {spread([1e6 * t for t in mine])} us",
          end="")
    print(f", jax {spread([1e6 * t for t in other])} us, ratio {spread(out['ratio'])}" if other else "", flush=True)
    return out


def time_to_tolerance(bench: Bench, size: int, lr: float, repeats: int, jax_iterations: int, full_iteration: float
                      | None) -> dict:
    """Time to a recovery error of 1e-10 by `optimizer: auto`, against JAX's compressed run and its full-width run (its
    cost of an iteration times the iterations of the compressed run, which the paper and tests/python/test_completion.py
    show to be equal)."""
    config = {"synthetic": {"rows": size, "cols": size, "rank": 5, "observed": 0.2}, "rank": 5, "depth": 3,
              "method": "compressed",
              "tolerance": 1e-10, "log_every": 1000000}
    out = {"auto": [], "start": [], "jax": [], "ratio": [], "ratio_full": []}
    _, start = bench.complete(problem(size, 0.2, "compressed", lr), steps=0, save_problem=True)
    for _ in range(repeats):
        result, _ = bench.complete(config, optimizer="auto", eval_every=1, steps=1000)
        assert result["recovery_error"] <= 1e-10, result
        seconds = result["training_seconds"] + result["start_seconds"]
        out["auto"].append(seconds)
        out["start"].append(result["start_seconds"])
        out["auto_iterations"] = result["iterations"]
    gd, _ = bench.complete(config, optimizer="gd", reduction="mean-all", lr=lr, eval_every=100, steps=60000)
    out["gd"] = {"iterations": gd["iterations"], "seconds": gd["training_seconds"],
                 "recovery_error": gd["recovery_error"]}
    print(f"to 1e-10, d {size}: auto {spread(out['auto'])} s in {out['auto_iterations']} iterations (start included: "
          f"{spread(out['start'])} s); "
          f"gd {gd['training_seconds']:.3g} s in {gd['iterations']} iterations", flush=True)
    if bench.jax_python:
        theirs = bench.jax(start, "--lr", lr, "--tolerance", 1e-10, "--iterations", jax_iterations)
        per_iteration = theirs["seconds"] / theirs["iterations"]
        reached = theirs["recovery_error"] <= 1e-10
        whole = theirs["seconds"] if reached else per_iteration * gd["iterations"]
        out["jax"] = {**theirs, "seconds_to_tolerance": whole, "measured": reached}
        out["ratio"] = [whole / s for s in out["auto"]]
        print(f"  jax compressed: {whole:.3g} s "
              f"({'measured' if reached else 'cost of an iteration x iterations of gd'}), ratio "
              f"{spread(out['ratio'])}", flush=True)
        if full_iteration:
            full = full_iteration * gd["iterations"]
            out["ratio_full"] = [full / s for s in out["auto"]]
            print(f"  jax full width: {full:.4g} s (cost of an iteration x iterations of gd), ratio "
                  f"{spread(out['ratio_full'])}", flush=True)
    return out


def growth(bench: Bench, rows: int, cols: int, counts: list[int], steps: int) -> list[dict]:
    """Seconds of an iteration and peak memory by the number of observed entries."""
    out = []
    for count in counts:
        config = {"synthetic": {"rows": rows, "cols": cols, "rank": 5, "observed": count / rows / cols,
                                "target": "factors"}, "rank": 5,
                  "method": "narrow", "optimizer": "gd", "steps": steps, "eval_every": 1000000, "log_every": 1000000}
        result, _ = bench.complete(config)
        row = {"observed": result["observed"], "seconds_per_iteration": result["seconds_per_iteration"],
               "peak_rss_mb": result["peak_rss_mb"]}
        row["nanoseconds_per_entry"] = 1e9 * row["seconds_per_iteration"] / row["observed"]
        out.append(row)
        print(f"growth, {rows} x {cols}: {row['observed']} observed, {1e3 * row['seconds_per_iteration']:.4g} ms an "
              f"iteration, "
              f"{row['nanoseconds_per_entry']:.3g} ns an entry, {row['peak_rss_mb']:.0f} MB", flush=True)
    return out


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--program", type=Path, default=ROOT / "build" / "deeplora")
    parser.add_argument("--jax-python", help="a Python that has jax")
    parser.add_argument("--quick", action="store_true", help="small sizes: whether it works, not how fast")
    parser.add_argument("--output", type=Path)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as work:
        bench = Bench(arguments.program, arguments.jax_python, Path(work))
        size, repeats = (200, 2) if arguments.quick else (1000, 5)
        lr = 5e-3 * size * size * (1 if size == 1000 else 3)
        result = {"size": size}
        result["20 %"] = iteration_cost(bench, size, 0.2, "compressed", lr, 2000, 100, repeats)
        result["1 %"] = iteration_cost(bench, size, 0.01, "compressed", lr, 4000, 100, repeats)
        result["full width"] = iteration_cost(bench, size, 0.2, "full", lr, 10, 5, min(repeats, 2))
        full = statistics.median(result["full width"]["jax"]) if arguments.jax_python else None
        result["tolerance"] = time_to_tolerance(bench, size, lr, repeats, 200 if arguments.quick else 60000, full)
        shape, counts = ((20000, 5000), [50000, 100000, 200000]) if arguments.quick else ((1000000, 100000),
            [2500000, 5000000, 10000000, 20000000])
        result["growth"] = growth(bench, *shape, counts, 5)
    if arguments.output:
        arguments.output.write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
