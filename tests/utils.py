"""What several tests of samplers and trainings need."""

from __future__ import annotations

import contextlib
import functools
import inspect
import random
import threading
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import torch
from pykeen.datasets import get_dataset
from pykeen.sampling import negative_sampler_resolver
from pykeen.sampling.filtering import PythonSetFilterer
from pykeen.triples import CoreTriplesFactory
from torch import Tensor

from pykeen_dans.sampling import GeneratedNegativeSampler

#: Options of all samplers by which everything that they prepare takes a fraction of a second
SMALL: dict[str, Any] = dict(
    num_slots=8,
    fit_steps=5,
    reference_kwargs=dict(dim=8, num_epochs=1, use_tqdm=False),
)

#: The same for the generators; nothing is trained for the difficulty of entities
_NETWORK: dict[str, Any] = dict(hidden_dim=16, num_blocks=1, batch_size=64, num_types=4)
SMALL_GENERATOR: dict[str, dict[str, Any]] = {
    "diffusion": {**_NETWORK, "difficulty": "degree"},
    "hierarchical": _NETWORK,
    "published-hierarchical": dict(hidden_dim=16, batch_size=64, num_types=4),
    "ridge": dict(num_types=4, difficulty="degree"),
    "two-way-gan": dict(batch_size=64, discriminator_steps=2),
    "prior": {},
    "uniform": {},
}

#: The generator of each sampler
GENERATORS = {"dans_kgc": "diffusion", "dans": "two-way-gan", "dhns": "hierarchical"}


def small(sampler: str = "dans_kgc", **kwargs: Any) -> dict[str, Any]:
    """Make options of a sampler, in which those that are given prevail, and are added to those of its generator."""
    generator = kwargs.get("generator") or GENERATORS[sampler]
    of_generator = {**SMALL_GENERATOR[generator], **(kwargs.pop("generator_kwargs", None) or {})}
    return {**SMALL, **({"generator_kwargs": of_generator} if of_generator else {}), **kwargs}


@functools.cache
def training_of(dataset: str, create_inverse_triples: bool = False) -> CoreTriplesFactory:
    """Get the training triples of a data set that ships with PyKEEN."""
    factory = get_dataset(dataset=dataset, dataset_kwargs=dict(create_inverse_triples=create_inverse_triples)).training
    assert isinstance(factory, CoreTriplesFactory)
    return factory


def make_sampler(dataset: str = "umls", sampler: str = "dans_kgc", **kwargs: Any) -> GeneratedNegativeSampler:
    """Make a small sampler for a data set."""
    factory = training_of(dataset)
    made = negative_sampler_resolver.make(
        sampler,
        mapped_triples=factory.mapped_triples,
        num_entities=factory.num_entities,
        num_relations=factory.num_relations,
        **small(sampler, **{"random_state": 0, **kwargs}),
    )
    assert isinstance(made, GeneratedNegativeSampler)
    return made


def is_training(triples: Tensor, dataset: str) -> Tensor:
    """Tell by PyKEEN's set of tuples which of them are training triples, shape: (...,)."""
    contained = PythonSetFilterer(training_of(dataset).mapped_triples).contains(triples.reshape(-1, 3))
    return contained.view(triples.shape[:-1])


def from_bank(sampler: GeneratedNegativeSampler, batch: Tensor, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Sample, and tell which negatives came from the bank.

    The uniform negatives are drawn first, so that those which differ from what the same seed gives without a bank came
    from it. (One that came from the bank and happens to be the same is not counted.)

    :returns: the negatives, and shape: (n, num_negs_per_pos) whether each came from the bank
    """
    torch.manual_seed(seed)
    negatives = sampler.corrupt_batch(batch)
    ids = sampler.engine.bank.ids
    kept = ids.clone()
    ids.fill_(-1)
    torch.manual_seed(seed)
    uniform = sampler.corrupt_batch(batch)
    ids.copy_(kept)
    return negatives, (negatives != uniform).any(dim=-1)


def replaced(negatives: Tensor, positives: Tensor) -> Tensor:
    """Tell the entity that each negative has in the place of the positive's.

    :param negatives: shape: (n, k, 3)
    :param positives: shape: (n, 3)

    :returns: shape: (n, k)
    """
    return torch.where(negatives[..., 0] != positives[:, None, 0], negatives[..., 0], negatives[..., 2])


def batch_of(dataset: str, size: int = 64) -> Tensor:
    """Take some training triples."""
    return training_of(dataset).mapped_triples[:size]


def check_negatives(negatives: Tensor, positives: Tensor, dataset: str) -> None:
    """Check what holds for each negative: valid ids, and exactly one side that differs from the positive."""
    factory = training_of(dataset)
    limits = torch.tensor([factory.num_entities, factory.num_relations, factory.num_entities])
    assert negatives.dtype == torch.long
    assert negatives.device.type == "cpu"
    assert ((negatives >= 0) & (negatives < limits)).all()
    differs = negatives != positives[..., None, :]
    assert not differs[..., 1].any(), "relations are kept"
    assert (differs[..., 0] ^ differs[..., 2]).all()


def parameters_of(cls: Any) -> Mapping[str, Any]:
    """List the parameters of a class by name, with those that it passes on to its base."""
    found: dict[str, Any] = {}
    for base in cls.__mro__:
        if "__init__" not in vars(base):
            continue
        parameters = inspect.signature(base).parameters.values()
        found = {p.name: p for p in parameters if p.kind is not p.VAR_KEYWORD} | found
        if not any(p.kind is p.VAR_KEYWORD for p in parameters):
            break
    return found


@contextlib.contextmanager
def thread_that_draws() -> Iterator[None]:
    """Let a thread beside this one draw from all global sources of randomness, and seed them, all the time."""
    ended, started = threading.Event(), threading.Event()

    def draw() -> None:
        while not ended.is_set():
            torch.manual_seed(5)
            torch.rand(3), torch.randperm(4), np.random.rand(), random.random()
            started.set()

    thread = threading.Thread(target=draw, daemon=True)
    thread.start()
    try:
        assert started.wait(timeout=30)
        yield
    finally:
        ended.set()
        thread.join(timeout=30)
