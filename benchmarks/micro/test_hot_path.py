"""Micro benchmarks: drawing negatives, by all samplers alike, each draw after one of the basic sampler.

pytest benchmarks/micro --benchmark-json=micro.json
"""

from __future__ import annotations

import statistics
import time
from typing import Any

import pytest
import torch
from pykeen.datasets import Nations
from suite.cost import SAMPLERS, make_sampler

BATCH_SIZE = 256
ROUNDS = 300

# compare single threads
torch.set_num_threads(1)


@pytest.mark.parametrize("number", [8, 32])
@pytest.mark.parametrize("name", SAMPLERS)
def test_corrupt_batch(benchmark: Any, name: str, number: int) -> None:
    """Draw negatives, as the data loader does."""
    training = Nations().training
    batch = training.mapped_triples[:BATCH_SIZE]
    basic, sampler = (make_sampler(each, training, number) for each in ("basic", name))
    seconds: list[float] = []

    def draw_basic() -> None:
        started = time.perf_counter()
        basic.corrupt_batch(batch)
        seconds.append(time.perf_counter() - started)

    benchmark.group = f"B={BATCH_SIZE}, N={number}"
    benchmark.extra_info["sampler"] = name
    negatives = benchmark.pedantic(sampler.corrupt_batch, args=(batch,), setup=draw_basic, rounds=ROUNDS)
    assert negatives.shape == (BATCH_SIZE, number, 3)
    if benchmark.disabled:
        return
    # what slows the machine for a while slows both
    pairs = zip(benchmark.stats.stats.data, seconds, strict=True)
    benchmark.extra_info["ratio"] = statistics.median(ours / theirs for ours, theirs in pairs)
