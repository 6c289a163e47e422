"""The benchmark suite: what it trains, what it keeps, and what it makes of rows."""

from __future__ import annotations

import dataclasses
import inspect
import json
import logging
import pathlib

import pytest

pytest.importorskip("suite", reason="needs a checkout of the source, with its benchmarks")

from click.testing import CliRunner
from pykeen.experiments.cli import experiments
from pykeen.experiments.validate import get_configuration_errors
from pykeen.sampling import negative_sampler_resolver
from suite import configurations, cost, data, quality, regression, variants
from suite.cli import main
from suite.configurations import DATASETS, LOSSES, MODELS, Setting, configuration, options_digest, shared_digest
from suite.rows import RESULTS, append, default_folder, digest, environment, load
from suite.tiers import TIERS
from suite.variants import VARIANTS, Variant, available, missing

MRR = "inverse_harmonic_mean_rank"


def made_up(setting: Setting, mrr: float = 0.5, **further):
    """Make a row without a training."""
    _, _, _, loss, filtered, number, epochs = quality.key_of(setting)
    return {
        "recipe": setting.recipe,
        "variant": setting.variant,
        "seed": setting.seed,
        "loss_name": loss,
        "filtered": filtered,
        "num_negatives": number,
        "num_epochs": epochs,
        "shared": shared_digest(setting),
        "options": options_digest(setting),
        "mrr": mrr,
        "hits_at_1": mrr / 2,
        "hits_at_10": 1.0,
        "train_seconds": 10.0,
        "overhead_seconds": 1.0,
        **further,
    }


@pytest.fixture
def untrained(monkeypatch: pytest.MonkeyPatch) -> list[Setting]:
    """Train nothing, but list what would be trained."""
    trained: list[Setting] = []

    def run(setting: Setting):
        trained.append(setting)
        return made_up(setting)

    monkeypatch.setattr(quality, "run", run)
    return trained


