"""The curriculum callback in real trainings of PyKEEN: coupling, metrics and budgets."""

from __future__ import annotations

import collections
import csv
import itertools
import pathlib

import pytest
from pykeen.trackers import PythonResultTracker
from pykeen.training.callbacks import TrainingCallback

from pykeen_dans import CurriculumTrainingCallback
from pykeen_dans.engine.curriculum import curriculum_resolver
from pykeen_dans.engine.engine import GenerationEngine
from pykeen_dans.generators.diffusion_process import DiffusionProcess

from .trainings import COUNTED, Clock, Hook, last_engine, make_loop, metrics_of, run_pipeline, slow_batches, train
from .utils import small, training_of

pytestmark = pytest.mark.usefixtures("shared_cache", "no_engines")


# Coupling, by names alone


@pytest.mark.parametrize(("dataset", "num_bands"), [("nations", 1), ("umls", 4)])
def test_metrics_reach_the_tracker(dataset: str, num_bands: int, tmp_path: pathlib.Path) -> None:
    """The callback tells the result tracker after each epoch what the negatives were."""
    path = tmp_path / "log.csv"
    run_pipeline(dataset, "ComplEx", epochs=3, result_tracker="csv", result_tracker_kwargs=dict(path=path))
    ours: dict[int, dict[str, float]] = collections.defaultdict(dict)
    for row in csv.reader(path.read_text().splitlines()):
        if row[0] == "metric" and row[2].startswith("negatives."):
            ours[int(row[1])][row[2].removeprefix("negatives.")] = float(row[3])
    assert set(ours) == {1, 2, 3}
    per_band = {f"{name}_{band}" for name in ("percentile", "spread") for band in range(num_bands)}
    for metrics in ours.values():
        assert per_band == {name for name in metrics if name.startswith(("percentile_", "spread_"))}
        assert all(0 <= metrics[key] <= 1 for key in per_band)
        assert {"hardness", "distinct", "overhead_seconds", "noise_error", "ridge_error"} <= set(metrics)
        assert metrics["share"] == 0.125
        assert metrics["fit_steps"] == 2
        assert metrics["refreshed"] > 0
        assert metrics["filled"] > 0.9
    # nothing is generated before the first epoch, and hardly a query is without candidates after it
    assert ours[1]["fallback"] == 1
    assert ours[3]["fallback"] < 0.15
    num_negatives = 4 * training_of(dataset).num_triples
    assert ours[3]["generated"] == pytest.approx(0.125 * num_negatives * (1 - ours[3]["fallback"]), rel=0.03)


@pytest.mark.parametrize("by_pipeline", [True, False])
def test_curriculum_ends_with_the_training(by_pipeline: bool) -> None:
    """The number of epochs is found without being told, and progress is 1 after the last one."""
    tracker = PythonResultTracker()
    if by_pipeline:
        run_pipeline("umls", epochs=4, result_tracker=tracker)
    else:
        train(make_loop(factory=training_of("umls"), tracker=tracker), training_of("umls"), num_epochs=4)
    curriculum = curriculum_resolver.make(None)
    expected = {epoch: curriculum(epoch / 4, num_bands=4).hardness for epoch in range(1, 5)}
    assert metrics_of(tracker, "hardness") == pytest.approx(expected)


def test_curriculum_over_a_given_number_of_epochs() -> None:
    """With a number of epochs of its own, the curriculum may end early, and stays at its end."""
    tracker = PythonResultTracker()
    train(
        make_loop(factory=training_of("umls"), tracker=tracker),
        training_of("umls"),
        num_epochs=4,
        callbacks_kwargs=dict(num_epochs=2, **COUNTED),
    )
    hardness = metrics_of(tracker, "hardness")
    assert hardness[1] < hardness[2] == hardness[3] == hardness[4]


