"""The difficulty of entities, in (0, 1).

In DANS-KGC an MLP reads semantic and structural features of an entity and tells its difficulty ``zeta`` in (0, 1)
(from a secondary summary of the paper, which does not say how the MLP is trained). The supervision is our choice:
learning ``zeta`` through the diffusion loss alone would push all of it to 1, since noise is easier to predict the more
of it there is. Here, an entity is difficult if the reference embedding ranks its training triples badly.
"""

from __future__ import annotations

import logging
import warnings
from abc import ABC, abstractmethod
from typing import TYPE_CHECKING

import torch
from class_resolver import ClassResolver
from pykeen.typing import FloatTensor
from torch.nn import functional

from ..utils.randomness import one_thread, single_precision
from ..utils.storage import cached_tensors, content_key
from ..utils.validation import validate_at_least, validate_non_negative, validate_share
from .queries import TAIL, QueryIndex
from .reference import ReferenceEmbedding
from .structural import structural_features

if TYPE_CHECKING:
    from .graph import Graph

__all__ = [
    "ConstantDifficulty",
    "DegreeDifficulty",
    "Difficulty",
    "LearnedDifficulty",
    "difficulty_resolver",
    "observed_difficulty",
    "rank_normalise",
]

logger = logging.getLogger(__name__)

#: Changes when the same arguments are to give other difficulties, so that files of older versions are not used
_VERSION = 2

#: The difficulty lies between this and one minus this
_EDGE = 1e-3
#: The number of entities against which an answer is ranked
_POOL = 500
#: The largest number of answers that are ranked; of more, a random sample is
_MAX_RANKED = 400_000
_CHUNK = 1024
#: The MLP learns from this many entities at once, and so many times
_BATCH_SIZE, _NUM_UPDATES = 1024, 200


class Difficulty(ABC):
    """How hard entities are to embed."""

    @abstractmethod
    def __call__(self, *, graph: Graph) -> FloatTensor:
        """Tell the difficulty of all entities.

        :param graph: the graph, of which only what is needed is made

        :returns: shape: (num_entities,) in (0, 1)
        """


class ConstantDifficulty(Difficulty):
    """The same difficulty for all entities: the paper's ablation "w/o DAM".

    :param value: the difficulty, in (0, 1)

    :raises ValueError: if it is not
    """

    def __init__(self, *, value: float = 0.5) -> None:
        """Initialise the difficulty."""
        if validate_share("value", value) in {0, 1}:
            raise ValueError(f"value={value!r} is not inside of (0, 1); choose e.g. 0.5.")
        self.value: float = value

    def __call__(self, *, graph: Graph) -> FloatTensor:  # noqa: D102
        return torch.full((graph.num_entities,), float(self.value), dtype=torch.float32)


class DegreeDifficulty(Difficulty):
    """The fewer triples an entity has, the more difficult it is (our choice); nothing is trained."""

    def __call__(self, *, graph: Graph) -> FloatTensor:  # noqa: D102
        degree = torch.bincount(graph.mapped_triples[:, [0, 2]].reshape(-1), minlength=graph.num_entities)
        return (1.0 - rank_normalise(degree)).float().clamp(min=_EDGE, max=1.0 - _EDGE)


