"""A second reader of configurations: PyYAML's parser under the rules of docs/configuration.md, written down once more
in a few lines.

`read(yaml, sets, keys)` gives {dotted path: value} for the typed `keys` ({"train.lr": "number", "runs.*.name":
"text"}), or raises Refused."""
from __future__ import annotations

import math
import re

import yaml

NULLS = ("", "~", "null", "Null", "NULL")
BOOLEANS = {spelled: meaning for word, meaning in {"true": True, "yes": True, "on": True, "y": True, "false": False,
                                                   "no": False, "off": False, "n": False}.items()
            for spelled in (word, word.capitalize(), word.upper())}
DECIMAL = re.compile(r"[-+]?(0|[1-9][0-9]*|(?=\.[0-9]))(\.[0-9]*)?([eE][-+]?[0-9]+)?\Z")
HEXADECIMAL = re.compile(r"[-+]?0x[0-9a-fA-F]+\Z")
DEFAULTS = {"flag": False, "whole": 0, "maybe whole": None, "number": 0.0, "text": "", "path": "", "wholes": [],
            "numbers": [], "texts": []}


class Refused(Exception):
    pass


class Text(str):
    """A scalar as written; `plain` without quotes."""
    plain = False


class Null:
    def __init__(self, word):
        self.word = word


def scalar(node):
    plain = (node.style is None and not node.tag == "tag:yaml.org,2002:str" or node.style is None
             and node.value is not None)
    if plain and node.value in NULLS:
        return Null(node.value)
    text = Text(node.value)
    text.plain = node.style is None
    return text


def lay_over(into, key, value):
    if key not in into or isinstance(into[key], Null) and isinstance(value, dict):
        into[key] = value
    elif isinstance(into[key], dict) and isinstance(value, Null):
        return
    elif isinstance(into[key], dict) and isinstance(value, dict):
        for inner, item in value.items():
            lay_over(into[key], inner, item)
    else:
        raise Refused(f"{key} is given twice")


def tree(node, above=()):
    if node in above:
        raise Refused("holds itself")
    if isinstance(node, yaml.ScalarNode):
        return scalar(node)
    if isinstance(node, yaml.SequenceNode):
        return [tree(item, above + (node,)) for item in node.value]
    out, spelled = {}, set()
    for key, item in node.value:
        key = tree(key)
        if not isinstance(key, Text) or key in spelled or key.plain and key == "<<":
            raise Refused(f"key {key}")
        spelled.add(key)
        value = tree(item, above + (node,))
        parts = key.split(".") if key.plain else [str(key)]
        if "" in parts and len(parts) > 1:
            raise Refused(f"key {key}")
        for part in parts[:0:-1]:
            value = {part: value}
        lay_over(out, parts[0], value)
    return out


def parse(text):
    try:
        nodes = list(yaml.compose_all(text, Loader=yaml.SafeLoader))
    except yaml.YAMLError as problem:
        raise Refused(str(problem)) from problem
    if len(nodes) > 1:
        raise Refused("several documents")
    return tree(nodes[0]) if nodes and nodes[0] is not None else Null("")


def parse_setting(text):
    trimmed = text.strip(" \t\r\n")
    value = parse(text)
    plain = isinstance(value, Null) or isinstance(value, Text) and value.plain
    if plain and trimmed[:1] not in tuple("&!*") and trimmed not in NULLS and "\n" not in trimmed:
        value = Text(trimmed)
        value.plain = True
    return value


def assign(root, path, value):
    node, keys = root, path.split(".")
    for at, key in enumerate(keys):
        last = at == len(keys) - 1
        if key == "":
            raise Refused("an empty key")
        if isinstance(node, list):
            if not re.fullmatch("0|[1-9][0-9]*", key) or int(key) >= len(node):
                raise Refused(f"no item {key}")
            key = int(key)
        elif not last and isinstance(node.get(key, Null("")), Null):
            node[key] = {}
        if last:
            node[key] = value
        elif not isinstance(node[key], (dict, list)):
            raise Refused(f"{key} holds a value")
        node = node[key]


