"""Comparing samplers and training loops on the command line."""

from __future__ import annotations

import json
import os
import pathlib
import re
import signal
import subprocess
import sys
import time
from typing import Any

import pytest
from click.testing import CliRunner, Result

from pykeen_dans.commands import compare as module
from pykeen_dans.commands import main
from pykeen_dans.commands.ways import base_of, configure, parse_way
from pykeen_dans.experiments import load_recipe
from pykeen_dans.reporting.records import Record, find_records

from .utils import small

#: Candidates on top of a pool that is smaller than the graph, prepared in no time
GENERATED = ",".join(
    f"{key}={json.dumps(value)}" for key, value in {**small(), "random_state": 0}.items() if key != "fit_steps"
)


def run(*arguments: object) -> Result:
    return CliRunner().invoke(main, ["compare", *map(str, arguments)])


def quick(folder: pathlib.Path, *arguments: object) -> Result:
    return run(*arguments, "--dataset", "nations", "--epochs", 2, "--embedding-dim", 8, "--output", folder, "--offline")


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """Leave the user's cache alone."""
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("PYKEEN_HOME", raising=False)
        patch.setenv("PYSTOW_HOME", str(tmp_path_factory.mktemp("cache")))
        yield


@pytest.fixture(scope="module")
def folder(cache: None, tmp_path_factory: pytest.TempPathFactory) -> pathlib.Path:
    """Compare three ways by two seeds."""
    path = tmp_path_factory.mktemp("compare") / "runs"
    ways = ["basic", "shared-negatives,num_shared=4", f"sampler:dans_kgc,{GENERATED}"]
    result = quick(path, *ways, "--seeds", 2, "--debug")
    assert result.exit_code == 0, result.output
    # the bar of trainings does not stand still while one is looked at
    assert "TQDM_DISABLE" in os.environ or "Looking at its negatives" in result.stderr
    lines = result.stdout.splitlines()
    assert lines[1].startswith("Nations, test triples")
    assert lines[3].split() == ["negatives", "MRR", "difference", "95", "%", "Hits@1", "Hits@10", "seconds", "seeds"]
    assert [line.partition("  ")[0] for line in lines[5:8]] == ways
    assert re.search(r"basic +0\.\d{3} ± 0\.\d{3} +0\.", lines[5])
    assert re.search(r"\+?-?0\.\d{3} +\[-?\+?\d\.\d{3}, -?\+?\d\.\d{3}\]", lines[6])
    return path


def records(folder: pathlib.Path) -> dict[tuple[str, int], Record]:
    return {(record.label.partition(",")[0], record.seed): record for record in find_records([folder])}


def test_records_tell_what_a_page_shows(folder: pathlib.Path) -> None:
    found = records(folder)
    assert len(found) == 6
    for record in found.values():
        assert record.model == "ComplEx"
        assert record.dataset == {"name": "Nations", "num_entities": 14, "num_relations": 55, "num_triples": 1592}
        assert record.curve["epochs"] == [1, 2] and 0 < record.curve["seconds"][0] < record.curve["total_seconds"]
        assert 0 < record.metrics["hits_at_1"] <= record.metrics["mrr"] < 1
        assert all(0 <= row["false_testing"] < 0.5 for row in record.negatives)
        assert record.points is not None and set(record.points["kinds"]) >= {"true"}
    assert found["basic", 0].curriculum is None and found["shared-negatives", 0].curriculum is None
    ours = found["sampler:dans_kgc", 1]
    assert ours.curriculum is not None and ours.curriculum["epochs"] == [0, 1, 2]
    assert all(sum(weights) == pytest.approx(1) for weights in ours.curriculum["weights"])
    assert ours.points is not None and len(ours.points["kinds"]["generated"]) > 3
    assert set(ours.tracked["negatives.percentile_0"]) <= {"1", "2"}
    assert ours.difficulty is not None and len(ours.difficulty["degree"]) == 14
    assert {row["band"] for row in ours.negatives} == {None, 0}


def test_goes_on_where_it_ended(folder: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def train(recipe: Any, dataset: Any) -> Any:
        assert recipe["pipeline"]["random_seed"] == 2, "the others are there already"
        raise KeyboardInterrupt

    monkeypatch.setattr(module, "train", train)
    before = {path: path.stat().st_mtime_ns for path in folder.iterdir()}
    result = quick(folder, "basic", "shared-negatives,num_shared=4", "--seeds", 3, "--json")
    assert result.exit_code == 130
    assert "Interrupted: 4 of 6 trainings" in result.stderr
    content = json.loads(result.stdout)
    assert content["complete"] is False
    first, second = content["rows"]
    assert first["seeds"] == second["seeds"] == [0, 1]
    assert first["difference"] is None and len(second["interval"]) == 2
    low, high = second["interval"]
    assert low <= second["difference"] <= high
    assert second["difference"] == pytest.approx(second["means"]["mrr"] - first["means"]["mrr"])
    assert {path: path.stat().st_mtime_ns for path in folder.iterdir()} == before


def test_a_training_is_kept_though_nothing_can_be_seen_of_it(
    cache: None, tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def look(*args: Any, **kwargs: Any) -> Any:
        assert len(list(tmp_path.glob("*.json"))) == 1
        raise ValueError("there is nothing to look at")

    monkeypatch.setattr(module, "closer_look", look)
    assert quick(tmp_path, "basic").exit_code == 0
    (record,) = find_records([tmp_path])
    assert record.metrics["mrr"] > 0 and record.negatives == []
    assert "basic has no figures of its negatives: there is nothing to look at" in caplog.text


def test_another_configuration_is_trained_anew(folder: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def train(recipe: Any, dataset: Any) -> Any:
        raise KeyboardInterrupt

    monkeypatch.setattr(module, "train", train)
    for change in (["--num-negatives", 5], ["--loss", "nssa"]):
        result = quick(folder, "basic", *change)
        assert result.exit_code == 130
        assert "Interrupted: 0 of 1" in result.stderr


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["shared-negative"], "WAYS='shared-negative' is unknown; choose one of shared"),
        (["loop:basic"], "WAYS='basic' is unknown"),
        (["lop:basic"], "the prefix='lop' is unknown; choose one of loop, sampler; the nearest is loop"),
        (
            ["shared-negatives,num_share=3"],
            "loop_kwargs has num_share, which SharedNegativesTrainingLoop does not take",
        ),
        (["--model", "complx"], "--model='complx' is unknown; choose one of complex"),
        (["--loss", "nsa"], "--loss='nsa' is unknown; choose one of nssa"),
        (["--recipe", "umls-complx"], "choose one of umls-complex"),
    ],
)
def test_bad_input(tmp_path: pathlib.Path, arguments: list[str], message: str) -> None:
    result = quick(tmp_path / "never", *arguments)
    assert result.exit_code == 1
    assert message in result.output and result.output.count("\n") == 1
    assert not (tmp_path / "never").exists()


