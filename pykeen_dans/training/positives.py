"""Batches of positives alone, for loops that do not need negatives of each of them, and what such a batch shares."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from pykeen.triples.instances import BaseBatchedSLCWAInstances, SLCWABatch
from pykeen.typing import FloatTensor, MappedTriples, Target

from ..scoring.proposals import Pool
from ..scoring.representations import SIDES
from ..scoring.strata import OwnCandidates
from ..utils.validation import validate_choice, validate_sequence
from .order import OrderedInstances, OrderedSubGraphInstances

__all__ = [
    "PositiveBatch",
    "PositiveInstances",
    "SharedBatch",
    "SubGraphPositiveInstances",
    "validate_sides",
]


class PositiveBatch(SLCWABatch, total=False):
    """A batch of positives, whose ``negatives`` have the shape ``(batch_size, 0, 3)``."""

    #: weights of queries by side, shape: ``(batch_size, num_sides)``
    query_weights: FloatTensor


class _PositivesOnly(BaseBatchedSLCWAInstances):
    """Instances that do not sample negatives."""

    #: Weights of queries by side, shape: ``(num_triples, num_sides)``
    query_weights: FloatTensor | None = None

    def __getitem__(self, item: Any) -> PositiveBatch:
        """Get a batch from the given ids of positive triples."""
        positives = self.mapped_triples[item]
        # those who look at batches, as callbacks do, find what they expect
        batch = PositiveBatch(positives=positives, negatives=positives.new_empty((len(positives), 0, 3)))
        if self.query_weights is not None:
            batch["query_weights"] = self.query_weights[item]
        if self.loss_weighter is not None:
            batch["pos_weights"] = self.loss_weighter.weight_triples(positives)
        return batch


class PositiveInstances(_PositivesOnly, OrderedInstances):
    """Batches of positives in random order."""

    def move(self, device: torch.device) -> None:
        """Keep the triples on a device, where batches are then made.

        :param device: the device
        """
        self.mapped_triples = self.mapped_triples.to(device)
        if self.query_weights is not None:
            self.query_weights = self.query_weights.to(device)


class SubGraphPositiveInstances(_PositivesOnly, OrderedSubGraphInstances):
    """Batches of positives that are coherent subgraphs."""


@dataclasses.dataclass
class SharedBatch:
    """What all parts of a batch have in common."""

    #: The batch as the data loader made it, by which it is recognised
    source: SLCWABatch
    #: The positives on the model's device, shape: ``(batch_size, 3)``
    positives: MappedTriples
    #: The pool of each side
    pools: Mapping[Target, Pool]
    #: The candidates of each query by side
    own: Mapping[Target, OwnCandidates | None]
    #: Vectors of each query by side, and the logarithm of what each stands for
    vectors: Mapping[Target, tuple[FloatTensor, FloatTensor] | None]
    #: The weights of queries by side, shape: ``(batch_size,)``
    weights: Mapping[Target, FloatTensor | None]


def validate_sides(sides: Sequence[Target]) -> tuple[Target, ...]:
    """Check the sides to replace."""
    chosen = () if isinstance(sides, str) else validate_sequence("sides", sides)
    if not chosen or any(chosen.count(side) > 1 for side in chosen):
        raise ValueError(f"sides={sides!r} is not a list of different sides; choose e.g. ['head', 'tail'], or None.")
    for side in chosen:
        validate_choice("sides", side, SIDES)
    return chosen
