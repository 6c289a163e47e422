"""Bad input is refused with one message that names the argument, its value and the remedy; odd graphs work."""

from __future__ import annotations

import math
import pathlib
from typing import Any

import numpy as np
import pytest
import torch
from pykeen.models import TransE
from pykeen.pipeline import pipeline
from pykeen.sampling import negative_sampler_resolver
from pykeen.training import SLCWATrainingLoop
from pykeen.triples import CoreTriplesFactory
from torch import Tensor

from pykeen_dans import CurriculumTrainingCallback, DiffusionAdaptiveNegativeSampler
from pykeen_dans.engine import coupling
from pykeen_dans.engine.coupling import Coupling
from pykeen_dans.engine.steering import HardnessSteering
from pykeen_dans.graph import reference

from .utils import from_bank, make_sampler, small, training_of

pytestmark = pytest.mark.usefixtures("shared_cache", "no_engines")

#: What all samplers share
SHARED: list[tuple[dict[str, Any], str]] = [
    # draws and mixes
    (dict(num_negs_per_pos=0), r"num_negs_per_pos=0 .*1 or more"),
    (dict(num_negs_per_pos=-3), r"num_negs_per_pos=-3 .*1 or more"),
    (dict(share=1.5), r"share=1.5 is outside \[0, 1\]"),
    (dict(share=-0.1), r"share=-0.1 is outside \[0, 1\]"),
    (dict(share="half"), r"share='half' is not a finite number"),
    (dict(num_slots=0), r"num_slots=0 .*1 or more"),
    (dict(min_candidates=0), r"min_candidates=0 .*1 or more"),
    (dict(memory=0), r"memory=0 is not positive; .*larger than 0"),
    (dict(memory=-1.0), r"memory=-1.0 is not positive"),
    (dict(memory=float("nan")), r"memory=nan is not a finite number"),
    (dict(fit_steps=-1), r"fit_steps=-1 .*0 or more"),
    (dict(horizon=0), r"horizon=0 .*1 or more"),
    (dict(random_state=-1), r"random_state=-1 .*0 or more"),
    (dict(min_distinct=1.5), r"min_distinct=1.5 is outside \[0, 1\]"),
    (dict(known_answers="drop"), r"known_answers='drop' is unknown; choose one of compete, mask"),
    (dict(corruption_scheme=()), r"corruption_scheme=\(\) must name 'head', 'tail', or both"),
    (dict(corruption_scheme=0), r"corruption_scheme=0 is no list"),
    (dict(random_state="x"), r"random_state='x' is not a whole number"),
    (dict(random_state=1.5), r"random_state=1.5 is not a whole number"),
    (dict(num_slots=10**30), r"num_slots=10+ is more than 64 bits hold"),
    (dict(filtered="no"), r"filtered='no' is neither true nor false"),
    (dict(filterer="fine"), r"filterer='fine' is unknown; choose one of bloom, exact, pythonset"),
    (dict(reference_kwargs=0), r"reference_kwargs=0 is no mapping"),
    (dict(targets=0.2), r"targets=0.2 is no list"),
    (dict(corruption_scheme=("relation",)), r"corruption_scheme=\('relation',\) must name 'head', 'tail', or both"),
    (dict(corruption_scheme=("tail", "tail")), r"corruption_scheme=\('tail', 'tail'\) must name"),
    (dict(device="abacus"), r"device='abacus' is not there .*; choose a device of this machine, e.g. 'cpu'"),
    (dict(device="meta"), r"device='meta' is not there"),
    # curriculum
    (dict(curriculum_kwargs=dict(kappa=-1)), r"kappa=-1 is negative"),
    (dict(curriculum_kwargs=dict(margins=())), r"margins=\(\) is empty"),
    (dict(curriculum="exponential", curriculum_kwargs=dict(rate=float("inf"))), r"rate=inf is not a finite number"),
    (dict(curriculum="cubic"), r"curriculum='cubic' is unknown; choose one of constant, exponential, linear, reversed"),
    # as in a search that draws the curriculum, and fixes an argument of one of them
    (
        dict(curriculum="linear", curriculum_kwargs=dict(rate=3.0)),
        r"curriculum_kwargs has rate, which LinearCurriculum does not take; it takes kappa, margins",
    ),
    # targets
    (dict(targets=()), r"targets=\(\) must be rank percentiles"),
    (dict(targets=(0.1, 0.2, 0.3, 0.4)), r"targets=\(0.1, 0.2, 0.3, 0.4\) must be rank percentiles.*easiest"),
    (dict(targets=(0.9, 0.1)), r"targets=\(0.9, 0.1\) must be rank percentiles in \(0, 0.5\]"),
    (dict(targets=(0.4, 0.0)), r"targets=\(0.4, 0.0\) must be rank percentiles in \(0, 0.5\]"),
]

