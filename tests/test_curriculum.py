"""Curricula as pure functions of progress."""

from __future__ import annotations

import dataclasses
import inspect
import json
import math
from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pykeen_dans.engine.curriculum import (
    Curriculum,
    CurriculumState,
    ExponentialCurriculum,
    LinearCurriculum,
    ReversedCurriculum,
    curriculum_resolver,
)
from pykeen_dans.utils.validation import make_by_name

NAMES = ("constant", "exponential", "linear", "reversed")
RISING: dict[str, Callable[[], Curriculum]] = {
    "linear": LinearCurriculum,
    "fast": ExponentialCurriculum,
    "slow": lambda: ExponentialCurriculum(rate=-3.0),
}
progresses = st.floats(min_value=0, max_value=1)
numbers = st.integers(min_value=1, max_value=9)


def test_names() -> None:
    assert sorted(curriculum_resolver.options) == sorted(NAMES)
    assert curriculum_resolver.lookup(None) is LinearCurriculum


@pytest.mark.parametrize("name", NAMES)
@given(
    progress=progresses,
    num_bands=numbers,
    num_sources=numbers,
    ordered=st.booleans(),
    kappa=st.floats(min_value=0, max_value=1e4),
)
def test_weights_are_weights(
    name: str, progress: float, num_bands: int, num_sources: int, ordered: bool, kappa: float
) -> None:
    curriculum = curriculum_resolver.make(name, kappa=kappa)
    state = curriculum(progress, num_bands=num_bands, num_sources=num_sources, ordered=ordered)
    for weights, number in ((state.band_weights, num_bands), (state.source_weights, num_sources)):
        assert len(weights) == number
        assert math.isclose(sum(weights), 1.0, abs_tol=1e-9)
        assert all(0.0 <= weight <= 1.0 for weight in weights)
    assert len(state.margin_factors) == num_bands
    assert 0.55 - 1e-9 <= state.margin_factor <= 1.0 + 1e-9


@pytest.mark.parametrize("make", RISING.values(), ids=RISING)
@given(start=progresses, step=st.floats(min_value=0.01, max_value=1), num_bands=st.integers(min_value=2, max_value=6))
def test_hardness_rises_and_margin_falls(
    make: Callable[[], Curriculum], start: float, step: float, num_bands: int
) -> None:
    end = min(1.0, start + step)
    start = min(start, end - 0.01)
    before, after = (make()(progress, num_bands=num_bands) for progress in (start, end))
    assert before.hardness < after.hardness
    assert before.margin_factor > after.margin_factor
    # the easiest band only ever loses, the hardest one only ever gains, and none is ever left out
    assert before.band_weights[0] > after.band_weights[0] > 0
    assert 0 < before.band_weights[-1] < after.band_weights[-1]


@pytest.mark.parametrize("make", RISING.values(), ids=RISING)
def test_ends(make: Callable[[], Curriculum]) -> None:
    """Where a curriculum begins and ends is the same, whatever its pace."""
    # the values of a softmax over -1.5, -0.5, 0.5, 1.5, computed by hand
    easy = (0.6439, 0.2369, 0.0871, 0.0321)
    assert make()(0.0, num_bands=4).band_weights == pytest.approx(easy, abs=1e-4)
    assert make()(1.0, num_bands=4).band_weights == pytest.approx(easy[::-1], abs=1e-4)


@given(progress=progresses)
def test_hard_negatives_come_late_as_in_the_paper(progress: float) -> None:
    """Over all of training each band of the linear curriculum has the weight of its mirror image."""
    curriculum = LinearCurriculum()
    early, late = (curriculum(x, num_bands=4).band_weights for x in (progress, 1 - progress))
    assert early == pytest.approx(late[::-1])
    assert (progress < 0.5) == (early[0] > early[-1]) or progress == pytest.approx(0.5)


@given(progress=progresses, number=numbers)
def test_the_weights_are_the_softmax_of_the_documentation(progress: float, number: int) -> None:
    phase, kappa = (1 - math.exp(-2 * progress)) / (1 - math.exp(-2)), 1.7
    logits = [kappa * (2 * phase - 1) * (k - (number + 1) / 2) for k in range(1, number + 1)]
    total = sum(math.exp(logit) for logit in logits)
    weights = ExponentialCurriculum(rate=2.0, kappa=kappa).weights(progress, number=number)
    assert weights == pytest.approx([math.exp(logit) / total for logit in logits])


@given(
    progress=st.floats(min_value=0.01, max_value=0.99),
    rate=st.floats(min_value=-10, max_value=10),
    more=st.floats(min_value=0.1, max_value=10),
)
def test_larger_rate_is_faster(progress: float, rate: float, more: float) -> None:
    slow, fast = ExponentialCurriculum(rate=rate), ExponentialCurriculum(rate=rate + more)
    assert slow.phase(progress) < fast.phase(progress)


def test_phases() -> None:
    x = 0.3
    expected = {"exponential": (1 - math.exp(-0.9)) / (1 - math.exp(-3)), "linear": 0.3, "constant": 0.5}
    assert {name: curriculum_resolver.make(name).phase(x) for name in expected} == pytest.approx(expected)
    # a negative rate is slow at first, by the same curve seen from the other end, and 0 is linear
    slow, fast = ExponentialCurriculum(rate=-3.0), ExponentialCurriculum(rate=3.0)
    assert slow.phase(x) < 0.3 < fast.phase(x)
    assert slow.phase(x) == pytest.approx(1 - fast.phase(1 - x))
    assert ExponentialCurriculum(rate=0.0).phase(x) == x


