"""The pathways of the two-way GAN: where they start from, what comes of them, and numerics."""

from __future__ import annotations

import dataclasses
import math

import pytest
import torch

from pykeen_dans.generators.film import SafeBatchNorm
from pykeen_dans.space import EntitySpace
from pykeen_dans.space.combination import (
    Combination,
    ComplexProductCombination,
    ProductCombination,
    RotationCombination,
    TranslationCombination,
)

from .gans import GRAPH, QUERIES, SPACE, fakes_of, fit, generate, make_generator, parameters_of
from .toys import DIM, NUM_RELATIONS, clustered_vectors, seeded


def test_pathways_make_fakes_of_their_own() -> None:
    """They are different tensors of different values, which the published code overwrites by each other."""
    generator = make_generator(sigma=0.0)
    fit(generator, 5)
    entity, relation = fakes_of(generator)
    assert entity.data_ptr() != relation.data_ptr()
    assert (entity - relation).abs().mean() > 0.05
    bands = generate(generator)
    assert bands.shape == (len(QUERIES), 2, 2, DIM)
    # the first band is the fakes themselves
    torch.testing.assert_close(bands[:, 0, 0], entity)
    torch.testing.assert_close(bands[:, 0, 1], relation)


def test_what_each_pathway_reads() -> None:
    """One knows the kept entity only, the other the relation, too."""
    generator = make_generator(sigma=0.0)
    fit(generator, 5)
    other = dataclasses.replace(QUERIES, relations=(QUERIES.relations + 1) % NUM_RELATIONS)
    entity, relation = fakes_of(generator)
    other_entity, other_relation = generator.fakes(SPACE, other, seeded())
    torch.testing.assert_close(other_entity, entity)
    assert (other_relation - relation).abs().mean() > 1e-3


def test_prior_without_noise() -> None:
    """With no noise, generation is deterministic, and the priors are the kept entity, and entity and relation."""
    generator = make_generator(sigma=0.0)
    entity, relation = generator.start(SPACE, QUERIES, seeded())
    torch.testing.assert_close(entity.prior, SPACE.vectors[QUERIES.kept])
    torch.testing.assert_close(relation.prior, SPACE.queries(QUERIES.kept, QUERIES.relations, QUERIES.sides))
    for one, other in zip(fakes_of(generator, seed=1), fakes_of(generator, seed=2), strict=True):
        assert torch.equal(one, other)


def test_prior_with_noise() -> None:
    generator = make_generator(sigma=0.3)
    for start in generator.start(SPACE, QUERIES, seeded()):
        noise = start.prior - start.condition
        assert noise.mean().abs() < 0.02
        assert noise.std().item() == pytest.approx(0.3, rel=0.05)


@pytest.mark.parametrize("pathways", ["entity", ("relation",)])
def test_single_pathway(pathways: str | tuple[str, ...]) -> None:
    """With one pathway there is nothing to tell apart."""
    generator = make_generator(pathways=pathways)
    metrics = fit(generator, 3)
    assert not {"pathway_loss", "pathway_accuracy"} & set(metrics)
    assert generate(generator).shape == (len(QUERIES), 2, 1, DIM)
    (start,) = generator.start(SPACE, QUERIES, seeded())
    assert torch.equal(start.condition, SPACE.vectors[QUERIES.kept]) == (pathways == "entity")


def test_without_the_second_head_it_is_left_as_it_was_made() -> None:
    """The head that tells pathways apart is not trained, and fakes are others than with it."""
    generator, with_it = make_generator(two_heads=False), make_generator()
    before = parameters_of(generator.discriminator.pathway)
    assert "pathway_loss" not in fit(generator, 3)
    assert "pathway_loss" in fit(with_it, 3)
    assert all(torch.equal(before[name], p) for name, p in generator.discriminator.pathway.named_parameters())
    for one, other in zip(fakes_of(generator), fakes_of(with_it), strict=True):
        assert (one - other).abs().mean() > 1e-3


def test_weight_of_the_pathway_loss() -> None:
    """With a weight, the pathways help the discriminator to tell them apart."""
    losses = []
    for weight in (0.0, 5.0):
        generator = make_generator(pathway_weight=weight, discriminator_learning_rate=2e-3, discriminator_steps=5)
        fit(generator, 10)
        losses.append(fit(generator, 5, seed=1)["pathway_loss"])
    assert losses[1] < losses[0]


# Combinations


