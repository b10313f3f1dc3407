#!/usr/bin/env python3
"""Puts what `deeplora compare` printed for several comparisons into one Markdown page.

  tools/collect_results.py docs/results.md CONFIG=RUN[=OPTIONS]...

OPTIONS are those that the command was given beyond the ones in CONFIG's '# Run:' line, e.g. "--set compare.seeds=[1,2,3]".

Every number comes from RUN/report.md; a comparison that is not finished says so there. A section of the same title is replaced where it
stands, a new one goes behind the other comparisons; every other section of the page stays as it is.
"""
from __future__ import annotations

import argparse
import re
import sys
from pathlib import Path

def command_of(config: Path) -> str:
    found = re.search(r"^# Run: (.+)$", config.read_text("utf-8"), re.M)
    if not found:
        sys.exit(f"error: {config} has no line '# Run: ...'")
    return found.group(1)


def section(config: Path, run: Path, options: str) -> str:
    report = run / "report.md"
    if not report.exists():
        sys.exit(f"error: {report} does not exist; run: {command_of(config)}")
    text = report.read_text("utf-8").split("\n## Configuration\n")[0]
    text = re.sub(r"^(#+) ", r"#\1 ", text, flags=re.M)
    heading, rest = text.split("\n", 1)
    command = f"{command_of(config)} {options}".strip()
    return f"{heading}\n\n```\n{command}\n```\n{rest.rstrip()}\n"


def put(page: list[str], new: str) -> None:
    """Replaces the section with the heading of `new`, or puts `new` behind the last comparison (the first part is the introduction)."""
    heading = new.split("\n", 1)[0]
    for i, part in enumerate(page):
        if part.split("\n", 1)[0] == heading:
            page[i] = new
            return
    comparisons = [i for i, part in enumerate(page) if "\nbuild/deeplora compare " in part]
    page.insert(comparisons[-1] + 1 if comparisons else len(page), new)


def main() -> None:
    parser = argparse.ArgumentParser(description="Puts the reports of several comparisons into one Markdown page.")
    parser.add_argument("page", type=Path, help="Markdown page, with an introduction above its first '## '")
    parser.add_argument("comparisons", nargs="+", metavar="CONFIG=RUN[=OPTIONS]", help="configuration, folder and further options of a comparison")
    options = parser.parse_args()
    comparisons = [(*item.split("=", 2), "")[:3] for item in options.comparisons]
    if any(len(item) < 3 or not item[1] for item in comparisons):
        parser.error("expected CONFIG=RUN")
    page = [part.strip("\n") + "\n" for part in re.split(r"^(?=## )", options.page.read_text("utf-8"), flags=re.M)]
    for config, run, extra in comparisons:
        put(page, section(Path(config), Path(run), extra))
    options.page.write_text("\n".join(page), "utf-8")


if __name__ == "__main__":
    main()
