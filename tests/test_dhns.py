"""The hierarchical sampler in PyKEEN: PyKEEN's own checks of samplers, its levels, modalities and presets."""

from __future__ import annotations

import dataclasses
import inspect
import json
import logging
import pathlib
from typing import Any

import pytest
import torch
from pykeen.experiments.cli import experiments
from pykeen.hpo import hpo_pipeline
from pykeen.pipeline import PipelineResult, pipeline
from pykeen.sampling import negative_sampler_resolver
from pykeen.trackers import PythonResultTracker

from pykeen_dans.engine.curriculum import DEFAULT_MARGINS, LinearCurriculum
from pykeen_dans.multimodal import attach_modalities
from pykeen_dans.multimodal.generator import PRESETS, HierarchicalGenerator
from pykeen_dans.sampling import GeneratedNegativeSampler, HierarchicalNegativeSampler
from pykeen_dans.sampling import dhns as hierarchical

from .utils import SMALL, is_training, training_of

pytestmark = pytest.mark.usefixtures("shared_cache", "no_engines")

#: All of the small options but those that this sampler does not have
OPTIONS: dict[str, Any] = {key: value for key, value in SMALL.items() if key != "difficulty_kwargs"}
DATASET = "umls"


def features(num_features: int = 4, *, seed: int = 0) -> list[list[float]]:
    """Make features as JSON has them, of all entities but the first ten."""
    rows = torch.randn(training_of(DATASET).num_entities, num_features, generator=torch.Generator().manual_seed(seed))
    rows[:10] = 0
    return rows.tolist()


MODALITIES = {"textual": features(), "visual": features(3, seed=1)}


def make_sampler(**kwargs: Any) -> HierarchicalNegativeSampler:
    factory = training_of(DATASET)
    return HierarchicalNegativeSampler(
        mapped_triples=factory.mapped_triples,
        num_entities=factory.num_entities,
        num_relations=factory.num_relations,
        **{**OPTIONS, "random_state": 0, **kwargs},
    )


def generator_of(sampler: GeneratedNegativeSampler) -> HierarchicalGenerator:
    generator = sampler.engine.generator
    assert isinstance(generator, HierarchicalGenerator)
    return generator


# PyKEEN's checks of samplers


@pytest.mark.parametrize("modalities", [None, MODALITIES])
@pytest.mark.parametrize("num_negs_per_pos", [1, 5])
def test_sample(modalities: Any, num_negs_per_pos: int) -> None:
    factory = training_of(DATASET)
    positives = factory.mapped_triples[:64]
    negatives, mask = make_sampler(modalities=modalities, num_negs_per_pos=num_negs_per_pos).sample(positives)
    assert mask is None
    assert negatives.shape == (64, num_negs_per_pos, 3)
    assert negatives.dtype == torch.long
    assert ((negatives[..., [0, 2]] >= 0) & (negatives[..., [0, 2]] < factory.num_entities)).all()
    differs = negatives != positives[:, None, :]
    assert not differs[..., 1].any()
    assert (differs[..., 0] ^ differs[..., 2]).all()


@pytest.mark.parametrize("size", [1, 0, 32])
def test_small_batches(size: int) -> None:
    assert make_sampler(num_negs_per_pos=3).corrupt_batch(training_of(DATASET).mapped_triples[:size]).shape == (
        size,
        3,
        3,
    )


def test_filtered() -> None:
    sampler = make_sampler(num_negs_per_pos=10, filtered=True, filterer="exact")
    negatives, mask = sampler.sample(training_of(DATASET).mapped_triples[:128])
    assert mask is not None
    assert torch.equal(mask, ~is_training(negatives, DATASET))


def test_by_name() -> None:
    factory = training_of("nations")
    for name in ("dhns", "DHNS", "hierarchical", "HierarchicalNegativeSampler"):
        sampler = negative_sampler_resolver.make(name, OPTIONS, mapped_triples=factory.mapped_triples)
        assert isinstance(sampler, HierarchicalNegativeSampler)


def test_nothing_generated_is_a_training_triple() -> None:
    sampler = make_sampler(modalities=MODALITIES, num_negs_per_pos=8, curriculum_kwargs={"share": 1.0})
    bank, index = sampler.engine.bank, sampler.engine.index
    rows = torch.arange(index.num_queries)[:, None].expand(-1, bank.row_size)
    ids = bank.ids.flatten(start_dim=1).long()
    assert not index.is_answer(rows, ids.clamp(min=0))[ids >= 0].any()


# Levels