@pytest.mark.parametrize(
    "combination", [ProductCombination(), ComplexProductCombination(), RotationCombination(), TranslationCombination()]
)
def test_relations_of_zeros(combination: Combination) -> None:
    """Nothing explodes where entries of relations are zero, while the published code divides by them."""
    entities, relations = clustered_vectors()
    relations[0] = 0.0
    relations[1, ::2] = 1e-12
    if isinstance(combination, ComplexProductCombination):
        entities, relations = (
            torch.view_as_complex(x.view(-1, DIM // 2, 2).contiguous()) for x in (entities, relations)
        )
    space = EntitySpace.create(entities=entities, relations=relations, combination=combination)
    generator = make_generator()
    metrics = fit(generator, 3, space=space)
    assert all(math.isfinite(value) for value in metrics.values())
    assert torch.isfinite(generate(generator, space=space)).all()


# Bands


def test_bands_come_nearer_to_the_positive() -> None:
    generator = make_generator(num_bands=3, distances=(1.0, 0.5, 0.1))
    answers = GRAPH.index.sample_answer(QUERIES.rows, seeded())
    # the answers are drawn first, so that they are these
    distance = (generate(generator) - SPACE.vectors[answers][:, None, None]).norm(dim=-1).mean(dim=0)
    torch.testing.assert_close(distance[1] / distance[0], torch.tensor([0.5, 0.5]))
    torch.testing.assert_close(distance[2] / distance[0], torch.tensor([0.1, 0.1]))


def test_adjusting_hardness() -> None:
    """A band moves within the room that those of its own pathway leave, the hardest one no nearer than asked for."""
    generator = make_generator(distances=(1.0, 0.5))
    assert generator.distances == [[1.0, 1.0], [0.5, 0.5]]
    assert not generator.adjust_hardness(0, 0, harder=False), "a fake is no further from the positive than itself"
    assert not generator.adjust_hardness(1, 1, harder=True)
    assert generator.adjust_hardness(0, 1, harder=True)
    assert generator.distances == [[1.0, 0.8], [0.5, 0.5]]
    while generator.adjust_hardness(0, 1, harder=True):
        pass
    # neighbours keep their distance
    assert generator.distances == [[1.0, pytest.approx(0.55)], [0.5, 0.5]]
    assert not generator.adjust_hardness(1, 1, harder=False)
    while generator.adjust_hardness(0, 1, harder=False):
        pass
    assert generator.distances == [[1.0, 1.0], [0.5, 0.5]]
    assert generator.adjust_hardness(1, 1, harder=False)
    assert generator.distances == [[1.0, 1.0], [0.5, 0.625]]


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
    one = GRAPH.index.select(torch.tensor([0]))
    assert generator.generate(space=SPACE, graph=GRAPH, queries=one, random=seeded()).shape == (1, 2, 2, DIM)


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


BAD: list[tuple[dict[str, object], str]] = [
    (dict(sigma=-0.1), r"sigma=-0.1 is negative"),
    (dict(sigma=math.nan), r"sigma=nan is not a finite number"),
    (dict(pathways=()), r"pathways=\(\) must name 'entity', 'relation', or both"),
    (dict(pathways=("entity", "tail")), r"pathways=\('entity', 'tail'\) must name 'entity', 'relation', or both"),
    (dict(pathways=("entity", "entity")), r"pathways=\('entity', 'entity'\) must name .* once each"),
    (dict(distances=(0.5, 1.0)), r"distances=\(0.5, 1.0\) must be 2 numbers in \(0, 1\], .*the easiest"),
    (dict(distances=(1.5, 0.5)), r"distances=\(1.5, 0.5\) must be 2 numbers in \(0, 1\]"),
    (dict(distances=(1.0,)), r"distances=\(1.0,\) must be 2 numbers .*one for each target"),
    (dict(film_weight=-1.0), r"film_weight=-1.0 is negative"),
    (dict(pathway_weight=-1.0), r"pathway_weight=-1.0 is negative"),
    (dict(generator_learning_rate=0.0), r"generator_learning_rate=0.0 is not positive"),
    (dict(discriminator_learning_rate=-1e-3), r"discriminator_learning_rate=-0.001 is not positive"),
    (dict(discriminator_steps=0), r"discriminator_steps=0 .*1 or more"),
    (dict(generator_steps=0), r"generator_steps=0 .*1 or more"),
    (dict(batch_size=0), r"batch_size=0 .*1 or more"),
]


@pytest.mark.parametrize(("options", "message"), BAD, ids=lambda value: str(value)[:60])
def test_bad_options(options: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make_generator(**options)
