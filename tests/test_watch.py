"""What a user is told of a training that goes wrong, once each, and what the result tracker is told."""

from __future__ import annotations

import logging
from typing import Any

import pytest
from pykeen.pipeline import pipeline
from pykeen.trackers import PythonResultTracker
from pykeen.training.callbacks import TrainingCallback

from pykeen_dans.training.watch import warn_of_losses

from .trainings import COUNTED, Hook, last_engine, make_loop, metrics_of, train
from .utils import training_of

pytestmark = pytest.mark.usefixtures("shared_cache", "no_engines")


def told(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.message for record in caplog.records if record.name == "pykeen_dans.training.watch"]


def kinds(tracker: PythonResultTracker) -> dict[str, list[float]]:
    """Get the metrics of each kind of trouble, by epoch."""
    names = ("bands", "targets", "fit", "fallback", "uniform", "loss")
    return {name: list(metrics_of(tracker, f"warning_{name}").values()) for name in names}


def test_nothing_is_wrong(caplog: pytest.LogCaptureFixture) -> None:
    tracker, factory = PythonResultTracker(), training_of("umls")
    train(make_loop(factory=factory, tracker=tracker), factory, num_epochs=4)
    assert not told(caplog)
    found = kinds(tracker)
    # before the first epoch there is no model to generate for
    assert found.pop("uniform") == [1, 0, 0, 0]
    assert all(values == [0] * 4 for values in found.values())


def test_no_generated_negatives(caplog: pytest.LogCaptureFixture) -> None:
    """With no time, nothing is generated, which has one cause and two lines."""
    tracker = PythonResultTracker()
    train(make_loop(tracker=tracker), num_epochs=4, callbacks_kwargs={"refresh_budget": 0.0})
    (line,) = told(caplog)
    assert "4 of 4 epochs ran without generated negatives" in line
    assert kinds(tracker)["uniform"] == [1] * 4
    assert caplog.text.count("refresh_budget=0 leaves no time to generate anything") == 1


def test_work_that_is_counted_needs_no_time(caplog: pytest.LogCaptureFixture) -> None:
    counted = {"refresh_budget": 0.0, "fit_steps": 2, "refresh_queries": 64}
    tracker = PythonResultTracker()
    train(make_loop(tracker=tracker), num_epochs=2, callbacks_kwargs=counted)
    assert "refresh_budget=0" not in caplog.text
    assert kinds(tracker)["uniform"] == [1, 0]


def test_a_share_of_nothing_is_no_trouble(caplog: pytest.LogCaptureFixture) -> None:
    tracker = PythonResultTracker()
    train(make_loop(tracker=tracker, sampler_kwargs={"share": 0.0}), callbacks_kwargs={"refresh_budget": 0.0})
    assert not told(caplog)
    assert kinds(tracker)["uniform"] == [0] * 3


@pytest.mark.parametrize("generator", ["diffusion", "ridge", "prior"])
def test_no_network_steps(generator: str, caplog: pytest.LogCaptureFixture) -> None:
    """A network that nobody has trained is told; a generator without one is not."""
    tracker = PythonResultTracker()
    loop = make_loop(tracker=tracker, sampler_kwargs={"generator": generator, "generator_kwargs": {}})
    train(loop, callbacks_kwargs={"fit_steps": 0, "refresh_queries": 2000})
    assert ["has had no training step" in line for line in told(caplog)] == [True] * (generator == "diffusion")
    assert kinds(tracker)["fit"] == [generator == "diffusion"] * 3


@pytest.mark.parametrize("num_epochs", [4, 14])
def test_many_fallbacks(num_epochs: int, caplog: pytest.LogCaptureFixture) -> None:
    """A bank that does not get filled is told once, in long trainings before the end."""
    seen_at: list[int] = []

    def look(hook: TrainingCallback) -> None:
        if told(caplog) and not seen_at:
            seen_at.append(hook.training_loop._epoch)

    tracker = PythonResultTracker()
    options = {"callbacks": ["curriculum", Hook("post_epoch", look)], "num_epochs": num_epochs}
    train(make_loop(tracker=tracker), callbacks_kwargs=[{"fit_steps": 1, "refresh_queries": 3}, None], **options)
    (line,) = [line for line in told(caplog) if "were missing in the bank, and uniform ones" in line]
    assert int(line.partition(" %")[0]) > 50
    assert seen_at == ([11] if num_epochs == 14 else [])
    # the first update comes after the first epoch
    assert kinds(tracker)["fallback"] == [0] + [1] * (num_epochs - 1)


