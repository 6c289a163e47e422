"""Models use features of entities by a representation that takes the place of their embedding."""

from __future__ import annotations

import json
import logging
import pathlib
from typing import Any

import pytest
import torch
from pykeen.datasets import get_dataset
from pykeen.models import ERModel, model_resolver
from pykeen.nn import Embedding, representation_resolver
from pykeen.pipeline import pipeline
from pykeen.triples import TriplesFactory

from pykeen_dans.multimodal import attach_modalities
from pykeen_dans.multimodal.representation import MultimodalRepresentation

#: The first entity has features in no modality, the second one in one of them
NUM_ENTITIES = 6
COVERED = torch.tensor([[1, 1, 1, 1, 1, 1], [0, 1, 1, 1, 1, 1], [0, 0, 1, 1, 1, 1]], dtype=torch.bool).T


def make_modalities() -> dict[str, Any]:
    """Make features of two modalities, of very different sizes."""
    random = torch.Generator().manual_seed(0)
    textual, visual = (torch.randn(NUM_ENTITIES, dim, generator=random) for dim in (3, 5))
    return dict(
        textual=(100 * textual * COVERED[:, 1, None]).tolist(), visual=(0.01 * visual * COVERED[:, 2, None]).tolist()
    )


def make(**kwargs: Any) -> MultimodalRepresentation:
    """Make a small representation."""
    torch.manual_seed(0)
    return MultimodalRepresentation(**{"max_id": NUM_ENTITIES, "shape": 4, "modalities": make_modalities(), **kwargs})


@pytest.mark.parametrize("dtype", [torch.float32, torch.complex64])
@pytest.mark.parametrize("shape", [4, (2, 3)])
def test_shapes(shape: Any, dtype: torch.dtype) -> None:
    """It has the shape and the numbers of the embedding in whose place it is."""
    representation, embedding = make(shape=shape, dtype=dtype), Embedding(max_id=6, shape=shape, dtype=dtype)
    assert representation.shape == embedding.shape
    for indices in (None, torch.tensor([1, 5, 1]), torch.tensor([[0, 1], [2, 2]])):
        ours, theirs = representation(indices), embedding(indices)
        assert (ours.shape, ours.dtype) == (theirs.shape, theirs.dtype)
    assert torch.allclose(representation(torch.tensor([[4, 2]]))[0], representation(None)[[4, 2]])


@pytest.mark.parametrize("unique", [True, False])
def test_fusion(unique: bool) -> None:
    """Vectors are summed with the softmax of a(tanh(x)) as weights."""
    representation = make(unique=unique)
    assert representation.names == ("structural", "textual", "visual")
    views, covered = representation.views()
    assert torch.equal(covered, COVERED)
    assert torch.equal(views[:, 0], representation.structural(None))
    logits = views.tanh() @ representation.attention.weight[0]
    expected = []
    for logit, view, mask in zip(logits, views, COVERED, strict=True):
        weight = logit[mask].exp() / logit[mask].exp().sum()
        expected.append((weight[:, None] * view[mask]).sum(dim=0))
    assert torch.allclose(representation(None), torch.stack(expected), atol=1e-6)


def test_uncovered_entities_fall_back() -> None:
    """An entity without features has its structural vector, and not the bias of a projection."""
    representation = make()
    assert torch.allclose(representation(None)[0], representation.structural(None)[0])
    weights = representation.weights(*representation.views())
    assert weights[0].tolist() == [1, 0, 0]
    assert weights[1, 2] == 0 and weights[1, 1] > 0
    assert torch.allclose(weights.sum(dim=-1), torch.ones(NUM_ENTITIES))


def test_complex_is_fused_as_real() -> None:
    """Both parts of a complex number have one weight."""
    representation = make(dtype=torch.complex64)
    views, covered = representation.views()
    # one modality alone is what it was
    alone = torch.tensor([True, False, False]).expand(NUM_ENTITIES, -1)
    assert torch.equal(representation.fuse(views, alone), representation.structural(None))
    weights = representation.weights(views, covered)
    expected = sum(weights[:, m, None] * torch.view_as_complex(views[:, m].reshape(6, 4, 2)) for m in range(3))
    assert torch.allclose(representation(None), expected, atol=1e-6)


