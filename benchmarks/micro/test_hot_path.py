"""Micro benchmarks: drawing negatives, by all samplers alike.

pytest benchmarks/micro --benchmark-json=micro.json
"""

from __future__ import annotations

from typing import Any

import pytest
import torch
from pykeen.datasets import Nations
from pykeen.sampling import negative_sampler_resolver

from pykeen_dans.engine.coupling import Coupling
from pykeen_dans.sampling.base import GeneratedNegativeSampler

BATCH_SIZE = 256


@pytest.fixture(scope="module", autouse=True)
def one_thread() -> Any:
    """Compare single threads."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def make(name: str, num_negatives: int) -> Any:
    """Make a sampler as a training would, with a full bank where it has one."""
    training = Nations().training
    cls = negative_sampler_resolver.lookup(name)
    further = {"coupling": Coupling()} if issubclass(cls, GeneratedNegativeSampler) else {}
    sampler = cls(
        mapped_triples=training.mapped_triples,
        num_entities=training.num_entities,
        num_relations=training.num_relations,
        num_negs_per_pos=num_negatives,
        **further,
    )
    if isinstance(sampler, GeneratedNegativeSampler):
        sampler.engine.bank.ids.random_(training.num_entities)
    return sampler


@pytest.mark.parametrize("num_negatives", [8, 32])
@pytest.mark.parametrize("name", sorted(negative_sampler_resolver.lookup_dict))
def test_corrupt_batch(benchmark: Any, name: str, num_negatives: int) -> None:
    """Draw negatives, as the data loader does."""
    benchmark.group = f"corrupt_batch, B={BATCH_SIZE}, N={num_negatives}"
    benchmark.extra_info["sampler"] = name
    sampler = make(name, num_negatives)
    batch = Nations().training.mapped_triples[:BATCH_SIZE]
    negatives = benchmark(sampler.corrupt_batch, batch)
    assert negatives.shape == (BATCH_SIZE, num_negatives, 3)
