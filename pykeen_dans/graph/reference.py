"""The reference embedding: a space for entities before, or without, a model under training.

The difficulty of entities and their types need "embeddings pre-trained with TransE or similar" (from a secondary
summary of the paper); a sampler without a live model generates in this space, too. How it is trained is our choice: by
TransE (Bordes et al., 2013) with the L2 norm, on the training triples only, briefly, and once for each graph, since it
is kept on disk. The loop is our own, since PyKEEN's draws from torch's global generator, from which threads beside it
may draw as well; it is also twice as quick for the same quality (CoDEx-S: 6 s instead of 15 s).
"""

from __future__ import annotations

import dataclasses
import inspect
import math
import weakref
from collections.abc import Mapping
from typing import Any

import torch
from pykeen.typing import FloatTensor, LongTensor, MappedTriples
from torch.nn import functional

from ..utils.frames import shows_progress
from ..utils.randomness import one_thread, single_precision
from ..utils.storage import cached_tensors, content_key
from ..utils.validation import validate_at_least, validate_choice, validate_flag, validate_mapping

__all__ = [
    "REFERENCE_KINDS",
    "ReferenceEmbedding",
    "ReferencePlan",
    "reference_embedding",
    "validate_reference_kwargs",
]

#: How the vectors are made
REFERENCE_KINDS = ("transe", "random")

#: Changes when the same arguments are to give another embedding, so that files of older versions are not used
_VERSION = 2

# Chosen on the validation triples of CoDEx-S and FB15k-237; the L2 norm suits K-means and diffusion
_MARGIN = 0.35
_LEARNING_RATE = 0.005
#: Random heads, and as many random tails, for each triple
_NUM_NEGATIVES = 2

#: The usual number of passes over the triples. More do not pay: on Nations, 24 give a validation MRR of .386, 48 give
#: .391 and 94 give .390; on UMLS, 24 give .540 and 48 give .544
_PASSES = 24
#: The least and the largest number of triples that are seen, all passes taken together
_MIN_SEEN, _MAX_SEEN = 20_000, 3_500_000
_MIN_BATCH, _MAX_BATCH, _LARGEST_BATCH = 32, 2_048, 65_536
#: Progress is shown of what takes longer, in seconds
_PATIENCE = 2.0


@dataclasses.dataclass(frozen=True, eq=False)
class ReferenceEmbedding:
    """Vectors in which a relation moves its heads towards its tails, ``entity + relation = entity``.

    :param entities: shape: (num_entities, dim) float32, of unit length
    :param relations: shape: (num_relations, dim) float32
    """

    entities: FloatTensor
    relations: FloatTensor


