"""Targets of hardness bands: which ones a graph can give, and which ones are valid at all."""

from __future__ import annotations

import itertools
import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pykeen_dans.engine.settings import EngineSettings, reachable_targets
from pykeen_dans.graph import HEAD, TAIL
from pykeen_dans.utils import logs


def settings_of(targets: tuple[float, ...], **kwargs: Any) -> EngineSettings:
    return EngineSettings(targets=targets, sides=(HEAD, TAIL), seed=0, **kwargs)


DEFAULT = (0.28, 0.21, 0.14, 0.07)


@pytest.mark.parametrize(
    ("num_entities", "min_candidates", "expected"),
    [
        # Nations, whose best 4 of 14 entities have a median percentile of .143, UMLS and CoDEx-S
        (14, 4, (0.28,)),
        (135, 4, DEFAULT),
        (2034, 4, DEFAULT),
        (14, 1, (0.28, 0.14)),
        (28, 4, (0.28, 0.21, 0.14)),
        (135, 40, (0.28, 0.21)),
        # there is always one
        (3, 4, (0.28,)),
    ],
)
def test_targets_that_a_graph_cannot_give_are_left_out(
    num_entities: int, min_candidates: int, expected: tuple[float, ...], caplog: pytest.LogCaptureFixture
) -> None:
    logs.warn_once.cache_clear()
    for _ in range(3):
        left = settings_of(DEFAULT, min_candidates=min_candidates).on(num_entities).targets
        assert left == expected
    # said once, however many samplers there are
    assert len(caplog.records) == (expected != DEFAULT)
    if caplog.records:
        assert f"targets={DEFAULT}: {num_entities} entities are too few" in caplog.text
        assert f"only {expected} are used" in caplog.text


@given(
    targets=st.lists(st.floats(0.001, 0.5), min_size=1, max_size=8),
    num_entities=st.integers(2, 5000),
    min_candidates=st.integers(1, 50),
)
def test_targets_that_are_left_can_be_told_apart(targets: list[float], num_entities: int, min_candidates: int) -> None:
    ordered = tuple(sorted(targets, reverse=True))
    left = reachable_targets(ordered, num_entities=num_entities, min_candidates=min_candidates)
    assert left[0] == ordered[0]
    assert set(left) <= set(ordered)
    assert all(target >= min_candidates / (2 * num_entities) for target in left[1:])
    assert all(easier - harder >= 1 / num_entities for easier, harder in itertools.pairwise(left))
    # nothing else is left out
    for target in set(ordered) - set(left):
        near = any(0 <= kept - target < 1 / num_entities for kept in left)
        assert near or target < min_candidates / (2 * num_entities)


@pytest.mark.parametrize("targets", [(), (0.0,), (0.6,), (-0.1,), (math.nan,), (0.1, 0.2), (0.3, 0.1, 0.2)], ids=str)
def test_bad_targets(targets: tuple[float, ...]) -> None:
    with pytest.raises(ValueError, match=r"targets=\(.*\) must be .*for example") as error:
        settings_of(targets)
    assert str(targets) in str(error.value)
