"""The benchmark suite: what it trains, what it keeps, and what it makes of rows."""

from __future__ import annotations

import json
import logging
import pathlib
import shutil
import time
from typing import Any

import numpy as np
import pytest
import torch

pytest.importorskip("suite", reason="needs a checkout of the source, with its benchmarks")

from click.testing import CliRunner
from pykeen.experiments.cli import experiments
from pykeen.experiments.validate import get_configuration_errors
from pykeen.models import RotatE
from pykeen.triples.generation import generate_triples_factory
from run import main
from suite import cost, data, estimator, pages, quality, recipes, tiers, training, tuning, variants
from suite.quality import PARTS, plan
from suite.recipes import MODELS, Setting, experiment
from suite.rows import RESULTS, append, digest, load
from suite.variants import VARIANTS

from pykeen_dans.multimodal import attached_modalities, load_modalities

from . import turns

#: A training of no account
SHORT = {"training_kwargs": {"num_epochs": 1, "batch_size": 1024}}


def row_of(setting: Setting, **further: Any) -> dict[str, Any]:
    """Make a row without a training."""
    made = experiment(setting)["metadata"]
    keys = {"recipe": setting.recipe, "seed": setting.seed, "overrides": dict(setting.overrides)}
    return keys | {key: made[key] for key in ("variant", "digest", "trials")} | {"seconds": 8.0} | further


@pytest.fixture
def untrained(monkeypatch: pytest.MonkeyPatch) -> list[Setting]:
    """Train nothing, but list what would be trained."""
    trained: list[Setting] = []
    monkeypatch.setattr(quality, "train", lambda setting, **kwargs: trained.append(setting) or row_of(setting))
    return trained