class TestConfigurations:
    @pytest.mark.parametrize("dataset", DATASETS)
    @pytest.mark.parametrize("model", MODELS)
    def test_pykeen_accepts(self, dataset: str, model: str, tmp_path: pathlib.Path):
        path = tmp_path / "experiment.json"
        for name in available(VARIANTS):
            if VARIANTS[name].callback == "oracle" or VARIANTS[name].sampler == variants.AS_SHIPPED:
                continue
            for loss in LOSSES:
                path.write_text(json.dumps(configuration(Setting(f"{dataset}-{model}", name, 1, loss, filtered=True))))
                assert get_configuration_errors(path) == []

    @pytest.mark.parametrize("name", available(VARIANTS))
    def test_sampler_understands_its_options(self, name: str):
        """PyKEEN's validator never looks at the sampler."""
        if VARIANTS[name].callback == "oracle":
            return
        pipeline = configuration(Setting("umls-complex", name, 1, filtered=name != "shipped"))["pipeline"]
        cls = negative_sampler_resolver.lookup_dict[pipeline["negative_sampler"]]
        base = inspect.signature(negative_sampler_resolver.base.__init__).parameters
        assert set(pipeline["negative_sampler_kwargs"]) <= {*inspect.signature(cls.__init__).parameters, *base}
        assert pipeline["negative_sampler_kwargs"]["num_negs_per_pos"] == (VARIANTS[name].num_negatives or 8)
        assert json.loads(json.dumps(pipeline)) == pipeline

    def test_shipped_negatives_are_those_of_the_recipe(self, monkeypatch: pytest.MonkeyPatch):
        setting = Setting("umls-complex-dans", "shipped", 1)
        for change in ({"filtered": True}, {"num_negatives": 8}):
            with pytest.raises(ValueError, match=r"variant='shipped' has the negatives of the recipe"):
                configuration(dataclasses.replace(setting, **change))
        # a row of another recipe is not taken for one of this
        before = options_digest(setting)
        recipe = configurations.load_recipe("umls-complex-dans")
        recipe["pipeline"]["negative_sampler_kwargs"]["sigma"] = 0.5
        monkeypatch.setattr(configurations, "load_recipe", lambda name: recipe)
        assert options_digest(setting) != before

    def test_variants_differ_in_negatives_alone(self):
        first, second = (configuration(Setting("umls-complex", name, 1))["pipeline"] for name in ("basic", "no-dam"))
        for pipeline in (first, second):
            for key in ("negative_sampler", "negative_sampler_kwargs"):
                del pipeline[key]
            pipeline["training_kwargs"].pop("callbacks", None)
        assert first == second

    def test_losses_and_epochs(self):
        pipeline = configuration(Setting("umls-rotate", "live", 3, "softplus", epochs=7))["pipeline"]
        assert (pipeline["loss"], pipeline["random_seed"]) == ("softplus", 3)
        assert "margin" not in pipeline["loss_kwargs"]
        assert pipeline["training_kwargs"]["num_epochs"] == 7
        assert pipeline["training_kwargs"]["callbacks"] == "curriculum"
        # another loss is another recipe, other negatives are not
        assert shared_digest(Setting("umls-rotate", "live", 3)) != shared_digest(
            Setting("umls-rotate", "live", 3, "softplus")
        )
        assert shared_digest(Setting("umls-rotate", "live", 3)) == shared_digest(Setting("umls-rotate", "basic", 4))

    @pytest.mark.parametrize(
        ("setting", "message"),
        [
            (Setting("umls-conve", "basic", 1), "recipe='umls-conve' is unknown"),
            (Setting("umls-complex", "better", 1), "variant='better' is unknown"),
            (Setting("umls-complex", "basic", 1, "hinge"), "loss='hinge' is unknown"),
            (Setting("umls-complex", "oracle", 1), "cannot be written as a configuration"),
            (Setting("nations-transe", "shipped", 1), "needs a shipped recipe"),
        ],
    )
    def test_what_cannot_be(self, setting: Setting, message: str):
        with pytest.raises(ValueError, match=message):
            configuration(setting)

    @pytest.mark.slow
    def test_export_runs(self, tmp_path: pathlib.Path, shared_cache: pathlib.Path):
        """What is exported is what the suite trains: both come to the same rank."""
        exported, rows = tmp_path / "exported.json", tmp_path / "rows"
        options = ["quality", "--only", "nations-distmult", "--variant", "live", "--loss", "crossentropy"]
        options += ["--filtered", "--seeds", "1", "--epochs", "1"]
        for further in (["--export", str(exported)], ["--output", str(rows)]):
            done = CliRunner().invoke(main, [*options, *further])
            assert done.exit_code == 0, done.output
        done = CliRunner().invoke(experiments, ["run", str(exported), "-d", str(tmp_path / "out"), "--keep-seed"])
        assert done.exit_code == 0, done.output
        (result,) = (tmp_path / "out").rglob("replicate-00000/results.json")
        (row,) = load(rows / quality.FILE)
        both = json.loads(result.read_text())["metrics"]["both"]["realistic"]
        assert row["mrr"] == pytest.approx(both[MRR], abs=1e-6)
        assert row["configuration"] == configuration(quality_setting(row))["pipeline"]
        # all ranks up to 5 gain something, and hits at 1 the whole
        assert row["hits_at_1"] <= row["ndcg_at_5"] <= both["hits_at_5"]
        assert 0 < row["valid_mrr"] < 1
        assert len(row["bands"]) == 4
        assert {band["known"] for band in row["bands"]} == {0}


def quality_setting(row) -> Setting:
    """Get the setting back from a row."""
    recipe, variant, seed, loss, filtered, _, epochs = quality.key_of(row)
    return Setting(recipe, variant, seed, loss, filtered, epochs=epochs)


