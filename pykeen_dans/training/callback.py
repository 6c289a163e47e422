"""The curriculum training callback, which couples a sampler to the model under training.

Between two epochs, it moves the curriculum and lets the engine work: the generator is trained on the model's current
vectors, the hardness of the bands is held, and a part of the bank is generated anew. All of this is bounded by a share
of the time that the epochs take, and is reported to PyKEEN's result tracker.
"""

from __future__ import annotations

import dataclasses
import logging
import math
import time
from collections.abc import Sequence
from typing import Any

from pykeen.sampling import negative_sampler_resolver
from pykeen.training import SLCWATrainingLoop, TrainingLoop
from pykeen.training.callbacks import MultiTrainingCallback, TrainingCallback

from ..engine.coupling import Coupling
from ..engine.engine import GenerationEngine
from ..engine.settings import UpdateBudget
from ..sampling.base import GeneratedNegativeSampler
from ..space import EntitySpace, NonFiniteSpaceError, UnsupportedModelError, live_space
from ..utils.frames import innermost_local, is_continued, num_epochs_of_training
from ..utils.private import finished_epochs
from ..utils.validation import validate_at_least, validate_flag, validate_non_negative, validate_share
from .resuming import coupling_in_use, keep_with, take_saved
from .vector_loss import VectorLoss
from .watch import TrainingWatch

__all__ = [
    "CurriculumTrainingCallback",
]

logger = logging.getLogger(__name__)

#: The prefix of all metrics in PyKEEN's result tracker
_PREFIX = "negatives"
#: The number of queries that are generated for in each update at least, where work is counted
_LEAST_QUERIES = 1024


