"""How well a pool, and candidates of the query beside it, tell the loss of scoring all entities.

Scores are planted: vectors of queries and entities are normal, so that graphs of any size cost seconds, and the number
of entities that the softmax is about can be chosen. Where it is small against the number of entities, a pool misses
what matters, and this is where candidates of the query have their place, if they are found.
"""

from __future__ import annotations

import pathlib
from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor

from pykeen_dans.scoring.corrections import WeightedCandidates, effective_entities, join_candidates
from pykeen_dans.scoring.proposals import Pool, UniformProposal
from pykeen_dans.scoring.query_forms import CandidateScores
from pykeen_dans.scoring.strata import OwnCandidates, weigh_candidates

from .rows import append, environment

_QUERIES, _DIM, _POOLS = 32, 64, 16
#: The number of candidates of each query
NUM_OWN = 16
#: How near what is generated is to what the model looks for: at 1, candidates are the hardest ones
COSINES = (0.0, 0.5, 0.8, 1.0)


def _unit(*shape: int) -> Tensor:
    return torch.nn.functional.normalize(torch.randn(*shape), dim=-1)


def _loss(positive: Tensor, candidates: WeightedCandidates) -> Tensor:
    """Compute the cross entropy of each row, shape: (n,)."""
    logits = (candidates.scores + candidates.log_weights).masked_fill(candidates.mask, -torch.inf)
    return torch.nn.functional.softplus(logits.logsumexp(dim=-1) - positive)


def errors(num_entities: int, sharpness: float, *, seed: int = 0) -> dict[str, Any]:
    """Measure the errors of losses.

    :param num_entities: the number of entities
    :param sharpness: the standard deviation of the scores of a query
    :param seed: the seed of everything

    :returns: the median of the effective number of entities, and the root mean square error of the loss by candidates
    """
    torch.manual_seed(seed)
    entities, queries = torch.randn(num_entities, _DIM), sharpness * _unit(_QUERIES, _DIM)
    scores = queries @ entities.T
    # as a trained model has them, answers are among the best
    answers = scores.topk(NUM_OWN, dim=-1).indices[:, -1]
    positive = scores.gather(1, answers[:, None])[:, 0]

    def candidates(pool: Pool, own: OwnCandidates | None) -> WeightedCandidates:
        found = CandidateScores(positive, scores[:, pool.ids], None if own is None else scores.gather(1, own.ids))
        return join_candidates(found, weigh_candidates(answers, pool, own))

    proposal = UniformProposal(num_entities=num_entities)
    everything = candidates(proposal.draw(num_entities), None)

    def error(size: int, own: OwnCandidates | None = None) -> float:
        losses = [_loss(positive, candidates(proposal.draw(size), own)) for _ in range(_POOLS)]
        return (torch.stack(losses) - _loss(positive, everything)).square().mean().sqrt().item()

    found = {f"{size:,} shared": error(size) for size in (256, 1024)}
    for cosine in COSINES:
        near = cosine * queries + (1 - cosine**2) ** 0.5 * sharpness * _unit(_QUERIES, _DIM)
        own = OwnCandidates((near @ entities.T).topk(NUM_OWN, dim=-1).indices)
        found[f"256 shared + {NUM_OWN} own, cosine {cosine}"] = error(256, own)
    return {"effective_entities": effective_entities(positive, everything).median().item(), "errors": found}


def execute(sizes: Iterable[int], sharpness: Iterable[float], path: pathlib.Path) -> int:
    """Append a row for each pair, and tell how many there are."""
    pairs = [(size, sharp) for size in sizes for sharp in sharpness]
    for size, sharp in pairs:
        made = {"num_entities": size, "sharpness": sharp, **environment("cpu"), **errors(size, sharp)}
        append(path, made)
    return len(pairs)