#: What belongs to the diffusion, on a graph that has room for its four bands
DIFFUSION: list[tuple[dict[str, Any], str]] = [
    (dict(bands=(60, 18, 12, 6)), r"bands=\(60, 18, 12, 6\) has values outside 1..50"),
    (dict(bands=(25, 18, 12, 0)), r"bands=\(25, 18, 12, 0\) has values outside 1..50"),
    (dict(bands=(6, 12, 18, 25)), r"bands=\(6, 12, 18, 25\) does not strictly decrease; .*\(25, 18, 12, 6\)"),
    (dict(bands=(25, 25, 12, 6)), r"bands=\(25, 25, 12, 6\) does not strictly decrease"),
    (dict(bands=(25, 12)), r"bands=\(25, 12\) are not 4, the number of targets; give one timestep for each target"),
    (dict(num_timesteps=0), r"num_timesteps=0 .*1 or more"),
    (dict(num_steps=0), r"num_steps=0 .*1 or more"),
    (dict(beta_global=1.5), r"beta_global=1.5"),
    (dict(mu=-1), r"mu=-1 is negative"),
    (dict(noise_loss="huber"), r"noise_loss='huber' is unknown; choose one of l1, l2"),
    (dict(hidden_dim=0), r"hidden_dim=0 .*2 or more"),
    (dict(num_blocks=0), r"num_blocks=0 .*1 or more"),
    (dict(batch_size=0), r"batch_size=0 .*1 or more"),
    (dict(learning_rate=0.0), r"learning_rate=0.0 is not positive"),
    (dict(condition_dropout=1.5), r"condition_dropout=1.5 is outside \[0, 1\]"),
    (dict(trained="false"), r"trained='false' is neither true nor false"),
    (dict(conditioned=1), r"conditioned=1 is neither true nor false"),
    (dict(bands=()), r"bands=\(\) is empty"),
    (dict(num_types=0), r"num_types=0 .*1 or more"),
    (dict(difficulty="hard"), r"difficulty='hard' is unknown; choose one of .*constant.*degree.*learned"),
    (dict(difficulty="degree", difficulty_kwargs=dict(value=0.5)), r"difficulty_kwargs has value, which DegreeDiff"),
]


@pytest.mark.parametrize("coupled", [False, True])
@pytest.mark.parametrize(("options", "message"), SHARED, ids=lambda value: str(value)[:60])
def test_bad_option_of_the_sampler(options: dict[str, Any], message: str, coupled: bool) -> None:
    """A wrong value is refused when the sampler is made, not after the first epoch, with or without a callback."""
    for name in ("dans_kgc", "dans", "dhns"):
        with pytest.raises(ValueError, match=message):
            make_sampler("nations", name, coupling=Coupling() if coupled else None, **options)


@pytest.mark.parametrize("coupled", [False, True])
@pytest.mark.parametrize(("options", "message"), DIFFUSION, ids=lambda value: str(value)[:60])
def test_bad_option_of_the_diffusion(options: dict[str, Any], message: str, coupled: bool) -> None:
    """So is one of its generator."""
    with pytest.raises(ValueError, match=message):
        make_sampler("umls", coupling=Coupling() if coupled else None, generator_kwargs=options)


