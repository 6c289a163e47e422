"""Scores in query forms are PyKEEN's scores, for all of PyKEEN's models."""

from __future__ import annotations

import functools
import pathlib
import re
from collections.abc import Iterator
from typing import Any

import pytest
import torch
from pykeen.datasets.nations import NationsLiteral
from pykeen.models import ERModel, Model, model_resolver
from pykeen.nn import modules
from pykeen.nn.modules import DistMultInteraction, MonotonicAffineTransformationInteraction
from pykeen.triples import CoreTriplesFactory
from pykeen.typing import InductiveMode, Target
from pykeen.utils import get_batchnorm_modules
from torch import Tensor

from pykeen_dans.scoring.query_forms import CandidateScores, form_names, query_form, score_candidates
from pykeen_dans.scoring.representations import SIDES, Candidates

from .utils import training_of

PAGE = pathlib.Path(__file__).parent.parent / "docs" / "source" / "shared_negatives.rst"

#: What models need to be small, or to be made at all
SMALL_MODELS: dict[str, dict[str, Any]] = {
    "autosf": dict(embedding_dim=4),
    "compgcn": dict(embedding_dim=8, encoder_kwargs=dict(num_layers=1)),
    "complexliteral": dict(embedding_dim=8),
    "conve": dict(embedding_dim=16),
    "cooccurrencefiltered": dict(base="distmult"),
    "cp": dict(embedding_dim=4, rank=3),
    "distmultliteral": dict(embedding_dim=8),
    "fixedmodel": {},
    "inductivenodepiece": dict(embedding_dim=8, num_tokens=3),
    "inductivenodepiecegnn": dict(embedding_dim=8, num_tokens=3),
    "nodepiece": dict(embedding_dim=8, num_tokens=3),
    "ntn": dict(embedding_dim=4, num_slices=2),
    "quate": dict(embedding_dim=4),
    "rgcn": dict(embedding_dim=8, num_layers=1, decomposition="bases"),
    "transd": dict(embedding_dim=8, relation_dim=6),
    "tucker": dict(embedding_dim=8, relation_dim=6),
}
#: Why a model is left out
LEFT_OUT = {
    "distmultliteralgated": "can not be made in PyKEEN 1.11.1, whose combination has other arguments",
    "marginaldistributionbaseline": "has nothing to train",
    "softinversetriplebaseline": "has nothing to train",
}


@functools.cache
def literals() -> CoreTriplesFactory:
    return NationsLiteral(create_inverse_triples=True).training


def make_model(name: str, **kwargs: Any) -> tuple[Model, CoreTriplesFactory, InductiveMode | None]:
    """Make a small model on a small graph."""
    # RGCN makes inverse triples by itself
    factory = training_of("nations", create_inverse_triples=name != "rgcn")
    options: dict[str, Any] = SMALL_MODELS.get(name, dict(embedding_dim=8)) | kwargs
    mode: InductiveMode | None = None
    if "literal" in name:
        factory = literals()
    if name.startswith("inductive"):
        options["inference_factory"] = factory
        mode = "training"
    if name == "cooccurrencefiltered":
        # the one with small options
        options["base"] = make_model(options["base"])[0]
    torch.manual_seed(0)
    model: Model = model_resolver.make(name, options, triples_factory=factory, random_seed=0)
    # constraints, which some initialisations do not meet
    model.post_parameter_update()
    return model, factory, mode


def all_models() -> Iterator[Any]:
    for name in sorted(model_resolver.lookup_dict):
        marks = [pytest.mark.skip(reason=LEFT_OUT[name])] if name in LEFT_OUT else []
        yield pytest.param(name, marks=marks)


def candidates_of(factory: CoreTriplesFactory, *, batch_size: int = 7) -> tuple[Tensor, Candidates]:
    """Choose positives and candidates, with repetitions among them, and with answers."""
    random = torch.Generator().manual_seed(1)
    positives = factory.mapped_triples[torch.randperm(factory.num_triples, generator=random)[:batch_size]]
    shared = torch.randint(factory.num_entities, size=(30,), generator=random)
    own = torch.randint(factory.num_entities, size=(batch_size, 4), generator=random)
    shared[:2], own[:, 0] = positives[0, 2], positives[:, 0]
    return positives, Candidates(shared, own)