class TestExperiments:
    @pytest.mark.parametrize("name", VARIANTS)
    def test_pykeen_accepts(self, name: str, tmp_path: pathlib.Path):
        path = tmp_path / "experiment.json"
        for recipe in ("umls-complex", "mkgw-rotate", *(f"nations-{model}" for model in MODELS)):
            made = experiment(Setting(recipe, name, 1))
            # PyKEEN's check knows no arguments that models hand on; a training with it is a test of its own
            assert made["pipeline"]["model_kwargs"].pop("entity_representations", "multimodal") == "multimodal"
            path.write_text(json.dumps(made))
            assert get_configuration_errors(path) == []

    def test_variants_change_what_they_say_alone(self):
        basic = experiment(Setting("codexsmall-complex", "basic", 1))["pipeline"]
        assert (basic["negative_sampler"], basic["training_loop"]) == ("basic", "slcwa")
        assert "callbacks" not in basic["training_kwargs"]
        live = experiment(Setting("codexsmall-complex", "dans_kgc", 1))["pipeline"]
        assert live["training_kwargs"].pop("callbacks") == "curriculum"
        assert live.pop("negative_sampler") == variants.KGC
        del basic["negative_sampler"]
        assert live == basic

    def test_scores_of_all_entities_need_no_sampler(self):
        loops = {name: experiment(Setting(name, "1vsall", 1))["pipeline"] for name in ("umls-complex", "mkgw-rotate")}
        assert [loop["training_loop"] for loop in loops.values()] == ["lcwa", "symmetriclcwa"]
        assert not any("negative_sampler" in loop for loop in loops.values())

    def test_epochs(self):
        def epochs(name: str) -> int:
            return experiment(Setting("umls-complex", name, 1))["pipeline"]["training_kwargs"]["num_epochs"]

        assert (epochs("basic"), epochs("basic*2"), epochs("basic*.5")) == (60, 120, 30)

    def test_each_loss_has_a_recipe_of_its_own(self, monkeypatch: pytest.MonkeyPatch):
        tuned = recipes.load_recipe("umls-complex")
        tuned["metadata"]["trials"] = 99
        tuned["pipeline"]["optimizer_kwargs"]["lr"] = 0.5
        tuned["pipeline"] |= {"loss": "crossentropy", "loss_kwargs": {}, "training_loop": "shared-negatives"}
        del tuned["pipeline"]["negative_sampler"], tuned["pipeline"]["negative_sampler_kwargs"]
        shipped = {name: recipes.load_recipe(name) for name in ("umls-complex", "codexsmall-complex")}
        shipped["umls-complex-crossentropy"] = tuned
        monkeypatch.setattr(recipes, "recipe_names", lambda: sorted(shipped))
        monkeypatch.setattr(recipes, "load_recipe", lambda name: json.loads(json.dumps(shipped[name])))
        made = experiment(Setting("umls-complex", "shared-256", 1))
        assert (made["metadata"]["trials"], made["pipeline"]["optimizer_kwargs"]["lr"]) == (99, 0.5)
        # what was tuned for another loss was tuned for nothing
        made = experiment(Setting("codexsmall-complex", "shared-256", 1))
        assert (made["metadata"]["trials"], made["metadata"]["recipe"]) == (0, "codexsmall-complex")
        assert experiment(Setting("umls-complex", "basic", 1))["pipeline"]["optimizer_kwargs"]["lr"] != 0.5

    def test_digest(self, monkeypatch: pytest.MonkeyPatch):
        def of(**kwargs: Any) -> str:
            return experiment(Setting(**{"recipe": "umls-complex", "variant": "dans_kgc", "seed": 1} | kwargs))[
                "metadata"
            ]["digest"]

        assert of() == of(seed=2)
        assert len({of(), of(variant="dans"), of(variant="dans_kgc*2"), of(overrides={"loss": "softplus"})}) == 4
        cls = recipes.negative_sampler_resolver.lookup(variants.KGC)
        before, alone = of(), of(variant="dans_kgc-alone")
        # the callback trains the generator for as long as it thinks fit
        monkeypatch.setitem(cls.__base__.__init__.__kwdefaults__, "fit_steps", 3)
        assert of() == before
        assert of(variant="dans_kgc-alone") != alone
        monkeypatch.setitem(cls.__base__.__init__.__kwdefaults__, "num_slots", 3)
        assert of() != before

    def test_unknown_names(self):
        with pytest.raises(ValueError, match="recipe='umls-conve' is unknown"):
            plan(["umls-conve"], ["basic"])
        with pytest.raises(ValueError, match="variant='better' is unknown"):
            plan(["umls-complex"], ["better"])

    @pytest.mark.parametrize("tier", tiers.TIERS)
    def test_tiers_name_what_there_is(self, tier: str):
        for part, names, chosen, seeds, _ in tiers.TIERS[tier]:
            assert part in PARTS
            for name in names:
                for variant in chosen:
                    experiment(Setting(name, variant, next(iter(seeds))))

    @pytest.mark.slow
    def test_export_runs(self, tmp_path: pathlib.Path, shared_cache: pathlib.Path):
        """What is exported is what the suite trains: both come to the same rank."""
        options = ["--recipe", "nations-distmult", "--variant", "shared-64", "--set", "training_kwargs.num_epochs=1"]
        exported = tmp_path / "exported.json"
        for arguments in (["export", *options, str(exported)], ["quality", *options, "--output", str(tmp_path)]):
            done = CliRunner().invoke(main, arguments)
            assert done.exit_code == 0, done.output
        done = CliRunner().invoke(experiments, ["run", str(exported), "-d", str(tmp_path / "out"), "--keep-seed"])
        assert done.exit_code == 0, done.output
        (result,) = (tmp_path / "out").rglob("replicate-00000/results.json")
        metrics = json.loads(result.read_text())["metrics"]["both"]["realistic"]
        (row,) = load(tmp_path / "quality.jsonl")
        for key in ("hits_at_1", "hits_at_3", "hits_at_10", "ndcg_at_5"):
            assert row[key] == pytest.approx(metrics[key], abs=1e-6)
        assert row["mrr"] == pytest.approx(metrics["inverse_harmonic_mean_rank"], abs=1e-6)


