"""The margins of bands in the loss of generated vectors, several semantic levels, and what is replaced."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest
import torch
from pykeen.losses import MarginRankingLoss, NSSALoss

from pykeen_dans.engine.curriculum import CurriculumState
from pykeen_dans.graph import HEAD, TAIL
from pykeen_dans.training.vector_loss import VectorLoss, _scores

from .vectors import LOSS, STATE, TRIPLES, make_engine, make_model, seeded


def band_error(score: float, factor: float, *, positive: float = -1.0) -> torch.Tensor:
    """Compute the loss of a positive and a generated negative, whose band has this factor of a margin 6."""
    return VectorLoss(weight=1.0, num_vectors=1, band_margins=True)._error(
        torch.tensor([[positive]]), torch.tensor([[score]]), margin=6.0, margins=torch.tensor([6.0 * factor])
    )


def test_loss_of_bands_falls_with_the_distance_and_rises_with_the_margin_of_the_band() -> None:
    by_distance = [band_error(-distance, 0.5).item() for distance in (0.0, 1.0, 3.0, 9.0)]
    assert by_distance == sorted(by_distance, reverse=True)
    by_factor = [band_error(-3.0, factor).item() for factor in (0.3, 0.5, 0.7, 0.9)]
    assert by_factor == sorted(by_factor)


@pytest.mark.parametrize("distance", [0.5, 3.0, 20.0])
def test_loss_of_bands_is_that_of_self_adversarial_sampling_with_one_negative(distance: float) -> None:
    """With the full margin and a single negative, it is the loss by which the papers' models are trained anyway."""
    expected = NSSALoss(margin=6.0, adversarial_temperature=0.5).process_slcwa_scores(
        positive_scores=torch.tensor([[-1.0]]), negative_scores=torch.tensor([[-distance]])
    )
    torch.testing.assert_close(band_error(-distance, 1.0), expected)


def test_each_band_has_the_margin_of_its_hardness(monkeypatch: pytest.MonkeyPatch) -> None:
    model = make_model()
    seen: list[float] = []

    def watch(*_: Any, margins: torch.Tensor, **__: Any) -> torch.Tensor:
        seen.extend(margins.tolist())
        return torch.ones((), requires_grad=True)

    loss = VectorLoss(weight=1.0, num_vectors=64, band_margins=True)
    monkeypatch.setattr(loss, "_error", watch)
    state = dataclasses.replace(STATE, margin_factors=(0.9, 0.3))
    loss.add_gradient(
        model=model, loss=MarginRankingLoss(margin=10.0), engine=make_engine(model), positives=TRIPLES[:2], state=state
    )
    assert {round(margin, 4) for margin in seen} == {9.0, 3.0}
    # the easy band has the weight .4
    assert 10 < seen.count(9.0) < 42


def test_both_sides_are_replaced_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    model = make_model(scoring_fct_norm=1)
    engine = make_engine(model)
    made: list[torch.Tensor] = []
    monkeypatch.setattr(
        engine,
        "generate",
        lambda rows: made.append(torch.randn(len(rows), 2, 1, 4, generator=seeded(len(made)))) or made[-1],
    )
    state = CurriculumState(band_weights=(1.0, 0.0), source_weights=(1.0,), margin_factors=(1.0, 1.0))
    value = VectorLoss(weight=1.0, num_vectors=1, kinds=("both",)).add_gradient(
        model=model, loss=MarginRankingLoss(margin=100.0), engine=engine, positives=TRIPLES[:5], state=state
    )
    heads, tails = (vectors[:, 0, 0] for vectors in made)
    relations = model.relation_representations[0](TRIPLES[:5, 1])
    negative = -(heads + relations - tails).norm(p=1, dim=-1)
    assert value == pytest.approx((100.0 - model.score_hrt(TRIPLES[:5])[:, 0] + negative).mean().item(), rel=1e-4)


@pytest.mark.parametrize("name", ["TransE", "RotatE", "DistMult", "ComplEx"])
def test_semantic_levels_make_one_negative_together(name: str) -> None:
    """Vectors are fused for models that measure a distance, scores are averaged for others, as in the paper."""
    model = make_model(name)
    shape = model.entity_representations[0].shape
    dtype = model.entity_representations[0](torch.tensor([0])).dtype
    vectors = torch.randn(3, 2, 5, *shape, dtype=dtype, generator=seeded())
    _, together = _scores(model, TRIPLES[:3], {TAIL: vectors})
    _, of_mean = _scores(model, TRIPLES[:3], {TAIL: vectors.mean(dim=2, keepdim=True)})
    each = torch.stack([_scores(model, TRIPLES[:3], {TAIL: vectors[:, :, [k]]})[1] for k in range(5)])
    torch.testing.assert_close(together, of_mean if name in {"TransE", "RotatE"} else each.mean(dim=0))
    assert together.shape == (3, 2)


@pytest.mark.parametrize("kinds", [(), ("relation",), "head"])
def test_kinds_must_be_known(kinds: Any) -> None:
    with pytest.raises(ValueError, match="vector_kinds"):
        VectorLoss(weight=1.0, num_vectors=1, kinds=kinds)


@pytest.mark.parametrize(
    ("sides", "kinds", "left"),
    [
        ((TAIL,), ("head", "tail"), ("tail",)),
        ((HEAD,), ("head", "tail", "both"), ("head",)),
        ((HEAD, TAIL), ("head", "tail", "both"), ("head", "tail", "both")),
        ((TAIL,), ("head",), ()),
    ],
)
def test_what_the_sampler_does_not_corrupt_is_left_to_the_others(
    sides: tuple[int, ...], kinds: tuple[str, ...], left: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    model = make_model("DistMult")
    engine = make_engine(model)
    engine.settings = dataclasses.replace(engine.settings, sides=sides)
    asked: list[int] = []

    def record(model: Any, positives: torch.Tensor, vectors: dict[int, torch.Tensor]) -> Any:
        asked.append(next(iter(vectors.values())).shape[1])
        return _scores(model, positives, vectors)

    monkeypatch.setattr("pykeen_dans.training.vector_loss._scores", record)
    loss = VectorLoss(weight=1.0, num_vectors=6, kinds=kinds)
    assert loss.kinds_of(engine) == left
    if left:
        loss.add_gradient(model=model, loss=LOSS, engine=engine, positives=TRIPLES[:8], state=STATE)
        assert sum(asked) == 6
