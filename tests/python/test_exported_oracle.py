"""Programs of torch.export (.pt2) with adapters spliced in, against the original module with W + delta(factors) written
into it: outputs and gradients of all factors at three shapes, and the merged file in torch.export.load."""
from __future__ import annotations

from unittest import mock

import pytest
import torch

import graph_oracle
import make_tiny_models
from test_graph_oracle import DTYPES, SINGLE_SOFTMAX, SPREAD, TARGETS

pytestmark = pytest.mark.filterwarnings("ignore")
ALL = ["all-linear", "embedding"]
SHAPES = [(3, 9, 5), (1, 4, 2), (5, 12, 7)]  # rows, tokens, decoder tokens; the example has two rows of seven
# What torch.export itself does not take: see the table in docs/exported-programs.md.
DECOMPOSED = ["bert", "gpt2", "llama", "t5"]


def exported(folder, dtype):
    """(module, program) as tools/export_torchscript.py makes them, which knows no float64."""
    import export_torchscript
    import torch_exporting

    task = export_torchscript.choose_task(export_torchscript.load_config(str(folder)), None)
    model = export_torchscript.load_model(str(folder), task, None, "float32", "eager").to(dtype)
    if dtype == torch.float32:
        return torch_exporting.export_program(model, task)
    # The tool's probes hold rows that are padded on the left, whose masks overflow in float64; the oracle below has
    # none.
    with mock.patch.object(torch_exporting, "difference", lambda wrapper, traced: None):
        return torch_exporting.export_program(model, task)


def batch_of(wrapper, rows: int, tokens: int, decoder: int) -> dict[str, torch.Tensor]:
    import torchscript_tracing

    generator = torch.Generator().manual_seed(rows)
    ids, mask = torch.randint(5, 50, (rows, tokens), generator=generator), torch.ones(rows, tokens, dtype=torch.int64)
    if rows > 1:
        mask[1, tokens * 2 // 3:] = 0
    values = {"input_ids": ids, "attention_mask": mask, "token_type_ids": torch.zeros_like(ids),
              "decoder_input_ids": torch.randint(5, 50, (rows, decoder), generator=generator),
              "decoder_attention_mask": torch.ones(rows, decoder, dtype=torch.int64)}
    return {name: values[name] for name in torchscript_tracing.input_names(wrapper)}


def compare(name, wrapper, program, folder, dtype, methods) -> None:
    path = folder / f"{name}-{dtype}.pt2"
    torch.export.save(program, path)
    targets = TARGETS.get(name, ALL)
    jobs = [graph_oracle.Job(path, wrapper, batch_of(wrapper, *shape), targets, folder / "jobs", method,
                             spread=SPREAD.get(name, 1.0), tag=f"-{i}")
            for method in methods for i, shape in enumerate(SHAPES)]
    sites = graph_oracle.run(jobs, folder)
    assert all(len(found) == len(sites[0]) >= 2 for found in sites)


@pytest.mark.parametrize("name", list(make_tiny_models.MODELS))
def test_a_program_with_adapters_is_the_module_with_w_plus_delta(name, tiny_folder, tmp_path, monkeypatch):
    if name in SINGLE_SOFTMAX:
        monkeypatch.setitem(graph_oracle.TOLERANCE, torch.float64, 1e-6)
    for dtype, methods in {"float32": ["lora"], "float64": ["lora", "deep-lora"]}.items():
        compare(name, *exported(tiny_folder(name), DTYPES[dtype]), tmp_path, dtype, methods)


@pytest.mark.parametrize("name", DECOMPOSED)
def test_so_is_a_decomposed_program(name, tiny_folder, tmp_path):
    wrapper, program = exported(tiny_folder(name), torch.float64)
    compare(name, wrapper, program.run_decompositions(), tmp_path, "float64", ["lora"])
