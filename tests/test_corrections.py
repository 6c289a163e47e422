"""Corrected losses converge to those of scoring all entities, and are equal to them where the pool is all entities."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from pykeen.losses import Loss, PointwiseLoss, SoftplusLoss, UnsupportedLabelSmoothingError, loss_resolver
from torch import Tensor
from torch.nn import functional

from pykeen_dans.scoring.corrections import WeightedCandidates, correct_loss, correctable_losses, effective_entities
from pykeen_dans.scoring.proposals import UniformProposal
from pykeen_dans.scoring.strata import weigh_candidates

from .toys import seeded

NUM_ENTITIES = 12
POINTWISE = ["bcewithlogits", "bceaftersigmoid", "focal", "mse", "pointwisehinge", "softpointwisehinge", "softplus"]
SETWISE = ["crossentropy", "infonce", "nssa", "adversarialbcewithlogits"]


def make_scores(seed: int, batch_size: int = 5) -> tuple[Tensor, Tensor]:
    """Make scores of all entities, and answers."""
    random = seeded(seed)
    scores = 2 * torch.randn(batch_size, NUM_ENTITIES, generator=random)
    return scores.requires_grad_(), torch.randint(NUM_ENTITIES, size=(batch_size,), generator=random)


def corrected(
    loss: Loss, scores: Tensor, answers: Tensor, size: int = NUM_ENTITIES, *, weight: float = 1.0, **kwargs: Any
) -> Tensor:
    """Compute the corrected loss of a pool of some size."""
    pool = UniformProposal(num_entities=NUM_ENTITIES).draw(size, generator=seeded(size))
    weights = weigh_candidates(answers, pool)
    return correct_loss(loss, negatives_weight=weight)(
        scores.gather(dim=-1, index=answers.unsqueeze(dim=-1)).squeeze(dim=-1),
        WeightedCandidates(scores[:, pool.ids], weights.shared, weights.shared_mask),
        num_entities=NUM_ENTITIES,
        **kwargs,
    )


def assert_same(found: Tensor, expected: Tensor, scores: Tensor) -> None:
    """Compare values and gradients."""
    torch.testing.assert_close(found, expected, atol=1.0e-5, rtol=1.0e-5)
    gradients = [torch.autograd.grad(x, scores, retain_graph=True)[0] for x in (found, expected)]
    torch.testing.assert_close(*gradients, atol=1.0e-5, rtol=1.0e-5)


# All entities


@given(seed=st.integers(0, 10_000), reduction=st.sampled_from(["mean", "sum"]), smoothing=st.sampled_from([0.0, 0.2]))
@settings(deadline=None, max_examples=30)
def test_cross_entropy_of_all(seed: int, reduction: str, smoothing: float) -> None:
    scores, answers = make_scores(seed)
    loss = loss_resolver.make("crossentropy", reduction=reduction)
    expected = functional.cross_entropy(scores, answers, reduction=reduction, label_smoothing=smoothing)
    assert_same(corrected(loss, scores, answers, label_smoothing=smoothing), expected, scores)


@given(seed=st.integers(0, 10_000), smoothing=st.sampled_from([0.0, 0.2]))
@settings(deadline=None, max_examples=30)
def test_infonce_of_all(seed: int, smoothing: float) -> None:
    scores, answers = make_scores(seed)
    loss = loss_resolver.make("infonce", margin=0.3, log_adversarial_temperature=-0.7)
    labels = functional.one_hot(answers, num_classes=NUM_ENTITIES).float()
    expected = loss.process_lcwa_scores(scores, labels, label_smoothing=smoothing, num_entities=NUM_ENTITIES)
    assert_same(corrected(loss, scores, answers, label_smoothing=smoothing), expected, scores)


@pytest.mark.parametrize("reduction", ["mean", "sum"])
@pytest.mark.parametrize("name", ["nssa", "adversarialbcewithlogits"])
def test_adversarial_losses_of_all(name: str, reduction: str) -> None:
    scores, answers = make_scores(0)
    loss = loss_resolver.make(name, reduction=reduction)
    loss.inverse_softmax_temperature = 0.6
    others = functional.one_hot(answers, num_classes=NUM_ENTITIES) == 0
    expected = loss.process_slcwa_scores(
        scores.gather(dim=-1, index=answers.unsqueeze(dim=-1)), scores[others].view(len(scores), -1)
    )
    assert_same(corrected(loss, scores, answers), expected, scores)


@pytest.mark.parametrize("reduction", ["mean", "sum"])
@pytest.mark.parametrize("smoothing", [0.0, 0.2])
@pytest.mark.parametrize("name", POINTWISE)
def test_pointwise_losses_of_all(name: str, reduction: str, smoothing: float) -> None:
    """If all negatives weigh as much as there are of them, the loss is PyKEEN's of all entities."""
    scores, answers = make_scores(0)
    loss = loss_resolver.make(name, reduction=reduction)
    labels = functional.one_hot(answers, num_classes=NUM_ENTITIES).float()
    expected = loss.process_lcwa_scores(scores, labels, label_smoothing=smoothing, num_entities=NUM_ENTITIES)
    found = corrected(loss, scores, answers, weight=NUM_ENTITIES - 1, label_smoothing=smoothing)
    assert_same(found, expected, scores)


