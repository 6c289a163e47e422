"""From what a user gives, files or tensors, to features that are aligned with the entities of a graph."""

from __future__ import annotations

import collections
import logging
import os
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from pykeen.typing import BoolTensor, FloatTensor
from torch import Tensor, nn

from ..utils.frames import entity_labels, triples_factory_in_use
from ..utils.validation import validate_flag
from .files import read_features, read_texts
from .modality import STRUCTURAL, Modality, attached_modalities
from .text import encode_texts

__all__ = [
    "load_modalities",
    "modalities_in_use",
]

logger = logging.getLogger(__name__)

#: Where features come from, and the options beside it
_OPTIONS: Mapping[str, set[str]] = {
    "path": {"labels", "strict"},
    "features": {"labels", "strict"},
    "text": {"encoder", "encoder_kwargs", "strict"},
}


def load_modalities(
    modalities: Mapping[str, Any] | None,
    *,
    num_entities: int,
    entity_to_id: Mapping[str, int] | None,
) -> tuple[Modality, ...]:
    """Load modalities, and align their rows with the entities of a graph.

    Where labels are given, rows are aligned by them, in whatever order they come. Otherwise row ``i`` belongs to the
    entity of id ``i``, and there must be as many rows as entities. Rows that are missing, and rows of zeros, are not
    covered; the share of those that are is logged.

    :param modalities: a name and where its features come from, which is one of

        - a path of a file of features, see :func:`pykeen_dans.multimodal.files.read_features`
        - a tensor, an array, or a nested list of numbers, shape: (num_entities, dim); or a pandas table, which is
          aligned by its index, unless that is the default one
        - a mapping with ``path``, or ``features`` (as in the line before), and optionally ``labels``: a list of the
          rows' labels, or the path of a file with one label in each line. A file with labels of its own has no need of
          them, and they are not used then.
        - a mapping with ``text``: a table of labels and texts, or a mapping from labels to texts, see
          :func:`pykeen_dans.multimodal.files.read_texts`; and optionally ``encoder`` and ``encoder_kwargs``, see
          :data:`pykeen_dans.multimodal.text.text_encoder_resolver`
        - a PyKEEN representation, or a function without arguments that returns a tensor, shape: (num_entities, ...).
          They are called once, without gradients, and complex vectors are flattened into real ones.

        Mappings may have ``strict=True``, by which each label must be that of an entity. By default, features of
        unknown labels are left out, with a warning if that is the case for more than half of them; it is an error if
        no label is known.
    :param num_entities: the number of entities
    :param entity_to_id: the labels of the entities, or None where they have none

    :returns: the modalities, in the given order

    :raises ValueError: if a modality cannot be loaded, does not fit the entities, holds NaN or infinite values, or
        covers no entity
    """
    if modalities is not None and not isinstance(modalities, Mapping):
        raise ValueError(f"modalities is a {type(modalities).__name__}; give a mapping from names to features.")
    loaded = []
    for name, value in (modalities or {}).items():
        argument = f"modalities[{name!r}]"
        if not isinstance(name, str) or name in ("", STRUCTURAL):
            raise ValueError(
                f"modalities has the name {name!r}; choose a text that is not empty, and not {STRUCTURAL!r}, which is "
                f"reserved for what the model learns from triples."
            )
        if not isinstance(value, Mapping):
            value = {"path" if isinstance(value, str | os.PathLike) else "features": value}
        features = _features(argument, value, num_entities, entity_to_id)
        covered: BoolTensor = (features != 0).any(dim=-1)
        if not bool(covered.any()):
            raise ValueError(f"{argument} covers none of {num_entities} entities: all features are zero; give others.")
        modality = Modality(name=name, features=features, covered=covered)
        logger.info(
            "The %s modality has %d features, and covers %d of %d entities (%.1f %%).",
            *(name, modality.dim, int(covered.sum()), num_entities, 100 * modality.coverage),
        )
        loaded.append(modality)
    return tuple(loaded)


