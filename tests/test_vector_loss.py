"""The loss of generated vectors: its value, and where its gradient goes."""

from __future__ import annotations

import warnings
from typing import Any

import pytest
import torch
from pykeen.losses import MarginRankingLoss, NSSALoss, SoftplusLoss
from pykeen.models import TransE, model_resolver

from pykeen_dans.engine.curriculum import CurriculumState
from pykeen_dans.engine.engine import GenerationEngine
from pykeen_dans.graph import HEAD, TAIL
from pykeen_dans.training.vector_loss import VectorLoss, _scores

from .vectors import (
    FACTORY,
    LOSS,
    MODELS,
    NUM_ENTITIES,
    NUM_RELATIONS,
    STATE,
    TRIPLES,
    gradients,
    make_engine,
    make_model,
    seeded,
)


@pytest.mark.parametrize("name", MODELS)
def test_gradient_reaches_the_model_and_nothing_else(name: str) -> None:
    model = make_model(name)
    engine = make_engine(model)
    assert engine.generator is not None
    assert engine.space is not None
    engine.generator.zero_grad(set_to_none=True)
    loss = VectorLoss(weight=1.0, num_vectors=4)
    assert loss.supports(model)
    positives = TRIPLES[:16]
    # where the batch's own loss has left its gradient already, as at the time when this loss is called
    model.score_hrt(positives).sum().backward()
    model.collect_regularization_term()
    before = gradients(model)
    before_state = {name: value.clone() for name, value in learned(engine).items()}
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
    assert all(torch.equal(before_state[name], value) for name, value in learned(engine).items())
    for tensor in (engine.space.vectors, engine.space.raw_entities):
        assert tensor.grad is None
        assert not tensor.requires_grad


def learned(engine: GenerationEngine) -> dict[str, torch.Tensor]:
    """List all tensors that a generator has learned."""
    assert engine.generator is not None
    return {name: value for name, value in engine.generator.state_dict().items() if isinstance(value, torch.Tensor)}


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


