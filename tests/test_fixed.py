"""Negatives of one's own, from a table."""

from __future__ import annotations

import json
import logging
import pathlib
from typing import Any

import pandas as pd
import pytest
import torch
from pykeen.datasets import Dataset, Nations
from pykeen.pipeline import pipeline
from pykeen.sampling import negative_sampler_resolver
from pykeen.triples import CoreTriplesFactory

from pykeen_dans import FixedNegativeSampler, describe, negatives_frame, sampler_of
from pykeen_dans.sampling import TwoWayGANNegativeSampler
from pykeen_dans.utils.triples import as_trained

from .utils import check_negatives, small

COLUMNS = ["head", "relation", "tail", "side", "negative"]


@pytest.fixture(scope="module")
def dataset() -> Dataset:
    return Nations()


def make(dataset: Dataset, rows: Any, **kwargs: Any) -> FixedNegativeSampler:
    factory = dataset.training
    table = rows if isinstance(rows, pd.DataFrame | str) else pd.DataFrame(rows, columns=COLUMNS)
    return FixedNegativeSampler(
        mapped_triples=as_trained(factory),
        num_entities=factory.num_entities,
        num_relations=factory.num_relations,
        negatives=table,
        triples_factory=factory,
        **kwargs,
    )


def draws(sampler: FixedNegativeSampler, positive: torch.Tensor, times: int = 50) -> list[set[tuple[int, ...]]]:
    """Draw for one positive again and again."""
    return [{tuple(triple) for triple in sampler.corrupt_batch(positive[None])[0].tolist()} for _ in range(times)]


def test_of_a_triple(dataset: Dataset) -> None:
    """Where there are as many as are asked for, these are the negatives, and those of no other triple."""
    ids = dataset.entity_to_id
    first, other = dataset.training.triples[:2].tolist()
    one, two, three = [label for label in ids if label not in {*first, *other}][:3]
    sampler = make(dataset, [(*first, "head", one), (*first, "tail", two), (*other, "tail", three)], num_negs_per_pos=2)
    head, relation, tail = dataset.training.mapped_triples[0].tolist()
    expected = {(ids[one], relation, tail), (head, relation, ids[two])}
    assert all(drawn == expected for drawn in draws(sampler, dataset.training.mapped_triples[0]))


def test_of_a_query(dataset: Dataset) -> None:
    """With one side left open, negatives are those of all positives of the query, but for the positive itself."""
    factory = dataset.training
    head, relation, _ = factory.triples[0]
    answers = [tail for h, r, tail in factory.triples if (h, r) == (head, relation)]
    rows = [(head, relation, None, "tail", answers[0]), (head, relation, None, "tail", "cuba")]
    frame = pd.DataFrame(rows, columns=COLUMNS).drop(columns="side")
    sampler = make(dataset, frame, num_negs_per_pos=2, corruption_scheme=("head",))
    cuba = dataset.entity_to_id["cuba"]
    known = dataset.training.mapped_triples
    query = known[(known[:, 0] == known[0, 0]) & (known[:, 1] == known[0, 1])]
    for positive in query:
        if positive[2] == cuba:
            continue
        listed = {dataset.entity_to_id[answers[0]], cuba} - {positive[2].item()}
        for drawn in draws(sampler, positive, times=5):
            tails = {triple[2] for triple in drawn if triple[2] != positive[2]}
            assert tails == listed
    # another query has none
    (other,) = known[(known[:, 0] != known[0, 0]) & (known[:, 1] == known[0, 1])][:1]
    assert all(triple[2] == other[2] for drawn in draws(sampler, other) for triple in drawn)


def test_topped_up(dataset: Dataset) -> None:
    """Where there are fewer, all of them come, and the others are uniform, heads and tails in turn."""
    first = dataset.training.triples[0].tolist()
    sampler = make(dataset, [(*first, "tail", "cuba")], num_negs_per_pos=5)
    batch = dataset.training.mapped_triples[:40]
    negatives, mask = sampler.sample(batch)
    assert mask is None
    check_negatives(negatives, batch, "nations")
    head, relation, _ = batch[0].tolist()
    cuba = (head, relation, dataset.entity_to_id["cuba"])
    found = draws(sampler, batch[0])
    assert all(cuba in drawn for drawn in found)
    assert len(set().union(*found)) > 15
    replaced = (negatives[1:, :, 0] != batch[1:, None, 0]).float().mean()
    assert 0.4 < replaced < 0.6
    tails = make(dataset, [(*first, "tail", "cuba")], num_negs_per_pos=5, corruption_scheme="tail").sample(batch)[0]
    assert (tails[..., 0] == batch[:, None, 0]).all()


