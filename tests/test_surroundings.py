"""What surrounds a training fails: the disk, the cache, the result tracker, the model itself."""

from __future__ import annotations

import gc
import logging
import math
import pathlib
import resource
import shutil
from typing import Any

import pytest
import torch
from pykeen.trackers import PythonResultTracker
from pykeen.training import NonFiniteLossError, SLCWATrainingLoop

from pykeen_dans.utils import storage

from .trainings import Hook, last_engine, make_loop, metrics_of, train
from .utils import make_sampler

pytestmark = pytest.mark.usefixtures("no_engines")

#: Difficulty is learned and kept in the cache, like the reference embedding
OPTIONS: dict[str, Any] = dict(generator_kwargs=dict(difficulty="learned"))


def train_uncached() -> tuple[list[float], PythonResultTracker]:
    """Train for two epochs, with all that is kept on disk."""
    # engines of earlier trainings, which may share what is not on disk, refer to themselves
    gc.collect()
    tracker = PythonResultTracker()
    return train(make_loop(tracker=tracker, sampler_kwargs=OPTIONS), num_epochs=2), tracker


@pytest.fixture
def losses(isolated_cache: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Train where nothing fails, and forget about folders that could not be written in."""
    monkeypatch.setattr(storage, "_unwritable", set())
    losses, _ = train_uncached()
    assert len(list(isolated_cache.rglob("*.safetensors"))) == 2
    shutil.rmtree(isolated_cache)
    return losses


def test_a_full_disk(
    losses: list[float], isolated_cache: pathlib.Path, monkeypatch: pytest.MonkeyPatch, caplog
) -> None:
    """The training is the same, with a warning for each kind of file, and nothing of half a file is left."""
    write = storage._write

    def full(*args: Any) -> None:
        limits = resource.getrlimit(resource.RLIMIT_FSIZE)
        # no file can grow beyond this
        resource.setrlimit(resource.RLIMIT_FSIZE, (256, limits[1]))
        try:
            write(*args)
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, limits)

    monkeypatch.setattr(storage, "_write", full)
    with caplog.at_level(logging.WARNING, logger="pykeen_dans"):
        assert train_uncached()[0] == losses
    assert caplog.text.count("File too large") == caplog.text.count("going on without a cache") == 2
    assert [path for path in isolated_cache.rglob("*") if path.is_file()] == []


def test_a_folder_that_cannot_be_written_in(losses: list[float], monkeypatch: pytest.MonkeyPatch, caplog) -> None:
    """Not even the superuser can make files in this one."""
    monkeypatch.setenv("PYSTOW_HOME", "/proc/self")
    with caplog.at_level(logging.WARNING, logger="pykeen_dans"):
        assert train_uncached()[0] == losses
    assert caplog.text.count("Cannot write to the cache folder /proc/self") == 2


def test_a_cache_that_is_deleted_during_training(losses: list[float], isolated_cache: pathlib.Path) -> None:
    """Nothing of it is needed until the next sampler, which makes it anew."""
    delete = Hook("post_epoch", lambda _: shutil.rmtree(isolated_cache, ignore_errors=True))
    loop = make_loop(sampler_kwargs=OPTIONS)
    callbacks = dict(callbacks=["curriculum", delete], callbacks_kwargs=[dict(fit_steps=2, refresh_queries=2_000), {}])
    assert train(loop, num_epochs=2, **callbacks) == losses
    assert not isolated_cache.exists()
    assert train_uncached()[0] == losses
    assert isolated_cache.exists()


class BrokenTracker(PythonResultTracker):
    """Loses its connection when our metrics of an epoch come."""

    def __init__(self, epoch: int) -> None:
        super().__init__()
        self.epoch = epoch

    def log_metrics(self, metrics: Any, step: int | None = None, prefix: str | None = None) -> None:
        if prefix == "negatives" and step == self.epoch:
            raise ConnectionError("the tracker is away")
        super().log_metrics(metrics, step=step, prefix=prefix)


def _break_model(loop: SLCWATrainingLoop) -> Hook:
    """Let the model become NaN within the third epoch."""

    def fill(_: Any) -> None:
        if loop._epoch == 2:
            with torch.no_grad():
                next(loop.model.parameters()).fill_(math.nan)

    return Hook("pre_batch", fill)


@pytest.mark.usefixtures("shared_cache")
@pytest.mark.parametrize("fault", ["tracker", "model"])
def test_a_training_that_stops_is_resumed(fault: str, tmp_path: pathlib.Path) -> None:
    """The error goes through, and the last checkpoint leads to as many epochs as were wanted, with valid negatives."""
    keep = dict(checkpoint_name="x.pt", checkpoint_directory=str(tmp_path), checkpoint_frequency=0, num_epochs=4)
    options: list[dict[str, Any]] = [dict(fit_steps=2, refresh_queries=2_000)]
    loop = make_loop(tracker=BrokenTracker(epoch=3 if fault == "tracker" else 0))
    broken = [_break_model(loop)] if fault == "model" else []
    with pytest.raises(ConnectionError if fault == "tracker" else NonFiniteLossError):
        train(loop, callbacks=["curriculum", *broken], callbacks_kwargs=[*options, *({} for _ in broken)], **keep)
    ids = last_engine(loop).bank.ids
    assert ids.max() < 14
    assert (ids >= 0).any()
    tracker = PythonResultTracker()
    resumed = make_loop(tracker=tracker)
    losses = train(resumed, callbacks="curriculum", callbacks_kwargs=options[0], **keep)
    assert len(losses) == 4
    assert all(map(math.isfinite, losses))
    assert losses[:2] == loop.losses_per_epochs[:2]
    assert all(metrics_of(tracker, "share")[epoch] > 0 for epoch in (3, 4))


@pytest.mark.usefixtures("shared_cache")
def test_a_tracker_that_fails_is_replaced(caplog: pytest.LogCaptureFixture) -> None:
    """The same training loop goes on where it was."""
    loop = make_loop(tracker=BrokenTracker(epoch=2))
    with pytest.raises(ConnectionError):
        train(loop, num_epochs=3)
    before = list(loop.losses_per_epochs)
    assert len(before) == 2
    tracker = PythonResultTracker()
    loop.result_tracker = tracker
    assert train(loop, num_epochs=3, continue_training=True)[:2] == before
    assert list(metrics_of(tracker, "share")) == [3]


def test_a_cache_file_that_is_damaged_or_foreign(losses: list[float], isolated_cache: pathlib.Path, caplog) -> None:
    """In a whole training, each file is made anew, with one warning that names it."""
    train_uncached()
    paths = sorted(isolated_cache.rglob("*.safetensors"))
    first, second = paths
    first.write_bytes(first.read_bytes()[:-100])
    shutil.copy(first, second)
    with caplog.at_level(logging.WARNING, logger="pykeen_dans"):
        # nobody holds what was made from the files
        assert train_uncached()[0] == losses
        make_sampler("nations", **OPTIONS, random_state=5)
    assert [caplog.text.count(str(path)) for path in paths] == [1, 1]
