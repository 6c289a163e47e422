"""A look at the negatives of any training: what the tables say, against Python sets and against the training itself."""

from __future__ import annotations

import pathlib
import statistics
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from pykeen.datasets import Dataset, Nations
from pykeen.pipeline import PipelineResult, pipeline
from pykeen.sampling import BasicNegativeSampler
from pykeen.training import SLCWATrainingLoop
from pykeen.triples import CoreTriplesFactory, TriplesFactory

from pykeen_dans import bank_of, describe, negatives_frame, sampler_of
from pykeen_dans.sampling import GeneratedNegativeSampler
from pykeen_dans.utils.triples import as_trained

from .trainings import COUNTED, Hook, make_loop, run_pipeline, train
from .utils import small

TARGETS = (0.45, 0.2)
GENERATED: dict[str, Any] = {
    "negative_sampler": "dans_kgc",
    "negative_sampler_kwargs": small(num_negs_per_pos=8, targets=TARGETS),
}
#: One training of each kind of source
TRAININGS: Mapping[str, dict[str, Any]] = {
    "basic": {"negative_sampler": "basic", "negative_sampler_kwargs": {"num_negs_per_pos": 4, "filtered": True}},
    "bernoulli": {"negative_sampler": "bernoulli", "negative_sampler_kwargs": {}},
    "pseudotyped": {"negative_sampler": "pseudotyped", "negative_sampler_kwargs": {}},
    "generated": {"training_loop": "curriculum", **GENERATED},
    "alone": {**GENERATED, "negative_sampler_kwargs": {**GENERATED["negative_sampler_kwargs"], "fit_steps": 1}},
    "shared": {"training_loop": "shared-negatives", "negative_sampler": None, "negative_sampler_kwargs": None},
    "own": {"training_loop": "dans-kgc", **GENERATED},
}
PERCENTILES = ["percentile", "percentile_25", "percentile_75"]


def training_kwargs(kind: str) -> dict[str, Any]:
    coupled = {"callbacks": "curriculum", "callbacks_kwargs": COUNTED} if kind in {"generated", "own"} else {}
    return {"num_epochs": 3, "batch_size": 256, "use_tqdm": False, "pin_memory": False, **coupled}


@pytest.fixture(scope="module")
def dataset() -> Dataset:
    return Nations(create_inverse_triples=True)


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory, dataset: Dataset) -> Iterator[Mapping[str, PipelineResult]]:
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("PYKEEN_HOME", raising=False)
        patch.setenv("PYSTOW_HOME", str(tmp_path_factory.mktemp("cache")))
        shared = {"num_shared": 5, "num_own": 3, "num_vectors": 2}
        yield {
            kind: run_pipeline(
                dataset=dataset,
                training_kwargs=training_kwargs(kind),
                **options,
                **({"loss": "crossentropy"} if kind in {"own", "shared"} else {}),
                **({"training_loop_kwargs": shared} if kind == "own" else {}),
                **({"training_loop_kwargs": {"num_shared": 5}} if kind == "shared" else {}),
            )
            for kind, options in TRAININGS.items()
        }


def triples_of(frame: pd.DataFrame) -> list[tuple[str, str, str]]:
    """Put the negatives into their triples."""
    return [
        (row.negative, row.relation, row.tail) if row.side == "head" else (row.head, row.relation, row.negative)
        for row in frame.itertuples()
    ]


def labelled(factory: Any) -> set[tuple[str, ...]]:
    return {tuple(triple) for triple in factory.triples.tolist()}


@pytest.mark.parametrize("kind", TRAININGS)
def test_describe(results: Mapping[str, PipelineResult], dataset: Dataset, kind: str) -> None:
    frame = describe(results[kind], against=dataset, num_positives=100)
    sources = {
        "generated": ["all", "uniform", "generated"],
        "alone": ["all", "uniform", "generated"],
        "own": ["all", "shared", "own", "vectors"],
    }.get(kind, [kind])
    whole = frame[frame["band"].isna()].set_index("source")
    assert list(whole.index) == sources
    # without the row of all
    assert whole["share"].iloc[-max(1, len(sources) - 1) :].sum() == pytest.approx(1)
    bands = frame[frame["band"].notna()]
    assert list(bands["target"]) == (list(TARGETS) if "generated" in sources or "own" in sources else [])
    if len(bands):
        assert list(bands["band"]) == [0, 1]
        (source,) = bands["source"].unique()
        assert bands["share"].sum() == pytest.approx(whole.loc[source, "share"])
    of_entities = frame[frame["source"] != "vectors"]
    for column in ("share", "acceptance", "known", "false_validation", "false_testing", "distinct", "coverage"):
        assert of_entities[column].between(0, 1).all(), column
    assert (frame["percentile_25"] <= frame["percentile"]).all()
    assert (frame["percentile"] <= frame["percentile_75"]).all()
    assert (of_entities["known"] == 0).all() == (kind == "basic"), "filtered"
    assert (frame["count"] > 0).all()


