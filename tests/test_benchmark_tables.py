"""What the benchmarks make of rows: tables, bars and figures, and nothing of their own."""

from __future__ import annotations

import pathlib
from typing import Any

import pytest

pytest.importorskip("suite", reason="needs a checkout of the source, with its benchmarks")

from suite import pages, tables
from suite.bands import bands_table
from suite.bars import HEADLINE_RATIO, RECIPE_BARS, headline, recipe_levels
from suite.configurations import Setting
from suite.curves import ratios, seconds_until
from suite.figures import draw_hot_path, draw_scale, draw_time
from suite.rows import RESULTS, append, load
from suite.scale import fit_law

from .test_benchmarks import made_up


def quality_rows():
    """Two seeds of two variants, and a third that is not paired."""
    return [
        made_up(Setting("umls-complex", "basic", 1), 0.80),
        made_up(Setting("umls-complex", "live", 1), 0.90),
        made_up(Setting("umls-complex", "basic", 2), 0.84),
        made_up(Setting("umls-complex", "live", 2), 0.88),
        made_up(Setting("umls-complex", "live", 3), 0.86),
    ]


def race_rows(recipe: str, *, live: float | None, run: str = "a", **further):
    """Make a run in which live negatives reach the goal, of 0.5 after 9 seconds, at a time."""
    values = [0.1, 0.2, 0.3] if live is None else [0.1, 0.5, 0.4]
    common = {"run": run, "recipe": recipe, "seed": 1, "num_negatives": 8, "num_epochs": 3, "epochs": [1, 2, 3]}
    return [
        {
            **common,
            "entry": "basic-64",
            "variant": "basic-64",
            "seconds": [3.0, 6.0, 9.0],
            "values": [0.2, 0.4, 0.5],
            "total_seconds": 9.0,
        },
        {
            **common,
            "entry": "live",
            "variant": "live",
            "seconds": [0.5, live or 1.0, 20.0],
            "values": values,
            "total_seconds": 20.0,
            **further,
        },
    ]


def scale_rows():
    """Make rows in which seconds grow with the number of triples, and memory with its root."""
    rows = []
    for graph, size in ((100, 100), (10_000, 10_000), (1_000_000, 1_000_000), ("yago310quarter", 269_760)):
        for variant in ("basic", "live"):
            row = {"graph": graph, "variant": variant, "num_triples": size, "setup_seconds": 1.0}
            row |= {"epoch_seconds": size / 1000, "peak_memory_mib": 5 * size**0.5}
            if variant == "live":
                row |= {"bank_mib": 3.5, "memory_mib": 256.0, "epoch_seconds_ratio": 1.0}
            rows.append(row)
    return rows


COSTS = [
    # as the first version wrote them
    {"what": "hot path, ns per negative", "setting": "UMLS, B=1", "basic": 10.0, "ours": 45.0, "ratio": 4.5},
    {"what": "epoch, s", "setting": "umls", "sampler": "live", "basic": 1.0, "ours": 1.25, "ratio": 1.25},
    {"what": "epoch, s", "setting": "umls", "sampler": "live", "basic": 1.0, "ours": 1.75, "ratio": 1.75},
]


