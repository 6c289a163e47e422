"""The curriculum callback in real trainings of PyKEEN: coupling, budgets and margins."""

from __future__ import annotations

import collections
import csv
import itertools
import pathlib
from typing import Any

import pytest
from pykeen.datasets import Nations
from pykeen.evaluation import RankBasedEvaluator
from pykeen.losses import MarginRankingLoss
from pykeen.stoppers import EarlyStopper
from pykeen.trackers import PythonResultTracker
from pykeen.training import SLCWATrainingLoop

from pykeen_dans import CurriculumTrainingCallback, DANSKGCTrainingLoop
from pykeen_dans.engine.curriculum import curriculum_resolver
from pykeen_dans.engine.engine import GenerationEngine
from pykeen_dans.generators.diffusion import DiffusionGenerator

from .trainings import COUNTED, Clock, Hook, last_engine, make_loop, metrics_of, run_pipeline, slow_batches, train
from .utils import SMALL, training_of

pytestmark = pytest.mark.usefixtures("shared_cache", "no_engines")

NUM_BANDS = 4


# Coupling, by names alone


@pytest.mark.parametrize("dataset", ["nations", "umls"])
def test_metrics_reach_the_tracker(dataset: str, tmp_path: pathlib.Path) -> None:
    """The callback tells the result tracker after each epoch what the negatives were."""
    path = tmp_path / "log.csv"
    run_pipeline(dataset, "ComplEx", epochs=3, result_tracker="csv", result_tracker_kwargs=dict(path=path))
    ours: dict[int, dict[str, float]] = collections.defaultdict(dict)
    for row in csv.reader(path.read_text().splitlines()):
        if row[0] == "metric" and row[2].startswith("negatives."):
            ours[int(row[1])][row[2].removeprefix("negatives.")] = float(row[3])
    assert set(ours) == {1, 2, 3}
    per_band = {f"{name}_{band}" for name in ("percentile", "spread") for band in range(NUM_BANDS)}
    for metrics in ours.values():
        expected = per_band | {"share", "hardness", "refreshed", "fallback", "generated", "overhead_seconds"}
        assert expected <= set(metrics)
        assert all(0 <= metrics[key] <= 1 for key in per_band)
        assert metrics["share"] == 0.25
        assert metrics["refreshed"] > 0
        assert metrics["filled"] > 0.9
    # nothing is generated before the first epoch, and hardly a query is without candidates after it
    assert ours[1]["fallback"] == 1
    assert ours[3]["fallback"] < 0.1
    num_negatives = 4 * training_of(dataset).num_triples
    assert ours[3]["generated"] == pytest.approx(0.25 * num_negatives * (1 - ours[3]["fallback"]), rel=0.01)


def test_short_form() -> None:
    """The training loop of this package brings sampler and callback along."""
    tracker = PythonResultTracker()
    run_pipeline(
        training_loop="dans-kgc",
        negative_sampler=None,
        negative_sampler_kwargs=SMALL,
        training_kwargs=dict(),
        result_tracker=tracker,
    )
    assert set(metrics_of(tracker, "hardness")) == {1, 2, 3}
    # however short the epochs are, their share is enough for something to be generated
    assert metrics_of(tracker, "refreshed")[1] > 0
    assert metrics_of(tracker, "fallback")[3] < 0.1


def test_short_form_with_options_of_the_callback() -> None:
    """A curriculum callback that the user has asked for is not joined by a second one, whatever form it has."""
    for asked in (
        dict(callbacks="curriculum", callbacks_kwargs=dict(fit_steps=1, refresh_queries=7)),
        dict(callbacks=["evaluation-loss", "curriculum"])
        | dict(callbacks_kwargs=[dict(triples_factory=training_of("nations")), dict(fit_steps=1, refresh_queries=7)]),
        dict(callbacks=CurriculumTrainingCallback(fit_steps=1, refresh_queries=7)),
    ):
        tracker = PythonResultTracker()
        train(make_loop(cls=DANSKGCTrainingLoop, tracker=tracker), **{"callbacks_kwargs": None, **asked})
        assert set(metrics_of(tracker, "refreshed").values()) == {7}
    # others do not keep it away
    tracker = PythonResultTracker()
    loop = make_loop(cls=DANSKGCTrainingLoop, tracker=tracker)
    train(loop, callbacks="evaluation-loss", callbacks_kwargs=dict(triples_factory=training_of("nations")))
    assert set(metrics_of(tracker, "hardness")) == {1, 2, 3}
    assert all("validation.loss" in tracker.metrics[step] for step in (1, 2, 3))


