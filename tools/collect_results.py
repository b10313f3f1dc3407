#!/usr/bin/env python3
"""Puts what `deeplora compare` printed into a folder of Markdown pages, one for each comparison.

  tools/collect_results.py docs/results CONFIG=RUN[=OPTIONS]...

OPTIONS are those that the command was given beyond the ones in CONFIG's '# Run:' line, e.g. "--set
compare.seeds=[1,2,3]".

Every number comes from RUN/report.md and every plot from RUN/figures; a comparison that is not finished says so there.
The page and the folder of its plots have the name of RUN.
"""
from __future__ import annotations

import argparse
import re
import shutil
import sys
from pathlib import Path

PLOTS = ("test-*.svg", "difference-to-*.svg")  # what decides; curves and spectra stay with the run


def command_of(config: Path) -> str:
    found = re.search(r"^# Run: (.+)$", config.read_text("utf-8"), re.M)
    if not found:
        sys.exit(f"error: {config} has no line '# Run: ...'")
    return found.group(1)


def plots_of(run: Path, folder: Path) -> list[str]:
    """Copies the plots of the scores to `folder`; their lines in Markdown."""
    chosen = [path for pattern in PLOTS for path in sorted((run / "figures").glob(pattern))]
    if chosen:
        folder.mkdir(exist_ok=True)
    for path in chosen:
        shutil.copyfile(path, folder / path.name)
    return [f"![{path.stem.replace('-', ' ')}]({folder.name}/{path.name})" for path in chosen]


def write_page(folder: Path, config: Path, run: Path, options: str) -> None:
    report = run / "report.md"
    if not report.exists():
        sys.exit(f"error: {report} does not exist; run: {command_of(config)}")
    heading, rest = report.read_text("utf-8").split("\n## Configuration\n")[0].split("\n", 1)
    command = f"{command_of(config)} {options}".strip()
    plots = plots_of(run, folder / run.name)
    parts = [heading, f"```\n{command}\n```", *plots, rest.strip()]
    (folder / f"{run.name}.md").write_text("\n\n".join(parts) + "\n", "utf-8")


def main() -> None:
    parser = argparse.ArgumentParser(description="Writes a Markdown page for each of several comparisons.")
    parser.add_argument("folder", type=Path, help="folder of the pages")
    parser.add_argument("comparisons", nargs="+", metavar="CONFIG=RUN[=OPTIONS]",
                        help="configuration, folder and further options of a comparison")
    options = parser.parse_args()
    comparisons = [(*item.split("=", 2), "")[:3] for item in options.comparisons]
    if any(len(item) < 3 or not item[1] for item in comparisons):
        parser.error("expected CONFIG=RUN")
    options.folder.mkdir(parents=True, exist_ok=True)
    for config, run, extra in comparisons:
        write_page(options.folder, Path(config), Path(run), extra)


if __name__ == "__main__":
    main()
