"""The networks of the two-way GAN. Several of these tests fail for the code that was published with the paper."""

from __future__ import annotations

import math

import pytest
import torch

from pykeen_dans.generators import TwoWayGANGenerator
from pykeen_dans.generators.film import FeatureModulation, PathwayNetwork, SafeBatchNorm
from pykeen_dans.space import LearnedCombination

from .gans import GRAPH, QUERIES, SPACE, fakes_of, fit, make_generator, parameters_of
from .toys import DIM, clustered_vectors, make_space, seeded

KEPT, COMBINED = SPACE.vectors[QUERIES.kept], SPACE.queries(QUERIES.kept, QUERIES.relations, QUERIES.sides)

# FiLM


def test_modulation_begins_as_the_identity() -> None:
    """A pathway with modulation begins as the plain network with the same weights."""
    plain, modulated = make_generator(film=False), make_generator(film=True)
    for one, other in zip(plain.pathways, modulated.pathways, strict=True):
        assert isinstance(one, PathwayNetwork)
        assert len(one.films) == 0
        # the weights of the other one are drawn in another order, so they are copied
        other.load_state_dict(one.state_dict(), strict=False)
        prior, condition = torch.randn_like(KEPT), COMBINED
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
    # the last layers begin with zeros, so that the first ones are not moved by the first step
    fit(generator, 2)
    for name, parameter in generator.pathways.named_parameters():
        assert not torch.equal(parameter, before[name]), name


def test_penalty_holds_the_modulation_near_the_identity() -> None:
    penalties = [
        fit(make_generator(film_weight=weight, discriminator_steps=1), 30)["film_penalty"] for weight in (0.0, 100.0)
    ]
    assert 0 < penalties[1] < 0.5 * penalties[0]


def test_modulation_depends_on_the_condition() -> None:
    """The same prior gives other fakes for other conditions, once the modulation is trained."""
    generator = make_generator(discriminator_steps=1)
    fit(generator, 30)
    pathway = generator.pathways[0].eval()
    prior = torch.randn(8, DIM, generator=seeded())
    one, other = (pathway(prior, torch.randn(8, DIM, generator=seeded(seed)))[0] for seed in (1, 2))
    assert (one - other).abs().mean() > 1e-3


def test_residual_pathways_begin_at_their_priors() -> None:
    """What they make is the prior at first, and something else once they are trained."""
    generator = make_generator(residual=True, sigma=0.0)
    for fake, prior in zip(fakes_of(generator), (KEPT, COMBINED), strict=True):
        assert torch.equal(fake, prior)
    before = parameters_of(generator.pathways)
    fit(generator, 3)
    assert all(not torch.equal(parameter, before[name]) for name, parameter in generator.pathways.named_parameters())
    for fake, prior in zip(fakes_of(generator), (KEPT, COMBINED), strict=True):
        assert 1e-3 < (fake - prior).abs().mean() < 1


def test_statistics_of_batches_are_those_of_the_current_vectors() -> None:
    """After a single step, hidden layers are normalised in generation as in training: fakes are not all alike."""
    generator = make_generator()
    fit(generator, 1)
    for fake in fakes_of(generator):
        assert fake.std(dim=0).mean() > 0.3
    assert all(norm.momentum == 0.1 for norm in generator.modules() if isinstance(norm, SafeBatchNorm))


# Discriminator


def test_both_heads_begin_at_chance_and_have_gradients() -> None:
    """The loss of telling the pathways apart is log 2 at first, rather than 0 as in the published code."""
    generator = make_generator(discriminator_steps=1)
    metrics = fit(generator, 1)
    assert metrics["pathway_loss"] == pytest.approx(math.log(2), abs=0.1)
    assert metrics["discriminator_loss"] == pytest.approx(math.log(2), abs=0.1)
    for head, other in ((0, "pathway"), (1, "adversarial")):
        generator.discriminator.zero_grad()
        torch.nn.functional.softplus(generator.discriminator(KEPT)[head]).mean().backward()
        for name, parameter in generator.discriminator.named_parameters():
            assert (parameter.grad is None) == name.startswith(other)
            assert parameter.grad is None or parameter.grad.abs().sum() > 0


