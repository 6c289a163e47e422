"""Trainings that are continued, or resumed from a checkpoint, end as if they had never been interrupted."""

from __future__ import annotations

import functools
import logging
import pathlib
import re
from collections.abc import Callable, Mapping
from typing import Any

import pytest
import torch
from pykeen.checkpoints.base import load_state_torch
from pykeen.models import DistMult
from pykeen.trackers import PythonResultTracker
from pykeen.training import SLCWATrainingLoop

from pykeen_dans import CurriculumTrainingCallback
from pykeen_dans.engine.settings import UpdateBudget
from pykeen_dans.engine.state import engine_state, restore_engine
from pykeen_dans.training.loops import (
    CurriculumTrainingLoop,
    DANSKGCTrainingLoop,
    DANSTrainingLoop,
    DHNSTrainingLoop,
)
from pykeen_dans.training.shared_negatives import SharedNegativesTrainingLoop

from .toys import clustered_space, make_engine
from .trainings import last_engine, make_loop, metrics_of, train
from .utils import training_of

pytestmark = pytest.mark.usefixtures("shared_cache", "no_engines")

#: So much work between epochs that not all of the bank is new each time, over a horizon that calls do not shorten
WORK: dict[str, Any] = dict(fit_steps=3, refresh_queries=300, num_epochs=4)

MakeLoop = Callable[..., SLCWATrainingLoop]


CASES: Mapping[str, tuple[MakeLoop, dict[str, Any]]] = {
    "dans_kgc": (functools.partial(make_loop, negative_sampler="dans_kgc"), WORK),
    "dans": (functools.partial(make_loop, negative_sampler="dans"), WORK),
    "dhns": (functools.partial(make_loop, negative_sampler="dhns"), WORK),
    "vectors": (
        functools.partial(make_loop, negative_sampler="dans_kgc"),
        # the vectors of the third epoch are in the space of the first one
        {**WORK, "vector_weight": 0.5, "frequency": 3},
    ),
    "dans-kgc loop": (functools.partial(make_loop, cls=DANSKGCTrainingLoop, num_vectors=2), WORK),
    "dans loop": (functools.partial(make_loop, cls=DANSTrainingLoop, negative_sampler="dans"), WORK),
    # with less than all entities, candidates of the bank are added to the pool
    "pool of the bank": (functools.partial(make_loop, cls=DANSKGCTrainingLoop, num_shared=4), WORK),
    "dhns loop": (functools.partial(make_loop, cls=DHNSTrainingLoop, negative_sampler="dhns"), WORK),
    "curriculum loop": (functools.partial(make_loop, cls=CurriculumTrainingLoop, eta=0.3), WORK),
    "reproducible": (functools.partial(make_loop, negative_sampler="dans_kgc"), dict(reproducible=True, num_epochs=4)),
}


class Run:
    """What a training has come to."""

    def __init__(self, loop: SLCWATrainingLoop, losses: list[float]) -> None:
        self.losses = losses
        self.weights = {name: value.clone() for name, value in loop.model.state_dict().items()}
        self.bank = last_engine(loop).bank.ids.clone()

    def equals(self, other: Run) -> bool:
        """Tell whether all is the same, bit for bit."""
        return (
            self.losses == other.losses
            and torch.equal(self.bank, other.bank)
            and all(torch.equal(value, other.weights[name]) for name, value in self.weights.items())
        )


def run(make: MakeLoop, options: dict[str, Any], seed: int = 1, **kwargs: Any) -> Run:
    """Train a new loop for four epochs unless something else is asked for."""
    loop = make()
    torch.manual_seed(seed)
    kwargs = dict(num_epochs=4, callbacks_kwargs=options) | kwargs
    return Run(loop, train(loop, **kwargs))


@pytest.mark.parametrize("name", CASES)
def test_two_and_two_epochs_are_four(name: str, tmp_path: pathlib.Path) -> None:
    make, options = CASES[name]
    whole = run(make, options)
    # by PyKEEN's checkpoint, in what might be another process
    checkpoint = dict(checkpoint_name="test.pt", checkpoint_directory=tmp_path, checkpoint_frequency=0)
    assert not run(make, options, num_epochs=2, **checkpoint).equals(whole)
    assert run(make, options, seed=99, **checkpoint).equals(whole)
    # in one process, with a callback of its own for each call, or with one for all
    for callback in (None, CurriculumTrainingCallback(**options)):
        loop = make()
        torch.manual_seed(1)
        for num_epochs in (1, 2, 4):
            kwargs: dict[str, Any] = dict(callbacks=callback, callbacks_kwargs=None) if callback else {}
            losses = train(
                loop,
                num_epochs=num_epochs,
                continue_training=num_epochs > 1,
                **(dict(callbacks_kwargs=options) | kwargs),
            )
        assert Run(loop, losses).equals(whole)


