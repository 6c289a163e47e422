"""The space of generation: standardised vectors of models, and queries that mean what the model means."""

from __future__ import annotations

import functools
from typing import Any

import pytest
import torch
from pykeen.datasets import Nations
from pykeen.models import ERModel, FixedModel, model_resolver
from pykeen.triples import TriplesFactory

from pykeen_dans.graph import HEAD, TAIL
from pykeen_dans.space import (
    EntitySpace,
    NonFiniteSpaceError,
    UnsupportedModelError,
    combination_for,
    live_space,
    real_view,
    reference_space,
)
from pykeen_dans.space.combination import (
    ComplexProductCombination,
    LearnedCombination,
    ProductCombination,
    RotationCombination,
    TranslationCombination,
)
from pykeen_dans.utils.models import evaluating

from .toys import make_space, seeded


@functools.cache
def nations() -> TriplesFactory:
    return Nations().training


def make_model(name: str, **kwargs: Any) -> ERModel[Any, Any, Any]:
    model = model_resolver.make(name, triples_factory=nations(), embedding_dim=8, random_seed=0, **kwargs)
    assert isinstance(model, ERModel)
    return model


def test_vectors_are_standardised() -> None:
    entities = torch.randn(50, 6, generator=seeded()) * torch.arange(1, 7) * 0.01 + torch.arange(6) * 3
    space = make_space(entities)
    assert (space.num_entities, space.dim) == (50, 6)
    torch.testing.assert_close(space.vectors.mean(dim=0), torch.zeros(6), atol=1e-4, rtol=0)
    torch.testing.assert_close(space.vectors.var(dim=0, unbiased=False), torch.ones(6), atol=1e-3, rtol=0)


def test_constant_dimensions_stay_finite_and_find_back() -> None:
    entities = torch.randn(20, 3, generator=seeded())
    entities[:, 1] = 7.0
    space = make_space(entities)
    assert (space.vectors[:, 1] == 0).all()
    torch.testing.assert_close(space.restore(space.vectors), entities)
    # all entities alike, as those of a model that has collapsed
    assert torch.isfinite(make_space(torch.full((5, 2), 0.3)).vectors).all()


@pytest.mark.parametrize(
    ("shape", "dtype"),
    [((6,), torch.float32), ((6,), torch.complex64), ((2, 3), torch.float32), ((2, 3), torch.complex64)],
)
def test_restore_is_the_inverse(shape: tuple[int, ...], dtype: torch.dtype) -> None:
    entities = torch.randn(30, *shape, generator=seeded(), dtype=dtype) * 2 + 0.5
    space = make_space(entities)
    assert space.vectors.dtype == torch.float32
    assert space.dim == 6 * (2 if dtype.is_complex else 1)
    restored = space.restore(space.vectors)
    assert restored.dtype == dtype
    torch.testing.assert_close(restored, entities)
    # further dimensions before the last one go through
    latent = space.vectors[:12].view(3, 4, -1)
    torch.testing.assert_close(space.restore(latent), entities[:12].view(3, 4, *shape))


def test_complex_vectors_show_real_and_imaginary_part_as_neighbours() -> None:
    x = torch.tensor([[1 + 2j, 3 - 4j]])
    assert real_view(x).tolist() == [[1, 2, 3, -4]]
    assert real_view(x.real).tolist() == [[1, 3]]


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
@pytest.mark.parametrize("part", ["entities", "relations"])
def test_values_that_are_not_finite_are_an_error(part: str, value: float) -> None:
    vectors = {"entities": torch.randn(14, 4), "relations": torch.randn(5, 4)}
    vectors[part][3, 1] = value
    with pytest.raises(NonFiniteSpaceError, match=rf"{part}: 1 of {len(vectors[part])} .*lower the learning rate"):
        reference_space(**vectors)


def test_a_diverged_model_is_an_error() -> None:
    model = make_model("RotatE")
    with torch.no_grad():
        next(model.entity_representations[0].parameters())[2] = float("nan")
    model.train()
    with pytest.raises(NonFiniteSpaceError, match="entities: 1 of 14"):
        live_space(model)
    assert model.training


def test_a_model_without_entity_vectors_is_an_error() -> None:
    with pytest.raises(UnsupportedModelError, match="FixedModel has no entity representations"):
        live_space(FixedModel(triples_factory=nations()))


