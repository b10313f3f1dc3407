"""Oracle: csv.writer and pandas.to_csv. Tables drawn at random and written by them are read cell by cell as they were;
what cannot be told from the content alone is refused by the key that tells it, and read with that key."""

import csv
import io
import json
import os
import random
import subprocess
import sys
import tempfile
import unittest
from pathlib import Path

try:
    import pandas
except ImportError as missing:
    print(f"skipped: {missing}")
    sys.exit(77)

HELPER = os.environ["DEEPLORA_BASE_HELPER"]
DRAWS = 300
WORDS = ["good", "Bad", "it's", "5\" nail", "\"so\"", "a,b", "x; y", "p|q", "one\ttwo", "line\nbreak", "cr\r\nlf",
         "lone\rcr", "  padded ", "", "1.0", "\"", "\"\"",
         "end\"", "=SUM(A1)", "#1", "null", "[1]", "{a}", "naïve", "café", "Größe", "£5"]
WIDE = ["日本", "🙂 ok", "“quoted”", "€", "é"]
NARROW = {"latin-1", "cp1252"}
PYTHON = {"latin-1": "latin-1", "cp1252": "cp1252", "utf-8": "utf-8", "utf-8-sig": "utf-8-sig", "utf-16": "utf-16",
          "utf-16-le": "utf-16-le",
          "utf-16-be": "utf-16-be"}


class Draw:
    """One table and how it is written."""

    def __init__(self, seed):
        r = self.random = random.Random(seed)
        self.seed = seed
        self.separator = r.choice([",", ",", ";", "\t", "\t", "|"])
        self.style = r.choice(["minimal", "minimal", "all", "nonnumeric", "none"])
        self.encoding = r.choice(["utf-8", "utf-8", *PYTHON])
        self.line_end = r.choice(["\n", "\r\n", "\r\n", "\r"])
        self.header = r.random() < 0.7
        self.by_pandas = r.random() < 0.5
        self.sep_line = self.header and r.random() < 0.1
        columns = r.randint(1, 5)
        self.names = [f"{r.choice(['name', 'my col', 'Ärger', 'a-b', 'q'])}{i}" for i in range(columns)]
        if columns > 1 and self.style != "none" and r.random() < 0.2:
            self.names[-1] += self.separator + "\"odd\""
        kinds = [r.choice(["text", "text", "class", "number"]) for _ in range(columns)]
        self.rows = [[self.cell(kind, columns) for kind in kinds] for _ in range(r.randint(1, 30))]

    def cell(self, kind, columns):
        r = self.random
        if kind == "class":
            return r.choice(["pos", "neg", "neutral"])
        if kind == "number":
            return r.choice(["0", "1", "-3.5", "1e-05", "12"])
        words = WORDS + ([] if self.encoding in NARROW else WIDE)
        while True:
            text = " ".join(r.choice(words) for _ in range(r.randint(0 if columns > 1 else 1, 6)))
            if self.style == "none":  # GLUE's way: quotes as they stand, no separator, no line end
                for bad in (self.separator, "\n", "\r"):
                    text = text.replace(bad, "")
                if self.separator != "\t":
                    text = text.replace("\"", "")
            # csv.writer leaves a \n bare then, which ends a line for every reader
            elif self.line_end == "\r" and self.style == "minimal":
                text = text.replace("\n", "")
            if columns > 1 or text.strip():  # a blank line is no row
                return text

    def bytes(self):
        quoting = {"minimal": csv.QUOTE_MINIMAL, "all": csv.QUOTE_ALL, "nonnumeric": csv.QUOTE_NONNUMERIC,
                   "none": csv.QUOTE_NONE}[self.style]
        table = [self.names] * self.header + self.rows
        out = io.StringIO(newline="")
        if self.style == "none":
            out.write("".join(self.separator.join(row) + self.line_end for row in table))
        elif self.by_pandas:
            pandas.DataFrame(self.rows, columns=self.names).to_csv(out, sep=self.separator, index=False,
                header=self.header, quoting=quoting,
                                                                   lineterminator=self.line_end)
        else:
            csv.writer(out, delimiter=self.separator, quoting=quoting, lineterminator=self.line_end).writerows(table)
        text = (f"sep={self.separator}{self.line_end}" if self.sep_line else "") + out.getvalue()
        mark = "\ufeff" if self.encoding == "utf-16-be" else ""  # Python's utf-16 and utf-8-sig write their own
        return (mark + text).encode(PYTHON[self.encoding])

    def options(self, all_told):
        wanted = self.names if self.header else [str(i) for i in range(len(self.names))]
        out = [f"wanted={name}" for name in wanted]
        if self.encoding in NARROW or self.encoding == "utf-16-le":
            out.append("encoding=" + {"utf-16-le": "utf-16"}.get(self.encoding, self.encoding))
        if all_told:
            separator = "tab" if self.separator == "\t" else self.separator
            out += [f"separator={separator}", f"header={str(self.header).lower()}",
                    f"quoting={'none' if self.style == 'none' else 'double'}"]
        return out

    def cells(self, rows):
        wanted = self.names if self.header else [str(i) for i in range(len(self.names))]
        return [[row[name] for name in wanted] for row in rows]


