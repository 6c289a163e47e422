"""Small trainings of PyKEEN with the curriculum callback."""

from __future__ import annotations

import types
from collections.abc import Callable
from typing import Any

import pytest
import torch
from pykeen.models import Model, model_resolver
from pykeen.pipeline import PipelineResult, pipeline
from pykeen.trackers import PythonResultTracker
from pykeen.training import SLCWATrainingLoop
from pykeen.training.callbacks import TrainingCallback
from pykeen.triples import CoreTriplesFactory

from pykeen_dans.engine.engine import GenerationEngine
from pykeen_dans.training import callback as callbacks
from pykeen_dans.utils import budget

from .utils import small, training_of

#: Numbers instead of times, so that what happens does not depend on the machine
COUNTED: dict[str, Any] = dict(fit_steps=2, refresh_queries=2_000)


def run_pipeline(dataset: str = "nations", model: str = "DistMult", epochs: int = 3, **kwargs: Any) -> PipelineResult:
    """Train a small model by names alone."""
    training_kwargs = dict(num_epochs=epochs, batch_size=256, use_tqdm=False, pin_memory=False)
    training_kwargs |= kwargs.pop("training_kwargs", dict(callbacks="curriculum", callbacks_kwargs=COUNTED))
    kwargs = dict(negative_sampler="dans_kgc", negative_sampler_kwargs=small(num_negs_per_pos=4)) | kwargs
    return pipeline(
        dataset=dataset,
        model=model,
        model_kwargs=dict(embedding_dim=8) | kwargs.pop("model_kwargs", {}),
        training_kwargs=training_kwargs,
        random_seed=0,
        device="cpu",
        evaluation_kwargs=dict(use_tqdm=False, batch_size=64),
        **kwargs,
    )


def make_loop(
    model: str | Model = "DistMult",
    factory: CoreTriplesFactory | None = None,
    *,
    cls: type[SLCWATrainingLoop] = SLCWATrainingLoop,
    tracker: PythonResultTracker | None = None,
    model_kwargs: dict[str, Any] | None = None,
    sampler_kwargs: dict[str, Any] | None = None,
    **kwargs: Any,
) -> SLCWATrainingLoop:
    """Make a training loop of a small model."""
    factory = factory or training_of("nations")
    torch.manual_seed(0)
    if not isinstance(model, Model):
        model = model_resolver.make(
            model, {"embedding_dim": 8, **(model_kwargs or {})}, triples_factory=factory, random_seed=0
        )
    kwargs.setdefault("negative_sampler", "dans_kgc")
    if isinstance(kwargs["negative_sampler"], str):
        kwargs["negative_sampler_kwargs"] = small(
            kwargs["negative_sampler"], **{"num_negs_per_pos": 4, **(sampler_kwargs or {})}
        )
    return cls(
        model=model,
        triples_factory=factory,
        result_tracker=tracker,
        # a batch of this size fits into memory
        automatic_memory_optimization=kwargs.pop("automatic_memory_optimization", False),
        **kwargs,
    )


def train(loop: SLCWATrainingLoop, factory: CoreTriplesFactory | None = None, **kwargs: Any) -> list[float]:
    """Train quietly, with the curriculum callback unless others are given."""
    kwargs = (
        dict(num_epochs=3, batch_size=256, use_tqdm=False, pin_memory=False)
        | dict(callbacks="curriculum", callbacks_kwargs=COUNTED)
        | kwargs
    )
    losses = loop.train(factory or training_of("nations"), **kwargs)
    assert losses is not None
    return losses


def metrics_of(tracker: PythonResultTracker, name: str) -> dict[int, float]:
    """Get the values of one of our metrics, by epoch."""
    key = f"negatives.{name}"
    return {step: values[key] for step, values in tracker.metrics.items() if step is not None and key in values}


def last_engine(loop: SLCWATrainingLoop) -> GenerationEngine:
    """Get the engine that the callback has used."""
    kwargs = loop.negative_sampler_kwargs
    assert kwargs is not None
    engine = kwargs["coupling"].engine
    assert isinstance(engine, GenerationEngine)
    return engine


class Hook(TrainingCallback):
    """Call a function at one of the hooks."""

    def __init__(self, name: str, function: Callable[[TrainingCallback], Any]) -> None:
        super().__init__()
        setattr(self, name, lambda **kwargs: function(self))


class Clock:
    """A clock on which only those things take time that are told how long they take."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        # beware of a loop until some time is over, in which nothing takes time
        self.now = 0.0
        self.patch = monkeypatch
        module = types.SimpleNamespace(perf_counter=lambda: self.now)
        monkeypatch.setattr(callbacks, "time", module)
        monkeypatch.setattr(budget, "time", module)

    def takes(self, cls: type, name: str, seconds: float) -> None:
        """Let each call of a method take so many seconds."""
        method = getattr(cls, name)

        def slow(instance: Any, *args: Any, **kwargs: Any) -> Any:
            self.now += seconds
            return method(instance, *args, **kwargs)

        self.patch.setattr(cls, name, slow)


def slow_batches(clock: Clock) -> Hook:
    """Let each batch take a second. Nations has 7 in an epoch."""
    return Hook("post_batch", lambda _: clock.__setattr__("now", clock.now + 1))
