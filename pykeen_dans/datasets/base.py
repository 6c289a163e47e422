"""Data sets whose published files have to be decoded before PyKEEN can read them."""

from __future__ import annotations

import hashlib
import logging
import os
import pathlib
import tempfile
from abc import abstractmethod
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, ClassVar

from pykeen.datasets.base import Dataset, PathDataset
from pystow.utils import download

__all__ = [
    "DecodedDataset",
    "OpenKEDataset",
    "github_raw",
]

logger = logging.getLogger(__name__)

#: The files that PyKEEN reads: labeled triples, tab-separated, in the order head, relation, tail
SPLITS: Sequence[str] = ("train.txt", "valid.txt", "test.txt")


def github_raw(repository: str, commit: str, path: str) -> str:
    """Return the address of a folder in a public repository, pinned to a commit.

    :param repository: The owner and name of the repository.
    :param commit: The commit.
    :param path: The path of the folder inside of the repository.

    :return: The address, without a trailing slash.
    """
    return f"https://raw.githubusercontent.com/{repository}/{commit}/{path}"


def read_lines(path: pathlib.Path) -> Iterator[str]:
    """Iterate over the non-empty lines of a UTF-8 file, without line ends.

    Only line feeds end a line: some labels contain other characters which :meth:`str.splitlines` takes for line ends.

    :param path: The path of the file.

    :yields: The lines.
    """
    with path.open(encoding="utf-8", newline="\n") as file:
        yield from filter(None, (line.rstrip("\r\n") for line in file))


class DecodedDataset(PathDataset):
    """A data set whose published files are downloaded and decoded into ``train.txt``, ``valid.txt`` and ``test.txt``.

    The decoded files lie in PyKEEN's ordinary directory for the data set. Only where one of them is missing are the
    published files downloaded. So a machine without network access can be given the decoded files.
    """

    #: The address of the folder with the published files
    source_url: ClassVar[str]

    #: The names of the published files
    source_names: ClassVar[Sequence[str]]

    #: The SHA-256 of the decoded files
    sha256: ClassVar[Mapping[str, str]] = {}

    def __init__(
        self,
        *,
        cache_root: str | pathlib.Path | None = None,
        force: bool = False,
        source_url: str | None = None,
        download_kwargs: Mapping[str, Any] | None = None,
        **kwargs: Any,
    ) -> None:
        """Initialize the data set.

        :param cache_root: An optional directory for the decoded files; they lie in its sub-directory with the name of
            the class in lower case. If none is given, the default PyKEEN directory is used. This is defined either by
            the environment variable ``PYKEEN_HOME`` or defaults to ``~/.data/pykeen``.
        :param force: If true, download and decode again.
        :param source_url: The address of a folder with copies of the published files, e.g. a mirror, or a ``file://``
            address. Defaults to the publisher's.
        :param download_kwargs: Keyword arguments to pass to :func:`pystow.utils.download`.
        :param kwargs: Keyword arguments to pass to :class:`pykeen.datasets.base.PathDataset`: ``eager`` and
            ``create_inverse_triples``, which are false by default, and ``load_triples_kwargs``.
        """
        self.cache_root = self._help_cache(cache_root)
        training, validation, testing = (self.cache_root.joinpath(name) for name in SPLITS)
        if force or not all(path.is_file() for path in (training, validation, testing)):
            self._download(source_url, {"backend": "urllib", **(download_kwargs or {})})
        super().__init__(training_path=training, testing_path=testing, validation_path=validation, **kwargs)

    # docstr-coverage: inherited
    @classmethod
    def from_directory_binary(cls, path: str | pathlib.Path) -> Dataset:  # noqa: D102
        # PyKEEN writes this file last, and takes a copy without it for a whole one
        if not pathlib.Path(path, cls.metadata_file_name).is_file():
            raise ValueError(
                f"PyKEEN's copy of {cls.__name__} in {path} is not whole, since writing it was interrupted; load the "
                f"data set once with dataset_kwargs=dict(force=True)."
            )
        return super().from_directory_binary(path)

    @abstractmethod
    def _decode(self, directory: pathlib.Path) -> Iterable[tuple[str, Iterable[str]]]:
        """Decode the published files.

        :param directory: The directory of the published files.

        :yields: Pairs of the name of a decoded file and its lines.
        """
        raise NotImplementedError

    def _download(self, url: str | None, download_kwargs: Mapping[str, Any]) -> None:
        """Download the published files, decode them, and put the decoded files in place.

        :param url: The address of the folder with the published files, or None for the publisher's. Only then are the
            decoded files compared with the known checksums.
        :param download_kwargs: Keyword arguments to pass to :func:`pystow.utils.download`.

        :raises ValueError: if the published files are incomplete, or of another format
        """
        # on the same file system, so that the finished files can be moved in one step: there never is half a file
        with tempfile.TemporaryDirectory(dir=self.cache_root, prefix=".incomplete-") as name:
            source, target = (pathlib.Path(name, part) for part in ("source", "decoded"))
            source.mkdir()
            target.mkdir()
            for source_name in self.source_names:
                download(f"{url or self.source_url}/{source_name}", source.joinpath(source_name), **download_kwargs)
            try:
                for decoded_name, lines in self._decode(source):
                    with target.joinpath(decoded_name).open("w", encoding="utf-8", newline="\n") as file:
                        file.writelines(f"{line}\n" for line in lines)
            except (ValueError, LookupError) as error:
                raise ValueError(
                    f"The files of {url or self.source_url} cannot be decoded ({error}): the download was incomplete, "
                    f"or they are not those of {self.__class__.__name__}. Try again, or pass another source_url."
                ) from error
            # the three splits last: by them it is told whether all files are there
            for path in sorted(target.iterdir(), key=lambda path: (path.name in SPLITS, path.name)):
                if url is None:
                    self._verify(path)
                os.replace(path, self.cache_root.joinpath(path.name))
        logger.info("Stored the files of %s in %s", self.__class__.__name__, self.cache_root.as_uri())

    def _verify(self, path: pathlib.Path) -> None:
        """Warn if a decoded file is not what it has been when the documented statistics were computed."""
        expected = self.sha256.get(path.name)
        actual = hashlib.sha256(path.read_bytes()).hexdigest()
        if expected is not None and actual != expected:
            logger.warning(
                "%s of %s has the SHA-256 %s instead of %s: results are not comparable with those on the "
                "documented version. Load the data set with force=True to download it again.",
                *(path.name, self.__class__.__name__, actual, expected),
            )


