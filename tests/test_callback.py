"""The curriculum callback in real trainings of PyKEEN: coupling, budgets, margins, and whatever model comes along."""

from __future__ import annotations

import collections
import csv
import itertools
import logging
import pathlib
import types
from collections.abc import Callable
from typing import Any

import pytest
import torch
from pykeen.datasets import Nations
from pykeen.datasets.nations import NationsLiteral
from pykeen.evaluation import RankBasedEvaluator
from pykeen.losses import MarginRankingLoss
from pykeen.models import Model, model_resolver
from pykeen.pipeline import PipelineResult, pipeline
from pykeen.stoppers import EarlyStopper
from pykeen.trackers import PythonResultTracker
from pykeen.training import LCWATrainingLoop, SLCWATrainingLoop
from pykeen.training.callbacks import TrainingCallback
from pykeen.triples import CoreTriplesFactory

from pykeen_dans import CurriculumTrainingCallback, DANSKGCTrainingLoop, DiffusionAdaptiveNegativeSampler, callbacks
from pykeen_dans.curriculum import curriculum_resolver
from pykeen_dans.engine import GenerationEngine
from pykeen_dans.generation import base as generation_base
from pykeen_dans.generation.diffusion import DiffusionGenerator
from pykeen_dans.latent import LatentLoss

from .utils import SMALL, from_bank, make_sampler, training_of

pytestmark = pytest.mark.usefixtures("shared_cache", "no_engines")

#: Numbers instead of times, so that what happens does not depend on the machine
COUNTED: dict[str, Any] = dict(fit_steps=2, refresh_queries=2_000)

NUM_BANDS = 4


