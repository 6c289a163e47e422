"""All that is compared, in one table: samplers, references, controls, and the ablations of each paper.

A variant whose sampler, or whose option, this installation does not have is left out with one line in the log. So the
table may name what comes later: its rows appear by themselves, and are never made up.
"""

from __future__ import annotations

import dataclasses
import inspect
import logging
from collections.abc import Iterable, Mapping
from typing import Any

from pykeen.sampling import negative_sampler_resolver

__all__ = [
    "VARIANTS",
    "Variant",
    "available",
    "missing",
]

logger = logging.getLogger(__name__)

DIFFUSION, GAN, HIERARCHICAL = "diffusionadaptive", "twowaygan", "hierarchical"
#: The sampler and the callbacks that the shipped recipe names
AS_SHIPPED = "as shipped"


@dataclasses.dataclass(frozen=True)
class Variant:
    """One kind of negatives.

    :param label: how tables call it
    :param sampler: the sampler, by its normalised name, since PyKEEN's validator knows no synonyms, or
        :data:`AS_SHIPPED`
    :param callback: ``curriculum``, ``oracle`` (of this suite, no configuration can name it), or None
    :param num_negatives: negatives for each positive, default: the recipe's
    :param sampler_kwargs: further options of the sampler
    :param callback_kwargs: options of the callback
    :param kind: ``sampler``, ``reference``, ``control`` or ``ablation``
    """

    label: str
    sampler: str
    callback: str | None = None
    num_negatives: int | None = None
    sampler_kwargs: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    callback_kwargs: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    kind: str = "sampler"


def _live(label: str, sampler: str = DIFFUSION, *, kind: str = "ablation", **sampler_kwargs: Any) -> Variant:
    """Make a variant that is coupled to the model under training."""
    return Variant(label, sampler, callback="curriculum", sampler_kwargs=sampler_kwargs, kind=kind)


def _latent(label: str, *, weight: float = 0.05, kind: str = "sampler", **sampler_kwargs: Any) -> Variant:
    """Make a variant of dans that scores generated vectors themselves, as the paper does, 20 negatives with the ids."""
    return Variant(
        label,
        GAN,
        callback="curriculum",
        num_negatives=16,
        sampler_kwargs={"curriculum_kwargs": {"share": 0.0}, **sampler_kwargs},
        callback_kwargs={"latent_weight": weight},
        kind=kind,
    )


#: name -> variant, in the order of tables. Names are keys of result files: they are never given another meaning.
VARIANTS: dict[str, Variant] = {
    "basic": Variant("basic", "basic"),
    "bernoulli": Variant("bernoulli", "bernoulli"),
    "pseudotyped": Variant("pseudo-typed", "pseudotyped"),
    "alone": Variant("dans_kgc, alone", DIFFUSION),
    "live": _live("dans_kgc, live (defaults)", kind="sampler"),
    "dans": _live("dans, live (defaults)", GAN, kind="sampler"),
    "dhns": _live("dhns, structural, live (defaults)", HIERARCHICAL, kind="sampler"),
    "shipped": Variant("the shipped recipe as it is", AS_SHIPPED),
    "basic-64": Variant("basic, 64 negatives", "basic", num_negatives=64, kind="reference"),
    "oracle": Variant("oracle bank (all entities scored)", DIFFUSION, callback="oracle", kind="reference"),
    # dans_kgc
    "noise": _live("dans_kgc, noise control (untrained denoiser)", kind="control", trained=False),
    "share-0": Variant(
        "dans_kgc, no generated negatives",
        DIFFUSION,
        sampler_kwargs={"curriculum_kwargs": {"share": 0.0}},
        kind="control",
    ),
    "no-dam": _live("dans_kgc w/o DAM (constant difficulty)", difficulty="constant"),
    "no-ccd": _live("dans_kgc w/o CCD (no condition)", conditioned=False),
    "no-dtm": _live("dans_kgc w/o DTM (constant curriculum, share .25)", curriculum="constant"),
    "constant-share": _live("dans_kgc, share .25 throughout", curriculum_kwargs={"share": 0.25}),
    "growing-share": _live("dans_kgc, share growing from 0 to .5", curriculum_kwargs={"share": [0.0, 0.5]}),
    # the phase falls, so that the share falls with it as by default
    "reversed": _live("dans_kgc, hard to easy", curriculum="reversed", curriculum_kwargs={"share": [0.0, 0.5]}),
    # dans
    "dans-noise": _live("dans, noise control (fakes are prior samples)", GAN, kind="control", trained=False),
    "dans-entity": _live("dans, entity pathway only", GAN, ways=["entity"]),
    "dans-relation": _live("dans, entity-and-relation pathway only", GAN, ways=["relation"]),
    "dans-plain": _live("dans, fakes that do not begin at the priors, as in the paper", GAN, residual=False),
    "dans-no-film": _live("dans w/o FiLM", GAN, film=False),
    "dans-no-pathway-loss": _live("dans w/o pathway loss", GAN, pathway_loss=False),
    "dans-random": _live("dans, all uniform", GAN, kind="control", curriculum_kwargs={"share": 0.0}),
    "dans-latent": _latent("dans, latent mode, weight .05: 16 uniform ids, 4 generated vectors"),
    "dans-latent-small": _latent("dans, latent mode, the same with weight .01", weight=0.01, kind="ablation"),
    "dans-latent-noise": _latent(
        "dans, latent mode, noise control (vectors come from prior samples)", kind="control", trained=False
    ),
    "dans-fakes-noise": _latent(
        "dans, latent mode as shipped for UMLS, noise control (vectors are prior samples)",
        kind="control",
        trained=False,
        distances=[1.0],
        targets=[0.2],
    ),
    # dhns
    "dhns-alone": Variant("dhns, structural, alone", HIERARCHICAL, kind="ablation"),
    "dhns-noise": _live(
        "dhns, structural, noise control (untrained denoiser)", HIERARCHICAL, kind="control", trained=False
    ),
}


def missing(name: str) -> str | None:
    """Tell why a variant cannot be run here.

    :param name: the name of the variant

    :returns: the reason, or None where it can be run
    """
    variant = VARIANTS[name]
    if variant.sampler == AS_SHIPPED:
        return None
    cls = negative_sampler_resolver.lookup_dict.get(variant.sampler)
    if cls is None:
        return f"there is no sampler {variant.sampler!r} in this installation"
    unknown = sorted(set(variant.sampler_kwargs) - set(inspect.signature(cls.__init__).parameters))
    if unknown:
        return f"the sampler {variant.sampler!r} has no option {', '.join(unknown)}"
    return None


def available(names: Iterable[str]) -> list[str]:
    """Leave out the variants that cannot be run here, with a line in the log for each.

    :param names: names of variants

    :returns: those that can be run, in the same order
    """
    kept = []
    for name in names:
        reason = missing(name)
        if reason is None:
            kept.append(name)
        else:
            logger.warning("%s is left out: %s.", name, reason)
    return kept