def test_a_run_of_many(dataset: Dataset) -> None:
    """Where there are more, each is as likely as the others, and none comes twice."""
    first = dataset.training.triples[0].tolist()
    others = [label for label in dataset.entity_to_id if label != first[2]][:7]
    sampler = make(dataset, [(*first, "tail", label) for label in others], num_negs_per_pos=3)
    positive = dataset.training.mapped_triples[:1].repeat(700, 1)
    tails = sampler.corrupt_batch(positive)[..., 2]
    assert all(len(set(row)) == 3 for row in tails.tolist())
    counts = torch.bincount(tails.flatten(), minlength=14)
    assert set(counts.nonzero().flatten().tolist()) == {dataset.entity_to_id[label] for label in others}
    assert (counts[counts > 0] > 200).all()


@pytest.mark.parametrize("suffix", [".csv", ".tsv", ".tsv.gz", ".parquet"])
@pytest.mark.parametrize("inverse", [False, True])
def test_round_trip(tmp_path: pathlib.Path, suffix: str, inverse: bool, shared_cache: pathlib.Path) -> None:
    """What was generated can be saved, trained with, and looked at again, without a difference."""
    dataset = Nations(create_inverse_triples=inverse)
    factory = dataset.training
    options = {**small("dans"), "fit_steps": 1, "corruption_scheme": ("tail",) if inverse else None}
    sampler = TwoWayGANNegativeSampler(
        mapped_triples=as_trained(factory),
        num_entities=factory.num_entities,
        num_relations=factory.num_relations,
        **options,
    )
    frame = negatives_frame(sampler, triples_factory=factory, num_positives=None)
    frame = frame[frame["source"] == "generated"].reset_index(drop=True)
    path = tmp_path / f"negatives{suffix}"
    if suffix == ".parquet":
        frame.to_parquet(path, index=False)
    else:
        frame.to_csv(path, sep="," if suffix == ".csv" else "\t", index=False)
    again = negatives_frame(make(dataset, str(path)), triples_factory=factory, num_positives=None)
    assert set(again["source"]) == {"fixed"}
    order = [*COLUMNS]
    first, second = (each[order].sort_values(order).reset_index(drop=True) for each in (frame, again))
    pd.testing.assert_frame_equal(first, second)
    # and from then on nothing changes, not even the order
    third = negatives_frame(make(dataset, again), triples_factory=factory, num_positives=None)
    pd.testing.assert_frame_equal(again, third)


@pytest.mark.parametrize("inverse", [False, True])
def test_pipeline(tmp_path: pathlib.Path, inverse: bool) -> None:
    """By name, from a file, with labels, which the training under way tells."""
    dataset = Nations(create_inverse_triples=inverse)
    path = tmp_path / "negatives.csv"
    rows = [(*triple, side, "cuba") for triple in dataset.training.triples[:50].tolist() for side in ("head", "tail")]
    pd.DataFrame(rows, columns=COLUMNS).to_csv(path, index=False)
    kwargs = {"negatives": str(path), "num_negs_per_pos": 4}
    assert json.loads(json.dumps(kwargs)) == kwargs
    result = pipeline(
        dataset=dataset,
        model="DistMult",
        model_kwargs={"embedding_dim": 4},
        negative_sampler="fixed",
        negative_sampler_kwargs=kwargs,
        training_kwargs={"num_epochs": 1, "use_tqdm": False, "num_workers": 0},
        evaluation_kwargs={"use_tqdm": False},
        device="cpu",
    )
    assert isinstance(sampler_of(result), FixedNegativeSampler)
    frame = describe(result, num_positives=2000).set_index("source")
    assert list(frame.index) == ["all", "uniform", "fixed"]
    listed = negatives_frame(result, num_positives=None)
    listed = listed[listed["source"] == "fixed"]
    assert set(listed["negative"]) == {"cuba"}
    # but where cuba is the answer itself
    expected = sum(triple[0 if side == "head" else 2] != "cuba" for *triple, side, _ in rows)
    assert len(listed) == expected
    # each of them is drawn, and each training triple is looked at
    assert frame.loc["fixed", "count"] == expected
    assert frame.loc["all", "count"] == dataset.training.num_triples * 4 * (2 if inverse else 1)
    result.save_to_directory(tmp_path / "saved")


