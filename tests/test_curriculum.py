"""Curricula as pure functions of progress."""

from __future__ import annotations

import json
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pykeen_dans.engine.curriculum import (
    Curriculum,
    CurriculumState,
    ExponentialCurriculum,
    LinearCurriculum,
    curriculum_resolver,
)
from pykeen_dans.utils.validation import make_by_name

NAMES = ("exponential", "constant", "linear", "cosine", "step", "competence", "reversed")
RISING = ("exponential", "linear", "cosine", "competence")
progresses = st.floats(min_value=0, max_value=1)
bands = st.integers(min_value=1, max_value=9)


def test_names() -> None:
    assert set(curriculum_resolver.options) == set(NAMES)
    assert curriculum_resolver.lookup(None) is LinearCurriculum


@pytest.mark.parametrize("name", NAMES)
@given(progress=progresses, num_bands=bands, kappa=st.floats(min_value=0, max_value=1e4))
def test_valid_state(name: str, progress: float, num_bands: int, kappa: float) -> None:
    state = curriculum_resolver.make(name, kappa=kappa, share=(0.1, 0.6))(progress, num_bands=num_bands)
    assert len(state.weights) == num_bands
    assert math.isclose(sum(state.weights), 1.0, abs_tol=1e-9)
    assert all(0.0 <= weight <= 1.0 for weight in state.weights)
    assert 0.1 <= state.share <= 0.6
    assert 0.55 - 1e-9 <= state.margin_factor <= 1.0 + 1e-9


@pytest.mark.parametrize("name", RISING)
@given(start=progresses, step=st.floats(min_value=0.01, max_value=1), num_bands=st.integers(min_value=2, max_value=6))
def test_hardness_rises_and_margin_falls(name: str, start: float, step: float, num_bands: int) -> None:
    curriculum = curriculum_resolver.make(name)
    end = min(1.0, start + step)
    if end - start < 0.01:
        start = end - 0.01
    before, after = curriculum(start, num_bands=num_bands), curriculum(end, num_bands=num_bands)
    assert before.hardness < after.hardness
    assert before.margin_factor > after.margin_factor
    assert all(weight > 0 for weight in (*before.weights, *after.weights))


@pytest.mark.parametrize("name", ["exponential", "linear", "cosine", "step"])
def test_ends(name: str) -> None:
    curriculum = curriculum_resolver.make(name)
    # the values of a softmax over -1.5, -0.5, 0.5, 1.5, computed by hand
    easy = (0.6439, 0.2369, 0.0871, 0.0321)
    assert curriculum(0.0).weights == pytest.approx(easy, abs=1e-4)
    assert curriculum(1.0).weights == pytest.approx(easy[::-1], abs=1e-4)


@given(
    progress=st.floats(min_value=0.01, max_value=0.99),
    rate=st.floats(min_value=0.1, max_value=10),
    more=st.floats(min_value=0.1, max_value=10),
)
def test_larger_rate_is_faster(progress: float, rate: float, more: float) -> None:
    slow, fast = ExponentialCurriculum(rate=rate), ExponentialCurriculum(rate=rate + more)
    assert slow(progress).hardness < fast(progress).hardness


def test_closed_forms() -> None:
    x = 0.3
    expected = {
        "exponential": (1 - math.exp(-0.9)) / (1 - math.exp(-3)),
        "linear": 0.3,
        "cosine": (1 - math.cos(0.3 * math.pi)) / 2,
        "step": 1 / 3,
        "competence": math.sqrt(0.3 * (1 - 0.01**2) + 0.01**2),
        "constant": 0.5,
        "reversed": 1 - (1 - math.exp(-0.9)) / (1 - math.exp(-3)),
    }
    assert {name: curriculum_resolver.make(name).pacing(x) for name in NAMES} == pytest.approx(expected)


def test_step_stages() -> None:
    curriculum = curriculum_resolver.make("step", num_steps=3)
    assert [curriculum.pacing(x / 10) for x in range(11)] == [0, 0, 0, 0, 0.5, 0.5, 0.5, 1, 1, 1, 1]


