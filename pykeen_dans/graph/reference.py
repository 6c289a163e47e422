"""The reference embedding: a space for entities before, or without, a model under training.

The difficulty of entities and their types need "embeddings pre-trained with TransE or similar" (from a secondary
summary of the paper); a sampler without a live model generates in this space, too. How it is trained is our choice: by
PyKEEN itself, on the training triples only, briefly, and once for each graph, since it is kept on disk.
"""

from __future__ import annotations

import dataclasses
import logging
import math
import weakref
from typing import TYPE_CHECKING, Any

import torch
from pykeen.typing import FloatTensor, LongTensor, MappedTriples
from torch.nn import functional

from ..utils.randomness import reproducible
from ..utils.storage import cached_tensors, content_key
from ..utils.validation import validate_at_least, validate_choice

if TYPE_CHECKING:
    from pykeen.training.callbacks import TrainingCallback
    from tqdm import tqdm

__all__ = [
    "REFERENCE_KINDS",
    "ReferenceEmbedding",
    "ReferencePlan",
    "reference_embedding",
]

logger = logging.getLogger(__name__)

#: How the vectors are made
REFERENCE_KINDS = ("transe", "random")

#: Changes when the same arguments are to give another embedding, so that files of older versions are not used
_VERSION = 1

# Chosen on the validation triples of CoDEx-S and FB15k-237; the L2 norm suits K-means and diffusion
_MARGIN = 0.35
_LEARNING_RATE = 0.005
_NUM_NEGATIVES = 4

#: The usual number of passes over the triples
_PASSES = 24
#: The least and the largest number of triples that are seen, all passes taken together
_MIN_SEEN, _MAX_SEEN = 150_000, 3_500_000
_MIN_BATCH, _MAX_BATCH, _LARGEST_BATCH = 256, 2_048, 65_536


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

        Without a number of epochs, there are 24 passes over the triples, but at least 150 thousand and at most 3.5
        million triples are seen. A graph with more triples than that is seen in part only, by a random sample. The
        batch is a power of 2 around a 32nd of the triples, between 256 and 2 048, or around a 32nd of the entities if
        that is more (at most 65 536), since each update costs time for each entity. So the time is bounded for any
        number of triples (some 2 minutes on one core for 10 million triples of a million entities), and memory holds
        four copies of the vectors and one batch.

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


def _random_vectors(*, num_entities: int, num_relations: int, dim: int, seed: int) -> dict[str, FloatTensor]:
    generator = torch.Generator().manual_seed(seed)
    return {
        "entities": functional.normalize(torch.randn(num_entities, dim, generator=generator), dim=-1),
        "relations": functional.normalize(torch.randn(num_relations, dim, generator=generator), dim=-1),
    }


def _progress_callback(bar: tqdm[Any]) -> TrainingCallback:
    # imported late, since this module may be imported while pykeen.training is only half imported
    from pykeen.training.callbacks import TrainingCallback

    class ProgressTrainingCallback(TrainingCallback):
        """Move a progress bar by one for each update."""

        def post_batch(self, epoch: int, batch: Any, **kwargs: Any) -> None:
            bar.update()

    return ProgressTrainingCallback()  # type: ignore[no-untyped-call]


def _seen_triples(triples: LongTensor, num_seen: int) -> LongTensor:
    """Repeat triples, or take a sample of them, such that the given number is reached.

    One long epoch is several times as quick as many short ones, after each of which PyKEEN collects garbage.
    """
    passes, rest = divmod(num_seen, triples.shape[0])
    sample = triples[torch.randperm(triples.shape[0])[:rest]]
    return torch.cat([triples.repeat(passes, 1), sample])


