"""The loss of generated vectors: its value, and where its gradient goes."""

from __future__ import annotations

import dataclasses
import warnings
from typing import Any

import pytest
import torch
from pykeen.losses import MarginRankingLoss, NSSALoss, SoftplusLoss
from pykeen.models import TransE, model_resolver
from pykeen.triples import CoreTriplesFactory

from pykeen_dans.engine.curriculum import CurriculumState
from pykeen_dans.graph import HEAD, TAIL
from pykeen_dans.training.vector_loss import LatentLoss, _scores

from .latents import LOSS, MODELS, STATE, TRIPLES, gradients, make_engine, make_model
from .toys import NUM_ENTITIES, NUM_RELATIONS, seeded


@pytest.mark.parametrize("name", MODELS)
def test_gradient_reaches_the_model_and_nothing_else(name: str) -> None:
    model = make_model(name)
    engine = make_engine(model)
    assert engine.generator is not None
    assert engine.space is not None
    engine.generator.zero_grad(set_to_none=True)
    loss = LatentLoss(weight=1.0, num_negatives=4)
    assert loss.supports(model)
    positives = TRIPLES[:16]
    # where the batch's own loss has left its gradient already, as at the time when this loss is called
    model.score_hrt(positives).sum().backward()
    model.collect_regularization_term()
    before = gradients(model)
    before_state = {key: value.clone() for key, value in engine.generator.state_dict().items()}
    value = loss.add_gradient(
        model=model, loss=MarginRankingLoss(margin=50.0), engine=engine, positives=positives, state=STATE
    )
    assert value > 0
    after = gradients(model)
    assert set(after) == set(before) == {name for name, _ in model.named_parameters()}
    for part in (model.entity_representations, model.relation_representations):
        names = [key for key, p in model.named_parameters() if any(p is q for q in part.parameters())]
        assert any(not torch.equal(before[key], after[key]) for key in names)
    assert all(parameter.grad is None for parameter in engine.generator.parameters())
    assert all(torch.equal(before_state[key], v) for key, v in engine.generator.state_dict().items())
    for tensor in (engine.space.vectors, engine.space.raw_entities):
        assert tensor.grad is None
        assert not tensor.requires_grad


def expected_error(
    model: TransE, positives: torch.Tensor, vectors: torch.Tensor, side: int, margin: float
) -> torch.Tensor:
    """Compute the mean error in doubles, from the definition."""
    entities, relations = (
        next(iter(representation[0].parameters())).double()
        for representation in (model.entity_representations, model.relation_representations)
    )
    total = torch.zeros((), dtype=torch.double)
    for (head, relation, tail), candidates in zip(positives.tolist(), vectors.double(), strict=True):
        h, r, t = entities[head], relations[relation], entities[tail]
        for x in candidates:
            negative = (x + r - t) if side == HEAD else (h + r - x)
            total = total + torch.relu(margin + (h + r - t).norm(p=2) - negative.norm(p=2))
    return total / vectors.shape[:2].numel()


@pytest.mark.parametrize("num_negatives", [1, 2, 5])
def test_value_and_gradient_are_those_of_the_definition(monkeypatch: pytest.MonkeyPatch, num_negatives: int) -> None:
    model = make_model(scoring_fct_norm=2)
    assert isinstance(model, TransE)
    engine = make_engine(model)
    positives = TRIPLES[:6]
    made: list[torch.Tensor] = []
    generate = engine.generate

    def watch(rows: torch.Tensor) -> torch.Tensor:
        made.append(generate(rows))
        return made[-1]

    monkeypatch.setattr(engine, "generate", watch)
    torch.manual_seed(5)
    value = LatentLoss(weight=0.3, num_negatives=num_negatives).add_gradient(
        model=model, loss=LOSS, engine=engine, positives=positives, state=STATE
    )
    actual = gradients(model)
    model.zero_grad()
    # the same bands again; heads and tails take turns, of which either may be first
    torch.manual_seed(5)
    bands = torch.multinomial(torch.tensor(STATE.weights), num_negatives, replacement=True)
    first = int(torch.randint(2, size=()))
    expected = torch.zeros((), dtype=torch.double)
    for vectors, side in zip(made, [first] if num_negatives == 1 else [HEAD, TAIL], strict=True):
        chosen = bands[side ^ first :: 2]
        expected = expected + 0.3 * len(chosen) / num_negatives * expected_error(
            model, positives, vectors[:, chosen], side, margin=3.0 * 0.5
        )
    assert expected > 0
    assert value == pytest.approx(expected.item(), rel=1e-4)
    expected.backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None
        torch.testing.assert_close(actual[name], parameter.grad, atol=1e-5, rtol=1e-3)


