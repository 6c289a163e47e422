"""A collapsed generator is noticed, and training goes on with fewer of its negatives."""

from __future__ import annotations

import logging
from typing import Any

import pytest
import torch
from pykeen.datasets import get_dataset
from pykeen.models import TransE
from pykeen.trackers import PythonResultTracker
from pykeen.training import SLCWATrainingLoop
from pykeen.triples import CoreTriplesFactory
from pykeen.typing import FloatTensor

from pykeen_dans import CurriculumTrainingCallback
from pykeen_dans.engine import coupling
from pykeen_dans.engine.diversity import Diversity, measure_diversity
from pykeen_dans.engine.settings import UpdateBudget
from pykeen_dans.generators import DiffusionGenerator, PriorGenerator
from pykeen_dans.sampling import (
    DiffusionAdaptiveNegativeSampler,
    GeneratedNegativeSampler,
    TwoWayGANNegativeSampler,
)

from .toys import DIM, QUICK, REFERENCE, clustered_graph, clustered_space, make_engine, make_space, seeded

pytestmark = pytest.mark.usefixtures("shared_cache", "no_engines")

SPACE = clustered_space()
INDEX = clustered_graph().index
ROWS = torch.arange(0, INDEX.num_queries, 2)
SAMPLERS: dict[str, tuple[type[GeneratedNegativeSampler], dict[str, Any]]] = {
    "dans_kgc": (DiffusionAdaptiveNegativeSampler, dict(generator_kwargs=QUICK["diffusion"])),
    "dans": (TwoWayGANNegativeSampler, dict(generator_kwargs=QUICK["two-way-gan"])),
}


def training() -> CoreTriplesFactory:
    factory = get_dataset(dataset="umls").training
    assert isinstance(factory, CoreTriplesFactory)
    return factory


def options_of(name: str) -> dict[str, Any]:
    return dict(
        num_negs_per_pos=8, share=0.5, fit_steps=5, random_state=0, reference_kwargs=REFERENCE, **SAMPLERS[name][1]
    )


def diversity_of(vectors: FloatTensor) -> Diversity:
    return measure_diversity(vectors, spaces=[SPACE] * vectors.shape[2], index=INDEX, rows=ROWS, random=seeded())


def answers() -> FloatTensor:
    return SPACE.vectors[INDEX.sample_answer(ROWS, seeded(1))]


def test_perfect_imitation() -> None:
    """The vectors of known answers are as diverse as known answers, and all are nearest to known answers."""
    diversity = diversity_of(answers()[:, None, None])
    assert diversity.distinct > 0.9
    assert diversity.cosine < 0.3
    assert diversity.false == 1.0


def test_collapse() -> None:
    """The same vector for all queries is near to a single entity."""
    diversity = diversity_of(torch.ones(len(ROWS), 1, 1, DIM))
    assert diversity.distinct < 0.05
    assert diversity.cosine == pytest.approx(1.0, abs=1e-4)


@pytest.mark.parametrize("axis", ["bands", "sources"])
def test_collapse_of_a_part(axis: str) -> None:
    """The least diverse band of the least diverse source counts, since a part of the negatives comes from it."""
    both = torch.stack([answers(), torch.ones(len(ROWS), DIM)], dim=1)
    assert diversity_of(both[:, :, None] if axis == "bands" else both[:, None]).distinct < 0.05


def test_cosine_is_that_of_pairs() -> None:
    vectors = torch.randn(len(ROWS), 1, 1, DIM, generator=seeded())
    unit = torch.nn.functional.normalize(vectors[:, 0, 0], dim=-1)
    similarity = unit @ unit.T
    expected = (similarity.sum() - similarity.trace()) / (len(unit) * (len(unit) - 1))
    assert diversity_of(vectors).cosine == pytest.approx(expected.item(), abs=1e-5)


