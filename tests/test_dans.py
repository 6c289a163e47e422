"""The sampler of the two-way GAN: equal parts of both pathways, ablations by one keyword, and trainings of PyKEEN."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from pykeen.trackers import PythonResultTracker
from torch import Tensor

from pykeen_dans import CurriculumTrainingCallback
from pykeen_dans.engine import coupling
from pykeen_dans.engine.coupling import Coupling
from pykeen_dans.engine.engine import GenerationEngine
from pykeen_dans.generators import TwoWayGANGenerator
from pykeen_dans.graph import HEAD, TAIL
from pykeen_dans.sampling import GeneratedNegativeSampler
from pykeen_dans.space import live_space
from pykeen_dans.training import vector_loss

from .trainings import COUNTED, Clock, last_engine, make_loop, metrics_of, slow_batches, train
from .utils import batch_of, check_negatives, from_bank, make_sampler, training_of

pytestmark = pytest.mark.usefixtures("shared_cache", "no_engines")

ENTITY, RELATION = 0, 1


def make(dataset: str = "umls", **kwargs: Any) -> GeneratedNegativeSampler:
    return make_sampler(dataset, "dans", **kwargs)


def generator_of(sampler: GeneratedNegativeSampler) -> TwoWayGANGenerator:
    assert isinstance(sampler.engine.generator, TwoWayGANGenerator)
    return sampler.engine.generator


def pathways_of(sampler: GeneratedNegativeSampler, positives: Tensor) -> tuple[Tensor, Tensor]:
    """Sample, and tell the pathway of each negative, -1 for uniform ones, and the side that it fills.

    Entities that do not exist stand for the pathways in the bank, so that none can be taken for a uniform one.
    """
    ids = sampler.engine.bank.ids
    names = sampler.num_entities + torch.arange(ids.shape[2], dtype=torch.int32)
    ids.copy_(names[None, None, :, None].expand_as(ids))
    negatives = sampler.corrupt_batch(positives)
    side = torch.where(negatives[..., 2] != positives[:, None, 2], TAIL, HEAD)
    entity = torch.where(side == TAIL, negatives[..., 2], negatives[..., 0])
    return (entity - sampler.num_entities).clamp(min=-1), side


# The parts of the pathways


@pytest.mark.parametrize("corruption_scheme", [None, ("tail",), ("head",)])
def test_five_and_five_of_twenty(corruption_scheme: tuple[str, ...] | None) -> None:
    """By default there are 20 negatives as in the paper, 5 of each pathway and 10 uniform ones."""
    sampler = make(corruption_scheme=corruption_scheme, min_distinct=0.0)
    assert sampler.engine.sources == ("entity", "relation")
    way, side = pathways_of(sampler, training_of("umls").mapped_triples)
    for pathway, expected in ((ENTITY, 5), (RELATION, 5), (-1, 10)):
        assert ((way == pathway).sum(dim=1) == expected).all()
    if corruption_scheme is None:
        # heads and tails are filled by both pathways alike
        counts = [((way == pathway) & (side == s)).float().mean().item() for pathway in (0, 1) for s in (HEAD, TAIL)]
        assert counts == pytest.approx([0.125] * 4, abs=0.01)


@pytest.mark.parametrize("share", [0.05, 0.15, 0.2, 0.55, 1.0])
def test_odd_shares(share: float) -> None:
    """Each positive has as many of each pathway as of the other, or one more; and all positives together the same."""
    sampler = make(share=share, min_distinct=0.0)
    way, _ = pathways_of(sampler, training_of("umls").mapped_triples)
    assert (way >= 0).float().mean().item() == pytest.approx(share, abs=0.01)
    entity, relation = ((way == pathway).sum(dim=1) for pathway in (ENTITY, RELATION))
    assert ((entity - relation).abs() <= 1).all()
    assert entity.sum() / (way >= 0).sum() == pytest.approx(0.5, abs=0.015)


def test_bands_of_hardness() -> None:
    """The curriculum chooses among distances, the same for both pathways, and each has its place in the bank."""
    sampler = make(targets=(0.3, 0.2, 0.1), generator_kwargs=dict(distances=(1.0, 0.6, 0.3)))
    assert sampler.engine.num_bands == len(sampler.state.band_weights) == 3
    assert sampler.state.source_weights == (0.5, 0.5)
    assert sampler.engine.bank.ids.shape[1:] == (3, 2, 8)
    assert generator_of(sampler).distances == [[1.0, 1.0], [0.6, 0.6], [0.3, 0.3]]


# Options: each is one keyword

ABLATIONS: list[dict[str, Any]] = [
    dict(pathways="entity"),
    dict(pathways=["relation"]),
    dict(film=False),
    dict(two_heads=False),
    dict(pathway_weight=0.0),
    dict(trained=False),
    dict(residual=False),
    dict(sigma=0.0),
    dict(distances=(0.9, 0.4)),
]


@pytest.mark.parametrize("options", ABLATIONS, ids=str)
def test_ablations(options: dict[str, Any]) -> None:
    """Each variant of the paper, and of the benchmarks, is one keyword, and makes other negatives than the default."""
    sampler = make("kinships", generator_kwargs=options)
    positives = batch_of("kinships", 256)
    negatives, generated = from_bank(sampler, positives)
    assert negatives.shape == (256, 20, 3)
    check_negatives(negatives, positives, "kinships")
    assert generated.float().mean() > 0.4
    default = make("kinships").engine.bank.ids
    assert sampler.engine.bank.ids.shape != default.shape or not torch.equal(sampler.engine.bank.ids, default)


def test_what_is_switched_off_is_off() -> None:
    generators = {str(options): generator_of(make("nations", generator_kwargs=options)) for options in ABLATIONS[:4]}
    one_way, _, no_film, one_head = generators.values()
    full = generator_of(make("nations"))
    assert (len(one_way.pathways), one_way.sources) == (1, ("entity",))
    assert sum(p.numel() for p in no_film.pathways.parameters()) < sum(p.numel() for p in full.pathways.parameters())
    assert full.tells_pathways and not one_head.tells_pathways and not one_way.tells_pathways


def test_all_random() -> None:
    """Without a share, no generated negative is drawn."""
    _, generated = from_bank(make(share=0.0), batch_of("umls"))
    assert not generated.any()


BAD: list[tuple[dict[str, Any], str]] = [
    (dict(sigma=-0.1), r"sigma=-0.1 is negative"),
    (dict(sigma=math.nan), r"sigma=nan is not a finite number"),
    (dict(pathways=()), r"pathways=\(\) must name 'entity', 'relation', or both"),
    (dict(pathways=("entity", "tail")), r"pathways=\('entity', 'tail'\) must name 'entity', 'relation', or both"),
    (dict(pathways=("entity", "entity")), r"pathways=\('entity', 'entity'\) must name .* once each"),
    (dict(distances=(0.5, 1.0)), r"distances=\(0.5, 1.0\) must be 2 numbers in \(0, 1\], one for each target, the eas"),
    (dict(distances=(1.5, 0.5)), r"distances=\(1.5, 0.5\) must be 2 numbers in \(0, 1\]"),
    (dict(distances=(1.0,)), r"distances=\(1.0,\) must be 2 numbers"),
    (dict(film_weight=-1.0), r"film_weight=-1.0 is negative"),
    (dict(pathway_weight=-1.0), r"pathway_weight=-1.0 is negative"),
    (dict(generator_learning_rate=0.0), r"generator_learning_rate=0.0 is not positive"),
    (dict(discriminator_learning_rate=-1e-3), r"discriminator_learning_rate=-0.001 is not positive"),
    (dict(generator_steps=0), r"generator_steps=0 .*1 or more"),
    (dict(discriminator_steps=0), r"discriminator_steps=0 .*1 or more"),
    (dict(batch_size=0), r"batch_size=0 .*1 or more"),
]


@pytest.mark.parametrize("coupled", [False, True])
@pytest.mark.parametrize(("options", "message"), BAD, ids=lambda value: str(value)[:60])
def test_bad_options(options: dict[str, Any], message: str, coupled: bool) -> None:
    """A wrong value is refused when the sampler is made, with or without a callback."""
    with pytest.raises(ValueError, match=message):
        make(coupling=Coupling() if coupled else None, generator_kwargs=options)


# In trainings


def train_small(model: str = "ComplEx", *, callbacks: Any = None, **kwargs: Any) -> tuple[Any, PythonResultTracker]:
    """Train a small model on UMLS."""
    factory = training_of("umls")
    tracker = PythonResultTracker()
    loop = make_loop(model, factory, negative_sampler="dans", tracker=tracker, **kwargs)
    options: dict[str, Any] = dict(callbacks=callbacks, callbacks_kwargs=None) if callbacks else {}
    train(loop, factory, batch_size=512, **options)
    return loop, tracker


def test_metrics_of_collapse() -> None:
    """After each epoch the tracker is told how the two games go, and how diverse the fakes are."""
    _, tracker = train_small()
    for epoch in (1, 2, 3):
        metrics = {key.removeprefix("negatives."): value for key, value in tracker.metrics[epoch].items()}
        for name in ("adversarial_accuracy", "pathway_accuracy", "distinct", "nearest_known"):
            assert 0 <= metrics[name] <= 1
        assert -1 <= metrics["cosine"] <= 1
        assert metrics["discriminator_loss"] > 0 and metrics["pathway_loss"] > 0 and metrics["generator_loss"] > 0
        # one for each pathway at each distance
        names = {f"percentile_{band}_{source}" for band in (0, 1) for source in ("entity", "relation")}
        assert names == {name for name in metrics if name.startswith("percentile")}


def test_generator_trains_within_its_budget(monkeypatch: pytest.MonkeyPatch) -> None:
    """By default, the time between epochs is a fifth of theirs; what is too much is paid back by later epochs."""
    clock = Clock(monkeypatch)
    clock.takes(TwoWayGANGenerator, "_turn", 0.3)
    clock.takes(GenerationEngine, "propose", 0.3)
    callback = CurriculumTrainingCallback()
    tracker = PythonResultTracker()
    loop = make_loop(negative_sampler="dans", tracker=tracker)
    train(loop, num_epochs=20, callbacks=[slow_batches(clock), callback], callbacks_kwargs=None)
    in_epochs = clock.now - callback.overhead_seconds
    # Nations has 7 batches of a second each
    assert in_epochs == pytest.approx(20 * 7)
    # the last update, of 8 turns, steering and refreshing, may be too long
    assert 0.1 * in_epochs < callback.overhead_seconds < 0.2 * in_epochs + 2.4 + 0.6
    trained = sum(metrics_of(tracker, "fit_seconds").values())
    assert 0 < trained < callback.overhead_seconds


def test_enriched_vectors_of_an_encoder() -> None:
    """With RGCN, the vectors of generation are the encoder's output."""
    kwargs = dict(num_layers=1, decomposition="bases", decomposition_kwargs=dict(num_bases=2))
    factory = training_of("nations")
    loop = make_loop("RGCN", model_kwargs=kwargs, negative_sampler="dans")
    train(loop)
    engine = last_engine(loop)
    space = live_space(loop.model)
    representation = loop.model.entity_representations[0]
    with torch.no_grad():
        loop.model.eval()
        torch.testing.assert_close(space.raw_entities, representation(indices=None))
    (embeddings,) = (p for name, p in representation.named_parameters() if p.shape == (factory.num_entities, 8))
    assert not torch.allclose(space.raw_entities, embeddings)
    assert engine.space is not None and engine.space.vectors.shape == (factory.num_entities, 8)
    assert not engine.space.vectors.requires_grad


