#!/usr/bin/env python3
"""What torch.jit.load and PEFT say to a sentence, beside what deeplora said: the last step of tools/quickstart.

  quickstart_peers.py MODEL_FOLDER MERGED.pt PEFT_FOLDER SENTENCE
"""
from __future__ import annotations

import json
import os
import sys

os.environ.setdefault("HF_HUB_OFFLINE", "1")


def shown(logits, labels: list[str]) -> str:
    """A row's number, or the probability of every label."""
    if logits.numel() == 1:
        return f"{logits.item():.5f}"
    return "  ".join(f"{label} {p:.3f}" for label, p in zip(labels, logits.double().softmax(-1).flatten().tolist()))


def main(arguments: list[str]) -> int:
    if len(arguments) != 4:
        print(__doc__, file=sys.stderr)
        return 2
    import warnings

    import torch
    import transformers
    from peft import PeftModel
    from safetensors.torch import load_file

    transformers.utils.logging.disable_progress_bar()
    transformers.utils.logging.set_verbosity_error()  # the folder's pooler, which nobody asks for
    warnings.simplefilter("ignore", FutureWarning)
    folder, merged, adapter, sentence = arguments
    inputs = transformers.AutoTokenizer.from_pretrained(folder)(sentence, return_tensors="pt")
    with torch.no_grad():
        about = {"deeplora.json": ""}
        module = torch.jit.load(merged, _extra_files=about)
        labels = json.loads(about["deeplora.json"])["task_state"].get("labels", [])
        print(f"  merged file in torch.jit.load: {shown(module(**inputs), labels)}")
        if not os.path.exists(os.path.join(adapter, "head.safetensors")):  # transformers' own head, in the adapter
            base = transformers.AutoModelForSequenceClassification.from_pretrained(folder,
                num_labels=max(1, len(labels)))
            print(f"  lora in PEFT: {shown(PeftModel.from_pretrained(base, adapter).eval()(**inputs).logits, labels)}")
            return 0
        model = PeftModel.from_pretrained(transformers.AutoModel.from_pretrained(folder), adapter).eval()
        mask = inputs["attention_mask"].unsqueeze(-1)
        pooled = (model(**inputs).last_hidden_state * mask).sum(1) / mask.sum(1)  # the mean, as the folder says
        head = load_file(os.path.join(adapter, "head.safetensors"))
        print(f"  lora in PEFT: {shown(pooled.double() @ head['weight'].double().T + head['bias'], labels)}")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