class TestRows:
    def test_a_line_that_was_cut_off(self, tmp_path: pathlib.Path, caplog: pytest.LogCaptureFixture):
        path = tmp_path / "folder" / "rows.jsonl"
        assert load(path) == []
        append(path, {"a": 1})
        with path.open("a") as file:
            file.write('{"a": 2')
        append(path, {"a": 3})
        assert load(path) == [{"a": 1}, {"a": 3}]
        assert "line 2 is no JSON" in caplog.text

    def test_digest_does_not_depend_on_order(self):
        assert digest({"a": 1, "b": [2]}) == digest({"b": [2], "a": 1}) != digest({"a": 1, "b": [3]})

    def test_resumes(self, untrained: list[Setting], tmp_path: pathlib.Path):
        settings = plan(["umls-complex", "nations-rotate"], ["basic", "basic-64"], [1, 2])
        # variants are innermost, so that whatever the machine does hits all of them alike
        assert [setting.variant for setting in settings] == ["basic", "basic-64"] * 4
        path = tmp_path / "quality.jsonl"
        assert PARTS["quality"].execute(settings[:3], path) == 3
        assert PARTS["quality"].execute(settings, path) == 5
        assert untrained == settings
        changed = load(path)[0] | {"digest": "of another time"}
        path.write_text(json.dumps(changed) + "\n")
        assert PARTS["quality"].execute(settings[:1], path) == 1
        assert not quality.is_present(changed)
        assert quality.is_present(load(path)[1])

    def test_data_out_of_reach_are_left_out(self, untrained, monkeypatch, tmp_path: pathlib.Path, caplog):
        def missing(name: str, **kwargs: Any) -> None:
            raise data.DataMissingError("no network")

        monkeypatch.setattr(data, "load", missing)
        with caplog.at_level(logging.WARNING):
            assert PARTS["quality"].execute(plan(["umls-complex"], ["basic"]), tmp_path / "rows.jsonl") == 0
        assert "umls-complex, basic is left out: no network" in caplog.text

    def test_data_folder(self, monkeypatch: pytest.MonkeyPatch):
        made = {"a": {"b": "$PYKEEN_DANS_DATA/text"}}
        monkeypatch.setenv("PYKEEN_DANS_DATA", "/data")
        assert data.with_data_folder(made) == {"a": {"b": "/data/text"}}
        monkeypatch.delenv("PYKEEN_DANS_DATA")
        with pytest.raises(data.DataMissingError, match="PYKEEN_DANS_DATA is not set"):
            data.with_data_folder(made)

    def test_synthetic_features(self, monkeypatch: pytest.MonkeyPatch, tmp_path: pathlib.Path):
        """Entities with the same answers are near to each other, and the path is not in the digest."""
        made = experiment(Setting("nations-rotate", "dhns-images", 1))["pipeline"]
        assert "$SYNTHETIC_FEATURES" in json.dumps(made)
        monkeypatch.setattr(data, "PYKEEN_DATASETS", tmp_path)
        filled = data.with_data_folder(made)
        path = filled["negative_sampler_kwargs"]["modalities"]["visual"]["path"]
        features = torch.from_numpy(np.load(path))
        assert features.shape[0] == data.load("nations").num_entities
        labels = data.load("nations").training.entity_to_id
        near = torch.cdist(features, features).fill_diagonal_(torch.inf).argmin(dim=1)
        assert near[labels["poland"]] == labels["ussr"] or near[labels["poland"]] == labels["cuba"]
        assert data.with_data_folder(made) == filled
        rows = pathlib.Path(path).with_suffix(".txt").read_text().splitlines()
        assert [labels[label] for label in rows] == [*range(len(labels))]
        assert filled["negative_sampler_kwargs"]["modalities"]["visual"]["labels"] == path.replace(".npy", ".txt")

    def test_features_that_the_model_reads(self):
        """They come with the data set, of which there is one in memory for each kind of features."""
        made = experiment(Setting("mkgw-rotate", "basic-reading-images", 1))["pipeline"]
        assert made["model_kwargs"]["entity_representations"] == "multimodal"
        try:
            made = data.with_data_folder(made)
            found = data.load("mkgw", **made["dataset_kwargs"])
        except data.DataMissingError as error:
            pytest.skip(str(error))
        attached = attached_modalities(found.training)
        (modality,) = load_modalities(
            attached, num_entities=found.num_entities, entity_to_id=found.training.entity_to_id
        )
        features = np.load(made["dataset_kwargs"]["visual"]["path"])
        assert modality.name == "visual" and np.allclose(modality.features.numpy(), features)
        assert data.load("mkgw", **made["dataset_kwargs"]) is found is not data.load("mkgw")
        row = training.train(Setting("mkgw-rotate", "basic-reading-images", 1), ranked="", max_steps=2)
        assert row["steps"] == 2


