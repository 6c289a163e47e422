"""A generator of one's own: a known answer, blurred by noise that grows with the band."""

import torch
from pykeen.pipeline import pipeline
from pykeen.typing import FloatTensor

from pykeen_dans.generators import Generator, generator_resolver
from pykeen_dans.graph import Graph, QueryBatch
from pykeen_dans.space import EntitySpace


class BlurGenerator(Generator):
    """Generate vectors near a known answer: the easier the band, the more noise.

    :param dim: the dimension of the spaces
    :param num_relations: the number of relations
    :param num_bands: the number of hardness bands
    :param noise: the standard deviation of the noise of the easiest band; that of the others falls in equal steps
    """

    #: what adjust_hardness moves, so that it is kept with checkpoints
    changing = ("noise",)

    def __init__(self, *, dim: int, num_relations: int, num_bands: int, noise: float = 2.0) -> None:
        super().__init__(dim=dim, num_relations=num_relations, num_bands=num_bands)
        self.noise = [noise * (num_bands - band) / num_bands for band in range(num_bands)]

    def generate(
        self, *, space: EntitySpace, graph: Graph, queries: QueryBatch, random: torch.Generator
    ) -> FloatTensor:
        answers = graph.index.sample_answer(queries.rows, random).to(space.device)
        noise = torch.randn(len(queries), self.num_bands, 1, self.dim, generator=random).to(space.device)
        scale = torch.tensor(self.noise, device=space.device)[:, None, None]
        return space.vectors[answers][:, None, None] + scale * noise

    def adjust_hardness(self, band: int, source: int, *, harder: bool) -> bool:
        wanted = self.noise[band] * (0.8 if harder else 1.25)
        # bands keep their order
        upper = self.noise[band - 1] if band > 0 else 10.0
        lower = self.noise[band + 1] if band + 1 < self.num_bands else 0.1
        if not lower < wanted < upper:
            return False
        self.noise[band] = wanted
        return True


generator_resolver.register(BlurGenerator)

if __name__ == "__main__":
    result = pipeline(
        dataset="Nations",
        model="ComplEx",
        negative_sampler="dans_kgc",
        negative_sampler_kwargs=dict(generator="blur", generator_kwargs=dict(noise=1.5), targets=(0.4, 0.2)),
        training_kwargs=dict(callbacks="curriculum", num_epochs=5),
    )