@pytest.mark.parametrize("by_pipeline", [True, False])
def test_curriculum_ends_with_the_training(by_pipeline: bool) -> None:
    """The number of epochs is found without being told, and progress is 1 after the last one."""
    tracker = PythonResultTracker()
    if by_pipeline:
        run_pipeline(epochs=4, result_tracker=tracker)
    else:
        train(make_loop(tracker=tracker), num_epochs=4)
    curriculum = curriculum_resolver.make(SMALL["curriculum"])
    expected = {epoch: curriculum(epoch / 4).hardness for epoch in range(1, 5)}
    assert metrics_of(tracker, "hardness") == pytest.approx(expected)


def test_curriculum_over_a_given_number_of_epochs() -> None:
    """With a number of epochs of its own, the curriculum may end early, and stays at its end."""
    tracker = PythonResultTracker()
    train(make_loop(tracker=tracker), num_epochs=4, callbacks_kwargs=dict(num_epochs=2, **COUNTED))
    hardness = metrics_of(tracker, "hardness")
    assert hardness[1] < hardness[2] == hardness[3] == hardness[4]


def test_share_of_the_curriculum_is_used() -> None:
    """What the sampler takes from the bank follows the curriculum's share."""
    tracker = PythonResultTracker()
    sampler_kwargs = dict(curriculum="linear", curriculum_kwargs=dict(share=(0.0, 1.0)))
    train(make_loop(tracker=tracker, sampler_kwargs=sampler_kwargs), num_epochs=5)
    generated = metrics_of(tracker, "generated")
    assert generated[1] == 0, "the first epoch has a share of 0"
    assert list(generated.values()) == sorted(generated.values())
    # in the last epoch, the share is that after the one before
    assert metrics_of(tracker, "share") == pytest.approx({1: 0.2, 2: 0.4, 3: 0.6, 4: 0.8, 5: 1.0})
    assert generated[5] == pytest.approx(0.8 * 4 * training_of("nations").num_triples, rel=0.1)


def test_same_seed_same_losses() -> None:
    """With numbers instead of times, two trainings see the same negatives."""
    first, second = (run_pipeline("umls", "ComplEx", epochs=3).losses for _ in range(2))
    assert first == second


def test_negatives_get_harder() -> None:
    """The loss of a trained model on generated negatives is higher than on uniform ones."""
    final = []
    for share in (0.0, 1.0):
        kwargs = {
            **SMALL,
            "num_negs_per_pos": 4,
            "curriculum_kwargs": dict(share=share),
            "targets": (0.1, 0.08, 0.06, 0.04),
            "min_spread": 0.05,
            "decoder_kwargs": dict(min_candidates=8),
        }
        run = run_pipeline("umls", "DistMult", epochs=8, negative_sampler_kwargs=kwargs, optimizer_kwargs=dict(lr=0.05))
        final.append(run.losses[-1])
    assert final[1] > 1.02 * final[0]


# Budgets


def test_no_budget() -> None:
    """With a budget of nothing, nothing is trained or generated, and negatives stay uniform."""
    tracker = PythonResultTracker()
    train(make_loop(tracker=tracker), callbacks_kwargs=dict(refresh_budget=0.0))
    assert metrics_of(tracker, "refreshed") == {1: 0, 2: 0, 3: 0}
    assert not any(metrics_of(tracker, "fit_steps").values())
    assert metrics_of(tracker, "fallback") == {1: 1, 2: 1, 3: 1}


@pytest.mark.parametrize("budget", [0.1, 0.5, 2.0])
def test_budget_bounds_the_overhead(budget: float, monkeypatch: pytest.MonkeyPatch) -> None:
    """However long a single piece of work takes, it does not add up to more than its share of the epochs."""
    clock = Clock(monkeypatch)
    clock.takes(GenerationEngine, "propose", 2.0)
    clock.takes(DiffusionGenerator, "training_loss", 0.1)
    tracker = PythonResultTracker()
    callback = CurriculumTrainingCallback(refresh_budget=budget)
    train(make_loop(tracker=tracker), num_epochs=20, callbacks=[slow_batches(clock), callback], callbacks_kwargs=None)
    in_epochs = 20 * 7.0
    # the last piece, of steering and refreshing, may be too long
    assert callback.overhead_seconds <= budget * in_epochs + 4.2
    assert callback.overhead_seconds >= 0.3 * budget * in_epochs or budget > 0.5
    assert clock.now == pytest.approx(in_epochs + callback.overhead_seconds)
    assert sum(metrics_of(tracker, "refreshed").values()) > 0
    assert sum(metrics_of(tracker, "fit_steps").values()) > 0
    assert sum(metrics_of(tracker, "overhead_seconds").values()) == pytest.approx(callback.overhead_seconds)