def test_bands_that_cannot_be_told_apart(caplog: pytest.LogCaptureFixture) -> None:
    def measure(hook: TrainingCallback) -> None:
        steering = last_engine(hook.training_loop).steering
        steering.percentiles, steering.num_measured = [[0.3], [0.2], [0.2]], 10

    tracker = PythonResultTracker()
    factory = training_of("umls")
    loop = make_loop(factory=factory, tracker=tracker, sampler_kwargs={"targets": (0.3, 0.2, 0.19)})
    callbacks = [Hook("post_batch", measure), "curriculum", Hook("post_epoch", measure)]
    train(loop, factory, callbacks=callbacks, callbacks_kwargs=[None, {"refresh_budget": 0.0}, None], num_epochs=2)
    lines = [line for line in told(caplog) if "cannot be told apart" in line]
    assert len(lines) == 1
    assert "by the model: 1 and 2 of generated; give fewer targets" in lines[0]
    assert kinds(tracker)["bands"] == [1, 1]
    assert kinds(tracker)["targets"] == [0, 0]


@pytest.mark.parametrize(
    ("losses", "message"),
    [
        ([1.0, 0.5, 0.2], None),
        ([3.0] * 3, None),
        ([3.0, 2.99, 2.995] * 4, "hardly moved in 12 epochs (from 3 to 2.995)"),
        ([-3.0, -2.99] * 6, "hardly moved in 12 epochs (from -3 to -2.99)"),
        ([5.0, *([1.0] * 20)], None),
        ([1.0, 0.1, 0.0], "the loss is 0, and was 1 at first"),
        ([1.0, 0.95, 0.94, 0.93, 0.92], "5 epochs, which are PyKEEN's default (the loss went from 1 to 0.92)"),
        ([1.0, 0.9, 0.8, 0.7, 0.6], "5 epochs, which are PyKEEN's default"),
        ([1.0, 0.5, 0.3, 0.2, 0.199], None),
        ([1.0, float("nan"), float("nan"), 1.0, float("nan")], None),
        ([0.0, 0.0], None),
        ([1.0], None),
    ],
)
def test_losses(losses: list[float], message: str | None, caplog: pytest.LogCaptureFixture) -> None:
    for _ in range(2):
        warn_of_losses(losses)
    assert len(told(caplog)) == (message is not None)
    assert message is None or message in told(caplog)[0]


@pytest.mark.parametrize("loop", ["shared-negatives", "dans-kgc", "slcwa"])
def test_default_epochs(loop: str, caplog: pytest.LogCaptureFixture) -> None:
    """Whoever leaves the number of epochs to PyKEEN is told once that they are too few, by our loops."""
    options: dict[str, Any] = {} if loop == "slcwa" else {"training_loop": loop, "loss": "crossentropy"}
    if loop == "dans-kgc":
        options["negative_sampler_kwargs"] = {"reference_kwargs": {"kind": "random", "dim": 8}}
    with caplog.at_level(logging.WARNING):
        pipeline(
            dataset="umls",
            model="ComplEx",
            model_kwargs={"embedding_dim": 8},
            training_kwargs={"use_tqdm": False},
            evaluation_kwargs={"use_tqdm": False, "batch_size": 64},
            random_seed=0,
            device="cpu",
            **options,
        )
    lines = [line for line in told(caplog) if "PyKEEN's default" in line]
    assert len(lines) == (loop != "slcwa")


def test_flat_loss_is_a_metric(caplog: pytest.LogCaptureFixture) -> None:
    """With a learning rate of next to nothing, the loss stays, and the tracker knows it from epoch 10 on."""
    tracker = PythonResultTracker()
    loop = make_loop(tracker=tracker, optimizer_kwargs={"lr": 1e-12})
    train(loop, num_epochs=11, callbacks_kwargs=dict(COUNTED, refresh_queries=100))
    assert kinds(tracker)["loss"][-1] == 1
    assert kinds(tracker)["loss"][:9] == [0] * 9
    assert any("The learning signal is gone" in line for line in told(caplog))
