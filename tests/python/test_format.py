"""The C++ sources are broken as .clang-format says; lines of C++ and Python end at 120 columns."""
from __future__ import annotations

import io
import re
import subprocess
import tokenize
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


def left_out(text):
    """Rows marked noqa; of a text of several rows the mark stands on the last and means all."""
    marked = {n for n, line in enumerate(text.splitlines(), 1) if line.endswith("# noqa: E501")}
    for token in tokenize.generate_tokens(io.StringIO(text).readline):
        if token.type == tokenize.STRING and token.end[0] in marked:
            marked |= set(range(token.start[0], token.end[0]))
    return marked


def test_no_line_of_python_is_longer_than_120_columns():
    """As `ruff check` has it (pyproject.toml), which pre-commit runs, but for tables of data and lines marked noqa."""
    data = set(re.findall(r'^"(.+\.py)" = \["E501"\]$', (ROOT / "pyproject.toml").read_text("utf-8"), re.M))
    assert data and all((ROOT / path).is_file() for path in data)
    long_lines = []
    for folder in ("tools", "tests"):
        for path in sorted((ROOT / folder).rglob("*.py")):
            if str(path.relative_to(ROOT)) in data:
                continue
            text = path.read_text(encoding="utf-8")
            rows = [n for n, line in enumerate(text.splitlines(), 1) if len(line) > 120]
            marked = left_out(text) if rows else set()
            long_lines += [f"{path.relative_to(ROOT)}:{n}" for n in rows if n not in marked]
    assert long_lines == []