def test_gradients() -> None:
    """Gradients reach the embedding, the projections and the attention, and features stay fixed."""
    representation = make()
    representation(torch.tensor([2, 3])).pow(2).sum().backward()
    for name, parameter in representation.named_parameters():
        assert parameter.grad is not None and parameter.grad.any(), name
    assert {name for name, _ in representation.named_parameters()} == {
        "structural._embeddings.weight",
        "projections.0.linear.weight",
        "projections.0.linear.bias",
        "projections.1.linear.weight",
        "projections.1.linear.bias",
        "attention.weight",
    }


def test_gradients_of_uncovered_entities() -> None:
    """An entity without features trains no projection, and its own vector is trained in full."""
    representation = make()
    representation(torch.tensor([0])).sum().backward()
    assert not representation.projections[0].linear.weight.grad.any()
    assert representation.structural._embeddings.weight.grad[0].tolist() == [1, 1, 1, 1]


def test_equal_sizes_at_the_beginning() -> None:
    """However large features are, the projected vectors begin at the size of the structural ones."""
    representation = make(shape=64, initializer="normal", initializer_kwargs=dict(std=0.03))
    for module in (representation.structural, representation):
        module.reset_parameters()
    views, covered = representation.views()
    for m in range(3):
        assert views[covered[:, m], m].pow(2).mean().sqrt().item() == pytest.approx(0.03, rel=0.2)


def test_parameters_of_embedding_and_of_output() -> None:
    """What a model says of its embedding goes there, and regularisation and dropout act on the fused vectors."""
    representation = make(trainable=False, constrainer="normalize", regularizer="lp", dropout=0.5)
    assert not representation.structural._embeddings.weight.requires_grad
    assert representation.structural.constrainer is not None
    assert representation.structural.regularizer is None and representation.structural.dropout is None
    assert representation.regularizer is not None and representation.dropout is not None
    # by PyKEEN's rule: random vectors of one entity differ
    assert not representation.unique


def test_structural_may_be_another_one() -> None:
    """Any representation of PyKEEN can be the structural one."""
    representation = make(structural="low-rank", num_bases=2)
    assert type(representation.structural).__name__ == "LowRankRepresentation"
    assert representation(None).shape == (NUM_ENTITIES, 4)


def test_errors() -> None:
    """Without features it is of no use, and they have to fit."""
    with pytest.raises(ValueError, match=r"modalities has no features.*attach_modalities"):
        make(modalities=None)
    with pytest.raises(ValueError, match="6 rows, but there are 7 entities"):
        make(max_id=7)


def test_names() -> None:
    """PyKEEN knows it by name."""
    assert representation_resolver.lookup("multimodal") is MultimodalRepresentation


def nations() -> TriplesFactory:
    """Get a small graph with texts for a part of its entities, and images for another."""
    training = get_dataset(dataset="nations").training
    training = training.clone_and_exchange_triples(training.mapped_triples)
    labels = sorted(training.entity_to_id)
    images = torch.randn(len(labels), 6, generator=torch.Generator().manual_seed(0))
    attach_modalities(
        training,
        dict(
            textual=dict(text={label: f"the nation of {label}" for label in labels[:10]}),
            visual=dict(features=images[2:].tolist(), labels=labels[2:]),
        ),
    )
    return training


def train(training: TriplesFactory, model: Any, **kwargs: Any) -> Any:
    """Train a small model."""
    return pipeline(
        training=training,
        testing=training,
        model=model,
        random_seed=0,
        epochs=10,
        optimizer="Adam",
        optimizer_kwargs=dict(lr=0.05),
        training_kwargs=dict(use_tqdm=False, batch_size=256),
        evaluation_kwargs=dict(use_tqdm=False, batch_size=64),
        **kwargs,
    )


