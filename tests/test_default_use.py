"""What a new user gets who names nothing but the training loop: networks that are trained, and bands."""

from __future__ import annotations

import pytest
from pykeen.pipeline import pipeline
from pykeen.trackers import PythonResultTracker

from .trainings import metrics_of

pytestmark = pytest.mark.usefixtures("shared_cache", "no_engines")


def test_default_use_trains_the_network() -> None:
    """The third form of the README, with PyKEEN's default ComplEx, on real UMLS: each update has network steps.

    Without the floor, there would be a step or two, if any, within an eighth of the time of so short an epoch.
    """
    tracker = PythonResultTracker()
    pipeline(
        dataset="umls",
        model="ComplEx",
        training_loop="dans-kgc",
        training_kwargs=dict(num_epochs=9, use_tqdm=False),
        evaluation_kwargs=dict(use_tqdm=False),
        result_tracker=tracker,
        random_seed=0,
        device="cpu",
    )
    # what is measured in updates alone; how many there are depends on the machine
    updates = list(metrics_of(tracker, "distinct"))
    assert updates[0] == 1
    steps, refreshed = metrics_of(tracker, "fit_steps"), metrics_of(tracker, "refreshed")
    assert all(steps[epoch] >= 8 for epoch in updates)
    assert all(refreshed[epoch] > 0 for epoch in updates)
    assert metrics_of(tracker, "noise_error").keys() == set(updates)
    assert metrics_of(tracker, "fallback")[9] < 0.2
    assert f"percentile_{3}" in {key.removeprefix("negatives.") for key in tracker.metrics[1]}
