"""The sampler of the two-way GAN: equal parts of both pathways, ablations by one keyword, and trainings of PyKEEN."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import pytest
import torch
from pykeen.models import Model, model_resolver
from pykeen.trackers import PythonResultTracker
from pykeen.training import SLCWATrainingLoop
from pykeen.training.callbacks import TrainingCallback
from torch import Tensor

from pykeen_dans import CurriculumTrainingCallback, DANSTrainingLoop, TwoWayGANNegativeSampler
from pykeen_dans.bank import HEAD, TAIL
from pykeen_dans.engine import coupling
from pykeen_dans.engine.coupling import Coupling
from pykeen_dans.engine.engine import GenerationEngine
from pykeen_dans.generators.gan import TwoWayGANGenerator
from pykeen_dans.sampling.reading import reading_plan
from pykeen_dans.space.entity_space import live_space
from pykeen_dans.training.vector_loss import LatentLoss

from .trainings import Clock, slow_batches
from .utils import SMALL_GAN, from_bank, is_training, make_gan_sampler, training_of

pytestmark = pytest.mark.usefixtures("shared_cache", "no_engines")

#: The paper's mix: half of the negatives are generated, from the first to the last epoch
PAPER: dict[str, Any] = dict(curriculum="constant", curriculum_kwargs=dict(share=0.5), min_distinct=0.0)
ENTITY, RELATION = 0, 1


def generator_of(sampler: TwoWayGANNegativeSampler) -> TwoWayGANGenerator:
    assert isinstance(sampler.engine.generator, TwoWayGANGenerator)
    return sampler.engine.generator


def pathways_of(sampler: TwoWayGANNegativeSampler, positives: Tensor) -> tuple[Tensor, Tensor]:
    """Sample, and tell the pathway of each negative, -1 for uniform ones, and the side that it fills.

    Entities that do not exist stand for the pathways in the bank, so that none can be taken for a uniform one.
    """
    bank = sampler.engine.bank
    num_ways = len(sampler.way_shares)
    names = sampler.num_entities + torch.arange(num_ways, dtype=torch.int32)
    bank.ids.copy_(names.repeat(bank.num_bands // num_ways)[None, :, None].expand_as(bank.ids))
    negatives = sampler.corrupt_batch(positives)
    side = torch.where(negatives[..., 2] != positives[:, None, 2], TAIL, HEAD)
    entity = torch.where(side == TAIL, negatives[..., 2], negatives[..., 0])
    return (entity - sampler.num_entities).clamp(min=-1), side


# The pathways' shares


@pytest.mark.parametrize("corruption_scheme", [None, ("tail",), ("head",)])
def test_five_and_five_of_twenty(corruption_scheme: tuple[str, ...] | None) -> None:
    """By default there are 20 negatives; with the paper's mix, 5 are of each pathway and 10 are uniform."""
    sampler = make_gan_sampler(corruption_scheme=corruption_scheme, **PAPER)
    way, side = pathways_of(sampler, training_of("umls").mapped_triples)
    for pathway, expected in ((ENTITY, 5), (RELATION, 5), (-1, 10)):
        assert ((way == pathway).sum(dim=1) == expected).all()
    if corruption_scheme is None:
        # heads and tails are filled by both pathways alike
        counts = torch.stack([((way == pathway) & (side == s)).sum() for pathway in (0, 1) for s in (HEAD, TAIL)])
        assert counts.max() - counts.min() <= 2


