"""What goes wrong beside a training neither harms the model, nor ends what is generated for good."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from pykeen.models import model_resolver
from pykeen.trackers import PythonResultTracker
from pykeen.training.callbacks import TrainingCallback
from pykeen.triples import CoreTriplesFactory

import pykeen_dans
from pykeen_dans.engine.settings import UpdateBudget
from pykeen_dans.engine.steering import _MAX_ENTRIES, score_candidates
from pykeen_dans.graph import QueryIndex
from pykeen_dans.space import NonFiniteSpaceError, live_space
from pykeen_dans.training.vector_loss import VectorLoss, _add_gradient, _scores

from .trainings import COUNTED, Hook, make_loop, metrics_of, train
from .vectors import LOSS, MODELS, STATE, TRIPLES, gradients, make_engine, make_model, seeded

pytestmark = pytest.mark.usefixtures("shared_cache", "no_engines")

BUDGET = UpdateBudget(fit_steps=1, refresh_queries=50)


# Generators that diverge


def test_diverged_generator(caplog: pytest.LogCaptureFixture) -> None:
    """A learning rate beyond all reason costs the generated negatives, and nothing else; it is said once."""
    tracker = PythonResultTracker()
    options = dict(generator_kwargs=dict(generator_learning_rate=1e9))
    loop = make_loop(tracker=tracker, negative_sampler="dans", sampler_kwargs=options)
    losses = train(loop, callbacks_kwargs=dict(vector_weight=1.0, **COUNTED))
    assert all(map(math.isfinite, losses))
    assert all(bool(torch.isfinite(parameter).all()) for parameter in loop.model.parameters())
    assert metrics_of(tracker, "share") == {1: 0, 2: 0, 3: 0}
    assert caplog.text.count("The generator has diverged, and is made anew") == 1


def test_diverged_generator_in_a_shared_pool() -> None:
    loop = make_loop(
        cls=pykeen_dans.DANSTrainingLoop,
        negative_sampler="dans",
        sampler_kwargs=dict(generator_kwargs=dict(generator_learning_rate=1e9)),
        model_kwargs=dict(loss="crossentropy"),
        num_vectors=2,
    )
    assert all(map(math.isfinite, train(loop, callbacks_kwargs=COUNTED)))
    assert all(bool(torch.isfinite(parameter).all()) for parameter in loop.model.parameters())


def test_recovery_of_a_generator() -> None:
    """A generator that has come to no numbers is made anew, and of use again from the next update on."""
    model = make_model()
    engine = make_engine(model)
    assert engine.generator is not None
    next(engine.generator.parameters()).data.fill_(math.nan)
    report = engine.update(live_space(model), model, BUDGET)
    assert (engine.trust, report.refresh.queries, report.diversity.distinct) == (0, 0, 0)
    report = engine.update(live_space(model), model, BUDGET)
    assert engine.trust > 0
    assert report.refresh.queries == 50


@pytest.mark.parametrize("model", ["TransE", "ComplEx"])
def test_overflow_of_the_space(model: str) -> None:
    """Vectors that are finite, and too large to be standardised, stop generation while they are so."""
    tracker = PythonResultTracker()

    def scale(factor: float, epochs: list[int]) -> TrainingCallback:
        def act(callback: TrainingCallback) -> None:
            epochs.append(len(epochs) + 1)
            if len(epochs) == 2:
                for parameter in callback.model.parameters():
                    parameter.data *= factor

        return Hook("post_epoch", act)

    loop = make_loop(model, tracker=tracker)
    # a power of two, by which nothing is rounded
    callbacks = [scale(2.0**70, []), "curriculum", scale(2.0**-70, [])]
    train(loop, num_epochs=4, callbacks=callbacks, callbacks_kwargs=[None, COUNTED, None])
    assert metrics_of(tracker, "skipped") == {2: 1}
    refreshed = metrics_of(tracker, "refreshed")
    assert refreshed[2] == 0
    assert min(refreshed[3], refreshed[4]) > 0
    assert metrics_of(tracker, "share")[4] > 0


def test_error_of_a_space_that_overflows() -> None:
    model = make_model()
    for parameter in model.parameters():
        parameter.data *= 1e30
    with pytest.raises(NonFiniteSpaceError, match=r"so large \(up to .*\) that their spread overflows; lower"):
        live_space(model)


# The gradient of generated vectors


def test_gradient_that_is_not_finite() -> None:
    """It is not added, even where the value of the loss is finite."""
    model = make_model()
    parameter = next(iter(model.get_grad_params()))
    error = (0.0 * parameter.sum()).sqrt()
    assert torch.isfinite(error)
    assert not _add_gradient(model, error)
    assert not gradients(model)
    assert _add_gradient(model, parameter.sum())
    assert _add_gradient(model, parameter.sum())
    assert all((gradient == 2).all() for gradient in gradients(model).values())


@pytest.mark.parametrize("bands", [False, True])
@pytest.mark.parametrize("name", MODELS)
def test_weights_of_positives(name: str, bands: bool) -> None:
    """Positives count as much as their weights say, as in the loss of the batch itself."""
    model = make_model(name)
    engine = make_engine(model)

    def gradient_of(weights: torch.Tensor | None) -> torch.Tensor:
        model.zero_grad()
        torch.manual_seed(0)
        engine.random.manual_seed(0)
        VectorLoss(weight=1.0, num_vectors=1, kinds=("tail",), band_margins=bands).add_gradient(
            model=model, loss=LOSS, engine=engine, positives=TRIPLES[:8], state=STATE, weights=weights
        )
        return torch.cat([gradient.flatten() for gradient in gradients(model).values()])

    equal = gradient_of(None)
    torch.testing.assert_close(gradient_of(torch.full((8,), 3.0)), 3 * equal)
    assert not gradient_of(torch.zeros(8)).any()
    parts = [gradient_of((torch.arange(8) // 4 == part).float()) for part in (0, 1)]
    torch.testing.assert_close(parts[0] + parts[1], equal)


def test_loss_weighter(monkeypatch: pytest.MonkeyPatch) -> None:
    """The weights are those of the training loop."""
    found = []
    original = VectorLoss.add_gradient

    def spy(self: VectorLoss, **kwargs: Any) -> float:
        found.append((kwargs["positives"], kwargs["weights"]))
        return original(self, **kwargs)

    monkeypatch.setattr(VectorLoss, "add_gradient", spy)
    weights = torch.rand(55)
    loop = make_loop(
        model_kwargs=dict(loss="bcewithlogits"), loss_weighter="relation", loss_weighter_kwargs=dict(weights=weights)
    )
    train(loop, num_epochs=2, callbacks_kwargs=dict(vector_weight=1.0, **COUNTED))
    assert found
    for positives, given in found:
        assert torch.equal(given.view(-1), weights[positives[:, 1]])


def test_statistics_of_batch_normalisation() -> None:
    """Models are evaluated by the statistics of entities, in which vectors that are scored have no part."""
    model = make_model("ERMLPE")
    engine = make_engine(model)
    before = {name: buffer.clone() for name, buffer in model.named_buffers()}
    loss = VectorLoss(weight=1.0, num_vectors=2)
    assert loss.add_gradient(model=model, loss=LOSS, engine=engine, positives=TRIPLES[:8], state=STATE) > 0
    assert any("running_mean" in name for name in before)
    for name, buffer in model.named_buffers():
        assert torch.equal(buffer, before[name]), name
    # without that, they would move
    _scores(model, TRIPLES[:8], {1: torch.randn(8, 2, 1, 4, generator=seeded())})
    assert any(not torch.equal(buffer, before[name]) for name, buffer in model.named_buffers())


# The memory of steering


@pytest.mark.parametrize("embedding_dim", [4, 64, 2048])
def test_size_of_scores(embedding_dim: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """However large the vectors of a model are, what is scored at once is bounded, and the scores are the same."""
    generator = seeded()
    triples = torch.stack([torch.randint(n, (300,), generator=generator) for n in (2000, 3, 2000)], dim=-1)
    factory = CoreTriplesFactory(triples, num_entities=2000, num_relations=3)
    model = model_resolver.make(
        "ConvKB", triples_factory=factory, embedding_dim=embedding_dim, num_filters=2, random_seed=0
    ).eval()
    index = QueryIndex(mapped_triples=triples, num_entities=2000, num_relations=3)
    queries = index.select(torch.arange(12) * 40)
    candidates = torch.randint(2000, (12, 300), generator=generator)
    sizes = []
    for name, argument in (("score_h", "heads"), ("score_t", "tails")):
        original = getattr(model, name)

        def spy(pairs: Any, original: Any = original, argument: str = argument, **kwargs: Any) -> Any:
            sizes.append(kwargs[argument].numel())
            return original(pairs, **kwargs)

        monkeypatch.setattr(model, name, spy)
    scores = score_candidates(model, queries, candidates)
    assert max(sizes) * embedding_dim <= _MAX_ENTRIES
    assert sum(sizes) == candidates.numel()
    # small vectors are scored in few calls
    assert len(sizes) <= 2 + 4 * candidates.numel() * embedding_dim / _MAX_ENTRIES
    triples = torch.stack([queries.kept, queries.relations, candidates[:, 7]], dim=-1)
    triples = torch.where((queries.sides == 0)[:, None], triples.flip(-1), triples)
    with torch.no_grad():
        torch.testing.assert_close(scores[:, 7:8], model.score_hrt(triples), atol=1e-5, rtol=1e-4)