class TestQuality:
    def test_table(self):
        title, text = tables.quality_tables(quality_rows())
        assert title.startswith("umls-complex, 60 epochs\n^^^")
        assert "0.8200 ± 0.0283" in text
        assert "0.8800 ± 0.0200" in text
        # seeds are paired, and the third one of live has no partner
        assert "+0.0700" in text

    def test_nothing_is_lost_of_early_rows_and_unknown_variants(self):
        rows = quality_rows()
        for row in rows:
            del row["shared"], row["options"], row["loss_name"], row["filtered"]
        rows.append({**rows[0], "variant": "home-made", "mrr": 0.123})
        rows.append({**rows[0], "recipe": "gone-complex", "mrr": 0.456})
        text = "\n".join(tables.quality_tables(rows))
        assert "0.8200 ± 0.0283" in text
        assert "home-made" in text
        assert "0.4560" in text

    def test_settings_have_tables_of_their_own(self):
        rows = quality_rows()
        rows.append(made_up(Setting("umls-complex", "basic", 1, "crossentropy", filtered=True), 0.7))
        rows.append({**rows[0], "shared": "of another time", "mrr": 0.6})
        titles = [part.split("\n")[0] for part in tables.quality_tables(rows)][::2]
        assert titles == [
            "umls-complex, 60 epochs",
            "umls-complex, 60 epochs, crossentropy, known triples filtered out",
            "umls-complex, 60 epochs (an earlier recipe)",
        ]

    def test_repeated_rows_and_other_defaults_do_not_mix(self):
        rows = quality_rows()
        rows.append({**rows[1], "options": "of now", "mrr": 0.70})
        rows.append({**rows[1], "options": "of now", "mrr": 0.71})
        _, text = tables.quality_tables(rows)
        (line,) = (line for line in text.splitlines() if line.startswith("dans_kgc"))
        assert "0.7100" in line
        assert "0.8800" not in line

    def test_bands_are_means_over_seeds(self):
        assert bands_table(quality_rows()) == ""
        described = [
            [
                {"percentile": 0.3, "known": 0.0, "held_out": held_out},
                {"percentile": 0.1, "known": 0.0, "held_out": 0.04},
            ]
            for held_out in (0.01, 0.03)
        ]
        rows = quality_rows()
        rows += [
            made_up(Setting("umls-complex", "noise", seed), bands=bands)
            for seed, bands in enumerate(described, start=1)
        ]
        easy, hard = (line.split() for line in bands_table(rows).splitlines()[3:5])
        assert easy[-6:] == ["2", "0", "0.300", "0", "2.00", "%"]
        assert hard[-5:] == ["1", "0.100", "0", "4.00", "%"]

    def test_matrix(self):
        text = tables.matrix_table(quality_rows())
        assert "0.820 (2)" in text
        assert "0.880 (3)" in text
        assert "bernoulli" not in text

    def test_readme_shows_what_has_enough_seeds(self):
        rows = quality_rows()
        assert "umls-complex" not in tables.readme_table(rows)
        rows.append(made_up(Setting("umls-complex", "basic", 3), 0.82))
        assert "| 0.820 (3) | 0.880 (3)" in " ".join(tables.readme_table(rows).split())
        assert "+0.060" in tables.readme_table(rows)
        # whatever is compared is compared on the seeds that both have
        rows += [made_up(Setting("umls-complex", "dans-latent", seed), 0.9) for seed in (1, 2, 3, 4)]
        rows.append(made_up(Setting("umls-complex", "dans-latent-noise", 1), 0.7))
        (line,) = (line for line in tables.readme_table(rows).splitlines() if "`dans`, latent mode, all bands" in line)
        assert "| 0.900 (3) |" in line
        assert "| 0.700 (1) " in line

    def test_replace_table(self):
        text = f"before\n{pages._BEGIN}\nold\n{pages._END}\nafter"
        assert pages.replace_table(text, "| new |\n") == f"before\n{pages._BEGIN}\n\n| new |\n\n{pages._END}\nafter"
        with pytest.raises(ValueError, match="put them back"):
            pages.replace_table("no marks", "| new |")


