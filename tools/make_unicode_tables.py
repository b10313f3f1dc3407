#!/usr/bin/env python3
"""Writes src/text/unicode_tables.cpp: the character classes that the `tokenizers` library uses.

The library's crates follow different Unicode versions (its punctuation and accents are those of Unicode 8, its lower case
is the newest), so no Unicode library agrees with it on every code point. Each class is therefore asked of the library itself,
code point by code point. Canonical decompositions and simple lower case come from libutf8proc; exceptions are listed here.

    python tools/make_unicode_tables.py          # about a minute; then clang-format is not needed
"""
import ctypes
import ctypes.util
import pathlib
import unicodedata

import tokenizers
from tokenizers import AddedToken, Regex, Tokenizer, models, normalizers, pre_tokenizers

CODES = [c for c in range(0x110000) if not 0xD800 <= c < 0xE000]
OUTPUT = pathlib.Path(__file__).resolve().parent.parent / "src/text/unicode_tables.cpp"


def bert(**on):
    off = dict(clean_text=False, handle_chinese_chars=False, strip_accents=False, lowercase=False)
    return normalizers.BertNormalizer(**{**off, **on})


def ranges(codes):
    out = []
    for c in sorted(codes):
        if out and out[-1][1] == c - 1:
            out[-1][1] = c
        else:
            out.append([c, c])
    return out


def regex_class(pattern):
    """Code points that `pattern` matches in the library's regular expressions."""
    split = pre_tokenizers.Split(Regex(pattern), "isolated")
    found = []
    for c in CODES:
        # "-" is in none of the classes asked for, so a match stands alone between the two.
        if len(split.pre_tokenize_str("-" + chr(c) + "-")) == 3:
            found.append(c)
    return found


def punctuation_and_spaces():
    split = pre_tokenizers.BertPreTokenizer()
    punctuation, spaces = [], []
    for c in CODES:
        parts = [text for text, _ in split.pre_tokenize_str("a" + chr(c) + "a")]
        if parts == ["a", "a"]:
            spaces.append(c)
        elif len(parts) == 3:
            punctuation.append(c)
    return punctuation, spaces


def digits():
    """What the Digits pre-tokenizer splits at: a newer Unicode than that of the regular expressions."""
    split = pre_tokenizers.Digits(individual_digits=True)
    return [c for c in CODES if len(split.pre_tokenize_str("-" + chr(c) + "-")) == 3]


def word_characters():
    """What stops an added token with single_word: a neighbour that is a word character."""
    tokenizer = Tokenizer(models.WordLevel({"[UNK]": 0}, unk_token="[UNK]"))
    tokenizer.add_tokens([AddedToken("-", single_word=True, normalized=False)])
    return [c for c in CODES if 1 not in tokenizer.encode(chr(c) + "-").ids]


def combining_classes():
    """code -> canonical combining class, found by how the library reorders the code with a mark of every known class."""
    nfd = normalizers.NFD()
    known = {}
    for c in CODES:
        value = unicodedata.combining(chr(c))
        if value and value not in known and unicodedata.normalize("NFD", chr(c)) == chr(c):
            pair = "a" + chr(0x0345) + chr(c)  # U+0345 has the largest class
            if value == 240 or nfd.normalize_str(pair) != pair:
                known[value] = chr(c)
    order = sorted(known)
    out = {}
    for c in CODES:
        text = chr(c)
        if nfd.normalize_str(text) != text:
            continue
        # Moves before the mark of the largest class, or is that class itself: only then it has a class at all.
        last = known[240]
        behind = nfd.normalize_str("a" + last + text) != "a" + last + text
        if not behind:
            if nfd.normalize_str("a" + text + known[order[0]]) != "a" + text + known[order[0]]:
                out[c] = 240
            continue
        smaller = [v for v in order if nfd.normalize_str("a" + text + known[v]) != "a" + text + known[v]]
        larger = [v for v in order if nfd.normalize_str("a" + known[v] + text) != "a" + known[v] + text]
        between = [v for v in order if v not in smaller and v not in larger]
        assert len(between) == 1, (hex(c), between)
        out[c] = between[0]
    return out


