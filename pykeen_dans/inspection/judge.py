"""Whether negatives are true, and how hard they are."""

from __future__ import annotations

import math
from collections.abc import Mapping

import torch
from pykeen.models import Model
from pykeen.typing import LABEL_HEAD, LABEL_TAIL, FloatTensor, LongTensor, MappedTriples
from tqdm.auto import tqdm

from ..engine.steering import rank_percentiles
from ..graph import HEAD, TAIL, QueryIndex
from ..sampling.filtering import ExactFilterer
from ..scoring.query_forms import score_candidates
from ..scoring.representations import Candidates
from ..utils.models import evaluating
from .parts import RELATION, Part

__all__ = [
    "Judge",
]

#: The number of positives whose negatives are ranked at once, and of the entities that they are ranked among
_CHUNK, _POOL = 64, 512
#: The seconds after which progress is shown
_DELAY = 2.0


class Judge:
    """Tell of negatives whether they are true, and how hard they are.

    :param training: shape: (n, 3) the training triples
    :param num_entities: the number of entities
    :param num_relations: the number of relations, inverse ones included
    :param truth: further triples that are true, by their name, in the ids of training
    :param model: the model by which hardness is measured, None to leave it out
    :param random: the source of randomness, on the CPU
    """

    def __init__(
        self,
        *,
        training: MappedTriples,
        num_entities: int,
        num_relations: int,
        truth: Mapping[str, MappedTriples],
        model: Model | None,
        random: torch.Generator,
    ) -> None:
        """Index what is known."""
        self.known = ExactFilterer(training)
        self.truth = {name: ExactFilterer(triples) for name, triples in truth.items()}
        self.num_entities = num_entities
        self.model = model
        self.random = random
        self.index = QueryIndex(mapped_triples=training, num_entities=num_entities, num_relations=num_relations)

    def percentiles(self, positives: MappedTriples, part: Part) -> FloatTensor:
        """Rank negatives among all entities.

        :param positives: shape: (n, 3)
        :param part: their negatives

        :returns: shape: (n, k) the share of entities that the model scores higher; NaN where there is no negative, no
            model, or a query that training does not know
        """
        of_vectors = part.vectors
        result = torch.full(part.ids.shape if of_vectors is None else of_vectors.shape[:2], math.nan)
        if self.model is None or part.side == RELATION:
            return result
        rows = self.index.find(positives[:, 2 if part.side == HEAD else 0], positives[:, 1], part.side)
        chunks = (rows >= 0).nonzero().view(-1).split(_CHUNK)
        for chosen in tqdm(chunks, desc="Ranking negatives", unit="chunk", delay=_DELAY, leave=False):
            if of_vectors is None:
                result[chosen] = rank_percentiles(
                    model=self.model,
                    index=self.index,
                    queries=self.index.select(rows[chosen]),
                    candidates=part.ids[chosen],
                    pool_size=_POOL,
                    random=self.random,
                )
            else:
                result[chosen] = self._of_vectors(
                    self.model, positives[chosen], rows[chosen], part.side, of_vectors[chosen]
                )
        return result

    def _of_vectors(
        self, model: Model, positives: MappedTriples, rows: LongTensor, side: int, vectors: FloatTensor
    ) -> FloatTensor:
        """Rank vectors among entities, as training scores them."""
        pool = torch.randperm(self.num_entities, generator=self.random)[:_POOL]
        name = LABEL_TAIL if side == TAIL else LABEL_HEAD
        with evaluating(model):
            candidates = Candidates(pool.to(model.device), None, vectors.to(model.device))
            scores = score_candidates(model, positives.to(model.device), {name: candidates})[name]
        assert scores.vectors is not None
        valid = ~self.index.known(rows, pool)
        higher = (scores.shared[:, None, :] > scores.vectors[:, :, None]).cpu() & valid[:, None, :]
        return higher.sum(dim=-1) / valid.sum(dim=-1, keepdim=True).clamp(min=1)