@pytest.mark.parametrize("coupled", [False, True])
@pytest.mark.parametrize(
    ("options", "message"),
    [
        (dict(kind="word2vec"), r"kind='word2vec' is unknown; choose one of .*random.*transe"),
        (dict(dim=0), r"dim=0 .*1 or more"),
        (dict(dimension=8), r"reference_kwargs has dimension, which the reference embedding does not take"),
    ],
)
def test_bad_option_of_the_reference_embedding(options: dict[str, Any], message: str, coupled: bool) -> None:
    """So is one of the reference embedding, although it may never be made."""
    with pytest.raises(ValueError, match=message):
        make_sampler("nations", coupling=Coupling() if coupled else None, reference_kwargs=options)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (dict(refresh_budget=-0.1), r"refresh_budget=-0.1 is negative"),
        (dict(fit_share=2), r"fit_share=2 is outside \[0, 1\]"),
        (dict(min_fit_steps=-1), r"min_fit_steps=-1 .*0 or more"),
        (dict(fit_steps=-1), r"fit_steps=-1 .*0 or more"),
        (dict(refresh_queries=1.5), r"refresh_queries=1.5 .*whole number"),
        (dict(frequency=0), r"frequency=0 .*1 or more"),
        (dict(num_epochs=0), r"num_epochs=0 .*1 or more"),
        (dict(vector_weight=-1), r"vector_weight=-1 is negative"),
        (dict(num_vectors=0), r"num_vectors=0 .*1 or more"),
        (dict(vector_kinds="head"), r"vector_kinds='head' must list one or more of head, tail, both"),
        (dict(vector_kinds=["relation"]), r"vector_kinds='relation' is unknown; choose one of both, head, tail"),
        (dict(band_margins="yes"), r"band_margins='yes' is neither true nor false"),
    ],
    ids=lambda value: str(value)[:60],
)
def test_bad_option_of_the_callback(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        CurriculumTrainingCallback(**options)


@pytest.mark.parametrize("min_spread", [-1, math.nan, math.inf, 2])
def test_bad_spread(min_spread: float) -> None:
    with pytest.raises(ValueError, match=r"min_spread=.* (is outside \[0, 1\]|is not a finite number)"):
        HardnessSteering((0.2, 0.1), min_spread=min_spread)


@pytest.mark.parametrize("name", ["dans_kgc", "dans", "dhns"])
@pytest.mark.parametrize(
    ("sizes", "message"),
    [
        (dict(num_entities=2), "num_entities=2 is less than the triples have; choose 3 or more"),
        (dict(num_entities="3"), "num_entities='3' is not a whole number"),
        (dict(num_relations=0), "num_relations=0 is not a whole number of at least 1"),
        (dict(num_relations=1), "num_relations=1 is less than the triples have; choose 2 or more"),
    ],
)
def test_bad_sizes(sizes: dict[str, Any], message: str, name: str) -> None:
    with pytest.raises(ValueError, match=message):
        negative_sampler_resolver.make(name, mapped_triples=triples((0, 0, 1), (1, 1, 2)), **sizes)


@pytest.mark.parametrize("modalities", [1.5, ["textual"], {1: torch.zeros(14, 2)}])
def test_bad_modalities(modalities: Any) -> None:
    with pytest.raises(ValueError, match="modalities"):
        make_sampler("nations", "dhns", modalities=modalities)


@pytest.mark.parametrize("name", ["dans_kgc", "dans", "dhns"])
@pytest.mark.parametrize(
    "given", [None, torch.zeros(0, 3, dtype=torch.long), torch.full((5, 3), 0.5), [[0, 0, 1]]], ids=str
)
def test_bad_triples(given: Any, name: str) -> None:
    with pytest.raises(ValueError, match="mapped_triples"):
        negative_sampler_resolver.make(name, mapped_triples=given)


def test_numbers_of_numpy() -> None:
    """They are as good as those of Python, in all options and in those of options."""
    options = dict(
        num_negs_per_pos=np.int64(3),
        share=np.float32(0.5),
        targets=np.array([0.25, 0.125]),
        num_slots=np.int32(8),
        memory=np.float64(2.0),
        random_state=np.int64(0),
        corruption_scheme=np.array(["head", "tail"]),
        filtered=np.bool_(False),
    )
    small_ones = dict(bands=np.array([20, 10]), mu=np.float32(0.5), trained=np.bool_(True), hidden_dim=np.int64(16))
    reference = dict(dim=np.int64(8), num_epochs=np.int64(1))
    sampler = make_sampler("umls", generator_kwargs=small_ones, reference_kwargs=reference, **options)
    plain = {name: value.tolist() for name, value in options.items()}
    same = make_sampler(
        "umls",
        generator_kwargs={name: value.tolist() for name, value in small_ones.items()},
        reference_kwargs={name: value.tolist() for name, value in reference.items()},
        **plain,
    )
    assert sampler.engine.settings == same.engine.settings
    assert torch.equal(sampler.engine.bank.ids, same.engine.bank.ids)
    callback = CurriculumTrainingCallback(fit_steps=np.int64(2), refresh_budget=np.float32(0.5), num_vectors=np.int8(2))
    assert (callback.fit_steps, callback.refresh_budget) == (2, 0.5)


def test_bad_option_in_a_pipeline() -> None:
    """PyKEEN hands the message through."""
    with pytest.raises(ValueError, match=r"share=7 is outside \[0, 1\]"):
        pipeline(
            dataset="nations",
            model="TransE",
            negative_sampler="dans_kgc",
            negative_sampler_kwargs=dict(share=7),
            training_kwargs=dict(num_epochs=1, use_tqdm=False),
        )


def test_callback_outside_of_a_training() -> None:
    """Where the number of epochs cannot be found out, it is asked for."""
    factory = CoreTriplesFactory(torch.tensor([[0, 0, 1], [1, 0, 2]]), num_entities=3, num_relations=1)
    model = TransE(triples_factory=factory, embedding_dim=4)
    loop = SLCWATrainingLoop(model=model, triples_factory=factory, negative_sampler="dans_kgc")
    with pytest.raises(ValueError, match="pass num_epochs to the curriculum callback"):
        CurriculumTrainingCallback().register_training_loop(loop)
    CurriculumTrainingCallback(num_epochs=3).register_training_loop(loop)


# Odd graphs


def triples(*rows: tuple[int, int, int]) -> Tensor:
    return torch.tensor(rows, dtype=torch.long).view(-1, 3)


def check(mapped_triples: Tensor, **kwargs: Any) -> tuple[Tensor, Tensor]:
    """Sample from a graph, and check the negatives."""
    sampler = DiffusionAdaptiveNegativeSampler(
        mapped_triples=mapped_triples, num_negs_per_pos=4, **small(**{"share": 1.0, "known_answers": "mask", **kwargs})
    )
    negatives, generated = from_bank(sampler, mapped_triples)
    assert ((negatives[..., [0, 2]] >= 0) & (negatives[..., [0, 2]] < sampler.num_entities)).all()
    known = set(map(tuple, mapped_triples.tolist()))
    for positive, row, used in zip(mapped_triples.tolist(), negatives.tolist(), generated.tolist(), strict=True):
        for negative, from_the_bank in zip(row, used, strict=True):
            assert negative != positive
            assert not (from_the_bank and tuple(negative) in known)
    return negatives, generated


@pytest.mark.parametrize("sizes", [dict(num_entities=5, num_relations=2), dict()])
def test_no_triples(sizes: dict[str, int]) -> None:
    """Without triples, there is nothing to learn from, which is said."""
    with pytest.raises(ValueError, match="mapped_triples is empty: at least one training triple"):
        DiffusionAdaptiveNegativeSampler(mapped_triples=triples(), **sizes)


def test_one_entity() -> None:
    """Nothing can replace the only entity."""
    with pytest.raises(ValueError, match="num_entities=1: nothing can replace the only entity; at least 2"):
        DiffusionAdaptiveNegativeSampler(mapped_triples=triples((0, 0, 0)), **small())


def test_one_triple_of_two_entities() -> None:
    """The smallest graph for which there is a negative."""
    negatives, _ = check(triples((0, 0, 1)))
    assert set(map(tuple, negatives.view(-1, 3).tolist())) == {(0, 0, 0), (1, 0, 1)}


def test_one_relation() -> None:
    _, generated = check(triples(*((i, 0, (3 * i + 1) % 20) for i in range(20))))
    assert generated.any()


def test_complete_graph() -> None:
    """Where all entities are known answers, negatives are uniform, and never the positive itself."""
    _, generated = check(triples(*((h, 0, t) for h in range(6) for t in range(6))))
    assert not generated.any()


def test_almost_complete_graph() -> None:
    """Where a single entity is left, it is the only generated answer, however many are asked for."""
    graph = triples(*((h, 0, t) for h in range(6) for t in range(6) if (h, t) != (2, 3)))
    negatives, generated = check(graph)
    assert {tuple(row) for row in negatives[generated].tolist()} == {(2, 0, 3)}


def test_repeated_triples_and_loops() -> None:
    check(triples((0, 0, 1), (0, 0, 1), (2, 0, 2), (1, 1, 1), (0, 0, 1)))


def test_entities_without_triples() -> None:
    """Entities that no training triple has are candidates as the others."""
    _, generated = check(triples((0, 0, 1), (1, 0, 2)), num_entities=50, num_relations=7)
    assert generated.any()


@pytest.mark.parametrize("known_answers", ["compete", "mask"])
def test_nations(known_answers: str, caplog: pytest.LogCaptureFixture) -> None:
    """Of Nations' 14 entities most are known answers; there are fewer bands than wanted, which is said once."""
    for _ in range(2):
        sampler = make_sampler("nations", share=1.0, num_negs_per_pos=16, known_answers=known_answers)
    assert sampler.engine.num_bands == 1
    assert caplog.text.count("targets=(0.28, 0.21, 0.14, 0.07): 14 entities are too few to tell them apart") == 1
    sampler.sample(training_of("nations").mapped_triples)
    assert 0 <= sampler.engine.take_counts()["fallback"] < 0.15


# The cache


@pytest.mark.parametrize("damage", [b"", b"not a file of tensors", None])
def test_damaged_cache(damage: bytes | None, isolated_cache: pathlib.Path, caplog: pytest.LogCaptureFixture) -> None:
    """A corrupt or half-written file is made anew, with a warning, and the same negatives come out."""
    kwargs = dict(generator_kwargs=dict(difficulty="learned"))
    expected = make_sampler("nations", **kwargs).engine.bank.ids
    files = sorted(isolated_cache.rglob("*.safetensors"))
    assert {file.parent.name for file in files} == {"reference", "difficulty"}
    for file in files:
        content = file.read_bytes()
        file.write_bytes(content[: len(content) // 2] if damage is None else damage)
    coupling._alone.clear()
    reference._alive.clear()
    caplog.clear()
    assert torch.equal(make_sampler("nations", **kwargs).engine.bank.ids, expected)
    assert caplog.text.count("is unusable") == len(files)
    # and has been repaired
    coupling._alone.clear()
    reference._alive.clear()
    caplog.clear()
    make_sampler("nations", **kwargs)
    assert "is unusable" not in caplog.text


def test_cache_that_cannot_be_written(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Without a place for the cache, everything works without it."""
    blocked = tmp_path / "file"
    blocked.write_text("no folder")
    monkeypatch.setenv("PYSTOW_HOME", str(blocked))
    reference._alive.clear()
    make_sampler("nations").sample(torch.tensor([[0, 0, 1]]))
    assert "going on without a cache" in caplog.text