def number(text):
    if re.fullmatch(r"[-+]?\.(inf|Inf|INF)", text):
        return -math.inf if text[0] == "-" else math.inf
    if text in (".nan", ".NaN", ".NAN"):
        return math.nan
    if HEXADECIMAL.match(text):
        return float(whole(text))
    if not DECIMAL.match(text):
        raise Refused(f"{text} is no number")
    value = float(text)
    if math.isinf(value) or value == 0 and re.search("[1-9]", re.split("[eE]", text)[0]):
        raise Refused(f"{text} fits no double")
    return value


def whole(text):
    if re.fullmatch("[-+]?(0|[1-9][0-9]*)", text) or HEXADECIMAL.match(text):
        value = int(text, 16 if "x" in text else 10)
        if not -2**63 <= value < 2**63:
            raise Refused(f"{text} is too large")
        return value
    value = number(text)
    if not math.isfinite(value) or value != int(value) or abs(value) > 2**53:
        raise Refused(f"{text} is not whole")
    return int(value)


def typed(value, kind):
    if kind.endswith("s") and kind in DEFAULTS:
        return [typed(item, kind[:-1]) for item in (value if isinstance(value, list) else [value])]
    if not isinstance(value, Text):
        raise Refused(f"{value} is no single value")
    if kind == "flag":
        if value not in BOOLEANS:
            raise Refused(f"{value} is no boolean")
        return BOOLEANS[value]
    if kind in ("whole", "maybe whole"):
        return whole(value)
    if kind == "number":
        return number(value)
    if kind in ("text", "path"):
        return str(value)
    words = kind.split("|")
    if value not in words and value in BOOLEANS:
        value = next((word for word in (("yes", "true") if BOOLEANS[value] else ("no", "false")) if word in words),
                     value)
    if value not in words:
        raise Refused(f"{value} is none of {words}")
    return str(value)


def is_text(kind):
    return kind in ("text", "path", "texts") or kind not in DEFAULTS


def read(text, sets, keys):
    root = parse(text)
    if isinstance(root, Null):
        root = {}
    if not isinstance(root, dict):
        raise Refused("no mapping")
    for assignment in sets:
        path, _, value = assignment.partition("=")
        assign(root, path, parse_setting(value))
    out, known, taken = {}, set(), set()

    def visit(node, path, rest, kind):
        key, _, deeper = rest.partition(".")
        here = f"{path}.{key}" if path else key
        node = node if isinstance(node, dict) else {}
        value = node.get(key, Null(""))
        if not deeper and here in root and here != key:  # a key with dots, in quotes
            if not isinstance(value, Null):
                raise Refused(f"{here} twice")
            value = root[here]
            taken.add(here)
        if not deeper:
            known.add(here)
            if isinstance(value, Null):
                if value.word in ("Null", "NULL") and is_text(kind):
                    raise Refused(f"{here}: {value.word}")
                out[here] = DEFAULTS.get(kind, kind.split("|")[0])
            else:
                out[here] = typed(value, kind)
            return
        if deeper.startswith("*."):
            if isinstance(value, Null):
                return
            if not isinstance(value, list):
                raise Refused(f"{here} is no list")
            known.add(here)
            for at, item in enumerate(value):
                if not isinstance(item, (dict, Null)):
                    raise Refused(f"{here}.{at} holds no keys")
                known.add(f"{here}.{at}")
                visit(item, f"{here}.{at}", deeper[2:], kind)
            return
        if not isinstance(value, (dict, Null)):
            raise Refused(f"{here} holds no keys")
        known.add(here)
        visit(value, here, deeper, kind)

    for path, kind in keys.items():
        visit(root, "", path, kind)

    def check_known(node, path):
        for key, item in node.items() if isinstance(node, dict) else enumerate(node):
            here = f"{path}.{key}" if path else str(key)
            if here not in known and here not in taken:
                raise Refused(f"{here} is unknown")
            if here not in out and isinstance(item, (dict, list)):
                check_known(item, here)

    check_known(root, "")
    return out