class OpenKEDataset(DecodedDataset):
    """A data set in the format of OpenKE: integer triples, and files that map labels to integers.

    The first line of each file is the number of the lines that follow. In the triples' files, the columns are head,
    **tail**, relation. Apart from the splits, the decoded files include the labels in the order of their integers, as
    ``entities.txt`` and ``relations.txt``: published feature files (e.g. of images) follow this order.
    """

    source_names = ("entity2id.txt", "relation2id.txt", "train2id.txt", "valid2id.txt", "test2id.txt")

    # docstr-coverage: inherited
    def _decode(self, directory: pathlib.Path) -> Iterable[tuple[str, Iterable[str]]]:
        entities, relations = (self._read_labels(directory / f"{kind}2id.txt") for kind in ("entity", "relation"))
        yield "entities.txt", entities.values()
        yield "relations.txt", relations.values()
        for name in SPLITS:
            triples = (map(int, line.split()) for line in self._read_counted(directory / name.replace(".", "2id.")))
            yield name, (f"{entities[h]}\t{relations[r]}\t{entities[t]}" for h, t, r in triples)

    @staticmethod
    def _read_counted(path: pathlib.Path) -> list[str]:
        """Read the lines of a file that begins with their number."""
        first, *lines = list(read_lines(path)) or [""]
        if first.strip() != str(len(lines)):
            raise ValueError(f"{path.name} announces {first!r} lines, but has {len(lines)}")
        return lines

    @classmethod
    def _read_labels(cls, path: pathlib.Path) -> dict[int, str]:
        """Read labels, in the order of their integers."""
        pairs = (line.rsplit(maxsplit=1) for line in cls._read_counted(path))
        labels = dict(sorted((int(index), label) for label, index in pairs))
        if list(labels) != list(range(len(labels))):
            raise ValueError(f"{path.name} does not number its labels from 0 on")
        return labels
