"""The training loop whose negatives are shared by the batch, and corrected for that."""

from __future__ import annotations

import functools
import logging
import math
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import torch
from class_resolver import HintOrType, OptionalKwargs
from pykeen.losses import CrossEntropyLoss, loss_resolver
from pykeen.sampling import NegativeSampler
from pykeen.triples import CoreTriplesFactory
from pykeen.triples.instances import SLCWABatch
from pykeen.typing import LABEL_TAIL, FloatTensor, MappedTriples, Target
from torch.utils.data import DataLoader

from ..scoring.corrections import (
    correct_loss,
    correctable_losses,
    effective_entities,
    is_correctable,
    join_candidates,
)
from ..scoring.proposals import BankProposal, Proposal, proposal_resolver
from ..scoring.query_forms import CandidateScores, form_names, score_candidates
from ..scoring.representations import SIDES, Candidates
from ..scoring.strata import OwnCandidates, weigh_candidates
from ..scoring.subsampling import SUBSAMPLINGS, Subsampling, query_weights
from ..utils.frames import triples_factory_in_use
from ..utils.private import num_entities_of
from ..utils.triples import as_trained
from ..utils.validation import (
    make_by_name,
    validate_at_least,
    validate_between,
    validate_choice,
    validate_flag,
    validate_mapping,
    validate_non_negative,
    validate_positive,
)
from .generated import GeneratedCandidates, check_sampler
from .order import OrderedInstances, OrderedTrainingLoop
from .positives import PositiveInstances, SharedBatch, SubGraphPositiveInstances, validate_sides
from .slicing import search_slice_size

__all__ = [
    "SharedNegativesTrainingLoop",
]

logger = logging.getLogger(__name__)