def raw_queries(space: EntitySpace, sides: int, pairs: torch.Tensor) -> torch.Tensor:
    return space.queries(pairs[:, 0], pairs[:, 1], torch.full((len(pairs),), sides)) * space.query_scale


@pytest.mark.parametrize("side", [HEAD, TAIL])
@pytest.mark.parametrize("name", ["TransE", "DistMult", "ComplEx", "RotatE"])
def test_comparison_with_the_query_is_the_score_of_the_model(name: str, side: int) -> None:
    model = make_model(name, **({"scoring_fct_norm": 2} if name == "TransE" else {}))
    space = live_space(model)
    assert space.raw_relations is not None
    entities = real_view(space.raw_entities)
    # every entity with every relation
    pairs = torch.cartesian_prod(torch.arange(model.num_entities), torch.arange(model.num_relations))
    query = raw_queries(space, side, pairs)
    if name in ("TransE", "RotatE"):
        expected = -(query[:, None, :] - entities[None]).norm(dim=-1)
    else:
        expected = query @ entities.T
    with evaluating(model):
        scores = model.score_t(pairs) if side == TAIL else model.score_h(pairs.flip(-1))
    torch.testing.assert_close(scores, expected, atol=1e-4, rtol=1e-4)
    # the two sides are told apart, wherever the model tells them apart
    assert torch.equal(raw_queries(space, 1 - side, pairs), query) == (name == "DistMult")


def test_sides_may_be_mixed() -> None:
    space = live_space(make_model("ComplEx"))
    pairs = torch.cartesian_prod(torch.arange(5), torch.arange(4))
    sides = torch.arange(20) % 2
    mixed = space.queries(pairs[:, 0], pairs[:, 1], sides)
    heads, tails = (space.queries(pairs[:, 0], pairs[:, 1], torch.full((20,), side)) for side in (HEAD, TAIL))
    assert torch.equal(mixed, torch.where(sides[:, None] == TAIL, tails, heads))


@pytest.mark.parametrize("name", ["TransE", "DistMult", "ComplEx", "RotatE"])
@pytest.mark.parametrize("size", [1e-3, 1.0])
def test_queries_have_unit_size(name: str, size: float) -> None:
    model = make_model(name)
    with torch.no_grad():
        for parameter in model.entity_representations[0].parameters():
            parameter *= size
    space = live_space(model)
    pairs = torch.cartesian_prod(torch.arange(model.num_entities), torch.arange(model.num_relations))
    for side in (HEAD, TAIL):
        query = space.queries(pairs[:, 0], pairs[:, 1], torch.full((len(pairs),), side))
        assert query.pow(2).mean().sqrt().item() == pytest.approx(1, abs=0.3)


@pytest.mark.parametrize("name", ["TuckER", "SimplE"])
def test_without_a_known_combination_the_query_is_the_kept_entity(name: str) -> None:
    space = live_space(make_model(name))
    kept = torch.tensor([3, 1])
    assert torch.equal(space.queries(kept, torch.tensor([0, 2]), torch.tensor([HEAD, TAIL])), space.vectors[kept])


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("TransE", TranslationCombination),
        ("DistMult", ProductCombination),
        ("ComplEx", ComplexProductCombination),
        ("RotatE", RotationCombination),
        ("TuckER", type(None)),
    ],
)
def test_combinations_are_known_by_the_interaction(name: str, expected: type) -> None:
    model = make_model(name)
    assert type(combination_for(model.interaction)) is expected
    assert live_space(model).combines == (expected is not type(None))


def test_a_learned_combination_begins_as_the_identity_and_has_both_directions() -> None:
    combination = LearnedCombination(num_relations=2, dim=3)
    kept, relations, sides = torch.ones(2, 3), torch.tensor([1, 1]), torch.tensor([HEAD, TAIL])
    assert torch.equal(combination(kept, relations, sides), kept)
    with torch.no_grad():
        combination.scale.weight[1] = 2.0
        combination.shift.weight[3] = 5.0
    assert combination(kept, relations, sides).tolist() == [[2.0] * 3, [6.0] * 3]