@dataclasses.dataclass(frozen=True)
class ReferencePlan:
    """How much training a graph gets.

    :param num_seen: the number of triples that are seen, all passes taken together
    :param batch_size: the number of triples of one update
    """

    num_seen: int
    batch_size: int

    @classmethod
    def create(cls, *, num_triples: int, num_entities: int, num_epochs: int | None = None) -> ReferencePlan:
        """Choose how much training a graph gets.

        Without a number of epochs, there are 24 passes over the triples, but at least 20 thousand and at most 3.5
        million triples are seen. A graph with more triples than that is seen in part only, by a random sample. The
        batch is a power of 2 around a 32nd of the triples, between 32 and 2 048, or around a 32nd of the entities if
        that is more (at most 65 536), since each update costs time for each entity. So the time is bounded for any
        number of triples, and memory holds four copies of the vectors and one batch.

        :param num_triples: the number of triples
        :param num_entities: the number of entities
        :param num_epochs: the number of passes over all triples, which is then kept to whatever it costs

        :returns: the plan
        """
        if num_epochs is None:
            num_seen = min(max(_PASSES * num_triples, _MIN_SEEN), _MAX_SEEN)
        else:
            num_seen = num_epochs * num_triples
        by_triples = min(max(num_triples // 32, _MIN_BATCH), _MAX_BATCH)
        by_entities = min(num_entities // 32, _LARGEST_BATCH)
        return cls(num_seen=num_seen, batch_size=2 ** round(math.log2(max(by_triples, by_entities))))

    @property
    def num_updates(self) -> int:
        """The number of updates."""
        return math.ceil(self.num_seen / self.batch_size)


def _train(
    table: FloatTensor,
    *,
    num_entities: int,
    triples: LongTensor,
    plan: ReferencePlan,
    random: torch.Generator,
    use_tqdm: bool,
) -> None:
    """Train TransE in place: margin ranking loss, Adam, and entities of unit length after each update."""
    from tqdm.auto import trange

    table.requires_grad_()
    optimizer = torch.optim.Adam([table], lr=_LEARNING_RATE)
    order: LongTensor = torch.empty(0, dtype=torch.long)
    left = plan.num_seen
    for _ in trange(
        plan.num_updates,
        desc="Training the reference embedding",
        unit="update",
        delay=_PATIENCE,
        disable=not use_tqdm,
    ):
        size = min(plan.batch_size, left)
        left -= size
        while len(order) < size:
            order = torch.cat([order, torch.randperm(len(triples), generator=random)])
        batch, order = triples[order[:size]], order[size:]
        wrong = torch.randint(num_entities, (2 * _NUM_NEGATIVES, size), generator=random)
        # one look-up for all of them, since each costs a gradient of the size of the table
        ids = torch.cat([batch.T + torch.tensor([[0], [num_entities], [0]]), wrong])
        head, relation, tail, *others = functional.embedding(ids, table).split(
            (1, 1, 1, _NUM_NEGATIVES, _NUM_NEGATIVES)
        )
        differences = torch.cat([head + relation - tail, others[0] + relation - tail, head + relation - others[1]])
        distances = differences.norm(dim=-1)
        optimizer.zero_grad(set_to_none=True)
        functional.relu(_MARGIN + distances[:1] - distances[1:]).mean().backward()
        optimizer.step()
        with torch.no_grad():
            table[:num_entities] = functional.normalize(table[:num_entities], dim=-1)
    table.requires_grad_(False)


#: Embeddings that somebody still holds, so that they are shared even where the disk is not writable
_alive: weakref.WeakValueDictionary[str, ReferenceEmbedding] = weakref.WeakValueDictionary()


def _validate(*, kind: str, dim: int, num_epochs: int | None, seed: int, use_tqdm: bool | None) -> None:
    if use_tqdm is not None:
        validate_flag("use_tqdm", use_tqdm)
    validate_choice("kind", kind, REFERENCE_KINDS)
    validate_at_least("dim", dim, 1)
    validate_at_least("seed", seed, 0)
    if num_epochs is not None:
        validate_at_least("num_epochs", num_epochs, 1)


def reference_embedding(
    *,
    mapped_triples: MappedTriples,
    num_entities: int,
    num_relations: int,
    kind: str = "transe",
    dim: int = 64,
    num_epochs: int | None = None,
    seed: int = 0,
    use_tqdm: bool | None = None,
) -> ReferenceEmbedding:
    """Train the reference embedding, or load it from disk.

    It is trained on the CPU, neither reads nor changes the caller's random state, and is the same for the same
    arguments.

    :param mapped_triples: shape: (num_triples, 3) the training triples. They may hold inverse relations.
    :param num_entities: the number of entities
    :param num_relations: the number of relations, inverse ones included
    :param kind: ``transe`` for a trained embedding (L2 norm, margin ranking loss, Adam), ``random`` for fixed random
        vectors of unit length, by which the use of training can be measured. A graph without triples, or with less
        than two entities, gets random vectors in any case.
    :param dim: the dimension
    :param num_epochs: the number of passes over the triples. By default it is chosen by the size of the graph, see
        :meth:`ReferencePlan.create`.
    :param seed: the seed, not negative
    :param use_tqdm: whether to show a progress bar where it takes more than 2 seconds, default: unless the training
        under way shows none

    :returns: the embedding, on the CPU

    :raises ValueError: if an argument is invalid
    """
    _validate(kind=kind, dim=dim, num_epochs=num_epochs, seed=seed, use_tqdm=use_tqdm)
    if use_tqdm is None:
        use_tqdm = shows_progress()
    triples = mapped_triples.detach().cpu().long()
    plan = ReferencePlan.create(num_triples=triples.shape[0], num_entities=num_entities, num_epochs=num_epochs)

    def make(train: bool = True) -> dict[str, FloatTensor]:
        random = torch.Generator().manual_seed(seed)
        with one_thread(), single_precision(), torch.inference_mode(False), torch.enable_grad():
            # entities first, then relations
            table = functional.normalize(torch.randn(num_entities + num_relations, dim, generator=random), dim=-1)
            if train:
                _train(table, num_entities=num_entities, triples=triples, plan=plan, random=random, use_tqdm=use_tqdm)
        # of their own memory each
        return {"entities": table[:num_entities].clone(), "relations": table[num_entities:].clone()}

    if kind == "random" or triples.shape[0] == 0 or num_entities < 2:
        return ReferenceEmbedding(**make(train=False))
    key = content_key(
        triples=triples,
        sizes=[num_entities, num_relations, dim],
        plan=dataclasses.asdict(plan),
        hyper_parameters=[_MARGIN, _LEARNING_RATE, _NUM_NEGATIVES],
        seed=seed,
        version=_VERSION,
    )
    found = _alive.get(key)
    if found is None:
        shapes = {"entities": (num_entities, dim), "relations": (num_relations, dim)}
        found = ReferenceEmbedding(**cached_tensors("reference", key, make, shapes=shapes))
        _alive[key] = found
    return found


def validate_reference_kwargs(kwargs: Mapping[str, Any] | None) -> dict[str, Any]:
    """Check options of :func:`reference_embedding` before anything is trained.

    :param kwargs: the options, without the graph itself

    :returns: the options

    :raises ValueError: if there is no such option, or if its value is invalid
    """
    kwargs = validate_mapping("reference_kwargs", kwargs)
    options = {
        name: parameter.default
        for name, parameter in inspect.signature(reference_embedding).parameters.items()
        if parameter.default is not parameter.empty
    }
    if unknown := sorted(set(kwargs) - set(options)):
        raise ValueError(
            f"reference_kwargs has {', '.join(unknown)}, which the reference embedding does not take; it takes "
            f"{', '.join(options)}."
        )
    _validate(**{name: kwargs.get(name, default) for name, default in options.items()})
    return kwargs
