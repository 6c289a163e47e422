"""An on-disk cache of tensors, by the content they were made from.

Files are safetensors, which hold nothing but numbers: reading one runs no code, unlike a pickle. They are written to a
temporary file first and then moved into place, so that no reader ever sees half a file, and so that two processes which
make the same tensors at once both succeed.
"""

from __future__ import annotations

import contextlib
import hashlib
import itertools
import json
import logging
import os
import pathlib
import secrets
from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

__all__ = [
    "cached_tensors",
    "content_key",
    "replacing",
]

if TYPE_CHECKING:
    from typing import TypeAlias

    #: By the name of a tensor its shape, with None for a dimension of any size
    Shapes: TypeAlias = Mapping[str, tuple[int | None, ...]]

logger = logging.getLogger(__name__)

#: The entries of a file's metadata: the key it was written for, and the key of the tensors themselves
_KEY, _CHECKSUM = "key", "checksum"

_unwritable: set[pathlib.Path] = set()


def content_key(**parts: Any) -> str:
    """Compute a key of content, the same in each process and on each platform of the same byte order.

    :param parts: tensors, by their shape, type and values, and anything that JSON can express

    :returns: 64 hexadecimal digits (SHA-256)

    :raises TypeError: if a part is neither a tensor nor expressible as JSON
    """
    digest = hashlib.sha256()
    for name in sorted(parts):
        value = parts[name]
        if isinstance(value, Tensor):
            value = value.detach().cpu().contiguous()
            data = value.reshape(-1).view(torch.uint8).numpy().data
            head: list[Any] = [name, "tensor", str(value.dtype), list(value.shape)]
        else:
            data = memoryview(b"")
            head = [name, "json", value]
        # the length in front keeps neighbouring parts apart
        encoded = json.dumps(head, sort_keys=True, allow_nan=False).encode()
        digest.update(len(encoded).to_bytes(8, "little"))
        digest.update(encoded)
        digest.update(data)
    return digest.hexdigest()


def _default_directory(name: str) -> pathlib.Path:
    import pystow

    return pathlib.Path(pystow.join("pykeen", "dans", name, ensure_exists=False))


def _check(tensors: Mapping[str, Tensor], shapes: Shapes) -> None:
    """Check that tensors are what is expected.

    :raises ValueError: if one has another name or shape, or a value that is not finite
    """
    found = {name: tuple(tensor.shape) for name, tensor in tensors.items()}
    # where any size will do, the one that was found is expected
    expected = {
        name: tuple(
            size if want is None else want
            for want, size in itertools.zip_longest(shape, found.get(name, ()), fillvalue=-1)
        )
        for name, shape in shapes.items()
    }
    if found != expected:
        raise ValueError(f"it holds {found}, where {dict(shapes)} was expected")
    for name, tensor in tensors.items():
        if not bool(tensor.isfinite().all()):
            raise ValueError(f"{name} has values that are not finite")


def _read(path: pathlib.Path, key: str, shapes: Shapes) -> dict[str, Tensor] | None:
    """Read a file, None where it does not exist or is unusable."""
    from safetensors import SafetensorError, safe_open

    if not path.is_file():
        return None
    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            if metadata.get(_KEY) != key:
                raise ValueError("it was not written for this key")
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        _check(tensors, shapes)
        if metadata.get(_CHECKSUM) != content_key(**tensors):
            raise ValueError("its checksum does not match its content")
        return tensors
    except (SafetensorError, ValueError, OSError) as error:
        logger.warning("The cache file %s is unusable (%s); it is made anew.", path, error)
    return None


@contextlib.contextmanager
def replacing(path: pathlib.Path) -> Iterator[pathlib.Path]:
    """Write a file in one go, so that nobody ever finds a part of it, whenever the process ends.

    :param path: the file

    :yields: a file beside it, which takes its place when all has been written
    """
    temporary = path.with_name(f".{path.name[:16]}-{secrets.token_hex(8)}.tmp")
    try:
        yield temporary
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def _write(path: pathlib.Path, key: str, tensors: Mapping[str, Tensor]) -> None:
    """Write a file in one go.

    :raises OSError: if it cannot be written
    """
    from safetensors import SafetensorError
    from safetensors.torch import save_file

    path.parent.mkdir(parents=True, exist_ok=True)
    # copies, since tensors of one file must not share memory
    copies = {name: tensor.clone() for name, tensor in tensors.items()}
    try:
        with replacing(path) as temporary:
            save_file(copies, temporary, metadata={_KEY: key, _CHECKSUM: content_key(**tensors)})
    except SafetensorError as error:
        raise OSError(str(error)) from error


def cached_tensors(
    name: str,
    key: str,
    make: Callable[[], Mapping[str, Tensor]],
    *,
    shapes: Shapes,
    directory: str | os.PathLike[str] | None = None,
) -> dict[str, Tensor]:
    """Load tensors from the cache, or make them and put them there.

    A file that is damaged, foreign, or not as expected is made anew, with one warning that names it.

    :param name: the kind of content, which names the folder
    :param key: the key of the content, see :func:`content_key`
    :param make: makes the tensors
    :param shapes: the expected shape of each tensor, with None for a dimension of any size
    :param directory: where the file ``<key>.safetensors`` lies. Defaults to ``dans/<name>`` in PyKEEN's data folder.

    :returns: the tensors, on the CPU
    """
    folder = pathlib.Path(directory) if directory is not None else _default_directory(name)
    path = folder / f"{key}.safetensors"
    found = _read(path, key, shapes)
    if found is not None:
        return found
    made = {part: tensor.detach().cpu().contiguous() for part, tensor in make().items()}
    try:
        _write(path, key, made)
    except OSError as error:
        if folder not in _unwritable:
            _unwritable.add(folder)
            logger.warning("Cannot write to the cache folder %s (%s); going on without a cache.", folder, error)
    return made