def test_levels_go_from_looks_to_words_to_links() -> None:
    sampler = make_sampler(modalities={"audio": features(), **MODALITIES, "numeric": features()}, fit_steps=0)
    names = [level.name for level in generator_of(sampler).levels]
    assert names == ["visual", "numeric", "textual", "audio", "structural"]


def test_levels_can_be_chosen() -> None:
    sampler = make_sampler(modalities=MODALITIES, levels=["textual"], fit_steps=0)
    assert [level.name for level in generator_of(sampler).levels] == ["textual"]
    assert sampler.engine.num_bands == 4


def test_bank_has_a_band_for_each_pair_of_hardness_and_level() -> None:
    sampler = make_sampler(modalities=MODALITIES)
    assert sampler.engine.bank.ids.shape[1] == sampler.engine.num_bands == 4 * 3
    # the first two levels are those of modalities that do not cover the first ten entities
    ids = sampler.engine.bank.ids.unflatten(1, (4, 3))
    assert ids[:, :, :2].min() >= 10
    assert ids[:, :, 2].min() < 10


def test_curriculum_moves_along_both_hierarchies() -> None:
    curriculum = LinearCurriculum(kappa=1.0)
    for progress in (0.0, 0.3, 1.0):
        state = curriculum(progress, num_bands=4, num_levels=3)
        table = torch.tensor(state.weights).view(4, 3)
        torch.testing.assert_close(table.sum(dim=1), torch.tensor(curriculum(progress, num_bands=4).weights))
        torch.testing.assert_close(table.sum(dim=0), torch.tensor(curriculum(progress, num_bands=3).weights))
        assert state.hardness == pytest.approx(curriculum(progress, num_bands=4).hardness)
        assert state.margin_factor == pytest.approx(curriculum(progress, num_bands=4).margin_factor)
    easy, hard = (torch.tensor(curriculum(x, num_bands=4, num_levels=3).weights) for x in (0.0, 1.0))
    assert easy.argmax() == 0
    assert hard.argmax() == 11


def test_margins_rise_from_hard_to_easy() -> None:
    factors = make_sampler(fit_steps=0).state.margin_factors
    assert factors == (0.9, 0.7, 0.5, 0.3)
    own = make_sampler(fit_steps=0, curriculum_kwargs={"margins": DEFAULT_MARGINS}).state.margin_factors
    assert own == DEFAULT_MARGINS


def test_weights_of_bands_and_levels_multiply() -> None:
    sampler = make_sampler(
        modalities=MODALITIES,
        curriculum="constant",
        band_weights=(1, 2, 2, 1),
        level_weights={"visual": 0, "textual": 1, "structural": 3},
        fit_steps=0,
    )
    table = torch.tensor(sampler.state.weights).view(4, 3)
    torch.testing.assert_close(table, torch.tensor([1.0, 2, 2, 1])[:, None] / 6 * torch.tensor([0.0, 1, 3]) / 4)


def test_targets_are_shared_or_given_for_each_level() -> None:
    levels = ["textual", "structural"]
    shared = make_sampler(modalities=MODALITIES, levels=levels, fit_steps=0)
    assert shared.engine.settings.targets == (0.28, 0.28, 0.21, 0.21, 0.14, 0.14, 0.07, 0.07)
    apart = make_sampler(
        modalities=MODALITIES,
        levels=levels,
        bands=(20, 10),
        targets={"structural": (0.2, 0.1), "textual": (0.1, 0.05)},
        fit_steps=0,
    )
    assert apart.engine.settings.targets == (0.1, 0.2, 0.05, 0.1)


# Modalities