@pytest.mark.parametrize("side", [HEAD, TAIL])
def test_gradient_agrees_with_finite_differences(side: int) -> None:
    model = make_model(scoring_fct_norm=2)
    positives, vectors = TRIPLES[:3], torch.randn(3, 2, 4, generator=seeded())

    def error() -> torch.Tensor:
        positive, negative = _scores(model, positives, {side: vectors[:, :, None]})
        return LatentLoss(weight=1.0, num_negatives=2)._error(
            positive, negative, margin=5.0, margins=torch.full((2,), 5.0)
        )

    error().backward()
    for representation in (model.entity_representations[0], model.relation_representations[0]):
        (weight,) = representation.parameters()
        assert weight.grad is not None
        row = int(weight.grad.abs().sum(dim=-1).argmax())
        for column in range(4):
            values = []
            for step in (1e-2, -1e-2):
                with torch.no_grad():
                    weight[row, column] += step
                    values.append(error().item())
                    weight[row, column] -= step
            assert (values[0] - values[1]) / 2e-2 == pytest.approx(weight.grad[row, column].item(), abs=2e-3)


def test_vectors_come_from_the_bands_that_the_curriculum_asks_for(monkeypatch: pytest.MonkeyPatch) -> None:
    model = make_model(scoring_fct_norm=2)
    engine = make_engine(model)
    # a vector of the first band is as good as can be, one of the second is far away
    far = torch.tensor([0.0, 1e3])[None, :, None].expand(6, 2, 4)
    monkeypatch.setattr(engine, "generate", lambda rows: far[: len(rows)])
    loss = LatentLoss(weight=1.0, num_negatives=6)
    for weights, is_positive in (((1.0, 0.0), True), ((0.0, 1.0), False)):
        state = CurriculumState(weights=weights, share=0.25, margin_factor=1.0)
        value = loss.add_gradient(model=model, loss=LOSS, engine=engine, positives=TRIPLES[:6], state=state)
        assert (value > 0) == is_positive


@pytest.mark.parametrize("way_shares", [(0.0, 1.0), (0.25, 0.75), (0.5, 0.5)])
def test_pathways_have_their_shares(monkeypatch: pytest.MonkeyPatch, way_shares: tuple[float, ...]) -> None:
    model = make_model(scoring_fct_norm=2)
    engine = make_engine(model)
    monkeypatch.setattr(engine, "settings", dataclasses.replace(engine.settings, way_shares=way_shares))
    # a vector of the first pathway is as good as can be, with an error of 1, one of the second is far away, with none
    far = torch.tensor([0.0, 1e3])[None, :, None].expand(6, 2, 4)
    monkeypatch.setattr(engine, "generate", lambda rows: far[: len(rows)])
    monkeypatch.setattr(
        LatentLoss,
        "_error",
        lambda self, positive, negative, **_: (negative > -100.0).float().mean() + 0 * positive.sum(),
    )
    state = CurriculumState(weights=(1.0,), share=0.25, margin_factor=1.0)
    torch.manual_seed(0)
    # also where one batch has fewer vectors than there are pathways
    for num_negatives in (1, 2, 6):
        loss = LatentLoss(weight=1.0, num_negatives=num_negatives, kinds=["tail"])
        values = [
            loss.add_gradient(model=model, loss=LOSS, engine=engine, positives=TRIPLES[:6], state=state)
            for _ in range(400)
        ]
        assert sum(values) / 400 == pytest.approx(way_shares[0], abs=0.08)


