"""The two-way GAN and its parts. Several of these tests fail for the code that was published with the paper."""

from __future__ import annotations

import dataclasses
import math
from typing import Any

import pytest
import torch
from pykeen.typing import FloatTensor

from pykeen_dans.generation.base import Budget
from pykeen_dans.generation.combination import (
    Combination,
    ComplexProductCombination,
    LearnedCombination,
    ProductCombination,
    ReciprocalProductCombination,
    RotationCombination,
    TranslationCombination,
)
from pykeen_dans.generation.discriminator import Context, TwoWayDiscriminator
from pykeen_dans.generation.film import FeatureModulation, PathwayNetwork, SafeBatchNorm
from pykeen_dans.generation.gan import TwoWayGANGenerator
from pykeen_dans.generation.space import EntitySpace

from .toys import DIM, NUM_RELATIONS, clustered_space, clustered_vectors, clustered_world, seeded

SPACE = clustered_space()
WORLD = clustered_world(typed=False)
QUERIES = WORLD.index.select(torch.arange(WORLD.index.num_queries))


def make_generator(seed: int = 0, **kwargs: Any) -> TwoWayGANGenerator:
    """Make a generator whose pathways make vectors of their own, as the paper's, unless something else is asked for."""
    torch.manual_seed(seed)
    return TwoWayGANGenerator(dim=DIM, num_relations=NUM_RELATIONS, **{"batch_size": 128, "residual": False, **kwargs})


def fit(
    generator: TwoWayGANGenerator, num_steps: int, *, space: EntitySpace = SPACE, seed: int = 0
) -> dict[str, float]:
    torch.manual_seed(seed)
    report = generator.fit(space=space, world=WORLD, budget=Budget(units=num_steps), random=seeded(seed))
    assert report.steps == num_steps
    return report.metrics


def generate(generator: TwoWayGANGenerator, *, space: EntitySpace = SPACE, seed: int = 0) -> FloatTensor:
    return generator.generate(space=space, world=WORLD, queries=QUERIES, random=seeded(seed))


def fakes_of(generator: TwoWayGANGenerator, *, seed: int = 0) -> list[FloatTensor]:
    return generator.fakes(generator.context(SPACE, QUERIES), seeded(seed))


def parameters_of(module: torch.nn.Module) -> dict[str, FloatTensor]:
    return {name: parameter.detach().clone() for name, parameter in module.named_parameters()}


# FiLM


def test_modulation_begins_as_the_identity() -> None:
    """A pathway with modulation begins as the plain network with the same weights."""
    plain, modulated = make_generator(film=False), make_generator(film=True)
    context = plain.context(SPACE, QUERIES)
    for one, other in zip(plain.pathways, modulated.pathways, strict=True):
        assert isinstance(one, PathwayNetwork)
        assert len(one.films) == 0
        # the weights of the other one are drawn in another order, so they are copied
        other.load_state_dict(one.state_dict(), strict=False)
        prior, condition = torch.randn_like(context.kept), context.query
        expected, no_penalty = one(prior, condition)
        actual, penalty = other(prior, condition)
        torch.testing.assert_close(actual, expected)
        assert penalty == no_penalty == 0


def test_modulation_scales_and_shifts() -> None:
    film = FeatureModulation(dim=2, hidden_dim=1)
    with torch.no_grad():
        for first, last, value in ((film.scale[0], film.scale[2], 0.5), (film.shift[0], film.shift[2], -3.0)):
            first.weight.fill_(1.0)
            last.weight.fill_(value)
    condition = torch.tensor([[0.25, 0.75], [0.0, 0.0]])
    actual, penalty = film(torch.tensor([[2.0, 4.0], [2.0, 4.0]]), condition)
    # the first is scaled by 1 + .5 and shifted by -3, and nothing comes of a condition of zeros
    torch.testing.assert_close(actual, torch.tensor([[0.0, 3.0], [2.0, 4.0]]))
    assert penalty.item() == pytest.approx((0.5**2 + 3.0**2) / 2 / 2)


def test_every_parameter_of_the_pathways_is_trained() -> None:
    """All of them change, those of the modulation too, which were in no optimiser of the published code."""
    generator = make_generator()
    before = parameters_of(generator.pathways)
    assert sum("films" in name for name in before) == 2 * 2 * 4
    # the last layers begin with zeros, so that the first ones have no gradient in the first step
    fit(generator, 2)
    for name, parameter in generator.pathways.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.abs().sum() > 0, name
        assert not torch.equal(parameter, before[name]), name


def test_penalty_holds_the_modulation_near_the_identity() -> None:
    penalties = [fit(make_generator(film_weight=weight), 30)["film_penalty"] for weight in (0.0, 100.0)]
    assert 0 < penalties[1] < 0.5 * penalties[0]


def test_modulation_depends_on_the_condition() -> None:
    """The same prior gives other fakes for other conditions, once the modulation is trained."""
    generator = make_generator()
    fit(generator, 30)
    pathway = generator.pathways[0].eval()
    prior = torch.randn(8, DIM, generator=seeded())
    one, other = (pathway(prior, torch.randn(8, DIM, generator=seeded(seed)))[0] for seed in (1, 2))
    assert (one - other).abs().mean() > 1e-3