@pytest.mark.parametrize(
    ("curriculum", "kwargs"),
    [
        ("linear", dict(kappa=5.0)),
        ("exponential", dict(rate=-4.0)),
        ("exponential", dict(rate=8.0)),
        ("constant", {}),
        ("reversed", dict(kappa=3.0)),
    ],
)
def test_share_is_constant(curriculum: str, kwargs: dict[str, float]) -> None:
    """Whatever the curriculum does to the bands, as many negatives are generated in each epoch."""
    tracker = PythonResultTracker()
    factory = training_of("umls")
    options = dict(curriculum=curriculum, curriculum_kwargs=kwargs, share=0.5, known_answers="mask")
    train(make_loop(factory=factory, tracker=tracker, sampler_kwargs=options), factory, num_epochs=5)
    assert metrics_of(tracker, "share") == dict.fromkeys(range(1, 6), 0.5)
    generated = metrics_of(tracker, "generated")
    # in the first epoch there is no model yet to generate for
    assert generated.pop(1) == 0
    assert list(generated.values()) == pytest.approx([0.5 * 4 * factory.num_triples] * 4, rel=0.02)
    hardness = list(metrics_of(tracker, "hardness").values())
    assert len(set(hardness)) == (1 if curriculum == "constant" else 5)
    assert hardness == sorted(hardness, reverse=curriculum == "reversed")


def test_same_seed_same_losses() -> None:
    """With numbers instead of times, two trainings see the same negatives."""
    first, second = (run_pipeline("umls", "ComplEx", epochs=3).losses for _ in range(2))
    assert first == second


def test_negatives_get_harder() -> None:
    """The loss of a trained model on generated negatives is higher than on uniform ones."""
    final = []
    for share in (0.0, 1.0):
        kwargs = small(num_negs_per_pos=4, share=share, targets=(0.1, 0.05), min_candidates=8)
        run = run_pipeline("umls", "DistMult", epochs=8, negative_sampler_kwargs=kwargs, optimizer_kwargs=dict(lr=0.05))
        final.append(run.losses[-1])
    assert final[1] > 1.03 * final[0]


@pytest.mark.parametrize(("measured", "num_updates"), [(0.45, 10), (0.45, 9), (0.21, 10)])
def test_bands_off_their_targets_are_told_at_the_end(
    measured: float, num_updates: int, caplog: pytest.LogCaptureFixture
) -> None:
    """Bands that are not held are no error, but the user is told of them, with what they are and were to be."""

    def measure(hook: TrainingCallback) -> None:
        steering = last_engine(hook.training_loop).steering
        steering.percentiles, steering.num_updates = [[measured]], num_updates

    loop = make_loop(sampler_kwargs=dict(targets=(0.2,)))
    train(loop, num_epochs=1, callbacks=["curriculum", Hook("post_epoch", measure)], callbacks_kwargs=[COUNTED, None])
    told = [message for message in caplog.messages if "median rank percentile" in message]
    # bands that were moved a few times only may still be on their way
    assert len(told) == (measured == 0.45 and num_updates == 10)
    assert all("0.450 rather than 0.200 in band 0 of generated; choose targets nearby" in m for m in told)


# Budgets


def test_no_budget() -> None:
    """With a budget of nothing, nothing is trained or generated, and negatives stay uniform."""
    tracker = PythonResultTracker()
    train(make_loop(tracker=tracker), callbacks_kwargs=dict(refresh_budget=0.0))
    assert metrics_of(tracker, "refreshed") == {1: 0, 2: 0, 3: 0}
    assert not any(metrics_of(tracker, "fit_steps").values())
    assert metrics_of(tracker, "fallback") == {1: 1, 2: 1, 3: 1}


@pytest.mark.parametrize("budget", [0.1, 0.5, 1.0])
def test_budget_bounds_the_overhead(budget: float, monkeypatch: pytest.MonkeyPatch) -> None:
    """However long a single piece of work takes, it does not add up to more than its share of the epochs.

    What other callbacks do between epochs, as ranking validation triples, is no part of them.
    """
    clock = Clock(monkeypatch)
    clock.takes(GenerationEngine, "propose", 2.0)
    clock.takes(DiffusionProcess, "losses", 0.3)
    tracker = PythonResultTracker()
    callback = CurriculumTrainingCallback(refresh_budget=budget)
    ranks = Hook("post_epoch", lambda _: clock.__setattr__("now", clock.now + 100))
    others = [slow_batches(clock), ranks]
    train(make_loop(tracker=tracker), num_epochs=20, callbacks=[*others, callback], callbacks_kwargs=None)
    in_epochs = 20 * 7.0
    # the last update, of 8 steps, steering and refreshing, may be too long
    assert callback.overhead_seconds <= budget * in_epochs + 2.4 + 4.6
    assert callback.overhead_seconds >= 0.6 * budget * in_epochs
    assert clock.now == pytest.approx(in_epochs + 20 * 100 + callback.overhead_seconds)
    assert sum(metrics_of(tracker, "refreshed").values()) > 0
    assert sum(metrics_of(tracker, "fit_steps").values()) > 0
    assert sum(metrics_of(tracker, "overhead_seconds").values()) == pytest.approx(callback.overhead_seconds)