class TestTraining:
    def test_freeing_gradients_is_a_part_of_the_optimizer(
        self, monkeypatch: pytest.MonkeyPatch, shared_cache: pathlib.Path
    ):
        free = torch.optim.Adagrad.zero_grad

        def slow(*args: Any, **kwargs: Any) -> None:
            time.sleep(0.2)
            free(*args, **kwargs)

        monkeypatch.setattr(torch.optim.Adagrad, "zero_grad", slow)
        parts = training.train(Setting("nations-complex", "shared-64", 1), ranked="", exact=True, max_steps=4)["parts"]
        assert parts["optimizer"] > 0.5 > parts["draw"]

    def test_parts_add_up(self, shared_cache: pathlib.Path):
        started = time.perf_counter()
        row = training.train(Setting("nations-distmult", "basic", 1, SHORT), curve=True, negatives=32)
        assert 0 < row["seconds"] < time.perf_counter() - started
        assert sum(row["parts"].values()) == pytest.approx(row["seconds"])
        assert set(row["parts"]) == {"setup", "draw", "scores", "backward", "optimizer", "between"}
        assert row["steps"] == 4
        ((epoch, seconds, value),) = row["curve"]
        assert (epoch, value) == (1, pytest.approx(row["valid_mrr"]))
        assert 0 < seconds <= row["seconds"]
        # all ranks up to 5 gain something, and hits at 1 the whole
        assert row["hits_at_1"] < row["ndcg_at_5"] < row["hits_at_10"]
        assert 0 < row["negatives"]["drawn"]["known"] < 1
        assert json.loads(json.dumps(row))["parts"] == row["parts"]

    def test_enough_steps(self, shared_cache: pathlib.Path):
        row = training.train(Setting("synthetic300-complex", "basic", 1), exact=True, max_steps=2)
        assert (row["steps"], row["num_entities"]) == (2, 300)
        assert "mrr" not in row

    def test_fast_ranking_gives_the_scores_of_pykeen(self):
        factory = generate_triples_factory(num_entities=2000, num_triples=8000)
        model = RotatE(triples_factory=factory, embedding_dim=32)
        tails, heads = torch.tensor([[0, 1], [5, 2], [1999, 0]]), torch.tensor([[1, 0], [2, 5], [0, 1999]])
        with torch.inference_mode():
            slow = torch.cat([model.score_t(tails), model.score_h(heads)])
            with training.fast_ranking():
                fast = torch.cat([model.score_t(tails), model.score_h(heads)])
        assert not torch.equal(fast, slow)
        torch.testing.assert_close(fast, slow, atol=1e-3, rtol=0)

    def test_synthetic_graph(self):
        triples = data.synthetic_triples(1000)
        assert len(triples.unique(dim=0)) == len(triples) > 4500
        assert [len(column.unique()) for column in triples.T] == [1000, data.NUM_RELATIONS, 1000]
        degrees = np.sort(np.bincount(triples[:, 2]))[::-1]
        # a tenth of the entities has more than a third of the triples
        assert degrees[:100].sum() > len(triples) / 3
        with pytest.raises(ValueError, match="num_entities=9"):
            data.synthetic_triples(9)

    @pytest.mark.slow
    def test_race_resumes_as_a_whole(self, tmp_path: pathlib.Path, shared_cache: pathlib.Path):
        settings = plan(["nations-distmult"], ["basic", "shared-64"], overrides=SHORT)
        path = tmp_path / "race.jsonl"
        assert PARTS["race"].execute(settings, path) == 2
        assert PARTS["race"].execute(settings, path) == 0
        first, second = load(path)
        assert first["run"] == second["run"]
        assert all(row["peak_memory_mib"] > 100 for row in (first, second))
        path.write_text(json.dumps(first) + "\n")
        # one of them is gone: what did not take turns cannot be compared
        assert PARTS["race"].execute(settings, path) == 2

    @pytest.mark.slow
    def test_study_goes_on(self, tmp_path: pathlib.Path, shared_cache: pathlib.Path):
        setting = Setting("nations-distmult", "basic", 1, SHORT)
        before = experiment(setting)["pipeline"]
        first = tuning.tune(setting, trials=1, folder=tmp_path)
        # the recipe as it was
        assert first["trials"][0]["params"]["optimizer_kwargs.lr"] == before["optimizer_kwargs"]["lr"]
        record = tuning.tune(setting, trials=3, folder=tmp_path)
        assert record["trials"][0] == first["trials"][0]
        assert record["best"]["value"] == max(trial["value"] for trial in record["trials"])
        path = tuning.write_recipe(record, tmp_path)
        assert get_configuration_errors(path) == []
        written = json.loads(path.read_text())
        assert written["pipeline"]["optimizer_kwargs"]["lr"] == record["best"]["params"]["optimizer_kwargs.lr"]
        assert written["metadata"]["trials"] == 3


