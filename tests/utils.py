"""What several tests of samplers and trainings need."""

from __future__ import annotations

import functools
from typing import Any

import torch
from pykeen.datasets import get_dataset
from pykeen.sampling.filtering import PythonSetFilterer
from pykeen.triples import CoreTriplesFactory
from torch import Tensor

from pykeen_dans.sampling import (
    DiffusionAdaptiveNegativeSampler,
    GeneratedNegativeSampler,
    TwoWayGANNegativeSampler,
)

#: Options by which everything that a sampler prepares takes a fraction of a second, and a curriculum that does not
#: change with the default one
SMALL: dict[str, Any] = dict(
    curriculum="exponential",
    curriculum_kwargs=dict(share=0.25),
    num_slots=8,
    num_types=4,
    hidden_dim=16,
    num_blocks=1,
    fit_steps=5,
    batch_size=64,
    reference_kwargs=dict(dim=8, num_epochs=1, use_tqdm=False),
    difficulty_kwargs=dict(hidden_dim=8),
)

#: The same for the two-way GAN
SMALL_GAN: dict[str, Any] = {
    **{key: SMALL[key] for key in ("curriculum", "curriculum_kwargs", "num_types", "reference_kwargs")},
    **dict(num_slots=8, fit_steps=5, batch_size=64, film_dim=8, discriminator_steps=2),
}


@functools.cache
def training_of(dataset: str, create_inverse_triples: bool = False) -> CoreTriplesFactory:
    """Get the training triples of a data set that ships with PyKEEN."""
    factory = get_dataset(dataset=dataset, dataset_kwargs=dict(create_inverse_triples=create_inverse_triples)).training
    assert isinstance(factory, CoreTriplesFactory)
    return factory


def make_sampler(dataset: str = "umls", **kwargs: Any) -> DiffusionAdaptiveNegativeSampler:
    """Make a small sampler for a data set."""
    factory = training_of(dataset)
    return DiffusionAdaptiveNegativeSampler(
        mapped_triples=factory.mapped_triples,
        num_entities=factory.num_entities,
        num_relations=factory.num_relations,
        **{**SMALL, "random_state": 0, **kwargs},
    )


def make_gan_sampler(dataset: str = "umls", **kwargs: Any) -> TwoWayGANNegativeSampler:
    """Make a small sampler with a two-way GAN for a data set."""
    factory = training_of(dataset)
    return TwoWayGANNegativeSampler(
        mapped_triples=factory.mapped_triples,
        num_entities=factory.num_entities,
        num_relations=factory.num_relations,
        **{**SMALL_GAN, "random_state": 0, **kwargs},
    )


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
