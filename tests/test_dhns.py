"""The sampler dhns in PyKEEN: its levels and modalities, its published configuration, and trainings."""

from __future__ import annotations

import json
import logging
import pathlib
from typing import Any

import pytest
import torch
from pykeen.experiments.cli import experiments
from pykeen.hpo import hpo_pipeline
from pykeen.pipeline import PipelineResult, pipeline
from pykeen.trackers import PythonResultTracker

from pykeen_dans.engine.curriculum import DEFAULT_MARGINS, LinearCurriculum
from pykeen_dans.multimodal import attach_modalities
from pykeen_dans.multimodal.generator import HierarchicalGenerator
from pykeen_dans.multimodal.published import PublishedHierarchicalGenerator
from pykeen_dans.sampling import GeneratedNegativeSampler

from .utils import batch_of, check_negatives, small, training_of
from .utils import make_sampler as make_small_sampler

pytestmark = pytest.mark.usefixtures("shared_cache", "no_engines")

DATASET = "umls"


def features(num_features: int = 4, *, seed: int = 0) -> list[list[float]]:
    """Make features as JSON has them, of all entities but the first ten."""
    rows = torch.randn(training_of(DATASET).num_entities, num_features, generator=torch.Generator().manual_seed(seed))
    rows[:10] = 0
    return rows.tolist()


MODALITIES = {"textual": features(), "visual": features(3, seed=1)}


def make_sampler(**kwargs: Any) -> GeneratedNegativeSampler:
    return make_small_sampler(DATASET, "dhns", **kwargs)


def generator_of(sampler: GeneratedNegativeSampler) -> HierarchicalGenerator:
    generator = sampler.engine.generator
    assert isinstance(generator, HierarchicalGenerator)
    return generator


# Levels and bands


def test_sample() -> None:
    """With modalities, negatives are proper ones, too."""
    positives = batch_of(DATASET)
    negatives, mask = make_sampler(modalities=MODALITIES, num_negs_per_pos=5, share=1.0).sample(positives)
    assert mask is None
    check_negatives(negatives, positives, DATASET)


def test_levels_go_from_looks_to_words_to_links() -> None:
    sampler = make_sampler(modalities={"audio": features(), **MODALITIES, "numeric": features()}, fit_steps=0)
    names = [level.name for level in generator_of(sampler).levels]
    assert names == ["visual", "numeric", "textual", "audio", "structural"]


def test_levels_can_be_chosen() -> None:
    sampler = make_sampler(modalities=MODALITIES, levels=["textual"], fit_steps=0)
    assert [level.name for level in generator_of(sampler).levels] == ["textual"]
    assert sampler.engine.num_bands == 4


def test_bank_has_a_place_for_each_band_and_level() -> None:
    sampler = make_sampler(modalities=MODALITIES)
    assert sampler.engine.sources == ("visual", "textual", "structural")
    ids = sampler.engine.bank.ids
    assert ids.shape[1:] == (4, 3, 8)
    # the first two levels are those of modalities that do not cover the first ten entities
    assert ids[:, :, :2].min() >= 10
    assert ids[:, :, 2].min() < 10


@pytest.mark.parametrize("progress", [0.0, 0.3, 1.0])
def test_curriculum_moves_along_both_hierarchies(progress: float) -> None:
    sampler = make_sampler(modalities=MODALITIES, horizon=10, share=1.0, num_negs_per_pos=6)
    sampler.seen.reset(int(progress * 10 * sampler.num_triples))
    state = sampler.state
    curriculum = LinearCurriculum()
    assert state.band_weights == pytest.approx(curriculum.weights(progress, number=4), abs=1e-3)
    assert state.source_weights == pytest.approx(curriculum.weights(progress, number=3), abs=1e-3)
    # what is drawn follows them; entities that do not exist tell band and level
    ids = sampler.engine.bank.ids
    ids.copy_((1_000 + torch.arange(12, dtype=torch.int32)).view(4, 3)[None, :, :, None].expand_as(ids))
    torch.manual_seed(0)
    drawn = sampler.corrupt_batch(training_of(DATASET).mapped_triples)[..., [0, 2]].amax(dim=-1) - 1_000
    assert drawn.min() >= 0
    shares = torch.bincount(drawn.flatten(), minlength=12).view(4, 3) / drawn.numel()
    expected = torch.tensor(state.band_weights)[:, None] * torch.tensor(state.source_weights)
    torch.testing.assert_close(shares, expected, atol=0.02, rtol=0)