class CurriculumTrainingCallback(TrainingCallback):
    """Couple a generated negative sampler to the model under training.

    :param refresh_budget: the time for training the generator and refreshing the bank, as a share of the time that the
        batches take. An update that takes longer is paid back before the next one.
    :param fit_share: the part of this time that goes into training the generator, in [0, 1]
    :param min_fit_steps: the number of training steps of the generator in each update, however little time there is
    :param fit_steps: the number of training steps of the generator after an epoch, instead of a time. Together with
        ``refresh_queries``, two runs of one seed see the same negatives, on any machine.
    :param refresh_queries: the number of queries for which is generated anew after an epoch, instead of a time
    :param reproducible: whether to count work instead of timing it, so that two runs of one seed are equal: after an
        epoch, the generator is trained for ``refresh_budget * fit_share`` steps for each batch, and ``refresh_budget``
        of the bank is generated anew, at least 1,024 queries. ``fit_steps`` and ``refresh_queries`` prevail.
    :param frequency: do all this after every so many epochs only, and once after the first one
    :param num_epochs: the number of epochs over which the curriculum runs, default: those of the training
    :param steer: whether to hold the bands at the sampler's ``targets``. Otherwise, how hard they are is measured and
        logged alone, and spreads and timesteps stay where they begin, as in the papers.
    :param vector_weight: the weight of the loss of generated vectors, scored by the model's interaction themselves as
        in the papers, rather than decoded into entities. 0 leaves it out.
    :param num_vectors: the number of generated vectors for each positive in this loss
    :param vector_kinds: what they replace in turn, among ``"head"``, ``"tail"`` and ``"both"``; DHNS has all three.
        Those that the sampler's ``corruption_scheme`` rules out are left out.
    :param band_margins: whether each hardness band has a margin of its own in this loss, as in DHNS, rather than that
        of the curriculum's stage, as in DANS-KGC; see :mod:`pykeen_dans.training.vector_loss`

    :raises ValueError: if an argument is invalid
    """

    def __init__(
        self,
        *,
        refresh_budget: float = 0.2,
        fit_share: float = 0.4,
        min_fit_steps: int = 8,
        fit_steps: int | None = None,
        refresh_queries: int | None = None,
        reproducible: bool = False,
        frequency: int = 1,
        num_epochs: int | None = None,
        steer: bool = True,
        vector_weight: float = 0.0,
        num_vectors: int = 4,
        vector_kinds: Sequence[str] = ("head", "tail"),
        band_margins: bool = False,
    ) -> None:
        """Initialise the callback."""
        super().__init__()  # type: ignore[no-untyped-call]
        self.refresh_budget = validate_non_negative("refresh_budget", refresh_budget)
        self.fit_share = validate_share("fit_share", fit_share)
        self.min_fit_steps = validate_at_least("min_fit_steps", min_fit_steps, 0)
        self.fit_steps = None if fit_steps is None else validate_at_least("fit_steps", fit_steps, 0)
        self.refresh_queries = (
            None if refresh_queries is None else validate_at_least("refresh_queries", refresh_queries, 0)
        )
        self.reproducible = validate_flag("reproducible", reproducible)
        self.frequency = validate_at_least("frequency", frequency, 1)
        self.num_epochs = None if num_epochs is None else validate_at_least("num_epochs", num_epochs, 1)
        self.steer = validate_flag("steer", steer)
        vector_loss = VectorLoss(
            weight=vector_weight, num_vectors=num_vectors, kinds=vector_kinds, band_margins=band_margins
        )
        self.vector_loss = vector_loss if vector_loss.weight > 0 else None
        self._warned: set[str] = set()
        self._reset()

    def _reset(self) -> None:
        """Forget about earlier trainings."""
        self.coupling = Coupling()
        #: the number of epochs over which the curriculum runs
        self.horizon = 1
        #: when the first batch of this epoch began, and how long it took from there to the end of the last one
        self._epoch_started: float | None = None
        self._epoch_seconds = 0.0
        self._batch_done = False
        self._num_batches = 0
        self._vector_losses: list[float] = []
        self.watch = TrainingWatch()
        #: the seconds that were spent between epochs, over the whole training
        self.overhead_seconds = 0.0

    # docstr-coverage: inherited
    def register_training_loop(self, training_loop: TrainingLoop[Any]) -> None:  # noqa: D102
        super().register_training_loop(training_loop)
        self._reset()
        self._warn_of_options()
        if not isinstance(training_loop, SLCWATrainingLoop):
            raise ValueError(
                f"training_loop={type(training_loop).__name__} draws no negatives, so there is nothing for the "
                f"curriculum callback to do; use training_loop='slcwa' with negative_sampler='dans_kgc', or drop the "
                f"callback."
            )
        horizon = self.num_epochs or num_epochs_of_training()
        if horizon is None:
            raise ValueError(
                "num_epochs=None can only be found out inside of training_loop.train(); pass num_epochs to the "
                "curriculum callback."
            )
        self.horizon = horizon
        # epochs are finished already when a training is resumed
        progress = finished_epochs(training_loop) / self.horizon
        saved = take_saved(training_loop.optimizer)
        if saved is None and (known := coupling_in_use(training_loop)) is not None:
            self.coupling = _couple(training_loop, known)
            known.advance(progress)
            return
        begin = self.fill if finished_epochs(training_loop) and is_continued() else None
        coupling = Coupling(progress=progress, saved=saved, device=training_loop.device, begin=begin)
        self.coupling = _couple(training_loop, coupling)

    def _warn_of_options(self) -> None:
        """Say what cannot work, now that there is a training.

        :raises ValueError: if the training has several of this callback
        """
        others = innermost_local("callback", MultiTrainingCallback, functions=[(None, "_train")])
        if others is not None and sum(isinstance(other, type(self)) for other in others.callbacks) > 1:
            raise ValueError(
                "callbacks has the curriculum callback more than once, but there is one sampler to be coupled; leave "
                "all but one out."
            )
        counted = self.reproducible or self.fit_steps is not None or self.refresh_queries is not None
        if self.refresh_budget == 0 and not counted:
            logger.warning(
                "refresh_budget=0 leaves no time to generate anything, so that all negatives are uniform; choose more, "
                "e.g. 0.2, or tell the amount of work by fit_steps and refresh_queries."
            )

    # docstr-coverage: inherited
    def pre_batch(self, **kwargs: Any) -> None:  # noqa: D102
        self._batch_done = False
        self._num_batches += 1
        if self._epoch_started is None:
            self._epoch_started = time.perf_counter()
            # not earlier, since a training that begins anew makes its optimiser after callbacks are registered
            keep_with(self.optimizer, self.coupling)

    # docstr-coverage: inherited
    def on_batch(self, epoch: int, batch: Any, batch_loss: float, **kwargs: Any) -> None:  # noqa: D102
        # sub-batches call this once each, but with the whole batch
        if self.vector_loss is None or not self.coupling.scores_vectors or self._batch_done:
            return
        self._batch_done = True
        state = self.coupling.state
        assert state is not None and self.vector_loss.supports(self.model)
        self._vector_losses.append(
            self.vector_loss.add_gradient(
                model=self.model,
                loss=self.loss,
                engine=self._engine,
                positives=batch["positives"],
                state=state,
                weights=batch.get("pos_weights"),
            )
        )

    # docstr-coverage: inherited
    def post_batch(self, epoch: int, batch: Any, **kwargs: Any) -> None:  # noqa: D102
        # not after the epoch, where other callbacks may rank validation triples: that is no part of training
        assert self._epoch_started is not None
        self._epoch_seconds = time.perf_counter() - self._epoch_started

    # docstr-coverage: inherited
    def post_epoch(self, epoch: int, epoch_loss: float, **kwargs: Any) -> None:  # noqa: D102
        now = time.perf_counter()
        self.coupling.allowance += self.refresh_budget * self._epoch_seconds
        self._epoch_started, self._epoch_seconds = None, 0.0
        state = self.coupling.advance(epoch / self.horizon)
        engine = self._engine
        metrics: dict[str, float] = {"hardness": state.hardness, "refreshed": 0, "fit_steps": 0}
        if self._vector_losses:
            metrics["vector_loss"] = sum(self._vector_losses) / len(self._vector_losses)
            self._vector_losses.clear()
        due = epoch % self.frequency == 0 or engine.space is None
        if due and self._is_wanted(engine) and self._is_affordable:
            metrics |= self.update(engine, self._budget(engine))
        self._num_batches = 0
        spent = time.perf_counter() - now
        self.overhead_seconds += spent
        self.coupling.allowance -= spent
        metrics["overhead_seconds"] = spent
        # a collapsed generator gets less than is asked for
        metrics["share"] = self.coupling.share * engine.trust
        metrics |= engine.take_counts()
        metrics |= self.watch.epoch(epoch_loss, metrics, engine)
        self.result_tracker.log_metrics(
            {key: value for key, value in metrics.items() if not math.isnan(value)}, step=epoch, prefix=_PREFIX
        )

    # docstr-coverage: inherited
    def post_train(self, losses: list[float], **kwargs: Any) -> None:  # noqa: D102
        if self.coupling.engine is not None:
            self.watch.finish(losses, self.coupling.engine)

    @property
    def _engine(self) -> GenerationEngine:
        engine = self.coupling.engine
        assert engine is not None, "the data loader makes the sampler, and so the engine, before the first batch"
        return engine

    def _is_wanted(self, engine: GenerationEngine) -> bool:
        """Tell whether anybody reads what is generated."""
        reads_vectors = self.vector_loss is not None or getattr(self.training_loop, "reads_vectors", False)
        return engine.generates and (self._is_bank_read or reads_vectors)

    @property
    def _is_bank_read(self) -> bool:
        """Whether anybody reads the bank, as nobody does with no share of generated negatives."""
        return self.coupling.share > 0 and getattr(self.training_loop, "reads_bank", True)

    @property
    def _is_affordable(self) -> bool:
        """Whether there is time; an overdraft, as by an update that took longer than was left, is paid back first."""
        is_counted = self.reproducible or self.fit_steps is not None or self.refresh_queries is not None
        return is_counted or self.coupling.allowance > 0

    def _budget(self, engine: GenerationEngine) -> UpdateBudget:
        """Tell how much the update after an epoch may cost."""
        fit_steps, refresh_queries = self.fit_steps, self.refresh_queries
        if self.reproducible:
            share = self.refresh_budget * self.frequency
            if fit_steps is None:
                fit_steps = max(self.min_fit_steps, math.ceil(share * self.fit_share * self._num_batches))
            if refresh_queries is None:
                refresh_queries = max(_LEAST_QUERIES, math.ceil(share * engine.bank.num_rows))
        return UpdateBudget(
            seconds=max(self.coupling.allowance, 0.0),
            fit_share=self.fit_share,
            least_fit_steps=self.min_fit_steps,
            fit_steps=fit_steps,
            refresh_queries=refresh_queries,
        )

    def fill(self, engine: GenerationEngine) -> None:
        """Fill the bank of a training that is resumed without what was generated before.

        :param engine: the engine
        """
        if self._is_wanted(engine):
            self.update(engine, UpdateBudget(fit_steps=max(self.min_fit_steps, self.fit_steps or 0)))

    def update(self, engine: GenerationEngine, budget: UpdateBudget) -> dict[str, float]:
        """Let the engine work in the model's space.

        :param engine: the engine
        :param budget: how much it may cost

        :returns: metrics
        """
        self.coupling.scores_vectors = False
        try:
            space, is_live = self._space(engine)
        except NonFiniteSpaceError as error:
            self._warn("finite", "Nothing is generated while the model is not finite: %s", error)
            return {"skipped": 1.0}
        if self.vector_loss is not None:
            self.coupling.scores_vectors = self._can_score_vectors(self.vector_loss, engine, is_live)
        if not self._is_bank_read:
            # vectors may be scored themselves, but nobody would read the bank
            budget = dataclasses.replace(budget, refresh_queries=0)
        model = self.model if self.training_loop.mode is None else None
        return engine.update(space, model, budget, steer=self.steer).metrics

    def _can_score_vectors(self, loss: VectorLoss, engine: GenerationEngine, is_live: bool) -> bool:
        """Tell whether the model can score generated vectors, and say why where it cannot."""
        if not is_live or not loss.supports(self.model):
            self._warn(
                "vectors",
                "vector_weight=%s has no effect: the interaction of %s does not take one vector for each entity.",
                loss.weight,
                type(self.model).__name__,
            )
            return False
        if not loss.kinds_of(engine):
            self._warn(
                "vectors",
                "vector_kinds=%s has no effect: the sampler corrupts no such side; change its corruption_scheme.",
                loss.kinds,
            )
            return False
        return True

    def _space(self, engine: GenerationEngine) -> tuple[EntitySpace, bool]:
        """Get the model's space, or that of the reference embedding where the model has none; and which one it is."""
        if self.training_loop.mode is not None:
            self._warn(
                "space",
                "Negatives are generated in the space of the reference embedding, since mode=%r has no fixed entities.",
                self.training_loop.mode,
            )
            return engine.reference_space(), False
        try:
            return live_space(self.model), True
        except UnsupportedModelError as error:
            self._warn("space", "Negatives are generated in the space of the reference embedding: %s", error)
            return engine.reference_space(), False

    def _warn(self, kind: str, message: str, *args: Any) -> None:
        """Warn once for each kind of trouble."""
        if kind not in self._warned:
            self._warned.add(kind)
            logger.warning(message, *args)


def _couple(training_loop: SLCWATrainingLoop, coupling: Coupling) -> Coupling:
    """Bring a coupling to where the data loader will pass it on to the sampler."""
    sampler = training_loop.negative_sampler
    if isinstance(sampler, GeneratedNegativeSampler):
        # an instance is used as it is, so it is given the coupling itself
        return sampler.couple(coupling)
    resolved = negative_sampler_resolver.lookup(sampler)
    if not issubclass(resolved, GeneratedNegativeSampler):
        raise ValueError(
            f"negative_sampler={resolved.get_normalized_name()!r} generates no negatives, so there is nothing for the "
            f"curriculum callback to do; use negative_sampler='dans_kgc', or drop the callback."
        )
    training_loop.negative_sampler_kwargs = {**(training_loop.negative_sampler_kwargs or {}), "coupling": coupling}
    return coupling