def test_vectors_may_be_left_as_they_are() -> None:
    entities, relations = torch.randn(9, 4, generator=seeded()) * 5 + 2, torch.randn(2, 4, generator=seeded(1))
    space = EntitySpace.create(
        entities=entities, relations=relations, combination=TranslationCombination(), standardised=False
    )
    assert torch.equal(space.vectors, entities)
    assert torch.equal(space.restore(space.vectors), entities)
    query = space.queries(torch.tensor([3]), torch.tensor([1]), torch.tensor([TAIL]))
    assert torch.equal(query, entities[[3]] + relations[[1]])


def test_encoders_give_enriched_vectors() -> None:
    model = make_model("RGCN")
    space = live_space(model)
    (representation,) = model.entity_representations
    plain = representation.entity_embeddings(indices=None).detach()
    assert not torch.allclose(space.raw_entities, plain)
    with evaluating(model):
        torch.testing.assert_close(space.raw_entities, representation(indices=None))


def test_encoders_keep_learning_after_their_vectors_were_read() -> None:
    model = make_model("RGCN")
    model.train()
    live_space(model)
    model.score_hrt(nations().mapped_triples[:8]).sum().backward()
    for name, parameter in model.entity_representations[0].named_parameters():
        assert parameter.grad is not None, name


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("name", ["ComplEx", "RGCN"])
def test_reading_a_model_leaves_no_trace(name: str, training: bool) -> None:
    model = make_model(name)
    model.train(training)
    before = {key: value.clone() for key, value in model.state_dict().items()}
    space = live_space(model)
    assert model.training is training
    assert all(parameter.grad is None for parameter in model.parameters())
    assert all(torch.equal(before[key], value) for key, value in model.state_dict().items())
    # there is no regularisation term left either
    assert float(model.collect_regularization_term()) == 0.0
    for tensor in (space.vectors, space.raw_entities, space.raw_relations, space.query_scale):
        assert tensor is not None
        assert not tensor.requires_grad


def test_a_space_keeps_its_vectors_while_the_model_learns_on() -> None:
    model = make_model("DistMult")
    space = live_space(model)
    before = space.raw_entities.clone()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.zero_()
    assert torch.equal(space.raw_entities, before)


def test_evaluation_ends_when_something_fails() -> None:
    model = make_model("RGCN")
    model.train()
    with pytest.raises(KeyError), evaluating(model):
        assert not model.training
        raise KeyError
    assert model.training
    assert torch.is_grad_enabled()


def test_reference_space_has_translations() -> None:
    entities, relations = torch.randn(9, 4, generator=seeded()), torch.randn(2, 4, generator=seeded(1))
    space = reference_space(entities=entities, relations=relations)
    assert isinstance(space.combination, TranslationCombination)
    kept, relation = torch.tensor([3, 3]), torch.tensor([1, 1])
    query = space.queries(kept, relation, torch.tensor([HEAD, TAIL])) * space.query_scale
    torch.testing.assert_close(query, torch.stack([entities[3] - relations[1], entities[3] + relations[1]]))


def test_members_alone_make_the_statistics_and_are_drawn() -> None:
    vectors = torch.randn(20, 3, generator=seeded())
    members = torch.tensor([2, 3, 5, 7, 11])
    outside = torch.ones(20, dtype=torch.bool)
    outside[members] = False
    vectors[outside] = 1e6
    space = EntitySpace.create(entities=vectors, relations=None, combination=TranslationCombination(), members=members)
    assert space.num_members == 5
    assert torch.allclose(space.mean, vectors[members].mean(dim=0))
    assert space.draw(5, seeded()).tolist() == members.tolist()
    drawn = [space.draw(3, seeded(seed)).tolist() for seed in range(20)]
    assert all(len(set(ids)) == 3 and set(ids) <= set(members.tolist()) for ids in drawn)
    assert {entity for ids in drawn for entity in ids} == set(members.tolist())


def test_a_space_moves_as_a_whole() -> None:
    entities, relations = torch.randn(8, 3, generator=seeded()), torch.randn(2, 3, generator=seeded())
    space = EntitySpace.create(
        entities=entities, relations=relations, combination=TranslationCombination(), members=torch.arange(4)
    )
    # a device without data, which is there on any machine
    moved = space.to("meta")
    assert moved.device.type == "meta"
    assert moved.raw_relations is not None and moved.members is not None
    for vectors in (moved.mean, moved.deviation, moved.raw_entities, moved.raw_relations, moved.query_scale):
        assert vectors.device.type == "meta"
    assert moved.members.device.type == "cpu"
    assert moved.vectors.shape == space.vectors.shape
