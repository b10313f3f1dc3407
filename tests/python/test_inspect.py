"""deeplora inspect on exported archives. Oracle: what the exporter wrote into export.json."""
import json

import torch


def test_inspect_reads_inputs_and_parameters_of_an_export(run, tiny_archive):
    archive = tiny_archive("bert")
    files = {"export.json": ""}
    module = torch.jit.load(str(archive), _extra_files=files)
    seen = json.loads(run("inspect", archive, "--json").stdout)
    assert seen["inputs"] == json.loads(files["export.json"])["inputs"]
    assert seen["parameters"] == sum(p.numel() for p in module.parameters())
