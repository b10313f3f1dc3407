#!/usr/bin/env python3
"""Writes src/text/unicode_tables.cpp: the character classes that the `tokenizers` library uses.

The library's crates follow different Unicode versions (its punctuation and accents are those of Unicode 8, its lower
case is the newest), so no Unicode library agrees with it on every code point. Each class is therefore asked of the
library itself, code point by code point: character classes of its regular expressions, of its normalizers, of its
pre-tokenizers.

    python tools/make_unicode_tables.py          # two minutes; then clang-format is not needed
"""
import base64
import pathlib
import struct
import unicodedata

import tokenizers
from tokenizers import AddedToken, Regex, Tokenizer, models, normalizers, pre_tokenizers

CODES = [c for c in range(0x110000) if not 0xD800 <= c < 0xE000]
TEXT = "".join(map(chr, CODES))
OUTPUT = pathlib.Path(__file__).resolve().parent.parent / "src/text/unicode_tables.cpp"
CATEGORIES = ("Lu Ll Lt Lm Lo Mn Mc Me Nd Nl No Pc Pd Ps Pe Pi Pf Po Sm Sc Sk So Zs Zl Zp Cc Cf Co Cn").split()
# Further names that expressions may use between braces.
SETS = {"word": r"\w", "alpha": "[[:alpha:]]", "upper": "[[:upper:]]", "lower": "[[:lower:]]", "punct": "[[:punct:]]"}
SETS.update({name.lower(): r"\p{%s}" % name for name in
             "Han Hiragana Katakana Hangul Latin Greek Cyrillic Arabic Hebrew Thai Devanagari".split()})


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
    kept = pre_tokenizers.Split(Regex(f"(?:{pattern})+"), "removed", invert=True)
    return [ord(c) for part, _ in kept.pre_tokenize_str(TEXT) for c in part]


def categories():
    """code -> place in CATEGORIES, as the expressions see it."""
    return {c: i for i, name in enumerate(CATEGORIES) for c in regex_class(r"\p{%s}" % name)}


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


def scripts():
    """code -> number of its script for UnicodeScripts; 0 for what belongs to the script before it."""
    split = pre_tokenizers.UnicodeScripts()

    def together(a, b):
        return len(split.pre_tokenize_str(chr(a) + chr(b))) == 1

    known, out, last = [ord("a"), 0x4E00], {}, 1
    for c in CODES:
        if together(known[0], c) and together(known[1], c):
            out[c] = 0
            continue
        if not together(known[last - 1], c):
            last = next((i + 1 for i, other in enumerate(known) if together(other, c)), 0)
            if not last:
                known.append(c)
                last = len(known)
        out[c] = last
    return out


def joins_the_character_before():
    """Code points that stand in one grapheme with an "a" before them: a table of replacements sees them as one."""
    # A double array that knows "a" alone, and its replacement "b".
    units = [0] * 256
    units[0] = 1 << 10  # children of the root at 1
    units[1 ^ ord("a")] = (2 << 10 | ord("a") | 1 << 8)  # a leaf hangs at its own place ^ 2
    units[1 ^ ord("a") ^ 2] = 1 << 31
    table = struct.pack("<I", 1024) + struct.pack("<256I", *units) + b"b\0"
    import json
    normalizer = json.dumps({"type": "Precompiled", "precompiled_charsmap": base64.b64encode(table).decode()})
    whole = Tokenizer(models.WordLevel({"[UNK]": 0}, unk_token="[UNK]"))
    whole = Tokenizer.from_str(whole.to_str().replace('"normalizer": null', '"normalizer": ' + normalizer).replace(
        '"normalizer":null', '"normalizer":' + normalizer))
    assert whole.normalizer.normalize_str("xa") == "xb"
    return [c for c in CODES if whole.normalizer.normalize_str("a" + chr(c)) == "b"]


def combining_classes():
    """code -> canonical combining class, found by how the library reorders the code with a mark of every known
    class."""
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


def mapping(normalizer):
    """code -> what the normalizer makes of it, where that is something else; Hangul syllables left out."""
    out = {}
    for c in CODES:
        if 0xAC00 <= c < 0xD7A4:
            continue
        made = normalizer.normalize_str(chr(c))
        if made != chr(c):
            out[c] = [ord(x) for x in made]
    return out


def compositions(decompositions):
    """(first, second, whole) for everything that NFC leaves whole."""
    nfc, out = normalizers.NFC(), []
    for c, parts in decompositions.items():
        if len(parts) < 2 or nfc.normalize_str(chr(c)) != chr(c):
            continue
        first = nfc.normalize_str("".join(map(chr, parts[:-1])))
        assert len(first) == 1, hex(c)
        out.append([ord(first), parts[-1], c])
    return out


