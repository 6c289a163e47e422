"""Large graphs, and many updates: what is kept in memory is bounded, and does not grow."""

from __future__ import annotations

import gc
import os
import pathlib
import time
from typing import Any

import pytest
import torch
from pykeen.models import DistMult
from pykeen.triples import CoreTriplesFactory

from pykeen_dans.engine import coupling
from pykeen_dans.engine.engine import GenerationEngine
from pykeen_dans.engine.settings import UpdateBudget
from pykeen_dans.sampling import GeneratedNegativeSampler
from pykeen_dans.space import live_space

from .trainings import run_pipeline
from .utils import GENERATORS, make_sampler, small, training_of

pytestmark = pytest.mark.usefixtures("shared_cache", "no_engines")

#: How long the soak takes, in seconds
SOAK = float(os.environ.get("PYKEEN_DANS_SOAK", 3600))
NIGHTLY = pytest.mark.nightly


def make_graph(*, num_entities: int, num_relations: int, num_triples: int) -> CoreTriplesFactory:
    """Draw triples in which each relation occurs, and the last entity."""
    random = torch.Generator().manual_seed(0)
    head, tail = torch.randint(num_entities, (2, num_triples), generator=random)
    relation = torch.arange(num_triples) % num_relations
    head[0] = num_entities - 1
    return CoreTriplesFactory.create(torch.stack([head, relation, tail], dim=-1).unique(dim=0))


def check_sampler(factory: CoreTriplesFactory, positives: torch.Tensor, **kwargs: Any) -> GeneratedNegativeSampler:
    """Make a sampler whose negatives are all generated where they can be, and check what it draws."""
    sampler = GeneratedNegativeSampler(
        mapped_triples=factory.mapped_triples,
        num_entities=factory.num_entities,
        num_relations=factory.num_relations,
        random_state=0,
        **small(num_negs_per_pos=4, share=1.0, **kwargs),
    )
    negatives = sampler.corrupt_batch(positives)
    assert negatives.min() >= 0
    assert (negatives[..., [0, 2]] < factory.num_entities).all()
    changed = negatives != positives[:, None]
    assert (changed.sum(dim=-1) == 1).all()
    assert not changed[..., 1].any()
    assert sampler.engine.take_counts()["fallback"] < 0.1
    bank = sampler.engine.bank
    assert bank.ids.numel() * bank.ids.element_size() <= sampler.engine.settings.memory * 2**20
    assert bank.filled == 1
    return sampler


@pytest.mark.parametrize("generator", ["diffusion", "two-way-gan"])
@pytest.mark.parametrize("num_relations", [1, 100, pytest.param(10_000, marks=pytest.mark.slow)])
def test_numbers_of_relations(num_relations: int, generator: str) -> None:
    factory = make_graph(num_entities=500, num_relations=num_relations, num_triples=max(2_000, 2 * num_relations))
    assert factory.num_relations == num_relations
    check_sampler(factory, factory.mapped_triples[:512], generator=generator, fit_steps=2)


def test_memory_is_kept_to_where_queries_have_to_share() -> None:
    """With a row for each, there would be 2.5 MiB."""
    factory = make_graph(num_entities=4_000, num_relations=3, num_triples=12_000)
    sampler = check_sampler(factory, factory.mapped_triples[:512], memory=0.25, fit_steps=1)
    assert sampler.engine.bank.shared
    assert sampler.engine.bank.num_rows < sampler.engine.index.num_queries / 4


@NIGHTLY
@pytest.mark.parametrize("known_answers", ["compete", "mask"])
def test_a_million_entities_around_a_hub(known_answers: str) -> None:
    """Each of a million triples has the hub for its tail, and one of a million entities for its head."""
    num = 10**6
    head = torch.arange(1, num + 1)
    factory = CoreTriplesFactory.create(torch.stack([head, head % 7, torch.zeros_like(head)], dim=-1))
    options = dict(memory=16.0, known_answers=known_answers, fit_steps=2, reference_kwargs=dict(dim=8, num_epochs=1))
    options["generator_kwargs"] = dict(num_types=8)
    before = resident()
    sampler = check_sampler(factory, factory.mapped_triples[:: num // 1000], **options)
    # the queries take up about 100 bytes each, beside the bank
    assert resident() - before < 600
    hub = sampler.engine.index.find(torch.zeros(1, dtype=torch.long), torch.zeros(1, dtype=torch.long), 0)
    assert sampler.engine.index.num_answers(hub) == (head % 7 == 0).sum()


def resident() -> float:
    """Tell the memory of this process, in MiB."""
    gc.collect()
    status = pathlib.Path("/proc/self/status").read_text()
    return int(status.partition("VmRSS:")[2].split()[0]) / 2**10


def open_files() -> int:
    """Count the file descriptors of this process."""
    return len(os.listdir("/proc/self/fd"))


def tensors() -> int:
    """Count the tensors that the garbage collector knows of."""
    gc.collect()
    return sum(isinstance(each, torch.Tensor) for each in gc.get_objects())


def refresh(engine: GenerationEngine, model: DistMult, times: int) -> None:
    for _ in range(times):
        engine.update(live_space(model), model, UpdateBudget(fit_steps=1, refresh_queries=16))


@pytest.mark.skipif(not pathlib.Path("/proc/self/fd").is_dir(), reason="there is no /proc on this system")
@pytest.mark.parametrize("sampler", GENERATORS)
@pytest.mark.parametrize("number", [20, pytest.param(10_000, marks=NIGHTLY)])
def test_refreshes_leave_nothing_behind(number: int, sampler: str) -> None:
    model = DistMult(triples_factory=training_of("nations"), embedding_dim=8, random_seed=0)
    engine = make_sampler("nations", sampler, share=1.0, fit_steps=0).engine
    # the first ones make what is kept
    refresh(engine, model, 10 + number // 10)
    before = tensors(), open_files(), resident()
    refresh(engine, model, number)
    after = tensors(), open_files(), resident()
    assert after[:2] == before[:2]
    # what the allocator of the system keeps for later varies
    assert after[2] - before[2] < 16


@pytest.mark.skipif(not pathlib.Path("/proc/self/fd").is_dir(), reason="there is no /proc on this system")
@NIGHTLY
def test_trainings_one_after_the_other_for_an_hour() -> None:
    """Samplers in turn, coupled to the model and alone: neither memory nor descriptors grow after the first rounds."""
    ends, rounds = time.monotonic() + SOAK, list[tuple[int, float]]()
    while time.monotonic() < ends or len(rounds) < 4:
        for sampler in GENERATORS:
            options = dict(negative_sampler=sampler, negative_sampler_kwargs=small(sampler, num_negs_per_pos=4))
            result = run_pipeline(epochs=5, **options)
            assert all(loss < 10 for loss in result.losses)
            run_pipeline(epochs=1, training_kwargs={}, **options)
        del result
        # engines without a model are kept for samplers to come
        coupling._alone.clear()
        gc.collect()
        rounds.append((open_files(), resident()))
    assert rounds[-1][0] <= rounds[1][0]
    assert rounds[-1][1] - rounds[1][1] < 64
