"""The options of an engine, in the form in which a sampler hands them on."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

from class_resolver import HintOrType

from ..bank.decoder import Decoder
from ..graph.difficulty import Difficulty
from .diversity import DEFAULT_MIN_DISTINCT

__all__ = [
    "EngineSettings",
]


@dataclasses.dataclass(frozen=True)
class EngineSettings:
    """The options of an engine. They are JSON-able, and documented with the samplers that take them."""

    targets: tuple[float, ...]
    min_spread: float
    num_slots: int
    memory: float
    decoder: HintOrType[Decoder]
    decoder_kwargs: Mapping[str, Any] | None
    difficulty: HintOrType[Difficulty]
    difficulty_kwargs: Mapping[str, Any] | None
    num_types: int | None
    reference_kwargs: Mapping[str, Any] | None
    device: str | None
    sides: tuple[int, ...]
    seed: int
    #: the number of semantic levels. Bands are pairs of hardness and semantic level, the latter being the faster axis.
    num_levels: int = 1
    #: factors of the curriculum's weight of each band, None for all alike
    preferences: tuple[float, ...] | None = None
    #: the share of each pathway of the generator; each hardness level has a band, and a target, for each of them
    way_shares: tuple[float, ...] = (1.0,)
    min_distinct: float = DEFAULT_MIN_DISTINCT

    @property
    def num_ways(self) -> int:
        """The number of pathways of the generator."""
        return len(self.way_shares)
