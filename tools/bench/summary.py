#!/usr/bin/env python3
"""The benchmark of README.md: measures deeplora beside the tuned PEFT peer, writes the numbers, the table and the
figure.

  .venv/bin/python tools/bench/summary.py --smollm2 FOLDER [--output docs/benchmarks] [--draw-only]

Each line is one call of tools/bench/finetune_vs_peft.py, whose command stands in the JSON file beside what it printed.
FOLDER is SmolLM2-135M (tools/make_smollm2.py). Nothing else should run on the machine. --draw-only makes table and
figure again from the numbers that are there.
"""
from __future__ import annotations

import argparse
import html
import json
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
CASES = {  # title -> arguments
    "MiniLM, float32": ["--pairs", "3"],
    "MiniLM, bfloat16": ["--pairs", "3", "--bf16"],
    "SmolLM2-135M, float32": ["--causal", "SMOLLM2", "--steps", "12", "--pairs", "2"],
    "SmolLM2-135M, bfloat16": ["--causal", "SMOLLM2", "--steps", "12", "--pairs", "2", "--bf16"],
}
FIGURES = {"samples_per_second": "samples/s", "peak_rss_mb": "peak memory, MB",
           "seconds_to_first_step": "start to first step, s"}


def measure(arguments: list[str], smollm2: str) -> dict:
    command = ["tools/bench/finetune_vs_peft.py", "--peer", "tuned", *arguments]
    done = subprocess.run([sys.executable, *[smollm2 if part == "SMOLLM2" else part for part in command], "--json"],
                          cwd=ROOT, capture_output=True, text=True)
    if done.returncode:
        sys.exit(done.stderr or done.stdout)
    print(done.stdout[:done.stdout.index("\n{")], flush=True)
    return {"command": " ".join(command), **json.loads(done.stdout[done.stdout.index("\n{"):])}


def table(results: dict) -> str:
    lines = ["| | deeplora | PEFT, tuned | ratio |", "|---|---|---|---|"]
    for title, found in results.items():
        for key, name in FIGURES.items():
            row, less = found[key], "" if key == "samples_per_second" else " less"
            digits = 0 if row["deeplora"] >= 100 else 1
            first = f"{title}: {name}" if not less else name
            lines.append(f"| {first} | {row['deeplora']:.{digits}f} | {row['peft']:.{digits}f} "
                         f"| {row['ratio']:.2f}x{less} ({row['least']:.2f} .. {row['most']:.2f}) |")
    return "\n".join(lines) + "\n"


def figure(results: dict) -> str:
    """Bars of the ratios; a picture that needs nothing beside it and can be read without colours."""
    left, bar, gap, scale, most = 190, 16, 30, 66, 8
    width, height = left + scale * most + 90, 30 + len(results) * (3 * bar + gap) + 20
    shades = {"samples_per_second": ("#1f5f8b", "speed"), "peak_rss_mb": ("#e0a030", "memory"),
              "seconds_to_first_step": ("#8a8f98", "start")}
    out = [f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}" height="{height}" '
           'font-family="system-ui, sans-serif" font-size="12">',
           f'<rect width="{width}" height="{height}" fill="#ffffff"/>']
    for tick in range(most + 1):
        x = left + tick * scale
        out.append(f'<line x1="{x}" x2="{x}" y1="24" y2="{height - 20}" '
                   f'stroke="{"#444444" if tick == 1 else "#dddddd"}"/>'
                   f'<text x="{x}" y="{height - 6}" text-anchor="middle" fill="#444444">{tick}x</text>')
    y = 30
    for title, found in results.items():
        out.append(f'<text x="{left - 8}" y="{y + 1.5 * bar + 4}" text-anchor="end" '
                   f'fill="#111111">{html.escape(title)}</text>')
        for key, (colour, word) in shades.items():
            ratio = found[key]["ratio"]
            out.append(f'<rect x="{left}" y="{y}" width="{min(ratio, most) * scale:.0f}" height="{bar - 3}" '
                       f'fill="{colour}"/>'
                       f'<text x="{left + min(ratio, most) * scale + 4:.0f}" y="{y + bar - 5}" fill="#111111">{word} '
                       f'{ratio:.1f}x</text>')
            y += bar
        y += gap
    out.append(f'<text x="{left}" y="16" fill="#111111">times better than PEFT with fused AdamW and tcmalloc (1x: '
               f'equal)</text></svg>')
    return "\n".join(out) + "\n"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--smollm2", default="",
                        help="Hugging Face folder of SmolLM2-135M; without it only MiniLM is measured")
    parser.add_argument("--output", type=Path, default=ROOT / "docs/benchmarks")
    parser.add_argument("--draw-only", action="store_true")
    options = parser.parse_args()
    options.output.mkdir(exist_ok=True)
    numbers = options.output / "summary.json"
    if not options.draw_only:
        cases = {title: arguments for title, arguments in CASES.items() if options.smollm2 or "SMOLLM2" not
                 in arguments}
        results = {title: measure(arguments, options.smollm2) for title, arguments in cases.items()}
        numbers.write_text(json.dumps(results, indent=1) + "\n")
    results = json.loads(numbers.read_text())
    (options.output / "summary.svg").write_text(figure(results))
    print(table(results), end="")
    return 0


if __name__ == "__main__":
    sys.exit(main())
