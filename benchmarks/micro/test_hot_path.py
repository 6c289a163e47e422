"""Micro benchmarks: drawing negatives, by all samplers alike.

pytest benchmarks/micro --benchmark-json=micro.json
"""

from __future__ import annotations

from typing import Any

import pytest
import torch
from pykeen.datasets import Nations
from suite.cost import SAMPLERS, make_sampler

BATCH_SIZE = 256


# compare single threads
torch.set_num_threads(1)


@pytest.mark.parametrize("number", [8, 32])
@pytest.mark.parametrize("name", SAMPLERS)
def test_corrupt_batch(benchmark: Any, name: str, number: int) -> None:
    """Draw negatives, as the data loader does."""
    benchmark.group = f"B={BATCH_SIZE}, N={number}"
    benchmark.extra_info["sampler"] = name
    training = Nations().training
    negatives = benchmark(make_sampler(name, training, number).corrupt_batch, training.mapped_triples[:BATCH_SIZE])
    assert negatives.shape == (BATCH_SIZE, number, 3)
