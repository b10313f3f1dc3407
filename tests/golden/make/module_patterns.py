#!/usr/bin/env python3
"""Makes tests/golden/module_patterns.json: names of modules against patterns by Python's `re`, in the three ways in
which PEFT asks (0.21: match_target_against_key, get_pattern_key, check_target_module_exists): module_patterns.py >
tests/golden/module_patterns.json"""
import json
import random
import re

draw = random.Random(7)
PARTS = ["model", "layers", "h", "attn", "self_attn", "q_proj", "v_proj", "c_attn", "mlp", "experts", "0", "1", "10",
         "block", "dense", "q", "output.dense"]
PATTERNS = ["q_proj", "q", "attn.q_proj", "self.attn", "layers.1", ".", r".*\.(0|1)\..*",
            r"model\.layers\.\d+\..*_proj", "(q|v)_proj", "q_proj|v_proj", r"^model.*", r".*(?!q_proj)dense",
            r"(?:.*?(?:layers|h)\.[0-9]+)\..*", "[a-z]+", r"[^.]*", r"layers\.1", "", r"\w+\.q", r"(.*\.)?c_attn$",
            "dense$", r"h\.[0]\.mlp", "output.dense", r"1?0\.mlp", r"q{1,2}", "model.*?q"]


def name() -> str:
    return ".".join(draw.choice(PARTS) for _ in range(draw.randint(1, 5)))


cases = []
for pattern in PATTERNS:
    for module in [name() for _ in range(40)]:
        cases.append([pattern, module, bool(re.fullmatch(pattern, module)),
                      bool(re.match(rf"(.*\.)?({pattern})$", module)),
                      bool(re.match(rf"(^|.*\.){pattern}($|\..*)", module))])
print(json.dumps(cases, separators=(",", ":")).replace("],[", "],\n["))