def test_known_answers_are_looked_for_in_the_space_of_each_source() -> None:
    other = make_space(torch.randn(SPACE.num_entities, DIM, generator=seeded(4)))
    ids = INDEX.sample_answer(ROWS, seeded(1))
    vectors = torch.stack([SPACE.vectors[ids], other.vectors[ids]], dim=1)[:, None]
    right, wrong = (
        measure_diversity(vectors, spaces=spaces, index=INDEX, rows=ROWS, random=seeded())
        for spaces in ([SPACE, other], [other, SPACE])
    )
    assert right.false == 1.0
    assert wrong.false < 0.3


def collapse(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let generators make the same vector whatever they are asked."""

    def constant(self: Any, *, space: Any, queries: Any, **_: Any) -> FloatTensor:
        return space.vectors[0].expand(len(queries), self.num_bands, len(self.sources), -1)

    for cls in (DiffusionGenerator, PriorGenerator):
        monkeypatch.setattr(cls, "generate", constant)


def test_trust_is_the_part_of_the_threshold_that_is_left(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """It is lowered in proportion, is back when the generator recovers, and the warning comes once."""
    engine = make_engine(min_distinct=0.5)
    budget = UpdateBudget(fit_steps=2, refresh_queries=0)
    for broken in (False, True, True, False, True):
        with monkeypatch.context() as patch, caplog.at_level(logging.WARNING):
            if broken:
                collapse(patch)
            distinct = engine.update(engine.reference_space(), None, budget).diversity.distinct
        assert engine.trust == pytest.approx(min(1.0, distinct / 0.5))
        assert (engine.trust < 0.2) == broken
    assert caplog.text.count("has collapsed") == 1


@pytest.mark.parametrize("name", SAMPLERS)
def test_share_without_a_callback(name: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    """Every sampler uses a collapsed generator less, unless it is told to use it anyway."""
    factory = training()
    positives, shares = factory.mapped_triples, []
    for broken, min_distinct in ((False, 0.1), (True, 0.1), (True, 0.0)):
        with monkeypatch.context() as patch, caplog.at_level(logging.WARNING):
            if broken:
                collapse(patch)
            caplog.clear()
            coupling._alone.clear()
            sampler = SAMPLERS[name][0](mapped_triples=positives, min_distinct=min_distinct, **options_of(name))
            sampler.corrupt_batch(positives)
        shares.append(sampler.engine.take_counts()["generated"] / (8 * len(positives)))
        assert caplog.text.count("has collapsed") == (broken and min_distinct > 0)
        assert (sampler.engine.trust < 1) == (broken and min_distinct > 0)
    healthy, lowered, ignored = shares
    # but for the positives themselves, half of the negatives are generated
    assert healthy == pytest.approx(0.5, abs=0.05)
    assert ignored == pytest.approx(0.5, abs=0.05)
    assert lowered < 0.4 * healthy


def test_share_in_a_training(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    """The share is lowered while the generator is collapsed, logged once, and comes back when it recovers."""
    factory = training()
    tracker = PythonResultTracker()
    loop = SLCWATrainingLoop(
        model=TransE(triples_factory=factory, embedding_dim=4, random_seed=0),
        triples_factory=factory,
        negative_sampler="dans_kgc",
        negative_sampler_kwargs=options_of("dans_kgc"),
        result_tracker=tracker,
        automatic_memory_optimization=False,
    )

    class Recovery(CurriculumTrainingCallback):
        def post_epoch(self, epoch: int, epoch_loss: float, **kwargs: Any) -> None:
            with monkeypatch.context() as patch:
                if epoch <= 2:
                    collapse(patch)
                super().post_epoch(epoch, epoch_loss, **kwargs)

    loop.train(
        factory,
        num_epochs=4,
        batch_size=1024,
        use_tqdm=False,
        pin_memory=False,
        callbacks=Recovery(fit_steps=3, refresh_queries=10_000),
    )
    shares = [tracker.metrics[epoch]["negatives.share"] for epoch in range(1, 5)]
    assert all(0 < share < 0.4 * 0.5 for share in shares[:2])
    assert shares[2:] == [0.5, 0.5]
    generated = [tracker.metrics[epoch]["negatives.generated"] for epoch in range(1, 5)]
    assert generated[2] < 0.4 * 0.5 * 8 * factory.num_triples < generated[3]
    assert caplog.text.count("has collapsed") == 1