@pytest.mark.parametrize("floor", [0, 8, 30])
def test_min_fit_steps(floor: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """However little time there is, each update trains the network for so many steps, and later epochs pay it back."""
    clock = Clock(monkeypatch)
    # longer than there is for a whole update, which is .7 seconds for each epoch
    clock.takes(DiffusionProcess, "fit_gaussian", 1.03)
    clock.takes(DiffusionProcess, "losses", 0.1)
    tracker = PythonResultTracker()
    callback = CurriculumTrainingCallback(refresh_budget=0.1, min_fit_steps=floor)
    train(make_loop(tracker=tracker), num_epochs=14, callbacks=[slow_batches(clock), callback], callbacks_kwargs=None)
    refreshed = metrics_of(tracker, "refreshed")
    updates = [epoch for epoch in refreshed if refreshed[epoch] > 0]
    steps = metrics_of(tracker, "fit_steps")
    assert len(updates) > 2
    assert {steps[epoch] for epoch in updates} == {floor}
    # what was spent on the updates before is earned before the next one
    for number, epoch in enumerate(updates):
        assert 0.7 * (epoch - 1) <= number * (1.03 + 0.1 * floor) < 0.7 * epoch


def test_numbers_instead_of_times(monkeypatch: pytest.MonkeyPatch) -> None:
    """With numbers of steps and of queries, no clock matters, and no floor."""
    for seconds in (0.0, 100.0):
        clock = Clock(monkeypatch)
        clock.takes(DiffusionProcess, "losses", seconds)
        clock.takes(GenerationEngine, "propose", seconds)
        tracker = PythonResultTracker()
        kwargs = dict(fit_steps=3, refresh_queries=70, min_fit_steps=20)
        train(make_loop(tracker=tracker), callbacks_kwargs=kwargs)
        assert set(metrics_of(tracker, "fit_steps").values()) == {3}
        assert set(metrics_of(tracker, "refreshed").values()) == {70}


def test_preparation_is_not_charged(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is prepared once, as the reference embedding, does not use up the budget of the epochs."""
    clock = Clock(monkeypatch)
    clock.takes(GenerationEngine, "prepare", 1_000.0)
    clock.takes(DiffusionProcess, "losses", 0.1)
    tracker = PythonResultTracker()
    train(make_loop(tracker=tracker), callbacks=[slow_batches(clock), "curriculum"], callbacks_kwargs=[None, {}])
    assert clock.now > 1_000
    assert all(count > 0 for count in metrics_of(tracker, "refreshed").values())


def test_frequency() -> None:
    """Generation may be left to every second epoch, but for the first time."""
    tracker = PythonResultTracker()
    train(make_loop(tracker=tracker), num_epochs=4, callbacks_kwargs=dict(frequency=2, **COUNTED))
    assert [count > 0 for count in metrics_of(tracker, "refreshed").values()] == [True, True, False, True]
    assert len(metrics_of(tracker, "hardness")) == 4


def test_refresh_in_parts() -> None:
    """A refresh takes the queries in turn, until all have been generated for."""
    tracker = PythonResultTracker()
    loop = make_loop(tracker=tracker)
    train(loop, num_epochs=4, callbacks_kwargs=dict(fit_steps=1, refresh_queries=250))
    filled = metrics_of(tracker, "filled")
    assert all(a < b for a, b in itertools.pairwise(filled.values()))
    assert filled[2] == pytest.approx(500 / last_engine(loop).index.num_queries, abs=0.01)
