"""The upper reference of the quality benchmark: a bank of the live model's own top candidates, all entities scored."""

from __future__ import annotations

import math
import time
from typing import Any

import torch

from pykeen_dans.bank.decoder import take_nearest
from pykeen_dans.engine.engine import GenerationEngine
from pykeen_dans.graph import HEAD, TAIL
from pykeen_dans.training.callback import CurriculumTrainingCallback


class OracleTrainingCallback(CurriculumTrainingCallback):
    """Fill the bank with uniform draws from the entities that the model scores highest, known answers left out.

    It costs a score of every entity for every query, in each refresh, and has no time budget: it shows what could be
    gained, not what could be used.

    :param share: the share of entities, the best ones, from which is drawn
    :param every: refresh after every so many epochs
    """

    def __init__(self, *, share: float = 0.1, every: int = 4, chunk: int = 256, **kwargs: Any) -> None:
        """Initialise the callback."""
        super().__init__(**kwargs)
        self.share = share
        self.every = every
        self.chunk = chunk
        self._round = 0
        #: the seconds of each refresh
        self.refresh_seconds: list[float] = []

    @torch.no_grad()
    def generate(self, engine: GenerationEngine) -> dict[str, float]:
        """Refresh the whole bank by the scores of all entities."""
        self._round += 1
        if (self._round - 1) % self.every:
            return {}
        started = time.perf_counter()
        self.model.eval()
        everything = torch.arange(engine.num_entities)
        num_slots = engine.num_bands * engine.settings.num_slots
        for rows in torch.arange(engine.index.num_queries).split(self.chunk):
            queries = engine.index.select(rows)
            scores = torch.empty(len(rows), engine.num_entities)
            for side in (HEAD, TAIL):
                (chosen,) = (queries.sides == side).nonzero(as_tuple=True)
                if len(chosen) == 0:
                    continue
                kept, relations = queries.kept[chosen], queries.relations[chosen]
                kept, relations = kept.to(self.model.device), relations.to(self.model.device)
                of_side = (
                    self.model.score_t(torch.stack([kept, relations], dim=-1))
                    if side == TAIL
                    else self.model.score_h(torch.stack([relations, kept], dim=-1))
                )
                # the bank is on the CPU
                scores[chosen] = of_side.cpu()
            ids = take_nearest(
                scores,
                engine.index.known(rows, everything),
                num_candidates=max(8, math.ceil(self.share * engine.num_entities)),
                num_slots=num_slots,
                random=engine.random,
            )
            engine.bank.write(engine.bank.rows(rows), ids.view(len(rows), engine.num_bands, -1))
        self.model.train()
        self.refresh_seconds.append(time.perf_counter() - started)
        return {"refresh_seconds": self.refresh_seconds[-1]}
