"""Rank by RotatE with one matrix product, since PyKEEN's way takes longer than the training on these data sets.

PyKEEN's interaction subtracts each complex entity vector from each rotated head before it takes the norm. The square of
a distance is also a sum of two squares and an inner product, and complex vectors are real ones of twice the length.
Scores are the same up to rounding (``python benchmarks/fast_ranking.py`` compares them); trainings use PyKEEN's own.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any
from unittest import mock

import click
import torch
from pykeen.models import RotatE
from pykeen.nn.modules import RotatEInteraction
from pykeen.triples.generation import generate_triples_factory


@contextlib.contextmanager
def fast_ranking() -> Iterator[None]:
    """Score all entities for a batch of queries by a matrix product, and anything else as ever."""
    slow = RotatEInteraction.forward

    def forward(self: Any, h: torch.Tensor, r: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
        ranks_tails = h.shape[1:-1] == (1,) and t.shape[:1] == (1,) and t.ndim == 3 and t.shape[1] > 1000
        if torch.is_grad_enabled() or not ranks_tails:
            result: torch.Tensor = slow(self, h, r, t)
            return result
        queries, entities = (torch.view_as_real(x).flatten(start_dim=-2) for x in ((h * r)[:, 0], t[0]))
        return -torch.cdist(queries.double(), entities.double(), compute_mode="use_mm_for_euclid_dist").float()

    with mock.patch.object(RotatEInteraction, "forward", forward):
        yield


@click.command()
def main() -> None:
    """Compare with PyKEEN's own scores."""
    model = RotatE(triples_factory=generate_triples_factory(num_entities=2000, num_triples=8000), embedding_dim=32)
    queries = torch.tensor([[0, 1], [5, 2], [1999, 0]])
    with torch.inference_mode():
        slow = model.score_t(queries)
        with fast_ranking():
            fast = model.score_t(queries)
    click.echo(f"largest difference: {(slow - fast).abs().max().item():.2e} of {slow.abs().max().item():.1f}")


if __name__ == "__main__":
    main()