def score_by_pykeen(
    model: Model, positives: Tensor, side: Target, candidates: Candidates, mode: InductiveMode | None = None
) -> CandidateScores:
    def score(ids: Tensor | None) -> Tensor:
        if side == "tail":
            return model.score_t(positives[:, :2], tails=ids, mode=mode)
        return model.score_h(positives[:, 1:], heads=ids, mode=mode)

    target = positives[:, 2:] if side == "tail" else positives[:, :1]
    return CandidateScores(score(target)[:, 0], score(candidates.shared), score(candidates.own))


def gradients_of(model: Model, scores: CandidateScores) -> dict[str, Tensor]:
    """Compute gradients of a random combination of scores."""
    random = torch.Generator().manual_seed(2)
    model.zero_grad()
    total = sum((x * torch.randn(x.shape, generator=random)).sum() for x in scores if x is not None)
    assert isinstance(total, Tensor)
    if total.requires_grad:
        total.backward()
    # some encoders keep what belongs to a graph that is gone now
    model.post_parameter_update()
    return {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}


def assert_same_scores(
    model: Model,
    factory: CoreTriplesFactory,
    side: Target,
    mode: InductiveMode | None = None,
    *,
    tolerance: float = 1.0e-4,
    **kwargs: Any,
) -> None:
    positives, candidates = candidates_of(factory)
    expected = score_by_pykeen(model, positives, side, candidates, mode)
    expected_gradients = gradients_of(model, expected)
    found = score_candidates(model, positives, {side: candidates}, mode=mode, **kwargs)[side]
    gradients = gradients_of(model, found)
    for part, expected_part in zip(found, expected, strict=True):
        torch.testing.assert_close(part, expected_part, atol=tolerance, rtol=tolerance)
    assert gradients.keys() == expected_gradients.keys()
    for name, gradient in gradients.items():
        # sums of many terms, in another order
        scale = max(1.0, float(expected_gradients[name].abs().max()))
        torch.testing.assert_close(
            gradient,
            expected_gradients[name],
            atol=tolerance * scale,
            rtol=tolerance,
            msg=lambda m, n=name: f"{n}: {m}",
        )


@pytest.mark.parametrize("side", SIDES)
@pytest.mark.parametrize("name", list(all_models()))
def test_scores_and_gradients(name: str, side: Target) -> None:
    model, factory, mode = make_model(name)
    assert_same_scores(model.eval(), factory, side, mode)


@pytest.mark.parametrize("side", SIDES)
@pytest.mark.parametrize(
    ("name", "kwargs"),
    [
        ("transe", dict(scoring_fct_norm=1)),
        ("transe", dict(scoring_fct_norm=2)),
        ("transe", dict(scoring_fct_norm=2, power_norm=True)),
        ("um", dict(scoring_fct_norm=2, power_norm=False)),
        ("transh", dict(scoring_fct_norm=2, power_norm=True)),
        ("transh", dict(scoring_fct_norm=1)),
        ("transd", dict(embedding_dim=6, relation_dim=8)),
        ("pairre", dict(p=2)),
        ("mure", dict(p=2, power_norm=True)),
        ("mure", dict(p=1)),
        ("simple", dict(clamp_score=0.5)),
        ("proje", dict(inner_non_linearity=torch.nn.ReLU())),
        ("tucker", dict(apply_batch_normalization=False)),
    ],
)
def test_variants(name: str, kwargs: dict[str, Any], side: Target) -> None:
    model, factory, _ = make_model(name, **kwargs)
    assert_same_scores(model.eval(), factory, side)


def interactions() -> Iterator[Any]:
    """Yield interactions that have no model of their own."""
    yield modules.LineaREInteraction(p=2)
    yield modules.TripleREInteraction(u=0.5, p=2, power_norm=True)
    yield modules.TripleREInteraction(u=None, p=2)
    yield modules.MultiLinearTuckerInteraction(head_dim=8, relation_dim=8, tail_dim=8)
    yield modules.TransformerInteraction(input_dim=8, num_layers=1, num_heads=2, dim_feedforward=8)
    yield MonotonicAffineTransformationInteraction(base=modules.TransEInteraction(p=2), initial_scale=2.0)
    yield MonotonicAffineTransformationInteraction(base=modules.KG2EInteraction())