def test_margins_rise_from_hard_to_easy() -> None:
    factors = make_sampler(fit_steps=0).state.margin_factors
    assert factors == pytest.approx((0.9, 0.7, 0.5, 0.3))
    own = make_sampler(fit_steps=0, curriculum_kwargs={"margins": DEFAULT_MARGINS}).state.margin_factors
    assert own == pytest.approx(DEFAULT_MARGINS)


# Modalities


def test_structural_level_alone_says_so_once(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, logger="pykeen_dans"):
        sampler = make_sampler(fit_steps=0)
        make_sampler(fit_steps=0)
    assert sum("structural level alone" in message for message in caplog.messages) == 1
    assert sampler.engine.num_bands == 4


def test_other_features_are_another_sampler() -> None:
    """Samplers without a callback share their work, but not where features differ."""
    first = make_sampler(modalities={"textual": features()})
    assert make_sampler(modalities={"textual": features()}).engine is first.engine
    assert make_sampler(modalities={"textual": features(seed=5)}).engine is not first.engine


@pytest.mark.parametrize(
    ("kwargs", "message"),
    [
        (dict(modalities={"textual": [[1.0]]}), "has 1 rows"),
        (dict(modalities={"structural": features()}), "reserved"),
        (dict(modalities={"textual": [[0.0]] * 135}), "covers none"),
        (dict(modalities={"textual": [[float("nan")]] * 135}), "NaN"),
        (dict(levels=["textual"]), "levels='textual' is unknown; choose one of structural"),
        (dict(levels=[]), "at least one level"),
        (dict(levels=["structural", "structural"]), "none of them twice"),
        (dict(targets=(0.05, 0.1, 0.15, 0.2)), "rank percentiles"),
        (dict(generator_kwargs=dict(bands=(6, 12, 18, 25))), "bands=.* does not strictly decrease"),
        (dict(generator_kwargs=dict(noise_loss="l3")), "noise_loss='l3' is unknown"),
        (dict(generator_kwargs=dict(batch_size=0)), "batch_size=0"),
        (dict(generator_kwargs=dict(preset="released")), "has preset, which HierarchicalGenerator does not take"),
    ],
)
def test_bad_input(kwargs: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make_sampler(**kwargs)


# The published configuration


def test_published_configuration() -> None:
    """It is a generator by name, of whose options those that are given prevail."""
    options = dict(generator="published-hierarchical", modalities=MODALITIES, fit_steps=1)
    generator = generator_of(make_sampler(**options))
    assert isinstance(generator, PublishedHierarchicalGenerator)
    assert [level.name for level in generator.levels] == ["visual", "textual", "structural"]
    assert generator.bands == (25, 12, 6, 5)
    assert generator.schedule.beta_global == 0.02
    assert not generator.standardised
    other = generator_of(make_sampler(**options, generator_kwargs=dict(learning_rate=1e-4, bands=(20, 10, 5, 2))))
    assert other.learning_rate == 1e-4
    assert other.bands == (20, 10, 5, 2)


# In PyKEEN's pipelines


def train(**kwargs: Any) -> tuple[PipelineResult, dict[str, list[float]]]:
    """Train, and return the metrics of negatives, too."""
    tracker = PythonResultTracker()
    options: dict[str, Any] = {
        "dataset": "nations",
        "model": "RotatE",
        "model_kwargs": {"embedding_dim": 8},
        "loss": "nssa",
        "training_kwargs": {
            "num_epochs": 3,
            "batch_size": 256,
            "use_tqdm": False,
            "callbacks": "curriculum",
            "callbacks_kwargs": {"fit_steps": 2, "refresh_queries": 100, **kwargs.pop("callbacks_kwargs", {})},
        },
        "negative_sampler": "dhns",
        "negative_sampler_kwargs": small("dhns", targets=(0.45, 0.2), **kwargs.pop("negative_sampler_kwargs", {})),
        "evaluation_kwargs": {"use_tqdm": False, "batch_size": 64},
        "device": "cpu",
        "random_seed": 0,
        "result_tracker": tracker,
    }
    result = pipeline(**{**options, **kwargs})
    found: dict[str, list[float]] = {}
    for metrics in tracker.metrics.values():
        for name, value in metrics.items():
            found.setdefault(name.removeprefix("negatives."), []).append(value)
    return result, found


NATIONS_TEXTS = {name: f"{name} is a country" for name in ("brazil", "china", "cuba", "egypt", "india", "israel")}


@pytest.mark.parametrize("model", ["RotatE", "ComplEx", "DistMult", "TransE", "TuckER"])
def test_live_training_with_texts(model: str) -> None:
    """Texts are aligned by the labels of the training that is under way."""
    _, metrics = train(
        model=model, negative_sampler_kwargs={"modalities": {"textual": {"text": NATIONS_TEXTS}}, "num_negs_per_pos": 4}
    )
    assert len(metrics["noise_error_textual"]) == len(metrics["noise_error_structural"]) == 3
    assert metrics["generated"][-1] > 0
    places = {name for name in metrics if name.startswith("percentile")}
    assert places == {f"percentile_{band}_{level}" for band in (0, 1) for level in ("textual", "structural")}


def test_modalities_of_the_data_set_are_used_by_default() -> None:
    from pykeen.datasets import get_dataset

    dataset = get_dataset(dataset="nations")
    attach_modalities(dataset.training, {"textual": {"text": NATIONS_TEXTS}})
    _, metrics = train(dataset=dataset)
    assert "noise_error_textual" in metrics


@pytest.mark.parametrize("model", ["RotatE", "DistMult"])
def test_generated_vectors_can_be_scored_as_in_the_paper(model: str) -> None:
    """Heads, tails and both, with the margin of each band; modalities are fused, or their scores averaged."""
    _, metrics = train(
        model=model,
        negative_sampler_kwargs={"modalities": {"textual": {"text": NATIONS_TEXTS}}},
        callbacks_kwargs={
            "vector_weight": 0.1,
            "band_margins": True,
            "vector_kinds": ["head", "tail", "both"],
            "num_vectors": 3,
        },
    )
    # nothing is generated in the first epoch
    assert len(metrics["vector_loss"]) == 2
    assert metrics["vector_loss"][-1] > 0


def test_hpo() -> None:
    result = hpo_pipeline(
        dataset="nations",
        model="TransE",
        model_kwargs={"embedding_dim": 8},
        training_loop="slcwa",
        negative_sampler="dhns",
        negative_sampler_kwargs=small("dhns", modalities={"textual": {"text": NATIONS_TEXTS}}, curriculum="constant"),
        negative_sampler_kwargs_ranges={"levels": {"type": "categorical", "choices": [["textual"], ["structural"]]}},
        training_kwargs={"num_epochs": 2, "batch_size": 256, "use_tqdm": False},
        evaluation_kwargs={"use_tqdm": False, "batch_size": 64},
        n_trials=2,
        metric="mrr",
        direction="maximize",
        sampler="random",
        device="cpu",
    )
    for trial in result.study.trials:
        assert trial.params["negative_sampler.levels"] in (["textual"], ["structural"])
        assert trial.values is not None


def test_experiment_from_json(tmp_path: pathlib.Path) -> None:
    """PyKEEN's command runs a recipe with the sampler and its features in it."""
    from click.testing import CliRunner

    recipe = {
        "metadata": {},
        "pipeline": {
            "dataset": "nations",
            "dataset_kwargs": {"create_inverse_triples": False},
            "model": "TransE",
            "model_kwargs": {"embedding_dim": 8, "scoring_fct_norm": 2},
            "loss": "softplus",
            "loss_kwargs": {"reduction": "mean"},
            "optimizer": "adam",
            "optimizer_kwargs": {"lr": 0.01},
            "training_loop": "slcwa",
            "negative_sampler": "hierarchical",
            "negative_sampler_kwargs": small("dhns", modalities={"textual": {"text": NATIONS_TEXTS}}),
            "training_kwargs": {"num_epochs": 1, "batch_size": 256, "callbacks": "curriculum"},
            "evaluator_kwargs": {"filtered": True},
        },
        "results": {},
    }
    path = tmp_path / "recipe.json"
    path.write_text(json.dumps(recipe))
    outcome = CliRunner().invoke(experiments, ["run", str(path), "-d", str(tmp_path / "out")], catch_exceptions=False)
    assert outcome.exit_code == 0, outcome.output
    assert list((tmp_path / "out").rglob("results.json"))
