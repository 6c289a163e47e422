"""The difficulty of entities, in (0, 1).

In DANS-KGC an MLP reads semantic and structural features of an entity and tells its difficulty ``zeta`` in (0, 1)
(from a secondary summary of the paper, which does not say how the MLP is trained). The supervision is our choice:
learning ``zeta`` through the diffusion loss alone would push all of it to 1, since noise is easier to predict the more
of it there is. Here, an entity is difficult if the reference embedding ranks its training triples badly.
"""

from __future__ import annotations

import dataclasses
import logging
from abc import ABC, abstractmethod

import torch
from class_resolver import ClassResolver
from pykeen.typing import BoolTensor, FloatTensor, LongTensor, MappedTriples
from torch import nn
from torch.nn import functional

from ..utils.randomness import reproducible
from ..utils.storage import cached_tensors, content_key
from ..utils.validation import (
    validate_at_least,
    validate_choice,
    validate_non_negative,
    validate_positive,
    validate_share,
)
from .reference import REFERENCE_KINDS, ReferenceEmbedding, reference_embedding
from .structural import structural_features

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
_VERSION = 1

#: The difficulty lies between this and one minus this
_EDGE = 1e-3
#: The number of entities against which a triple is ranked
_POOL = 500
#: The largest number of triples that are ranked; of more, a random sample is
_MAX_RANKED = 200_000
_CHUNK = 1024
#: The largest number of updates of the MLP, by which large graphs get fewer epochs
_MAX_UPDATES = 3000


class Difficulty(ABC):
    """How hard entities are to embed."""

    @abstractmethod
    def __call__(
        self,
        *,
        mapped_triples: MappedTriples,
        num_entities: int,
        num_relations: int,
        seed: int = 0,
    ) -> FloatTensor:
        """Tell the difficulty of all entities.

        :param mapped_triples: shape: (num_triples, 3) the training triples
        :param num_entities: the number of entities
        :param num_relations: the number of relations, inverse ones included
        :param seed: the seed of whatever is random in it

        :returns: shape: (num_entities,) in (0, 1)
        """


class ConstantDifficulty(Difficulty):
    """The same difficulty for all entities: the paper's ablation "w/o DAM".

    :param value: the difficulty, in (0, 1)
    """

    def __init__(self, *, value: float = 0.5) -> None:
        """Initialise the difficulty."""
        if validate_share("value", value) in {0, 1}:
            raise ValueError(f"value={value!r} is not inside of (0, 1); choose e.g. 0.5.")
        self.value: float = value

    def __call__(  # noqa: D102
        self, *, mapped_triples: MappedTriples, num_entities: int, num_relations: int, seed: int = 0
    ) -> FloatTensor:
        return torch.full((num_entities,), float(self.value))


class DegreeDifficulty(Difficulty):
    """The fewer triples an entity has, the more difficult it is; nothing is trained."""

    def __call__(  # noqa: D102
        self, *, mapped_triples: MappedTriples, num_entities: int, num_relations: int, seed: int = 0
    ) -> FloatTensor:
        degree = torch.bincount(mapped_triples.cpu().long()[:, [0, 2]].reshape(-1), minlength=num_entities)
        return (1.0 - rank_normalise(degree)).float().clamp(min=_EDGE, max=1.0 - _EDGE)


