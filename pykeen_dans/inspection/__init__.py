"""A look at negatives: statistics, pictures, and the command line."""

from .negatives import describe, negatives_frame
from .subject import Subject, bank_of, sampler_of, subject_of

__all__ = [
    "Subject",
    "bank_of",
    "describe",
    "negatives_frame",
    "sampler_of",
    "subject_of",
]
