r"""Diffusion over several modalities, the generator of DHNS (Niu & Zhang, 2025).

There are two hierarchies. Within a modality, the timesteps of the reverse process are bands of *hardness*, as in
:mod:`pykeen_dans.generators.diffusion_process`; the modalities are *semantic* levels (see
:mod:`pykeen_dans.multimodal.levels`), which are the sources of this generator.

As in the paper, one conditional network serves all modalities by default, and its loss is the sum over them. Ours is
told which modality it restores, and which side; the published one is told neither (see
:mod:`pykeen_dans.multimodal.published`).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

from ..generators import DiffusionGenerator, generator_resolver
from ..generators.diffusion_process import DiffusionProcess
from ..space import EntitySpace
from ..utils.validation import validate_flag, validate_sequence
from .levels import SemanticLevel

__all__ = [
    "HierarchicalGenerator",
]


class HierarchicalGenerator(DiffusionGenerator):
    """Generate vectors by conditional diffusion in the spaces of several modalities.

    All entities get the same noise in this method, so that ``mu`` is 0 and ``difficulty`` is ``"constant"``.

    :param dim: the dimension of the spaces
    :param num_relations: the number of relations
    :param num_bands: the number of hardness bands
    :param levels: the semantic levels, easy first; without any, there is the structural level alone
    :param shared: whether one network serves all modalities, else each has one of its own
    :param kwargs: as for :class:`DiffusionGenerator`

    :raises ValueError: if an argument is invalid
    """

    ordered: ClassVar[bool] = True
    #: Whether to standardise the spaces
    standardised: ClassVar[bool] = True
    #: The process over the space of each level
    process_cls: ClassVar[type[DiffusionProcess]] = DiffusionProcess

    def __init__(
        self,
        *,
        dim: int,
        num_relations: int,
        num_bands: int = 4,
        levels: Sequence[SemanticLevel] = (),
        shared: bool = True,
        **kwargs: Any,
    ) -> None:
        """Initialise the generator."""
        # the processes that are made in the base class are those of the levels
        self.levels = validate_sequence("levels", levels) or (SemanticLevel("structural"),)
        if not all(isinstance(level, SemanticLevel) for level in self.levels):
            raise ValueError(f"levels={levels!r} are not semantic levels; name them to the sampler 'dhns' instead.")
        self.shared = validate_flag("shared", shared)
        self.sources = tuple(level.name for level in self.levels)
        defaults = {"mu": 0.0, "difficulty": "constant"}
        super().__init__(dim=dim, num_relations=num_relations, num_bands=num_bands, **{**defaults, **kwargs})
        self._spaces: tuple[EntitySpace, Sequence[EntitySpace]] | None = None

    def make_processes(self) -> list[DiffusionProcess]:
        """Make the diffusion process of each semantic level."""
        number = len(self.levels)
        denoisers = (
            [self.make_denoiser(number)] * number if self.shared else [self.make_denoiser() for _ in self.levels]
        )
        return [
            self.process_cls(
                dim=self.dim,
                denoiser=denoiser,
                schedule=self.schedule,
                bands=self.bands,
                modality=modality if self.shared else 0,
                **self.process_options,
            )
            for modality, denoiser in enumerate(denoisers)
        ]

    def spaces(self, space: EntitySpace) -> Sequence[EntitySpace]:
        """Make the space of each semantic level, once for each structural space, see :meth:`Generator.spaces`."""
        if self._spaces is None or self._spaces[0] is not space:
            self._spaces = (space, [level.space(space, standardised=self.standardised) for level in self.levels])
        return self._spaces[1]


generator_resolver.register(HierarchicalGenerator)