class LearnedDifficulty(Difficulty):
    """An MLP over structural features and the reference embedding, which learns how badly an entity's triples rank.

    The semantic features are the graph's own reference embedding, by which its triples are ranked, too. The MLP is
    scikit-learn's, with one hidden layer and much weight decay; it learns the logit of the rank among all entities.

    :param hidden_dim: the width of the MLP
    :param weight_decay: its weight decay. With the default, the rank correlation with what is observed of entities that
        it has not seen is .79 on UMLS, .41 on Kinships and .56 on CoDEx-S (with early stopping: .78, .25 and .51).
    :param shrinkage: with so many triples, an entity's own count as much as the mean of all triples
    :param seed: the seed, not negative

    :raises ValueError: if an argument is invalid
    """

    def __init__(
        self, *, hidden_dim: int = 64, weight_decay: float = 1.0, shrinkage: float = 5.0, seed: int = 0
    ) -> None:
        """Initialise the difficulty; nothing is trained yet."""
        self.hidden_dim: int = validate_at_least("hidden_dim", hidden_dim, 1)
        self.weight_decay: float = validate_non_negative("weight_decay", weight_decay)
        self.shrinkage: float = validate_non_negative("shrinkage", shrinkage)
        self.seed: int = validate_at_least("seed", seed, 0)

    def __call__(self, *, graph: Graph) -> FloatTensor:  # noqa: D102
        if len(graph.mapped_triples) == 0 or graph.num_entities < 2:
            logger.info("There is nothing to learn difficulty from; it is 0.5 for all %d entities.", graph.num_entities)
            return torch.full((graph.num_entities,), 0.5, dtype=torch.float32)
        key = content_key(
            triples=graph.mapped_triples,
            entities=graph.reference.entities,
            relations=graph.reference.relations,
            sides=graph.sides,
            config=vars(self),
            version=_VERSION,
        )
        shapes = {"difficulty": (graph.num_entities,)}
        return cached_tensors("difficulty", key, lambda: {"difficulty": self._learn(graph)}, shapes=shapes)[
            "difficulty"
        ]

    def _learn(self, graph: Graph) -> FloatTensor:
        # imported late, since it alone would double the time it takes to import the plugin
        from sklearn.exceptions import ConvergenceWarning
        from sklearn.neural_network import MLPRegressor

        random = torch.Generator().manual_seed(self.seed)
        with one_thread(), single_precision(), torch.inference_mode(False):
            observed = observed_difficulty(
                index=graph.index, reference=graph.reference, random=random, shrinkage=self.shrinkage
            )
            semantic = functional.normalize(graph.reference.entities, dim=-1)
            structural = structural_features(
                mapped_triples=graph.mapped_triples, num_entities=graph.num_entities, num_relations=graph.num_relations
            )
            features = torch.cat([semantic, structural], dim=-1).numpy()
        (known,) = (~observed.isnan()).nonzero(as_tuple=True)
        # no more entities than updates can reach, so that the time is bounded
        known = known[torch.randperm(len(known), generator=random)[: _BATCH_SIZE * _NUM_UPDATES]]
        batch_size = min(_BATCH_SIZE, len(known))
        network = MLPRegressor(
            hidden_layer_sizes=(self.hidden_dim,),
            alpha=self.weight_decay,
            learning_rate_init=0.01,
            batch_size=batch_size,
            max_iter=max(1, _NUM_UPDATES * batch_size // len(known)),
            n_iter_no_change=_NUM_UPDATES,
            random_state=self.seed,
        )
        with warnings.catch_warnings():
            # it ends by the number of updates
            warnings.simplefilter("ignore", category=ConvergenceWarning)
            network.fit(features[known.numpy()], rank_normalise(observed[known]).logit().float().numpy())
        return torch.as_tensor(network.predict(features)).float().sigmoid().clamp(min=_EDGE, max=1.0 - _EDGE)


def rank_normalise(values: torch.Tensor) -> FloatTensor:
    """Replace values by their rank, evenly spread over (0, 1).

    :param values: shape: (n,)

    :returns: shape: (n,) float64 ``(rank - 1/2) / n``, equal for equal values
    """
    _, group, counts = torch.unique(values, return_inverse=True, return_counts=True)
    before = counts.cumsum(dim=0) - counts
    return ((before.double() + counts.double() / 2.0) / max(1, len(values)))[group]


def observed_difficulty(
    *, index: QueryIndex, reference: ReferenceEmbedding, random: torch.Generator, shrinkage: float = 5.0
) -> FloatTensor:
    """Rank the answers of queries by the reference embedding, and take the mean of each entity (our choice).

    Answers are ranked against the same random entities, 500 or all if less, without the other known answers. The
    hardness of an answer is ``1 - 1 / rank``. That of an entity is the mean over the queries that keep or answer with
    it, and ``shrinkage`` times the mean of all, so that an entity with few triples is close to the mean. Of more than
    400 000 answers, a random sample is ranked.

    :param index: the queries with their answers
    :param reference: the reference embedding
    :param random: the source of randomness
    :param shrinkage: the weight of the mean of all

    :returns: shape: (num_entities,) float64 in [0, 1), NaN for an entity that occurs in no query that was ranked
    """
    vectors, num_entities = reference.entities, index.num_entities
    pool = torch.randperm(num_entities, generator=random)[:_POOL]
    sample = torch.randperm(len(index.answers), generator=random)[:_MAX_RANKED]
    total, count = torch.zeros(2, num_entities, dtype=torch.double)
    # in their order, so that the answers of a query are ranked together
    for positions in sample.sort().values.split(_CHUNK):
        queries, answers = index.positives(positions)
        sign = torch.where(queries.sides == TAIL, 1.0, -1.0)[:, None]
        predicted = vectors[queries.kept] + sign * reference.relations[queries.relations]
        distances = torch.cdist(predicted, vectors[pool])
        rows, query = queries.rows.unique_consecutive(return_inverse=True)
        distances[index.known(rows, pool)[query]] = torch.inf
        own = (predicted - vectors[answers]).norm(dim=-1, keepdim=True)
        rank = 1 + (distances < own).sum(dim=-1)
        ends, hardness = torch.cat([queries.kept, answers]), (1.0 - 1.0 / rank.double()).repeat(2)
        total.index_add_(0, ends, hardness)
        count.index_add_(0, ends, torch.ones_like(hardness))
    shrunk = (total + shrinkage * total.sum() / count.sum()) / (count + shrinkage)
    return torch.where(count > 0, shrunk, torch.nan)


#: A resolver for difficulties
difficulty_resolver: ClassResolver[Difficulty] = ClassResolver.from_subclasses(
    base=Difficulty,  # type: ignore[type-abstract]
    default=LearnedDifficulty,
)
