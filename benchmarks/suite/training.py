"""One training, one clock, one row: what all parts of the suite have in common."""

from __future__ import annotations

import contextlib
import gc
import itertools
import logging
import os
import pathlib
import tempfile
import time
import warnings
from collections import defaultdict
from collections.abc import Callable, Iterator
from typing import Any
from unittest import mock

import torch
from pykeen.datasets import Dataset
from pykeen.evaluation import RankBasedEvaluator
from pykeen.models import Model
from pykeen.nn.modules import RotatEInteraction
from pykeen.pipeline import pipeline
from pykeen.sampling import NegativeSampler
from pykeen.training import TrainingLoop
from pykeen.training.callbacks import TrainingCallback, callback_resolver
from pykeen.utils import resolve_device

from pykeen_dans.inspection.diagnostics import NegativeStatistics, as_trained, describe_negatives

from . import data
from .recipes import Setting, experiment
from .rows import environment
from .turns import Turns

METRICS = {"mrr": "inverse_harmonic_mean_rank"} | {k: k for k in ("hits_at_1", "hits_at_3", "hits_at_10", "ndcg_at_5")}
#: The number of triples that are ranked at once
_BATCH_SIZE = 256


class EnoughError(Exception):
    """A clock has seen as many steps as it was asked for."""


def quiet() -> None:
    """Keep off the screen what PyKEEN logs and warns of."""
    for name in ("pykeen", "torch_max_mem", "pykeen_dans", "optuna"):
        logging.getLogger(name).setLevel(logging.ERROR)
    warnings.filterwarnings("ignore", message=".*(pin_memory|always shuffled).*")


def _peak_memory_mib() -> float | None:
    """Tell the largest memory of this process, on the GPU where there is one, and otherwise under Linux."""
    if torch.cuda.is_available():
        return torch.cuda.max_memory_allocated() / 2**20
    status = pathlib.Path("/proc/self/status")
    # not getrusage: under Linux, a process begins with the peak of the one that started it
    return int(status.read_text().partition("VmHWM:")[2].split()[0]) / 2**10 if status.is_file() else None


