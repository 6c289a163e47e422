"""What is left of a training: results that are small, and training loops that others have not changed."""

from __future__ import annotations

import pathlib
import pickle
from typing import Any

import pytest
import torch
from pykeen.trackers import PythonResultTracker
from pykeen.training import SLCWATrainingLoop

import pykeen_dans
from pykeen_dans import CurriculumTrainingCallback, SharedNegativesTrainingLoop
from pykeen_dans.utils.frames import shows_progress

from .trainings import COUNTED, Hook, make_loop, metrics_of, run_pipeline, train
from .utils import make_sampler, small, training_of

pytestmark = pytest.mark.usefixtures("shared_cache", "no_engines")

TRIPLES = training_of("nations")
VALIDATION = dict(triples_factory=TRIPLES)
CURRICULUM = dict(training_kwargs=dict(num_epochs=1, callbacks="curriculum", callbacks_kwargs=COUNTED, use_tqdm=False))

#: Ways to train: the loop, the sampler
WAYS = [
    ("slcwa", "dans_kgc"),
    ("slcwa", "dans"),
    ("slcwa", "dhns"),
    ("curriculum", "dans_kgc"),
    ("dans-kgc", "dans_kgc"),
    ("dans", "dans"),
    ("dhns", "dhns"),
]


# Pickles


@pytest.mark.parametrize(("loop", "sampler"), WAYS)
def test_results_are_small(loop: str, sampler: str, tmp_path: pathlib.Path) -> None:
    """A result can be pickled and saved, and has no part of what generated its negatives."""
    options: dict[str, Any] = dict(training_loop=loop, loss="crossentropy", epochs=1)
    if loop == "slcwa":
        options = dict(epochs=1)
    result = run_pipeline(negative_sampler=sampler, negative_sampler_kwargs=small(sampler), **options)
    basic = run_pipeline(
        negative_sampler=None, negative_sampler_kwargs=None, training_kwargs=dict(num_epochs=1), epochs=1
    )
    written = pickle.dumps(result)
    assert len(written) < len(pickle.dumps(basic)) + 20_000
    again = pickle.loads(written)
    triples = TRIPLES.mapped_triples[:5]
    assert torch.equal(again.model.score_hrt(triples), result.model.score_hrt(triples))
    # and one can go on with it
    again.training_loop.optimizer = torch.optim.Adam(again.model.parameters())
    again.training_loop.train(TRIPLES, num_epochs=2, batch_size=256, use_tqdm=False, pin_memory=False)
    result.save_to_directory(tmp_path)
    loaded = torch.load(tmp_path / "trained_model.pkl", weights_only=False)
    assert torch.equal(loaded.score_hrt(triples), result.model.score_hrt(triples))


# Validation


@pytest.mark.parametrize("num_vectors", [0, 2])
def test_validation_loss_leaves_shared_negatives_alone(num_vectors: int) -> None:
    """The loss on other triples, between epochs, is that of their own proposals, and training keeps its own."""
    few = TRIPLES.clone_and_exchange_triples(TRIPLES.mapped_triples[:40])
    tracker = PythonResultTracker()
    loop = make_loop(
        cls=pykeen_dans.DANSKGCTrainingLoop,
        model_kwargs=dict(loss="crossentropy"),
        tracker=tracker,
        proposal="frequency",
        num_shared=5,
        num_vectors=num_vectors,
    )
    assert isinstance(loop, SharedNegativesTrainingLoop)
    found = []

    def look(_: Any) -> None:
        assert isinstance(loop, SharedNegativesTrainingLoop)
        found.append((loop._proposals["tail"].probabilities(), loop._generated))

    callbacks = ["evaluation-loss", "curriculum", Hook("post_epoch", look), Hook("pre_step", look)]
    train(loop, callbacks=callbacks, callbacks_kwargs=[dict(triples_factory=few), COUNTED, None, None])
    assert len(tracker.metrics) >= 3
    probabilities, generated = zip(*found, strict=True)
    assert all(torch.equal(one, probabilities[0]) for one in probabilities)
    assert len(set(map(id, generated))) == 1