def _train(
    *,
    mapped_triples: MappedTriples,
    num_entities: int,
    num_relations: int,
    dim: int,
    plan: ReferencePlan,
    use_tqdm: bool,
) -> dict[str, FloatTensor]:
    """Train TransE by PyKEEN; the global random state is the caller's matter."""
    from pykeen.losses import MarginRankingLoss
    from pykeen.models import TransE
    from pykeen.training import SLCWATrainingLoop
    from pykeen.triples import CoreTriplesFactory
    from pykeen.utils import NoRandomSeedNecessary
    from tqdm.auto import tqdm

    factory = CoreTriplesFactory(
        _seen_triples(mapped_triples, plan.num_seen), num_entities=num_entities, num_relations=num_relations
    )
    model = TransE(
        triples_factory=factory,
        embedding_dim=dim,
        scoring_fct_norm=2,
        loss=MarginRankingLoss(margin=_MARGIN),
        # a seed given here would be set for Python and numpy as well
        random_seed=NoRandomSeedNecessary,
    ).to("cpu")
    loop = SLCWATrainingLoop(
        model=model,
        triples_factory=factory,
        optimizer=torch.optim.Adam(model.parameters(), lr=_LEARNING_RATE),
        negative_sampler="basic",
        negative_sampler_kwargs={"num_negs_per_pos": _NUM_NEGATIVES},
        # the batch is known to fit; probing would train for nothing
        automatic_memory_optimization=False,
    )
    with tqdm(
        total=plan.num_updates, desc="Training the reference embedding", unit="update", disable=not use_tqdm
    ) as bar:
        loop.train(
            triples_factory=factory,
            num_epochs=1,
            batch_size=plan.batch_size,
            use_tqdm=False,
            num_workers=0,
            drop_last=False,
            pin_memory=False,
            callbacks=_progress_callback(bar),
        )
    return {
        "entities": model.entity_representations[0](indices=None).detach().float(),
        "relations": model.relation_representations[0](indices=None).detach().float(),
    }


#: Embeddings that somebody still holds, so that they are shared even where the disk is not writable
_alive: weakref.WeakValueDictionary[str, ReferenceEmbedding] = weakref.WeakValueDictionary()


def reference_embedding(
    *,
    mapped_triples: MappedTriples,
    num_entities: int,
    num_relations: int,
    kind: str = "transe",
    dim: int = 64,
    num_epochs: int | None = None,
    seed: int = 0,
    use_tqdm: bool = True,
) -> ReferenceEmbedding:
    """Train the reference embedding, or load it from disk.

    It is trained on the CPU, does not touch the caller's random state, and is the same for the same arguments.

    :param mapped_triples: shape: (num_triples, 3) the training triples. They may hold inverse relations.
    :param num_entities: the number of entities
    :param num_relations: the number of relations, inverse ones included
    :param kind: ``transe`` for a trained embedding (L2 norm, margin ranking loss, Adam), ``random`` for fixed random
        vectors of unit length, by which the use of training can be measured. A graph without triples, or with less
        than two entities, gets random vectors in any case.
    :param dim: the dimension
    :param num_epochs: the number of passes over the triples. By default it is chosen by the size of the graph, see
        :meth:`ReferencePlan.create`.
    :param seed: the seed
    :param use_tqdm: whether to show a progress bar

    :returns: the embedding, on the CPU

    :raises ValueError: if an argument is invalid
    """
    validate_choice("kind", kind, REFERENCE_KINDS)
    validate_at_least("dim", dim, 1)
    if num_epochs is not None:
        validate_at_least("num_epochs", num_epochs, 1)
    triples = mapped_triples.detach().cpu().long()
    plan = ReferencePlan.create(num_triples=triples.shape[0], num_entities=num_entities, num_epochs=num_epochs)
    if kind == "random" or triples.shape[0] == 0 or num_entities < 2:
        return ReferenceEmbedding(
            **_random_vectors(num_entities=num_entities, num_relations=num_relations, dim=dim, seed=seed)
        )
    key = content_key(
        triples=triples,
        sizes=[num_entities, num_relations, dim],
        plan=dataclasses.asdict(plan),
        hyper_parameters=[_MARGIN, _LEARNING_RATE, _NUM_NEGATIVES],
        seed=seed,
        version=_VERSION,
    )

    def make() -> dict[str, FloatTensor]:
        with reproducible(seed), torch.inference_mode(False), torch.enable_grad():
            return _train(
                mapped_triples=triples,
                num_entities=num_entities,
                num_relations=num_relations,
                dim=dim,
                plan=plan,
                use_tqdm=use_tqdm,
            )

    found = _alive.get(key)
    if found is None:
        found = ReferenceEmbedding(**cached_tensors("reference", key, make))
        _alive[key] = found
    return found
