"""One training for a command."""

from __future__ import annotations

import dataclasses
import math
from typing import Any

from pykeen.datasets import Dataset
from pykeen.pipeline import PipelineResult, pipeline
from pykeen.sampling import NegativeSampler, negative_sampler_resolver
from pykeen.training import SLCWATrainingLoop

from ..inspection.curve import ValidationCurve, ValidationCurveTrainingCallback
from ..inspection.diagnostics import as_trained

__all__ = [
    "Run",
    "train",
]

#: Validation triples are ranked about this many times in a training
_CURVE_POINTS = 20


@dataclasses.dataclass(frozen=True)
class Run:
    """One training: what PyKEEN says of it, its validation curve, and its sampler."""

    result: PipelineResult
    curve: ValidationCurve
    sampler: NegativeSampler


def train(recipe: dict[str, Any], dataset: Dataset) -> Run:
    """Train by a recipe, on its data set that is loaded already."""
    options = dict(recipe["pipeline"])
    del options["dataset_kwargs"]
    training = {**options["training_kwargs"], "use_tqdm_batch": False}
    assert dataset.validation is not None
    curve = ValidationCurveTrainingCallback(
        validation=dataset.validation.mapped_triples,
        known=[dataset.training.mapped_triples],
        frequency=math.ceil(training["num_epochs"] / _CURVE_POINTS),
    )
    callback = training.get("callbacks")
    training["callbacks"] = [curve] if callback is None else [callback, curve]
    training["callbacks_kwargs"] = [None] * len(training["callbacks"])
    options.update(dataset=dataset, training_kwargs=training, evaluation_kwargs={"batch_size": 256})
    result = pipeline(**options)
    loop = result.training_loop
    assert isinstance(loop, SLCWATrainingLoop)
    # a sampler like the one in training, with the same coupling and so with the same bank
    sampler = negative_sampler_resolver.make(
        loop.negative_sampler,
        loop.negative_sampler_kwargs,
        mapped_triples=as_trained(dataset.training),
        num_entities=dataset.training.num_entities,
        num_relations=dataset.training.num_relations,
    )
    return Run(result=result, curve=curve.curve, sampler=sampler)