def test_discriminator_learns_both_tasks() -> None:
    """Against pathways that stand still, it tells fakes from entities, and the pathways apart."""
    generator = make_generator(generator_learning_rate=1e-12, discriminator_learning_rate=5e-3)
    fit(generator, 10)
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
    judge = parameters_of(generator.discriminator)
    fakes, _ = generator._generator_step(generator.start(SPACE, QUERIES, seeded()))
    assert all(torch.equal(judge[name], p) for name, p in generator.discriminator.named_parameters())
    assert all(parameter.requires_grad for parameter in generator.discriminator.parameters())
    makers = parameters_of(generator.pathways)
    generator._discriminator_steps(KEPT, fakes)
    assert all(torch.equal(makers[name], p) for name, p in generator.pathways.named_parameters())
    assert any(not torch.equal(judge[name], p) for name, p in generator.discriminator.named_parameters())
    assert not any(fake.requires_grad for fake in fakes)


@pytest.mark.parametrize(
    ("kwargs", "expected"), [({}, (1, 10)), (dict(discriminator_steps=3, generator_steps=2), (2, 3))]
)
def test_numbers_of_steps(kwargs: dict[str, int], expected: tuple[int, int]) -> None:
    """In each turn the pathways take one step and the discriminator ten, or as many as are asked for."""
    generator = make_generator(**kwargs)
    calls: list[torch.optim.Optimizer] = []
    for optimizer in (generator.generator_optimizer, generator.discriminator_optimizer):
        optimizer.register_step_post_hook(lambda optimizer, *_: calls.append(optimizer))
    fit(generator, 2)
    one_turn = [generator.generator_optimizer] * expected[0] + [generator.discriminator_optimizer] * expected[1]
    assert calls == 2 * one_turn


def test_discriminator_weighs_entities_and_fakes_alike() -> None:
    """Its loss is the mean over both, however many pathways there are."""
    torch.manual_seed(0)
    for pathways in (("entity",), ("entity", "relation")):
        generator = make_generator(pathways=pathways, discriminator_steps=1)
        fakes = [torch.randn(64, DIM) for _ in pathways]
        logits = [generator.discriminator(vectors)[0].detach() for vectors in (KEPT[:64], torch.cat(fakes))]
        metrics = generator._discriminator_steps(KEPT[:64], fakes)
        softplus = torch.nn.functional.softplus
        expected = (softplus(-logits[0]).mean() + softplus(logits[1]).mean()) / 2
        assert metrics["discriminator_loss"].item() == pytest.approx(expected.item(), rel=1e-5)


# Combinations


def test_unknown_interaction_is_learned() -> None:
    """Where nobody knows how the model combines, this is learned: the priors come near to the answers."""
    space = make_space(clustered_vectors()[0])
    assert not space.combines
    generator = make_generator(generator_learning_rate=3e-2, discriminator_steps=1)
    assert torch.equal(generator.combine(space, QUERIES), space.vectors[QUERIES.kept])
    answers = GRAPH.index.sample_answer(QUERIES.rows, seeded())

    def error() -> float:
        return (generator.combine(space, QUERIES) - space.vectors[answers]).pow(2).mean().item()

    before = error()
    fit(generator, 40, space=space)
    assert error() < 0.7 * before


def test_known_interaction_is_not_learned() -> None:
    generator = make_generator()
    assert isinstance(generator, TwoWayGANGenerator) and isinstance(generator.combination, LearnedCombination)
    before = parameters_of(generator.combination)
    fit(generator, 3)
    assert torch.equal(generator.combine(SPACE, QUERIES), COMBINED)
    assert all(torch.equal(before[name], p) for name, p in generator.combination.named_parameters())
