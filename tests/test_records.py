"""Records of trainings, and the table that compares them."""

from __future__ import annotations

import dataclasses
import json
import math
import os
import pathlib

import pytest
from scipy import stats

from pykeen_dans.reporting.records import digest_of, find_records, read_record
from pykeen_dans.reporting.statistics import summarise

from .records import basic, generated


def test_written_and_read(tmp_path: pathlib.Path) -> None:
    path = generated(label="shared-negatives,num_shared=64").write(tmp_path / "new")
    assert path.name == "complex-shared-negatives-num-shared-64-seed0-bbbbbbbb.json"
    read = read_record(path)
    assert read.curve["values"] == [0.1, 0.3, 0.4]
    # what there is not is not a number in Python, and null in JSON
    assert basic(mrr=math.nan).write(tmp_path).read_text().count("null") > 0
    # numbers of epochs are texts in JSON
    assert read.tracked["negatives.noise_error"] == {"1": 0.5, "2": 0.25, "3": 0.5 / 3}
    assert not list(tmp_path.rglob("*.tmp"))


def test_digest_tells_all_but_the_seed() -> None:
    pipeline = {"model": "ComplEx", "random_seed": 0}
    assert digest_of(pipeline) == digest_of({**pipeline, "random_seed": 1})
    assert digest_of(pipeline) != digest_of({**pipeline, "loss": "nssa"})
    assert digest_of(pipeline) != digest_of(pipeline, epochs=1)


def test_a_folder_gives_its_records_in_the_order_of_time(tmp_path: pathlib.Path) -> None:
    late, early = generated().write(tmp_path), basic().write(tmp_path)
    os.utime(early, ns=(1, 1))
    assert [record.label for record in find_records([tmp_path, late])] == ["basic", "dans-kgc"]


def test_what_is_no_record(tmp_path: pathlib.Path) -> None:
    with pytest.raises(ValueError, match="has no records"):
        find_records([tmp_path])
    path = tmp_path / "x.json"
    for text in ("{", "[]", "{}", json.dumps({"format": 0}), json.dumps({"format": 1, "label": "x"})):
        path.write_text(text)
        with pytest.raises(ValueError, match=r"x\.json is no record of a training"):
            find_records([path])


def test_runs_on_different_data_sets(tmp_path: pathlib.Path) -> None:
    basic().write(tmp_path / "a")
    basic(dataset={**basic().dataset, "name": "Nations", "num_triples": 7}).write(tmp_path / "b")
    with pytest.raises(ValueError, match=r"different data sets: Nations \(7 triples\), UMLS \(5216 triples\)"):
        find_records([tmp_path / "a", tmp_path / "b"])


def test_differences_are_paired_by_seed() -> None:
    values = {0: (0.50, 0.61), 1: (0.40, 0.52), 2: (0.60, 0.70)}
    records = [
        make(seed, mrr) for seed, pair in values.items() for make, mrr in zip((basic, generated), pair, strict=True)
    ]
    # one that has no partner counts for the mean alone
    first, second = summarise([*records, generated(3, 0.9)])
    assert (first.label, first.seeds) == ("basic", (0, 1, 2))
    assert first.means["mrr"] == pytest.approx(0.5) and first.deviation == pytest.approx(0.1)
    assert math.isnan(first.difference)
    assert second.means["mrr"] == pytest.approx((0.61 + 0.52 + 0.70 + 0.9) / 4)
    assert second.difference == pytest.approx(0.11)
    expected = stats.ttest_rel([0.61, 0.52, 0.70], [0.50, 0.40, 0.60]).confidence_interval(0.95)
    assert second.interval == pytest.approx(tuple(expected))
    assert first.as_json()["difference"] is None


def test_each_model_has_its_own_first_row() -> None:
    other = [dataclasses.replace(record, model="RotatE") for record in (basic(mrr=0.2), generated(mrr=0.3))]
    rows = summarise([basic(), other[0], generated(), other[1]])
    assert [(row.model, row.label) for row in rows] == [
        ("ComplEx", "basic"),
        ("ComplEx", "dans-kgc"),
        ("RotatE", "basic"),
        ("RotatE", "dans-kgc"),
    ]
    assert [row.difference for row in rows[1::2]] == pytest.approx([0.1, 0.1])
    # a single seed has a difference, but no interval
    assert math.isnan(rows[1].interval[0])