def test_weight_of_negatives() -> None:
    scores, answers = make_scores(0)
    is_answer = functional.one_hot(answers, num_classes=NUM_ENTITIES).bool()
    positive, negative = scores[is_answer], scores[~is_answer].view(len(scores), -1)
    rows = functional.softplus(-positive) + 3 * functional.softplus(negative).mean(dim=-1)
    assert_same(corrected(SoftplusLoss(), scores, answers, weight=3.0), rows.mean() / 4, scores)
    assert_same(corrected(SoftplusLoss(reduction="sum"), scores, answers, weight=3.0), rows.sum(), scores)


# Samples


def sampled(name: str, size: int, num_pools: int, **kwargs: Any) -> tuple[float, Tensor]:
    """Compute the mean of corrected losses of many pools, and of their gradients, of one query."""
    loss = loss_resolver.make(name)
    scores = torch.linspace(-2, 2, NUM_ENTITIES, dtype=torch.double)[torch.randperm(NUM_ENTITIES, generator=seeded(3))]
    scores = scores.requires_grad_()
    # one row for each pool
    ids = torch.randint(NUM_ENTITIES, size=(num_pools, size), generator=seeded(size))
    log_weights = torch.full(ids.shape, NUM_ENTITIES / size).log()
    value = correct_loss(loss)(
        scores[4].expand(num_pools),
        WeightedCandidates(scores[ids], log_weights, ids == 4),
        num_entities=NUM_ENTITIES,
        **kwargs,
    )
    return float(value), torch.autograd.grad(value, scores)[0]


@pytest.mark.parametrize("kwargs", [{}, dict(label_smoothing=0.1)], ids=["plain", "smoothed"])
@pytest.mark.parametrize("name", ["crossentropy", "nssa"])
def test_errors_fall_with_the_size_of_the_pool(name: str, kwargs: dict[str, Any]) -> None:
    """The bias of the loss and of its gradient is inversely proportional to the number of candidates."""
    if name == "nssa" and kwargs:
        pytest.skip("does not support label smoothing")
    exact, exact_gradient = sampled(name, 200_000, 1, **kwargs)
    biases, gradient_biases = [], []
    for size in (8, 32):
        value, gradient = sampled(name, size, 200_000, **kwargs)
        biases.append(abs(value - exact))
        gradient_biases.append(float((gradient - exact_gradient).norm()))
    assert 3 < biases[0] / biases[1] < 5.5
    assert 2.7 < gradient_biases[0] / gradient_biases[1] < 6


@pytest.mark.parametrize("name", POINTWISE)
def test_pointwise_losses_are_unbiased(name: str) -> None:
    exact, exact_gradient = sampled(name, 400_000, 1)
    value, gradient = sampled(name, 2, 200_000)
    assert value == pytest.approx(exact, rel=0.02)
    torch.testing.assert_close(gradient, exact_gradient, atol=0.003, rtol=0.05)


def test_without_correction_there_is_no_convergence() -> None:
    """The tests above can fail: weights of one, whatever the number of candidates, give another loss."""
    exact, _ = sampled("crossentropy", 100_000, 1)
    scores = torch.linspace(-2, 2, NUM_ENTITIES)[torch.randperm(NUM_ENTITIES, generator=seeded(3))]
    ids = torch.randint(NUM_ENTITIES, size=(1_000, 1_000), generator=seeded())
    value = correct_loss(loss_resolver.make("crossentropy"))(
        scores[4].expand(1_000),
        WeightedCandidates(scores[ids], torch.zeros(1_000), ids == 4),
        num_entities=NUM_ENTITIES,
    )
    assert abs(float(value) - exact) > 1


# Rows


@pytest.mark.parametrize("reduction", ["mean", "sum"])
@pytest.mark.parametrize("name", POINTWISE + SETWISE)
def test_parts_of_a_batch_add_up(name: str, reduction: str) -> None:
    """The parts of a batch, weighted as PyKEEN does, have the gradient of the whole batch."""
    scores, answers = make_scores(1, batch_size=6)
    loss = loss_resolver.make(name, reduction=reduction)
    row_weights = torch.tensor([0.5, 2.0, 1.0, 0.1, 1.4, 1.0])
    whole = corrected(loss, scores, answers, 5, weight=2.0, row_weights=row_weights)
    parts = torch.zeros(())
    for part in (slice(0, 4), slice(4, 6)):
        value = corrected(loss, scores[part], answers[part], 5, weight=2.0, row_weights=row_weights[part])
        parts = parts + value * (len(answers[part]) / 6 if reduction == "mean" else 1)
    assert_same(parts, whole, scores)


@pytest.mark.parametrize("name", POINTWISE + SETWISE)
def test_row_weights(name: str) -> None:
    """A weight of two is that of two equal rows, and a weight of zero that of none."""
    scores, answers = make_scores(1, batch_size=4)
    loss = loss_resolver.make(name)
    index = torch.tensor([0, 1, 1, 3])
    found = corrected(loss, scores, answers, 5, row_weights=torch.tensor([1.0, 2.0, 0.0, 1.0]))
    assert_same(found, corrected(loss, scores[index], answers[index], 5), scores)


