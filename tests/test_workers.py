"""Worker processes of data loaders, however they are started: what they see, what they count, and where memory is."""

from __future__ import annotations

import multiprocessing
import os
import pathlib
from collections.abc import Iterator
from multiprocessing.reduction import ForkingPickler
from typing import Any

import pytest
import torch
from pykeen.sampling import BasicNegativeSampler
from pykeen.trackers import PythonResultTracker
from pykeen.triples.instances import BatchedSLCWAInstances
from torch.utils.data import DataLoader

from pykeen_dans.bank import NegativeBank, bank
from pykeen_dans.engine import coupling
from pykeen_dans.graph import reference
from pykeen_dans.training.loops import CurriculumTrainingLoop, DANSKGCTrainingLoop, DANSTrainingLoop
from pykeen_dans.training.shared_negatives import SharedNegativesTrainingLoop
from pykeen_dans.utils import processes
from pykeen_dans.utils.processes import SharedCounts

from .trainings import last_engine, make_loop, metrics_of, train
from .utils import make_sampler, training_of

pytestmark = pytest.mark.usefixtures("shared_cache", "no_engines")


@pytest.fixture
def start_method(request: pytest.FixtureRequest) -> Iterator[str]:
    """Let data loaders start their workers in another way for a while."""
    before = multiprocessing.get_start_method()
    # what takes long to import is imported once
    multiprocessing.set_forkserver_preload(["torch", "pykeen.training", "pykeen_dans.training.loops"])
    multiprocessing.set_start_method(request.param, force=True)
    yield request.param
    multiprocessing.set_start_method(before, force=True)


def loader_of(sampler: Any, **kwargs: Any) -> DataLoader:
    factory = training_of("nations")
    instances = BatchedSLCWAInstances.from_triples_factory(
        factory, batch_size=256, drop_last=False, negative_sampler=sampler
    )
    return DataLoader(instances, batch_size=None, **kwargs)


@pytest.mark.parametrize(
    ("start_method", "sampler"),
    [
        ("fork", "dans"),
        ("forkserver", "dhns"),
        # each process imports everything, which takes a while
        pytest.param("spawn", "dans_kgc", marks=pytest.mark.nightly),
    ],
    indirect=["start_method"],
)
def test_workers_see_what_was_refreshed(start_method: str, sampler: str) -> None:
    tracker = PythonResultTracker()
    # a whole number of generated negatives of each positive
    loop = make_loop(tracker=tracker, negative_sampler=sampler, sampler_kwargs=dict(share=0.25))
    train(loop, num_workers=2, num_epochs=2)
    assert metrics_of(tracker, "fallback")[1] == 1
    assert metrics_of(tracker, "fallback")[2] < 0.2
    # nothing that two workers count is lost
    share = loop.negative_sampler_kwargs["coupling"].share
    total = metrics_of(tracker, "generated")[2] / (1 - metrics_of(tracker, "fallback")[2])
    assert total == pytest.approx(share * 4 * training_of("nations").num_triples)


def test_workers_that_stay_see_what_was_refreshed() -> None:
    """Forked workers that are kept from one epoch to the next share the memory of the bank."""
    sampler = make_sampler("nations", share=1.0, num_negs_per_pos=4)
    sampler.engine.bank.ids.fill_(-1)
    loader = loader_of(sampler, num_workers=1, persistent_workers=True)
    fallback = []
    for _ in range(2):
        sampler.engine.take_counts()
        assert len(list(loader)) == 7
        fallback.append(sampler.engine.take_counts()["fallback"])
        sampler.engine.bank.ids.fill_(3)
    assert fallback[0] == 1
    assert fallback[1] < 0.5


@pytest.mark.parametrize("num_workers", [0, 2])
def test_two_runs_are_equal(num_workers: int) -> None:
    """What a sampler draws depends on the seed, and not on the pace of the workers."""
    drawn = []
    for _ in range(2):
        sampler = make_sampler("nations", share=0.5, num_negs_per_pos=4, horizon=2, targets=(0.45, 0.2))
        torch.manual_seed(0)
        drawn.append([batch["negatives"] for _ in range(2) for batch in loader_of(sampler, num_workers=num_workers)])
    assert all(torch.equal(a, b) for a, b in zip(*drawn, strict=True))


SOFTMAX: dict[str, Any] = dict(model_kwargs=dict(loss="crossentropy"))
#: Loops of this package, and the options of each
LOOPS = {
    "curriculum": dict(cls=CurriculumTrainingLoop, sampler_kwargs=dict(generator_kwargs=dict(difficulty="learned"))),
    "eta": dict(cls=CurriculumTrainingLoop, eta=0.3),
    "subgraphs": dict(cls=CurriculumTrainingLoop),
    "shared subgraphs": dict(cls=DANSKGCTrainingLoop, num_shared=6, **SOFTMAX),
    "dans-kgc": dict(cls=DANSKGCTrainingLoop, num_shared=6, num_own=3, **SOFTMAX),
    "dans": dict(cls=DANSTrainingLoop, num_shared=6, num_vectors=2, negative_sampler="dans", **SOFTMAX),
}


