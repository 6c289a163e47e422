"""What is known of entities beside their triples: texts, images, numbers.

:func:`load_modalities` turns what a user gives, files or tensors, into one :class:`Modality` for each, aligned with the
entities of a graph. :func:`modalities_in_use` does so for the training under way, and finds what its data set brings
along.
"""

from .loading import load_modalities, modalities_in_use
from .modality import STRUCTURAL, Modality, attach_modalities, attached_modalities
from .text import TextEncoder, encode_texts, text_encoder_resolver

__all__ = [
    "STRUCTURAL",
    "Modality",
    "TextEncoder",
    "attach_modalities",
    "attached_modalities",
    "encode_texts",
    "load_modalities",
    "modalities_in_use",
    "text_encoder_resolver",
]