def run_pipeline(dataset: str = "nations", model: str = "DistMult", epochs: int = 3, **kwargs: Any) -> PipelineResult:
    """Train a small model by names alone."""
    training_kwargs = dict(num_epochs=epochs, batch_size=256, use_tqdm=False, pin_memory=False)
    training_kwargs |= kwargs.pop("training_kwargs", dict(callbacks="curriculum", callbacks_kwargs=COUNTED))
    kwargs = dict(negative_sampler="dans_kgc", negative_sampler_kwargs={**SMALL, "num_negs_per_pos": 4}) | kwargs
    return pipeline(
        dataset=dataset,
        model=model,
        model_kwargs=dict(embedding_dim=8),
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
        kwargs["negative_sampler_kwargs"] = {**SMALL, "num_negs_per_pos": 4, **(sampler_kwargs or {})}
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


class Clock:
    """A clock on which only those things take time that are told how long they take."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        # beware of a loop until some time is over, in which nothing takes time
        self.now = 0.0
        self.patch = monkeypatch
        module = types.SimpleNamespace(perf_counter=lambda: self.now)
        monkeypatch.setattr(callbacks, "time", module)
        monkeypatch.setattr(generation_base, "time", module)

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


@pytest.mark.parametrize("budget", [0.1, 0.5, 2.0])
def test_budget_bounds_the_overhead(budget: float, monkeypatch: pytest.MonkeyPatch) -> None:
    """However long a single piece of work takes, it does not add up to more than its share of the epochs."""
    clock = Clock(monkeypatch)
    clock.takes(GenerationEngine, "propose", 2.0)
    clock.takes(DiffusionGenerator, "_training_step", 0.1)
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
    clock.takes(DiffusionGenerator, "_training_step", 0.1)
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


# Beside other parts of PyKEEN


def test_early_stopping() -> None:
    """Early stopping ends the training, with the best model restored."""
    result = run_pipeline(epochs=30, stopper="early", stopper_kwargs=dict(frequency=2, patience=1, relative_delta=1e9))
    assert len(result.losses) < 30


@pytest.mark.parametrize("coupled", [True, False])
def test_validation_loss(coupled: bool) -> None:
    """PyKEEN's validation loss, whose data loader makes a sampler in inference mode, works beside the callback."""
    dataset = Nations()
    tracker = PythonResultTracker()
    names = ["evaluation-loss", *(["curriculum"] if coupled else [])]
    kwargs = [dict(triples_factory=dataset.validation), *([COUNTED] if coupled else [])]
    loop = make_loop(tracker=tracker)
    train(loop, callbacks=names, callbacks_kwargs=kwargs)
    assert all(tracker.metrics[epoch]["validation.loss"] > 0 for epoch in (1, 2, 3))
    if coupled:
        # the queries are still those of the training
        assert len(last_engine(loop).mapped_triples) == training_of("nations").num_triples


def test_size_probing(monkeypatch: pytest.MonkeyPatch) -> None:
    """Size probing makes samplers of its own, but nothing is prepared twice."""
    prepared: list[GenerationEngine] = []
    prepare = GenerationEngine.prepare

    def counting(engine: GenerationEngine) -> None:
        prepared.append(engine)
        prepare(engine)

    monkeypatch.setattr(GenerationEngine, "prepare", counting)
    for cls in (SLCWATrainingLoop, DANSKGCTrainingLoop):
        prepared.clear()
        tracker = PythonResultTracker()
        loop = make_loop(cls=cls, tracker=tracker, automatic_memory_optimization=True)
        probed: list[int] = []
        probe = loop._train

        def recording(*args: Any, _probe: Any = probe, _probed: list[int] = probed, **kwargs: Any) -> Any:
            _probed.append(bool(kwargs.get("only_size_probing")))
            return _probe(*args, **kwargs)

        monkeypatch.setattr(loop, "_train", recording)
        train(loop)
        assert probed == [False, True], "PyKEEN has probed the batch size within the training"
        assert len(prepared) == 1
        assert metrics_of(tracker, "fallback")[3] < 0.1


@pytest.mark.parametrize("cls", [SLCWATrainingLoop, DANSKGCTrainingLoop])
def test_size_probing_alone(cls: type[SLCWATrainingLoop]) -> None:
    """The search for a batch size works before any training."""
    loop = make_loop(cls=cls)
    assert loop.train(training_of("nations"), batch_size=64, only_size_probing=True, use_tqdm=False) is None
    size, succeeded = loop.batch_size_search(triples_factory=training_of("nations"), batch_size=256)
    assert succeeded and size >= 256


@pytest.mark.parametrize("filterer", ["exact", "bloom", "python-set"])
def test_filtered(filterer: str) -> None:
    """The mask of a filterer goes with the callback."""
    losses = train(make_loop(sampler_kwargs=dict(filtered=True, filterer=filterer)))
    assert all(map(torch.isfinite, torch.tensor(losses)))


def test_workers() -> None:
    """Worker processes see what was generated between the epochs, and what they read is counted."""
    tracker = PythonResultTracker()
    train(make_loop(tracker=tracker), num_workers=2)
    assert metrics_of(tracker, "fallback")[1] == 1
    assert metrics_of(tracker, "fallback")[3] < 0.1
    assert metrics_of(tracker, "generated")[3] > 0


def test_workers_share_rows() -> None:
    """A bank that is too small for all queries is made before the workers are."""
    tracker = PythonResultTracker()
    loop = make_loop(tracker=tracker, sampler_kwargs=dict(memory=0.01))
    train(loop, num_workers=2)
    assert last_engine(loop).bank.shared
    assert metrics_of(tracker, "fallback")[3] < 0.9


def test_checkpoints(tmp_path: pathlib.Path) -> None:
    """A training that is resumed from a checkpoint goes on with the curriculum where it was."""
    options: dict[str, Any] = dict(
        checkpoint_name="test.pt", checkpoint_directory=tmp_path, checkpoint_frequency=0, num_epochs=6
    )

    class Interruption(RuntimeError):
        pass

    def interrupt(hook: TrainingCallback) -> None:
        if hook.training_loop._epoch == 3:
            raise Interruption

    # the callback keeps the state of the curriculum at each batch
    hardness: dict[int, float] = {}

    def record(hook: TrainingCallback) -> None:
        state = hook.training_loop.negative_sampler_kwargs["coupling"].state
        hardness[hook.training_loop._epoch] = state.hardness

    callbacks_of_run = lambda *more: ["curriculum", Hook("on_batch", record), *more]  # noqa: E731
    with pytest.raises(Interruption):
        train(
            make_loop(),
            callbacks=callbacks_of_run(Hook("pre_batch", interrupt)),
            callbacks_kwargs=[COUNTED, None, None],
            **options,
        )
    assert set(hardness) == {0, 1, 2}
    losses = train(make_loop(), callbacks=callbacks_of_run(), callbacks_kwargs=[COUNTED, None], **options)
    assert len(losses) == 6
    curriculum = curriculum_resolver.make(SMALL["curriculum"])
    assert hardness == pytest.approx({epoch: curriculum(epoch / 6).hardness for epoch in range(6)})


def test_the_same_callback_twice() -> None:
    """A callback that has been in a training before begins anew."""
    callback = CurriculumTrainingCallback(**COUNTED)
    results = []
    for _ in range(2):
        tracker = PythonResultTracker()
        losses = train(make_loop(tracker=tracker), callbacks=callback, callbacks_kwargs=None)
        results.append((losses, metrics_of(tracker, "hardness"), metrics_of(tracker, "fallback")))
    assert results[0] == results[1]


def test_train_again() -> None:
    """A loop that has been trained may be trained on, with a callback of its own."""
    loop = make_loop()
    assert len(train(loop, num_epochs=2)) == 2
    assert len(train(loop, num_epochs=4, continue_training=True)) == 4


def test_user_options_are_not_changed() -> None:
    """The dictionary that the user has passed stays as it was, so that it can be used again or saved."""
    options = {**SMALL}
    before = dict(options)
    run_pipeline(negative_sampler_kwargs=options)
    assert options == before


def test_sampler_instance() -> None:
    """A training loop may be given a sampler that exists already; later samplers do not get what became of it."""
    tracker = PythonResultTracker()
    sampler = make_sampler("nations", num_negs_per_pos=4)
    alone = sampler.engine.bank.ids.clone()
    train(make_loop(negative_sampler=sampler, tracker=tracker))
    assert sampler.coupling is not None
    assert not torch.equal(sampler.engine.bank.ids, alone)
    # its bank was full from the first epoch on
    assert metrics_of(tracker, "fallback")[1] < 0.1
    assert metrics_of(tracker, "hardness")[3] == pytest.approx(sampler.curriculum(1.0).hardness)
    later = make_sampler("nations", num_negs_per_pos=4)
    assert torch.equal(later.engine.bank.ids, alone)


def test_lcwa() -> None:
    """A loop that draws no negatives is told so, in one message."""
    with pytest.raises(ValueError, match=r"training_loop=LCWATrainingLoop draws no negatives.*slcwa.*dans_kgc"):
        pipeline(
            dataset="nations",
            model="DistMult",
            training_loop="lcwa",
            training_kwargs=dict(callbacks="curriculum", num_epochs=1, use_tqdm=False),
        )
    factory = training_of("nations")
    model = model_resolver.make("DistMult", triples_factory=factory)
    with pytest.raises(ValueError, match="draws no negatives"):
        LCWATrainingLoop(model=model, triples_factory=factory).train(factory, callbacks="curriculum")


@pytest.mark.parametrize(
    ("sampler", "cls"), [("basic", SLCWATrainingLoop), (None, SLCWATrainingLoop), ("basic", DANSKGCTrainingLoop)]
)
def test_other_samplers(sampler: str | None, cls: type[SLCWATrainingLoop]) -> None:
    """A sampler that generates nothing is named, with the one to use."""
    loop = make_loop(negative_sampler=None, cls=cls)
    loop.negative_sampler = sampler
    with pytest.raises(ValueError, match=r"negative_sampler='basic' generates no negatives.*dans_kgc"):
        train(loop, callbacks_kwargs=None)


# Latent mode


def test_latent_loss() -> None:
    """The loss of generated vectors is a part of the training, and is reported."""
    tracker = PythonResultTracker()
    loop = make_loop("TransE", tracker=tracker)
    norms: dict[str, list[float]] = {"without": [], "with": []}
    hooks = [
        Hook("on_batch", lambda hook: norms["without"].append(_gradient_norm(hook.model))),
        CurriculumTrainingCallback(latent_weight=1.0, **COUNTED),
        Hook("on_batch", lambda hook: norms["with"].append(_gradient_norm(hook.model))),
    ]
    train(loop, callbacks=hooks, callbacks_kwargs=None, num_epochs=2, batch_size=2_000)
    # there is nothing generated in the first epoch
    assert norms["with"][0] == norms["without"][0]
    assert norms["with"][1] != norms["without"][1]
    latent = metrics_of(tracker, "latent_loss")
    assert set(latent) == {2}
    assert latent[2] > 0


def _gradient_norm(model: Model) -> float:
    return sum(float(p.grad.pow(2).sum()) for p in model.parameters() if p.grad is not None)


def test_no_latent_loss_by_default(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(LatentLoss, "add_gradient", None)
    train(make_loop())


def test_latent_loss_with_sub_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    """The latent loss is added once for each batch, not once for each of its parts."""
    sizes: list[int] = []
    add_gradient = LatentLoss.add_gradient

    def recording(self: LatentLoss, *, positives: torch.Tensor, **kwargs: Any) -> float:
        sizes.append(len(positives))
        return add_gradient(self, positives=positives, **kwargs)

    monkeypatch.setattr(LatentLoss, "add_gradient", recording)
    train(make_loop(), num_epochs=2, sub_batch_size=50, callbacks_kwargs=dict(latent_weight=0.5, **COUNTED))
    # 1592 triples in batches of 256
    assert sizes == [256] * 6 + [56]


def test_margin_of_the_latent_loss(monkeypatch: pytest.MonkeyPatch) -> None:
    """The curriculum's factor is applied to the margin of the latent loss once, also where the loss has it as well."""
    found: list[float] = []

    def recording(self: LatentLoss, *, loss: Any, **kwargs: Any) -> float:
        found.append(loss.margin)
        return 0.0

    monkeypatch.setattr(LatentLoss, "add_gradient", recording)
    loop = make_loop("TransE", model_kwargs=dict(loss=MarginRankingLoss(margin=2.0)))
    seen: list[float] = []
    hooks = [
        CurriculumTrainingCallback(latent_weight=1.0, adapt_margin=True, **COUNTED),
        Hook("on_batch", lambda hook: seen.append(hook.loss.margin)),
    ]
    train(loop, callbacks=hooks, callbacks_kwargs=None, batch_size=2_000)
    assert found == [2.0, 2.0]
    assert max(seen[1:]) < seen[0], "the loss itself is adapted throughout"


# Models


def rgcn_kwargs() -> dict[str, Any]:
    return dict(num_layers=1, decomposition="bases")


@pytest.mark.parametrize("latent_weight", [0.0, 0.5])
@pytest.mark.parametrize(
    ("model", "model_kwargs", "inverse", "train_kwargs"),
    [
        ("TransE", {}, False, {}),
        ("RotatE", {}, False, {}),
        ("ComplEx", {}, True, {}),
        ("RESCAL", {}, False, {}),
        ("ConvE", dict(embedding_dim=16), True, {}),
        ("TransD", {}, False, {}),
        ("QuatE", {}, False, {}),
        ("NodePiece", dict(num_tokens=3), True, {}),
        ("RGCN", rgcn_kwargs(), False, dict(sampler="schlichtkrull")),
        ("CompGCN", dict(encoder_kwargs=dict(num_layers=1)), True, {}),
    ],
    ids=lambda value: value if isinstance(value, str) else None,
)
def test_models(
    model: str,
    model_kwargs: dict[str, Any],
    inverse: bool,
    train_kwargs: dict[str, Any],
    latent_weight: float,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Whatever the model: its negatives are generated in its own space, and it learns."""
    factory = training_of("nations", create_inverse_triples=inverse)
    tracker = PythonResultTracker()
    loop = make_loop(model, factory, tracker=tracker, model_kwargs=model_kwargs)
    losses = train(
        loop, factory, num_epochs=3, callbacks_kwargs=dict(latent_weight=latent_weight, **COUNTED), **train_kwargs
    )
    assert all(map(torch.isfinite, torch.tensor(losses)))
    assert "space of the reference embedding" not in caplog.text
    engine = last_engine(loop)
    assert engine.space is not None
    with torch.no_grad():
        raw = loop.model.entity_representations[0](indices=None)
    assert engine.space.raw_entities.shape == raw.shape
    assert metrics_of(tracker, "fallback")[3] < 0.1
    assert all(0 < metrics_of(tracker, f"percentile_{band}")[3] < 1 for band in range(NUM_BANDS))
    if latent_weight > 0:
        told = caplog.text.count("latent_weight=0.5 has no effect")
        # models whose interaction needs more than one vector of an entity
        assert told == (1 if model in {"TransD", "ConvE"} else 0)
        assert bool(metrics_of(tracker, "latent_loss")) == (not told)


def test_encoder_gets_gradients_after_a_refresh() -> None:
    """An encoder that keeps its vectors is not cut off from the training by our having looked at them."""
    loop = make_loop("RGCN", model_kwargs=rgcn_kwargs())
    norms: list[float] = []

    def record(hook: TrainingCallback) -> None:
        gradients = [p.grad for p in hook.model.entity_representations.parameters()]
        norms.append(sum(float(g.abs().sum()) for g in gradients if g is not None))

    hooks = ["curriculum", Hook("on_batch", record)]
    train(loop, callbacks=hooks, callbacks_kwargs=[COUNTED, None], sampler="schlichtkrull")
    assert min(norms) > 0


def test_literals() -> None:
    """Of a model with literals, the space is that of the vectors with which it combines them."""
    factory = NationsLiteral().training
    tracker = PythonResultTracker()
    loop = make_loop("DistMultLiteral", factory, tracker=tracker)
    train(loop, factory, callbacks_kwargs=dict(latent_weight=0.5, **COUNTED))
    space = last_engine(loop).space
    assert space is not None and space.vectors.shape == (14, 8)
    assert metrics_of(tracker, "fallback")[3] < 0.1
    assert metrics_of(tracker, "latent_loss")[3] > 0


def test_model_without_vectors(caplog: pytest.LogCaptureFixture) -> None:
    """For a model without entity vectors, the reference embedding is used, which is said once."""
    tracker = PythonResultTracker()
    loop = make_loop("FixedModel", tracker=tracker)
    train(loop, callbacks_kwargs=dict(latent_weight=0.5, **COUNTED))
    assert caplog.text.count("in the space of the reference embedding: model=FixedModel") == 1
    assert caplog.text.count("latent_weight=0.5 has no effect") == 1
    assert metrics_of(tracker, "fallback")[3] < 0.1


def test_model_with_nan(caplog: pytest.LogCaptureFixture) -> None:
    """While the model has NaN in its vectors nothing is generated, which is said once and counted."""
    tracker = PythonResultTracker()
    loop = make_loop("TransE", tracker=tracker)
    kept: list[torch.Tensor] = []

    def weight_of(hook: TrainingCallback) -> torch.Tensor:
        return hook.model.entity_representations[0]._embeddings.weight.data

    def damage(hook: TrainingCallback) -> None:
        kept.append(weight_of(hook).clone())
        if hook.training_loop._epoch > 1:
            weight_of(hook)[3] = float("nan")

    hooks = [
        Hook("post_epoch", damage),
        CurriculumTrainingCallback(**COUNTED),
        # PyKEEN itself ends a training with a loss that is not finite
        Hook("post_epoch", lambda hook: weight_of(hook).copy_(kept[-1])),
    ]
    losses = train(loop, num_epochs=4, callbacks=hooks, callbacks_kwargs=None)
    assert len(losses) == 4
    assert metrics_of(tracker, "skipped") == {2: 1, 3: 1, 4: 1}
    assert caplog.text.count("Nothing is generated while the model is not finite") == 1
    # what was generated before is still there, and valid
    ids = last_engine(loop).bank.ids
    assert (ids >= -1).all() and (ids < 14).all() and (ids >= 0).any()


def test_inductive_mode(caplog: pytest.LogCaptureFixture) -> None:
    """In an inductive mode there are no fixed entities, so that the reference embedding is used, which is said once."""
    factory = training_of("nations", create_inverse_triples=True)
    tracker = PythonResultTracker()
    model = model_resolver.make(
        "InductiveNodePiece",
        dict(embedding_dim=8, num_tokens=3),
        triples_factory=factory,
        inference_factory=factory,
        random_seed=0,
    )
    loop = make_loop(model, factory, tracker=tracker, mode="training")
    train(loop, factory, callbacks_kwargs=dict(latent_weight=0.5, **COUNTED))
    assert caplog.text.count("in the space of the reference embedding, since mode='training'") == 1
    assert caplog.text.count("latent_weight=0.5 has no effect") == 1
    assert metrics_of(tracker, "fallback")[3] < 0.1


def test_unseen_relations_and_entities() -> None:
    """Queries that training lacks, as those of a validation triple, are answered uniformly."""
    factory = CoreTriplesFactory(training_of("nations").mapped_triples[:300], num_entities=20, num_relations=60)
    loop = make_loop("DistMult", factory)
    train(loop, factory, batch_size=64)
    sampler = DiffusionAdaptiveNegativeSampler(
        mapped_triples=factory.mapped_triples,
        num_entities=20,
        num_relations=60,
        coupling=loop.negative_sampler_kwargs["coupling"],
        **{**SMALL, "num_negs_per_pos": 4},
    )
    sampler.coupling.state = curriculum_resolver.make("constant", share=1.0)(0.0)
    _, generated = from_bank(sampler, factory.mapped_triples)
    assert generated.any()
    negatives, generated = from_bank(sampler, torch.tensor([[17, 3, 18], [0, 59, 1], [19, 59, 18]]))
    assert not generated.any()
    assert ((negatives >= 0) & (negatives < torch.tensor([20, 60, 20]))).all()


def test_logging_is_quiet(caplog: pytest.LogCaptureFixture) -> None:
    """An ordinary training has nothing to warn of."""
    with caplog.at_level(logging.WARNING):
        train(make_loop())
    assert not [record for record in caplog.records if record.name.startswith("pykeen_dans")]