@pytest.mark.parametrize("name", LOOPS)
def test_a_reproducible_training(name: str, isolated_cache: pathlib.Path) -> None:
    """It is the same with and without workers, and whether what is kept on disk is there or has to be made."""
    losses, weights = [], []
    for num_workers in (0, 2, 0):
        # nothing is left in memory
        coupling._alone.clear()
        reference._alive.clear()
        loop = make_loop(**LOOPS[name])
        torch.manual_seed(0)
        kwargs = dict(callbacks=None, callbacks_kwargs=dict(reproducible=True))
        chosen = "schlichtkrull" if "subgraphs" in name else None
        losses.append(train(loop, num_epochs=3, num_workers=num_workers, sampler=chosen, **kwargs))
        weights.append(loop.model.entity_representations[0](None).detach())
    assert losses[0] == losses[1] == losses[2]
    assert torch.equal(weights[0], weights[1])
    assert len(set(losses[0])) == 3
    assert name != "curriculum" or any(isolated_cache.rglob("*.safetensors"))


@pytest.mark.parametrize("num_workers", [0, 2])
@pytest.mark.parametrize("cls", [CurriculumTrainingLoop, SharedNegativesTrainingLoop])
def test_each_epoch_has_all_triples_in_another_order(cls: Any, num_workers: int) -> None:
    factory = training_of("nations")
    loop = make_loop(cls=cls, negative_sampler=BasicNegativeSampler, **SOFTMAX)
    loader = loop._create_training_data_loader(
        factory, sampler=None, batch_size=256, drop_last=False, num_workers=num_workers
    )
    epochs = [torch.cat([batch["positives"] for batch in loader]) for _ in range(2)]
    assert len(loader) == 7
    assert all(sorted(epoch.tolist()) == sorted(factory.mapped_triples.tolist()) for epoch in epochs)
    assert not torch.equal(*epochs)
    loader.dataset.drop_last = True
    assert [len(batch["positives"]) for batch in loader] == [256] * 6


def test_what_a_worker_is_sent_generates_nothing() -> None:
    sampler = make_sampler("nations")
    again = ForkingPickler.loads(ForkingPickler.dumps(sampler))
    assert set(vars(again.engine)) < set(vars(sampler.engine))
    assert not {"generator", "space", "random", "graph"} & set(vars(again.engine))
    batch = training_of("nations").mapped_triples[:50]
    torch.manual_seed(0)
    expected = sampler.corrupt_batch(batch)
    torch.manual_seed(0)
    assert torch.equal(again.corrupt_batch(batch), expected)


def test_no_shared_memory_is_needed_without_workers(monkeypatch: pytest.MonkeyPatch) -> None:
    """Docker gives 64 MiB of it."""

    def refuse(*args: Any) -> None:
        raise AssertionError

    monkeypatch.setattr(torch.UntypedStorage, "share_memory_", refuse)
    descriptors = pathlib.Path("/proc/self/fd")
    before = len(os.listdir(descriptors)) if descriptors.is_dir() else 0
    samplers = [make_sampler("nations", random_state=seed) for seed in range(3)]
    assert not any(sampler.engine.bank.ids.is_shared() for sampler in samplers)
    assert (len(os.listdir(descriptors)) if descriptors.is_dir() else 0) == before
    loop = make_loop()
    train(loop)
    assert last_engine(loop).bank.filled > 0


def test_too_little_memory_names_the_option(monkeypatch: pytest.MonkeyPatch) -> None:
    options = dict(num_queries=4, num_bands=1, num_slots=2, memory=3.5)
    monkeypatch.setattr(bank, "get_spawning_popen", object)
    made = NegativeBank(**options)

    def full(*args: Any) -> None:
        raise RuntimeError("unable to allocate shared memory(shm): No space left on device (28)")

    monkeypatch.setattr(torch.UntypedStorage, "share_memory_", full)
    with pytest.raises(ValueError, match=r"memory=3\.5 MiB .* more shared memory than there is .*No space.*less"):
        ForkingPickler.dumps(made)

    def none(*args: Any) -> None:
        raise OSError(12, "Cannot allocate memory")

    monkeypatch.setattr(processes.mmap, "mmap", none)
    with pytest.raises(ValueError, match=r"memory=3\.5 MiB cannot be had .*Cannot allocate memory.*choose less"):
        NegativeBank(**options)


def test_counts_are_added_up() -> None:
    counts = SharedCounts(2)
    counts.add(3, 1)
    counts.add(2, 0)
    assert counts.totals() == counts.estimate() == [5, 1]
    counts.reset(7, 7)
    assert counts.totals() == [7, 7]