class LearnedDifficulty(Difficulty):
    """An MLP over structural features and the reference embedding, which learns how badly an entity's triples rank.

    :param reference: the kind of the reference embedding, whose vectors are the semantic features, and by which
        triples are ranked: ``transe``, or ``random`` for none that was trained
    :param dim: its dimension
    :param num_epochs: its number of epochs, by default chosen by the size of the graph
    :param hidden_dim: the width of the MLP, by default 64 for less than 10 000 entities, and 128 else
    :param dropout: its dropout
    :param learning_rate: the learning rate of Adam
    :param max_epochs: the largest number of epochs of the MLP, which ends when held-out entities get no better, and
        after about 3 000 updates
    :param shrinkage: with so many triples, an entity's own count as much as the mean of all triples
    :param use_tqdm: whether to show a progress bar while the reference embedding is trained
    """

    def __init__(
        self,
        *,
        reference: str = "transe",
        dim: int = 64,
        num_epochs: int | None = None,
        hidden_dim: int | None = None,
        dropout: float = 0.1,
        learning_rate: float = 1e-3,
        max_epochs: int = 300,
        shrinkage: float = 5.0,
        use_tqdm: bool = True,
    ) -> None:
        """Initialise the difficulty; nothing is trained yet."""
        self.reference: str = validate_choice("reference", reference, REFERENCE_KINDS)
        self.dim: int = validate_at_least("dim", dim, 1)
        self.num_epochs = None if num_epochs is None else validate_at_least("num_epochs", num_epochs, 1)
        self.hidden_dim = None if hidden_dim is None else validate_at_least("hidden_dim", hidden_dim, 1)
        self.dropout: float = validate_share("dropout", dropout)
        self.learning_rate: float = validate_positive("learning_rate", learning_rate)
        self.max_epochs: int = validate_at_least("max_epochs", max_epochs, 1)
        self.shrinkage: float = validate_non_negative("shrinkage", shrinkage)
        self.use_tqdm = use_tqdm

    def __call__(  # noqa: D102
        self, *, mapped_triples: MappedTriples, num_entities: int, num_relations: int, seed: int = 0
    ) -> FloatTensor:
        triples = mapped_triples.detach().cpu().long()
        if len(triples) == 0 or num_entities < 2:
            logger.info("There is nothing to learn difficulty from; it is 0.5 for all %d entities.", num_entities)
            return torch.full((num_entities,), 0.5)
        config = {name: value for name, value in vars(self).items() if name != "use_tqdm"}
        key = content_key(
            triples=triples, sizes=[num_entities, num_relations], config=config, seed=seed, version=_VERSION
        )

        def make() -> dict[str, FloatTensor]:
            reference = reference_embedding(
                mapped_triples=triples,
                num_entities=num_entities,
                num_relations=num_relations,
                kind=self.reference,
                dim=self.dim,
                num_epochs=self.num_epochs,
                seed=seed,
                use_tqdm=self.use_tqdm,
            )
            return {"difficulty": self._learn(triples, num_entities, num_relations, reference, seed)}

        return cached_tensors("difficulty", key, make)["difficulty"]

    def _learn(
        self,
        triples: LongTensor,
        num_entities: int,
        num_relations: int,
        reference: ReferenceEmbedding,
        seed: int,
    ) -> FloatTensor:
        with reproducible(seed), torch.inference_mode(False):
            observed = observed_difficulty(
                mapped_triples=triples, reference=reference, num_relations=num_relations, shrinkage=self.shrinkage
            )
            features = torch.cat(
                [
                    functional.normalize(reference.entities, dim=-1),
                    structural_features(triples, num_entities, num_relations),
                ],
                dim=-1,
            )
            known = observed.known.nonzero().view(-1)
            target = rank_normalise(observed.difficulty[known]).float()
            network = self._network(num_entities, features.shape[-1])
            self._fit(network, features[known], target)
            with torch.no_grad():
                return network(features).view(-1).sigmoid().clamp(min=_EDGE, max=1.0 - _EDGE)

    def _network(self, num_entities: int, num_features: int) -> nn.Module:
        hidden_dim = self.hidden_dim or (64 if num_entities < 10_000 else 128)
        return nn.Sequential(
            nn.Linear(num_features, hidden_dim),
            nn.LayerNorm(hidden_dim),
            nn.ReLU(),
            nn.Dropout(self.dropout),
            nn.Linear(hidden_dim, 1),
        )

    def _fit(self, network: nn.Module, features: FloatTensor, target: FloatTensor) -> None:
        """Train on nine tenths of the entities, and keep the parameters that are best on the rest."""
        order = torch.randperm(len(target))
        num_held = max(1, len(target) // 10)
        held, rest = order[:num_held], order[num_held:]
        batch_size = max(32, min(1024, len(rest) // 8))
        max_epochs = min(self.max_epochs, max(3, _MAX_UPDATES * batch_size // max(1, len(rest))))
        patience = max(3, max_epochs // 10)
        optimizer = torch.optim.Adam(network.parameters(), lr=self.learning_rate)
        best, best_epoch, best_state = float("inf"), 0, {k: v.clone() for k, v in network.state_dict().items()}
        for epoch in range(max_epochs):
            network.train()
            for batch in rest[torch.randperm(len(rest))].split(batch_size):
                with torch.enable_grad():
                    optimizer.zero_grad(set_to_none=True)
                    logits = network(features[batch]).view(-1)
                    functional.binary_cross_entropy_with_logits(logits, target[batch]).backward()
                optimizer.step()
            network.eval()
            with torch.no_grad():
                logits = network(features[held]).view(-1)
                error = functional.binary_cross_entropy_with_logits(logits, target[held]).item()
            if error < best:
                best, best_epoch, best_state = error, epoch, {k: v.clone() for k, v in network.state_dict().items()}
            elif epoch - best_epoch >= patience:
                break
        network.load_state_dict(best_state)
        network.eval()


@dataclasses.dataclass(frozen=True)
class ObservedDifficulty:
    """How badly the triples of entities rank.

    :param difficulty: shape: (num_entities,) in [0, 1)
    :param known: shape: (num_entities,) whether a ranked triple has the entity
    """

    difficulty: FloatTensor
    known: BoolTensor


def rank_normalise(values: torch.Tensor) -> FloatTensor:
    """Replace values by their rank, evenly spread over (0, 1).

    :param values: shape: (n,)

    :returns: shape: (n,) float64 ``(rank - 1/2) / n``, equal for equal values
    """
    _, group, counts = torch.unique(values, return_inverse=True, return_counts=True)
    before = counts.cumsum(dim=0) - counts
    return ((before.double() + counts.double() / 2.0) / max(1, len(values)))[group]


class _Pool:
    """Random entities against which the answers of one side are ranked.

    :param members: shape: (p,) different entities
    :param keys: shape: (m,) the queries of all triples
    :param answers: shape: (m,) their answers
    :param num_entities: the number of entities
    """

    def __init__(self, members: LongTensor, keys: LongTensor, answers: LongTensor, num_entities: int) -> None:
        """Sort the known answers among the members by their query."""
        self.members = members
        position = torch.full((num_entities,), -1, dtype=torch.long)
        position[members] = torch.arange(len(members))
        known = position[answers] >= 0
        self._keys, order = keys[known].sort()
        self._columns = position[answers[known]][order]

    def known(self, keys: LongTensor) -> tuple[LongTensor, LongTensor]:
        """Find the members that are known answers of n queries, as pairs of positions in queries and members."""
        start = torch.searchsorted(self._keys, keys)
        count = torch.searchsorted(self._keys, keys, right=True) - start
        row = torch.repeat_interleave(torch.arange(len(keys)), count)
        first = count.cumsum(dim=0) - count
        return row, self._columns[(start - first)[row] + torch.arange(len(row))]

    def hardness(
        self, predicted: FloatTensor, answers: LongTensor, keys: LongTensor, entities: FloatTensor
    ) -> FloatTensor:
        """Compute ``1 - 1 / rank`` of the answers of n queries, by their distance from where they are predicted."""
        distances = torch.cdist(predicted, entities[self.members])
        distances[self.known(keys)] = torch.inf
        own = (predicted - entities[answers]).norm(dim=-1, keepdim=True)
        rank = 1 + (distances < own).sum(dim=-1)
        return 1.0 - 1.0 / rank


def observed_difficulty(
    *,
    mapped_triples: LongTensor,
    reference: ReferenceEmbedding,
    num_relations: int,
    shrinkage: float = 5.0,
) -> ObservedDifficulty:
    """Rank triples by the reference embedding, and take the mean of each entity.

    Both sides of a triple are ranked against the same random entities, 500 or all if less, without the other known
    answers. The hardness of a triple is the mean of ``1 - 1 / rank`` of both sides. That of an entity is the mean over
    its triples and ``shrinkage`` triples of mean hardness, so that an entity with few triples is close to the mean. Of
    more than 200 000 triples, a random sample is ranked. It draws from torch's global generator.

    :param mapped_triples: shape: (num_triples, 3) at least one triple
    :param reference: the reference embedding
    :param num_relations: the number of relations
    :param shrinkage: the number of triples of mean hardness that each entity has in addition

    :returns: the difficulties, and for which entities they are known
    """
    entities, relations = reference.entities, reference.relations
    num_entities = entities.shape[0]
    members = torch.randperm(num_entities)[:_POOL]
    heads, relation, tails = mapped_triples.unbind(dim=-1)
    sample = torch.randperm(len(mapped_triples))[:_MAX_RANKED]
    hardness = torch.zeros(len(sample))
    for kept, answers, sign in ((heads, tails, 1.0), (tails, heads, -1.0)):
        keys = kept * num_relations + relation
        pool = _Pool(members, keys, answers, num_entities)
        for rows in torch.arange(len(sample)).split(_CHUNK):
            chosen = sample[rows]
            predicted = entities[kept[chosen]] + sign * relations[relation[chosen]]
            hardness[rows] += 0.5 * pool.hardness(predicted, answers[chosen], keys[chosen], entities)
    ends = mapped_triples[sample][:, [0, 2]].reshape(-1)
    total = torch.bincount(ends, weights=hardness.repeat_interleave(2).double(), minlength=num_entities)
    count = torch.bincount(ends, minlength=num_entities)
    mean = hardness.double().mean()
    shrunk = (total + shrinkage * mean) / (count + shrinkage).clamp(min=torch.finfo(torch.float64).tiny)
    return ObservedDifficulty(difficulty=torch.where(count > 0, shrunk, mean), known=count > 0)


#: A resolver for difficulties
difficulty_resolver: ClassResolver[Difficulty] = ClassResolver.from_subclasses(
    base=Difficulty,  # type: ignore[type-abstract]
    default=LearnedDifficulty,
)
