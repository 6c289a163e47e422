"""A look at negatives: what they were, in one table, and the negatives themselves in another.

.. code-block:: python

    from pykeen.datasets import get_dataset
    from pykeen.pipeline import pipeline
    from pykeen_dans import describe, negatives_frame

    dataset = get_dataset(dataset="Nations")
    result = pipeline(dataset=dataset, model="ComplEx", training_loop="dans-kgc")
    table = describe(result, against=dataset)
    negatives = negatives_frame(result, against=dataset, per_band=2)

Everything here only reads: a training goes on afterwards as it would have gone on before.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd
import torch
from pykeen.datasets import Dataset
from pykeen.triples import CoreTriplesFactory
from pykeen.typing import MappedTriples

from ..graph import HEAD, TAIL
from ..utils.triples import as_trained, labels_of, mapped
from ..utils.validation import validate_at_least
from .judge import Judge
from .parts import RELATION, Part, fill, parts_in_store, parts_of_training, unnoticed
from .subject import Source, Subject, subject_of

__all__ = [
    "describe",
    "negatives_frame",
]

#: The quantiles of the rank percentiles
_QUANTILES = {"percentile": 0.5, "percentile_25": 0.25, "percentile_75": 0.75}
_SIDE_NAMES = {HEAD: "head", TAIL: "tail", RELATION: "relation"}
_FLIPPED = {"head": "tail", "tail": "head", "relation": "relation"}


def describe(
    source: Source,
    *,
    against: Dataset | Mapping[str, Any] | None = None,
    num_positives: int = 512,
    seed: int = 0,
    **kwargs: Any,
) -> pd.DataFrame:
    """Tell what the negatives of a sample of positives are.

    :param source: what to look at, see :func:`~pykeen_dans.inspection.subject.subject_of`: the result of a pipeline, a
        training loop, a sampler, a trained model, or a directory that PyKEEN has saved
    :param against: triples by which negatives are false: a data set, for its validation and test triples, or any
        triples by names of your own, see :func:`~pykeen_dans.utils.triples.mapped`
    :param num_positives: the size of the sample
    :param seed: the seed of the sample, and of the negatives
    :param kwargs: as for :func:`~pykeen_dans.inspection.subject.subject_of`

    :returns: a row for all that training draws together, one for each ``source`` of it, and one for each ``band`` of
        hardness in the bank, the easiest first. Sources are ``uniform`` and ``generated``; ``fixed``; those of PyKEEN
        by their name, as ``basic``; in loops that share negatives ``shared``, ``own`` for the candidates of each query,
        and ``vectors``. The columns:

        ``share``
            the share of all negatives
        ``count``
            the number of negatives in the sample
        ``acceptance``
            the share of draws that are used: not masked, not the positive itself, and not missing in the bank
        ``candidates``
            the mean number of distinct entities for a positive and side
        ``target``
            the target of the band
        ``percentile``, ``percentile_25``, ``percentile_75``
            the median and the quartiles of the rank percentile: the share of entities that the model scores higher
            than the negative, other known answers left out. 0 is the hardest, and chance is 0.5.
        ``known``
            the share of negatives that are training triples
        ``false_validation``, ``false_testing``, or ``false_`` and a name of yours
            the share of negatives that are true by these triples
        ``distinct``
            the number of distinct entities, as a share of the largest possible
        ``coverage``
            the same as a share of all entities

    :raises ValueError: if an argument is invalid
    """
    validate_at_least("num_positives", num_positives, 1)
    subject = subject_of(source, **kwargs)
    random = torch.Generator().manual_seed(seed)
    triples = subject.triples_factory.mapped_triples
    chosen = triples[torch.randperm(len(triples), generator=random)[:num_positives]]
    positives = as_trained(subject.triples_factory, chosen)
    judge = _judge(subject, against, random)
    with unnoticed(subject, seed):
        drawn = parts_of_training(subject, positives)
        stored = [part for part in parts_in_store(subject, positives, drawn) if part.band is not None]
        groups: dict[tuple[str, int | None], list[Part]] = {}
        for part in [*drawn, *stored]:
            groups.setdefault((part.source, part.band), []).append(part)
        if len({part.source for part in drawn}) > 1:
            groups = {("all", None): drawn, **groups}
        rows = [_row(judge, positives, *key, parts) for key, parts in groups.items()]
    return pd.DataFrame(rows).astype({"band": "Int64"})


def _judge(subject: Subject, against: Dataset | Mapping[str, Any] | None, random: torch.Generator) -> Judge:
    """Make the judge of a subject."""
    factory = subject.triples_factory
    if isinstance(against, Dataset):
        parts = {"validation": against.validation, "testing": against.testing}
        against = {name: part for name, part in parts.items() if part is not None}
    return Judge(
        training=as_trained(factory),
        num_entities=factory.num_entities,
        num_relations=factory.num_relations,
        truth={
            name: as_trained(factory, mapped(f"against[{name!r}]", factory, value))
            for name, value in (against or {}).items()
        },
        model=subject.model,
        random=random,
    )


def _row(judge: Judge, positives: MappedTriples, source: str, band: int | None, parts: list[Part]) -> dict[str, Any]:
    """Sum up some parts."""
    of_ids = [part for part in parts if part.vectors is None]
    triples = torch.cat([fill(positives, part.side, part.ids)[part.ids >= 0] for part in of_ids] or [positives[:0]])
    of_entities = [part.ids[part.ids >= 0] for part in of_ids if part.side != RELATION]
    entities = torch.cat(of_entities) if of_entities else torch.empty(0)
    num_distinct, present = len(entities.unique()), len(entities) > 0
    percentiles = torch.cat([judge.percentiles(positives, part).flatten() for part in parts])
    count = sum(part.count for part in parts)
    return {
        "source": source,
        "band": band,
        "share": sum(part.share for part in parts),
        "count": count,
        "acceptance": count / max(1, sum(part.wanted for part in parts)),
        "candidates": _num_candidates(of_ids),
        "target": parts[0].target,
        **{name: percentiles.nanquantile(quantile).item() for name, quantile in _QUANTILES.items()},
        **{name: filterer.contains(triples).float().mean().item() for name, filterer in _truth(judge).items()},
        "distinct": num_distinct / min(len(entities), judge.num_entities) if present else math.nan,
        "coverage": num_distinct / judge.num_entities if present else math.nan,
    }


def _truth(judge: Judge) -> dict[str, Any]:
    return {"known": judge.known, **{f"false_{name}": filterer for name, filterer in judge.truth.items()}}


def _num_candidates(parts: Sequence[Part]) -> float:
    """Count the distinct candidates of a positive and side, in the mean."""
    counts = []
    for part in parts:
        ordered = part.ids.sort(dim=1).values
        first = torch.ones_like(ordered, dtype=torch.bool)
        first[:, 1:] = ordered[:, 1:] != ordered[:, :-1]
        counts.append((first & (ordered >= 0)).sum(dim=1).float())
    return torch.cat(counts).mean().item() if counts else math.nan


def negatives_frame(
    source: Source,
    positives: Any = None,
    *,
    num_positives: int | None = 10,
    per_band: int | None = None,
    against: Dataset | Mapping[str, Any] | None = None,
    names: Mapping[str, str] | None = None,
    seed: int = 0,
    **kwargs: Any,
) -> pd.DataFrame:
    """List negatives: those of each band in the bank, and what training draws beside them.

    :param source: as for :func:`describe`
    :param positives: the positives, in any form that :func:`~pykeen_dans.utils.triples.mapped` takes, default: a sample
        of the training triples
    :param num_positives: the size of this sample, None for all of them
    :param per_band: the largest number of negatives for each positive, side, source and band, which are random ones,
        default: all of them
    :param against: as for :func:`describe`
    :param names: readable names of labels, as those of Wikidata's identifiers, for further columns
    :param seed: the seed of the sample, and of the negatives
    :param kwargs: as for :func:`~pykeen_dans.inspection.subject.subject_of`

    :returns: a row for each negative: the positive (``head``, ``relation``, ``tail``) and the ``side`` that the
        ``negative`` takes, by labels where there are any; its ``source`` and ``band``, its rank ``percentile``, whether
        it is ``known`` from training, and whether it is true by each of the other triples (``false_validation``, ...).
        Inverse triples are written the right way round. It can be saved, and used by
        :class:`~pykeen_dans.sampling.fixed.FixedNegativeSampler`.

    :raises ValueError: if an argument is invalid, or if there is no negative for these positives
    """
    if per_band is not None:
        validate_at_least("per_band", per_band, 1)
    subject = subject_of(source, **kwargs)
    factory = subject.triples_factory
    random = torch.Generator().manual_seed(seed)
    if positives is None:
        size = None if num_positives is None else validate_at_least("num_positives", num_positives, 1)
        order = torch.randperm(factory.num_triples, generator=random)
        chosen = factory.mapped_triples if size is None else factory.mapped_triples[order[:size]]
    else:
        chosen = mapped("positives", factory, positives)
    if len(chosen) == 0:
        raise ValueError("positives is empty; give at least one triple.")
    # in a random order, as training has it: PyKEEN's samplers replace the heads of the first half of a batch
    order = torch.randperm(len(chosen) * (1 + factory.create_inverse_triples), generator=random)
    trained = as_trained(factory, chosen)[order]
    judge = _judge(subject, against, random)
    with unnoticed(subject, seed):
        drawn = parts_of_training(subject, trained)
        stored = parts_in_store(subject, trained, drawn)
        instead = {part.source for part in stored}
        parts = [part for part in drawn if part.source not in instead and part.vectors is None] + stored
        tables = [_table(judge, trained, part, per_band, random) for part in parts]
    frame = pd.concat([table for table in tables if len(table)] or tables[:1])
    if frame.empty:
        raise ValueError(
            f"positives: there is no negative for any of these {len(chosen)} triples; choose others, or train longer."
        )
    frame["positive"] = order.numpy()[frame["positive"]]
    # the inverse of a triple is read from its tail to its head
    inverse = frame["positive"] >= len(chosen)
    frame["positive"] %= len(chosen)
    frame.loc[inverse, ["head", "tail"]] = frame.loc[inverse, ["tail", "head"]].to_numpy()
    frame.loc[inverse, "side"] = frame.loc[inverse, "side"].map(_FLIPPED)
    frame = frame.sort_values(["positive", "side"], kind="stable").drop(columns="positive").reset_index(drop=True)
    return _with_labels(frame, factory, names).astype({"band": "Int64"})


def _table(
    judge: Judge, positives: MappedTriples, part: Part, limit: int | None, random: torch.Generator
) -> pd.DataFrame:
    """List the negatives of a part, by ids.

    :param judge: tells what they are
    :param positives: shape: (n, 3) in the ids of training
    :param part: the part
    :param limit: the largest number of each positive, or None
    :param random: the source of randomness

    :returns: the table, with the number of the positive
    """
    ids = part.ids
    if part.band is not None:
        ids = _distinct(ids)
    if limit is not None:
        # the largest of random numbers, among those that are there
        keys = torch.rand(ids.shape, generator=random).masked_fill(ids < 0, -1.0)
        ids = ids.gather(1, keys.topk(min(limit, ids.shape[1]), dim=1).indices.sort(dim=1).values)
    part = Part(part.source, part.side, ids, band=part.band)
    row, slot = (ids >= 0).nonzero(as_tuple=True)
    triples = fill(positives, part.side, ids)[row, slot]
    columns = {
        "positive": row,
        "head": positives[row, 0],
        "relation": positives[row, 1],
        "tail": positives[row, 2],
        "side": _SIDE_NAMES[part.side],
        "negative": ids[row, slot],
        "source": part.source,
        "band": part.band,
        "percentile": judge.percentiles(positives, part)[row, slot],
        **{name: filterer.contains(triples) for name, filterer in _truth(judge).items()},
    }
    return pd.DataFrame(
        {name: each.numpy() if isinstance(each, torch.Tensor) else each for name, each in columns.items()}
    )


def _distinct(ids: torch.Tensor) -> torch.Tensor:
    """Leave one of equal ids in each row."""
    ordered = ids.sort(dim=1).values
    again = torch.zeros_like(ordered, dtype=torch.bool)
    again[:, 1:] = ordered[:, 1:] == ordered[:, :-1]
    return ordered.masked_fill(again, -1)


def _with_labels(frame: pd.DataFrame, factory: CoreTriplesFactory, names: Mapping[str, str] | None) -> pd.DataFrame:
    """Replace ids by labels, and add readable names."""
    entity_to_id, relation_to_id = labels_of(factory)
    of_relation = frame["side"] == _SIDE_NAMES[RELATION]
    if factory.create_inverse_triples:
        frame["relation"] //= 2
        frame["negative"] = frame["negative"].where(~of_relation, frame["negative"] // 2)
    if entity_to_id is not None and relation_to_id is not None:
        entities, relations = (
            {number: label for label, number in each.items()} for each in (entity_to_id, relation_to_id)
        )
        negatives = frame["negative"]
        frame["negative"] = negatives.map(entities).where(~of_relation, negatives.map(relations))
        for column, labels in (("head", entities), ("relation", relations), ("tail", entities)):
            frame[column] = frame[column].map(labels)
    if names is not None:
        known = {str(label): name for label, name in names.items()}
        for column in ("head", "relation", "tail", "negative"):
            labels = frame[column].astype(str)
            frame.insert(frame.columns.get_loc(column) + 1, f"{column}_name", labels.map(known).fillna(labels))
    return frame
