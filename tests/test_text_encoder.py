"""Texts become features without any download."""

from __future__ import annotations

import pathlib
import sys
import types
from collections.abc import Sequence

import numpy as np
import pytest
import torch
from torch.nn.functional import cosine_similarity

from pykeen_dans.multimodal import encode_texts, text_encoder_resolver
from pykeen_dans.multimodal.text import TfidfTextEncoder

TEXTS = [
    "river in France",
    "the rivers of France",
    "",
    "city in Germany",
    "a large city of Germany",
    "!?",
    "film by John Ford",
    "film by Howard Hawks",
]


@pytest.fixture(autouse=True)
def _cache(isolated_cache: pathlib.Path) -> None:
    """Leave the user's cache alone."""


def test_similar_texts_are_near() -> None:
    """Each text is nearest to the one that shares words, or parts of words, with it."""
    features = encode_texts(TEXTS, encoder_kwargs=dict(dim=4))
    present = torch.tensor([0, 1, 3, 4, 6, 7])
    similarity = cosine_similarity(features[present][None], features[present][:, None], dim=-1)
    similarity.fill_diagonal_(-1)
    assert similarity.argmax(dim=-1).tolist() == [1, 0, 3, 2, 5, 4]


def test_scale_and_empty_texts() -> None:
    """Features have the size 1 in the mean, and texts with nothing in them are zero."""
    features = encode_texts(TEXTS)
    assert features.dtype == torch.float32
    assert (features == 0).all(dim=-1).tolist() == [False, False, True, False, False, True, False, False]
    covered = features[features.any(dim=-1)]
    assert covered.pow(2).mean(dim=-1).tolist() == pytest.approx([1] * 6, rel=1e-5)
    # no dimension is a rounding error
    assert torch.linalg.matrix_rank(covered, rtol=1e-4) == features.shape[1]


@pytest.mark.parametrize(
    ("texts", "dim"), [(["one"], 1), (["same text", "same text"], 1), (["a", "b"], 2), (["a b", "b c", "c d"], 2)]
)
def test_few_texts(texts: list[str], dim: int) -> None:
    """There are no more dimensions than different texts, and a term that occurs once counts if there are no others."""
    features = encode_texts(texts)
    assert features.shape == (len(texts), dim)
    assert features.isfinite().all()
    assert features.any(dim=-1).all()


def test_dimension() -> None:
    """The number of features is an upper limit."""
    assert encode_texts(TEXTS, encoder_kwargs=dict(dim=2)).shape == (8, 2)


def test_punctuation() -> None:
    """Texts without any word are not an error, although scikit-learn takes them for one."""
    features = encode_texts(["!?", "!?", "..."])
    assert features.any(dim=-1).tolist() == [True, True, False]


class Counting(TfidfTextEncoder):
    """Counts its calls."""

    calls = 0

    def encode(self, texts: Sequence[str]) -> torch.Tensor:
        type(self).calls += 1
        return super().encode(texts)


def test_cached_by_content(isolated_cache: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The same texts and options are encoded once; anything else is encoded anew; nothing is a pickle."""
    monkeypatch.setattr(Counting, "calls", 0)
    first = encode_texts(TEXTS, encoder=Counting)
    again = encode_texts(TEXTS, encoder=Counting(dim=128))
    assert Counting.calls == 1
    assert torch.equal(first, again)
    # where the empty ones are does not matter
    assert torch.equal(encode_texts([*TEXTS, ""], encoder=Counting)[:-1], first)
    assert Counting.calls == 1
    encode_texts([*TEXTS, "one more"], encoder=Counting)
    encode_texts(TEXTS, encoder=Counting, encoder_kwargs=dict(random_state=1))
    assert Counting.calls == 3
    assert {path.suffix for path in (isolated_cache / "text").iterdir()} == {".safetensors"}


def test_deterministic(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without the cache, the same texts give the same features, whatever the random state."""
    texts = [f"{a} {b}" for a in ("red", "green", "blue", "grey") for b in ("car", "house", "tree", "river", "hill")]
    results = []
    for seed in (0, 1):
        np.random.seed(seed)
        torch.manual_seed(seed)
        results.append(TfidfTextEncoder(dim=3).encode(texts))
    assert torch.equal(*results)


@pytest.mark.parametrize(
    ("kwargs", "message"),
    [
        (dict(encoder="unknown"), "encoder='unknown' is unknown; choose one of sentencetransformer, tfidf"),
        (dict(encoder_kwargs=dict(dim=0)), "dim=0"),
        (dict(encoder_kwargs=dict(min_count=0)), "min_count=0"),
        (dict(encoder_kwargs=dict(max_terms=0)), "max_terms=0"),
        (dict(encoder_kwargs=dict(random_state=-1)), "random_state=-1"),
    ],
)
def test_bad_options(kwargs: dict, message: str) -> None:
    """Options are checked before anything is read."""
    with pytest.raises(ValueError, match=message):
        encode_texts(TEXTS, **kwargs)


def test_no_text() -> None:
    """Without any text there is nothing to encode."""
    with pytest.raises(ValueError, match="2 texts, all of them empty"):
        encode_texts(["", " "])


def test_sentence_transformer(monkeypatch: pytest.MonkeyPatch) -> None:
    """The options reach sentence-transformers, and its vectors come back."""
    made = []

    class SentenceTransformer:
        def __init__(self, name: str, device: str | None) -> None:
            made.append((name, device))

        def encode(self, texts: list[str], **kwargs: object) -> np.ndarray:
            assert kwargs["batch_size"] == 7 and not kwargs["show_progress_bar"]
            return np.array([[len(text), 1.0] for text in texts])

    module = types.ModuleType("sentence_transformers")
    module.SentenceTransformer = SentenceTransformer  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "sentence_transformers", module)
    options = dict(model="a-model", batch_size=7, device="cpu")
    features = encode_texts(["abc", "", "d"], encoder="sentence-transformer", encoder_kwargs=options)
    assert made == [("a-model", "cpu")]
    assert not features[1].any()
    assert (features[0, 0] / features[0, 1]).item() == pytest.approx(3)


def test_sentence_transformer_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    """What has to be installed is said."""
    monkeypatch.setitem(sys.modules, "sentence_transformers", None)
    with pytest.raises(ValueError, match=r"pip install pykeen-dans\[text\]"):
        encode_texts(["abc"], encoder="sentencetransformer")


def test_names() -> None:
    """Encoders go by short names."""
    assert {"tfidf", "sentencetransformer"} <= set(text_encoder_resolver.options)