def modalities_in_use(modalities: Mapping[str, Any] | None, *, num_entities: int) -> tuple[Modality, ...]:
    """Load modalities for the training under way, or for the model that is being made.

    The labels of entities are those of its training triples. Outside of both, there are no labels.

    :param modalities: the modalities, as for :func:`load_modalities`, or None for those that the training triples bring
        along, see :func:`pykeen_dans.multimodal.attach_modalities`. An empty mapping is for none at all.
    :param num_entities: the number of entities

    :returns: the modalities

    :raises ValueError: as for :func:`load_modalities`
    """
    triples_factory = triples_factory_in_use()
    if triples_factory is not None and triples_factory.num_entities != num_entities:
        # a training of something else goes on around this one
        triples_factory = None
    if modalities is None:
        modalities = attached_modalities(triples_factory)
    return load_modalities(modalities, num_entities=num_entities, entity_to_id=entity_labels(triples_factory))


def _features(
    argument: str, options: Mapping[str, Any], num_entities: int, entity_to_id: Mapping[str, int] | None
) -> FloatTensor:
    """Load the features of one modality, shape: (num_entities, dim), zeros where an entity has none."""
    given = [source for source in _OPTIONS if source in options]
    if len(given) != 1:
        raise ValueError(
            f"{argument} has {' and '.join(given) or 'nothing'} of {', '.join(_OPTIONS)}; a modality needs exactly one "
            f"of them. Give the other one as a modality of another name."
        )
    (source,) = given
    if unknown := sorted(set(options) - {source} - _OPTIONS[source]):
        raise ValueError(
            f"{argument} has unknown options {unknown}; choose among {', '.join(sorted({source} | _OPTIONS[source]))}."
        )
    value, strict = options[source], validate_flag(f"{argument}['strict']", options.get("strict", False))
    if source == "text":
        name, given_texts, labels = read_texts(argument, value)
        texts = [""] * num_entities
        for position, index in _match(name, labels, entity_to_id, strict=strict):
            texts[index] = given_texts[position]
        if not any(texts):
            raise ValueError(f"{name} has no text for any entity of the graph; check the labels.")
        return encode_texts(texts, encoder=options.get("encoder"), encoder_kwargs=options.get("encoder_kwargs"))
    value = _call(value) if callable(value) else value
    name, features, row_labels = read_features(argument, value, labels=options.get("labels"))
    if row_labels is not None:
        positions, ids = torch.tensor(_match(name, row_labels, entity_to_id, strict=strict)).T
        return features.new_zeros(num_entities, features.shape[1]).index_copy(0, ids, features[positions])
    if len(features) != num_entities:
        raise ValueError(
            f"{name} has {len(features)} rows, but there are {num_entities} entities. Entities which occur in no "
            f"training triple have no id: give the labels of the rows, too, as {{'path': ..., 'labels': ...}}."
        )
    return features


def _call(value: Callable[..., Any]) -> Any:
    """Call a representation, or a function."""
    with torch.inference_mode(False), torch.no_grad():
        if not isinstance(value, nn.Module):
            vectors = value()
        else:
            training = value.training
            value.eval()
            try:
                vectors = value(indices=None)
            finally:
                value.train(training)
    return vectors.flatten(1) if isinstance(vectors, Tensor) and vectors.ndim > 2 else vectors


def _match(
    name: str, labels: Sequence[str], entity_to_id: Mapping[str, int] | None, *, strict: bool
) -> list[tuple[int, int]]:
    """Find the positions of labels that are known, and the ids of their entities."""
    if entity_to_id is None:
        raise ValueError(
            f"{name} comes with labels, but the entities have none: train on triples with labels (a "
            f"pykeen.triples.TriplesFactory), or give a matrix whose rows are in the order of ids."
        )
    if twice := [label for label, count in collections.Counter(labels).items() if count > 1]:
        raise ValueError(f"{name} has {len(twice)} labels more than once, e.g. {twice[:5]}; keep one row for each.")
    known = [(position, entity_to_id[label]) for position, label in enumerate(labels) if label in entity_to_id]
    unknown = [label for label in labels if label not in entity_to_id]
    if not known or (strict and unknown):
        raise ValueError(
            f"{name} has {len(unknown)} of {len(labels)} labels that no entity has, e.g. {unknown[:5]}; entities are "
            f"called e.g. {list(entity_to_id)[:2]}. Give the labels of the graph"
            + (", or leave out strict=True." if known else ".")
        )
    if unknown:
        logger.log(
            logging.WARNING if len(known) < len(unknown) else logging.INFO,
            "%s has %d of %d labels that no entity has, e.g. %s; their rows are left out.",
            *(name, len(unknown), len(labels), unknown[:5]),
        )
    return known
