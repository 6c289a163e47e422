"""Options of the diffusion sampler, ablations among them: each works, and does what its name says."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from pykeen_dans.bank.decoder import NearestDecoder, SoftmaxDecoder
from pykeen_dans.engine import coupling
from pykeen_dans.engine.curriculum import ConstantCurriculum
from pykeen_dans.generators.diffusion import DiffusionGenerator
from pykeen_dans.generators.schedule import CosineNoiseSchedule
from pykeen_dans.sampling import (
    DiffusionAdaptiveNegativeSampler,
)

from .utils import batch_of, check_negatives, from_bank, is_training, make_sampler

pytestmark = pytest.mark.usefixtures("shared_cache", "no_engines")


def ablated(**kwargs: Any) -> DiffusionAdaptiveNegativeSampler:
    """Make a sampler with unusual options, and check its negatives."""
    sampler = make_sampler("nations", num_negs_per_pos=4, **{"curriculum_kwargs": {"share": 1.0}, **kwargs})
    positives = batch_of("nations", size=256)
    negatives, generated = from_bank(sampler, positives)
    check_negatives(negatives, positives, "nations")
    assert generated.float().mean() > 0.3
    assert not (is_training(negatives, "nations") & generated).any()
    return sampler


def generator_of(sampler: DiffusionAdaptiveNegativeSampler) -> DiffusionGenerator:
    assert isinstance(sampler.engine.generator, DiffusionGenerator)
    return sampler.engine.generator


def test_learned_difficulty_is_the_default() -> None:
    assert ablated().engine.world.difficulty.unique().numel() > 5


@pytest.mark.parametrize(("difficulty", "is_constant"), [("constant", True), ("degree", False)])
def test_difficulty(difficulty: str, is_constant: bool) -> None:
    """Without DAM, all entities have the same difficulty, and so the same schedule."""
    found = ablated(difficulty=difficulty, difficulty_kwargs=None).engine.world.difficulty
    assert (found.unique().numel() == 1) == is_constant


def test_without_condition() -> None:
    """Without CCD, what is generated does not depend on the query."""
    for conditioned in (False, True):
        sampler = ablated(conditioned=conditioned, difficulty="constant", difficulty_kwargs=None)
        engine = sampler.engine
        vectors = []
        for rows in (torch.arange(20), torch.arange(100, 120)):
            engine.random.manual_seed(0)
            vectors.append(engine.generate(rows))
        assert torch.allclose(*vectors) == (not conditioned)


def test_without_curriculum() -> None:
    """Without DTM, all bands are alike, from the first to the last epoch."""
    sampler = ablated(curriculum="constant")
    assert isinstance(sampler.curriculum, ConstantCurriculum)
    for seen in (0, 10**9):
        sampler.num_seen.fill_(seen)
        assert sampler.state.weights == pytest.approx([0.25] * 4)
        assert sampler.state.margin_factor == 1


def test_reversed_curriculum() -> None:
    """The reversed curriculum goes from hard to easy."""
    sampler = ablated(curriculum="reversed")
    sampler.num_seen.fill_(0)
    start = sampler.state.hardness
    sampler.num_seen.fill_(10**9)
    assert start > 0.6 > 0.4 > sampler.state.hardness


def test_untrained() -> None:
    """The noise control draws from a denoiser that was never trained."""
    for trained in (False, True):
        denoiser = generator_of(ablated(trained=trained, random_state=3)).denoiser
        assert (denoiser.output.weight.abs().sum().item() > 0) == trained


def test_nearest_decoder() -> None:
    """The nearest decoder takes fewer different entities than the default, which draws with a spread."""
    counts = {}
    for decoder in ("nearest", "spread"):
        sampler = make_sampler("umls", decoder=decoder, num_slots=8, random_state=9)
        counts[decoder] = sampler.engine.bank.ids[:, -1].unique().numel()
        assert isinstance(sampler.engine.decoder, NearestDecoder) == (decoder == "nearest")
    ablated(decoder="nearest")


def test_softmax_decoder() -> None:
    sampler = ablated(decoder="softmax", decoder_kwargs={"temperature": 0.5})
    assert isinstance(sampler.engine.decoder, SoftmaxDecoder)
    assert sampler.engine.decoder.temperature == 0.5


@pytest.mark.parametrize("sampling", ["ddim", "ddpm"])
def test_sampling(sampling: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """DDPM takes all steps of the chain down to the last band, DDIM only a few."""
    steps: list[int] = []
    step = DiffusionGenerator._step

    def counting(self: DiffusionGenerator, x: Tensor, current: int, *args: Any) -> Tensor:
        steps.append(current)
        return step(self, x, current, *args)

    monkeypatch.setattr(DiffusionGenerator, "_step", counting)
    coupling._alone.clear()
    engine = ablated(sampling=sampling, num_timesteps=20, bands=(12, 9, 6, 3)).engine
    steps.clear()
    engine.generate(torch.arange(4))
    assert steps == sorted(steps, reverse=True)
    assert steps[0] == 20
    if sampling == "ddpm":
        assert steps == list(range(20, 3, -1))
    else:
        assert {12, 9, 6} <= set(steps) and len(steps) < 8


def test_schedule() -> None:
    sampler = ablated(schedule="cosine", schedule_kwargs={"mu": 0.5})
    schedule = generator_of(sampler).schedule
    assert isinstance(schedule, CosineNoiseSchedule)
    assert schedule.mu == 0.5


def test_noise_loss() -> None:
    """The two losses train different denoisers."""
    weights = [generator_of(ablated(noise_loss=loss)).denoiser.output.weight for loss in ("l1", "l2")]
    assert not torch.allclose(*weights)


def test_one_band() -> None:
    """The number of bands is free."""
    sampler = ablated(bands=(10,), targets=(0.1,))
    assert sampler.engine.bank.ids.shape[1] == 1
    assert sampler.state.weights == (1.0,)
