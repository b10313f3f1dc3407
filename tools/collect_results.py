#!/usr/bin/env python3
"""Puts what `deeplora compare` printed for several comparisons into one Markdown page on standard output.

  tools/collect_results.py CONFIG=RUN... > docs/results.md

Every number comes from RUN/report.md; a comparison that is not finished says so there.
"""
from __future__ import annotations

import argparse
import re
import sys
from pathlib import Path

INTRO = """# Results

What the comparisons in [configs/compare](../configs/compare) print on all-MiniLM-L6-v2 (6 layers, 384 wide), exported as `tools/quickstart`
does, with the shipped STS-B captions and review sentiment data. How to read the numbers: [comparing.md](comparing.md). This page is
written by `tools/collect_results.py` from the reports; nothing in it is edited by hand.

MiniLM is not the paper's BERT-base: its weights are narrower than the 512 that the paper's rule asks for, so every linear layer of the
encoder is adapted, and absolute scores are not to be compared with the paper's. With a BERT-base archive, the same commands with another
`model.path` and `adapter.targets=all-dense` rerun the paper's own setting.
"""


def command_of(config: Path) -> str:
    found = re.search(r"^# Run: (.+)$", config.read_text("utf-8"), re.M)
    if not found:
        sys.exit(f"error: {config} has no line '# Run: ...'")
    return found.group(1)


def section(config: Path, run: Path) -> str:
    report = run / "report.md"
    if not report.exists():
        sys.exit(f"error: {report} does not exist; run: {command_of(config)}")
    text = report.read_text("utf-8").split("\n## Configuration\n")[0]
    text = re.sub(r"^(#+) ", r"#\1 ", text, flags=re.M)
    heading, rest = text.split("\n", 1)
    return f"{heading}\n\n```\n{command_of(config)}\n```\n{rest.rstrip()}\n"


def main() -> None:
    parser = argparse.ArgumentParser(description="Puts the reports of several comparisons into one Markdown page.")
    parser.add_argument("comparisons", nargs="+", metavar="CONFIG=RUN", help="configuration and folder of a comparison")
    pairs = [item.partition("=") for item in parser.parse_args().comparisons]
    if any(not run for _, _, run in pairs):
        parser.error("expected CONFIG=RUN")
    print(INTRO)
    print("\n".join(section(Path(config), Path(run)) for config, _, run in pairs), end="")


if __name__ == "__main__":
    main()