def test_structural_level_alone_says_so_once(caplog: pytest.LogCaptureFixture) -> None:
    hierarchical._tell_structural_only.cache_clear()
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
        (dict(preset="paper"), "preset='paper' is unknown; choose one of released, working"),
        (dict(targets=(0.2, 0.1)), "targets=.* are not 4 for each of the levels structural"),
        (dict(targets={"textual": (0.2, 0.15, 0.1, 0.05)}), "targets=.* are not 4"),
        (dict(targets=(0.05, 0.1, 0.15, 0.2)), "rank percentiles"),
        (dict(band_weights=(1.0,)), "band_weights=.* are not 4"),
        (dict(band_weights=(0, 0, 0, 0)), "band_weights are all zero"),
        (dict(band_weights=(1, 1, 1, -1)), "band_weights=-1 is negative"),
        (dict(level_weights={"textual": 1.0}), "level_weights=.*structural"),
        (dict(bands=(6, 12, 18, 25)), "bands=.* does not strictly decrease"),
        (dict(warm_up=-1), "warm_up=-1"),
        (dict(noise_loss="l3"), "loss='l3' is unknown"),
        (dict(hidden_dim=15), "hidden_dim=15 is odd"),
    ],
)
def test_bad_input(kwargs: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make_sampler(**kwargs)


# Presets


def test_preset_is_the_default_of_other_options() -> None:
    chosen = PRESETS["released"]
    generator = generator_of(make_sampler(preset="released", fit_steps=1, hidden_dim=None, batch_size=8))
    assert generator.optimizer.param_groups[0]["lr"] == chosen.learning_rate
    assert not generator.standardised
    assert tuple(generator._chain(0).bands) == chosen.bands
    assert generator.max_norm is None
    other = generator_of(make_sampler(preset="released", learning_rate=1e-4, max_norm=2.0, fit_steps=0))
    assert other.optimizer.param_groups[0]["lr"] == 1e-4
    assert other.max_norm == 2.0


def test_each_option_of_the_generator_is_one_of_the_sampler() -> None:
    sampler = set(inspect.signature(HierarchicalNegativeSampler).parameters)
    generator = set(inspect.signature(HierarchicalGenerator).parameters)
    assert generator - sampler == {"dim", "loss"}
    assert {field.name for field in dataclasses.fields(PRESETS["working"])} - generator == {"published"}


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
        "negative_sampler_kwargs": {**OPTIONS, **kwargs.pop("negative_sampler_kwargs", {})},
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
    assert len(metrics["diffusion_loss_textual"]) == len(metrics["diffusion_loss_structural"]) == 3
    assert metrics["generated"][-1] > 0
    assert "percentile_7" in metrics
    assert "percentile_8" not in metrics


def test_modalities_of_the_data_set_are_used_by_default() -> None:
    from pykeen.datasets import get_dataset

    dataset = get_dataset(dataset="nations")
    attach_modalities(dataset.training, {"textual": {"text": NATIONS_TEXTS}})
    _, metrics = train(dataset=dataset)
    assert "diffusion_loss_textual" in metrics


@pytest.mark.parametrize("model", ["RotatE", "DistMult"])
def test_generated_vectors_can_be_scored_as_in_the_paper(model: str) -> None:
    """Heads, tails and both, with the margin of each band; modalities are fused, or their scores averaged."""
    _, metrics = train(
        model=model,
        negative_sampler_kwargs={"modalities": {"textual": {"text": NATIONS_TEXTS}}},
        callbacks_kwargs={
            "latent_weight": 0.1,
            "latent_adaptive": True,
            "latent_kinds": ["head", "tail", "both"],
            "latent_negatives": 3,
            "adapt_margin": True,
        },
    )
    assert metrics["latent_loss"][-1] > 0


def test_training_loop() -> None:
    result = pipeline(
        dataset="nations",
        model="TransE",
        model_kwargs={"embedding_dim": 8},
        training_loop="dhns",
        training_loop_kwargs={"negative_sampler_kwargs": OPTIONS},
        training_kwargs={"num_epochs": 2, "batch_size": 256, "use_tqdm": False},
        evaluation_kwargs={"use_tqdm": False},
        device="cpu",
        random_seed=0,
    )
    assert isinstance(result.training_loop.negative_sampler, type)
    assert issubclass(result.training_loop.negative_sampler, HierarchicalNegativeSampler)


def test_hpo() -> None:
    result = hpo_pipeline(
        dataset="nations",
        model="TransE",
        model_kwargs={"embedding_dim": 8},
        training_loop="slcwa",
        negative_sampler="dhns",
        negative_sampler_kwargs={
            **{key: OPTIONS[key] for key in ("fit_steps", "batch_size", "reference_kwargs", "num_types")},
            "modalities": {"textual": {"text": NATIONS_TEXTS}},
        },
        training_kwargs={"num_epochs": 2, "batch_size": 256, "use_tqdm": False},
        evaluation_kwargs={"use_tqdm": False, "batch_size": 64},
        n_trials=2,
        metric="mrr",
        direction="maximize",
        sampler="random",
        device="cpu",
    )
    drawn = {name.removeprefix("negative_sampler.") for name in result.study.best_trial.params}
    assert set(HierarchicalNegativeSampler.hpo_default) <= drawn


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
            "negative_sampler_kwargs": {**OPTIONS, "modalities": {"textual": {"text": NATIONS_TEXTS}}},
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