@pytest.mark.parametrize("sampler", ["dans_kgc", "dans", "dhns"])
def test_samplers_alone_go_on(sampler: str, tmp_path: pathlib.Path) -> None:
    """Without a callback, the epoch tells where the curriculum is."""
    kwargs = dict(callbacks=None, callbacks_kwargs=None)
    checkpoint = dict(checkpoint_name="test.pt", checkpoint_directory=tmp_path, checkpoint_frequency=0)

    def make() -> SLCWATrainingLoop:
        options = dict(horizon=4, targets=(0.45, 0.2), curriculum_kwargs=dict(kappa=4.0), num_negs_per_pos=4)
        return make_loop(negative_sampler=sampler, sampler_kwargs=options)

    def weights(loop: SLCWATrainingLoop) -> list[float]:
        return torch.cat([value.flatten() for value in loop.model.state_dict().values()]).tolist()

    whole, continued, resumed = make(), make(), make()
    torch.manual_seed(1)
    expected = train(whole, num_epochs=4, drop_last=True, **kwargs)
    torch.manual_seed(1)
    train(continued, num_epochs=2, drop_last=True, **kwargs, **checkpoint)
    assert train(continued, num_epochs=4, drop_last=True, continue_training=True, **kwargs) == expected
    torch.manual_seed(99)
    assert train(resumed, num_epochs=4, drop_last=True, **kwargs, **checkpoint) == expected
    assert weights(whole) == weights(continued) == weights(resumed)


def test_one_epoch_a_call() -> None:
    """What was generated in one call is used in the next."""
    tracker = PythonResultTracker()
    loop = make_loop(tracker=tracker)
    for epoch in range(4):
        train(loop, num_epochs=epoch + 1, continue_training=epoch > 0)
    assert metrics_of(tracker, "fallback")[1] == 1
    assert all(metrics_of(tracker, "fallback")[epoch] < 0.2 for epoch in (2, 3, 4))


def test_the_bank_is_filled_after_the_first_epoch() -> None:
    tracker = PythonResultTracker()
    train(make_loop(tracker=tracker), callbacks_kwargs=dict(frequency=3), num_epochs=4)
    assert metrics_of(tracker, "fallback")[2] < 0.5
    assert {epoch for epoch, number in metrics_of(tracker, "refreshed").items() if number} <= {1, 3}


# Where the state is missing


def checkpoint_of(folder: pathlib.Path, **kwargs: Any) -> dict[str, Any]:
    """Train for two epochs, and tell the options by which this is resumed."""
    options = dict(checkpoint_name="test.pt", checkpoint_directory=folder, checkpoint_frequency=0)
    train(make_loop(**kwargs.pop("loop", {})), num_epochs=2, **kwargs, **options)
    return options


@pytest.mark.parametrize(
    ("before", "reason"),
    [
        # without the callback, nothing is kept
        (dict(callbacks=None, callbacks_kwargs=None), "nothing of them was kept"),
        (dict(loop=dict(negative_sampler="dans")), "cannot be used: it was made for other triples, or by another"),
        (dict(loop=dict(sampler_kwargs=dict(memory=0.01))), "cannot be used: its bank has the shape"),
        (
            dict(loop=dict(sampler_kwargs=dict(generator_kwargs=dict(hidden_dim=24)))),
            "cannot be used: Error.* in loading state_dict",
        ),
    ],
    ids=["missing", "another sampler", "another size", "another network"],
)
def test_nothing_that_fits(
    before: dict[str, Any], reason: str, tmp_path: pathlib.Path, caplog: pytest.LogCaptureFixture
) -> None:
    """There is one warning, the curriculum is where the epoch is, and the bank is full before the first batch."""
    options = checkpoint_of(tmp_path, **before)
    tracker = PythonResultTracker()
    caplog.clear()
    with caplog.at_level(logging.WARNING, logger="pykeen_dans"):
        train(make_loop(tracker=tracker), num_epochs=4, callbacks_kwargs=WORK, **options)
    found = [record.getMessage() for record in caplog.records if "goes on without" in record.getMessage()]
    assert len(found) == 1
    assert caplog.text.count("begins anew") == 1
    assert re.search(reason, found[0])
    assert metrics_of(tracker, "fallback")[3] < 0.2
    assert list(metrics_of(tracker, "hardness")) == [3, 4]


