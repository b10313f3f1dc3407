"""The program's own account of itself: the committed reference is what it prints, the manual and the completions know
every flag."""
from __future__ import annotations

import re
import subprocess

from conftest import ROOT

COMMANDS = ["inspect", "finetune", "evaluate", "compare", "predict", "export", "complete", "reference"]


def test_the_committed_reference_is_what_the_program_prints(run):
    assert (ROOT / "docs/reference.md").read_text(encoding="utf-8") == run("reference", "config").stdout, \
        "build/deeplora reference config > docs/reference.md"


def test_the_manual_and_the_completions_know_every_command_and_flag(run):
    pages = {what: run("reference", what).stdout for what in ("man", "bash", "zsh", "fish")}
    for command in COMMANDS:
        flags = set(re.findall(r"--[a-z][a-z-]*", run(command, "--help").stdout.split("Example")[0])) - {"--help-all"}
        for what, page in pages.items():
            text = page.replace("\\-", "-")
            assert command in text, (what, command)
            for flag in flags:
                assert (f" -l {flag[2:]} " if what == "fish" else flag) in text, (what, command, flag)


def test_bash_completes_commands_flags_and_files(program, tmp_path):
    def complete(*words):
        script = (f'source <("{program}" reference bash); COMP_WORDS=({" ".join(map(repr, words))}); '
                  f'COMP_CWORD={len(words) - 1}; _deeplora; echo "${{COMPREPLY[@]}}"')
        return subprocess.run(["bash", "-c", script], capture_output=True, text=True, cwd=tmp_path,
                              check=True).stdout.split()

    (tmp_path / "mine.yaml").touch()
    assert complete("deeplora", "fin") == ["finetune"]
    assert complete("deeplora", "finetune", "--resu") == ["--resume"]
    assert complete("deeplora", "finetune", "mi") == ["mine.yaml"]


def test_files_that_a_help_text_names_are_there(run):
    named = {path for command in COMMANDS for path in re.findall(r"configs/[\w/.-]+\.yaml",
        run(command, "--help").stdout)}
    assert len(named) >= 3 and not [path for path in named if not (ROOT / path).exists()]