class Tables(unittest.TestCase):
    def read(self, folder, draws, all_told):
        lines = []
        for draw in draws:
            path = Path(folder) / f"{draw.seed}.{'tsv' if draw.separator == chr(9) else 'csv'}"
            path.write_bytes(draw.bytes())
            options = [o for o in draw.options(all_told) if "\t" not in o]  # the list's own separator
            lines.append("\t".join([str(path), *options]))
        listed = Path(folder) / "list"
        listed.write_text("\n".join(lines) + "\n", "utf-8", newline="")
        done = subprocess.run([HELPER, "tables", str(listed)], capture_output=True, timeout=300)
        self.assertEqual(done.returncode, 0, done.stderr.decode())
        return [json.loads(line) for line in done.stdout.decode("utf-8").splitlines()]

    def test_tables_that_python_wrote_are_read_cell_by_cell(self):
        draws = [Draw(seed) for seed in range(DRAWS)]
        refused = []
        with tempfile.TemporaryDirectory() as folder:
            for draw, found in zip(draws, self.read(folder, draws, all_told=False), strict=True):
                if "error" in found:
                    self.assertRegex(found["error"], r"set data\.(separator|header|quoting)", draw.seed)
                    refused.append(draw)
                else:
                    self.assertEqual(draw.cells(found["rows"]), draw.rows, (draw.seed, vars(draw)))
            self.assertLess(len(refused), DRAWS // 10, [draw.seed for draw in refused])
            for draw, found in zip(draws, self.read(folder, draws, all_told=True), strict=True):
                self.assertNotIn("error", found, draw.seed)
                self.assertEqual(draw.cells(found["rows"]), draw.rows, draw.seed)

    def test_bytes_of_another_encoding_are_named_with_it(self):
        with tempfile.TemporaryDirectory() as folder:
            for encoding in ("cp1252", "utf-16-le"):
                path = Path(folder) / "a.csv"
                path.write_bytes("text,label\nplain,a\ncafé – bar,b\n".encode(encoding))
                (Path(folder) / "list").write_text(
                    f"{path}\twanted=text\n{path}\twanted=text\tencoding={encoding.removesuffix('-le')}\n")
                done = subprocess.run([HELPER, "tables", str(Path(folder) / "list")], capture_output=True, check=True)
                refused, read = [json.loads(line) for line in done.stdout.decode("utf-8").splitlines()]
                self.assertIn(f"data.encoding: {encoding.removesuffix('-le')}", refused["error"])
                self.assertIn(f"{path}:{3 if encoding == 'cp1252' else 1}: ", refused["error"])
                self.assertEqual([row["text"] for row in read["rows"]], ["plain", "café – bar"])


if __name__ == "__main__":
    unittest.main()