def test_what_is_missing() -> None:
    assert "--dataset is missing" in run().output
    assert run("--recipe", "umls-complex", "--model", "rotate").exit_code == 2


def test_names_of_loops_and_samplers() -> None:
    assert (parse_way("dans-kgc").kind, parse_way("sampler:dans_kgc").kind) == ("loop", "sampler")
    assert parse_way("basic").kind == "sampler" and parse_way("lcwa").has_softmax
    way = parse_way('sampler:dans_kgc,targets=[0.2, 0.1],generator=ridge,reference_kwargs={"dim": 8, "seed": 1}')
    assert way.options == {"targets": [0.2, 0.1], "generator": "ridge", "reference_kwargs": {"dim": 8, "seed": 1}}


def test_each_way_has_the_recipe_of_its_loss() -> None:
    for recipe in ("umls-complex", "umls-complex-crossentropy"):
        base = base_of(recipe)
        name, uniform = configure(parse_way("basic"), base)
        assert (name, uniform["loss"], uniform["training_loop"]) == ("umls-complex", "nssa", "slcwa")
        assert uniform["negative_sampler_kwargs"] == {"num_negs_per_pos": 8, "corruption_scheme": ["tail"]}
        name, shared = configure(parse_way("shared-negatives,num_shared=64"), base, epochs=3)
        assert (name, shared["loss"]) == ("umls-complex-crossentropy", "crossentropy")
        assert shared["training_loop_kwargs"] == {"num_shared": 64}
        assert shared["training_kwargs"]["num_epochs"] == 3
        assert "negative_sampler" not in shared
        tuned = load_recipe("umls-complex-crossentropy")["pipeline"]
        assert shared["optimizer_kwargs"] == tuned["optimizer_kwargs"]
    assert base_of(None, dataset="UMLS", model="ComplEx") == base_of("umls-complex")


def test_without_a_recipe_all_have_one_loss() -> None:
    base = base_of(None, dataset="nations", model="rotate")
    losses = {configure(parse_way(each), base)[1]["loss"] for each in ("basic", "lcwa", "dans-kgc", "curriculum")}
    assert losses == {"crossentropy"}
    assert "corruption_scheme" not in configure(parse_way("bernoulli"), base)[1]["negative_sampler_kwargs"]
    generated = configure(parse_way("sampler:dans"), base, num_negatives=3)[1]
    assert generated["training_kwargs"]["callbacks"] == "curriculum"
    assert generated["negative_sampler_kwargs"]["num_negs_per_pos"] == 3


def test_a_recipe_of_ones_own(tmp_path: pathlib.Path) -> None:
    recipe = load_recipe("kinships-complex")
    recipe["pipeline"]["optimizer_kwargs"]["lr"] = 0.123
    path = tmp_path / "own.json"
    path.write_text(json.dumps(recipe))
    base = base_of(str(path))
    assert base.dataset == "kinships"
    for each in ("basic", "shared-negatives"):
        name, pipeline = configure(parse_way(each), base)
        assert name == str(path) and pipeline["optimizer_kwargs"]["lr"] == 0.123


@pytest.mark.slow
def test_interrupted_for_real(tmp_path: pathlib.Path) -> None:
    """Ctrl-C ends a training, and keeps those before it."""
    # a shell lets what it starts in the background ignore Ctrl-C
    code = "import signal; signal.signal(signal.SIGINT, signal.default_int_handler)\n"
    code += "from pykeen_dans.commands import main; main()"
    arguments = ["compare", "basic", "lcwa", "--dataset", "nations", "--epochs", "5", "--seeds", "50"]
    process = subprocess.Popen(
        [sys.executable, "-c", code, *arguments, "--output", "runs"], cwd=tmp_path, stdout=subprocess.PIPE, text=True
    )
    deadline = time.monotonic() + 500
    # the first one is not only written, but counted, too
    while len(list(tmp_path.glob("runs/*.json"))) < 2 and time.monotonic() < deadline:
        time.sleep(0.2)
    process.send_signal(signal.SIGINT)
    output, _ = process.communicate(timeout=300)
    assert process.returncode == 130
    assert "basic" in output
    assert len(find_records([tmp_path / "runs"])) >= 1