class SharedNegativesTrainingLoop(OrderedTrainingLoop):
    r"""Train with one pool of negatives for each batch, which stands for all entities.

    Each positive of a batch is compared with the same entities. They are scored by one matrix product where the model
    allows it (:mod:`pykeen_dans.scoring.query_forms`), and the loss is corrected such that it estimates that of
    comparing the positive with *all* entities, as "1vsAll" does (:mod:`pykeen_dans.scoring.corrections`). The positive
    itself never counts as a negative. Other known answers do, as they do in 1vsAll.

    A sampler whose negatives are generated, as ``negative_sampler="dans_kgc"``, adds candidates, as far as ``num_own``,
    ``num_vectors`` or ``proposal="bank"`` ask for them (:mod:`pykeen_dans.training.generated`). Other samplers have no
    part in it: none is made, and a warning says so where one was asked for.

    It is known to PyKEEN as ``training_loop="shared-negatives"``.

    :param num_shared: the number of negatives of each batch and side. If there are not more entities than that, all
        of them are scored, and the loss is exactly that of 1vsAll.
    :param proposal: what negatives are drawn from: ``"uniform"`` (default), ``"frequency"``, or ``"bank"``, see
        :mod:`pykeen_dans.scoring.proposals`
    :param proposal_kwargs: its parameters
    :param replacement: whether negatives are drawn independently of each other. By default, draws are stratified.
    :param sides: the sides to replace, among ``"head"`` and ``"tail"``. By default tails alone if training has
        inverse triples, else both.
    :param subsampling: how queries are weighted: all alike (``"none"``), by the inverse frequency of the query
        (``"unique"``), or by that of both queries of the triple (``"frequency"``), see
        :func:`pykeen_dans.scoring.subsampling.query_weights`
    :param subsampling_power: the power of the frequency
    :param negatives_weight: the weight of all negatives of a positive, where that of the positive is one. It is for
        pointwise losses only, since in the others negatives compete with the positive as they are.
    :param num_own: the number of generated ids of each query, beside those that are shared, 0 for none
    :param num_vectors: the number of generated vectors of each query that are scored themselves, 0 for none
    :param vector_weight: the number of entities that the vectors of a query stand for together. They are no
        entities, so that, unlike ids, they change what is estimated.
    :param kwargs: keyword-based parameters of :class:`pykeen.training.SLCWATrainingLoop`

    :raises ValueError: if a value is invalid, or if the model's loss can not be corrected, but for the margin
        ranking loss that PyKEEN makes where none is chosen, which is replaced by cross entropy
    """

    supports_slicing: ClassVar[bool] = True
    instances: ClassVar[Mapping[str | None, type[OrderedInstances]]] = {
        None: PositiveInstances,
        "schlichtkrull": SubGraphPositiveInstances,
    }
    #: The sampler where none is asked for, None for none
    sampler_cls: ClassVar[type[NegativeSampler] | None] = None

    def __init__(
        self,
        *,
        num_shared: int = 256,
        proposal: HintOrType[Proposal] = None,
        proposal_kwargs: OptionalKwargs = None,
        replacement: bool = False,
        sides: Sequence[Target] | None = None,
        subsampling: Subsampling = "none",
        subsampling_power: float = 0.5,
        negatives_weight: float = 1.0,
        num_own: int = 0,
        num_vectors: int = 0,
        vector_weight: float = 1.0,
        **kwargs: Any,
    ) -> None:
        """Initialize the training loop."""
        super().__init__(**kwargs)
        self.num_shared = validate_at_least("num_shared", num_shared, 1)
        self.proposal = proposal
        self.proposal_kwargs = proposal_kwargs
        self.replacement = validate_flag("replacement", replacement)
        self.sides = None if sides is None else validate_sides(sides)
        validate_choice("subsampling", subsampling, SUBSAMPLINGS)
        self.subsampling = subsampling
        self.subsampling_power = validate_between("subsampling_power", subsampling_power, 0, 10)
        self.negatives_weight = validate_positive("negatives_weight", negatives_weight)
        self.num_own = validate_at_least("num_own", num_own, 0)
        self.num_vectors = validate_at_least("num_vectors", num_vectors, 0)
        self.vector_weight = validate_non_negative("vector_weight", vector_weight)
        self._generated: GeneratedCandidates | None = None
        self._replace_default_loss()
        # it is made anew for each batch, since the loss may be replaced; here it shows whether it can be made
        correct_loss(self.loss, negatives_weight=negatives_weight)
        self._batch: SharedBatch | None = None
        # side -> how many entities the softmax is about, see :func:`effective_entities`
        self._effective: dict[Target, float] = {}
        # made anew for the triples of the training, too; here they show whether they can be made
        self._proposals = self._make_proposals(kwargs["triples_factory"])
        check_sampler(self, self._proposals.values())

    def _replace_default_loss(self) -> None:
        """Use cross entropy where nobody has chosen a loss, and the default can not be corrected.

        This is so with ``pipeline(model="ComplEx", training_loop="shared-negatives")``, and for all models with
        ``pykeen train``, which has no option for losses: PyKEEN then makes a margin ranking loss.
        """
        defaults = {loss_resolver.default, self.model.loss_default}
        if type(self.loss) in defaults and not is_correctable(type(self.loss)):
            logger.warning(
                "loss=%s, which is the default, can not be corrected for shared negatives, and is replaced by cross "
                "entropy; pass loss='crossentropy' to choose it, or one of %s.",
                type(self.loss).__name__,
                ", ".join(correctable_losses()),
            )
            self.model.loss = CrossEntropyLoss(reduction=self.loss.reduction)

    def __getstate__(self) -> dict[str, Any]:
        """Leave behind what a training makes for itself, so that results on disk stay small."""
        return {**vars(self), "_generated": None, "_batch": None}

    @property
    def pool_is_all(self) -> bool:
        """Whether the pool is all entities, rather than a sample of them."""
        proposals = self._proposals.values()
        return all(proposal.enlarge(self.num_shared) >= proposal.num_entities for proposal in proposals)

    @property
    def reads_bank(self) -> bool:
        """Whether any generated id takes part: as one of a query's own, or through a pool that is not all entities."""
        follows = any(isinstance(proposal, BankProposal) for proposal in self._proposals.values())
        return self.num_own > 0 or (follows and not self.pool_is_all)

    @property
    def reads_vectors(self) -> bool:
        """Whether generated vectors take part."""
        return self.num_vectors > 0 and self.vector_weight > 0

    def own_candidates(self, positives: MappedTriples, side: Target) -> OwnCandidates | None:
        """Choose candidates of each query, beside those that all queries share.

        Subclasses may override it. Whatever it returns, the loss estimates the same as without, so long as the choice
        does not depend on the pool.

        :param positives: shape: ``(batch_size, 3)``
            the positives, on the model's device
        :param side: the side to replace

        :returns: the candidates, on the model's device, or None
        """
        return None if self._generated is None else self._generated.ids(positives, side)

    def _sampler_of_instances(self) -> dict[str, Any]:
        """Let batches have positives alone."""
        return {}

    # docstr-coverage: inherited
    def _create_training_data_loader(
        self, triples_factory: CoreTriplesFactory, **kwargs: Any
    ) -> DataLoader[SLCWABatch]:
        loader = super()._create_training_data_loader(triples_factory, **kwargs)
        instances: Any = loader.dataset
        self._batch = None
        instances.query_weights = query_weights(
            instances.mapped_triples,
            sides=self._effective_sides(triples_factory),
            subsampling=self.subsampling,
            power=self.subsampling_power,
        )
        # a validation loss has a loader of its own, and the candidates of the training
        if not torch.is_inference_mode_enabled() and triples_factory_in_use() in (None, triples_factory):
            self._proposals = self._make_proposals(triples_factory)
            self._generated = GeneratedCandidates.create(
                self, instances.mapped_triples, num_relations=triples_factory.num_relations, proposals=self._proposals
            )
        logger.debug("The forms of scores are %s.", form_names(self.model))
        if isinstance(instances, PositiveInstances) and self._may_move(kwargs.get("num_workers", 0)):
            instances.move(self.device)
            loader.pin_memory = False
        return loader

    def _may_move(self, num_workers: int) -> bool:
        """Return whether batches can be made on the model's device."""
        # workers must not use a GPU, and weighters need not be able to
        return self.device.type != "cpu" and not num_workers and self.loss_weighter is None

    def _effective_sides(self, triples_factory: CoreTriplesFactory) -> tuple[Target, ...]:
        """Return the sides to replace for some training triples."""
        if self.sides is not None:
            return self.sides
        # with inverse triples, to replace the tail of an inverse triple is to replace the head
        return (LABEL_TAIL,) if triples_factory.create_inverse_triples else SIDES

    def _make_proposals(self, triples_factory: CoreTriplesFactory) -> Mapping[Target, Proposal]:
        """Make the proposal of each side for some training triples."""
        mapped_triples = as_trained(triples_factory)
        num_entities = num_entities_of(self.model, self.mode)
        given = validate_mapping("proposal_kwargs", self.proposal_kwargs)
        kwargs = {"replacement": self.replacement, **given, "num_entities": num_entities}
        return {
            side: make_by_name(
                "proposal",
                proposal_resolver,
                self.proposal,
                {**kwargs, "answers": mapped_triples[:, 2 if side == LABEL_TAIL else 0]},
            )
            for side in self._effective_sides(triples_factory)
        }

    def _share(self, batch: SLCWABatch) -> SharedBatch:
        """Draw what all parts of a batch share, once."""
        if self._batch is not None and self._batch.source is batch:
            return self._batch
        device = self.device
        positives = batch["positives"].to(device=device)
        self._batch = SharedBatch(
            source=batch,
            positives=positives,
            pools={
                side: proposal.draw(min(self.num_shared, proposal.num_entities), device=device)
                for side, proposal in self._proposals.items()
            },
            own={side: self.own_candidates(positives, side) for side in self._proposals},
            vectors={
                side: None if self._generated is None else self._generated.vectors(positives, side)
                for side in self._proposals
            },
            weights=dict(zip(self._proposals, self._row_weights(batch), strict=True)),
        )
        return self._batch

    def _row_weights(self, batch: SLCWABatch) -> Sequence[FloatTensor | None]:
        """Multiply the weights of queries and of triples, shapes: ``(batch_size,)``, one for each side."""
        triples: FloatTensor | None = batch.get("pos_weights")
        if triples is not None:
            triples = triples.to(device=self.device).view(-1)
            if self.loss.reduction == "mean":
                # as PyKEEN's weighted means do, but for the whole batch, such that its parts add up
                triples = triples / triples.mean().clamp_min(torch.finfo(triples.dtype).tiny)
        queries: FloatTensor | None = batch.get("query_weights")  # type: ignore[assignment]
        if queries is None:
            return [triples] * len(self._proposals)
        by_side = queries.to(device=self.device).unbind(dim=-1)
        return by_side if triples is None else [triples * weights for weights in by_side]

    # docstr-coverage: inherited
    def _train_epoch(self, *args: Any, **kwargs: Any) -> float:
        # callbacks may compute the loss of other triples meanwhile
        outer, self._effective = self._effective, {}
        loss = super()._train_epoch(*args, **kwargs)
        # of the first batch, since others would say the same, at a cost
        metrics = {f"effective_entities_{side}": number for side, number in self._effective.items()}
        self._effective = outer
        if not kwargs["only_size_probing"] and kwargs.get("backward", True):
            self.result_tracker.log_metrics(metrics, step=kwargs["epoch"], prefix="negatives")
        return loss

    # docstr-coverage: inherited
    def _process_batch(
        self,
        batch: SLCWABatch,
        start: int,
        stop: int,
        label_smoothing: float = 0.0,
        slice_size: int | None = None,
    ) -> FloatTensor:
        shared = self._share(batch)
        part = slice(start, stop)
        own = {side: None if own is None else own.rows(part) for side, own in shared.own.items()}
        scores = score_candidates(
            self.model,
            shared.positives[part],
            {
                # places without a candidate are masked, but have to be scored as some entity
                side: Candidates(
                    pool.ids,
                    None if (chosen := own[side]) is None else chosen.ids.clamp_min(0),
                    None if (vectors := shared.vectors[side]) is None else vectors[0][part],
                    pool.representatives,
                )
                for side, pool in shared.pools.items()
            },
            mode=self.mode,
            slice_size=slice_size,
        )
        losses = [
            self._side_loss(shared, part, side, scores[side], own[side], label_smoothing) for side in shared.pools
        ]
        loss = sum(losses[1:], start=losses[0])
        if self.loss.reduction == "mean":
            loss = loss / len(losses)
        return loss + self.model.collect_regularization_term()

    def _side_loss(
        self,
        shared: SharedBatch,
        part: slice,
        side: Target,
        scores: CandidateScores,
        own: OwnCandidates | None,
        label_smoothing: float,
    ) -> FloatTensor:
        """Compute the loss of replacing one side of a part of a batch."""
        answers = shared.positives[part, 2 if side == LABEL_TAIL else 0]
        weights = weigh_candidates(answers, shared.pools[side], own)
        vectors = shared.vectors[side]
        candidates = join_candidates(scores, weights, None if vectors is None else vectors[1][part])
        if side not in self._effective and len(answers):
            with torch.no_grad():
                self._effective[side] = effective_entities(scores.positive, candidates).median().item()
        row_weights = shared.weights[side]
        return correct_loss(self.loss, negatives_weight=self.negatives_weight)(
            scores.positive,
            candidates,
            num_entities=self._proposals[side].num_entities,
            label_smoothing=label_smoothing,
            row_weights=None if row_weights is None else row_weights[part],
        )

    # docstr-coverage: inherited
    def _slice_size_search(
        self,
        *,
        triples_factory: CoreTriplesFactory,
        batch_size: int,
        sub_batch_size: int,
        supports_sub_batching: bool,
    ) -> int:
        if not supports_sub_batching:
            # what keeps batches from being divided is batch normalisation, and so it is with slices
            raise MemoryError(
                f"batch_size={batch_size} does not fit into the memory, and {type(self.model).__name__} has batch "
                f"normalisation, so that batches can not be divided; make batch_size or num_shared smaller."
            )
        probe = functools.partial(
            self._train,
            triples_factory=triples_factory,
            num_epochs=1,
            batch_size=batch_size,
            sub_batch_size=sub_batch_size,
            only_size_probing=True,
        )
        largest = math.ceil(self.num_shared / 2)
        return search_slice_size(probe, self._free_graph_and_cache, largest=largest, batch_size=batch_size)