@pytest.mark.parametrize("name", POINTWISE + SETWISE)
def test_nothing_but_the_answer(name: str) -> None:
    """Where all candidates are the answer, the negatives have no part in the loss, and nothing is NaN."""
    scores, _ = make_scores(2, batch_size=3)
    candidates = WeightedCandidates(scores[:, :4], torch.zeros(4), torch.ones(3, 4, dtype=torch.bool))
    value = correct_loss(loss_resolver.make(name))(scores[:, 5], candidates, num_entities=NUM_ENTITIES)
    (gradient,) = torch.autograd.grad(value, scores)
    assert value.isfinite() and gradient.isfinite().all()
    assert not gradient[:, :4].any()


@pytest.mark.parametrize("reduction", ["mean", "sum"])
@pytest.mark.parametrize("name", POINTWISE + SETWISE)
def test_empty_batch(name: str, reduction: str) -> None:
    scores, _ = make_scores(2, batch_size=3)
    candidates = WeightedCandidates(
        scores[:0], torch.zeros(NUM_ENTITIES), torch.zeros(0, NUM_ENTITIES, dtype=torch.bool)
    )
    value = correct_loss(loss_resolver.make(name, reduction=reduction))(
        scores[:0, 0], candidates, num_entities=NUM_ENTITIES
    )
    assert value.item() == 0
    assert not torch.autograd.grad(value, scores)[0].any()


@pytest.mark.parametrize("dtype", [torch.half, torch.bfloat16])
@pytest.mark.parametrize("name", POINTWISE + SETWISE)
def test_half_precision(name: str, dtype: torch.dtype) -> None:
    scores, answers = make_scores(3)
    loss = loss_resolver.make(name)
    found = corrected(loss, scores.to(dtype), answers)
    assert found.dtype is torch.float32
    torch.testing.assert_close(found, corrected(loss, scores, answers), atol=0.02, rtol=0.02)


# Bad input


def test_losses() -> None:
    assert set(correctable_losses()) == {*POINTWISE, *SETWISE}


@pytest.mark.parametrize("name", sorted(set(loss_resolver.lookup_dict) - set(POINTWISE) - set(SETWISE)))
def test_losses_that_can_not_be_corrected(name: str) -> None:
    loss = loss_resolver.make(name)
    with pytest.raises(ValueError, match=rf"loss={type(loss).__name__} can not be .*'crossentropy'.*nssa.*'slcwa'"):
        correct_loss(loss)


def test_subclasses() -> None:
    """Subclasses of pointwise losses are weighted as they are; others may compute anything."""

    class Squared(PointwiseLoss):
        def forward(self, x: Tensor, target: Tensor, weight: Tensor | None = None) -> Tensor:
            assert weight is not None
            return (weight * (x - target) ** 2).sum() / weight.sum()

    class Shifted(type(loss_resolver.make("crossentropy"))):  # type: ignore[misc]
        pass

    scores, answers = make_scores(3)
    assert corrected(Squared(), scores, answers).isfinite()
    with pytest.raises(ValueError, match="loss=Shifted can not be corrected"):
        correct_loss(Shifted())


def test_bad_input() -> None:
    with pytest.raises(ValueError, match=r"negatives_weight=0 is not positive"):
        correct_loss(SoftplusLoss(), negatives_weight=0)
    scores, answers = make_scores(3)
    with pytest.raises(UnsupportedLabelSmoothingError):
        corrected(loss_resolver.make("nssa"), scores, answers, label_smoothing=0.1)


# How many entities matter


@pytest.mark.parametrize("scale", [0.0, 0.5, 5.0])
def test_effective_entities(scale: float) -> None:
    """Of all entities, it is exact; of pools, it is near; all alike count as many as they are."""
    logits = scale * torch.randn(3, 400, generator=seeded(0))
    expected = 1 / logits.softmax(dim=-1).square().sum(dim=-1)
    positive, others = logits[:, 0], logits[:, 1:]
    everything = WeightedCandidates(others, torch.zeros(399), torch.zeros_like(others, dtype=torch.bool))
    assert torch.allclose(effective_entities(positive, everything), expected, rtol=1.0e-4)
    if scale == 0:
        assert torch.allclose(expected, torch.tensor(400.0))
    estimates = []
    for seed in range(50):
        ids = torch.randperm(399, generator=seeded(seed))[:200]
        log_weights = torch.full((200,), math.log(399 / 200))
        pool = WeightedCandidates(others[:, ids], log_weights, torch.zeros(3, 200, dtype=torch.bool))
        estimates.append(effective_entities(positive, pool))
    # where one entity has nearly all of the probability, half of the pools lack it
    assert scale > 1 or torch.allclose(torch.stack(estimates).mean(dim=0), expected, rtol=0.02)
    # what is masked does not count
    nothing = everything._replace(mask=torch.ones_like(others, dtype=torch.bool))
    assert torch.allclose(effective_entities(positive, nothing), torch.ones(3))
