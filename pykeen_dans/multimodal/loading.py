"""From what a user gives, files or tensors, to features that are aligned with the entities of a graph."""

from __future__ import annotations

import collections
import logging
import pathlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from pykeen.typing import BoolTensor, FloatTensor
from torch import Tensor, nn

from ..space.entity_space import real_view
from ..utils.frames import entity_labels, triples_factory_in_use
from .files import Rows, read_features, read_labels, read_texts
from .modality import STRUCTURAL, Modality, attached_modalities
from .text import encode_texts

__all__ = [
    "load_modalities",
    "modalities_in_use",
]

logger = logging.getLogger(__name__)

#: Where features come from; exactly one of them is needed
_SOURCES = ("path", "features", "text")
#: The options of each source
_OPTIONS: Mapping[str, frozenset[str]] = {
    "path": frozenset({"path", "labels", "strict"}),
    "features": frozenset({"features", "labels", "strict"}),
    "text": frozenset({"text", "encoder", "encoder_kwargs", "strict"}),
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
        - a tensor, an array, or a nested list of numbers, shape: (num_entities, dim)
        - a mapping with ``path``, or ``features`` (as in the line before), and optionally ``labels``: a list of the
          rows' labels, or the path of a file with one label in each line. A file with labels of its own has no need of
          them, and they are not used then.
        - a mapping with ``text``: the path of a tab-separated file of labels and texts, or a mapping from labels to
          texts; and optionally ``encoder`` and ``encoder_kwargs``, see
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
    loaded = []
    for name, value in (modalities or {}).items():
        if not name or name == STRUCTURAL:
            raise ValueError(
                f"modalities has the name {name!r}, which "
                f"{'is reserved for what the model learns from triples' if name else 'is empty'}; choose another one."
            )
        argument = f"modalities[{name!r}]"
        features = _Source(argument, num_entities=num_entities, entity_to_id=entity_to_id).load(value)
        loaded.append(_finish(name, argument, features))
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


def _finish(name: str, argument: str, features: FloatTensor) -> Modality:
    """Mask the entities that have no features."""
    covered: BoolTensor = (features != 0).any(dim=-1)
    if not bool(covered.any()):
        raise ValueError(f"{argument} covers none of {len(covered)} entities: all features are zero; give other ones.")
    modality = Modality(name=name, features=features, covered=covered)
    logger.info(
        "The %s modality has %d features, and covers %d of %d entities (%.1f %%).",
        name,
        modality.dim,
        int(covered.sum()),
        len(covered),
        100 * modality.coverage,
    )
    return modality


class _Source:
    """Loads one modality.

    :param argument: how errors call it
    :param num_entities: the number of entities
    :param entity_to_id: the labels of the entities, if they have any
    """

    def __init__(self, argument: str, *, num_entities: int, entity_to_id: Mapping[str, int] | None) -> None:
        """Initialise the source."""
        self.argument = argument
        self.num_entities = num_entities
        self.entity_to_id = entity_to_id

    def load(self, value: Any) -> FloatTensor:
        """Load features.

        :param value: what the user gave

        :returns: shape: (num_entities, dim) float32, zeros where an entity has none

        :raises ValueError: if that is not possible
        """
        if isinstance(value, Mapping):
            return self._load_mapping(value)
        if isinstance(value, str | pathlib.Path):
            return self._align(read_features(self.argument, value))
        if callable(value):
            return self._align(Rows(self._call(value)))
        return self._align(Rows(self._tensor(value)))

    def _load_mapping(self, options: Mapping[str, Any]) -> FloatTensor:
        given = [source for source in _SOURCES if source in options]
        if len(given) != 1:
            raise ValueError(
                f"{self.argument} has {' and '.join(given) or 'nothing'} of {', '.join(_SOURCES)}; a modality needs "
                f"exactly one of them. Give the other one as a modality of another name."
            )
        (source,) = given
        if unknown := sorted(set(options) - _OPTIONS[source]):
            raise ValueError(
                f"{self.argument} has unknown options {unknown}; choose among {', '.join(sorted(_OPTIONS[source]))}."
            )
        strict = bool(options.get("strict", False))
        if source == "text":
            return self._load_text(options, strict=strict)
        value = options[source]
        if source == "path":
            rows = read_features(f"{self.argument}['path']", value)
        else:
            rows = Rows(self._call(value) if callable(value) else self._tensor(value))
        if rows.labels is None and (labels := options.get("labels")) is not None:
            if isinstance(labels, str | pathlib.Path):
                labels = read_labels(f"{self.argument}['labels']", labels)
            rows = Rows(rows.features, [str(label) for label in labels])
        return self._align(rows, strict=strict)

    def _load_text(self, options: Mapping[str, Any], *, strict: bool) -> FloatTensor:
        text = options["text"]
        if isinstance(text, str | pathlib.Path):
            text = read_texts(f"{self.argument}['text']", text)
        if not isinstance(text, Mapping):
            raise ValueError(
                f"{self.argument}['text'] is a {type(text).__name__}; give the path of a table of labels and texts, or "
                f"a mapping from labels to texts."
            )
        if not any(map(str.strip, text.values())):
            raise ValueError(f"{self.argument}['text'] has {len(text)} texts, all of them empty; give some.")
        positions, ids = self._match(list(text), strict=strict)
        documents = [""] * self.num_entities
        values = list(text.values())
        for position, index in zip(positions, ids, strict=True):
            documents[index] = values[position].strip()
        if not any(documents):
            raise ValueError(f"{self.argument}['text'] has no text for any entity of the graph; check the labels.")
        return encode_texts(documents, encoder=options.get("encoder"), encoder_kwargs=options.get("encoder_kwargs"))

    def _call(self, value: Callable[..., Any]) -> Tensor:
        """Call a representation, or a function, and detach what it returns."""
        with torch.inference_mode(False), torch.no_grad():
            if not isinstance(value, nn.Module):
                return real_view(self._tensor(value()))
            training = value.training
            value.eval()
            try:
                # some representations know more ids than there are entities
                vectors = value(indices=None)
            finally:
                value.train(training)
            return real_view(vectors.detach())

    def _tensor(self, value: Any) -> Tensor:
        if isinstance(value, Tensor):
            return value.detach()
        if isinstance(value, Sequence) and any(isinstance(part, str | pathlib.Path) for part in value):
            raise ValueError(
                f"{self.argument} has {len(value)} files; give one, and the others as modalities of other names."
            )
        try:
            return torch.from_numpy(np.asarray(value, dtype=np.float32))
        except (ValueError, TypeError) as error:
            raise ValueError(
                f"{self.argument} is a {type(value).__name__} that does not make a matrix ({error}); give a path, a "
                f"tensor, a list of rows of equal length, or a mapping with 'path', 'features' or 'text'."
            ) from error

    def _align(self, rows: Rows, *, strict: bool = False) -> FloatTensor:
        """Bring rows into the order of ids."""
        features = rows.features.cpu().float()
        if features.ndim == 1:
            features = features[:, None]
        if features.ndim != 2 or features.shape[1] == 0:
            raise ValueError(
                f"{self.argument} has the shape {tuple(features.shape)}; give a matrix with one row for each entity."
            )
        if not bool((finite := torch.isfinite(features).all(dim=-1)).all()):
            raise ValueError(
                f"{self.argument} has NaN or infinite values in {int((~finite).sum())} of {len(finite)} rows; leave "
                f"these rows out, or fill them with zeros."
            )
        if rows.labels is None:
            if len(features) != self.num_entities:
                raise ValueError(
                    f"{self.argument} has {len(features)} rows, but there are {self.num_entities} entities. Entities "
                    f"which occur in no training triple have no id: give the labels of the rows, too, as "
                    f"{{'path': ..., 'labels': ...}}."
                )
            return features.clone()
        if len(rows.labels) != len(features):
            raise ValueError(
                f"{self.argument} has {len(features)} rows and {len(rows.labels)} labels; give one label for each row."
            )
        positions, ids = self._match(rows.labels, strict=strict)
        aligned = features.new_zeros(self.num_entities, features.shape[1])
        aligned[torch.tensor(ids)] = features[torch.tensor(positions)]
        return aligned

    def _match(self, labels: Sequence[str], *, strict: bool) -> tuple[list[int], list[int]]:
        """Find the entities of labels.

        :returns: the positions of labels that are known, and the ids of their entities
        """
        if self.entity_to_id is None:
            raise ValueError(
                f"{self.argument} comes with labels, but the entities have none: train on triples with labels (a "
                f"pykeen.triples.TriplesFactory), or give a matrix whose rows are in the order of ids."
            )
        if twice := [label for label, count in collections.Counter(labels).items() if count > 1]:
            raise ValueError(
                f"{self.argument} has {len(twice)} labels more than once, e.g. {twice[:5]}; keep one row for each."
            )
        positions = [position for position, label in enumerate(labels) if label in self.entity_to_id]
        unknown = [label for label in labels if label not in self.entity_to_id]
        if not positions or (strict and unknown):
            raise ValueError(
                f"{self.argument} has {len(unknown)} of {len(labels)} labels that no entity has, e.g. {unknown[:5]}; "
                f"entities are called e.g. {list(self.entity_to_id)[:2]}. Give the labels of the graph"
                + (", or leave out strict=True." if positions else ".")
            )
        if unknown:
            logger.log(
                logging.WARNING if len(positions) < len(unknown) else logging.INFO,
                "%s has %d of %d labels that no entity has, e.g. %s; their rows are left out.",
                self.argument,
                len(unknown),
                len(labels),
                unknown[:5],
            )
        return positions, [self.entity_to_id[labels[position]] for position in positions]