class TestTurns:
    def test_least_seconds_are_next(self, tmp_path: pathlib.Path):
        log = tmp_path / "log"
        tasks = {"a": [1.0, 1.0, 1.0], "b": [2.0, 2.0]}
        made = training_turns(turns.work, {k: {"name": k, "costs": v, "log": str(log)} for k, v in tasks.items()})
        assert log.read_text() == "abaab"
        assert made == {"a": "a used 3 s", "b": "b used 4 s"}

    @pytest.mark.parametrize(("work", "message"), [(turns.fail, "no such luck"), (turns.die, "without a word")])
    def test_failures(self, work: Any, message: str):
        with pytest.raises(RuntimeError, match=message):
            training_turns(work, {"only": {}})


training_turns = quality.interleave


class TestPages:
    def test_what_is_shown_is_what_was_measured(self, tmp_path: pathlib.Path):
        page = pages.write_page(RESULTS, tmp_path)
        assert page.read_text() == (pages.DOCS / page.name).read_text(), "run `python benchmarks/run.py tables`"
        assert not [line for line in page.read_text().splitlines() if line.startswith("@")]
        readme = shutil.copy(pages.README, tmp_path / "README.md")
        pages.write_readme(RESULTS, readme)
        assert readme.read_text() == pages.README.read_text(), "run `python benchmarks/run.py tables`"

    def test_kept_rows_can_be_measured_again(self):
        for name in PARTS:
            assert all(map(quality.is_present, load(RESULTS / f"{name}.jsonl")))

    def test_levels(self, tmp_path: pathlib.Path):
        for seed, name, factor, seconds in (
            (1, "basic", 1.0, 8.0), (1, "shared-256", 0.5, 4.0), (2, "basic", 1.0, 4.0), (2, "shared-256", 0.5, 2.8),
        ):  # fmt: skip
            row = row_of(Setting("umls-complex", name, seed), mrr=0.5 + 0.1 * seed * factor, run=str(seed))
            row |= {"seconds": seconds}
            append(tmp_path / "race.jsonl", row)
        append(tmp_path / "race.jsonl", row | {"digest": "of another time", "mrr": 0.0})
        # the first seed once more, against others: the seconds of the first race count all the same
        append(
            tmp_path / "race.jsonl", row_of(Setting("umls-complex", "basic", 1), mrr=0.6, run="3") | {"seconds": 1.0}
        )
        text = pages.levels(tmp_path, recipes=["umls-complex"], variants=["basic", "1vsall", "shared-256"])
        cells = [line.split("- ")[-1].strip() for line in text.splitlines() if "- " in line]
        assert cells == [
            "negatives", "UMLS, ComplEx",
            "uniform", ".650 ± .071 (2), 1.00 ×",
            "shared, 256", ".575 ± .035 (2), 0.60 ×",
        ]  # fmt: skip
        assert ".. figure::" in pages.chart(tmp_path, recipes=["umls-complex"], variants=["basic"], docs=tmp_path)

    def test_gains(self, tmp_path: pathlib.Path):
        for seed, name, rank, seconds in (
            (1, "shared-256", 0.5, 2.0),
            (1, "loop-near", 0.52, 3.0),
            (2, "loop-near", 0.9, 9.0),
        ):
            row = row_of(Setting("umls-complex", name, seed), mrr=0.0, run=str(seed), num_epochs=60)
            append(tmp_path / "trials.jsonl", row | {"valid_mrr": rank, "seconds": seconds})
        # a race of its own has its own pool
        pool = row_of(Setting("umls-complex", "shared-256", 2), mrr=0.0, run="2", num_epochs=60)
        append(tmp_path / "trials.jsonl", pool | {"valid_mrr": 0.94, "seconds": 6.0})
        # without one, it is compared with that of the same seed and length, and seconds can not be compared
        longer = row_of(Setting("umls-complex", "shared-256*1.5", 2), mrr=0.0, run="3", num_epochs=90)
        append(tmp_path / "trials.jsonl", longer | {"valid_mrr": 0.95, "seconds": 9.0})
        shown = ["shared-256", "shared-256*1.5", "loop-near", "loop-dans"]
        text = pages.gains(tmp_path, recipes=["umls-complex"], variants=shown)
        cells = [line.split("- ", 1)[-1].strip() for line in text.splitlines() if "- " in line]
        assert cells[2:6] == ["shared, 256", ".720 ± .311 (2)", "shared, 256, 1.5 × the epochs", "+.010"]
        assert cells[6:] == ["256 + vectors near the kept entity", "-.010, 1.50 ×"]

    def test_growth(self, tmp_path: pathlib.Path):
        for size in (1000, 10000):
            parts = {"setup": 5.0, "draw": 0.0, "scores": size**0.5, "backward": 1.0}
            row = {"num_entities": size, "variant": "basic", "steps": 1, "parts": parts}
            append(tmp_path / "scale.jsonl", row | {"seconds": sum(parts.values())})
        assert pages.sizes(tmp_path, variants=["basic"]).rstrip().endswith("- .50")