def lines(items):
    line = " "
    for item in items:
        text = "{" + ", ".join(hex(x) for x in item) + "}," if isinstance(item, list) else str(item) + ","
        if len(line) + 1 + len(text) > 110:
            yield line
            line = " "
        line += " " + text
    yield line


def table(name, kind, items, comment):
    return "\n".join([f"/// {comment}", f"std::span<const {kind}> {name}() {{",
                      f"  static constexpr {kind} kTable[] = {{", *("  " + x for x in lines(items)), "  };",
                      "  return kTable;", "}", ""])


def mapping_table(name, mappings, comment):
    """The texts one after the other, each entry with its place and length there."""
    pool, entries = [], []
    for c, made in sorted(mappings.items()):
        entries.append([c, len(pool), len(made)])
        pool += made
    return table(name, "Mapping", entries, comment) + "\n" + table(
        name + "_text", "char32_t", [hex(x) for x in pool], "What the entries of the table above point into.")


def sets_table():
    out, names = [], []
    for name, pattern in SETS.items():
        out.append(table("set_" + name, "Range", ranges(regex_class(pattern)), f"The regular expression {pattern}"))
        names.append('{"%s", set_%s()}' % (name, name))
    body = ["namespace {", *out, "}  // namespace", "", "std::span<const NamedSet> expression_sets() {",
            "  static const NamedSet kTable[] = {" + ", ".join(names) + "};", "  return kTable;", "}", ""]
    return "\n".join(body)


def main():
    clean, strip, nfd = bert(clean_text=True), bert(strip_accents=True), normalizers.NFD()
    removed = [c for c in CODES if clean.normalize_str(chr(c)) == ""]
    chinese = [c for c in CODES if bert_chinese.normalize_str(chr(c)) != chr(c)]
    # One mark hides in another's decomposition only when the whole vanishes; ask only for what stays itself in NFD.
    marks = [c for c in CODES if nfd.normalize_str(chr(c)) == chr(c) and strip.normalize_str(chr(c)) == ""]
    combining_marks = [c for c in CODES if normalizers.StripAccents().normalize_str(chr(c)) == ""]
    punctuation, spaces = punctuation_and_spaces()
    canonical, compatible = mapping(nfd), mapping(normalizers.NFKD())
    compatible = {c: made for c, made in compatible.items() if canonical.get(c) != made}
    assert set(spaces) == set(regex_class(r"\s"))
    text = [
        "// Generated by tools/make_unicode_tables.py from the character classes of the tokenizers library "
        f"{tokenizers.__version__}; do not edit.",
        "// clang-format off", '#include "text/unicode_tables.h"', "", "namespace deeplora::unicode_tables {", "",
        table("spaces", "Range", ranges(spaces), "White space."),
        table("removed", "Range", ranges(removed),
              "What BERT's text cleaning removes: control, format and private characters."),
        table("chinese", "Range", ranges(chinese), "Characters that BERT sets apart with spaces."),
        table("marks", "Range", ranges(marks), "Accents: non-spacing marks."),
        table("combining_marks", "Range", ranges(combining_marks), "What StripAccents removes."),
        table("punctuation", "Range", ranges(punctuation), "Punctuation that BERT splits at."),
        table("digits", "Range", ranges(digits()), "What the Digits pre-tokenizer splits at."),
        table("words", "Range", ranges(word_characters()),
              "Word characters, for added tokens and the Whitespace pre-tokenizer."),
        table("joins_before", "Range", ranges(joins_the_character_before()),
              "Stands in one grapheme with a letter before it."),
        table("scripts", "Script", class_ranges({c: s for c, s in scripts().items() if s}),
              "Scripts of UnicodeScripts; 0 where none is listed."),
        table("categories", "Category", class_ranges(categories()),
              "General categories of regular expressions, numbered as in category_names."),
        table("category_names", "std::string_view", [f'"{name}"' for name in CATEGORIES],
              "Names of the general categories."),
        sets_table(),
        table("combining", "CombiningRange", class_ranges(combining_classes()),
              "Canonical combining classes other than 0."),
        mapping_table("canonical", canonical, "Canonical decompositions, Hangul syllables left out."),
        mapping_table("compatibility", compatible,
                      "Compatibility decompositions where they are not the canonical ones."),
        table("compositions", "Composition", sorted(compositions(canonical)), "What NFC puts together."),
        mapping_table("lowercase", mapping(bert(lowercase=True)), "Lower case where it is something else."),
        "}  // namespace deeplora::unicode_tables", ""]
    OUTPUT.write_text("\n".join(text), encoding="utf-8")
    print(f"{OUTPUT}: {OUTPUT.stat().st_size} bytes")


bert_chinese = bert(handle_chinese_chars=True)
if __name__ == "__main__":
    main()
