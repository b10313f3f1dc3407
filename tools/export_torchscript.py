#!/usr/bin/env python3
"""Turns a Hugging Face folder into a TorchScript archive that deeplora (and plain torch.jit.load) can run, or, where
OUTPUT ends in .pt2, into a program of torch.export (for deeplora and torch.export.load; needs torch 2.9+).

  export_torchscript.py HF_FOLDER OUTPUT.pt
  export_torchscript.py HF_FOLDER OUTPUT.pt2
  export_torchscript.py bert-base-uncased/ bert.pt --task classifier --num-labels 3

The archive takes whole numbers [B, T] by name (batch B and length T are free) and returns one tensor:

  task               inputs                                                                 output
  encoder            input_ids, attention_mask, token_type_ids (where there are segments)   hidden states [B, T, D]
  classifier         the same                                                               logits [B, C]
  token-classifier   the same                                                               logits [B, T, C]
  causal-lm          input_ids, attention_mask                                              logits [B, T, V]
  seq2seq            input_ids, attention_mask, decoder_input_ids, decoder_attention_mask   logits [B, T, V]

Parameters are named "model." + their Hugging Face name. Dropout stays in the graph, switched off. Inside the archive
lie config.json, the tokenizer's files and export.json. Before OUTPUT appears, the traced model is compared with the
original at other batch sizes and lengths, with padding; a difference is an error and leaves no file.
Needs torch 2.6+ and transformers 4.40 to 5.x. Something wrong: one line "error: ..." and exit code 1.
"""
from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
import warnings

os.environ.setdefault("HF_HUB_OFFLINE", "1")  # a folder is asked for: never look a name up on a hub
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")

import torch
from torch_exporting import export_program, write_program
from torchscript_tracing import TraceError, Wrapper, difference, first_line, input_names, trace

TASKS = ("encoder", "classifier", "token-classifier", "causal-lm", "seq2seq")
HEADS = {"classifier": "ForSequenceClassification", "token-classifier": "ForTokenClassification"}  # of classes
DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}
HEAD_SEED = 0
TEXT_FILES = (
    "tokenizer.json", "tokenizer_config.json", "vocab.txt", "vocab.json", "merges.txt", "special_tokens_map.json",
    "added_tokens.json", "target_vocab.json", "sentence_bert_config.json", "chat_template.jinja",
    "generation_config.json")
SENTENCEPIECE_SUFFIXES = (".spm", ".model")


class ExportError(Exception):
    """A mistake of the user; the message is one line."""


# ---- what the folder holds ----


def kind_of(config) -> str:
    """encoder, causal-lm or seq2seq, by the model family of `config`."""
    from transformers.models.auto import modeling_auto as auto

    family = config.model_type
    if getattr(config, "is_encoder_decoder", False):
        if family in auto.MODEL_FOR_SEQ_TO_SEQ_CAUSAL_LM_MAPPING_NAMES:
            return "seq2seq"
    elif family in auto.MODEL_FOR_MASKED_LM_MAPPING_NAMES and not getattr(config, "is_decoder", False):
        return "encoder"
    elif family in auto.MODEL_FOR_CAUSAL_LM_MAPPING_NAMES:
        return "causal-lm"
    elif family in auto.MODEL_FOR_SEQUENCE_CLASSIFICATION_MAPPING_NAMES:
        return "encoder"
    raise ExportError(
        f"unsupported architecture: model type '{family}' (expected a text encoder, causal or seq2seq model)")


def head_in(config) -> str | None:
    """classifier or token-classifier, where the folder holds such a head."""
    architectures = " ".join(getattr(config, "architectures", None) or ())
    return next((task for task, name in HEADS.items() if name in architectures), None)


def choose_task(config, task: str | None) -> str:
    """`task`, or the one that the folder's architecture suggests; throws when it does not fit the family."""
    kind = kind_of(config)
    fitting = ("encoder", *HEADS) if kind == "encoder" else (kind,)
    if task is None:
        return (kind == "encoder" and head_in(config)) or kind
    if task not in fitting:
        raise ExportError(f"task '{task}' does not fit model type '{config.model_type}' "
                          f"(expected --task {' or '.join(fitting)})")
    return task


def load_config(folder: str):
    from transformers import AutoConfig

    if not os.path.isdir(folder):
        raise ExportError(f"{folder}: not a folder (expected a Hugging Face folder: config.json, weights, tokenizer)")
    if not os.path.isfile(os.path.join(folder, "config.json")):
        raise ExportError(f"{folder}: no config.json in it (expected a Hugging Face folder)")
    try:
        return AutoConfig.from_pretrained(folder, local_files_only=True)
    except Exception as error:  # transformers raises many kinds here
        raise ExportError(
            f"{folder}/config.json: broken, or an unsupported architecture: {first_line(error)}") from error


