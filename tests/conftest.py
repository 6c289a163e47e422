from __future__ import annotations

import gc
import logging
import pathlib
from collections.abc import Iterator

# The data folder of data sets is fixed when PyKEEN is imported, which must not happen while a test has moved it
import pykeen.constants  # noqa: F401
import pytest
import torch

from pykeen_dans.engine import coupling
from pykeen_dans.graph import reference
from pykeen_dans.utils import logs

# The tensors of tests are small; more threads would only wait for each other where other tests run beside them
torch.set_num_threads(1)


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave out nightly tests unless '-m' asks for them, whatever else it asks for."""
    if "nightly" not in config.option.markexpr:
        nightly = [item for item in items if item.get_closest_marker("nightly")]
        config.hook.pytest_deselected(items=nightly)
        items[:] = [item for item in items if item not in nightly]


@pytest.fixture(autouse=True)
def quick_garbage_collection() -> None:
    """Leave out what was there before, as all modules: PyKEEN collects garbage after each epoch, at 0.1 s each."""
    gc.collect()
    gc.freeze()


@pytest.fixture
def isolated_cache(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> pathlib.Path:
    """Give the test an empty cache of its own, and tell its folder."""
    monkeypatch.delenv("PYKEEN_HOME", raising=False)
    monkeypatch.setenv("PYSTOW_HOME", str(tmp_path))
    reference._alive.clear()
    return tmp_path / "pykeen" / "dans"


@pytest.fixture
def toy_triples() -> torch.Tensor:
    """Make a graph of 90 entities and 4 relations, where the first 60 are linked by rule, and the last 30 by chance.

    By rule, 10 entities of each of 4 groups point at the 5 hubs of their group, by relations that are the same in all
    groups.
    """
    generator = torch.Generator().manual_seed(3)
    triples = [
        (15 * group + member, hub % 4, 15 * group + 10 + hub)
        for group in range(4)
        for member in range(10)
        for hub in range(5)
    ]
    for entity in range(60, 90):
        for _ in range(5):
            relation, other = (int(torch.randint(n, size=(), generator=generator)) for n in (4, 30))
            triples.append((entity, relation, 60 + other))
    unique = torch.tensor(sorted(set(triples)))
    return unique[torch.randperm(len(unique), generator=generator)]


@pytest.fixture(scope="session")
def cache_of_session(tmp_path_factory: pytest.TempPathFactory) -> pathlib.Path:
    """Make a folder for what the samplers of all tests keep on disk."""
    return tmp_path_factory.mktemp("cache")


@pytest.fixture
def shared_cache(cache_of_session: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> pathlib.Path:
    """Leave the user's cache alone, without the cost of an empty one for each test."""
    monkeypatch.delenv("PYKEEN_HOME", raising=False)
    monkeypatch.setenv("PYSTOW_HOME", str(cache_of_session))
    return cache_of_session


@pytest.fixture
def no_engines() -> None:
    """Forget about engines of samplers that were made before, some of which tests have tampered with."""
    coupling._alone.clear()


@pytest.fixture(autouse=True)
def fresh_messages() -> None:
    """Let this test see the messages that are logged once."""
    logs.warn_once.cache_clear()
    logs.info_once.cache_clear()


@pytest.fixture(autouse=True)
def same_log_levels() -> Iterator[None]:
    """Undo what the commands of benchmarks do to the log, which other tests read."""
    loggers = [logging.getLogger(name) for name in ("pykeen", "pykeen_dans", "torch_max_mem")]
    levels = [logger.level for logger in loggers]
    yield
    for logger, level in zip(loggers, levels, strict=True):
        logger.setLevel(level)