def test_names() -> None:
    assert negative_sampler_resolver.lookup("fixed") is FixedNegativeSampler
    assert FixedNegativeSampler.get_normalized_name() == "fixed"


def test_ids_without_labels(dataset: Dataset) -> None:
    factory = CoreTriplesFactory.create(dataset.training.mapped_triples)
    head, relation, tail = factory.mapped_triples[0].tolist()
    table = pd.DataFrame([(head, relation, tail, "tail", 3)], columns=COLUMNS)
    sampler = FixedNegativeSampler(mapped_triples=factory.mapped_triples, negatives=table)
    assert sampler.corrupt_batch(factory.mapped_triples[:1]).tolist() == [[[head, relation, 3]]]


def test_labels_that_look_like_something_else(tmp_path: pathlib.Path) -> None:
    """Labels such as NA, 007 or with quotation marks are what they are."""
    from pykeen.triples import TriplesFactory

    triples = [("NA", "007", 'the "x", y'), ("null", "007", "1e3"), ("1e3", "007", "NA")]
    factory = TriplesFactory.from_labeled_triples(pd.DataFrame(triples).to_numpy(dtype=str))
    for name in ("x.csv", "x.tsv"):
        rows = [(*triples[0], "tail", "1e3"), (*triples[1], "head", "NA"), (*triples[2], "tail", 'the "x", y')]
        path = tmp_path / name
        pd.DataFrame(rows, columns=COLUMNS).to_csv(path, index=False, sep="," if name == "x.csv" else "\t")
        sampler = FixedNegativeSampler(
            mapped_triples=factory.mapped_triples, negatives=str(path), triples_factory=factory
        )
        frame = negatives_frame(sampler, triples_factory=factory, num_positives=None)
        assert set(frame[COLUMNS].itertuples(index=False, name=None)) == set(rows)


def test_rows_of_no_training_triple(dataset: Dataset, caplog: pytest.LogCaptureFixture) -> None:
    first = dataset.training.triples[0].tolist()
    held_out = dataset.testing.triples[0].tolist()
    with caplog.at_level(logging.WARNING):
        make(dataset, [(*first, "tail", "cuba"), (*held_out, "tail", "cuba")])
    assert "1 of 2 negatives belong to no training triple" in caplog.text


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([("uk", "embasy", "usa", "tail", "cuba")], r"1 relation .*: 'embasy' \(did you mean 'embassy'"),
        ([("uk", "embassy", "usa", "tail", "kuba")], r"negatives\['negative'\].*'kuba' \(did you mean 'cuba'"),
        (
            [(x, "embassy", "usa", "tail", "cuba") for x in "112345"],
            r"negatives\['head'\] has 5 entities .*'1', '2', '3', and 2 more",
        ),
        ([("uk", "embassy", "usa", "left", "cuba")], "has 'left'; write 'head' or 'tail'"),
        ([("uk", "embassy", "", "head", "cuba")], "whose side is not the one that is left empty"),
        ([("", "embassy", "", "head", "cuba")], "head and tail are both empty"),
        ([], "negatives has no rows"),
        ([("uk", "embassy", "uk", "tail", "cuba")], "no row that belongs to a training triple"),
        (pd.DataFrame([("uk", "embassy", "usa")], columns=COLUMNS[:3]), "has no column 'negative'"),
        (
            pd.DataFrame([("uk", "embassy", "usa", "cuba")], columns=["head", "relation", "tail", "negative"]),
            "has no column 'side'",
        ),
        ("no/such/file.csv", "is no file"),
        ("negatives.xlsx", r"has the suffix '\.xlsx'"),
    ],
)
def test_bad_input(dataset: Dataset, rows: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make(dataset, rows)


def test_damaged_files(dataset: Dataset, tmp_path: pathlib.Path) -> None:
    for name in ("x.csv", "x.parquet"):
        path = tmp_path / name
        path.write_bytes(b"" if name == "x.csv" else b"PAR1 is not all")
        with pytest.raises(ValueError, match="cannot be read as"):
            make(dataset, str(path))
    with pytest.raises(ValueError, match="negatives is a int"):
        FixedNegativeSampler(mapped_triples=dataset.training.mapped_triples, negatives=3)