@pytest.mark.parametrize("model", ["RotatE", "ComplEx", "TransE", "DistMult", "TuckER"])
def test_pipeline(model: str, isolated_cache: pathlib.Path, caplog: pytest.LogCaptureFixture) -> None:
    """Named models are trained with it, by one JSON-able argument, and everything in it learns."""
    kwargs = dict(embedding_dim=8, entity_representations="multimodal")
    assert json.loads(json.dumps(kwargs)) == kwargs
    training = nations()
    with caplog.at_level(logging.INFO, logger="pykeen_dans"):
        result = train(training, model, model_kwargs=kwargs)
    assert "textual modality" in caplog.text and "covers 10 of 14 entities" in caplog.text
    assert result.losses[-1] < result.losses[0]
    (representation,) = result.model.entity_representations
    assert isinstance(representation, MultimodalRepresentation)
    assert isinstance(representation.structural, Embedding)
    assert representation(None).is_complex() == (model in {"RotatE", "ComplEx"})
    torch.manual_seed(0)
    untrained = model_resolver.make(model, kwargs, triples_factory=training, random_seed=0)
    for (name, before), after in zip(
        untrained.entity_representations[0].named_parameters(), representation.parameters(), strict=True
    ):
        assert not torch.allclose(before, after), name
    _, covered = representation.views()
    assert covered.sum(dim=0).tolist() == [14, 10, 12]


def test_pipeline_with_explicit_features() -> None:
    """Features can be given to the representation, and go before those of the training triples."""
    features = torch.eye(14).tolist()
    result = train(
        nations(),
        ERModel,
        model_kwargs=dict(
            interaction="distmult",
            entity_representations="multimodal",
            entity_representations_kwargs=dict(shape=8, modalities=dict(numeric=features)),
            relation_representations_kwargs=dict(shape=8),
        ),
    )
    assert result.model.entity_representations[0].names == ("structural", "numeric")
    assert result.losses[-1] < result.losses[0]


def test_interaction_of_pipeline(isolated_cache: pathlib.Path) -> None:
    """It goes with interactions that PyKEEN makes a model of."""
    result = pipeline(
        training=nations(),
        testing=nations(),
        interaction="TransE",
        interaction_kwargs=dict(p=2),
        dimensions=8,
        model_kwargs=dict(entity_representations="multimodal"),
        random_seed=0,
        epochs=1,
        training_kwargs=dict(use_tqdm=False, batch_size=256),
        evaluation_kwargs=dict(use_tqdm=False, batch_size=64),
    )
    assert isinstance(result.model.entity_representations[0], MultimodalRepresentation)


def test_features_help_where_triples_are_few() -> None:
    """Where the answers depend on a feature, a model finds them for entities of which it has seen one triple only.

    Each entity of a kind is linked with all members of one group; of the entities to be tested, one link is known. The
    kind is what the feature tells.
    """
    num_kinds, size = 4, 12
    kinds = torch.arange(num_kinds * size) % num_kinds
    triples = [
        (entity, 0, len(kinds) + kind * size + member)
        for entity, kind in enumerate(kinds.tolist())
        for member in range(size)
    ]
    known = torch.tensor([triple for triple in triples if triple[0] < 24 or triple[2] % size == 0])
    held_out = torch.tensor([triple for triple in triples if triple[0] >= 24 and triple[2] % size != 0])
    num_entities = 2 * len(kinds)
    labels = {str(index): index for index in range(num_entities)}
    training = TriplesFactory(mapped_triples=known, entity_to_id=labels, relation_to_id={"likes": 0})
    testing = TriplesFactory(mapped_triples=held_out, entity_to_id=labels, relation_to_id={"likes": 0})
    features = torch.zeros(num_entities, num_kinds)
    features[torch.arange(len(kinds)), kinds] = 1
    attach_modalities(training, dict(numeric=features))
    scores = {}
    for name in ("embedding", "multimodal"):
        result = pipeline(
            training=training,
            testing=testing,
            model="DistMult",
            model_kwargs=dict(embedding_dim=16, entity_representations=name),
            random_seed=0,
            epochs=30,
            optimizer="Adam",
            optimizer_kwargs=dict(lr=0.02),
            loss="crossentropy",
            negative_sampler_kwargs=dict(num_negs_per_pos=8),
            training_kwargs=dict(use_tqdm=False, batch_size=64),
            evaluation_kwargs=dict(use_tqdm=False, batch_size=64),
        )
        scores[name] = result.get_metric("tail.realistic.inverse_harmonic_mean_rank")
    assert scores["multimodal"] > scores["embedding"] + 0.05
