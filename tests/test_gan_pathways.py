"""The pathways of the two-way GAN: where they start from, what comes of them, and numerics."""

from __future__ import annotations

import dataclasses
import math

import pytest
import torch

from pykeen_dans.generators.base import Budget
from pykeen_dans.generators.film import SafeBatchNorm
from pykeen_dans.space.combination import (
    Combination,
    ComplexProductCombination,
    LearnedCombination,
    ProductCombination,
    ReciprocalProductCombination,
    RotationCombination,
    TranslationCombination,
)
from pykeen_dans.space.entity_space import EntitySpace

from .gans import QUERIES, SPACE, WORLD, fakes_of, fit, generate, make_generator, parameters_of
from .toys import DIM, NUM_RELATIONS, clustered_vectors, seeded


def test_pathways_make_fakes_of_their_own() -> None:
    """They are different tensors of different values, which the published code overwrites by each other."""
    generator = make_generator(sigma=0.0)
    fit(generator, 5)
    entity, relation = fakes_of(generator)
    assert entity.data_ptr() != relation.data_ptr()
    assert (entity - relation).abs().mean() > 0.05
    bands = generate(generator)
    assert bands.shape == (len(QUERIES), 4, DIM)
    # the first level is the fakes themselves
    torch.testing.assert_close(bands[:, 0], entity)
    torch.testing.assert_close(bands[:, 1], relation)


def test_what_each_pathway_reads() -> None:
    """One knows the kept entity only, the other the relation, too."""
    generator = make_generator(sigma=0.0)
    fit(generator, 5)
    other = dataclasses.replace(QUERIES, relations=(QUERIES.relations + 1) % NUM_RELATIONS)
    entity, relation = fakes_of(generator)
    other_entity, other_relation = generator.fakes(generator.context(SPACE, other), seeded())
    torch.testing.assert_close(other_entity, entity)
    assert (other_relation - relation).abs().mean() > 1e-3


def test_prior_without_noise() -> None:
    """With no noise, generation is deterministic, and the priors are the kept entity, and entity and relation."""
    generator = make_generator(sigma=0.0)
    context = generator.context(SPACE, QUERIES)
    entity, relation = generator.start(context, seeded())
    torch.testing.assert_close(entity.prior, SPACE.vectors[QUERIES.kept])
    torch.testing.assert_close(relation.prior, SPACE.queries(QUERIES.kept, QUERIES.relations, QUERIES.sides))
    for one, other in zip(fakes_of(generator, seed=1), fakes_of(generator, seed=2), strict=True):
        assert torch.equal(one, other)


def test_prior_with_noise() -> None:
    generator = make_generator(sigma=0.3)
    for start in generator.start(generator.context(SPACE, QUERIES), seeded()):
        noise = start.prior - start.condition
        assert noise.mean().abs() < 0.02
        assert noise.std().item() == pytest.approx(0.3, rel=0.05)


def test_noise_control_generates_the_priors() -> None:
    generator = make_generator(trained=False, distances=(1.0,))
    report = generator.fit(space=SPACE, world=WORLD, budget=Budget(units=5), random=seeded())
    assert (report.steps, report.metrics) == (0, {})
    bands = generate(generator)
    assert (bands[:, 0] - SPACE.vectors[QUERIES.kept]).abs().max() < 0.1


@pytest.mark.parametrize("way", ["entity", "relation"])
def test_single_pathway(way: str) -> None:
    """With one pathway there is nothing to tell apart."""
    generator = make_generator(ways=(way,))
    metrics = fit(generator, 3)
    assert not {"pathway_loss", "pathway_accuracy"} & set(metrics)
    assert generate(generator).shape == (len(QUERIES), 2, DIM)
    kept = generator.start(generator.context(SPACE, QUERIES), seeded())[0].condition
    assert torch.equal(kept, SPACE.vectors[QUERIES.kept]) == (way == "entity")


def test_without_pathway_loss() -> None:
    """The head that tells pathways apart is left as it was made, and fakes are others than with it."""
    generator = make_generator(pathway_loss=False)
    before = parameters_of(generator.discriminator.pathway)
    assert "pathway_loss" not in fit(generator, 3)
    assert all(torch.equal(before[name], p) for name, p in generator.discriminator.pathway.named_parameters())