def test_constant_is_without_curriculum() -> None:
    """Nothing changes over training, with one margin throughout."""
    curriculum = curriculum_resolver.make("constant")
    states = {curriculum(x / 10, num_bands=4, num_sources=2, ordered=True) for x in range(11)}
    (state,) = states
    assert state.band_weights == (0.25,) * 4
    assert state.source_weights == (0.5,) * 2
    assert state.margin_factor == pytest.approx(np.mean(state.margin_factors))


@given(progress=progresses, rate=st.floats(min_value=-5, max_value=5))
def test_reversed_is_the_mirror_image(progress: float, rate: float) -> None:
    forwards, backwards = ExponentialCurriculum(rate=rate), ReversedCurriculum(rate=rate)
    there, back = (c(progress, num_bands=4, num_sources=3, ordered=True) for c in (forwards, backwards))
    assert back.band_weights == pytest.approx(there.band_weights[::-1])
    assert back.source_weights == pytest.approx(there.source_weights[::-1])
    assert back.margin_factors == there.margin_factors
    if rate == 0:
        assert there.band_weights == LinearCurriculum()(progress, num_bands=4).band_weights


def test_the_default_of_reversed_is_linear() -> None:
    backwards, forwards = ReversedCurriculum(), LinearCurriculum()
    for x in (0.0, 0.2, 0.7, 1.0):
        assert backwards.phase(x) == pytest.approx(1 - forwards.phase(x))


def test_the_share_is_no_matter_of_a_curriculum() -> None:
    """Neither can it be asked for, nor does a state tell one."""
    for name in NAMES:
        assert "share" not in inspect.signature(curriculum_resolver.lookup(name)).parameters
        with pytest.raises(ValueError, match=r"curriculum_kwargs has share, which .* does not take; it takes .*kappa"):
            make_by_name("curriculum", curriculum_resolver, name, {"share": 0.5})
    assert [field.name for field in dataclasses.fields(CurriculumState)] == [
        "band_weights",
        "source_weights",
        "margin_factors",
    ]


@given(progress=progresses, number=numbers)
def test_sources_are_alike_unless_they_are_ordered(progress: float, number: int) -> None:
    curriculum = LinearCurriculum(kappa=2.0)
    apart = curriculum(progress, num_bands=number, num_sources=number, ordered=False)
    assert apart.source_weights == (1 / number,) * number
    ordered = curriculum(progress, num_bands=number, num_sources=number, ordered=True)
    assert ordered.source_weights == ordered.band_weights == apart.band_weights


def test_margins_of_other_numbers_of_bands() -> None:
    curriculum = curriculum_resolver.make("linear", margins=(1.0, 0.5), kappa=1000.0)
    assert curriculum(0.0, num_bands=3).margin_factors == pytest.approx((1.0, 0.75, 0.5))
    assert curriculum(0.0, num_bands=3).margin_factor == pytest.approx(1.0)
    assert curriculum(0.5, num_bands=3).margin_factor == pytest.approx(0.75)
    assert curriculum(1.0, num_bands=3).margin_factor == pytest.approx(0.5)
    assert curriculum(1.0, num_bands=1).margin_factor == pytest.approx(1.0)


def test_hardness_is_the_expected_place_of_a_band() -> None:
    state = CurriculumState(band_weights=(0.5, 0.25, 0.25), source_weights=(1.0,), margin_factors=(1.0, 0.8, 0.6))
    assert state.hardness == pytest.approx(0.25 * 0.5 + 0.25)
    assert state.margin_factor == pytest.approx(0.5 + 0.2 + 0.15)


def test_progress_beyond_the_end() -> None:
    curriculum = ExponentialCurriculum()
    assert curriculum(1.5, num_bands=4) == curriculum(1.0, num_bands=4)
    assert curriculum(-0.1, num_bands=4) == curriculum(0.0, num_bands=4)
    with pytest.raises(ValueError, match="progress=nan"):
        curriculum(math.nan, num_bands=4)


@pytest.mark.parametrize(
    ("name", "kwargs", "message"),
    [
        ("linear", dict(kappa=-1.0), r"kappa=-1\.0 .*choose"),
        ("linear", dict(margins=()), r"margins=\(\) .*give"),
        ("linear", dict(margins=(1.0, 0.0)), r"margins=0\.0 .*choose"),
        ("exponential", dict(rate=math.inf), r"rate=inf .*finite"),
        ("reversed", dict(rate="fast"), r"rate='fast' .*number"),
    ],
)
def test_bad_arguments(name: str, kwargs: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        curriculum_resolver.make(name, pos_kwargs=kwargs)


def test_unknown_name_tells_the_valid_ones() -> None:
    with pytest.raises(ValueError, match="curriculum='competence'") as error:
        make_by_name("curriculum", curriculum_resolver, "competence")
    assert all(name in str(error.value) for name in NAMES)


def test_arguments_survive_json() -> None:
    kwargs = dict(rate=-2, kappa=2, margins=(1, 0.5))
    ours, theirs = (
        curriculum_resolver.make("exponential", pos_kwargs=each) for each in (kwargs, json.loads(json.dumps(kwargs)))
    )
    assert ours(0.4, num_bands=3) == theirs(0.4, num_bands=3)


@pytest.mark.parametrize("what", ["num_bands", "num_sources"])
def test_at_least_one(what: str) -> None:
    with pytest.raises(ValueError, match=f"{what}=0"):
        ExponentialCurriculum()(0.5, **{"num_bands": 1, what: 0})