class TestBars:
    def test_not_measured(self):
        levels = recipe_levels([])
        assert [level.dataset for level in levels] == list(RECIPE_BARS)
        assert {level.reached for level in levels} == {"not measured"}

    def test_selection_is_by_validation(self):
        rows = [
            made_up(Setting("umls-complex", "live", 1), 0.99, valid_mrr=0.90),
            made_up(Setting("umls-rotate", "live", 1), 0.96, valid_mrr=0.95),
            # neither other losses nor references are recipes
            made_up(Setting("umls-complex", "live", 1, "softplus"), 0.98, valid_mrr=0.99),
            made_up(Setting("umls-complex", "basic-64", 1), 0.98, valid_mrr=0.99),
        ]
        level = recipe_levels(rows)[0]
        assert (level.recipe, level.mrr, level.reached, level.selected) == ("umls-rotate", 0.96, "no", True)

    def test_earlier_recipes_do_not_count_and_seeds_count_once(self):
        rows = [
            made_up(Setting("umls-complex", "live", 1), 0.90, valid_mrr=0.90),
            made_up(Setting("umls-complex", "live", 1), 0.92, valid_mrr=0.90),
            made_up(Setting("umls-complex", "live", 2), 0.94, valid_mrr=0.90),
            made_up(Setting("umls-rotate", "live", 1), 0.99, valid_mrr=0.99) | {"shared": "another recipe"},
            made_up(Setting("umls-rotate", "live", 2), 0.99, valid_mrr=0.99) | {"options": "other defaults"},
        ]
        level = recipe_levels(rows)[0]
        assert (level.recipe, level.num_seeds, level.mrr) == ("umls-complex", 2, pytest.approx(0.93))

    def test_nothing_is_selected_without_validation(self):
        rows = [
            made_up(Setting("umls-complex", "live", 1), 0.98),
            made_up(Setting("umls-complex", "live", 2), 0.97),
            made_up(Setting("umls-rotate", "live", 1), 0.96),
        ]
        levels = [level for level in recipe_levels(rows) if level.dataset == "umls"]
        assert [(level.recipe, level.num_seeds, level.reached) for level in levels] == [
            ("umls-complex", 2, "yes"),
            ("umls-rotate", 1, "no"),
        ]
        assert not any(level.selected for level in levels)

    def test_seconds_until(self):
        row = {"seconds": [1.0, 2.0, 3.0], "values": [0.1, 0.3, 0.2]}
        assert (seconds_until(row, 0.1), seconds_until(row, 0.2), seconds_until(row, 0.4)) == (1.0, 2.0, None)

    def test_ratios(self):
        assert ratios(race_rows("umls-complex", live=3.0)) == {"basic-64": 1.0, "live": pytest.approx(1 / 3)}
        assert ratios(race_rows("umls-complex", live=None))["live"] is None
        with pytest.raises(ValueError, match="lack 'basic-64'"):
            ratios(race_rows("umls-complex", live=3.0)[1:])

    def test_headline(self):
        rows = [
            row
            for dataset in ("umls", "kinships", "nations", "family")
            for model in ("complex", "rotate")
            for row in race_rows(f"{dataset}-{model}", live=2.9, run=f"{dataset}{model}")
        ]
        assert headline(rows).verdict == "reached"
        slow = race_rows("family-rotate", live=3.1, run="familyrotate")
        found = headline([*rows[:-2], *slow])
        assert (found.num_datasets, found.verdict) == (3, "not reached")
        assert found.best["family-rotate"] == pytest.approx(3.1 / 9)
        assert found.best["umls-rotate"] < HEADLINE_RATIO
        assert headline(rows[:-2]).verdict == "not measured on enough data sets and models"

    @pytest.mark.parametrize("change", [{"num_negatives": 20}, {"shared": "another recipe"}, {"options": "others"}])
    def test_headline_is_about_eight_negatives_of_the_present_recipes(self, change: dict[str, Any]):
        first, second = race_rows("umls-complex", live=1.0)
        assert headline([first, second]).reached["umls"] == ["complex"]
        assert headline([first, second | change]).measured["umls"] == []

    def test_headline_takes_the_median_of_runs(self):
        rows = [
            row
            for number, live in enumerate((1.0, None, None))
            for row in race_rows("umls-complex", live=live, run=f"{number}")
        ]
        assert headline(rows).best == {"umls-complex": None}
        assert headline(rows).reached["umls"] == []

    def test_other_variants_do_not_count(self):
        rows = race_rows("umls-complex", live=1.0, variant="basic", entry="basic")
        assert headline(rows).measured["umls"] == []

    def test_tables(self):
        text = "\n".join(tables.bars_tables(quality_rows(), race_rows("umls-complex", live=3.0)))
        assert "complex: 0.33" in text
        assert "not measured" in text
        assert "0.972" in text


