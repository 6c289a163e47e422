"""The benchmark of several modalities: its shortcut in ranking, its rows, and that its page shows them."""

from __future__ import annotations

import lzma
import pathlib

import pytest
import torch
from click.testing import CliRunner

pytest.importorskip("suite", reason="needs a checkout of the source, with its benchmarks")

from pykeen.datasets import get_dataset
from pykeen.models import RotatE
from pykeen.triples.generation import generate_triples_factory
from suite import pages
from suite.cli import main
from suite.multimodal import epochs, generator, quality, tables
from suite.multimodal.ranking import fast_ranking, negative_distance
from suite.rows import RESULTS, load

from pykeen_dans.experiments import load_recipe


def test_fast_ranking_gives_the_scores_of_pykeen(monkeypatch: pytest.MonkeyPatch) -> None:
    model = RotatE(triples_factory=generate_triples_factory(num_entities=2000, num_triples=8000), embedding_dim=32)
    tails, heads = torch.tensor([[0, 1], [5, 2], [1999, 0]]), torch.tensor([[1, 0], [2, 5], [0, 1999]])
    products = []
    monkeypatch.setattr(
        "suite.multimodal.ranking.negative_distance", lambda *x: products.append(0) or negative_distance(*x)
    )
    with torch.inference_mode():
        slow = torch.cat([model.score_t(tails), model.score_h(heads)])
        assert not products
        with fast_ranking():
            fast = torch.cat([model.score_t(tails), model.score_h(heads)])
    assert len(products) == 2
    torch.testing.assert_close(fast, slow, atol=1e-3, rtol=0)


@pytest.fixture
def nations(monkeypatch: pytest.MonkeyPatch, tmp_path: pathlib.Path, shared_cache: pathlib.Path) -> pathlib.Path:
    """Let a recipe be one of Nations, for an epoch, and write texts of its entities."""
    (tmp_path / "Nations").mkdir()
    labels = get_dataset(dataset="nations").training.entity_to_id
    lines = [f"{label}\tthe country {label}, {index % 3}" for label, index in labels.items()]
    (tmp_path / "Nations" / "entity_text.tsv.xz").write_bytes(lzma.compress("\n".join(lines).encode()))

    def load_short_recipe(name: str) -> dict:
        recipe = load_recipe(name)
        recipe["pipeline"]["dataset"] = "nations"
        recipe["pipeline"]["training_kwargs"].update(num_epochs=1, batch_size=256)
        return recipe

    monkeypatch.setattr(quality, "load_recipe", load_short_recipe)
    monkeypatch.setitem(quality.FOLDERS, "nations", "Nations")
    return tmp_path


@pytest.mark.slow
@pytest.mark.parametrize("validation", [False, True])
def test_quality_has_a_row_for_each_training_and_resumes(
    nations: pathlib.Path, tmp_path: pathlib.Path, validation: bool
) -> None:
    options = {"texts": nations, "validation": validation}
    wanted = (["mkgw-rotate"], ["basic", "dhns-text", "dhns-text-latent"], [1], tmp_path)
    assert quality.execute(*wanted, **options) == 3
    assert quality.execute(*wanted, **options) == 0
    rows = load(tmp_path / quality.FILE)
    assert [row["variant"] for row in rows] == ["basic", "dhns-text", "dhns-text-latent"]
    assert {row["ranked"] for row in rows} == {"validation" if validation else "test"}
    assert all(0 < row["mrr"] <= 1 for row in rows)
    # the modality reaches the generator, whose work takes time between epochs
    assert rows[0]["overhead_seconds"] == 0 < rows[1]["overhead_seconds"]


@pytest.mark.slow
def test_generator_learns_texts(nations: pathlib.Path, tmp_path: pathlib.Path) -> None:
    row = generator.execute(tmp_path, dataset="nations", texts=nations, steps=20, dim=8, epochs=1)
    assert row["covered"] == {"textual": 1.0}
    assert list(row["trained_l1"]) == ["textual", "structural"]
    assert all(error < row["zero_predictor_l1"] for error in row["trained_l1"].values())
    assert load(tmp_path / generator.FILE) == [row]


def test_what_is_shown_is_what_was_measured(tmp_path: pathlib.Path) -> None:
    page = tables.write_page(RESULTS, tmp_path)
    assert page.read_text() == (pages.DOCS / page.name).read_text(), "run `python benchmarks/run.py tables`"


def test_tables_of_what_was_not_measured_are_empty(tmp_path: pathlib.Path) -> None:
    assert load(tmp_path / epochs.FILE) == []
    text = tables.write_page(tmp_path, tmp_path).read_text()
    assert "@" not in text.replace("\\@", "")
    assert "MKG-W, RotatE" not in text


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["quality", "--texts", "nowhere"], "nowhere"),
        (["quality", "--texts", ".", "--only", "umls-rotate"], "umls-rotate"),
        (["generator", "--dataset", "umls"], "umls"),
        (["cost"], "--texts"),
    ],
)
def test_bad_options(options: list[str], message: str) -> None:
    done = CliRunner().invoke(main, ["multimodal", *options])
    assert done.exit_code == 2
    assert message in done.output