def test_weight_of_the_pathway_loss() -> None:
    """With a weight, the pathways help the discriminator to tell them apart."""
    losses = []
    for weight in (0.0, 5.0):
        generator = make_generator(pathway_weight=weight, discriminator_learning_rate=1e-3)
        fit(generator, 15)
        losses.append(fit(generator, 5, seed=1)["pathway_loss"])
    assert losses[1] < losses[0]


# Combinations


@pytest.mark.parametrize(
    "combination", [ProductCombination(), ComplexProductCombination(), RotationCombination(), TranslationCombination()]
)
@pytest.mark.parametrize("inverse", ["conjugate", "reciprocal"])
def test_relations_of_zeros(combination: Combination, inverse: str) -> None:
    """Nothing explodes where entries of relations are zero, while the published code divides by them."""
    entities, relations = clustered_vectors()
    relations[0] = 0.0
    relations[1, ::2] = 1e-12
    if isinstance(combination, ComplexProductCombination):
        entities, relations = (
            torch.view_as_complex(x.view(-1, DIM // 2, 2).contiguous()) for x in (entities, relations)
        )
    space = EntitySpace.create(entities=entities, relations=relations, combination=combination)
    generator = make_generator(inverse=inverse)
    metrics = fit(generator, 3, space=space)
    assert all(math.isfinite(value) for value in metrics.values())
    assert torch.isfinite(generate(generator, space=space)).all()


@pytest.mark.parametrize("is_complex", [False, True])
def test_reciprocal(is_complex: bool) -> None:
    """It undoes the product, up to a bound where the relation is about zero."""
    torch.manual_seed(0)
    dtype = torch.cfloat if is_complex else torch.float
    entity, relation = torch.randn(2, 50, dtype=dtype) + 0.1
    relation[0], relation[1] = 0.0, 1e-6
    combination = ReciprocalProductCombination()
    back = combination.inverse(combination(entity, relation), relation)
    large = relation.abs() >= 1e-2
    assert large.sum() > 40
    torch.testing.assert_close(back[large], entity[large])
    assert combination.inverse(entity, relation).abs().max() <= 101 * entity.abs().max()
    assert combination.inverse(entity, relation)[0] == 0


def test_inverse_is_used_for_heads_only_and_for_products_only() -> None:
    entities, relations = clustered_vectors()
    for combination, differs in ((ProductCombination(), True), (TranslationCombination(), False)):
        space = EntitySpace.create(entities=entities, relations=relations, combination=combination)
        one, other = (make_generator(inverse=name).context(space, QUERIES) for name in ("conjugate", "reciprocal"))
        same = (one.query == other.query).all(dim=-1)
        assert bool(same[QUERIES.sides == 1].all())
        assert bool(same[QUERIES.sides == 0].all()) != differs


def test_unknown_interaction_is_learned() -> None:
    """Where nobody knows how the model combines, this is learned: the priors come near to the answers."""
    entities, _ = clustered_vectors()
    space = EntitySpace.create(entities=entities, relations=None, combination=TranslationCombination())
    assert not space.combines
    generator = make_generator(generator_learning_rate=3e-2, discriminator_steps=1)
    assert torch.equal(generator.context(space, QUERIES).query, space.vectors[QUERIES.kept])

    def error() -> float:
        answers = WORLD.index.sample_answer(QUERIES.rows, seeded())
        return (generator.context(space, QUERIES).query - space.vectors[answers]).pow(2).mean().item()

    before = error()
    fit(generator, 40, space=space)
    assert error() < 0.7 * before
    assert not generate(generator, space=space).requires_grad


def test_learned_combination_has_both_directions() -> None:
    combination = LearnedCombination(num_relations=2, dim=3)
    with torch.no_grad():
        combination.scale.weight[1] = 2.0
        combination.shift.weight[3] = 5.0
    kept = torch.ones(2, 3)
    actual = combination(kept, torch.tensor([1, 1]), torch.tensor([0, 1]))
    assert actual.tolist() == [[2.0] * 3, [6.0] * 3]


# Bands


def test_bands_come_nearer_to_the_positive() -> None:
    generator = make_generator(distances=(1.0, 0.5, 0.1))
    answers = WORLD.index.sample_answer(QUERIES.rows, seeded())
    bands = generate(generator)
    # the answers are drawn first, so that they are these
    distance = (bands - SPACE.vectors[answers][:, None]).norm(dim=-1).mean(dim=0).view(3, 2)
    torch.testing.assert_close(distance[1] / distance[0], torch.tensor([0.5, 0.5]))
    torch.testing.assert_close(distance[2] / distance[0], torch.tensor([0.1, 0.1]))


def test_adjusting_hardness() -> None:
    """A band moves within the room that those of its own pathway leave, the hardest one no nearer than asked for."""
    generator = make_generator(distances=(1.0, 0.5))
    assert generator.distances == [1.0, 1.0, 0.5, 0.5]
    assert not generator.adjust_hardness(0, harder=False), "a fake is no further from the positive than itself"
    assert not generator.adjust_hardness(3, harder=True)
    assert generator.adjust_hardness(1, harder=True)
    assert generator.distances == [1.0, 0.8, 0.5, 0.5]
    while generator.adjust_hardness(1, harder=True):
        pass
    assert generator.distances == [1.0, 0.5, 0.5, 0.5]
    while generator.adjust_hardness(1, harder=False):
        pass
    assert generator.distances == pytest.approx([1.0, 1.0, 0.5, 0.5])
    assert generator.adjust_hardness(3, harder=False)
    assert generator.distances == pytest.approx([1.0, 1.0, 0.5, 0.625])


# Numerics


def test_batch_of_one() -> None:
    """One vector has no variance: it is normalised by the running statistics, which stay as they are."""
    norm = SafeBatchNorm(DIM).train()
    norm(torch.randn(64, DIM, generator=seeded()))
    statistics = norm.running_mean.clone()
    single = torch.randn(1, DIM, generator=seeded(1))
    actual = norm(single)
    assert torch.equal(norm.running_mean, statistics)
    torch.testing.assert_close(actual, norm.eval()(single))
    generator = make_generator(batch_size=1)
    assert all(math.isfinite(value) for value in fit(generator, 3).values())
    assert torch.isfinite(generate(generator)).all()
    one = WORLD.index.select(torch.tensor([0]))
    assert generator.generate(space=SPACE, world=WORLD, queries=one, random=seeded()).shape == (1, 4, DIM)


def test_output_is_not_bounded_by_one() -> None:
    """Entity vectors are not, and the scale of the output is trained towards theirs."""
    generator = make_generator(generator_learning_rate=3e-3)
    before = generator.pathways[0].output_scale.clone()
    fit(generator, 20)
    assert not torch.equal(generator.pathways[0].output_scale, before)
    assert generator.pathways[0].output_scale.min() > 1.0


def test_same_seed_same_fakes() -> None:
    bands = []
    for seed in (0, 0, 1):
        generator = make_generator(seed)
        fit(generator, 5, seed=seed)
        bands.append(generate(generator, seed=seed))
    assert torch.equal(bands[0], bands[1])
    assert not torch.equal(bands[0], bands[2])


def test_nothing_reaches_the_space() -> None:
    """No gradient is left behind, and fakes carry none."""
    entities, relations = (x.requires_grad_() for x in clustered_vectors())
    space = EntitySpace.create(entities=entities, relations=relations, combination=TranslationCombination())
    generator = make_generator()
    fit(generator, 2, space=space)
    assert not generate(generator, space=space).requires_grad
    assert entities.grad is None
    assert relations.grad is None
    assert not space.vectors.requires_grad


def test_generating_changes_nothing() -> None:
    generator = make_generator()
    fit(generator, 3)
    before = {name: value.clone() for name, value in generator.state_dict().items()}
    generate(generator)
    assert all(torch.equal(value, before[name]) for name, value in generator.state_dict().items())


def test_no_budget_no_step() -> None:
    report = make_generator().fit(space=SPACE, world=WORLD, budget=Budget(units=0), random=seeded())
    assert (report.steps, report.metrics) == (0, {})
