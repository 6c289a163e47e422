"""Known answers: the positive in hand is never drawn, and the others as was asked for."""

from __future__ import annotations

import pytest
import torch
from pykeen.datasets import get_dataset
from torch import Tensor

from pykeen_dans.graph import HEAD, TAIL
from pykeen_dans.sampling import GeneratedNegativeSampler

from .utils import from_bank, is_training, make_sampler, replaced, training_of

pytestmark = pytest.mark.usefixtures("shared_cache", "no_engines")

every_sampler = pytest.mark.parametrize("sampler", ["dans_kgc", "dans", "dhns"])


def positives_outside_of_training(dataset: str) -> Tensor:
    """Make positives that training does not have: held-out ones, and ones of queries that it lacks."""
    data = get_dataset(dataset=dataset)
    others = [factory.mapped_triples for factory in (data.validation, data.testing) if factory is not None]
    random = torch.Generator().manual_seed(0)
    limits = (data.num_entities, data.num_relations, data.num_entities)
    unknown = torch.stack([torch.randint(n, size=(300,), generator=random) for n in limits], dim=-1)
    # an entity with itself
    loops = unknown.clone()
    loops[:, 2] = loops[:, 0]
    return torch.cat([*others, unknown, loops])


@pytest.mark.parametrize("memory", [256.0, 0.01])
@pytest.mark.parametrize("scheme", [("head",), ("tail",), ("head", "tail")])
@pytest.mark.parametrize("known_answers", ["compete", "mask"])
def test_positive_in_hand_is_never_drawn(known_answers: str, scheme: tuple[str, ...], memory: float) -> None:
    """Whatever is in the bank, also for a positive that training does not have, and of a query that it lacks."""
    sampler = make_sampler(
        "nations", num_negs_per_pos=6, share=1.0, known_answers=known_answers, corruption_scheme=scheme, memory=memory
    )
    assert sampler.engine.bank.shared == (memory < 1)
    ids = sampler.engine.bank.ids
    for positives in (training_of("nations").mapped_triples, positives_outside_of_training("nations")):
        # what was generated, and each entity in turn in all slots
        for entity in (None, *range(sampler.num_entities)):
            if entity is not None:
                kept, ids[:] = ids.clone(), entity
            torch.manual_seed(entity or 0)
            negatives = sampler.corrupt_batch(positives)
            assert (negatives != positives[:, None]).any(dim=-1).all()
            if entity is not None:
                ids.copy_(kept)


@every_sampler
@pytest.mark.parametrize("memory", [256.0, 0.01])
@pytest.mark.parametrize("dataset", ["nations", "umls"])
def test_masked_answers_are_never_drawn(sampler: str, dataset: str, memory: float) -> None:
    """What comes from the bank is no training triple, also when queries share rows for want of memory."""
    made = make_sampler(dataset, sampler, num_negs_per_pos=8, memory=memory, share=1.0, known_answers="mask")
    bank = made.engine.bank
    assert bank.shared == (memory < 1)
    assert bank.ids.nbytes <= memory * 2**20
    positives = training_of(dataset).mapped_triples
    negatives, generated = from_bank(made, positives)
    assert generated.float().mean() > 0.5
    known = is_training(negatives, dataset)
    assert not (known & generated).any()
    if not bank.shared:
        # all others are of queries for which no candidate was found
        empty = (bank.ids < 0).flatten(start_dim=1).any(dim=1)
        assert empty[_queries_of(made, negatives, positives)[known]].all()
    positives = positives_outside_of_training(dataset)
    negatives, generated = from_bank(made, positives)
    assert generated.any()
    assert not (is_training(negatives, dataset) & generated).any()


def _queries_of(sampler: GeneratedNegativeSampler, negatives: Tensor, positives: Tensor) -> Tensor:
    """Find the query that each negative answers."""
    side = torch.where(negatives[..., 2] != positives[:, None, 2], TAIL, HEAD)
    kept = torch.where(side == TAIL, positives[:, None, 0], positives[:, None, 2])
    relation = positives[:, None, 1].expand_as(kept)
    index = sampler.engine.index
    return index.find(kept.flatten(), relation.flatten(), side.flatten()).view(kept.shape)


@every_sampler
@pytest.mark.parametrize("memory", [256.0, 0.01])
def test_competing_answers_may_be_drawn(sampler: str, memory: float) -> None:
    """By default, other answers of a query are among its negatives, as they are near to what is generated."""
    made = make_sampler("umls", sampler, num_negs_per_pos=8, share=1.0, memory=memory)
    assert made.engine.settings.known_answers == "compete"
    positives = training_of("umls").mapped_triples
    negatives, generated = from_bank(made, positives)
    known = is_training(negatives, "umls")
    assert (known & generated).sum() > 1_000
    # each is true, and another one than the positive
    assert (negatives != positives[:, None])[known & generated].any(dim=-1).all()


def test_competing_answers_are_those_of_the_bank() -> None:
    """Where an answer of the query is all that the bank has, it is drawn for all other positives of the query."""
    sampler = make_sampler("umls", num_negs_per_pos=1, share=1.0, corruption_scheme=("tail",))
    triples = training_of("umls").mapped_triples
    keys, counts = torch.unique(triples[:, :2], dim=0, return_counts=True)
    head, relation = keys[counts.argmax()].tolist()
    positives = triples[(triples[:, 0] == head) & (triples[:, 1] == relation)]
    assert len(positives) > 20
    answer = int(positives[3, 2])
    sampler.engine.bank.ids.fill_(answer)
    drawn = replaced(sampler.corrupt_batch(positives), positives)[:, 0]
    assert (drawn[positives[:, 2] != answer] == answer).all()
    assert (drawn[positives[:, 2] == answer] != answer).all()
