"""From texts to features.

The default needs no pre-trained model, and downloads nothing: how often a text has which words and which groups of
letters (TF-IDF), reduced to a few dimensions by a singular value decomposition, which is known as latent semantic
analysis [Deerwester1990]_. These are *not* the features of any paper, which come from pre-trained language
models; texts of entities that share no word are not found to be similar. Where `sentence-transformers
<https://sbert.net>`_ is installed, its models can be used instead.
"""

from __future__ import annotations

import contextlib
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from class_resolver import ClassResolver, HintOrType
from pykeen.typing import FloatTensor
from torch.nn import functional

from ..utils.storage import cached_tensors, content_key
from ..utils.validation import make_by_name, validate_at_least

__all__ = [
    "SentenceTransformerTextEncoder",
    "TextEncoder",
    "TfidfTextEncoder",
    "encode_texts",
    "text_encoder_resolver",
]

#: Changes when the same texts and options are to give other features, so that files of older versions are not used
_VERSION = 2

#: Dimensions whose singular value is smaller than this part of the largest one hold nothing
_SMALLEST = 1e-5

#: The kinds of terms: words and pairs of them, and groups of letters
_TERMS: Sequence[Mapping[str, Any]] = (
    {"analyzer": "word", "token_pattern": r"\w+", "ngram_range": (1, 2)},
    {"analyzer": "char_wb", "ngram_range": (3, 5)},
)


class TextEncoder(ABC):
    """Turns texts into features."""

    @property
    def key(self) -> Mapping[str, Any]:
        """What the features depend on beside the texts, as JSON; by default, all attributes."""
        return vars(self)

    @abstractmethod
    def encode(self, texts: Sequence[str]) -> FloatTensor:
        """Encode texts.

        :param texts: the texts, none of them empty

        :returns: shape: (len(texts), dim) features
        """
        raise NotImplementedError


class TfidfTextEncoder(TextEncoder):
    """TF-IDF of words and of groups of letters, reduced by a truncated singular value decomposition.

    Words, and pairs of words, tell what a text is about; groups of letters inside of words also match inflected forms
    and parts of names. Both have equal weight. All of this is our choice.

    :param dim: the largest number of features; there are fewer if there are not so many texts or terms
    :param min_count: the number of texts in which a term has to occur, 1 where no term occurs so often
    :param max_terms: the largest number of terms of each kind, the most frequent ones
    :param random_state: the seed of the decomposition
    """

    def __init__(self, *, dim: int = 128, min_count: int = 2, max_terms: int = 50_000, random_state: int = 0) -> None:
        """Initialise the encoder."""
        self.dim = validate_at_least("dim", dim, 1)
        self.min_count = validate_at_least("min_count", min_count, 1)
        self.max_terms = validate_at_least("max_terms", max_terms, 1)
        self.random_state = validate_at_least("random_state", random_state, 0)

    # docstr-coverage: inherited
    def encode(self, texts: Sequence[str]) -> FloatTensor:  # noqa: D102
        # imported late, since it takes long
        import scipy.sparse
        from sklearn.decomposition import TruncatedSVD
        from sklearn.feature_extraction.text import TfidfVectorizer

        parts: list[Any] = []
        for min_count in (min(self.min_count, len(texts)), 1):
            for terms in _TERMS:
                vectorizer = TfidfVectorizer(min_df=min_count, max_features=self.max_terms, sublinear_tf=True, **terms)
                # what scikit-learn says where no term is frequent enough, or there is no letter
                with contextlib.suppress(ValueError):
                    parts.append(vectorizer.fit_transform(texts))
            if parts:
                break
        counts = scipy.sparse.hstack(parts).tocsr()
        decomposition = TruncatedSVD(n_components=min(self.dim, *counts.shape), random_state=self.random_state)
        with np.errstate(invalid="ignore"):
            # of equal texts, it divides by a variance of zero, for a number that is not used here
            features = torch.from_numpy(decomposition.fit_transform(counts)).float()
        # few different texts span fewer dimensions; the others would be rounding errors
        sizes = torch.from_numpy(decomposition.singular_values_)
        return features[:, sizes > _SMALLEST * sizes.max()]


class SentenceTransformerTextEncoder(TextEncoder):
    """A pre-trained model of sentence-transformers, which may have to be downloaded.

    :param model: the name of a model, or the path of a folder
    :param batch_size: the number of texts that are encoded at once
    :param device: the device, default: what sentence-transformers chooses
    """

    def __init__(
        self,
        *,
        model: str = "sentence-transformers/all-MiniLM-L6-v2",
        batch_size: int = 32,
        device: str | None = None,
    ) -> None:
        """Initialise the encoder."""
        self.model = model
        self.batch_size = validate_at_least("batch_size", batch_size, 1)
        self.device = device

    # docstr-coverage: inherited
    @property
    def key(self) -> Mapping[str, Any]:  # noqa: D102
        return {"model": self.model}

    # docstr-coverage: inherited
    def encode(self, texts: Sequence[str]) -> FloatTensor:  # noqa: D102
        try:
            from sentence_transformers import SentenceTransformer
        except ImportError as error:
            raise ValueError(
                "encoder='sentencetransformer' needs sentence-transformers: pip install pykeen-dans[text], or use "
                "encoder='tfidf'."
            ) from error
        model = SentenceTransformer(self.model, device=self.device)
        encoded = model.encode(list(texts), batch_size=self.batch_size, show_progress_bar=False, convert_to_numpy=True)
        return torch.as_tensor(encoded).float()


#: A resolver for text encoders
text_encoder_resolver: ClassResolver[TextEncoder] = ClassResolver.from_subclasses(
    base=TextEncoder,  # type: ignore[type-abstract]
    default=TfidfTextEncoder,
)


def encode_texts(
    texts: Sequence[str],
    *,
    encoder: HintOrType[TextEncoder] = None,
    encoder_kwargs: Mapping[str, Any] | None = None,
) -> FloatTensor:
    """Encode the texts of entities, or load what has been made of the same texts before.

    Rows are scaled such that their norm is the square root of their length, i.e., that a feature has the size 1 in the
    mean. The direction is what tells texts apart; the norm would depend on their length.

    :param texts: the text of each entity, empty where there is none
    :param encoder: the encoder, see :data:`text_encoder_resolver`
    :param encoder_kwargs: its parameters

    :returns: shape: (len(texts), dim) features, rows of zeros for empty texts, and for those in which the encoder finds
        nothing

    :raises ValueError: if all texts are empty, or the encoder is unknown
    """
    instance = make_by_name("encoder", text_encoder_resolver, encoder, encoder_kwargs)
    present = [index for index, text in enumerate(texts) if text.strip()]
    if not present:
        raise ValueError(f"texts has {len(texts)} texts, all of them empty; give some.")
    documents = [texts[index] for index in present]
    key = content_key(
        texts=documents,
        encoder=text_encoder_resolver.normalize_cls(type(instance)),
        options=dict(instance.key),
        version=_VERSION,
    )
    shapes = {"features": (len(documents), None)}
    encoded = cached_tensors("text", key, lambda: {"features": instance.encode(documents)}, shapes=shapes)["features"]
    features = torch.zeros(len(texts), encoded.shape[1])
    features[torch.tensor(present)] = functional.normalize(encoded, dim=-1) * encoded.shape[1] ** 0.5
    return features
