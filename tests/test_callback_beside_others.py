"""The curriculum callback beside other parts of PyKEEN: stoppers, size probing, workers, checkpoints, other loops."""

from __future__ import annotations

import copy
import pathlib
from typing import Any

import pytest
import torch
from pykeen.datasets import Nations
from pykeen.models import model_resolver
from pykeen.pipeline import pipeline
from pykeen.trackers import PythonResultTracker
from pykeen.training import LCWATrainingLoop, SLCWATrainingLoop
from pykeen.training.callbacks import TrainingCallback

from pykeen_dans import (
    CurriculumTrainingCallback,
    CurriculumTrainingLoop,
    DANSKGCTrainingLoop,
    SharedNegativesTrainingLoop,
)
from pykeen_dans.engine.curriculum import curriculum_resolver
from pykeen_dans.engine.engine import GenerationEngine

from .trainings import COUNTED, Hook, last_engine, make_loop, metrics_of, run_pipeline, train
from .utils import make_sampler, small, training_of

pytestmark = pytest.mark.usefixtures("shared_cache", "no_engines")


# Beside other parts of PyKEEN


def test_early_stopping() -> None:
    """Early stopping ends the training."""
    result = run_pipeline(epochs=30, stopper="early", stopper_kwargs=dict(frequency=2, patience=1, relative_delta=1e9))
    # at the second look
    assert len(result.losses) == 4


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
        assert len(last_engine(loop).graph.mapped_triples) == training_of("nations").num_triples


@pytest.mark.parametrize("cls", [SLCWATrainingLoop, CurriculumTrainingLoop, DANSKGCTrainingLoop])
def test_a_validation_loss_has_the_candidates_of_the_training(
    cls: type[SLCWATrainingLoop], monkeypatch: pytest.MonkeyPatch
) -> None:
    """No second engine is made for validation triples, with or without the callback."""
    made: list[GenerationEngine] = []
    begin = GenerationEngine.__init__

    def counting(engine: GenerationEngine, **kwargs: Any) -> None:
        begin(engine, **kwargs)
        made.append(engine)

    monkeypatch.setattr(GenerationEngine, "__init__", counting)
    loop = make_loop(cls=cls)
    train(
        loop, num_epochs=2, callbacks=["evaluation-loss"], callbacks_kwargs=[dict(triples_factory=Nations().validation)]
    )
    assert len(made) == 1
    assert torch.equal(made[0].graph.mapped_triples, training_of("nations").mapped_triples)


def test_a_validation_loss_leaves_proposals_alone() -> None:
    """What negatives are drawn by is counted among training triples, also after the first validation."""
    factory = training_of("nations")
    loop = make_loop(cls=SharedNegativesTrainingLoop, negative_sampler=None, proposal="frequency")
    proposals: list[Any] = []
    hook = Hook("on_batch", lambda _: proposals.append(loop._proposals))
    validation = dict(triples_factory=Nations().validation)
    train(loop, factory, num_epochs=2, callbacks=[hook, "evaluation-loss"], callbacks_kwargs=[None, validation])
    assert len(proposals) == 14
    assert all(each is proposals[0] for each in proposals)


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
        assert metrics_of(tracker, "fallback")[3] < 0.2


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
    assert metrics_of(tracker, "fallback")[3] < 0.2
    assert metrics_of(tracker, "generated")[3] > 0


def test_workers_share_rows() -> None:
    """A bank that is too small for all queries is made before the workers are."""
    tracker = PythonResultTracker()
    # room for a third of the queries
    loop = make_loop(tracker=tracker, sampler_kwargs=dict(memory=0.01))
    train(loop, num_workers=2)
    assert last_engine(loop).bank.shared
    assert metrics_of(tracker, "fallback")[3] < 0.9


def test_checkpoints(tmp_path: pathlib.Path) -> None:
    """A training that is resumed from a checkpoint goes on with the curriculum where it was."""
    options: dict[str, Any] = dict(
        checkpoint_name="test.pt", checkpoint_directory=tmp_path, checkpoint_frequency=0, num_epochs=6
    )

    factory = training_of("umls")

    def loop_of_run() -> SLCWATrainingLoop:
        return make_loop(factory=factory)

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
            loop_of_run(),
            factory,
            callbacks=callbacks_of_run(Hook("pre_batch", interrupt)),
            callbacks_kwargs=[COUNTED, None, None],
            **options,
        )
    assert set(hardness) == {0, 1, 2}
    losses = train(loop_of_run(), factory, callbacks=callbacks_of_run(), callbacks_kwargs=[COUNTED, None], **options)
    assert len(losses) == 6
    curriculum = curriculum_resolver.make(None)
    assert hardness == pytest.approx({epoch: curriculum(epoch / 6, num_bands=4).hardness for epoch in range(6)})


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
    options = small()
    before = copy.deepcopy(options)
    run_pipeline(negative_sampler_kwargs=options)
    assert options == before


def test_sampler_instance() -> None:
    """A training loop may be given a sampler that exists already; later samplers do not get what became of it."""
    tracker = PythonResultTracker()
    sampler = make_sampler("nations", num_negs_per_pos=4, targets=(0.45, 0.2))
    alone = sampler.engine.bank.ids.clone()
    train(make_loop(negative_sampler=sampler, tracker=tracker))
    assert sampler.coupling is not None
    assert not torch.equal(sampler.engine.bank.ids, alone)
    # its bank was full from the first epoch on
    assert metrics_of(tracker, "fallback")[1] < 0.2
    assert metrics_of(tracker, "hardness")[3] == pytest.approx(
        sampler.curriculum(1.0, num_bands=sampler.engine.num_bands).hardness
    )
    later = make_sampler("nations", num_negs_per_pos=4, targets=(0.45, 0.2))
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