def check_num_labels(config, task: str, num_labels: int | None) -> None:
    if num_labels is None:
        if task in HEADS and head_in(config) != task:
            what = "classification head" if task == "classifier" else "head for tokens"
            raise ExportError(f"the folder holds no {what}: pass --num-labels N for a new random one")
    elif task not in HEADS:
        raise ExportError(f"--num-labels {num_labels} needs --task {' or '.join(HEADS)} (the task is {task})")
    elif num_labels < 1:
        raise ExportError(f"--num-labels {num_labels}: expected 1 or more")
    elif head_in(config) == task and num_labels != config.num_labels:
        raise ExportError(
            f"--num-labels {num_labels}: the folder's head has {config.num_labels} labels; leave --num-labels out")


def load_model(folder: str, task: str, num_labels: int | None, dtype: str, attention: str) -> torch.nn.Module:
    """The Hugging Face model in eval mode. Weights the folder lacks are an error, except those of a new head."""
    import transformers

    classes = {"encoder": transformers.AutoModel, "classifier": transformers.AutoModelForSequenceClassification,
               "token-classifier": transformers.AutoModelForTokenClassification,
               "causal-lm": transformers.AutoModelForCausalLM, "seq2seq": transformers.AutoModelForSeq2SeqLM}
    options = {"attn_implementation": attention, "local_files_only": True, "output_loading_info": True}
    # transformers 4 knows only torch_dtype, 5 prefers dtype
    options["torch_dtype" if transformers.__version__.startswith("4.") else "dtype"] = DTYPES[dtype]
    if num_labels is not None:
        options["num_labels"] = num_labels

    def load(**more):
        torch.manual_seed(HEAD_SEED)
        return classes[task].from_pretrained(folder, **options, **more)

    try:
        try:
            model, report = load(add_pooling_layer=False) if task == "encoder" else load()
        except TypeError:  # a family without a pooler
            model, report = load()
    except Exception as error:  # safetensors, pickle, transformers: each has its own kinds
        raise ExportError(f"{folder}: cannot load the model: {first_line(error)}") from error
    report_missing(folder, model, sorted(report["missing_keys"]), task)
    return model.eval()


def report_missing(folder: str, model: torch.nn.Module, missing: list[str], task: str) -> None:
    backbone = model.base_model_prefix + "."
    head = [k for k in missing if task in HEADS and (not k.startswith(backbone) or ".pooler." in k)]
    lost = [k for k in missing if k not in head]
    if lost:
        shown = ", ".join(lost[:6]) + (f", ... ({len(lost) - 6} more)" if len(lost) > 6 else "")
        raise ExportError(f"{folder}: weights are missing: {shown}")
    if head:
        print(f"note: new random weights (seed {HEAD_SEED}): {', '.join(head)}", file=sys.stderr)


# ---- the archive ----


def read_bytes(*parts: str) -> bytes:
    with open(os.path.join(*parts), "rb") as source:
        return source.read()


def tokenizer_files(folder: str) -> dict[str, bytes]:
    """Every tokenizer file of the folder, and tokenizer.json made from the others where it is not there."""
    files = {name: read_bytes(folder, name) for name in sorted(os.listdir(folder))
             if name in TEXT_FILES or name.endswith(SENTENCEPIECE_SUFFIXES)}
    if os.path.isfile(os.path.join(folder, "1_Pooling", "config.json")):
        files["pooling.json"] = read_bytes(folder, "1_Pooling", "config.json")
        if os.path.isfile(os.path.join(folder, "modules.json")):  # whether vectors are normalised
            files["modules.json"] = read_bytes(folder, "modules.json")
    further = os.path.join(folder, "additional_chat_templates")
    for name in sorted(os.listdir(further)) if os.path.isdir(further) else []:
        if name.endswith(".jinja"):
            files[f"additional_chat_templates/{name}"] = read_bytes(further, name)
    if "tokenizer.json" not in files:
        if any(n.startswith("vocab.") or n.endswith(SENTENCEPIECE_SUFFIXES) for n in files):
            files.update(fast_tokenizer(folder))
        else:
            print(f"note: {folder} holds no tokenizer, so the archive carries none", file=sys.stderr)
    return files


def fast_tokenizer(folder: str) -> dict[str, bytes]:
    """tokenizer.json made from the folder's slow tokenizer; empty, with a note, where there is no conversion."""
    from transformers import AutoTokenizer

    with tempfile.TemporaryDirectory() as scratch:
        try:
            tokenizer = AutoTokenizer.from_pretrained(folder, use_fast=True, local_files_only=True)
            if not tokenizer.is_fast:
                raise ValueError(f"{type(tokenizer).__name__} has no fast form")
            tokenizer.backend_tokenizer.save(os.path.join(scratch, "tokenizer.json"))
        except Exception as error:  # a missing package, an unknown class, a broken file
            print(f"note: no tokenizer.json made ({first_line(error)}); the archive carries the folder's own files",
                  file=sys.stderr)
            return {}
        return {"tokenizer.json": read_bytes(scratch, "tokenizer.json")}