@pytest.mark.parametrize("kind", TRAININGS)
def test_frame(results: Mapping[str, PipelineResult], dataset: Dataset, kind: str) -> None:
    """Each row is a negative of a training triple, by label and the right way round, and what is said of it is so."""
    frame = negatives_frame(results[kind], num_positives=20, against=dataset)
    known = labelled(dataset.training)
    positives = list(zip(frame["head"], frame["relation"], frame["tail"], strict=True))
    assert set(positives) <= known
    assert set(frame["side"]) == {"head", "tail"}
    negatives = triples_of(frame)
    assert list(frame["known"]) == [triple in known for triple in negatives]
    for name in ("validation", "testing"):
        true = labelled(getattr(dataset, name))
        assert list(frame[f"false_{name}"]) == [triple in true for triple in negatives]
    assert frame["percentile"].between(0, 1).all()
    if kind != "pseudotyped":
        assert not any(a == b for a, b in zip(positives, negatives, strict=True))


def test_numbers_are_those_of_the_frame(results: Mapping[str, PipelineResult], dataset: Dataset) -> None:
    """Of the same positives and seed, both tables tell the same."""
    num = dataset.training.num_triples
    summary = describe(results["basic"], against=dataset, num_positives=num, seed=4).iloc[0]
    frame = negatives_frame(results["basic"], num_positives=None, against=dataset, seed=4)
    # the order of positives differs, so that the draws do
    assert summary["count"] == pytest.approx(len(frame), rel=0.05)
    for name in ("false_validation", "false_testing", "coverage"):
        other = frame["negative"].nunique() / dataset.num_entities if name == "coverage" else frame[name].mean()
        assert summary[name] == pytest.approx(other, abs=0.02)


def test_hardness(results: Mapping[str, PipelineResult], dataset: Dataset) -> None:
    """A percentile is the share of entities that the model scores higher, other known answers left out."""
    result = results["basic"]
    frame = negatives_frame(result, num_positives=5)
    known = labelled(dataset.training)
    entity_to_id, relation_to_id = dataset.entity_to_id, dataset.relation_to_id
    for row in frame.itertuples():
        scores = {}
        for entity in entity_to_id:
            triple = (entity, row.relation, row.tail) if row.side == "head" else (row.head, row.relation, entity)
            scores[entity] = triple

        # as training sees it; a negative was drawn for the triple or for its inverse
        def score(triple: tuple[str, str, str], inverse: bool) -> float:
            head, relation, tail = entity_to_id[triple[0]], 2 * relation_to_id[triple[1]], entity_to_id[triple[2]]
            ids = [tail, relation + 1, head] if inverse else [head, relation, tail]
            with torch.no_grad():
                return result.model.score_hrt(torch.tensor([ids])).item()

        expected = []
        for inverse in (False, True):
            own = score(scores[row.negative], inverse)
            others = [score(triple, inverse) for triple in scores.values() if triple not in known]
            expected.append(
                statistics.fmean(1.0 if s > own + 1e-6 else 0.5 if abs(s - own) <= 1e-6 else 0.0 for s in others)
            )
        assert min(abs(row.percentile - value) for value in expected) < 1e-4


@pytest.mark.parametrize("kind", ["generated", "own"])
def test_bank(results: Mapping[str, PipelineResult], dataset: Dataset, kind: str) -> None:
    """The rows of bands are what the bank of the training holds, without the positive itself."""
    result = results[kind]
    sampler, bank = sampler_of(result), bank_of(result)
    assert isinstance(sampler, GeneratedNegativeSampler)
    assert bank is sampler.engine.bank
    assert bank.filled > 0
    frame = negatives_frame(result, num_positives=None)
    positives = as_trained(dataset.training)
    index = sampler.engine.index
    expected = 0
    for side in sampler.sides:
        replaced, kept = (0, 2) if side == 0 else (2, 0)
        rows = bank.rows(index.find(positives[:, kept], positives[:, 1], side))
        for ids, answer in zip(
            bank.ids[rows].flatten(start_dim=2).tolist(), positives[:, replaced].tolist(), strict=True
        ):
            expected += sum(len(set(band) - {-1, answer}) for band in ids)
    assert frame["band"].notna().sum() == expected


