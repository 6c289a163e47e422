"""The cache of tensors: content addressed, atomic, without pickle, and never in the way."""

from __future__ import annotations

import logging
import multiprocessing
import os
import pathlib

import pytest
import torch
from safetensors.torch import save_file

from pykeen_dans.utils import storage
from pykeen_dans.utils.storage import cached_tensors, content_key

KEY = content_key(test=1)
SHAPES = {"x": (2, None), "y": (2,)}


def make() -> dict[str, torch.Tensor]:
    return {"x": torch.arange(6.0).view(2, 3), "y": torch.tensor([True, False])}


def fail() -> dict[str, torch.Tensor]:
    raise AssertionError("made anew, though it is in the cache")


def test_key_is_stable() -> None:
    # the value must be the same in any process and any version, or caches are lost
    key = content_key(triples=torch.tensor([[0, 1, 2]]), seed=0)
    assert key == "bcdf2e8b20e7496bd2f2916fcea5c78268b712b8103c6ed27d503cb3fac32ae8"
    assert key == content_key(seed=0, triples=torch.tensor([[0, 1, 2]]))


@pytest.mark.parametrize(
    "other",
    [
        dict(x=torch.tensor([1, 2, 3, 5]), n=1),
        dict(x=torch.tensor([[1, 2], [3, 4]]), n=1),
        dict(x=torch.tensor([1, 2, 3, 4], dtype=torch.int32), n=1),
        dict(x=torch.tensor([1, 2, 3, 4]), n=2),
        dict(x=torch.tensor([1, 2, 3, 4]), m=1),
        dict(x=torch.tensor([1, 2, 3, 4]), n="1"),
        dict(x=torch.tensor([1, 2, 3, 4]), n=None),
        dict(x=[1, 2, 3, 4], n=1),
        dict(x=torch.tensor([1, 2, 3, 4])),
    ],
)
def test_key_tells_content_apart(other: dict[str, object]) -> None:
    assert content_key(x=torch.tensor([1, 2, 3, 4]), n=1) != content_key(**other)


def test_key_of_views_and_odd_shapes() -> None:
    x = torch.arange(12).view(3, 4)
    assert content_key(x=x.T) == content_key(x=x.T.contiguous())
    assert content_key(x=torch.zeros(0, 3)) != content_key(x=torch.zeros(3, 0))
    assert content_key(x=torch.tensor(1.0)) != content_key(x=torch.tensor(2.0))
    with pytest.raises(TypeError):
        content_key(x=object())


def test_made_once(isolated_cache: pathlib.Path) -> None:
    made = cached_tensors("kind", KEY, make, shapes=SHAPES)
    found = cached_tensors("kind", KEY, fail, shapes=SHAPES)
    assert made.keys() == found.keys() == make().keys()
    for name, tensor in make().items():
        assert torch.equal(made[name], tensor)
        assert torch.equal(found[name], tensor)
        assert found[name].dtype == tensor.dtype
    assert [path.name for path in (isolated_cache / "kind").iterdir()] == [f"{KEY}.safetensors"]
    # another kind, and another key, are others
    with pytest.raises(AssertionError):
        cached_tensors("other", KEY, fail, shapes=SHAPES)
    with pytest.raises(AssertionError):
        cached_tensors("kind", content_key(test=2), fail, shapes=SHAPES)


def test_views_of_one_tensor(tmp_path: pathlib.Path) -> None:
    x = torch.arange(4.0)
    shapes = {"a": (4,), "b": (3,), "c": (None, None)}
    made = {"a": x, "b": x[1:], "c": x.expand(2, 4)}
    cached_tensors("kind", KEY, lambda: made, shapes=shapes, directory=tmp_path)
    found = cached_tensors("kind", KEY, fail, shapes=shapes, directory=tmp_path)
    assert torch.equal(found["b"], x[1:])
    assert torch.equal(found["c"], x.expand(2, 4))


def _truncate(path: pathlib.Path) -> None:
    path.write_bytes(path.read_bytes()[:-4])


def _half_header(path: pathlib.Path) -> None:
    path.write_bytes(path.read_bytes()[:20])


def _empty(path: pathlib.Path) -> None:
    path.write_bytes(b"")


def _garbage(path: pathlib.Path) -> None:
    path.write_bytes(os.urandom(512))


def _foreign(path: pathlib.Path) -> None:
    save_file({"x": torch.ones(2)}, path)


