"""Writes tests/golden/preference.json: DPO and ORPO by TRL's formulas (1.16: DPOTrainer with loss_type sigmoid,
ORPOTrainer) in plain PyTorch.

Run from the repository root: .venv/bin/python tests/golden/make/preference.py
The model is tests/golden/families/llama in float64 with a PEFT adapter whose factors are both far from zero; everything
is seeded.
"""

import json
import pathlib

import peft
import torch
import torch.nn.functional as F
import transformers

GOLDEN = pathlib.Path(__file__).resolve().parents[1]
TARGETS = ["q_proj", "down_proj"]
RANK, ALPHA = 2, 6


def packed(tensor):
    """{"shape", "data"} in row-major order; 17 digits keep a float64 exactly."""
    return {"shape": list(tensor.shape), "data": tensor.detach().double().reshape(-1).tolist()}


def rows(generator):
    """Pairs of ids of many lengths; answers of one token among them."""
    draw = lambda low, high: torch.randint(4, 40, (int(torch.randint(low, high, (1,), generator=generator)),),
                                           generator=generator).tolist()
    out = [{"input_ids": draw(2, 9), "chosen": draw(1, 8), "rejected": draw(1, 8)} for _ in range(6)]
    out[0]["chosen"] = out[0]["chosen"][:1]
    return out


def of_sides(model, pairs):
    """Of the chosen and the rejected side: log-probabilities of the answers' tokens added up [B], their number [B];
    then the chosen sequences' -log p of all tokens but the first, one list a row."""
    sums, counts, texts = [], [], []
    for side in ("chosen", "rejected"):
        for pair in pairs:
            ids = torch.tensor([pair["input_ids"] + pair[side]])
            logps = model(input_ids=ids).logits[:, :-1].log_softmax(-1).gather(2, ids[:, 1:].unsqueeze(2))[0, :, 0]
            answer = logps[len(pair["input_ids"]) - 1:]
            sums.append(answer.sum())
            counts.append(float(len(answer)))
            if side == "chosen":
                texts.append(-logps)
    return torch.stack(sums).chunk(2), torch.tensor(counts, dtype=torch.float64).chunk(2), texts


def log1mexp(x):
    return torch.where(x < -0.6931471805599453, torch.log1p(-torch.exp(x)), torch.log(-torch.expm1(x)))


def dpo(model, pairs, beta):
    with torch.no_grad(), model.disable_adapter():
        reference, _, _ = of_sides(model, pairs)
    policy, _, _ = of_sides(model, pairs)
    chosen, rejected = policy[0] - reference[0], policy[1] - reference[1]
    loss = -F.logsigmoid(beta * (chosen - rejected)).mean()
    return loss, beta * chosen, beta * rejected, torch.stack(reference, 1)


def orpo(model, pairs, beta):
    sums, counts, texts = of_sides(model, pairs)
    chosen, rejected = sums[0] / counts[0], sums[1] / counts[1]
    log_odds = (chosen - rejected) - (log1mexp(chosen) - log1mexp(rejected))
    loss = torch.cat(texts).mean() - (beta * F.logsigmoid(log_odds)).mean()
    return loss, beta * chosen, beta * rejected, torch.zeros(0, 2)


def main():
    torch.set_default_dtype(torch.float64)
    base = transformers.AutoModelForCausalLM.from_pretrained(GOLDEN / "families" / "llama", dtype=torch.float64).eval()
    model = peft.get_peft_model(base, peft.LoraConfig(r=RANK, lora_alpha=ALPHA, target_modules=TARGETS)).eval()
    generator = torch.Generator().manual_seed(31)
    factors = {}
    for name, value in model.named_parameters():
        if "lora_" not in name:
            continue
        with torch.no_grad():
            value.copy_(0.3 * torch.randn(value.shape, generator=generator))
        path = name.removeprefix("base_model.model.").replace(".lora_A.default", "").replace(".lora_B.default", "")
        factors[path, "A" if "lora_A" in name else "B"] = value
    pairs = rows(generator)
    out = {"rank": RANK, "alpha": ALPHA, "rows": pairs, "factors": [{"path": p, "factor": f, **packed(v)} for (p, f),
        v in factors.items()], "cases": []}
    for kind, beta in ((dpo, 0.1), (dpo, 0.7), (orpo, 0.1), (orpo, 1.3)):
        model.zero_grad()
        loss, chosen, rejected, reference = kind(model, pairs, beta)
        loss.backward()
        out["cases"].append({"loss": kind.__name__, "beta": beta, "value": loss.item(),
                             "chosen_rewards": chosen.tolist(), "rejected_rewards": rejected.tolist(),
                             "reference": reference.tolist(), "gradients": [{"path": p, "factor": f, **packed(v.grad)}
                                 for (p, f), v in factors.items()]})
    out["versions"] = {"torch": torch.__version__.split("+")[0], "transformers": transformers.__version__,
                       "peft": peft.__version__}
    (GOLDEN / "preference.json").write_text(json.dumps(out) + "\n")


if __name__ == "__main__":
    main()
