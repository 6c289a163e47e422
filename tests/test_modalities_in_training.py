"""What a sampler finds out about the training around it: the labels of entities, and the features of the data set."""

from __future__ import annotations

import json
import pathlib
from typing import Any

import pytest
import torch
from pykeen.datasets import get_dataset
from pykeen.models import TransE
from pykeen.pipeline import pipeline
from pykeen.sampling import BasicNegativeSampler
from pykeen.training import SLCWATrainingLoop
from pykeen.triples import CoreTriplesFactory

from pykeen_dans.multimodal import (
    Modality,
    attach_modalities,
    attached_modalities,
    modalities_in_use,
)
from pykeen_dans.utils.frames import entity_labels, triples_factory_in_use


class Recording(BasicNegativeSampler):
    """Notes what it finds out about its training."""

    found: list[tuple[Any, Any, tuple[Modality, ...]]]

    def __init__(self, *, mapped_triples: torch.Tensor, **kwargs: Any) -> None:
        super().__init__(mapped_triples=mapped_triples, **kwargs)
        factory = triples_factory_in_use()
        self.found.append((factory, entity_labels(factory), modalities_in_use(None, num_entities=self.num_entities)))


def train(training: CoreTriplesFactory, **kwargs: Any) -> list[tuple[Any, Any, tuple[Modality, ...]]]:
    """Train for a moment, and return what the samplers found out."""
    Recording.found = []
    pipeline(
        training=training,
        testing=training,
        model="TransE",
        model_kwargs=dict(embedding_dim=2),
        negative_sampler=Recording,
        random_seed=0,
        epochs=1,
        training_kwargs=dict(use_tqdm=False, **kwargs),
        evaluation_kwargs=dict(use_tqdm=False, batch_size=32),
    )
    return Recording.found


@pytest.mark.parametrize("inverse", [False, True])
def test_training_is_found(inverse: bool, isolated_cache: pathlib.Path) -> None:
    """In PyKEEN's own pipeline, a sampler finds the labels of its entities, and the features that come with them."""
    training = get_dataset(dataset="nations", dataset_kwargs=dict(create_inverse_triples=inverse)).training
    labels = training.entity_to_id
    attach_modalities(training, dict(textual=dict(text={label: f"the nation of {label}" for label in labels})))
    # the metadata hold nothing but JSON
    assert json.loads(json.dumps(attached_modalities(training))) == attached_modalities(training)
    validation = training.clone_and_exchange_triples(training.mapped_triples[:50])
    found = train(training, callbacks="evaluation-loss", callbacks_kwargs=dict(triples_factory=validation))
    # PyKEEN makes a sampler for size probing, for the training, and for its validation loss, which find the same
    assert len(found) == 3
    for factory, mapping, modalities in found:
        assert factory is training
        assert mapping == labels
        assert [modality.name for modality in modalities] == ["textual"]
    assert triples_factory_in_use() is None
    assert modalities_in_use(None, num_entities=training.num_entities) == ()


def test_training_without_labels() -> None:
    """Triples that have only ever been integers have no labels, and may have features by id all the same."""
    training = get_dataset(dataset="nations").training
    core = CoreTriplesFactory.create(training.mapped_triples)
    factory, mapping, modalities = train(core)[-1]
    assert (factory, mapping, modalities) == (core, None, ())
    attach_modalities(core, dict(numeric=torch.ones(core.num_entities, 1)))
    *_, (modality,) = train(core)[-1]
    assert modality.name == "numeric"


class Nested(Recording):
    """Trains something else before it looks, and while it does."""

    def __init__(self, *, mapped_triples: torch.Tensor, **kwargs: Any) -> None:
        other = get_dataset(dataset="kinships").training
        Recording.found = []
        short_training(other, negative_sampler=Recording)
        ((factory, _, _),) = Recording.found
        assert factory is other
        super().__init__(mapped_triples=mapped_triples, **kwargs)


def short_training(training: CoreTriplesFactory, **kwargs: Any) -> None:
    """Train for one epoch, without PyKEEN's pipeline."""
    model = TransE(triples_factory=training, embedding_dim=2, random_seed=0)
    loop = SLCWATrainingLoop(
        model=model,
        triples_factory=training,
        optimizer=torch.optim.Adam(model.parameters()),
        automatic_memory_optimization=False,
        **kwargs,
    )
    loop.train(training, num_epochs=1, batch_size=1024, use_tqdm=False)


def test_nested_trainings() -> None:
    """Of trainings inside of trainings, as that of a reference embedding, the innermost one counts."""
    training = get_dataset(dataset="nations").training
    short_training(training, negative_sampler=Nested)
    assert Recording.found[-1][0] is training


def test_features_of_another_graph_are_left_alone() -> None:
    """Who has another number of entities than the training around is not given its features."""

    class Smaller(BasicNegativeSampler):
        def __init__(self, *, mapped_triples: torch.Tensor, **kwargs: Any) -> None:
            super().__init__(mapped_triples=mapped_triples, **kwargs)
            assert len(modalities_in_use(None, num_entities=self.num_entities)) == 1
            assert modalities_in_use(None, num_entities=self.num_entities - 1) == ()
            # no features are asked for, and none are given
            assert modalities_in_use({}, num_entities=self.num_entities) == ()

    training = get_dataset(dataset="nations").training
    attach_modalities(training, dict(numeric=torch.ones(training.num_entities, 1)))
    short_training(training, negative_sampler=Smaller)


def test_bad_features_stop_before_training() -> None:
    """The pipeline fails before the first batch."""
    training = get_dataset(dataset="nations").training
    attach_modalities(training, dict(visual=torch.ones(3, 2)))
    with pytest.raises(ValueError, match="has 3 rows, but there are 14 entities"):
        train(training)


def test_metadata_survive_files_and_splits(tmp_path: pathlib.Path) -> None:
    """PyKEEN hands features on by itself, when it writes, reads, or splits triples."""
    training = get_dataset(dataset="nations").training
    training = training.clone_and_exchange_triples(training.mapped_triples)
    attach_modalities(training, dict(visual="x.pth"))
    training.to_path_binary(tmp_path)
    for other in (type(training).from_path_binary(tmp_path), *training.split(random_state=0)):
        assert attached_modalities(other) == dict(visual="x.pth")
