"""Triples in any form, and their way into the ids by which a training knows them."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

import pandas as pd
import torch
from pykeen.triples import CoreTriplesFactory
from pykeen.typing import LongTensor, MappedTriples

from .frames import entity_labels
from .tables import nearest, read_table

__all__ = [
    "as_trained",
    "labels_of",
    "labels_to_ids",
    "mapped",
]

#: The largest number of unknown labels that an error names
_MAX_NAMED = 3


def labels_of(factory: CoreTriplesFactory) -> tuple[Mapping[str, int] | None, Mapping[str, int] | None]:
    """Get the labels of entities and relations.

    :param factory: a triples factory

    :returns: the mappings from labels to ids, without inverse relations; None where there are only ids
    """
    entities, relations = entity_labels(factory), getattr(factory, "relation_to_id", None)
    if entities is None or relations is None:
        return None, None
    # a label that pandas has read as a number, or as a missing value, is a string nevertheless
    entities, relations = ({str(label): number for label, number in each.items()} for each in (entities, relations))
    return entities, relations


def labels_to_ids(
    name: str, column: pd.Series, label_to_id: Mapping[str, int] | None, *, kind: str, number: int
) -> LongTensor:
    """Translate labels into ids.

    :param name: the argument's name, for errors
    :param column: the labels, or the ids where there are no labels
    :param label_to_id: the ids of labels, None where there are no labels
    :param kind: what they are labels of
    :param number: the number of ids

    :returns: shape: (len(column),)

    :raises ValueError: if a label is unknown, which is named, with valid ones that are like it
    """
    if label_to_id is None:
        label_to_id = {str(each): each for each in range(number)}
    found = column.astype(str).map(label_to_id)
    unknown = column[found.isna()].astype(str).unique().tolist()
    if unknown:
        named = ", ".join(f"{label!r}{nearest(label, label_to_id)}" for label in unknown[:_MAX_NAMED])
        more = f", and {len(unknown) - _MAX_NAMED} more" if len(unknown) > _MAX_NAMED else ""
        plural = kind if len(unknown) == 1 else {"entity": "entities"}.get(kind, f"{kind}s")
        raise ValueError(
            f"{name} has {len(unknown)} {plural} that the training triples do not have: {named}{more}; use the labels "
            f"of the training triples, or leave these rows out."
        )
    return torch.as_tensor(found.to_numpy(dtype="int64", copy=True))


def mapped(name: str, factory: CoreTriplesFactory, value: Any) -> MappedTriples:
    """Translate triples in any form into the ids of a triples factory, without inverse ones.

    :param name: the argument's name, for errors
    :param factory: the training triples factory
    :param value: ids, shape: (n, 3); another triples factory; labels, as an array of shape (n, 3) or in the first three
        columns of a data frame; or the path of a table without a header

    :returns: shape: (n, 3)

    :raises ValueError: if a label is unknown, or if it is none of these
    """
    if isinstance(value, CoreTriplesFactory):
        theirs, ours = labels_of(value), labels_of(factory)
        if theirs == ours or theirs[0] is None or ours[0] is None:
            return value.mapped_triples
        names = [
            {number: label for label, number in (each or {}).items()} for each in (theirs[0], theirs[1], theirs[0])
        ]
        table = pd.DataFrame(value.mapped_triples.numpy())
        value = pd.DataFrame({position: table[position].map(names[position]) for position in range(3)})
    elif isinstance(value, torch.Tensor):
        if value.ndim != 2 or value.shape[1] != 3:
            raise ValueError(f"{name} has shape {tuple(value.shape)}, but needs shape (n, 3).")
        return value.cpu().long()
    elif isinstance(value, str | os.PathLike):
        value = read_table(name, value, header=False)
    else:
        value = pd.DataFrame(value)
    if value.shape[1] < 3:
        raise ValueError(f"{name} has {value.shape[1]} columns; give heads, relations and tails.")
    entities, relations = labels_of(factory)
    head, relation, tail = (value.iloc[:, position] for position in range(3))
    return torch.stack(
        [
            labels_to_ids(name, head, entities, kind="entity", number=factory.num_entities),
            labels_to_ids(name, relation, relations, kind="relation", number=factory.real_num_relations),
            labels_to_ids(name, tail, entities, kind="entity", number=factory.num_entities),
        ],
        dim=-1,
    )


def as_trained(factory: CoreTriplesFactory, mapped_triples: MappedTriples | None = None) -> MappedTriples:
    """Translate triples into the ids by which a training on a factory knows them.

    :param factory: the training triples factory
    :param mapped_triples: shape: (n, 3) triples of the data set, default: the training triples

    :returns: shape: (n, 3), or (2 n, 3) where the factory creates inverse triples
    """
    triples = factory.mapped_triples if mapped_triples is None else mapped_triples
    if not factory.create_inverse_triples:
        return triples
    inverter = factory.relation_inverter
    return torch.cat([inverter.map(batch=triples), inverter.map(batch=triples, invert=True).flip(1)])