class Clock(TrainingCallback):
    """Tell how long each part of a training takes, take turns with others, and rank validation triples off the clock.

    The parts are ``setup``, all before the first step, ``draw``, until a batch and its negatives are there, ``scores``,
    up to the loss, ``backward``, ``optimizer``, and ``between`` epochs, as when a generator is fitted.

    :param turns: where to wait after each epoch, off the clock
    :param rank: what ranks validation triples after every so many epochs, off the clock, default: nothing
    :param max_steps: raise :class:`EnoughError` after so many steps
    :param exact: wait for the GPU at the end of each part, and not only at that of each epoch
    """

    def __init__(
        self,
        *,
        turns: Turns | None = None,
        rank: Callable[[Model], float] | None = None,
        every: int = 1,
        max_steps: int | None = None,
        exact: bool = False,
    ) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.turns, self.rank, self.every, self.max_steps, self.exact = turns, rank, every, max_steps, exact
        self.parts: defaultdict[str, float] = defaultdict(float)
        self.steps = 0
        #: the sampler in use, if there is one
        self.sampler: NegativeSampler | None = None
        #: when each epoch ended, in seconds of the clock
        self.epochs: list[float] = []
        #: epoch, seconds and mean reciprocal rank
        self.curve: list[tuple[int, float, float]] = []
        self._last = 0.0
        self._begins = True

    @property
    def seconds(self) -> float:
        """The seconds on the clock so far."""
        return sum(self.parts.values())

    def _mark(self, part: str) -> None:
        """End a part."""
        if self.exact and torch.cuda.is_available():
            torch.cuda.synchronize()
        now = time.perf_counter()
        self.parts[part] += now - self._last
        self._last = now

    def _end_with(self, part: str, function: Callable[..., Any]) -> Callable[..., Any]:
        """Let a part end with a function."""

        def wrapped(*args: Any, **kwargs: Any) -> Any:
            result = function(*args, **kwargs)
            self._mark(part)
            return result

        return wrapped

    def register_training_loop(self, training_loop: TrainingLoop[Any]) -> None:
        super().register_training_loop(training_loop)
        loop: Any = training_loop
        create = loop._create_training_data_loader

        def noted(*args: Any, **kwargs: Any) -> Any:
            loader = create(*args, **kwargs)
            # loops with generated candidates hold their sampler themselves
            self.sampler = getattr(getattr(loop, "_generated", None) or loader.dataset, "sampler", None)
            self.sampler = self.sampler or getattr(loader.dataset, "negative_sampler", None)
            return loader

        loop._create_training_data_loader = noted
        # PyKEEN collects garbage after each epoch; what is there already is none of this training's
        gc.unfreeze()
        gc.collect()
        gc.freeze()
        if self.turns is not None:
            self.turns.wait(0.0)
        self._last = time.perf_counter()

    def pre_batch(self, **kwargs: Any) -> None:
        self._mark("draw" if not self._begins else "between" if self.steps else "setup")
        self._begins = False
        if self.steps == 0:
            loop: Any = self.training_loop
            if hasattr(loop, "_share"):
                loop._share = self._end_with("draw", loop._share)
            loop._process_batch = self._end_with("scores", loop._process_batch)
            # the gradients of a large graph are freed here, before anything is drawn or scored
            loop.optimizer.zero_grad = self._end_with("optimizer", loop.optimizer.zero_grad)
            loop.model.post_parameter_update = self._end_with("optimizer", loop.model.post_parameter_update)
        self.steps += 1

    def on_batch(self, epoch: int, batch: Any, batch_loss: float, **kwargs: Any) -> None:
        self._mark("backward")

    def pre_step(self, **kwargs: Any) -> None:
        self._mark("backward")
        if self.steps == self.max_steps:
            raise EnoughError

    def post_epoch(self, epoch: int, epoch_loss: float, **kwargs: Any) -> None:
        if torch.cuda.is_available():
            torch.cuda.synchronize()
        self._mark("between")
        self._begins = True
        self.epochs.append(self.seconds)
        if self.rank is not None and epoch % self.every == 0:
            self.curve.append((epoch, self.seconds, self.rank(self.model)))
        if self.turns is not None:
            self.turns.wait(self.seconds)
        self._last = time.perf_counter()

    def post_train(self, losses: list[float], **kwargs: Any) -> None:
        self._mark("between")

    def row(self) -> dict[str, Any]:
        """Tell what was measured: seconds in all, of a median epoch and by part, and the curve where there is one."""
        ends = [self.parts["setup"], *self.epochs]
        lengths = sorted(end - start for start, end in itertools.pairwise(ends))
        return {
            "seconds": self.seconds,
            "epoch_seconds": lengths[len(lengths) // 2] if lengths else None,
            "parts": dict(self.parts),
            "steps": self.steps,
            "peak_memory_mib": _peak_memory_mib(),
        } | ({"curve": self.curve} if self.curve else {})


@contextlib.contextmanager
def empty_cache() -> Iterator[None]:
    """Hide what earlier trainings, but not data sets, have left on disk: whatever is made once is on the clock."""
    with tempfile.TemporaryDirectory() as cache, mock.patch.dict(os.environ, {"PYSTOW_HOME": cache}):
        os.environ.pop("PYKEEN_HOME", None)
        yield


@contextlib.contextmanager
def fast_ranking() -> Iterator[None]:
    """Rank by RotatE with one matrix product, since PyKEEN's way takes longer than the training on large graphs.

    Scores are the same up to rounding; trainings use PyKEEN's own.
    """
    slow = RotatEInteraction.forward

    def forward(self: Any, h: torch.Tensor, r: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
        if not torch.is_grad_enabled() and h.ndim == r.ndim == t.ndim == 3:
            # a rotation changes no distance, so that it may be undone on the other side
            for queries, entities in ((h * r, t), (t * r.conj(), h)):
                if entities.shape[0] == 1 and entities.shape[1] > 1000 and queries.shape[1] == 1:
                    # complex vectors are real ones of twice the length
                    pair = (torch.view_as_real(x).flatten(start_dim=-2).double() for x in (queries[:, 0], entities[0]))
                    return -torch.cdist(*pair, compute_mode="use_mm_for_euclid_dist").float()  # type: ignore[misc,arg-type]
        result: torch.Tensor = slow(self, h, r, t)
        return result

    with mock.patch.object(RotatEInteraction, "forward", forward):
        yield


def validation_mrr(model: Model, dataset: Dataset) -> float:
    """Rank the validation triples as test triples are ranked, all other known triples filtered out.

    No test triple is ranked, but one that a model puts before a validation triple is no error. PyKEEN's own validation
    counts it as one, which on dense graphs selects other models than the test does.
    """
    assert dataset.validation is not None
    with fast_ranking():
        result = RankBasedEvaluator(filtered=True, clear_on_finalize=True).evaluate(
            model=model,
            mapped_triples=dataset.validation.mapped_triples,
            additional_filter_triples=[dataset.training.mapped_triples, dataset.testing.mapped_triples],
            batch_size=_BATCH_SIZE,
            use_tqdm=False,
        )
    return float(result.get_metric("inverse_harmonic_mean_rank"))


def train(
    setting: Setting,
    *,
    ranked: str = "test",
    curve: bool = False,
    negatives: int = 0,
    exact: bool = False,
    max_steps: int | None = None,
    turns: Turns | None = None,
    threads: int | None = None,
) -> dict[str, Any]:
    """Train once, and return the row.

    :param ranked: rank the ``test`` triples, once, and those of validation, or those of ``validation`` alone, or none
    :param curve: whether to rank the validation triples in between, off the clock
    :param negatives: describe the negatives of so many positives after the training
    :param exact: see :class:`Clock`, and so ``max_steps``
    :param turns: where to wait for others, in a process of its own, whose number of threads is ``threads``
    """
    if threads is not None:
        torch.set_num_threads(threads)
        quiet()
    made = experiment(setting)
    options = data.with_data_folder(made["pipeline"])
    dataset = data.load(options.pop("dataset"), **options.pop("dataset_kwargs"))
    training = dict(options.pop("training_kwargs"))
    clock = Clock(
        turns=turns,
        rank=(lambda model: validation_mrr(model, dataset)) if curve else None,
        # about this many points of a curve
        every=-(-training["num_epochs"] // 20),
        exact=exact,
        max_steps=max_steps,
    )
    hints, kwargs = training.pop("callbacks", None), training.pop("callbacks_kwargs", None)
    callbacks = [*(callback_resolver.make_many(hints, kwargs) if hints else []), clock]
    # the pipeline insists on an evaluation
    few = dataset.testing.clone_and_exchange_triples(mapped_triples=dataset.testing.mapped_triples[:8])
    row = {
        **{key: made["metadata"][key] for key in ("variant", "digest", "trials")},
        "recipe": setting.recipe,
        "source": made["metadata"]["recipe"],
        "seed": setting.seed,
        "num_epochs": training["num_epochs"],
        "num_triples": dataset.training.num_triples,
        "num_entities": dataset.training.num_entities,
        **environment(resolve_device()),
        "configuration": made["pipeline"],
    }
    with fast_ranking(), empty_cache() if turns is not None else contextlib.nullcontext():
        try:
            result = pipeline(
                **options,
                training=dataset.training,
                validation=dataset.validation,
                testing=dataset.testing if ranked == "test" else few,
                training_kwargs={**training, "callbacks": callbacks, "use_tqdm": False},
                evaluation_kwargs={"use_tqdm": False, "batch_size": _BATCH_SIZE},
                result_tracker="python",
            )
        except EnoughError:
            return row | clock.row()
    row |= {"loss_value": result.losses[-1], **clock.row()}
    if ranked == "test":
        row |= {name: result.get_metric(metric) for name, metric in METRICS.items()}
        row["evaluation_seconds"] = result.evaluate_seconds
    if ranked:
        row["valid_mrr"] = validation_mrr(result.model, dataset)
    if negatives and "negative_sampler" in options and clock.sampler is not None:
        row["negatives"] = _describe(clock.sampler, result.model, dataset, negatives)
    return row


def _describe(sampler: NegativeSampler, model: Model, dataset: Dataset, num_positives: int) -> dict[str, Any]:
    """Tell of the last negatives how hard they were, and how many were true. Nothing is selected by it."""
    training = as_trained(dataset.training)
    held_out = torch.cat([part.mapped_triples for part in (dataset.validation, dataset.testing) if part is not None])
    held_out = as_trained(dataset.training, held_out)
    report = describe_negatives(
        sampler, mapped_triples=training, held_out=held_out, model=model, num_positives=num_positives
    )

    def figures(part: NegativeStatistics) -> dict[str, float]:
        keys = ("count", "known", "held_out", "diversity", "hardness")
        return {key: getattr(part, key) for key in keys}

    drawn = figures(report.drawn) | {"generated": report.from_bank}
    return {"drawn": drawn, "bands": [figures(band) for band in report.bands]}