@pytest.mark.parametrize("side", SIDES)
@pytest.mark.parametrize("interaction", list(interactions()), ids=lambda x: type(x).__name__)
def test_interactions(interaction: Any, side: Target) -> None:
    factory = training_of("nations", create_inverse_triples=True)
    torch.manual_seed(0)
    model = ERModel(
        triples_factory=factory,
        interaction=interaction,
        entity_representations_kwargs=[dict(shape=(8,)) for _ in interaction.entity_shape],
        relation_representations_kwargs=[dict(shape=(8,)) for _ in interaction.relation_shape],
    )
    assert_same_scores(model.eval(), factory, side)


@pytest.mark.parametrize("side", SIDES)
@pytest.mark.parametrize("name", ["complex", "rotate", "transe", "transd", "transh", "quate", "kg2e"])
def test_double_precision(name: str, side: Target) -> None:
    model, factory, _ = make_model(name)
    model = model.double().eval()
    # constraints hold in the new precision
    model.post_parameter_update()
    assert_same_scores(model, factory, side, tolerance=1.0e-9)


@pytest.mark.parametrize("name", ["complex", "distmult", "transe", "rotate", "transh", "ermlp"])
def test_mixed_precision(name: str) -> None:
    model, factory, _ = make_model(name)
    positives, candidates = candidates_of(factory)
    exact = score_candidates(model, positives, dict.fromkeys(SIDES, candidates))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        rough = score_candidates(model, positives, dict.fromkeys(SIDES, candidates))
    for side in SIDES:
        scale = float(exact[side].shared.abs().max())
        # there are no vectors of no entity
        for part, expected in zip(rough[side][:3], exact[side][:3], strict=True):
            torch.testing.assert_close(part.float(), expected, atol=0.05 * scale, rtol=0.05)


@pytest.mark.parametrize("name", ["tucker", "conve", "ermlpe", "crosse"])
def test_training_mode_of_queries(name: str) -> None:
    """The statistics of a batch are those of its queries, as in PyKEEN's scores of all tails."""
    model, factory, _ = make_model(name)
    for module in model.modules():
        if isinstance(module, torch.nn.Dropout | torch.nn.Dropout2d):
            module.p = 0.0
    model.train()
    assert form_names(model)["tail"] == "bilinear"
    positives, candidates = candidates_of(factory)
    found = score_candidates(model, positives, {"tail": candidates})["tail"]
    torch.testing.assert_close(found.shared, model.score_t(positives[:, :2], tails=candidates.shared))


def test_no_form_where_there_is_chance_in_each_score() -> None:
    model, *_ = make_model("tucker", apply_batch_normalization=False)
    assert form_names(model.train()) == {"head": "broadcast", "tail": "bilinear"}
    assert form_names(model.eval()) == {"head": "bilinear", "tail": "bilinear"}


def test_no_form_of_unknown_subclasses() -> None:
    class Shifted(DistMultInteraction):
        def forward(self, h: Tensor, r: Tensor, t: Tensor) -> Tensor:
            return super().forward(h, r, t) + 1

    factory = training_of("nations")
    model = ERModel(
        triples_factory=factory,
        interaction=Shifted,
        entity_representations_kwargs=dict(shape=8),
        relation_representations_kwargs=dict(shape=8),
    )
    assert query_form(model.interaction, "tail").name == "broadcast"
    assert_same_scores(model.eval(), factory, "tail")


# Regularizers


def test_regularizers_are_updated_once() -> None:
    """Heads, relations, tails and the shared candidates of each side have one part each in the regularization."""
    model, factory, _ = make_model(
        "complex", regularizer="powersum", regularizer_kwargs=dict(weight=1.0, p=3.0, dim=-1)
    )
    positives, candidates = candidates_of(factory)
    entity, relation = model.entity_representations[0], model.relation_representations[0]
    shared, representatives = candidates.shared, torch.tensor([1, 8, 4])
    head = Candidates(shared[:5], candidates.own, representatives=representatives)
    score_candidates(model, positives, {"tail": candidates, "head": head})
    found = model.collect_regularization_term()
    looked_up = [positives[:, 0], positives[:, 2], shared, representatives]
    vectors = [entity._plain_forward(ids) for ids in looked_up]
    expected = [entity.regularizer(x) for x in vectors] + [
        relation.regularizer(relation._plain_forward(positives[:, 1]))
    ]
    torch.testing.assert_close(found.squeeze(), torch.stack(expected).sum())