def test_residual_pathways_begin_at_their_priors() -> None:
    """What they make is the prior at first, and something else once they are trained."""
    generator = make_generator(residual=True, sigma=0.0)
    context = generator.context(SPACE, QUERIES)
    for fake, prior in zip(fakes_of(generator), (context.kept, context.query), strict=True):
        assert torch.equal(fake, prior)
    before = parameters_of(generator.pathways)
    fit(generator, 3)
    assert all(not torch.equal(p, before[name]) for name, p in generator.pathways.named_parameters())
    for fake, prior in zip(fakes_of(generator), (context.kept, context.query), strict=True):
        assert 1e-3 < (fake - prior).abs().mean() < 1


def test_statistics_of_batches_are_those_of_the_current_vectors() -> None:
    """After a single step, hidden layers are normalised in generation as in training: fakes are not all alike."""
    generator = make_generator()
    fit(generator, 1)
    for fake in fakes_of(generator):
        assert fake.std(dim=0).mean() > 0.3
    assert all(norm.momentum == 0.1 for norm in generator.modules() if isinstance(norm, SafeBatchNorm))


# Discriminator


@pytest.mark.parametrize("conditional", [False, True])
def test_both_heads_begin_at_chance_and_have_gradients(conditional: bool) -> None:
    """The loss of telling the pathways apart is log 2 at first, rather than 0 as in the published code."""
    generator = make_generator(conditional=conditional, discriminator_steps=1)
    metrics = fit(generator, 1)
    assert metrics["pathway_loss"] == pytest.approx(math.log(2), abs=0.1)
    assert metrics["discriminator_loss"] == pytest.approx(math.log(2), abs=0.1)
    context = generator.context(SPACE, QUERIES)
    for head, other in ((0, "pathway"), (1, "adversarial")):
        generator.discriminator.zero_grad()
        features = generator.discriminator.features(context.kept, context)
        torch.nn.functional.softplus(generator.discriminator(features)[head]).mean().backward()
        for name, parameter in generator.discriminator.named_parameters():
            assert (parameter.grad is None) == name.startswith(other)
            assert parameter.grad is None or parameter.grad.abs().sum() > 0


def test_discriminator_learns_both_tasks() -> None:
    """Against pathways that stand still, it tells fakes from entities, and the pathways apart."""
    generator = make_generator(generator_learning_rate=1e-12, discriminator_learning_rate=1e-3)
    fit(generator, 40)
    metrics = fit(generator, 5, seed=1)
    assert metrics["adversarial_accuracy"] > 0.8
    assert metrics["pathway_accuracy"] > 0.8


def test_pathways_learn_to_pass_for_entities() -> None:
    """What they make comes to lie where entities are: nearer to them than what untrained networks make."""
    generator = make_generator(generator_learning_rate=1e-2, discriminator_learning_rate=1e-3)
    before = fakes_of(generator)
    fit(generator, 40)
    for early, late in zip(before, fakes_of(generator), strict=True):
        distances = [torch.cdist(fake, SPACE.vectors).min(dim=1).values.mean() for fake in (early, late)]
        assert distances[1] < distances[0]


def test_each_is_trained_by_its_own_step_only() -> None:
    """The pathways' step leaves the discriminator alone, and the other way round."""
    generator = make_generator()
    context = generator.context(SPACE, QUERIES)
    judge = parameters_of(generator.discriminator)
    fakes, _ = generator._generator_step(generator.start(context, seeded()), context, None)
    assert all(torch.equal(judge[name], p) for name, p in generator.discriminator.named_parameters())
    assert all(parameter.requires_grad for parameter in generator.discriminator.parameters())
    makers = parameters_of(generator.pathways)
    generator._discriminator_steps(SPACE.vectors[QUERIES.kept], fakes, context)
    assert all(torch.equal(makers[name], p) for name, p in generator.pathways.named_parameters())
    assert any(not torch.equal(judge[name], p) for name, p in generator.discriminator.named_parameters())
    assert not any(fake.requires_grad for fake in fakes)


def test_number_of_steps_of_the_discriminator() -> None:
    """For each step of the pathways it takes ten, or as many as are asked for."""
    for expected, kwargs in ((10, {}), (3, dict(discriminator_steps=3))):
        generator = make_generator(**kwargs)
        calls: list[torch.optim.Optimizer] = []
        for optimizer in (generator.generator_optimizer, generator.discriminator_optimizer):
            optimizer.register_step_post_hook(lambda optimizer, *_, calls=calls: calls.append(optimizer))
        fit(generator, 2)
        assert calls == 2 * [generator.generator_optimizer, *expected * [generator.discriminator_optimizer]]


def test_conditional_discriminator_sees_the_query() -> None:
    torch.manual_seed(0)
    vectors, *others = torch.randn(5, 4, DIM)
    for conditional in (False, True):
        judge = TwoWayDiscriminator(dim=DIM, conditional=conditional)
        one, other = (
            judge(judge.features(vectors, Context(kept=kept, query=query)))[0]
            for kept, query in (others[:2], others[2:])
        )
        assert torch.equal(one, other) == (not conditional)


# Pathways


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
    """A band moves within the room that those of its own pathway leave."""
    generator = make_generator(distances=(1.0, 0.5))
    assert generator.distances == [1.0, 1.0, 0.5, 0.5]
    assert not generator.adjust_hardness(0, harder=False), "a fake is no further from the positive than itself"
    assert generator.adjust_hardness(1, harder=True)
    assert generator.distances == [1.0, 0.8, 0.5, 0.5]
    while generator.adjust_hardness(3, harder=True):
        pass
    assert generator.distances == [1.0, 0.8, 0.5, 0.05]
    while generator.adjust_hardness(3, harder=False):
        pass
    assert generator.distances == [1.0, 0.8, 0.5, 0.8]


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
