"""A collapsed generator is noticed, and training goes on with fewer of its negatives."""

from __future__ import annotations

import logging
from typing import Any

import pytest
import torch
from pykeen.models import TransE
from pykeen.trackers import PythonResultTracker
from pykeen.training import SLCWATrainingLoop
from pykeen.typing import FloatTensor

from pykeen_dans import CurriculumTrainingCallback
from pykeen_dans.engine import coupling
from pykeen_dans.engine.diversity import Diversity, measure_diversity
from pykeen_dans.generators.diffusion import DiffusionGenerator
from pykeen_dans.generators.gan import TwoWayGANGenerator
from pykeen_dans.sampling import GeneratedNegativeSampler

from .toys import DIM, clustered_space, clustered_world, seeded
from .utils import SMALL, SMALL_GAN, make_gan_sampler, make_sampler, training_of

pytestmark = pytest.mark.usefixtures("shared_cache", "no_engines")

SPACE = clustered_space()
INDEX = clustered_world().index
ROWS = torch.arange(0, INDEX.num_queries, 2)


def diversity_of(latent: FloatTensor) -> Diversity:
    return measure_diversity(latent, spaces=[SPACE] * latent.shape[1], index=INDEX, rows=ROWS, random=seeded())


def answers() -> FloatTensor:
    return SPACE.vectors[INDEX.sample_answer(ROWS, seeded(1))]


def test_perfect_imitation() -> None:
    """The vectors of known answers are as diverse as known answers, and all decode to known answers."""
    diversity = diversity_of(answers()[:, None])
    assert diversity.distinct > 0.9
    assert diversity.cosine < 0.3
    assert diversity.false == 1.0


def test_collapse() -> None:
    """The same vector for all queries is near to a single entity."""
    diversity = diversity_of(torch.ones(len(ROWS), 1, DIM))
    assert diversity.distinct < 0.05
    assert diversity.cosine == pytest.approx(1.0, abs=1e-4)


def test_collapse_of_one_pathway() -> None:
    """The least diverse band counts, since a part of the negatives comes from it."""
    latent = torch.stack([answers(), torch.ones(len(ROWS), DIM)], dim=1)
    assert diversity_of(latent).distinct < 0.05


def test_cosine_is_that_of_pairs() -> None:
    latent = torch.randn(len(ROWS), 1, DIM, generator=seeded())
    unit = torch.nn.functional.normalize(latent[:, 0], dim=-1)
    similarity = unit @ unit.T
    expected = (similarity.sum() - similarity.trace()) / (len(unit) * (len(unit) - 1))
    assert diversity_of(latent).cosine == pytest.approx(expected.item(), abs=1e-5)


def collapse(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let generators make the same vector whatever they are asked."""
    for cls in (DiffusionGenerator, TwoWayGANGenerator):

        def constant(self: Any, *, space: Any, queries: Any, **_: Any) -> FloatTensor:
            return space.vectors[0].expand(len(queries), self.num_bands, -1)

        monkeypatch.setattr(cls, "generate", constant)


@pytest.mark.parametrize("make", [make_sampler, make_gan_sampler], ids=["dans_kgc", "dans"])
def test_share_without_a_callback(make: Any, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    """Every sampler uses a collapsed generator less, and says so once."""
    positives = training_of("umls").mapped_triples
    shares = []
    for broken, min_distinct in ((False, 0.1), (True, 0.1), (True, 0.0)):
        with monkeypatch.context() as patch, caplog.at_level(logging.WARNING):
            if broken:
                collapse(patch)
            caplog.clear()
            coupling._alone.clear()
            sampler: GeneratedNegativeSampler = make(
                num_negs_per_pos=8, curriculum_kwargs=dict(share=0.5), min_distinct=min_distinct
            )
            sampler.corrupt_batch(positives)
        shares.append(sampler.engine.take_counts()["generated"] / (8 * len(positives)))
        assert caplog.text.count("has collapsed") == (broken and min_distinct > 0)
        assert (sampler.engine.trust < 1) == (broken and min_distinct > 0)
    healthy, lowered, ignored = shares
    assert healthy == pytest.approx(ignored, abs=0.02)
    assert lowered < 0.4 * healthy


@pytest.mark.parametrize(("sampler", "options"), [("dans_kgc", SMALL), ("dans", SMALL_GAN)])
def test_share_in_a_training(
    sampler: str, options: dict[str, Any], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """The share is lowered while the generator is collapsed, logged once, and comes back when it recovers."""
    factory = training_of("umls")
    tracker = PythonResultTracker()
    model = TransE(triples_factory=factory, embedding_dim=4, random_seed=0)
    loop = SLCWATrainingLoop(
        model=model,
        triples_factory=factory,
        negative_sampler=sampler,
        negative_sampler_kwargs={**options, "num_negs_per_pos": 4},
        result_tracker=tracker,
        automatic_memory_optimization=False,
    )

    class Recovery(CurriculumTrainingCallback):
        def post_epoch(self, epoch: int, epoch_loss: float, **kwargs: Any) -> None:
            with monkeypatch.context() as patch:
                if epoch <= 3:
                    collapse(patch)
                super().post_epoch(epoch, epoch_loss, **kwargs)

    loop.train(
        factory,
        num_epochs=5,
        batch_size=512,
        use_tqdm=False,
        pin_memory=False,
        callbacks=Recovery(fit_steps=3, refresh_queries=10_000),
    )
    shares = [tracker.metrics[epoch]["negatives.share"] for epoch in range(1, 6)]
    assert all(0 < share < 0.4 * 0.25 for share in shares[:3])
    assert shares[3:] == [0.25, 0.25]
    generated = [tracker.metrics[epoch]["negatives.generated"] for epoch in range(1, 6)]
    assert generated[3] < 0.4 * 0.25 * 4 * factory.num_triples < generated[4]
    assert caplog.text.count("has collapsed") == 1