def test_preparation_is_not_charged(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is prepared once, as the reference embedding, does not use up the budget of the epochs."""
    clock = Clock(monkeypatch)
    clock.takes(GenerationEngine, "prepare", 1_000.0)
    clock.takes(DiffusionGenerator, "training_loss", 0.1)
    tracker = PythonResultTracker()
    train(make_loop(tracker=tracker), callbacks=[slow_batches(clock), "curriculum"], callbacks_kwargs=[None, {}])
    assert clock.now > 1_000
    assert all(count > 0 for count in metrics_of(tracker, "refreshed").values())


def test_frequency() -> None:
    """Generation may be left to every second epoch."""
    tracker = PythonResultTracker()
    train(make_loop(tracker=tracker), num_epochs=4, callbacks_kwargs=dict(frequency=2, **COUNTED))
    assert [count > 0 for count in metrics_of(tracker, "refreshed").values()] == [False, True, False, True]
    assert len(metrics_of(tracker, "hardness")) == 4


def test_refresh_in_parts() -> None:
    """A refresh takes the queries in turn, until all have been generated for."""
    tracker = PythonResultTracker()
    loop = make_loop(tracker=tracker)
    train(loop, num_epochs=4, callbacks_kwargs=dict(fit_steps=1, refresh_queries=250))
    filled = metrics_of(tracker, "filled")
    assert all(a < b for a, b in itertools.pairwise(filled.values()))
    assert filled[2] == pytest.approx(500 / last_engine(loop).index.num_queries, abs=0.1)


# Margin


def margins(**kwargs: Any) -> tuple[list[float], MarginRankingLoss, list[float]]:
    """Train with an adapted margin, and get the margins in the batches, the loss, and the curriculum's factors."""
    seen: list[float] = []
    loss = MarginRankingLoss(margin=2.0)
    loop = make_loop("TransE", model_kwargs=dict(loss=loss))
    hooks = [
        CurriculumTrainingCallback(adapt_margin=True, **COUNTED),
        Hook("on_batch", lambda hook: seen.append(hook.loss.margin)),
    ]
    train(loop, callbacks=hooks, callbacks_kwargs=None, batch_size=2_000, **kwargs)
    curriculum = curriculum_resolver.make(SMALL["curriculum"])
    epochs = kwargs.get("num_epochs", 3)
    return seen, loss, [curriculum(epoch / epochs).margin_factor for epoch in range(epochs)]


def test_margin_follows_the_curriculum() -> None:
    """The margin moves with the curriculum, and is what it was after the training."""
    seen, loss, factors = margins(num_epochs=4)
    assert seen == pytest.approx([2.0 * factor for factor in factors])
    assert len(set(seen)) == 4
    assert loss.margin == 2.0


def test_margin_after_early_stopping() -> None:
    """PyKEEN tells no callback that it stops early; the margin is what it was nonetheless."""
    dataset = Nations()
    loss = MarginRankingLoss(margin=2.0)
    loop = make_loop("TransE", model_kwargs=dict(loss=loss))
    losses = train(
        loop,
        num_epochs=50,
        callbacks=CurriculumTrainingCallback(adapt_margin=True, **COUNTED),
        callbacks_kwargs=None,
        stopper=_impatient_stopper(loop, dataset),
    )
    assert len(losses) < 50
    assert loss.margin == 2.0


def _impatient_stopper(loop: SLCWATrainingLoop, dataset: Nations) -> EarlyStopper:
    assert dataset.validation is not None
    return EarlyStopper(
        model=loop.model,
        evaluator=RankBasedEvaluator(),
        training_triples_factory=dataset.training,
        evaluation_triples_factory=dataset.validation,
        frequency=1,
        patience=1,
        # no improvement is enough
        relative_delta=1e9,
        evaluation_batch_size=64,
    )


def test_margin_is_left_alone_by_default() -> None:
    """Without being asked to, the callback does not touch the loss."""
    seen: list[float] = []
    loop = make_loop("TransE", model_kwargs=dict(loss=MarginRankingLoss(margin=2.0)))
    hooks = [Hook("on_batch", lambda hook: seen.append(hook.loss.margin)), "curriculum"]
    train(loop, callbacks=hooks, callbacks_kwargs=[None, COUNTED])
    assert set(seen) == {2.0}


@pytest.mark.parametrize(
    ("loss", "told"), [("bcewithlogits", "BCEWithLogitsLoss is None"), ("softplus", "SoftplusLoss is 0.0")]
)
def test_no_margin(loss: str, told: str, caplog: pytest.LogCaptureFixture) -> None:
    """A loss without a margin is no error, but it is said."""
    train(make_loop(model_kwargs=dict(loss=loss)), callbacks_kwargs=dict(adapt_margin=True, **COUNTED))
    assert caplog.text.count(f"adapt_margin=True has no effect: the margin of {told}.") == 1