def test_constant_is_without_curriculum() -> None:
    curriculum = curriculum_resolver.make("constant", share=0.4)
    states = {curriculum(x / 10) for x in range(11)}
    assert states == {CurriculumState(weights=(0.25,) * 4, share=0.4, margin_factor=1.0, margin_factors=(1.0,) * 4)}


@given(progress=progresses)
def test_reversed(progress: float) -> None:
    inner: Curriculum = curriculum_resolver.make("cosine")
    outer = curriculum_resolver.make("reversed", inner="cosine")
    assert outer(progress).weights == pytest.approx(inner(progress).weights[::-1])


def test_reversed_passes_arguments_on() -> None:
    outer = curriculum_resolver.make("reversed", inner="exponential", inner_kwargs={"rate": 9.0})
    assert outer.pacing(0.2) == pytest.approx(1 - ExponentialCurriculum(rate=9.0).pacing(0.2))


def test_share_follows_the_phase() -> None:
    pair = curriculum_resolver.make("linear", share=[0.1, 0.5])
    assert [pair(x).share for x in (0.0, 0.25, 1.0)] == pytest.approx([0.1, 0.2, 0.5])
    falling = curriculum_resolver.make("linear", share=(0.5, 0.0))
    assert falling(1.0).share == 0.0
    assert [LinearCurriculum()(x).share for x in (0.0, 0.5, 1.0)] == pytest.approx([0.5, 0.25, 0.0])


def test_margins_of_other_numbers_of_bands() -> None:
    curriculum = curriculum_resolver.make("linear", margins=(1.0, 0.5), kappa=1000.0)
    assert curriculum(0.0, num_bands=3).margin_factor == pytest.approx(1.0)
    assert curriculum(0.5, num_bands=3).margin_factor == pytest.approx(0.75)
    assert curriculum(1.0, num_bands=3).margin_factor == pytest.approx(0.5)
    assert curriculum(1.0, num_bands=1).margin_factor == pytest.approx(1.0)


def test_progress_beyond_the_end() -> None:
    curriculum = ExponentialCurriculum()
    assert curriculum(1.5) == curriculum(1.0)
    assert curriculum(-0.1) == curriculum(0.0)
    with pytest.raises(ValueError, match="progress=nan"):
        curriculum(math.nan)


@pytest.mark.parametrize(
    ("name", "kwargs", "message"),
    [
        ("linear", dict(share=1.5), r"share=1\.5 .*\[0, 1\]"),
        ("linear", dict(share=(0.1, -0.2)), r"share=-0\.2 .*\[0, 1\]"),
        ("linear", dict(share=(0.1, 0.2, 0.3)), r"share=.*3 values.*pair"),
        ("linear", dict(share="much"), r"share='much' .*number"),
        ("linear", dict(share=math.nan), r"share=nan .*number"),
        ("linear", dict(kappa=-1.0), r"kappa=-1\.0 .*choose"),
        ("linear", dict(margins=()), r"margins=\(\) .*give"),
        ("linear", dict(margins=(1.0, 0.0)), r"margins=0\.0 .*choose"),
        ("exponential", dict(rate=0.0), r"rate=0\.0 .*choose"),
        ("step", dict(num_steps=1), r"num_steps=1 .*choose 2"),
        ("competence", dict(initial=2.0), r"initial=2\.0 .*choose"),
        ("reversed", dict(inner="nope"), r"inner='nope' .*competence, constant, cosine"),
    ],
)
def test_bad_arguments(name: str, kwargs: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        curriculum_resolver.make(name, pos_kwargs=kwargs)


def test_unknown_name_tells_the_valid_ones() -> None:
    with pytest.raises(ValueError, match="curriculum='nope'") as error:
        make_by_name("curriculum", curriculum_resolver, "nope")
    assert all(name in str(error.value) for name in NAMES)


def test_arguments_survive_json() -> None:
    kwargs = json.loads(json.dumps(dict(share=(0.1, 0.4), kappa=2, margins=(1, 0.5))))
    assert curriculum_resolver.make("linear", pos_kwargs=kwargs)(0.5).share == pytest.approx(0.25)


@given(num_bands=st.integers(max_value=0))
def test_at_least_one_band(num_bands: int) -> None:
    with pytest.raises(ValueError, match="num_bands"):
        ExponentialCurriculum()(0.5, num_bands=num_bands)