@pytest.mark.parametrize("num_negatives", [1, 2, 3])
def test_kinds_take_turns_from_batch_to_batch(num_negatives: int) -> None:
    loss = LatentLoss(weight=1.0, num_negatives=num_negatives, kinds=["head", "tail", "both"])
    counts = torch.zeros(3)
    for _ in range(600):
        of_kind, _ = loss._turns(num_kinds=3, way_shares=(1.0,))
        assert len(set(of_kind.tolist())) == num_negatives
        counts += torch.bincount(of_kind, minlength=3)
    assert (counts / counts.sum()).tolist() == pytest.approx([1 / 3] * 3, abs=0.06)


def test_a_collapsed_generator_is_trusted_less() -> None:
    model = make_model(scoring_fct_norm=2)
    engine = make_engine(model)
    loss = LatentLoss(weight=1.0, num_negatives=4)
    values = []
    state = engine.random.get_state()
    for trust in (1.0, 0.25):
        torch.manual_seed(0)
        engine.random.set_state(state)
        engine.trust = trust
        values.append(loss.add_gradient(model=model, loss=LOSS, engine=engine, positives=TRIPLES[:6], state=STATE))
    assert values[1] == pytest.approx(0.25 * values[0])


@pytest.mark.parametrize(
    ("loss", "margin"), [(MarginRankingLoss(margin=7.0), 3.5), (NSSALoss(margin=9.0), 4.5), (SoftplusLoss(), 0.5)]
)
def test_margin_is_that_of_the_loss_times_that_of_the_curriculum(
    monkeypatch: pytest.MonkeyPatch, loss: Any, margin: float
) -> None:
    model = make_model()
    seen: list[float] = []

    def watch(*_: Any, margins: torch.Tensor, **__: Any) -> torch.Tensor:
        seen.extend(margins.tolist())
        return torch.ones((), requires_grad=True)

    latent = LatentLoss(weight=1.0, num_negatives=2)
    monkeypatch.setattr(latent, "_error", watch)
    latent.add_gradient(model=model, loss=loss, engine=make_engine(model), positives=TRIPLES[:6], state=STATE)
    assert seen == [margin, margin]


def test_positives_that_are_new_to_the_engine_are_left_out() -> None:
    model = make_model(scoring_fct_norm=2)
    engine = make_engine(model)
    loss = LatentLoss(weight=1.0, num_negatives=2)
    unknown = torch.tensor([[0, NUM_RELATIONS, 1], [NUM_ENTITIES, 0, NUM_ENTITIES + 1]])
    assert loss.add_gradient(model=model, loss=LOSS, engine=engine, positives=unknown, state=STATE) == 0.0
    assert gradients(model) == {}
    mixed = torch.cat([unknown, TRIPLES[:3]])
    torch.manual_seed(0)
    state = engine.random.get_state()
    value = loss.add_gradient(model=model, loss=LOSS, engine=engine, positives=mixed, state=STATE)
    torch.manual_seed(0)
    engine.random.set_state(state)
    assert value == pytest.approx(
        loss.add_gradient(model=model, loss=LOSS, engine=engine, positives=TRIPLES[:3], state=STATE)
    )


@pytest.mark.parametrize("name", MODELS)
def test_it_fits_between_the_gradient_and_the_step_of_a_batch(name: str) -> None:
    model = make_model(name)
    engine = make_engine(model)
    loss = LatentLoss(weight=1.0, num_negatives=3)
    with warnings.catch_warnings():
        # PyKEEN warns of a regularisation term that nobody has used
        warnings.filterwarnings("error", message="Resetting regularization term")
        for _ in range(2):
            (model.score_hrt(TRIPLES[:8]).sum() + model.collect_regularization_term()).backward()
            loss.add_gradient(model=model, loss=LOSS, engine=engine, positives=TRIPLES[:8], state=STATE)
            assert float(model.collect_regularization_term()) == 0.0
            model.post_parameter_update()


def test_models_of_several_vectors_for_each_entity_are_not_supported() -> None:
    loss = LatentLoss(weight=1.0, num_negatives=2)
    assert not loss.supports(make_model("SimplE"))
    factory = CoreTriplesFactory(TRIPLES, num_entities=NUM_ENTITIES, num_relations=NUM_RELATIONS)
    assert not loss.supports(model_resolver.make("FixedModel", triples_factory=factory))
