"""The C++ sources are broken as .clang-format says, and their lines end at 120 columns."""
from __future__ import annotations

import subprocess
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
# Long texts of their own: a style sheet, scripts inside raw strings, tables of data.
LONG_TEXTS = {
    "src/graph/fused_operators.cpp", "src/report/chart_style.cpp", "src/report/html_page.cpp",
    "src/text/known_splitters.cpp", "src/text/tokenizer_layouts.cpp", "src/text/unicode_tables.cpp",
}


def test_the_sources_are_formatted():
    done = subprocess.run([ROOT / "tools/format", "--check"], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[:2000]


def test_no_line_of_code_is_longer_than_120_columns():
    long_lines = []
    for folder in ("src", "models", "adapters", "tools"):
        for path in sorted((ROOT / folder).rglob("*")):
            if path.suffix not in (".cpp", ".h") or str(path.relative_to(ROOT)) in LONG_TEXTS:
                continue
            lines = path.read_text(encoding="utf-8").splitlines()
            long_lines += [f"{path.relative_to(ROOT)}:{n}" for n, line in enumerate(lines, 1) if len(line) > 120]
    assert long_lines == []
