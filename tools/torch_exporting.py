"""How export_torchscript.py makes a program of torch.export (OUTPUT.pt2) of a Hugging Face model, and finds out whether
it is right.

The wrappers, masks and probes are those of torchscript_tracing. Batch and length are free; the example has two rows,
because torch.export takes a size of one for a constant.
"""
from __future__ import annotations

import sys

import torch

from torchscript_tracing import TraceError, attention_dropout_kept, difference, example, first_line, traced_length, wrap


def dynamic_shapes(inputs: dict[str, torch.Tensor]) -> dict:
    """Rows and tokens of every input are free."""
    return {name: {0: torch.export.Dim.DYNAMIC, 1: torch.export.Dim.DYNAMIC} for name in inputs}


def export_program(model: torch.nn.Module, task: str):
    """(wrapper, torch.export.ExportedProgram): the first way of masking that exports and computes the same at other
    shapes; inputs by name.

    Throws TraceError when neither does. Dropout stays in the program, switched off.
    """
    failures = []
    for own_masks in (True, False):
        wrapper = wrap(model, task, own_masks).eval()
        inputs = example(wrapper, 2, traced_length(wrapper), "right", 0)
        try:
            with attention_dropout_kept(model):
                program = torch.export.export(wrapper, (), inputs, dynamic_shapes=dynamic_shapes(inputs))
            wrong = difference(wrapper, program.module())
        except Exception as error:  # the model may refuse such a mask, or torch.export the model's code
            wrong = first_line(error)
        if wrong is None:
            return wrapper, program
        failures.append(f"{'own masks' if own_masks else 'the masks of the model'}: {wrong}")
    raise TraceError(f"{type(model).__name__} cannot be exported for task {task}: {'; '.join(failures)}")


def write_program(program, path: str, files: dict[str, bytes]) -> None:
    """torch.export.save with the extra files, which are texts there: those that are none (a sentencepiece model) are
    left out, with a note."""
    texts = {}
    for name, content in files.items():
        try:
            texts[name] = content.decode()
        except UnicodeDecodeError:
            print(f"note: {name} is no text and torch.export.save keeps texts alone: it is left out"
                  + ("" if "tokenizer.json" in files else "; name the folder in model.tokenizer"), file=sys.stderr)
    torch.export.save(program, path, extra_files=texts)