def _other_key(path: pathlib.Path) -> None:
    save_file({"x": torch.ones(2)}, path, metadata={"key": content_key(test=2)})


def _flip(path: pathlib.Path) -> None:
    content = bytearray(path.read_bytes())
    # bytes of the numbers, which come last
    content[-20:] = bytes(255 - byte for byte in content[-20:])
    path.write_bytes(content)


def _hold(path: pathlib.Path, **tensors: torch.Tensor) -> None:
    """Write a file whose header and checksum are right."""
    save_file(tensors, path, metadata={"key": KEY, "checksum": content_key(**tensors)})


def _other_name(path: pathlib.Path) -> None:
    _hold(path, x=make()["x"], z=make()["y"])


def _one_missing(path: pathlib.Path) -> None:
    _hold(path, x=make()["x"])


def _other_rows(path: pathlib.Path) -> None:
    _hold(path, **{**make(), "x": torch.ones(3, 3)})


def _more_dimensions(path: pathlib.Path) -> None:
    _hold(path, **{**make(), "x": torch.ones(2, 3, 1)})


def _fewer_dimensions(path: pathlib.Path) -> None:
    _hold(path, **{**make(), "x": torch.ones(2)})


def _not_finite(path: pathlib.Path) -> None:
    _hold(path, **{**make(), "x": torch.tensor([[0.0, float("nan"), 1.0]] * 2)})


def _no_checksum(path: pathlib.Path) -> None:
    save_file(make(), path, metadata={"key": KEY})


class _Explosive:
    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os._exit, (3,)  # type: ignore[return-value]


def _pickle(path: pathlib.Path) -> None:
    torch.save(_Explosive(), path)


@pytest.mark.parametrize(
    "spoil",
    [
        _truncate,
        _half_header,
        _empty,
        _garbage,
        _foreign,
        _other_key,
        _pickle,
        _flip,
        _other_name,
        _one_missing,
        _other_rows,
        _more_dimensions,
        _fewer_dimensions,
        _not_finite,
        _no_checksum,
    ],
)
def test_unusable_file_is_made_anew(spoil, tmp_path: pathlib.Path, caplog: pytest.LogCaptureFixture) -> None:
    cached_tensors("kind", KEY, make, shapes=SHAPES, directory=tmp_path)
    path = tmp_path / f"{KEY}.safetensors"
    spoil(path)
    with caplog.at_level(logging.WARNING):
        made = cached_tensors("kind", KEY, make, shapes=SHAPES, directory=tmp_path)
    assert torch.equal(made["x"], make()["x"])
    assert len(caplog.records) == 1
    assert str(path) in caplog.text
    # now it is whole again
    assert cached_tensors("kind", KEY, fail, shapes=SHAPES, directory=tmp_path).keys() == make().keys()


def test_no_cache_where_nothing_can_be_written(tmp_path: pathlib.Path, caplog: pytest.LogCaptureFixture) -> None:
    tmp_path.joinpath("file").write_text("in the way")
    directory = tmp_path / "file" / "cache"
    with caplog.at_level(logging.WARNING):
        for _ in range(3):
            assert torch.equal(cached_tensors("kind", KEY, make, shapes=SHAPES, directory=directory)["x"], make()["x"])
    assert len(caplog.records) == 1
    assert str(directory) in caplog.text


def test_nothing_is_left_of_a_failed_write(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError("disk full")

    monkeypatch.setattr(storage.os, "replace", full)
    assert torch.equal(cached_tensors("kind", KEY, make, shapes=SHAPES, directory=tmp_path)["x"], make()["x"])
    assert list(tmp_path.iterdir()) == []


def _work(directory: str, barrier) -> None:
    for index in range(20):
        barrier.wait(timeout=30)
        big = torch.full((200_000,), float(index))
        key, shapes = content_key(index=index), {"x": (200_000,)}
        found = cached_tensors("kind", key, lambda value=big: {"x": value}, shapes=shapes, directory=directory)
        if not torch.equal(found["x"], big):
            os._exit(1)


def test_two_processes(tmp_path: pathlib.Path) -> None:
    context = multiprocessing.get_context("fork")
    barrier = context.Barrier(2)
    processes = [context.Process(target=_work, args=(str(tmp_path), barrier)) for _ in range(2)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(timeout=60)
    assert [process.exitcode for process in processes] == [0, 0]
    assert len(list(tmp_path.iterdir())) == 20
    assert all(path.suffix == ".safetensors" for path in tmp_path.iterdir())
