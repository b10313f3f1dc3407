"""Learning-rate grid of adapter methods on the shipped sentiment data: what the methods' default learning rates come
from.

Run from the repository root, with the archive that tools/quickstart makes:
  .venv/bin/python tools/learning_rates.py minilm.pt runs/grid --methods dora pissa --lr 5e-4 1e-3 2e-3 --seeds 1 2
Prints, per method and rate, the dev Pearson correlation (best evaluation) of each seed and their mean. Finished runs
are not repeated.
"""

import argparse
import json
import pathlib
import statistics
import subprocess

ROOT = pathlib.Path(__file__).resolve().parent.parent
BASE = ROOT / "configs" / "sentiment_lora.yaml"


def score(program, model, folder, method, lr, seed, steps, more):
    """Dev Pearson of one run, trained unless its folder has a result; nan for a run that diverged."""
    run = folder / f"{method.replace(':', '_')}-{lr:g}-{seed}"
    if not (run / "result.json").exists():
        name, *options = method.split(":")
        sets = [f"model.path={model}", f"adapter.method={name}", f"train.lr={lr:g}", f"train.seed={seed}",
                f"train.steps={steps}",
                f"train.eval_every={max(1, steps // 3)}", "data.test=", *[f"adapter.{option}" for option in options],
                *more]
        command = [str(program), "finetune", str(BASE), "--run", str(run)]
        done = subprocess.run(command + [part for s in sets for part in ("--set", s)], cwd=ROOT, capture_output=True,
                              text=True)
        if done.returncode != 0:
            print(f"  {method} {lr:g} seed {seed}: {done.stderr.strip().splitlines()[-1]}", flush=True)
            return float("nan")
    return json.loads((run / "result.json").read_text())["best"]["pearson"]


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=pathlib.Path)
    parser.add_argument("folder", type=pathlib.Path)
    parser.add_argument("--methods", nargs="+", required=True, help="name, or name:key=value for more adapter keys")
    parser.add_argument("--lr", nargs="+", type=float, required=True)
    parser.add_argument("--seeds", nargs="+", type=int, default=[1])
    parser.add_argument("--program", type=pathlib.Path, default=ROOT / "build" / "deeplora")
    parser.add_argument("--steps", type=int, default=150)
    parser.add_argument("--set", nargs="*", default=[], dest="more")
    options = parser.parse_args()
    for method in options.methods:
        for lr in options.lr:
            scores = [score(options.program.resolve(), options.model.resolve(), options.folder.resolve(), method, lr,
                            seed, options.steps, options.more) for seed in options.seeds]
            print(f"{method:32} lr {lr:<8g} dev pearson {statistics.mean(scores):.4f}  "
                  f"({' '.join(f'{s:.4f}' for s in scores)})", flush=True)


if __name__ == "__main__":
    main()