def class_ranges(classes):
    out = []
    for c in sorted(classes):
        if out and out[-1][1] == c - 1 and out[-1][2] == classes[c]:
            out[-1][1] = c
        else:
            out.append([c, c, classes[c]])
    return out


def lowercase_exceptions():
    utf8proc = ctypes.CDLL(ctypes.util.find_library("utf8proc"))
    lower = bert(lowercase=True)
    out = {}
    for c in CODES:
        wanted = lower.normalize_str(chr(c))
        newer = unicodedata.category(chr(c)) == "Cn"  # an older libutf8proc may not know it
        if wanted != chr(utf8proc.utf8proc_tolower(c)) or (newer and wanted != chr(c)):
            out[c] = [ord(x) for x in wanted]
    assert all(len(x) <= 2 for x in out.values())
    return {c: (x + [0])[:2] for c, x in out.items()}


def check_decompositions(decomposing):
    """The library's decompositions are those of Unicode wherever it has one at all."""
    nfd = normalizers.NFD()
    for c in decomposing:
        assert nfd.normalize_str(chr(c)) == unicodedata.normalize("NFD", chr(c)), hex(c)


def lines(items):
    line = " "
    for item in items:
        text = "{" + ", ".join(hex(x) for x in item) + "},"
        if len(line) + 1 + len(text) > 110:
            yield line
            line = " "
        line += " " + text
    yield line


def table(name, kind, items, comment):
    return "\n".join([f"/// {comment}", f"std::span<const {kind}> {name}() {{",
                      f"  static constexpr {kind} kTable[] = {{", *("  " + x for x in lines(items)), "  };",
                      "  return kTable;", "}", ""])


def main():
    clean, strip, nfd = bert(clean_text=True), bert(strip_accents=True), normalizers.NFD()
    removed = [c for c in CODES if clean.normalize_str(chr(c)) == ""]
    chinese = [c for c in CODES if bert_chinese.normalize_str(chr(c)) != chr(c)]
    # One mark hides in another's decomposition only when the whole vanishes; ask only for what stays itself in NFD.
    marks = [c for c in CODES if nfd.normalize_str(chr(c)) == chr(c) and strip.normalize_str(chr(c)) == ""]
    decomposing = [c for c in CODES if nfd.normalize_str(chr(c)) != chr(c)]
    check_decompositions(decomposing)
    punctuation, spaces = punctuation_and_spaces()
    numbers = regex_class(r"\p{N}")
    assert set(spaces) == set(regex_class(r"\s")) and set(numbers) <= set(digits())
    text = [
        "// Generated by tools/make_unicode_tables.py from the character classes of the tokenizers library "
        f"{tokenizers.__version__}; do not edit.",
        "// clang-format off", '#include "text/unicode_tables.h"', "", "namespace deeplora::unicode_tables {", "",
        table("spaces", "Range", ranges(spaces), "White space."),
        table("removed", "Range", ranges(removed), "What BERT's text cleaning removes: control, format and private characters."),
        table("chinese", "Range", ranges(chinese), "Characters that BERT sets apart with spaces."),
        table("marks", "Range", ranges(marks), "Accents: non-spacing marks."),
        table("punctuation", "Range", ranges(punctuation), "Punctuation that BERT splits at."),
        table("letters", "Range", ranges(regex_class(r"\p{L}")), "Regular expression class L."),
        table("numbers", "Range", ranges(numbers), "Regular expression class N."),
        table("newer_digits", "Range", ranges(set(digits()) - set(numbers)), "Digits that class N does not have yet."),
        table("words", "Range", ranges(word_characters()), "Word characters, for added tokens that must stand alone."),
        table("decomposing", "Range", ranges(decomposing), "Characters with a canonical decomposition."),
        table("combining", "CombiningRange", class_ranges(combining_classes()), "Canonical combining classes other than 0."),
        table("lowercase", "Lowercase", [[c, *x] for c, x in sorted(lowercase_exceptions().items())],
              "Lower case where it is not libutf8proc's simple mapping."),
        "}  // namespace deeplora::unicode_tables", ""]
    OUTPUT.write_text("\n".join(text), encoding="utf-8")
    print(f"{OUTPUT}: {OUTPUT.stat().st_size} bytes")


bert_chinese = bert(handle_chinese_chars=True)
if __name__ == "__main__":
    main()
