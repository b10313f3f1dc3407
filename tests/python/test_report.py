"""Oracle: Python's HTML and XML parsers. The pages are well-formed, hold no script and name no address to load from."""

import os
import re
import subprocess
import tempfile
import unittest
import xml.etree.ElementTree as xml
from html.parser import HTMLParser
from pathlib import Path

HELPER = os.environ["DEEPLORA_BASE_HELPER"]
VOID = {"meta", "br", "hr", "img", "input", "link"}


class Checker(HTMLParser):
    """Keeps the stack of open elements and notes what does not match."""

    def __init__(self):
        super().__init__()
        self.stack, self.mistakes, self.tags, self.attributes, self.text = [], [], set(), [], ""

    def handle_starttag(self, tag, attributes):
        self.tags.add(tag)
        self.attributes += attributes
        if tag not in VOID:
            self.stack.append(tag)

    def handle_startendtag(self, tag, attributes):
        self.tags.add(tag)
        self.attributes += attributes

    def handle_endtag(self, tag):
        if not self.stack or self.stack.pop() != tag:
            self.mistakes.append(f"</{tag}> closes nothing at {self.getpos()}")

    def handle_data(self, data):
        self.text += data


class ReportTest(unittest.TestCase):
    def pages(self):
        with tempfile.TemporaryDirectory() as folder:
            for name in ("sample-report", "hard-charts"):
                file = Path(folder) / "page.html"
                subprocess.run([HELPER, name, file], check=True)
                yield name, file.read_text("utf-8")

    def test_pages_are_balanced_and_load_nothing(self):
        for name, page in self.pages():
            with self.subTest(name):
                checker = Checker()
                checker.feed(page)
                checker.close()
                self.assertEqual(checker.mistakes, [])
                self.assertEqual(checker.stack, [])
                self.assertFalse(checker.tags & {"script", "link", "img", "iframe", "object", "a", "image", "use"})
                self.assertFalse([key for key, _ in checker.attributes if key.startswith("on") or key in ("src", "href",
                    "style")])
                self.assertNotRegex(page, r"https?:|url\(|@import")

    def test_every_drawing_is_xml_with_finite_numbers(self):
        for name, page in self.pages():
            drawings = re.findall(r"<svg.*?</svg>", page, re.DOTALL)
            self.assertGreater(len(drawings), 5)
            for drawing in drawings:
                root = xml.fromstring(drawing)
                for element in root.iter():
                    for key in ("x", "y", "x1", "x2", "y1", "y2", "cx", "cy", "width", "d", "viewBox"):
                        self.assertNotRegex(element.get(key, ""), "nan|inf", name)

    def test_nothing_is_drawn_outside_its_drawing(self):
        for name, page in self.pages():
            for drawing in re.findall(r"<svg viewBox=.*?</svg>", page, re.DOTALL):
                root = xml.fromstring(drawing)
                width, height = (float(part) for part in root.get("viewBox").split()[2:])
                points = [(c.get("cx"), c.get("cy")) for c in root.iter("circle")]
                points += [(line.get(f"x{end}"), line.get(f"y{end}")) for line in root.iter("line") for end in "12"]
                points += re.findall(r"([\d.-]+) ([\d.-]+)", " ".join(path.get("d") for path in root.iter("path")))
                points += [(rect.get("x"), rect.get("y")) for rect in root.iter("rect")]
                points += [(float(rect.get("x")) + float(rect.get("width")), float(rect.get("y"))
                            + float(rect.get("height"))) for rect in root.iter("rect")]
                self.assertGreater(len(points), 3)
                for x, y in points:
                    self.assertTrue(-0.1 <= float(x) <= width + 0.1 and -0.1 <= float(y) <= height + 0.1, (name, x, y))

    def test_texts_arrive_as_they_were(self):
        for name, page in self.pages():
            if name == "sample-report":
                checker = Checker()
                checker.feed(page)
                self.assertIn('sts <b>"few & shot"</b>', checker.text)
                self.assertIn("method: deep-lora  # <r> & depth\n", checker.text)


    def test_every_chart_is_a_file_of_its_own(self):
        with tempfile.TemporaryDirectory() as folder:
            for name in ("sample-report", "hard-charts"):
                page = Path(folder) / f"{name}.html"
                figures = Path(folder) / name
                figures.mkdir()
                subprocess.run([HELPER, name, page, figures], check=True)
                files = sorted(figures.iterdir())
                self.assertEqual(len(files), page.read_text("utf-8").count("<figure>"))
                for file in files:
                    text = file.read_text("utf-8")
                    root = xml.fromstring(text)  # with its namespace
                    self.assertEqual(root.tag, "{http://www.w3.org/2000/svg}svg")
                    self.assertNotIn("var(", text)
                    self.assertNotRegex(text, r"url\(|@import|<script|href")
                    width, height = (float(part) for part in root.get("viewBox").split()[2:])
                    self.assertGreater(width, 300)
                    self.assertGreater(height, 30)

    def test_a_page_shows_labels_rows_and_commands(self):
        for name, page in self.pages():
            if name == "sample-report":
                for words in ("Labels on test", "Surest mistakes", "Least certain rows", "Confusion on test",
                              "Calibration on test", "Predicted against true",
                              "Generated on test", "What comes next", "All numbers of result.json"):
                    self.assertIn(words, page)
                self.assertIn("<td>fear</td><td class='number'>undefined</td><td class='number'>0</td>", page)


if __name__ == "__main__":
    unittest.main()
