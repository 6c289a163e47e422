"""The training callback that couples a sampler to the model under training.

Between two epochs, it moves the curriculum, trains the generator on the model's current vectors, generates anew for a
part of the bank, and holds the hardness of the bands. All of this is bounded by a share of the time that the epochs
take, and is reported to PyKEEN's result tracker.
"""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Sequence
from typing import Any

from pykeen.sampling import negative_sampler_resolver
from pykeen.training import SLCWATrainingLoop, TrainingLoop
from pykeen.training.callbacks import TrainingCallback

from ..engine.coupling import Coupling
from ..engine.engine import GenerationEngine
from ..generators.base import Budget
from ..sampling.base import GeneratedNegativeSampler
from ..space.entity_space import EntitySpace, NonFiniteSpaceError, UnsupportedModelError, live_space
from ..utils.frames import num_epochs_of_training
from ..utils.validation import validate_at_least, validate_non_negative, validate_share
from .vector_loss import LatentLoss

__all__ = [
    "CurriculumTrainingCallback",
]

logger = logging.getLogger(__name__)

#: Less than any refresh takes, but enough for one to begin
_LEAST_SECONDS = 1e-3
#: The prefix of all metrics in PyKEEN's result tracker
_PREFIX = "negatives"


class CurriculumTrainingCallback(TrainingCallback):
    """Couple a generated negative sampler to the model under training.

    :param refresh_budget: the time for training the generator and refreshing the bank, as a share of the time that the
        epochs take
    :param fit_share: the part of this time that goes into training the generator, in [0, 1]
    :param fit_steps: the number of training steps of the generator after an epoch, instead of a time. Together with
        ``refresh_queries``, two runs of one seed see the same negatives, on any machine.
    :param refresh_queries: the number of queries for which is generated anew after an epoch, instead of a time
    :param frequency: do all this after every so many epochs only
    :param num_epochs: the number of epochs over which the curriculum runs, default: those of the training
    :param adapt_margin: whether to multiply the loss' margin, where it has one, by the curriculum's factor
    :param latent_weight: the weight of the loss of generated vectors, scored by the model's interaction themselves as
        in the papers, rather than decoded into entities. 0 leaves it out.
    :param latent_negatives: the number of generated vectors for each positive in this loss
    :param latent_kinds: what they replace in turn, among ``"head"``, ``"tail"`` and ``"both"``; DHNS has all three.
        Those that the sampler's ``corruption_scheme`` rules out are left out.
    :param latent_adaptive: whether each hardness band has a margin of its own in this loss, as in DHNS, rather than
        that of the curriculum's stage, as in DANS-KGC; see :mod:`pykeen_dans.training.vector_loss`

    :raises ValueError: if an argument is invalid
    """

    def __init__(
        self,
        *,
        refresh_budget: float = 0.2,
        fit_share: float = 0.4,
        fit_steps: int | None = None,
        refresh_queries: int | None = None,
        frequency: int = 1,
        num_epochs: int | None = None,
        adapt_margin: bool = False,
        latent_weight: float = 0.0,
        latent_negatives: int = 4,
        latent_kinds: Sequence[str] = ("head", "tail"),
        latent_adaptive: bool = False,
    ) -> None:
        """Initialise the callback."""
        super().__init__()  # type: ignore[no-untyped-call]
        self.refresh_budget = validate_non_negative("refresh_budget", refresh_budget)
        self.fit_share = validate_share("fit_share", fit_share)
        self.fit_steps = None if fit_steps is None else validate_at_least("fit_steps", fit_steps, 0)
        self.refresh_queries = (
            None if refresh_queries is None else validate_at_least("refresh_queries", refresh_queries, 0)
        )
        self.frequency = validate_at_least("frequency", frequency, 1)
        self.num_epochs = None if num_epochs is None else validate_at_least("num_epochs", num_epochs, 1)
        self.adapt_margin = adapt_margin
        validate_non_negative("latent_weight", latent_weight)
        latent_loss = LatentLoss(
            weight=latent_weight,
            num_negatives=validate_at_least("latent_negatives", latent_negatives, 1),
            kinds=latent_kinds,
            adaptive=latent_adaptive,
        )
        self.latent_loss = latent_loss if latent_weight > 0 else None
        self.coupling = Coupling()
        self._warned: set[str] = set()
        self._reset()

    def _reset(self) -> None:
        """Forget about earlier trainings."""
        self.coupling = Coupling()
        self._horizon = 1
        self._margin: float | None = None
        self._epoch_started: float | None = None
        self._batch_done = False
        self._allowance = 0.0
        # whether negatives were last generated in the model's own space, rather than in that of the reference embedding
        self._live = False
        # whether the model's interaction can score what was generated
        self._latent_ready = False
        self._latent_losses: list[float] = []
        #: the seconds that were spent between epochs, over the whole training
        self.overhead_seconds = 0.0

    # docstr-coverage: inherited
    def register_training_loop(self, training_loop: TrainingLoop[Any]) -> None:  # noqa: D102
        super().register_training_loop(training_loop)
        self._reset()
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
        self._horizon = horizon
        # epochs are finished already when a training is resumed
        self.coupling = _couple(training_loop, Coupling(progress=training_loop._epoch / self._horizon))
        if self.adapt_margin:
            self._margin = getattr(training_loop.loss, "margin", None)
            if not self._margin:
                self._warn(
                    "margin",
                    "adapt_margin=True has no effect: the margin of %s is %s.",
                    type(self.loss).__name__,
                    self._margin,
                )

    # docstr-coverage: inherited
    def pre_batch(self, **kwargs: Any) -> None:  # noqa: D102
        self._batch_done = False
        if self._epoch_started is None:
            self._epoch_started = time.perf_counter()
            self._set_margin()

    # docstr-coverage: inherited
    def on_batch(self, epoch: int, batch: Any, batch_loss: float, **kwargs: Any) -> None:  # noqa: D102
        # sub-batches call this once each, but with the whole batch
        if self.latent_loss is None or not self._latent_ready or self._batch_done:
            return
        self._batch_done = True
        state = self.coupling.state
        assert state is not None and self.latent_loss.supports(self.model)
        # it applies the curriculum's factor to the margin itself
        self._set_margin(adapted=False)
        self._latent_losses.append(
            self.latent_loss.add_gradient(
                model=self.model, loss=self.loss, engine=self._engine, positives=batch["positives"], state=state
            )
        )
        self._set_margin()

    # docstr-coverage: inherited
    def post_epoch(self, epoch: int, epoch_loss: float, **kwargs: Any) -> None:  # noqa: D102
        now = time.perf_counter()
        self._allowance += self.refresh_budget * (now - (self._epoch_started or now))
        self._epoch_started = None
        state = self.coupling.advance(epoch / self._horizon)
        # until the next epoch, so that the loss is as it was wherever PyKEEN ends the training
        self._set_margin(adapted=False)
        metrics: dict[str, float] = {"share": state.share, "hardness": state.hardness, "refreshed": 0}
        if self._latent_losses:
            metrics["latent_loss"] = sum(self._latent_losses) / len(self._latent_losses)
            self._latent_losses.clear()
        # with no share of generated negatives, nobody would read what is generated
        wanted = state.share > 0 or self.latent_loss is not None
        # an overdraft, as by a refresh that took longer than was left, is paid back first
        affordable = self._allowance > 0 or self.fit_steps is not None or self.refresh_queries is not None
        if epoch % self.frequency == 0 and wanted and affordable:
            metrics |= self.generate(self._engine)
        spent = time.perf_counter() - now
        self.overhead_seconds += spent
        self._allowance -= spent
        metrics["overhead_seconds"] = spent
        # a collapsed generator gets less than the curriculum asks for
        metrics["share"] *= self._engine.trust
        metrics |= self._engine.take_counts()
        self.result_tracker.log_metrics(
            {key: value for key, value in metrics.items() if not math.isnan(value)}, step=epoch, prefix=_PREFIX
        )

    def _set_margin(self, *, adapted: bool = True) -> None:
        """Set the loss' margin to what the curriculum asks for, or back to what it was."""
        if self._margin is None:
            return
        loss: Any = self.loss
        loss.margin = self._margin
        if adapted and self.coupling.state is not None:
            loss.margin *= self.coupling.state.margin_factor

    @property
    def _engine(self) -> GenerationEngine:
        engine = self.coupling.engine
        assert engine is not None, "the data loader makes the sampler, and so the engine, before the first batch"
        return engine

    def generate(self, engine: GenerationEngine) -> dict[str, float]:
        """Train the generator, hold the hardness of the bands, and refresh a part of the bank.

        :param engine: the engine

        :returns: metrics
        """
        budget = Budget(seconds=max(self._allowance, 0.0))
        self._live = self._latent_ready = False
        try:
            engine.enter(self._space(engine))
        except NonFiniteSpaceError as error:
            self._warn("finite", "Nothing is generated while the model is not finite: %s", error)
            return {"skipped": 1.0}
        if self.latent_loss is not None:
            self._latent_ready = self._live and self.latent_loss.supports(self.model)
            if not self._latent_ready:
                self._warn(
                    "latent",
                    "latent_weight=%s has no effect: the interaction of %s does not take one vector for each entity.",
                    self.latent_loss.weight,
                    type(self.model).__name__,
                )
            elif not self.latent_loss.kinds_of(engine):
                self._latent_ready = False
                self._warn(
                    "latent",
                    "latent_kinds=%s has no effect: the sampler corrupts no such side; change its corruption_scheme.",
                    self.latent_loss.kinds,
                )
        by_count = self.fit_steps is not None
        fit = engine.fit(
            Budget(units=self.fit_steps, seconds=None if by_count else (budget.seconds or 0.0) * self.fit_share)
        )
        diversity = engine.check()
        percentiles = [math.nan] * engine.num_bands
        if self.training_loop.mode is None:
            percentiles = engine.steer(self.model)
        by_count = self.refresh_queries is not None
        # however short the time is, something is refreshed; the epochs after it pay it back
        least = _LEAST_SECONDS if self._allowance > 0 else 0.0
        left = max((budget.seconds or 0.0) - budget.elapsed, least)
        state = self.coupling.state
        # with no share of generated negatives, vectors may be scored themselves, but nobody would read the bank
        read = state is None or state.share > 0
        units = self.refresh_queries if read else 0
        refresh = engine.refresh(Budget(units=units, seconds=None if by_count else left))
        metrics = dict(fit.metrics)
        metrics.update(diversity.metrics)
        metrics.update(
            fit_steps=fit.steps,
            fit_seconds=fit.seconds,
            refreshed=refresh.queries,
            refresh_seconds=refresh.seconds,
            empty=refresh.empty,
            filled=engine.bank.filled,
        )
        for band, (percentile, spread) in enumerate(zip(percentiles, engine.steering.spreads, strict=True)):
            metrics[f"percentile_{band}"] = percentile
            metrics[f"spread_{band}"] = spread
        return metrics

    def _space(self, engine: GenerationEngine) -> EntitySpace:
        """Get the model's space, or that of the reference embedding where the model has none."""
        if self.training_loop.mode is not None:
            self._warn(
                "space",
                "Negatives are generated in the space of the reference embedding, since mode=%r has no fixed entities.",
                self.training_loop.mode,
            )
            return engine.reference_space()
        try:
            space = live_space(self.model)
        except UnsupportedModelError as error:
            self._warn("space", "Negatives are generated in the space of the reference embedding: %s", error)
            return engine.reference_space()
        self._live = True
        return space

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