def test_nothing_is_noticed(results: Mapping[str, PipelineResult]) -> None:
    """Whoever was looked at draws on as if nothing had been."""
    for kind in ("generated", "own", "shared"):
        loop = results[kind].training_loop
        state = torch.random.get_rng_state()
        counts = seen = engine_state = None
        if kind != "shared":
            sampler = sampler_of(loop)
            assert isinstance(sampler, GeneratedNegativeSampler)
            seen, counts = sampler.seen.totals(), sampler.engine.counts.totals()
            engine_state = sampler.engine.random.get_state()
        batch = getattr(loop, "_batch", None)
        describe(results[kind], num_positives=20)
        negatives_frame(results[kind], num_positives=3)
        assert torch.equal(torch.random.get_rng_state(), state)
        assert getattr(loop, "_batch", None) is batch
        if kind != "shared":
            assert sampler.seen.totals() == seen
            assert sampler.engine.counts.totals() == counts
            assert torch.equal(sampler.engine.random.get_state(), engine_state)


def test_same_seed_same_table(results: Mapping[str, PipelineResult]) -> None:
    first, again, other = (describe(results["own"], num_positives=50, seed=seed) for seed in (1, 1, 2))
    pd.testing.assert_frame_equal(first, again)
    assert not first["percentile"].equals(other["percentile"]) or not first["known"].equals(other["known"])


def test_during_training(shared_cache: pathlib.Path) -> None:
    """A callback sees the bank fill, by the loop that it belongs to."""
    loop = make_loop()
    filled, counts = [], []

    def look(callback: Any) -> None:
        filled.append(bank_of(callback.training_loop).filled)
        counts.append(describe(callback.training_loop, num_positives=10)["count"].sum())

    hook = Hook("post_epoch", look)
    train(
        loop, callbacks=["curriculum", hook], callbacks_kwargs=[dict(COUNTED, refresh_queries=200), None], num_epochs=3
    )
    assert 0 < filled[0] < filled[1] < filled[2]
    assert counts[0] < counts[2]


def test_sampler_is_that_of_the_training(results: Mapping[str, PipelineResult], shared_cache: pathlib.Path) -> None:
    loop = results["generated"].training_loop
    assert sampler_of(loop) is loop.sampler_in_use
    # PyKEEN's own loop keeps no sampler, but the callback does
    loop = make_loop()
    train(loop)
    assert sampler_of(loop) is loop.negative_sampler_kwargs["coupling"].sampler
    assert sampler_of(loop).state.hardness == pytest.approx(loop.negative_sampler_kwargs["coupling"].state.hardness)
    # without a callback, the curriculum is where the training left it
    sampler = sampler_of(results["alone"])
    assert isinstance(sampler, GeneratedNegativeSampler)
    assert sampler.state == sampler.engine.state(sampler.curriculum, 1.0)
    assert isinstance(sampler_of(results["basic"]), BasicNegativeSampler)


def test_only_ids(dataset: Dataset) -> None:
    """Triples need no labels, and their order in a factory with other ids does not matter."""
    factory = CoreTriplesFactory.create(Nations().training.mapped_triples)
    sampler = BasicNegativeSampler(mapped_triples=factory.mapped_triples, num_negs_per_pos=2)
    frame = negatives_frame(sampler, triples_factory=factory, num_positives=5)
    assert len(frame) == 10
    assert all(isinstance(value, int | np.integer) for value in frame["head"])
    assert frame["percentile"].isna().all()
    names = {str(number): f"entity {number}" for number in range(14)}
    named = negatives_frame(sampler, triples_factory=factory, num_positives=5, names=names)
    assert list(named["negative_name"]) == [f"entity {number}" for number in named["negative"]]
    assert list(named.columns[:4]) == ["head", "head_name", "relation", "relation_name"]


@pytest.mark.parametrize("form", ["ids", "factory", "labels", "path"])
def test_against(results: Mapping[str, PipelineResult], dataset: Dataset, tmp_path: pathlib.Path, form: str) -> None:
    """False negatives are told by triples in any form."""
    validation = dataset.validation
    assert isinstance(validation, TriplesFactory)
    value: Any = {
        "ids": validation.mapped_triples,
        # with ids of its own
        "factory": TriplesFactory.from_labeled_triples(validation.triples),
        "labels": validation.triples,
        "path": tmp_path / "validation.tsv",
    }[form]
    if form == "path":
        pd.DataFrame(validation.triples).to_csv(value, sep="\t", header=False, index=False)
    found = describe(results["basic"], against={"mine": value}, num_positives=100)
    expected = describe(results["basic"], against=dataset, num_positives=100)
    assert found["false_mine"].item() == expected["false_validation"].item() > 0