class TestVariants:
    def test_missing_ones_are_left_out_with_one_line_each(self, monkeypatch, caplog):
        further = {
            "future": Variant("a sampler to come", "oracleofdelphi"),
            "option": Variant("an option to come", "diffusionadaptive", sampler_kwargs={"clairvoyant": True}),
        }
        for name, variant in further.items():
            monkeypatch.setitem(VARIANTS, name, variant)
        with caplog.at_level(logging.WARNING):
            assert available(["basic", "future", "live", "option"]) == ["basic", "live"]
        assert len(caplog.records) == 2
        assert "no sampler 'oracleofdelphi'" in missing("future")
        assert "has no option clairvoyant" in missing("option")

    def test_papers_have_ablations_and_noise_controls(self):
        kinds = {(variant.sampler, variant.kind) for variant in VARIANTS.values()}
        for sampler in (variants.DIFFUSION, variants.GAN, variants.HIERARCHICAL):
            assert {(sampler, "control"), (sampler, "ablation")} <= kinds

    def test_what_cannot_fail_is_there(self):
        assert {"basic", "bernoulli", "pseudotyped", "alone", "live", "basic-64"} <= set(available(VARIANTS))

    @pytest.mark.parametrize("tier", TIERS)
    def test_tiers_name_what_there_is(self, tier: str):
        settings = list(TIERS[tier].quality())
        assert settings
        for setting in settings[:: max(1, len(settings) // 50)]:
            quality.configuration_to_run(setting)
        for race in TIERS[tier].races:
            assert race.entries()["basic-64"].variant == "basic-64"


class TestRows:
    def test_a_line_that_was_cut_off(self, tmp_path: pathlib.Path, caplog):
        path = tmp_path / "folder" / "rows.jsonl"
        append(path, {"a": 1})
        with path.open("a") as file:
            file.write('{"a": 2')
        append(path, {"a": 3})
        with caplog.at_level(logging.WARNING):
            assert load(path) == [{"a": 1}, {"a": 3}]
        assert "line 2 is no JSON" in caplog.text

    def test_no_file(self, tmp_path: pathlib.Path):
        assert load(tmp_path / "rows.jsonl") == []

    def test_digest_does_not_depend_on_order(self):
        assert digest({"a": 1, "b": [2]}) == digest({"b": [2], "a": 1}) != digest({"a": 1, "b": [3]})

    def test_environment(self):
        assert set(environment("cpu")["versions"]) == {"pykeen", "torch", "pykeen-dans"}

    def test_kept_rows_are_readable(self):
        rows = load(RESULTS / quality.FILE)
        assert len(rows) > 20
        assert len({quality.key_of(row) for row in rows}) > 20


class TestExecution:
    SETTINGS = staticmethod(lambda: quality.plan(["umls-complex", "nations-transe"], ["basic", "live"], [1, 2]))

    def test_resumes(self, untrained, tmp_path: pathlib.Path):
        first = list(self.SETTINGS())[:3]
        assert quality.execute(first, tmp_path) == 3
        assert quality.execute(self.SETTINGS(), tmp_path) == 5
        assert untrained == list(self.SETTINGS())
        assert quality.execute(self.SETTINGS(), tmp_path) == 0

    def test_tells_settings_apart(self, untrained, tmp_path: pathlib.Path):
        first = Setting("umls-complex", "basic", 1)
        others = [
            first,
            Setting("umls-complex", "basic", 1, "crossentropy"),
            Setting("umls-complex", "basic", 1, filtered=True),
            Setting("umls-complex", "basic", 1, num_negatives=4),
            Setting("umls-complex", "basic", 1, epochs=3),
            Setting("umls-complex", "basic-64", 1),
        ]
        assert quality.execute([*others, *others], tmp_path) == len(others)

    @pytest.mark.parametrize("key", ["shared", "options"])
    def test_another_recipe_or_default_is_trained_again(self, key: str, untrained, tmp_path: pathlib.Path):
        setting = Setting("umls-complex", "live", 1)
        append(tmp_path / quality.FILE, {**made_up(setting), key: "of another time"})
        assert quality.execute([setting], tmp_path) == 1

    def test_rows_of_early_versions_count(self, untrained, tmp_path: pathlib.Path):
        setting = Setting("umls-complex", "live", 1)
        keys = ("recipe", "variant", "seed", "num_negatives", "num_epochs")
        append(tmp_path / quality.FILE, {key: made_up(setting)[key] for key in keys})
        assert quality.execute([setting], tmp_path) == 0

    def test_data_out_of_reach_is_left_out(self, monkeypatch, tmp_path: pathlib.Path, caplog):
        def run(setting: Setting):
            if setting.dataset == "umls":
                raise data.DataMissingError("no network")
            return made_up(setting)

        monkeypatch.setattr(quality, "run", run)
        with caplog.at_level(logging.WARNING):
            assert quality.execute(self.SETTINGS(), tmp_path) == 4
        assert caplog.text.count("umls is left out: no network") == 1

    def test_local_folder(self, monkeypatch, tmp_path: pathlib.Path):
        folder = tmp_path / "Family"
        folder.mkdir()
        for name, lines in (("train", "a\tr\tb\nb\tr\tc\n"), ("valid", "a\tr\tc\n"), ("test", "c\tr\ta\n")):
            (folder / f"{name}.txt").write_text(lines)
        monkeypatch.setenv("PYKEEN_DANS_DATA", str(tmp_path))
        data.load.cache_clear()
        assert data.load("family").training.num_triples == 2
        assert data.local_folder("yago310quarter") is None
        data.load.cache_clear()

    def test_variants_are_innermost(self):
        assert [setting.variant for setting in self.SETTINGS()] == ["basic", "live"] * 4

    @pytest.mark.slow
    @pytest.mark.parametrize("filtered", [False, True])
    @pytest.mark.parametrize("loss", LOSSES)
    def test_every_loss_trains(self, loss: str, filtered: bool, shared_cache: pathlib.Path):
        row = quality.run(Setting("nations-transe", "live", 1, loss, filtered, epochs=1))
        assert 0 < row["mrr"] < 1
        assert row["train_ns_per_negative"] > 0


class TestRegression:
    KEPT = {"hot path, ns per negative: nations, B=256, N=8, live": 4.0}

    def cost_row(self, ratio: float, sampler: str = "live"):
        return {
            "what": "hot path, ns per negative",
            "setting": "nations, B=256, N=8",
            "sampler": sampler,
            "basic": 10.0,
            "ours": 10 * ratio,
            "ratio": ratio,
        }

    @pytest.mark.parametrize(("ratio", "number"), [(2.0, 0), (4.0, 0), (5.9, 0), (6.1, 1)])
    def test_ratios(self, ratio: float, number: int):
        measured = regression.ratios_of_costs([self.cost_row(ratio), self.cost_row(99, sampler="bernoulli")])
        assert len(regression.compare(measured, self.KEPT)) == number

    def test_nothing_in_common(self):
        with pytest.raises(ValueError, match="none of the ratios that were kept"):
            regression.compare({"another": 1.0}, self.KEPT)

    def test_micro(self):
        def entry(sampler: str, least: float):
            return {"group": "draw", "extra_info": {"sampler": sampler}, "stats": {"min": least, "mean": 100.0}}

        report = {"benchmarks": [entry("hierarchical", 6.0), entry("basic", 2.0), entry("bernoulli", 3.0)]}
        assert regression.ratios_of_micro(report) == {"micro, draw, hierarchical": 3.0}

    @pytest.mark.parametrize(("factor", "code"), [(1.0, 0), (2.0, 1)])
    def test_command_fails_on_a_worse_ratio(self, factor: float, code: int, tmp_path: pathlib.Path):
        kept = regression.load_baseline()["hot path, ns per negative: nations, B=256, N=8, live"]
        append(tmp_path / "cost.jsonl", self.cost_row(factor * kept))
        done = CliRunner().invoke(main, ["check", "--output", str(tmp_path)])
        assert done.exit_code == code
        assert ("slower than it was" in done.output) == (code == 1)

    def test_baseline_is_extended(self, tmp_path: pathlib.Path):
        path = tmp_path / "baseline.json"
        regression.write_baseline({"a": 1.23456}, path)
        regression.write_baseline({"b": 2.0}, path)
        assert regression.load_baseline(path) == {"a": 1.235, "b": 2.0}


def test_costs_of_data_that_is_missing_are_left_out(
    monkeypatch: pytest.MonkeyPatch, tmp_path: pathlib.Path, caplog: pytest.LogCaptureFixture
):
    def missing_data(name: str, **_: object):
        raise data.DataMissingError(f"{name} is not here")

    monkeypatch.setattr(data, "load", missing_data)
    monkeypatch.setattr(cost, "refresh_stages", lambda dataset: iter([{"what": "refresh", "seed": 7}]))
    sizes = {"batch_sizes": (4,), "numbers": (1,), "rounds": 1}
    kwargs = {"trainings": {"wn18rr-complex": 1}, "number": 1, "variants": ["live"]}
    assert cost.execute(tmp_path, dataset="codexsmall", **sizes, **kwargs) == 1
    (row,) = load(tmp_path / cost.FILE)
    assert (row["what"], row["seed"]) == ("refresh", 7)
    assert {"versions", "device", "wall_seconds"} <= set(row)
    for name in ("codexsmall, hot path", "wn18rr-complex"):
        assert f"The costs of {name} are left out" in caplog.text


@pytest.mark.parametrize("has_gpu", [False, True])
def test_rows_of_a_gpu_are_kept_apart(has_gpu: bool, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("torch.cuda.is_available", lambda: has_gpu)
    assert default_folder() == (RESULTS / "gpu" if has_gpu else RESULTS)
