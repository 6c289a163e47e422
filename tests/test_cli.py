"""PyKEEN's own command line, in fresh interpreters that import nothing of ours."""

from __future__ import annotations

import csv
import json
import os
import pathlib
import subprocess
import sys
from typing import Any

import pytest

from .utils import SMALL

#: What a command needs to know of the sampler, such that it takes seconds
SAMPLER: dict[str, Any] = {
    "negative_sampler": "dans_kgc",
    "negative_sampler_kwargs": {**SMALL, "num_negs_per_pos": 4},
}


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> pathlib.Path:
    """Make a data folder that all commands share, and that is empty before the first of them."""
    return tmp_path_factory.mktemp("home")


def pykeen(*arguments: object, home: pathlib.Path) -> str:
    """Run a command of PyKEEN, and return what it prints."""
    env = {key: value for key, value in os.environ.items() if key != "PYKEEN_HOME"}
    env |= {"OMP_NUM_THREADS": "1", "PYSTOW_HOME": str(home), "COLUMNS": "200"}
    result = subprocess.run(
        [sys.executable, "-m", "pykeen", *map(str, arguments)],
        capture_output=True,
        text=True,
        env=env,
        cwd=home,
        timeout=600,
    )
    assert result.returncode == 0, result.stderr
    return result.stdout


def write(path: pathlib.Path, content: dict[str, Any]) -> pathlib.Path:
    """Write a configuration."""
    path.write_text(json.dumps(content))
    return path


def test_ls(home: pathlib.Path) -> None:
    """The list of samplers shows ours, with one line of description as the others."""
    lines = pykeen("ls", "negative-samplers", home=home).splitlines()
    (ours,) = (line for line in lines if line.startswith("diffusionadaptive"))
    assert "diffusion" in ours.removeprefix("diffusionadaptive")
    assert ours.endswith(".")
    # a description of several lines would give lines without a name
    assert all(line[0].isalpha() for line in lines if line)


def test_train(home: pathlib.Path, tmp_path: pathlib.Path) -> None:
    """Training by one command, with the training loop that brings sampler and callback along."""
    output = tmp_path / "out"
    command = ["train", "complex", "--dataset", "umls", "--training-loop", "dans-kgc", "--number-epochs", 2]
    printed = pykeen(*command, "--embedding-dim", 8, "--random-seed", 0, "--output-directory", output, home=home)
    assert "Training ComplEx with DANSKGC" in printed
    results = json.loads((output / "results.json").read_text())
    assert len(results["losses"]) == 2
    assert (output / "trained_model.pkl").is_file()
    # the reference embedding was made, and so the sampler is ours
    assert list((home / "pykeen" / "dans" / "reference").glob("*.safetensors"))


def recipe(log: pathlib.Path) -> dict[str, Any]:
    """Make a small experiment."""
    return {
        "metadata": {},
        "pipeline": {
            "dataset": "nations",
            "model": "ComplEx",
            "model_kwargs": {"embedding_dim": 8},
            "training_loop": "slcwa",
            **SAMPLER,
            "training_kwargs": {
                "num_epochs": 2,
                "batch_size": 256,
                "callbacks": "curriculum",
                "callbacks_kwargs": {"fit_steps": 2, "refresh_queries": 500},
            },
            "evaluation_kwargs": {"batch_size": 64},
            "result_tracker": "csv",
            "result_tracker_kwargs": {"path": str(log)},
        },
    }


def test_experiments_run(home: pathlib.Path, tmp_path: pathlib.Path) -> None:
    """An experiment in JSON names sampler and callback, and its results are saved."""
    log = tmp_path / "log.csv"
    path = write(tmp_path / "recipe.json", recipe(log))
    pykeen("experiments", "run", path, "-d", tmp_path / "out", home=home)
    (results,) = (tmp_path / "out").rglob("results.json")
    assert len(json.loads(results.read_text())["losses"]) == 2
    rows = csv.reader(log.read_text().splitlines())
    assert [row[-1] for row in rows if row[2:3] == ["negatives.refreshed"]] == ["500", "500"]


@pytest.mark.slow
def test_experiments_optimize(home: pathlib.Path, tmp_path: pathlib.Path) -> None:
    """A study of hyper-parameters in JSON, with our own among them."""
    pipeline = recipe(tmp_path / "log.csv")["pipeline"]
    for key in ("result_tracker", "result_tracker_kwargs"):
        del pipeline[key]
    ranges = {
        "num_slots": {"type": "int", "low": 4, "high": 8},
        "curriculum": {"type": "categorical", "choices": ["linear", "constant"]},
        "condition_dropout": {"type": "float", "low": 0.0, "high": 0.3},
    }
    for key in ("num_slots", "curriculum"):
        del pipeline["negative_sampler_kwargs"][key]
    # its parameters are given, so that it must not be drawn
    pipeline["negative_sampler_kwargs"]["difficulty"] = "learned"
    config = {
        "type": "hpo",
        "metadata": {},
        "pipeline": {**pipeline, "negative_sampler_kwargs_ranges": ranges},
        "optuna": {"n_trials": 2, "metric": "mrr", "direction": "maximize", "sampler": "random"},
    }
    path = write(tmp_path / "study.json", config)
    pykeen("experiments", "optimize", path, "-d", tmp_path / "out", home=home)
    (best,) = (tmp_path / "out").rglob("pipeline_config.json")
    chosen = json.loads(best.read_text())["pipeline"]
    assert chosen["negative_sampler"] == "diffusionadaptive"
    kwargs = chosen["negative_sampler_kwargs"]
    assert 4 <= kwargs["num_slots"] <= 8
    assert kwargs["curriculum"] in {"linear", "constant"}
    assert 0 <= kwargs["condition_dropout"] <= 0.3