@pytest.mark.parametrize("damage", ["version", "engine"])
def test_damaged_state(damage: str, tmp_path: pathlib.Path, caplog: pytest.LogCaptureFixture) -> None:
    options = checkpoint_of(tmp_path)
    path = tmp_path / "test.pt"
    content = torch.load(path, weights_only=False)
    state = content["optimizer_state_dict"]["state"]["pykeen_dans"]
    state[damage] = {"version": 7, "engine": {}}[damage]
    torch.save(content, path)
    tracker = PythonResultTracker()
    train(make_loop(tracker=tracker), num_epochs=3, **options)
    assert caplog.text.count("goes on without the negatives") == 1
    assert metrics_of(tracker, "fallback")[3] < 0.2


def test_checkpoints_are_read_without_the_callback(tmp_path: pathlib.Path) -> None:
    """Those who do not know what is kept take no notice of it."""
    options = checkpoint_of(tmp_path)
    losses = train(make_loop(negative_sampler=None), callbacks=None, callbacks_kwargs=None, num_epochs=4, **options)
    assert len(losses) == 4


def test_checkpoints_of_weights_alone(tmp_path: pathlib.Path) -> None:
    """PyKEEN's callback of this name writes weights and nothing else, and so it stays."""
    loop = make_loop()
    kwargs = [WORK, dict(schedule="every", schedule_kwargs=dict(frequency=1), root=tmp_path)]
    train(loop, callbacks=["curriculum", "checkpoint"], callbacks_kwargs=kwargs)
    paths = sorted(tmp_path.glob("*.pt"))
    assert len(paths) == 3
    model = DistMult(triples_factory=training_of("nations"), embedding_dim=8)
    model.load_state_dict(load_state_torch(paths[-1])["state_dict"])
    for name, value in model.state_dict().items():
        assert torch.equal(value, loop.model.state_dict()[name])


def test_a_checkpoint_is_whole_or_the_one_before(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    options = dict(checkpoint_name="test.pt", checkpoint_directory=tmp_path, checkpoint_frequency=0)
    for cls in (SharedNegativesTrainingLoop, CurriculumTrainingLoop):
        train(make_loop(cls=cls), num_epochs=1, **options)
        before = (tmp_path / "test.pt").read_bytes()

        def broken(content: Any, path: pathlib.Path, **kwargs: Any) -> None:
            pathlib.Path(path).write_bytes(b"half")
            raise KeyboardInterrupt

        with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
            patch.setattr(torch, "save", broken)
            train(make_loop(cls=cls), num_epochs=2, **options)
        assert [path.name for path in tmp_path.iterdir()] == ["test.pt"]
        assert (tmp_path / "test.pt").read_bytes() == before
        (tmp_path / "test.pt").unlink()


# Engines


@pytest.mark.parametrize("generator", ["diffusion", "ridge", "two-way-gan", "prior", "hierarchical"])
def test_an_engine_goes_on_where_another_was(generator: str) -> None:
    def make() -> Any:
        return make_engine(generator, targets=(0.3, 0.1))

    def work(engine: Any, space: Any) -> None:
        engine.update(space, None, UpdateBudget(fit_steps=3, refresh_queries=50))
        engine.steering.update([[0.01] * len(engine.sources), [0.4] * len(engine.sources)], engine.generator)

    first, second = make(), make()
    for seed in range(2):
        work(first, clustered_space(seed=seed))
    restore_engine(second, engine_state(first), device=torch.device("cpu"))
    for engine in (first, second):
        work(engine, clustered_space(seed=2))
    assert 0 < first.bank.filled < 1
    assert torch.equal(first.bank.ids, second.bank.ids)
    assert first.steering.state_dict() == second.steering.state_dict()
    assert torch.equal(first.random.get_state(), second.random.get_state())
