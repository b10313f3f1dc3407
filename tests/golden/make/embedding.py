#!/usr/bin/env python3
"""Writes tests/golden/embedding.json: losses of sentence-transformers and their gradients with respect to the vectors,
and the scores of its InformationRetrievalEvaluator."""

import json
from pathlib import Path

import numpy
import torch
from sentence_transformers.sentence_transformer import losses
from sentence_transformers.sentence_transformer.evaluation import InformationRetrievalEvaluator

OUTPUT = Path(__file__).resolve().parents[1] / "embedding.json"


class Vectors(torch.nn.Module):
    """In place of a model: what is looked up are the vectors themselves."""

    def __init__(self, width):
        super().__init__()
        self.width = width

    def forward(self, features):
        return {"sentence_embedding": features["sentence_embedding"]}

    def get_embedding_dimension(self):
        return self.width


def packed(tensor):
    return {"shape": list(tensor.shape), "data": tensor.detach().flatten().tolist()}


def make_loss(case, model):
    scale = 1 / case["temperature"]
    if case["loss"] == "mnr" and case["both_directions"]:
        made = losses.MultipleNegativesRankingLoss(model, scale=scale, directions=("query_to_doc", "doc_to_query"),
                                                   partition_mode="per_direction")
    elif case["loss"] == "mnr":
        made = losses.MultipleNegativesRankingLoss(model, scale=scale)
    else:
        made = losses.CoSENTLoss(model, scale=scale) if case["loss"] == "cosent" else losses.CosineSimilarityLoss(model)
    return losses.MatryoshkaLoss(model, made, case["widths"]) if case["widths"] else made


def loss_case(generator, loss, rows, columns, width, temperature=0.05, both_directions=False, widths=(), scores=None):
    case = {"loss": loss, "temperature": temperature, "both_directions": both_directions, "widths": list(widths)}
    vectors = torch.randn(columns, rows, width, generator=generator, dtype=torch.float64).requires_grad_()
    labels = torch.zeros(rows) if scores is None else torch.tensor(scores, dtype=torch.float64)
    features = [{"sentence_embedding": column} for column in vectors]
    value = make_loss(case, Vectors(width))(features, labels)
    value.backward()
    case.update(rows=rows, vectors=packed(vectors.reshape(-1, width)), value=value.item(),
                gradient=packed(vectors.grad.reshape(-1, width)))
    if scores is not None:
        case["scores"] = scores
    return case


def loss_cases():
    generator = torch.Generator().manual_seed(7)
    numbers = numpy.random.default_rng(7)
    graded = [round(float(s), 2) for s in numbers.uniform(0, 1, 9)]
    ties = [float(s) for s in numbers.integers(0, 3, 12)]
    return [
        loss_case(generator, "mnr", 6, 2, 8),
        loss_case(generator, "mnr", 5, 3, 8, temperature=0.2),
        loss_case(generator, "mnr", 6, 2, 8, both_directions=True),
        loss_case(generator, "mnr", 5, 3, 7, both_directions=True),
        loss_case(generator, "mnr", 1, 2, 4),
        loss_case(generator, "mnr", 6, 3, 16, widths=(16, 8, 3)),
        loss_case(generator, "mnr", 4, 2, 8, both_directions=True, widths=(4, 8)),
        loss_case(generator, "cosent", 9, 2, 8, scores=graded),
        loss_case(generator, "cosent", 12, 2, 8, temperature=0.1, scores=ties),
        loss_case(generator, "cosent", 3, 2, 8, scores=[1.0, 1.0, 1.0]),
        loss_case(generator, "cosent", 9, 2, 16, widths=(16, 5), scores=graded),
        loss_case(generator, "cosine", 9, 2, 8, scores=graded),
        loss_case(generator, "cosine", 1, 2, 8, scores=[-0.5]),
        loss_case(generator, "cosine", 9, 2, 16, widths=(9, 2), scores=graded),
    ]


class Looked(InformationRetrievalEvaluator):
    def embed_inputs(self, model, sentences, encode_fn_name=None, **unused):
        return torch.tensor([model[encode_fn_name][s] for s in sentences], dtype=torch.float64)


def places(similarities, relevant):
    order = sorted(range(len(similarities)), key=lambda i: (-similarities[i], i))
    return [order.index(i) + 1 for i in relevant]


def retrieval_case(numbers, queries, candidates, most_relevant):
    q, c = numbers.normal(size=(queries, 5)), numbers.normal(size=(candidates, 5))
    relevant = [sorted(numbers.choice(candidates, size=numbers.integers(1, most_relevant + 1), replace=False).tolist())
                for _ in range(queries)]
    name = "{:05d}".format  # ties go by the texts' ids
    evaluator = Looked({name(i): name(i) for i in range(queries)}, {name(i): name(i) for i in range(candidates)},
                       {name(i): {name(j) for j in found} for i, found in enumerate(relevant)}, show_progress_bar=False,
                       score_functions={"cosine": lambda a,
                                        b: torch.nn.functional.normalize(a) @ torch.nn.functional.normalize(b).T})
    scores = evaluator.compute_all_metrics({"query": {name(i): v for i, v in enumerate(q.tolist())},
                                            "document": {name(i): v for i, v in enumerate(c.tolist())}})["cosine"]
    similarities = (q / numpy.linalg.norm(q, axis=1, keepdims=True)) @ (c / numpy.linalg.norm(c, axis=1,
        keepdims=True)).T
    return {"places": [places(row, found) for row, found in zip(similarities.tolist(), relevant)],
            "mrr@10": scores["mrr@k"][10], "ndcg@10": scores["ndcg@k"][10], "recall@1": scores["recall@k"][1],
            "recall@10": scores["recall@k"][10], "map@100": scores["map@k"][100]}


def main():
    numbers = numpy.random.default_rng(3)
    cases = [retrieval_case(numbers, *shape) for shape in ((7, 30, 1), (20, 200, 12), (3, 4, 4), (1, 1, 1),
                                                           (5, 400, 150))]
    OUTPUT.write_text(json.dumps({"losses": loss_cases(), "retrieval": cases}) + "\n")
    print(f"{OUTPUT}: {OUTPUT.stat().st_size} bytes")


if __name__ == "__main__":
    main()