@pytest.mark.parametrize("name", ["normalized", "multimodal", "model"])
def test_own_candidates_are_not_regularized(name: str) -> None:
    """However a model computes its vectors, the regularization does not depend on what is scored on top."""
    factory = training_of("nations")
    weights = dict(regularizer="powersum", regularizer_kwargs=dict(weight=1.0, p=3.0, dim=-1))
    torch.manual_seed(0)
    model = {
        "normalized": lambda: ERModel(
            triples_factory=factory,
            interaction="distmult",
            entity_representations_kwargs=dict(shape=8, normalizer="normalize", **weights),
            relation_representations_kwargs=dict(shape=8, **weights),
        ),
        "multimodal": lambda: ERModel(
            triples_factory=factory,
            interaction="distmult",
            entity_representations="multimodal",
            entity_representations_kwargs=dict(shape=8, modalities=dict(numeric=torch.eye(14).tolist()), **weights),
            relation_representations_kwargs=dict(shape=8),
        ),
        "model": lambda: _Scoring(
            triples_factory=factory,
            interaction="distmult",
            entity_representations_kwargs=dict(shape=8, **weights),
            relation_representations_kwargs=dict(shape=8),
        ),
    }[name]()
    positives, candidates = candidates_of(factory)
    terms, scores = [], []
    shared, representatives = candidates.shared, torch.arange(2)
    for choice in (
        candidates,
        Candidates(shared),
        candidates._replace(representatives=representatives),
        Candidates(shared[:3], representatives=representatives),
    ):
        scores.append(score_candidates(model, positives, {"tail": choice})["tail"])
        terms.append(float(model.collect_regularization_term()))
    assert terms[0] == pytest.approx(terms[1]) and terms[0] > 0
    torch.testing.assert_close(scores[2].shared, scores[0].shared)
    # where others stand for all entities, what is scored has no part in it
    assert terms[2] != pytest.approx(terms[0])
    assert terms[2] == pytest.approx(terms[3])
    assert all(module.training for module in model.modules())


def test_what_is_regularized_alone_leaves_no_trace_in_statistics() -> None:
    """The statistics by which evaluation normalises are those of what is scored."""
    factory = training_of("nations")
    weights = dict(regularizer="powersum", regularizer_kwargs=dict(weight=1.0, p=3.0, dim=-1))
    model = ERModel(
        triples_factory=factory,
        interaction="distmult",
        entity_representations="transformed",
        entity_representations_kwargs=dict(
            # PyKEEN infers shapes from a single vector
            transformation=torch.nn.BatchNorm1d(8).eval(),
            base="embedding",
            base_kwargs=dict(shape=8),
            **weights,
        ),
        relation_representations_kwargs=dict(shape=8),
    ).train()
    positives, candidates = candidates_of(factory)
    score_candidates(model, positives, {"tail": Candidates(candidates.shared, representatives=torch.arange(5))})
    (norm,) = get_batchnorm_modules(model)
    # heads, tails, and the shared ones
    assert int(norm.num_batches_tracked) == 3


class _Scoring(ERModel[Any, Any, Any]):
    """A model with scores of its own."""

    def score_t(self, *args: Any, **kwargs: Any) -> Tensor:
        return super().score_t(*args, **kwargs)


def test_embeddings_are_looked_up_once(monkeypatch: pytest.MonkeyPatch) -> None:
    model, factory, _ = make_model("distmult")
    positives, candidates = candidates_of(factory)
    sizes: list[int] = []
    embedding = model.entity_representations[0]
    look_up = embedding._plain_forward

    def recording(indices: Tensor) -> Tensor:
        sizes.append(indices.numel())
        return look_up(indices=indices)

    monkeypatch.setattr(embedding, "_plain_forward", recording)
    score_candidates(model, positives, dict.fromkeys(SIDES, candidates))
    assert sizes == [2 * 7 + 2 * (30 + 28)]