@pytest.mark.parametrize("num_vectors", [1, 2, 5])
def test_value_and_gradient_are_those_of_the_definition(monkeypatch: pytest.MonkeyPatch, num_vectors: int) -> None:
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
    value = VectorLoss(weight=0.3, num_vectors=num_vectors).add_gradient(
        model=model, loss=LOSS, engine=engine, positives=positives, state=STATE
    )
    actual = gradients(model)
    model.zero_grad()
    # the same bands again; heads and tails take turns, of which either may be first
    torch.manual_seed(5)
    bands = torch.multinomial(torch.tensor(STATE.band_weights), num_vectors, replacement=True)
    first = int(torch.randint(2, size=()))
    expected = torch.zeros((), dtype=torch.double)
    for vectors, side in zip(made, [first] if num_vectors == 1 else [HEAD, TAIL], strict=True):
        chosen = bands[side ^ first :: 2]
        expected = expected + 0.3 * len(chosen) / num_vectors * expected_error(
            model, positives, vectors[:, chosen, 0], side, margin=3.0 * 0.5
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
        return VectorLoss(weight=1.0, num_vectors=2)._error(
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
    far = torch.tensor([0.0, 1e3])[None, :, None, None].expand(6, 2, 1, 4)
    monkeypatch.setattr(engine, "generate", lambda rows: far[: len(rows)])
    loss = VectorLoss(weight=1.0, num_vectors=6)
    for weights, is_positive in (((1.0, 0.0), True), ((0.0, 1.0), False)):
        state = CurriculumState(band_weights=weights, source_weights=(1.0,), margin_factors=(1.0, 1.0))
        value = loss.add_gradient(model=model, loss=LOSS, engine=engine, positives=TRIPLES[:6], state=state)
        assert (value > 0) == is_positive


@pytest.mark.parametrize("num_vectors", [1, 2, 6])
def test_sources_that_are_not_ordered_take_turns(monkeypatch: pytest.MonkeyPatch, num_vectors: int) -> None:
    """Of two pathways each makes half of the vectors, also where a batch has fewer of them than there are pathways."""
    model = make_model(scoring_fct_norm=2)
    engine = make_engine(model)
    monkeypatch.setattr(engine, "sources", ("entity", "relation"))
    # the pathway can be told from the vector
    vectors = torch.arange(2.0)[None, None, :, None].expand(6, 2, 2, 4)
    monkeypatch.setattr(engine, "generate", lambda rows: vectors[: len(rows)])
    seen: list[float] = []

    def record(model: Any, positives: torch.Tensor, vectors: dict[int, torch.Tensor]) -> Any:
        (of_side,) = vectors.values()
        assert of_side.shape[1:] == (num_vectors, 1, 4)
        seen.extend(of_side[0, :, 0, 0].tolist())
        return _scores(model, positives, vectors)

    monkeypatch.setattr("pykeen_dans.training.vector_loss._scores", record)
    torch.manual_seed(0)
    loss = VectorLoss(weight=1.0, num_vectors=num_vectors, kinds=["tail"])
    for _ in range(100):
        before = len(seen)
        loss.add_gradient(model=model, loss=LOSS, engine=engine, positives=TRIPLES[:6], state=STATE)
        assert abs(seen[before:].count(0.0) - seen[before:].count(1.0)) <= num_vectors % 2
    assert seen.count(0.0) / len(seen) == pytest.approx(0.5, abs=0.15)


@pytest.mark.parametrize("num_vectors", [1, 2, 3])
def test_kinds_take_turns_from_batch_to_batch(monkeypatch: pytest.MonkeyPatch, num_vectors: int) -> None:
    model = make_model(scoring_fct_norm=2)
    engine = make_engine(model)
    monkeypatch.setattr(engine, "generate", lambda rows: torch.ones(len(rows), 2, 1, 4))
    seen: list[tuple[int, ...]] = []

    def record(model: Any, positives: torch.Tensor, vectors: dict[int, torch.Tensor]) -> Any:
        seen.append(tuple(vectors))
        return _scores(model, positives, vectors)

    monkeypatch.setattr("pykeen_dans.training.vector_loss._scores", record)
    torch.manual_seed(0)
    loss = VectorLoss(weight=1.0, num_vectors=num_vectors, kinds=["head", "tail", "both"])
    for _ in range(200):
        loss.add_gradient(model=model, loss=LOSS, engine=engine, positives=TRIPLES[:6], state=STATE)
    assert len(seen) == 200 * num_vectors
    counts = [seen.count(kind) / len(seen) for kind in ((HEAD,), (TAIL,), (HEAD, TAIL))]
    assert counts == pytest.approx([1 / 3] * 3, abs=0.1)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_vectors_that_are_not_finite_leave_the_gradient_alone(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, value: float
) -> None:
    model = make_model("DistMult")
    engine = make_engine(model)
    model.score_hrt(TRIPLES[:6]).sum().backward()
    model.collect_regularization_term()
    before = gradients(model)
    monkeypatch.setattr(engine, "generate", lambda rows: torch.full((len(rows), 2, 1, 4), value))
    loss = VectorLoss(weight=1.0, num_vectors=4)
    for _ in range(3):
        assert loss.add_gradient(model=model, loss=LOSS, engine=engine, positives=TRIPLES[:6], state=STATE) == 0.0
    after = gradients(model)
    assert before.keys() == after.keys()
    assert all(torch.equal(before[name], after[name]) for name in before)
    assert caplog.text.count("The loss of generated vectors is not finite; it is left out while this is so.") == 1
    assert float(model.collect_regularization_term()) == 0.0


def test_a_collapsed_generator_is_trusted_less() -> None:
    model = make_model(scoring_fct_norm=2)
    engine = make_engine(model)
    loss = VectorLoss(weight=1.0, num_vectors=4)
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

    of_vectors = VectorLoss(weight=1.0, num_vectors=2)
    monkeypatch.setattr(of_vectors, "_error", watch)
    of_vectors.add_gradient(model=model, loss=loss, engine=make_engine(model), positives=TRIPLES[:6], state=STATE)
    assert seen == [margin, margin]


def test_positives_that_are_new_to_the_engine_are_left_out() -> None:
    model = make_model(scoring_fct_norm=2)
    engine = make_engine(model)
    loss = VectorLoss(weight=1.0, num_vectors=2)
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
    loss = VectorLoss(weight=1.0, num_vectors=3)
    with warnings.catch_warnings():
        # PyKEEN warns of a regularisation term that nobody has used
        warnings.filterwarnings("error", message="Resetting regularization term")
        for _ in range(2):
            (model.score_hrt(TRIPLES[:8]).sum() + model.collect_regularization_term()).backward()
            loss.add_gradient(model=model, loss=LOSS, engine=engine, positives=TRIPLES[:8], state=STATE)
            assert float(model.collect_regularization_term()) == 0.0
            model.post_parameter_update()


def test_models_of_several_vectors_for_each_entity_are_not_supported() -> None:
    loss = VectorLoss(weight=1.0, num_vectors=2)
    assert not loss.supports(make_model("SimplE"))
    assert not loss.supports(model_resolver.make("FixedModel", triples_factory=FACTORY))
