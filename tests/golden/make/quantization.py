"""Writes tests/golden/quantization.json: what bitsandbytes makes of weights in 8 and 4 bits, codes, scales and the
values they stand for.

Run from the repository root: PYTHONPATH=FOLDER .venv/bin/python tests/golden/make/quantization.py
FOLDER: pip install --target FOLDER --no-deps bitsandbytes (its CPU build; tests need it nowhere else). Everything is
seeded.
"""

import json
import pathlib

import bitsandbytes
import bitsandbytes.functional as F
import torch

GOLDEN = pathlib.Path(__file__).resolve().parents[1]


def packed(tensor):
    """Bytes of a tensor, row-major and little-endian."""
    tensor = tensor.detach().contiguous()
    return tensor.view(torch.int16 if tensor.element_size() == 2 else tensor.dtype).numpy().tobytes().hex()


def nf4(weight):
    codes, state = F.quantize_4bit(weight.clone(), blocksize=64, compress_statistics=True, quant_type="nf4")
    state.dtype = torch.float32  # what is compared is not rounded again
    # As one row: the CPU kernel of 0.50.2 begins a block with every row, which quantize_4bit (and CUDA's kernels) does
    # not.
    state.shape = torch.Size([1, weight.numel()])
    return {"codes": packed(codes), "nested": packed(state.absmax), "nested_largest": packed(state.state2.absmax),
            "mean": packed(state.offset.reshape(1)),
            "values": packed(F.dequantize_4bit(codes, state).reshape(weight.shape))}


def int8(weight):
    codes, largest, _ = F.int8_vectorwise_quant(weight.clone())
    return {"codes": packed(codes), "largest": packed(largest), "values": packed(F.int8_vectorwise_dequant(codes,
        largest))}


def main():
    generator = torch.Generator().manual_seed(27)
    cases = []
    for shape in [(8, 8), (3, 7), (1, 130), (5, 64), (40, 96), (130, 133), (9, 1)]:
        for dtype in (torch.float32, torch.bfloat16, torch.float16):
            if shape == (130, 133) and dtype is not torch.float32:
                continue
            scales = torch.rand(shape[0], 1, generator=generator) ** 3
            cases.append((torch.randn(*shape, generator=generator) * scales * 0.05).to(dtype))
    some_zeros = torch.randn(6, 128, generator=generator)
    some_zeros[1] = 0
    some_zeros[4, :64] = 0
    cases += [torch.zeros(2, 128), torch.zeros(1, 70), some_zeros, torch.full((4, 64), 0.5), -torch.eye(70)]
    content = {"versions": {"torch": torch.__version__, "bitsandbytes": bitsandbytes.__version__}, "cases": []}
    for weight in cases:
        content["cases"].append({"shape": list(weight.shape), "dtype": str(weight.dtype).removeprefix("torch."),
                                 "weight": packed(weight),
                                 "nf4": nf4(weight), "int8": int8(weight)})
    (GOLDEN / "quantization.json").write_text(json.dumps(content) + "\n")


if __name__ == "__main__":
    main()