# Slices


@pytest.mark.parametrize("side", SIDES)
@pytest.mark.parametrize("name", ["complex", "simple", "transe", "transh", "kg2e", "mure", "conve", "fixedmodel"])
def test_slices(name: str, side: Target) -> None:
    model, factory, _ = make_model(name)
    for slice_size in (1, 7, 30, 100):
        assert_same_scores(model.eval(), factory, side, slice_size=slice_size)


def test_slices_bound_the_memory() -> None:
    """What PyKEEN needs for the gradients of one slice is not kept while the next one is scored."""
    model, factory, _ = make_model("kg2e")
    positives, candidates = candidates_of(factory)
    kept = {size: _kept_numbers(model, positives, candidates, size) for size in (None, 2)}
    assert kept[2] < 0.2 * kept[None]


def _kept_numbers(model: Model, positives: Tensor, candidates: Candidates, slice_size: int | None) -> int:
    kept = 0

    def pack(x: Tensor) -> Tensor:
        nonlocal kept
        kept += x.numel()
        return x

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda x: x):
        score_candidates(model, positives, {"tail": Candidates(candidates.shared)}, slice_size=slice_size)
    return kept


def test_slices_and_batch_normalisation() -> None:
    model, factory, _ = make_model("tucker")
    positives, candidates = candidates_of(factory)
    with pytest.raises(ValueError, match=r"slice_size=3 is impossible for TuckER.* make batches smaller"):
        score_candidates(model.train(), positives, {"tail": candidates}, slice_size=3)


# Bad input


def test_bad_input() -> None:
    model, factory, _ = make_model("distmult")
    positives, candidates = candidates_of(factory)
    with pytest.raises(ValueError, match=r"side='relation' is unknown; choose one of head, tail"):
        score_candidates(model, positives, {"relation": candidates})
    with pytest.raises(ValueError, match=r"slice_size=0 is not a whole number of at least 1"):
        score_candidates(model, positives, {"tail": candidates}, slice_size=0)


@pytest.mark.parametrize("takes_tails", [False, True])
def test_models_that_can_not_choose(takes_tails: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    base, factory, _ = make_model("fixedmodel")

    def all_tails(hr_batch: Tensor, *, mode: Any = None) -> Tensor:
        return type(base).score_t(base, hr_batch)

    def ignoring(hr_batch: Tensor, **_: Any) -> Tensor:
        return all_tails(hr_batch)

    monkeypatch.setattr(base, "score_t", ignoring if takes_tails else all_tails)
    positives, candidates = candidates_of(factory)
    with pytest.raises(ValueError, match=r"score_t of FixedModel .* argument 'tails'.* training_loop='slcwa'"):
        score_candidates(base, positives, {"tail": candidates})


# The table in the documentation


def test_table() -> None:
    """The documentation tells the form of each model, in training and with the options that PyKEEN gives it."""
    rows = re.findall(r"^    \* - (\w+)\n      - (\w+)\n      - (\w+)$", PAGE.read_text(encoding="utf-8"), re.MULTILINE)
    table = {model_resolver.normalize(model): (tail, head) for model, tail, head in rows[1:]}
    found = {}
    for name in sorted(set(model_resolver.lookup_dict) - set(LEFT_OUT)):
        names = form_names(make_model(name)[0].train())
        found[name] = (names["tail"], names["head"])
    assert table == found


@pytest.mark.parametrize("name", ["complex", "distmult", "rotate", "transe", "ermlp"])
@pytest.mark.parametrize("side", SIDES)
def test_vectors_of_entities_have_their_scores(name: str, side: str) -> None:
    """Vectors of no entity are scored as those of entities are."""
    model, factory, _ = make_model(name)
    positives, candidates = candidates_of(factory)
    assert candidates.own is not None
    vectors = model.entity_representations[0](candidates.own).detach()
    scores = score_candidates(model, positives, {side: candidates._replace(vectors=vectors)})[side]
    torch.testing.assert_close(scores.vectors, scores.own)