@pytest.mark.parametrize("model", ["TransE", "DistMult", "RotatE", "TuckER", "SimplE"])
def test_models(model: str) -> None:
    """Where it is not known how a model combines, this is learned."""
    loop = make_loop(model, negative_sampler="dans")
    train(loop)
    engine = last_engine(loop)
    assert engine.space is not None and isinstance(engine.generator, TwoWayGANGenerator)
    assert engine.bank.filled > 0.9
    assert engine.space.combines == (model in {"TransE", "DistMult", "RotatE"})
    shifts = engine.generator.combination.shift.weight
    assert (shifts.abs().sum() > 0) != engine.space.combines


def test_loss_of_vectors(monkeypatch: pytest.MonkeyPatch) -> None:
    """As in the paper, fakes may be scored themselves; they come without gradient, from both pathways alike."""
    made: list[Tensor] = []
    taken: list[Tensor] = []
    generate, take = GenerationEngine.generate, vector_loss._take

    def watch_all(self: GenerationEngine, rows: Tensor) -> Tensor:
        made.append(generate(self, rows))
        return made[-1]

    def watch_taken(*args: Any) -> Tensor:
        taken.append(take(*args))
        return taken[-1]

    monkeypatch.setattr(GenerationEngine, "generate", watch_all)
    monkeypatch.setattr(vector_loss, "_take", watch_taken)
    loop, tracker = train_small(callbacks=CurriculumTrainingCallback(vector_weight=0.5, **COUNTED))
    assert metrics_of(tracker, "vector_loss")[3] > 0
    counts = {ENTITY: 0, RELATION: 0}
    for vectors, chosen in zip(made, taken, strict=True):
        assert vectors.shape[1:] == (2, 2, 8) and chosen.shape[2:] == (1, 8)
        assert vectors.is_complex() and not vectors.requires_grad
        for column in chosen.unbind(dim=1):
            (way,) = (w for w in counts if any(torch.equal(vectors[:, band, w], column[:, 0]) for band in (0, 1)))
            counts[way] += 1
    # 4 vectors for each of 2 epochs of 11 batches
    assert sum(counts.values()) == 4 * 22
    assert counts[ENTITY] == pytest.approx(44, abs=16)
    assert all(parameter.grad is None or parameter.grad.isfinite().all() for parameter in loop.model.parameters())


def test_same_seed_same_losses() -> None:
    losses = []
    for _ in range(2):
        coupling._alone.clear()
        loop, _ = train_small()
        losses.append(loop.losses_per_epochs)
    assert losses[0] == losses[1]
