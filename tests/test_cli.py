"""PyKEEN's own command line, in processes that import nothing of ours."""

from __future__ import annotations

import csv
import json
import pathlib
from typing import Any

import pytest

from .processes import Outcome, run_cases
from .utils import small

#: What a command needs to know of the sampler, such that it takes seconds
SAMPLER: dict[str, Any] = {"negative_sampler": "dans_kgc", "negative_sampler_kwargs": small(num_negs_per_pos=4)}


def pykeen(*arguments: object, home: pathlib.Path) -> str:
    """Write code that runs a command of PyKEEN, with a data folder."""
    return f"""
import os, sys
os.environ.pop("PYKEEN_HOME", None)
os.environ["PYSTOW_HOME"] = {str(home)!r}
sys.argv = {["pykeen", *map(str, arguments)]!r}
from pykeen.cli import main
main()
"""


def write(path: pathlib.Path, content: dict[str, Any]) -> pathlib.Path:
    """Write a configuration."""
    path.write_text(json.dumps(content))
    return path


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


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> pathlib.Path:
    """Make a folder for what the commands write, with a data folder in it that is empty before the first of them."""
    return tmp_path_factory.mktemp("commands")


@pytest.fixture(scope="module")
def outcomes(folder: pathlib.Path) -> dict[str, Outcome]:
    """Run all quick commands."""
    train = ["train", "complex", "--dataset", "nations", "--training-loop", "dans-kgc", "--number-epochs", 2]
    path = write(folder / "recipe.json", recipe(folder / "log.csv"))
    commands = {
        "ls": ["ls", "negative-samplers"],
        "train": [*train, "--embedding-dim", 8, "--random-seed", 0, "--output-directory", folder / "trained"],
        "experiments": ["experiments", "run", path, "-d", folder / "experiments"],
    }
    cases = {name: pykeen(*command, home=folder / "home") for name, command in commands.items()}
    return run_cases(cases, folder)


def test_ls(outcomes: dict[str, Outcome]) -> None:
    """The list of samplers shows ours, with one line of description as the others, and the names that users type."""
    assert outcomes["ls"].status == 0, outcomes["ls"].stderr
    lines = outcomes["ls"].stdout.splitlines()
    for name, word in (
        ("diffusionadaptive", 'diffusion, known as "dans_kgc"'),
        ("twowaygan", 'network, known as "dans"'),
        ("hierarchical", 'modality, known as "dhns"'),
        ("fixed", "come from a table"),
    ):
        (ours,) = (line for line in lines if line.startswith(name))
        assert word in ours.removeprefix(name)
        assert ours.endswith(".")
    # a description of several lines would give lines without a name
    assert all(line[0].isalpha() for line in lines if line)


def test_train(outcomes: dict[str, Outcome], folder: pathlib.Path) -> None:
    """Training by one command, with the training loop that brings sampler and callback along."""
    assert outcomes["train"].status == 0, outcomes["train"].stderr
    assert "Training ComplEx with DANSKGC" in outcomes["train"].stdout
    results = json.loads((folder / "trained" / "results.json").read_text())
    assert len(results["losses"]) == 2
    assert (folder / "trained" / "trained_model.pkl").is_file()
    # the reference embedding was made, and so the sampler is ours
    assert list((folder / "home" / "pykeen" / "dans" / "reference").glob("*.safetensors"))


def test_experiments_run(outcomes: dict[str, Outcome], folder: pathlib.Path) -> None:
    """An experiment in JSON names sampler, generator options and callback, and its results are saved."""
    assert outcomes["experiments"].status == 0, outcomes["experiments"].stderr
    (results,) = (folder / "experiments").rglob("results.json")
    assert len(json.loads(results.read_text())["losses"]) == 2
    rows = csv.reader((folder / "log.csv").read_text().splitlines())
    assert [row[-1] for row in rows if row[2:3] == ["negatives.refreshed"]] == ["500", "500"]


@pytest.mark.slow
def test_experiments_optimize(tmp_path: pathlib.Path) -> None:
    """A study of hyper-parameters in JSON, with our own among them."""
    pipeline = recipe(tmp_path / "log.csv")["pipeline"]
    for key in ("result_tracker", "result_tracker_kwargs"):
        del pipeline[key]
    ranges = {
        "num_slots": {"type": "int", "low": 4, "high": 8},
        "curriculum": {"type": "categorical", "choices": ["linear", "constant"]},
        "share": {"type": "float", "low": 0.125, "high": 0.5},
    }
    del pipeline["negative_sampler_kwargs"]["num_slots"]
    config = {
        "type": "hpo",
        "metadata": {},
        "pipeline": {**pipeline, "negative_sampler_kwargs_ranges": ranges},
        "optuna": {"n_trials": 2, "metric": "mrr", "direction": "maximize", "sampler": "random"},
    }
    path = write(tmp_path / "study.json", config)
    code = pykeen("experiments", "optimize", path, "-d", tmp_path / "out", home=tmp_path / "home")
    outcome = run_cases({"optimize": code}, tmp_path)["optimize"]
    assert outcome.status == 0, outcome.stderr
    (best,) = (tmp_path / "out").rglob("pipeline_config.json")
    chosen = json.loads(best.read_text())["pipeline"]
    assert chosen["negative_sampler"] == "diffusionadaptive"
    kwargs = chosen["negative_sampler_kwargs"]
    assert 4 <= kwargs["num_slots"] <= 8
    assert kwargs["curriculum"] in {"linear", "constant"}
    assert 0.125 <= kwargs["share"] <= 0.5