class TestRegression:
    @pytest.mark.parametrize(("ratio", "number"), [(2.0, 0), (5.9, 0), (6.1, 1)])
    def test_ratios(self, ratio: float, number: int):
        def entry(sampler: str, times: float) -> dict[str, Any]:
            return {"group": "N=8", "extra_info": {"sampler": sampler, "ratio": times}, "stats": {"min": 100.0}}

        report = {"benchmarks": [entry("basic", 1.0), entry("bernoulli", 9.0), entry(variants.KGC, ratio)]}
        measured = cost.ratios(report)
        assert measured == {f"N=8, {variants.KGC}": ratio}
        assert len(cost.regressions(measured, dict.fromkeys(measured, 4.0))) == number
        with pytest.raises(ValueError, match="none of the ratios that were kept"):
            cost.regressions(measured, {"another": 1.0})


@pytest.mark.slow
def test_smoke(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch, shared_cache: pathlib.Path):
    """One row of each part; tiers have more of the same."""
    for part in PARTS:
        recipe = "synthetic300-complex" if part == "scale" else "nations-distmult"
        options = ["--recipe", recipe, "--variant", "basic", "--epochs", "1", "--output", str(tmp_path)]
        done = CliRunner().invoke(main, [part, *options])
        assert done.exit_code == 0, done.output
        assert "1 new rows" in done.output
    assert {path.stem for path in tmp_path.iterdir()} == set(PARTS)
    pages.write_page(tmp_path, tmp_path)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["quality"], "--recipe"),
        (["quality", "--recipe", "umls-conve"], "recipe='umls-conve' is unknown"),
        (["race", "--recipe", "umls-complex", "--set", "loss=softplus"], "softplus is no JSON"),
        (["tier", "smoke"], "name a folder"),
    ],
)
def test_bad_options(options: list[str], message: str):
    done = CliRunner().invoke(main, options)
    assert done.exit_code == 2
    assert message in " ".join(done.output.split())


def test_candidates_that_are_found_tell_the_loss_better(tmp_path: pathlib.Path) -> None:
    """Where few entities matter, the hardest ones tell more than a larger pool, and any others nothing."""
    path = tmp_path / "estimator.jsonl"
    assert estimator.execute([3_000], [0.5, 4.0], path) == 2
    flat, sharp = load(path)
    assert flat["effective_entities"] > 1_000 > 20 > sharp["effective_entities"]
    found = sharp["errors"]
    hardest, any_others = (found[f"256 shared + {estimator.NUM_OWN} own, cosine {cosine}"] for cosine in (1.0, 0.0))
    assert hardest < found["1,024 shared"] < found["256 shared"]
    assert any_others > 0.8 * found["256 shared"]
    assert flat["errors"]["1,024 shared"] < flat["errors"]["256 shared"] < 0.1
    assert "3,000 entities" in pages.estimators(tmp_path)
