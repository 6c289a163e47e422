"""One training for a command."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from typing import Any

from pykeen.datasets import Dataset
from pykeen.pipeline import PipelineResult, pipeline
from pykeen.trackers import PythonResultTracker

from ..inspection.curve import ValidationCurve, ValidationCurveTrainingCallback

__all__ = [
    "Run",
    "train",
]

#: Validation triples are ranked about this many times in a training
_CURVE_POINTS = 20
#: The number of triples that are ranked at once
_BATCH_SIZE = 256


@dataclasses.dataclass(frozen=True)
class Run:
    """One training: what PyKEEN says of it, its validation curve, and what was logged after each epoch."""

    result: PipelineResult
    curve: ValidationCurve
    #: metric -> epoch, as JSON has it -> value
    tracked: Mapping[str, Mapping[str, float]]


def train(recipe: Mapping[str, Any], dataset: Dataset) -> Run:
    """Train by a recipe, on its data set that is loaded already.

    :param recipe: the recipe
    :param dataset: the data set

    :returns: the training
    """
    options = {key: value for key, value in recipe["pipeline"].items() if key != "dataset_kwargs"}
    training = {**options["training_kwargs"], "use_tqdm_batch": False}
    assert dataset.validation is not None
    curve = ValidationCurveTrainingCallback(
        validation=dataset.validation.mapped_triples,
        known=[dataset.training.mapped_triples],
        frequency=math.ceil(training["num_epochs"] / _CURVE_POINTS),
    )
    callback, kwargs = training.get("callbacks"), training.get("callbacks_kwargs")
    training["callbacks"] = [curve] if callback is None else [callback, curve]
    training["callbacks_kwargs"] = [None] if callback is None else [kwargs, None]
    tracker = PythonResultTracker()
    result = pipeline(
        **{
            **options,
            "dataset": dataset,
            "training_kwargs": training,
            "evaluation_kwargs": {"batch_size": _BATCH_SIZE},
        },
        result_tracker=tracker,
    )
    tracked: dict[str, dict[str, float]] = {}
    for epoch, metrics in tracker.metrics.items():
        for name, value in metrics.items():
            if epoch is not None and name.startswith(("negatives.", "loss")):
                tracked.setdefault(name, {})[str(epoch)] = value
    return Run(result=result, curve=curve.curve, tracked=tracked)