def extra_files(folder: str, wrapper: Wrapper, task: str, dtype: str) -> dict[str, bytes]:
    """What lies in the archive beside code and weights: file name -> content."""
    import transformers

    config = wrapper.model.config
    about = {
        "source": os.path.abspath(folder), "prefix": "model.", "task": task,
        "architecture": type(wrapper.model).__name__,
        "transformers": transformers.__version__, "torch": torch.__version__, "dtype": dtype,
        "inputs": input_names(wrapper), "output": "hidden" if task == "encoder" else "logits",
        "num_labels": config.num_labels if task in HEADS else None}
    files = {**tokenizer_files(folder), "config.json": read_bytes(folder, "config.json")}
    if task in HEADS:  # a new head has labels that the folder's file does not know
        settings = json.loads(files["config.json"])
        settings["id2label"] = {str(i): name for i, name in config.id2label.items()}
        settings["label2id"] = config.label2id
        if task == "token-classifier":  # whose weights may have the names of a text's head
            settings["architectures"] = [type(wrapper.model).__name__]
        files["config.json"] = json.dumps(settings, ensure_ascii=False, indent=2).encode()
    files["export.json"] = json.dumps(about, indent=2).encode()
    return files


def is_program(output: str) -> bool:
    return output.endswith(".pt2")


def write_archive(traced, path: str, files: dict[str, bytes], wrapper: Wrapper) -> None:
    try:
        torch.jit.save(traced, path, _extra_files=files)
    except RuntimeError as error:  # Python code inside the graph: DeBERTa before transformers 4.48
        raise ExportError(f"{type(wrapper.model).__name__} cannot be saved as TorchScript: {first_line(error)} "
                          "(a newer transformers may help)") from error


def read_back(path: str):
    return torch.export.load(path).module() if is_program(path) else torch.jit.load(path)


def save(traced, output: str, files: dict[str, bytes], wrapper: Wrapper, check: bool) -> None:
    """Writes beside `output`, checks what was written, then renames: no half-made or wrong file is ever left. A link is
    followed, a file that is there keeps its mode."""
    output = os.path.realpath(output)
    there = os.path.exists(output)
    if there and not os.path.isfile(output):
        raise ExportError(f"{output} is no file (a folder, a device, a pipe); an archive cannot be written there")
    mode = os.stat(output).st_mode & 0o7777 if there else 0o644
    folder = os.path.dirname(output)
    os.makedirs(folder, exist_ok=True)
    handle, scratch = tempfile.mkstemp(dir=folder, prefix=".export-", suffix=os.path.splitext(output)[1])
    os.close(handle)
    try:
        if is_program(output):
            write_program(traced, scratch, files)
        else:
            write_archive(traced, scratch, files, wrapper)
        wrong = difference(wrapper, read_back(scratch)) if check else None
        if wrong is not None:
            raise ExportError(f"the saved archive does not compute what the original does: {wrong}")
        os.chmod(scratch, mode)
        os.replace(scratch, output)
    finally:
        if os.path.exists(scratch):
            os.unlink(scratch)


def export(folder: str, output: str, task: str | None = None, num_labels: int | None = None,
           dtype: str = "float32", attention: str = "eager", check: bool = True) -> dict:
    """Exports `folder` to `output` and returns the content of export.json.

    Throws ExportError and TraceError (one line each) for the user's mistakes; nothing is left at `output` then.
    """
    import transformers

    transformers.utils.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()
    if os.path.isdir(output):
        raise ExportError(f"{output}: is a folder (expected the name of a file to write)")
    config = load_config(folder)
    task = choose_task(config, task)
    check_num_labels(config, task, num_labels)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the tracer's guesses about constants: the comparison decides instead
        model = load_model(folder, task, num_labels, dtype, attention)
        wrapper, traced = (export_program if is_program(output) else trace)(model, task)
        files = extra_files(folder, wrapper, task, dtype)
        save(traced, output, files, wrapper, check)
    return json.loads(files["export.json"])


def parse(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", metavar="HF_FOLDER")
    parser.add_argument("output", metavar="OUTPUT", help="a .pt (TorchScript) or a .pt2 (torch.export)")
    parser.add_argument("--task", choices=TASKS, help="default: by the architectures named in config.json")
    parser.add_argument("--num-labels", type=int, metavar="N", help="labels of a new head, for a folder without one")
    parser.add_argument("--dtype", choices=DTYPES, default="float32", help="of the weights (default: %(default)s)")
    parser.add_argument("--attention", choices=("eager", "sdpa"), default="eager",
                        help="eager keeps attention dropout in the graph, sdpa is one fused kernel without it "
                             "(default: %(default)s)")
    parser.add_argument("--check", action=argparse.BooleanOptionalAction, default=True,
                        help="load the written file back and compare it with the original (default: yes)")
    return parser.parse_args(arguments)


def main(arguments: list[str] | None = None) -> int:
    options = parse(arguments)
    try:
        about = export(options.folder, options.output, options.task, options.num_labels, options.dtype,
                       options.attention, options.check)
    except (ExportError, TraceError, OSError) as error:
        print(f"error: {first_line(error)}", file=sys.stderr)
        return 1
    size = os.path.getsize(options.output) / 2**20
    checked = "checked against the original" if options.check else "the written file was not checked"
    print(f"{options.output}: {about['architecture']}, {about['task']}, inputs {', '.join(about['inputs'])}, "
          f"{size:.1f} MiB, {checked}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
