"""The command line, for real, on a data set that ships with PyKEEN."""

from __future__ import annotations

import inspect
import os
import pathlib
import re
import runpy
import types
import urllib.error
from typing import Any

import pykeen.datasets
import pytest
from click.testing import CliRunner
from matplotlib.image import imread
from pykeen.evaluation import RankBasedEvaluator
from pykeen.pipeline import pipeline

from pykeen_dans.commands import data, main
from pykeen_dans.experiments import load_recipe, with_sampler
from pykeen_dans.inspection import curve
from pykeen_dans.inspection.curve import ValidationCurveTrainingCallback
from pykeen_dans.sampling import GeneratedNegativeSampler
from pykeen_dans.version import VERSION

from .utils import small


def _run(*arguments: str) -> Any:
    return CliRunner().invoke(main, list(arguments), catch_exceptions=False)


def _row(output: str, name: str) -> list[str]:
    (row,) = re.findall(rf"^ *{name} +([\d. <]+)$", output, flags=re.MULTILINE)
    return row.split()


@pytest.fixture
def tiny(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the recipe train a small model, and the sampler prepare in no time."""

    def load_tiny(name: str) -> dict[str, Any]:
        recipe = load_recipe(name)
        recipe["pipeline"]["model_kwargs"]["embedding_dim"] = 8
        return recipe

    def with_tiny(recipe: Any, sampler: str, **kwargs: Any) -> dict[str, Any]:
        variant = with_sampler(recipe, sampler, **kwargs)
        if sampler != "basic":
            options = small()
            variant["pipeline"]["negative_sampler_kwargs"].update(
                reference_kwargs=options["reference_kwargs"], generator_kwargs=options["generator_kwargs"]
            )
        return variant

    monkeypatch.setattr("pykeen_dans.commands.demo.load_recipe", load_tiny)
    monkeypatch.setattr("pykeen_dans.commands.demo.with_sampler", with_tiny)


def test_demo(tmp_path: pathlib.Path, shared_cache: pathlib.Path, tiny: None) -> None:
    path = tmp_path / "picture.png"
    result = _run("demo", "--dataset", "umls", "--epochs", "2", "--num-negatives", "4", "--output", str(path))
    assert result.exit_code == 0, result.output
    assert "ComplEx on UMLS, 2 epochs. Test triples" in result.output
    for label in ("uniform", "shared", "generated"):
        mrr, hits_at_1, hits_at_10, seconds = map(float, _row(result.stdout, label))
        assert 0 <= hits_at_1 <= mrr <= hits_at_10 <= 1
        assert mrr > 0
        assert seconds > 0
    options = inspect.signature(GeneratedNegativeSampler).parameters
    for band, target in enumerate(options["targets"].default):
        row = _row(result.stdout, str(band))
        assert float(row[0]) == pytest.approx(100 * target)
        assert 0 < float(row[1]) < 60
    assert imread(path).std() > 0.05
    # progress is shown, unless the environment turns it off
    assert os.environ.get("TQDM_DISABLE") or "Training epochs" in result.stderr


def test_fallback(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]):
    def get_dataset(*, dataset: str, **kwargs: Any) -> pykeen.datasets.Dataset:
        if dataset == "codexsmall":
            raise urllib.error.URLError("no route to host")
        return pykeen.datasets.get_dataset(dataset=dataset, **kwargs)

    monkeypatch.setattr(data, "get_dataset", get_dataset)
    # a folder of data sets would have it
    monkeypatch.delenv("PYKEEN_DANS_DATA", raising=False)
    name, dataset = data.load_default(None)
    assert name == "umls"
    assert dataset.num_entities == 135
    assert dataset.training.create_inverse_triples
    assert "--dataset=codexsmall cannot be downloaded" in capsys.readouterr().err
    # whoever asks for a data set does not get another one
    result = _run("demo", "--dataset", "codexsmall", "--epochs", "1")
    assert result.exit_code == 1
    assert "--dataset=codexsmall cannot be downloaded" in result.output
    assert "--dataset=umls" in result.output


@pytest.mark.parametrize(
    "arguments",
    [("--dataset", "nowhere"), ("--epochs", "0"), ("--num-negatives", "0"), ("--output", "no/such/folder/x.png")],
)
def test_bad_input(arguments: tuple[str, str]):
    result = _run("demo", *arguments)
    assert result.exit_code == 2
    assert arguments[0] in result.output
    assert arguments[1] in result.output


def test_module(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]):
    monkeypatch.setattr("sys.argv", ["pykeen_dans", "--version"])
    with pytest.raises(SystemExit) as info:
        runpy.run_module("pykeen_dans", run_name="__main__")
    assert info.value.code == 0
    assert VERSION in capsys.readouterr().out


def test_curve_leaves_out_the_time_of_ranking(monkeypatch: pytest.MonkeyPatch):
    dataset = pykeen.datasets.Nations(create_inverse_triples=True)
    assert dataset.validation is not None
    callback = ValidationCurveTrainingCallback(
        validation=dataset.validation.mapped_triples, known=[dataset.training.mapped_triples], frequency=2
    )
    clock = {"now": 0.0}

    class SlowEvaluator(RankBasedEvaluator):
        def evaluate(self, *args: Any, **kwargs: Any) -> Any:
            clock["now"] += 100
            return super().evaluate(*args, **kwargs)

    def perf_counter() -> float:
        # each look at the clock takes a second
        clock["now"] += 1
        return clock["now"]

    monkeypatch.setattr(curve, "time", types.SimpleNamespace(perf_counter=perf_counter))
    monkeypatch.setattr(curve, "RankBasedEvaluator", SlowEvaluator)
    options = with_sampler(load_recipe("umls-complex"), "basic", epochs=5, seed=0)["pipeline"]
    options.pop("dataset_kwargs")
    options["dataset"] = dataset
    options["model_kwargs"]["embedding_dim"] = 8
    options["training_kwargs"].update(callbacks=callback, use_tqdm=False)
    result = pipeline(**options, evaluation_kwargs={"use_tqdm": False})
    assert callback.curve.epochs == [2, 4]
    # looks: start, after epoch 2 (and once more after ranking), after epoch 4 (the same), end
    assert callback.curve.seconds == [1, 2]
    assert callback.curve.total_seconds == 3
    assert all(0 < value < 1 for value in callback.curve.values)
    # the last epoch was not measured; ranking it now gives the value of PyKEEN's own evaluator
    callback.post_epoch(6, 0.0)
    expected = RankBasedEvaluator().evaluate(
        result.model,
        dataset.validation.mapped_triples,
        additional_filter_triples=[dataset.training.mapped_triples],
        use_tqdm=False,
    )
    assert callback.curve.values[-1] == pytest.approx(expected.get_metric("mrr"))