@pytest.mark.parametrize(
    "cls", [SLCWATrainingLoop, pykeen_dans.CurriculumTrainingLoop, pykeen_dans.DANSKGCTrainingLoop]
)
def test_validation_batches_do_not_count(cls: type[SLCWATrainingLoop]) -> None:
    """What samplers count is what training has asked for."""
    counts = []
    for validated in (False, True):
        tracker = PythonResultTracker()
        loop = make_loop(
            cls=cls, model_kwargs=dict(loss="crossentropy"), tracker=tracker, sampler_kwargs=dict(share=1.0)
        )
        callbacks, options = ["curriculum"], [COUNTED]
        if validated:
            # before and after the curriculum
            callbacks, options = ["evaluation-loss", *callbacks, "evaluation-loss"], [VALIDATION, *options, VALIDATION]
        train(loop, callbacks=callbacks, callbacks_kwargs=options)
        counts.append(metrics_of(tracker, "generated"))
    for epoch in (2, 3):
        assert counts[0][epoch] == pytest.approx(counts[1][epoch], rel=0.1)


def test_progress_alone_beside_a_validation_loss() -> None:
    """The curriculum of a sampler without a callback moves by the positives of training."""
    sampler = make_sampler("nations", horizon=2)
    loop = make_loop(negative_sampler=sampler)
    train(loop, num_epochs=2, callbacks="evaluation-loss", callbacks_kwargs=VALIDATION)
    assert sampler.state == sampler.engine.state(sampler.curriculum, 1.0)
    train(loop, num_epochs=2, callbacks=None, callbacks_kwargs=None)
    alone = make_sampler("nations", horizon=8)
    train(make_loop(negative_sampler=alone), num_epochs=2, callbacks="evaluation-loss", callbacks_kwargs=VALIDATION)
    assert alone.state == alone.engine.state(alone.curriculum, 0.25)


# Callbacks


@pytest.mark.parametrize("cls", [SLCWATrainingLoop, pykeen_dans.DANSKGCTrainingLoop])
def test_callback_given_twice(cls: type[SLCWATrainingLoop]) -> None:
    callback = CurriculumTrainingCallback()
    for callbacks in (["curriculum", "curriculum"], [callback, callback], [callback, "curriculum"]):
        loop = make_loop(cls=cls, model_kwargs=dict(loss="crossentropy"))
        with pytest.raises(ValueError, match=r"callbacks has the curriculum callback more than once, .* leave all but"):
            train(loop, callbacks=callbacks, callbacks_kwargs=None)


@pytest.mark.parametrize("use_tqdm", [False, True])
def test_progress_bars(use_tqdm: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """What takes long shows its progress, unless the training is told to show none."""
    found = []
    loop = make_loop()
    train(loop, num_epochs=1, use_tqdm=use_tqdm, callbacks=Hook("post_epoch", lambda _: found.append(shows_progress())))
    assert found == [use_tqdm]
    assert shows_progress()


# Other types of numbers


@pytest.fixture
def double_precision() -> Any:
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)


LOOPS = [SLCWATrainingLoop, pykeen_dans.DANSKGCTrainingLoop]


@pytest.mark.usefixtures("double_precision")
@pytest.mark.parametrize("sampler", ["dans_kgc", "dans", "dhns"])
@pytest.mark.parametrize("cls", LOOPS)
@pytest.mark.parametrize("model", ["DistMult", "ComplEx"])
def test_double_precision_by_default(model: str, cls: type[SLCWATrainingLoop], sampler: str) -> None:
    check_training(make_vector_loop(model, cls, sampler))


@pytest.mark.parametrize("cls", LOOPS)
@pytest.mark.parametrize(
    ("model", "dtype"),
    [
        ("TransE", torch.float64),
        ("DistMult", torch.bfloat16),
        ("TransE", torch.bfloat16),
        ("ComplEx", torch.float64),
        ("RotatE", torch.float64),
    ],
)
def test_types_of_models(model: str, dtype: torch.dtype, cls: type[SLCWATrainingLoop]) -> None:
    loop = make_vector_loop(model, cls, "dans_kgc")
    # complex numbers are of twice the precision then, too
    loop.model.to(dtype)
    check_training(loop)
    assert {parameter.dtype for parameter in loop.model.parameters()} == {dtype}


def make_vector_loop(model: str, cls: type[SLCWATrainingLoop], sampler: str) -> SLCWATrainingLoop:
    of_loop = {} if cls is SLCWATrainingLoop else dict(num_vectors=2)
    return make_loop(model, cls=cls, negative_sampler=sampler, model_kwargs=dict(loss="crossentropy"), **of_loop)


def check_training(loop: SLCWATrainingLoop) -> None:
    """Train with vectors that are scored, on whatever numbers there are."""
    options = dict(vector_weight=1.0) if type(loop) is SLCWATrainingLoop else {}
    losses = train(loop, num_epochs=2, callbacks_kwargs={**COUNTED, **options})
    assert all(loss == loss for loss in losses)