@pytest.mark.parametrize("num_columns", [1, 2, 3, 5, 10])
@pytest.mark.parametrize("num_sides", [1, 2])
@pytest.mark.parametrize("num_ways", [1, 2, 3])
def test_pathways_take_turns(num_columns: int, num_sides: int, num_ways: int) -> None:
    """Each positive has as many of each pathway as of the others, or one more; and all positives together the same."""
    plan = reading_plan(num_columns=num_columns, num_sides=num_sides, way_shares=(1 / num_ways,) * num_ways)
    counts = torch.nn.functional.one_hot(plan.readers % num_ways, num_ways).sum(dim=1)
    assert (counts.max(dim=1).values - counts.min(dim=1).values <= 1).all()
    readers = torch.bincount(plan.readers.flatten(), minlength=num_sides * num_ways)
    assert readers.min() == readers.max()
    # sides are in turn, as the sampler has them
    turns = (torch.arange(len(plan.readers))[:, None] + torch.arange(num_columns)) % num_sides
    assert torch.equal(plan.readers // num_ways, turns)
    # no reader reads the same slot twice
    for row, steps in zip(plan.readers.tolist(), plan.steps.tolist(), strict=True):
        assert len(set(zip(row, steps, strict=True))) == num_columns
        assert max(steps) < plan.depth


@pytest.mark.parametrize(("shares", "expected"), [((0.8, 0.2), (8, 2)), ((0.3, 0.7), (3, 7)), ((1.0, 0.0), (10, 0))])
def test_other_shares(shares: tuple[float, float], expected: tuple[int, int]) -> None:
    way, _ = pathways_of(make_gan_sampler(way_shares=shares, **PAPER), training_of("umls").mapped_triples)
    assert tuple(((way == pathway).sum(dim=1) == n).all() for pathway, n in enumerate(expected)) == (True, True)


def test_falling_share() -> None:
    """The parts of the pathways stay equal where the number of generated negatives is odd, or changes."""
    sampler = make_gan_sampler(
        curriculum="linear", curriculum_kwargs=dict(share=(0.5, 0.0)), min_distinct=0.0, horizon=10
    )
    positives = training_of("umls").mapped_triples
    for progress in (0.1, 0.5, 0.73):
        sampler.num_seen.fill_(int(progress * 10 * sampler.num_triples))
        way, _ = pathways_of(sampler, positives)
        share = sampler.curriculum(math.floor(progress * 10) / 10).share
        assert (way >= 0).float().mean().item() == pytest.approx(share, abs=0.01)
        assert (way == ENTITY).sum() / (way >= 0).sum() == pytest.approx(0.5, abs=0.01)


def test_levels_of_hardness() -> None:
    """The curriculum chooses among distances, and the same for both pathways."""
    sampler = make_gan_sampler(distances=(1.0, 0.6, 0.3), targets=(0.3, 0.2, 0.1), **PAPER)
    assert sampler.engine.num_choices == len(sampler.state.weights) == 3
    assert sampler.engine.num_bands == 6
    assert sampler.engine.settings.targets == (0.3, 0.3, 0.2, 0.2, 0.1, 0.1)


# Options: each is one keyword


@pytest.mark.parametrize(
    "options",
    [
        dict(ways=("entity",)),
        dict(ways=("relation",)),
        dict(film=False),
        dict(pathway_loss=False),
        dict(pathway_weight=0.0),
        dict(trained=False),
        dict(conditional=True),
        dict(inverse="reciprocal"),
        dict(sigma=0.0),
        dict(distances=(1.0,), targets=(0.1,)),
    ],
    ids=str,
)
def test_ablations(options: dict[str, Any]) -> None:
    """Each variant of the paper, and of the benchmarks, is one keyword and draws proper negatives."""
    sampler = make_gan_sampler("nations", **{**PAPER, **options})
    positives = training_of("nations").mapped_triples[:256]
    negatives, generated = from_bank(sampler, positives)
    assert negatives.shape == (256, 20, 3)
    assert generated.float().mean() > 0.3
    assert not (is_training(negatives, "nations") & generated).any()
    assert ((negatives != positives[:, None]).sum(dim=-1) == 1).all()
    assert sampler.engine.num_bands == len(sampler.way_shares) * sampler.engine.num_choices


def test_ablations_differ() -> None:
    """What is switched off is off."""
    assert len(generator_of(make_gan_sampler("nations", film=False)).pathways[0].films) == 0
    assert not generator_of(make_gan_sampler("nations", pathway_loss=False)).tells_pathways
    assert len(generator_of(make_gan_sampler("nations", ways=("entity",))).pathways) == 1
    assert generator_of(make_gan_sampler("nations", conditional=True)).discriminator.conditional


def test_all_random() -> None:
    """Without a share, no generated negative is drawn."""
    _, generated = from_bank(
        make_gan_sampler(curriculum_kwargs=dict(share=0.0)), training_of("umls").mapped_triples[:64]
    )
    assert not generated.any()


BAD: list[tuple[dict[str, Any], str]] = [
    (dict(sigma=-0.1), r"sigma=-0.1 is negative"),
    (dict(sigma=math.nan), r"sigma=nan is not a finite number"),
    (dict(ways=()), r"ways=\(\) must name 'entity', 'relation', or both"),
    (dict(ways=("entity", "tail")), r"ways=\('entity', 'tail'\) must name 'entity', 'relation', or both"),
    (dict(ways=("entity", "entity")), r"ways=\('entity', 'entity'\) must name .* once each"),
    (dict(way_shares=(0.5, 0.4)), r"way_shares=\(0.5, 0.4\) must be at least 0 each and sum to 1"),
    (dict(way_shares=(1.5, -0.5)), r"way_shares=\(1.5, -0.5\) must be at least 0 each and sum to 1"),
    (dict(way_shares=(1.0,)), r"way_shares=\(1.0,\) has 1 values; give one for each of 2 pathways"),
    (dict(ways=("entity",), way_shares=(0.5, 0.5)), r"has 2 values; give one for each of 1 pathways"),
    (dict(distances=(0.5, 1.0)), r"distances=\(0.5, 1.0\) must be numbers in \(0, 1\], the easiest"),
    (dict(distances=(1.5, 0.5)), r"distances=\(1.5, 0.5\) must be numbers in \(0, 1\]"),
    (dict(distances=(1.0,)), r"targets=\(0.2, 0.1\) and distances=\(1.0,\) differ in number"),
    (dict(inverse="transpose"), r"inverse='transpose' is unknown; choose one of conjugate, reciprocal"),
    (dict(film_weight=-1.0), r"film_weight=-1.0 is negative"),
    (dict(film_dim=0), r"film_dim=0 .*1 or more"),
    (dict(pathway_weight=-1.0), r"pathway_weight=-1.0 is negative"),
    (dict(generator_learning_rate=0.0), r"generator_learning_rate=0.0 is not positive"),
    (dict(discriminator_learning_rate=-1e-3), r"discriminator_learning_rate=-0.001 is not positive"),
    (dict(discriminator_steps=0), r"discriminator_steps=0 .*1 or more"),
    (dict(batch_size=0), r"batch_size=0 .*1 or more"),
    (dict(min_distinct=1.5), r"min_distinct=1.5 is outside \[0, 1\]"),
    (dict(curriculum_kwargs=dict(share=(0.6, 1.2))), r"share=1.2 is outside \[0, 1\]"),
]


@pytest.mark.parametrize("coupled", [False, True])
@pytest.mark.parametrize(("options", "message"), BAD, ids=lambda value: str(value)[:60])
def test_bad_options(options: dict[str, Any], message: str, coupled: bool) -> None:
    """A wrong value is refused when the sampler is made, with or without a callback."""
    with pytest.raises(ValueError, match=message):
        make_gan_sampler("nations", coupling=Coupling() if coupled else None, **options)


# In trainings


def train(
    model: str | Model = "ComplEx",
    *,
    epochs: int = 3,
    callback_kwargs: dict[str, Any] | None = None,
    callbacks: Sequence[TrainingCallback] | None = None,
    cls: type[SLCWATrainingLoop] = SLCWATrainingLoop,
    model_kwargs: dict[str, Any] | None = None,
    **kwargs: Any,
) -> tuple[SLCWATrainingLoop, PythonResultTracker]:
    """Train a small model with the callback, or with others."""
    factory = training_of("nations")
    if not isinstance(model, Model):
        model = model_resolver.make(
            model, {"embedding_dim": 8, **(model_kwargs or {})}, triples_factory=factory, random_seed=0
        )
    tracker = PythonResultTracker()
    loop = cls(
        model=model,
        triples_factory=factory,
        result_tracker=tracker,
        negative_sampler=None if cls is DANSTrainingLoop else "dans",
        negative_sampler_kwargs={**SMALL_GAN, **kwargs},
        automatic_memory_optimization=False,
    )
    torch.manual_seed(0)
    loop.train(
        factory,
        num_epochs=epochs,
        batch_size=256,
        use_tqdm=False,
        pin_memory=False,
        callbacks=callbacks
        or CurriculumTrainingCallback(**(callback_kwargs or dict(fit_steps=2, refresh_queries=2_000))),
    )
    return loop, tracker


def metrics_of(tracker: PythonResultTracker, epoch: int) -> dict[str, float]:
    return {key.removeprefix("negatives."): value for key, value in tracker.metrics[epoch].items()}


def test_metrics_of_collapse() -> None:
    """After each epoch the tracker is told how the two games go, and how diverse the fakes are."""
    _, tracker = train()
    for epoch in (1, 2, 3):
        metrics = metrics_of(tracker, epoch)
        for name in ("adversarial_accuracy", "pathway_accuracy", "distinct", "nearest_known"):
            assert 0 <= metrics[name] <= 1
        assert -1 <= metrics["cosine"] <= 1
        assert metrics["discriminator_loss"] > 0 and metrics["pathway_loss"] > 0 and metrics["generator_loss"] > 0
        # one for each pathway at each distance
        assert {f"percentile_{band}" for band in range(4)} <= set(metrics)


def test_training_loop() -> None:
    """The training loop of the sampler brings it along."""
    loop, tracker = train(cls=DANSTrainingLoop)
    assert loop.negative_sampler is TwoWayGANNegativeSampler
    assert metrics_of(tracker, 3)["fallback"] < 0.1


def test_generator_trains_within_its_budget(monkeypatch: pytest.MonkeyPatch) -> None:
    """By default, the time between epochs is a fifth of theirs; what is too much is paid back by later epochs."""
    clock = Clock(monkeypatch)
    clock.takes(TwoWayGANGenerator, "_training_step", 0.3)
    clock.takes(GenerationEngine, "propose", 0.3)
    callback = CurriculumTrainingCallback()
    _, tracker = train(epochs=20, callbacks=[slow_batches(clock), callback])
    in_epochs = clock.now - callback.overhead_seconds
    # Nations has 7 batches of a second each
    assert in_epochs == pytest.approx(20 * 7)
    # the last pieces may be too long
    assert 0.1 * in_epochs < callback.overhead_seconds < 0.2 * in_epochs + 0.9
    trained = sum(metrics_of(tracker, epoch).get("fit_seconds", 0.0) for epoch in range(1, 21))
    assert 0 < trained < callback.overhead_seconds


def test_enriched_vectors_of_an_encoder() -> None:
    """With RGCN, the vectors of generation are the encoder's output."""
    kwargs = dict(num_layers=1, decomposition="bases", decomposition_kwargs=dict(num_bases=2))
    loop, _ = train("RGCN", model_kwargs=kwargs)
    engine = loop.negative_sampler_kwargs["coupling"].engine
    space = live_space(loop.model)
    representation = loop.model.entity_representations[0]
    with torch.no_grad():
        loop.model.eval()
        torch.testing.assert_close(space.raw_entities, representation(indices=None))
    (embeddings,) = (
        p for name, p in representation.named_parameters() if p.shape == (training_of("nations").num_entities, 8)
    )
    assert not torch.allclose(space.raw_entities, embeddings)
    assert engine.space.vectors.shape == (training_of("nations").num_entities, 8)
    assert not engine.space.vectors.requires_grad


@pytest.mark.parametrize("model", ["TransE", "DistMult", "RotatE", "TuckER", "SimplE"])
def test_models(model: str) -> None:
    """Where it is not known how a model combines, this is learned."""
    loop, tracker = train(model)
    engine = loop.negative_sampler_kwargs["coupling"].engine
    assert metrics_of(tracker, 3)["fallback"] < 0.1
    assert engine.space.combines == (model in {"TransE", "DistMult", "RotatE"})
    shifts = engine.generator.combination.shift.weight
    assert (shifts.abs().sum() > 0) != engine.space.combines


def test_latent_mode(monkeypatch: pytest.MonkeyPatch) -> None:
    """As in the paper, fakes may be scored themselves; they come without gradient, from both pathways alike."""
    ways: list[int] = []
    turns = LatentLoss._turns

    def watch(self: LatentLoss, **kwargs: Any) -> tuple[Tensor, Tensor]:
        kinds, of_way = turns(self, **kwargs)
        ways.extend(of_way.tolist())
        return kinds, of_way

    monkeypatch.setattr(LatentLoss, "_turns", watch)
    loop, tracker = train(callback_kwargs=dict(fit_steps=2, refresh_queries=100, latent_weight=0.5))
    assert metrics_of(tracker, 3)["latent_loss"] > 0
    assert ways.count(ENTITY) == ways.count(RELATION) > 0
    engine = loop.negative_sampler_kwargs["coupling"].engine
    vectors = engine.generate(torch.arange(5))
    assert vectors.shape == (5, 4, 8)
    assert vectors.is_complex() and not vectors.requires_grad
    assert all(parameter.grad is None or not parameter.grad.isnan().any() for parameter in loop.model.parameters())


def test_same_seed_same_losses() -> None:
    losses = []
    for _ in range(2):
        coupling._alone.clear()
        loop, _ = train()
        losses.append(loop.losses_per_epochs)
    assert losses[0] == losses[1]