@pytest.mark.parametrize("inverse", [False, True])
def test_directory(tmp_path: pathlib.Path, inverse: bool, shared_cache: pathlib.Path) -> None:
    """What PyKEEN has saved is read without running its code, unless it is trusted."""
    dataset = Nations(create_inverse_triples=inverse)
    result = run_pipeline(
        dataset=dataset,
        epochs=1,
        negative_sampler="basic",
        negative_sampler_kwargs={},
        training_kwargs={"num_epochs": 1, "use_tqdm": False},
    )
    result.save_to_directory(tmp_path / "saved")
    expected = describe(result, num_positives=50)
    pd.testing.assert_frame_equal(describe(tmp_path / "saved", num_positives=50, trust=True), expected)
    pd.testing.assert_frame_equal(describe(str(tmp_path / "saved"), num_positives=50, model=result.model), expected)
    with pytest.raises(ValueError, match=r"pickle, which can run any code.*trust=True"):
        describe(tmp_path / "saved")
    # negatives that are generated for a model as it is
    generated = negatives_frame(tmp_path / "saved", trust=True, num_positives=5, **GENERATED)
    assert set(generated["source"]) == {"uniform", "generated"}
    assert set(generated["head"]) <= set(dataset.entity_to_id)
    with pytest.raises(ValueError, match=r"no directory \(did you mean 'saved'\?\)"):
        describe(tmp_path / "save")
    (tmp_path / "saved" / "trained_model.pkl").unlink()
    with pytest.raises(ValueError, match=r"has no trained_model\.pkl"):
        describe(tmp_path / "saved", trust=True)


def test_triples_that_could_run_code_are_not_read(tmp_path: pathlib.Path) -> None:
    result = run_pipeline(
        epochs=1,
        negative_sampler="basic",
        negative_sampler_kwargs={},
        training_kwargs={"num_epochs": 1, "use_tqdm": False},
    )
    result.save_to_directory(tmp_path)
    torch.save({"metadata": pathlib.Path.unlink}, tmp_path / "training_triples" / "base.pth")
    with pytest.raises(ValueError, match="without running code"):
        describe(tmp_path, trust=True)


def test_bad_input(results: Mapping[str, PipelineResult], dataset: Dataset) -> None:
    result = results["basic"]
    with pytest.raises(ValueError, match="num_positives=0"):
        describe(result, num_positives=0)
    with pytest.raises(ValueError, match="per_band=0"):
        negatives_frame(result, per_band=0)
    with pytest.raises(ValueError, match=r"against\['x'\].*'belgium'"):
        describe(result, against={"x": [("belgium", "embassy", "uk")]})
    with pytest.raises(ValueError, match=r"positives has 1 relation .* 'embasy' \(did you mean 'embassy'"):
        negatives_frame(result, [("uk", "embasy", "usa")])
    with pytest.raises(ValueError, match="positives is empty"):
        negatives_frame(result, torch.empty(0, 3, dtype=torch.long))
    with pytest.raises(ValueError, match=r"triples_factory=None: a DistMult does not tell"):
        describe(result.model, negative_sampler="basic")
    with pytest.raises(ValueError, match="negative_sampler='basik' is unknown"):
        describe(result, negative_sampler="basik")
    with pytest.raises(ValueError, match="has no sampler; describe"):
        sampler_of(results["shared"])
    with pytest.raises(ValueError, match="there is no bank"):
        bank_of(result)
    with pytest.raises(ValueError, match="int is nothing to look at"):
        describe(3)
    lcwa = pipeline(
        dataset="nations",
        model="distmult",
        training_loop="lcwa",
        epochs=1,
        training_kwargs={"use_tqdm": False},
        evaluation_kwargs={"use_tqdm": False},
    )
    with pytest.raises(ValueError, match="LCWATrainingLoop draws no negatives"):
        describe(lcwa)
    assert describe(lcwa, negative_sampler="bernoulli")["source"].item() == "bernoulli"
    loop = SLCWATrainingLoop(model=result.model, triples_factory=dataset.training)
    with pytest.raises(ValueError, match="pass triples_factory"):
        sampler_of(loop)
    assert isinstance(sampler_of(loop, triples_factory=dataset.training), BasicNegativeSampler)