class TestOtherTables:
    def test_time(self):
        text = tables.time_table([*race_rows("umls-complex", live=3.0), *race_rows("umls-rotate", live=None, run="b")])
        assert "0.33" in text
        assert "not reached" in text

    def test_cost_shows_the_latest_of_each(self):
        text = tables.cost_table(COSTS)
        assert "4.50" in text
        assert "1.75" in text
        assert "1.25" not in text

    def test_scale(self):
        first, words, laws = tables.scale_tables(scale_rows())
        assert "3.5 of 256" in first
        assert "269,760 (yago310quarter)" in first
        assert "not measured" in words
        # 1e8 / 1000 seconds, and 5 * 1e4 MiB
        assert "1.00 ± 0.00" in laws
        assert "100,000" in laws
        assert "49" in laws

    def test_law(self):
        law = fit_law([10, 100, 1000], [3 * 10**1.5, 3 * 100**1.5, 3 * 1000**1.5])
        assert (law.factor, law.exponent, law.error) == (
            pytest.approx(3),
            pytest.approx(1.5),
            pytest.approx(0, abs=1e-6),
        )
        assert law(1e8) == pytest.approx(3e12)
        with pytest.raises(ValueError, match="too few"):
            fit_law([10, 10, 100], [1, 1, 2])

    def test_published_figures_have_sources(self):
        text = "\n".join(tables.published_tables())
        assert text.count("Second-hand") == 3
        for figure in (".972", ".920", ".3436"):
            assert figure in text


class TestPage:
    def test_without_rows(self, tmp_path: pathlib.Path):
        path = pages.write_page(tmp_path / "none", tmp_path / "page")
        assert path.read_text().count("Not measured yet.") == 6
        assert list(tmp_path.rglob("*.svg")) == []

    def test_with_rows(self, tmp_path: pathlib.Path):
        results = tmp_path / "results"
        bands = [{"percentile": 0.3, "known": 0.0, "held_out": 0.01}]
        for name, rows in (
            ("quality", [*quality_rows(), made_up(Setting("umls-complex", "noise", 1), bands=bands)]),
            ("time", race_rows("umls-complex", live=3.0)),
            ("cost", COSTS),
            ("scale", scale_rows()),
        ):
            for row in rows:
                append(results / f"{name}.jsonl", row)
        text = pages.write_page(results, tmp_path / "page").read_text()
        assert "Not measured yet." not in text
        # the cost row of an early version has no sampler to draw
        assert sorted(path.stem for path in tmp_path.rglob("*.svg")) == ["benchmarks-scale", "benchmarks-time"]
        for name in ("time", "scale"):
            assert f"_static/benchmarks-{name}.svg" in text

    @pytest.mark.parametrize(
        ("draw", "rows"),
        [
            (draw_time, race_rows("umls-complex", live=3.0)),
            (draw_scale, scale_rows()),
            (draw_hot_path, [{**COSTS[0], "sampler": "live"}]),
        ],
    )
    def test_figures_are_the_same_for_the_same_rows(self, draw, rows, tmp_path: pathlib.Path):
        assert not draw([], tmp_path / "none.svg")
        for name in ("first", "second"):
            assert draw(rows, tmp_path / f"{name}.svg")
        assert (tmp_path / "first.svg").read_bytes() == (tmp_path / "second.svg").read_bytes()

    def test_what_is_shown_is_what_was_measured(self, tmp_path: pathlib.Path):
        """Run ``python benchmarks/run.py tables`` where this fails: rows were added, and tables were not."""
        assert pages.write_page(RESULTS, tmp_path).read_text() == (pages.DOCS / "benchmarks_table.rst").read_text()
        readme = pages.README.read_text(encoding="utf-8")
        assert pages.replace_table(readme, "") != readme
        assert tables.readme_table(load(RESULTS / "quality.jsonl")) in readme
