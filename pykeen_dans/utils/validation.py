"""Checks of arguments whose errors name the argument, the value and the remedy."""

from __future__ import annotations

import difflib
import inspect
import itertools
import math
import numbers
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any, TypeVar

import numpy as np
import torch
from class_resolver import ClassResolver

__all__ = [
    "keywords_of",
    "lookup_by_name",
    "make_by_name",
    "unknown_name",
    "validate_at_least",
    "validate_bands",
    "validate_between",
    "validate_choice",
    "validate_device",
    "validate_finite",
    "validate_flag",
    "validate_keywords",
    "validate_mapping",
    "validate_non_negative",
    "validate_numbers",
    "validate_positive",
    "validate_sequence",
    "validate_share",
    "validate_triples",
]

X = TypeVar("X")
Number = TypeVar("Number", int, float)

#: Of more names than that, an error tells the nearest
_MANY = 12
#: The largest whole number that a tensor can hold
_MAX_INT = 2**63 - 1


def _plain(value: Any) -> Any:
    """Turn a scalar of numpy into that of Python, which JSON can express; anything else stays as it is."""
    return value.item() if isinstance(value, np.generic) else value


def validate_finite(name: str, value: Number) -> Number:
    """Check that a value is a finite number.

    :param name: the argument's name
    :param value: its value

    :returns: the value

    :raises ValueError: if it is not
    """
    number: Number = _plain(value)
    if isinstance(number, bool) or not isinstance(number, int | float) or not abs(number) < math.inf:
        raise ValueError(f"{name}={value!r} is not a finite number; pass one.")
    return number


def validate_between(name: str, value: Number, low: float, high: float) -> Number:
    """Check that a number lies in a closed interval.

    :param name: the argument's name
    :param value: its value
    :param low: the lowest valid value
    :param high: the highest valid value

    :returns: the value

    :raises ValueError: if it is outside
    """
    number = validate_finite(name, value)
    if not low <= number <= high:
        raise ValueError(f"{name}={value!r} is outside [{low:g}, {high:g}]; choose a value within.")
    return number


def validate_share(name: str, value: float) -> float:
    """Check that a number is a share, i.e. lies in [0, 1].

    :param name: the argument's name
    :param value: its value

    :returns: the value

    :raises ValueError: if it is not
    """
    return validate_between(name, value, 0, 1)


def validate_positive(name: str, value: Number) -> Number:
    """Check that a number is larger than zero.

    :param name: the argument's name
    :param value: its value

    :returns: the value

    :raises ValueError: if it is not
    """
    number = validate_finite(name, value)
    if number <= 0:
        raise ValueError(f"{name}={value!r} is not positive; choose a value larger than 0.")
    return number


def validate_non_negative(name: str, value: Number) -> Number:
    """Check that a number is not negative.

    :param name: the argument's name
    :param value: its value

    :returns: the value

    :raises ValueError: if it is
    """
    number = validate_finite(name, value)
    if number < 0:
        raise ValueError(f"{name}={value!r} is negative; choose 0 or a larger value.")
    return number


def validate_at_least(name: str, value: int, low: int) -> int:
    """Check that a whole number has at least some value.

    :param name: the argument's name
    :param value: its value
    :param low: the lowest valid value

    :returns: the value

    :raises ValueError: if it is smaller, or no whole number
    """
    if isinstance(value, bool | np.bool_) or not isinstance(value, numbers.Integral) or value < low:
        raise ValueError(f"{name}={value!r} is not a whole number of at least {low}; choose {low} or more.")
    if value > _MAX_INT:
        raise ValueError(f"{name}={value!r} is more than 64 bits hold; choose a smaller number.")
    return int(value)


def validate_flag(name: str, value: bool) -> bool:
    """Check that a value is true or false, and nothing that merely looks like it, such as the text ``"false"``.

    :param name: the argument's name
    :param value: its value

    :returns: the value

    :raises ValueError: if it is not
    """
    if not isinstance(value, bool | np.bool_):
        raise ValueError(f"{name}={value!r} is neither true nor false; choose True or False.")
    return bool(value)


def validate_choice(name: str, value: str, choices: Collection[str]) -> str:
    """Check that a value is one of the valid ones.

    :param name: the argument's name
    :param value: its value
    :param choices: the valid values

    :returns: the value

    :raises ValueError: if it is not
    """
    if not isinstance(value, str) or value not in choices:
        raise unknown_name(name, value, choices)
    return value


def unknown_name(name: str, value: object, choices: Collection[str]) -> ValueError:
    """Make the error of an unknown name, which tells the valid ones: all of them, or of many the nearest.

    :param name: the argument's name
    :param value: its value
    :param choices: the valid values

    :returns: the error
    """
    near = difflib.get_close_matches(str(value), choices, n=_MANY // 2, cutoff=0.0 if len(choices) > _MANY else 0.6)
    if len(choices) > _MANY:
        return ValueError(
            f"{name}={value!r} is unknown; choose one of {', '.join(near)} (the nearest of {len(choices)})."
        )
    hint = f"; the nearest is {near[0]}" if near else ""
    return ValueError(f"{name}={value!r} is unknown; choose one of {', '.join(sorted(choices))}{hint}.")


def validate_sequence(name: str, value: Iterable[Any]) -> tuple[Any, ...]:
    """Check that a value lists something, and is not a single text.

    :param name: the argument's name
    :param value: its value

    :returns: what it lists, with scalars of numpy as those of Python
    """
    no_list = isinstance(value, str | bytes | Mapping) or not isinstance(value, Iterable)
    # tensors and arrays of no dimension can not be iterated over, although they look like it
    if no_list or getattr(value, "ndim", 1) == 0:
        raise ValueError(f"{name}={value!r} is no list; give one, even of a single entry.")
    return tuple(map(_plain, value))


def validate_numbers(name: str, value: Iterable[float]) -> tuple[float, ...]:
    """Check that a value lists finite numbers.

    :param name: the argument's name
    :param value: its value

    :returns: the numbers
    """
    return tuple(float(validate_finite(name, number)) for number in validate_sequence(name, value))


def validate_mapping(name: str, value: Mapping[str, Any] | None) -> dict[str, Any]:
    """Check that a value is a mapping from names, as keyword arguments are.

    :param name: the argument's name
    :param value: its value, None for an empty mapping

    :returns: the mapping, with scalars of numpy as those of Python
    """
    if value is None:
        return {}
    if not isinstance(value, Mapping) or not all(isinstance(key, str) for key in value):
        raise ValueError(f"{name}={value!r} is no mapping from names to values; give e.g. a dict, or leave it out.")
    return {key: _plain(each) for key, each in value.items()}


def validate_triples(
    mapped_triples: Any, *, num_entities: int | None, num_relations: int | None
) -> tuple[int | None, int | None]:
    """Check that triples are a tensor of ids, and that they fit the numbers of entities and relations.

    :param mapped_triples: shape: (num_triples, 3) the triples
    :param num_entities: the number of entities, or None
    :param num_relations: the number of relations, or None

    :returns: both numbers

    :raises ValueError: if they do not
    """
    if not isinstance(mapped_triples, torch.Tensor) or mapped_triples.ndim != 2 or mapped_triples.shape[1] != 3:
        raise ValueError(f"mapped_triples={mapped_triples!r} is no tensor of shape (num_triples, 3); pass one of ids.")
    if mapped_triples.is_floating_point() or mapped_triples.is_complex() or mapped_triples.dtype == torch.bool:
        raise ValueError(f"mapped_triples has the type {mapped_triples.dtype}; pass whole numbers, e.g. torch.long.")
    if mapped_triples.shape[0] == 0:
        raise ValueError("mapped_triples is empty: at least one training triple is needed to generate negatives.")
    if int(mapped_triples.min()) < 0:
        raise ValueError(f"mapped_triples has the id {int(mapped_triples.min())}; ids begin with 0.")
    largest = mapped_triples.amax(dim=0).tolist()
    sizes = []
    for name, size, least in (
        ("num_entities", num_entities, max(largest[0], largest[2]) + 1),
        ("num_relations", num_relations, largest[1] + 1),
    ):
        if size is not None and validate_at_least(name, size, 1) < least:
            raise ValueError(f"{name}={size!r} is less than the triples have; choose {least} or more, or None.")
        sizes.append(None if size is None else int(size))
    return sizes[0], sizes[1]


def validate_bands(name: str, value: Sequence[int], num_timesteps: int) -> tuple[int, ...]:
    """Check the timesteps of hardness bands: at least one, the easiest (noisiest, i.e. latest) first.

    :param name: the argument's name
    :param value: the timesteps
    :param num_timesteps: the number of timesteps of the noise schedule

    :returns: the timesteps

    :raises ValueError: if one is outside of 1..num_timesteps, or if they do not strictly decrease
    """
    bands = validate_sequence(name, value)
    if not bands:
        raise ValueError(f"{name}={bands!r} is empty; give at least one timestep, e.g. ({num_timesteps},).")
    if not all(isinstance(t, int) and not isinstance(t, bool) and 1 <= t <= num_timesteps for t in bands):
        raise ValueError(
            f"{name}={bands!r} has values outside 1..{num_timesteps}; choose whole numbers from 1 to num_timesteps "
            f"(0 would restore the true entity), or raise num_timesteps."
        )
    if any(a <= b for a, b in itertools.pairwise(bands)):
        remedy = tuple(sorted(set(bands), reverse=True))
        raise ValueError(f"{name}={bands!r} does not strictly decrease; list the easiest band first, e.g. {remedy!r}.")
    return bands


def validate_device(name: str, value: str) -> torch.device:
    """Check that a device is there.

    :param name: the argument's name
    :param value: the name of the device

    :returns: the device

    :raises ValueError: if there is none of this name on this machine
    """
    try:
        # only work that is done there tells, for all kinds of devices
        torch.zeros(1, device=value).item()
    except (RuntimeError, AssertionError, NotImplementedError, TypeError, ValueError, OverflowError) as error:
        reason = str(error).partition(". ")[0].partition("\n")[0][:100]
        raise ValueError(
            f"{name}={value!r} is not there ({reason}); choose a device of this machine, e.g. 'cpu'."
        ) from error
    return torch.device(value)


def lookup_by_name(name: str, resolver: ClassResolver[X], query: Any) -> type[X]:
    """Look up a class by a resolver, with an error that tells the valid names.

    :param name: the argument's name
    :param resolver: the resolver
    :param query: the class' name, the class, an instance, or None for the default

    :returns: the class

    :raises ValueError: if there is no class of this name
    """
    try:
        return resolver.lookup(query)
    except (KeyError, TypeError, ValueError):
        raise unknown_name(name, query, resolver.options) from None


def validate_keywords(
    name: str,
    resolver: ClassResolver[X],
    query: Any,
    kwargs: Mapping[str, Any] | None,
    *,
    reserved: Collection[str] = (),
) -> type[X]:
    """Check that a class takes some keyword arguments.

    :param name: the argument by which the class is chosen; that of its keyword arguments is called ``<name>_kwargs``
    :param resolver: the resolver
    :param query: the class' name, the class, an instance, or None for the default
    :param kwargs: the keyword arguments
    :param reserved: further parameters of the class, which are given by others

    :returns: the class

    :raises ValueError: if there is no class of this name, or if it does not take one of the keyword arguments
    """
    cls = lookup_by_name(name, resolver, query)
    accepted = keywords_of(cls) - set(reserved)
    if unknown := sorted(set(validate_mapping(f"{name}_kwargs", kwargs)) - accepted):
        raise ValueError(
            f"{name}_kwargs has {', '.join(unknown)}, which {cls.__name__} does not take; it takes "
            f"{', '.join(sorted(accepted)) or 'none'}."
        )
    return cls


def keywords_of(cls: type[Any]) -> set[str]:
    """List the keyword arguments of a class, with those of its bases where it passes them on.

    :param cls: the class

    :returns: their names
    """
    accepted: set[str] = set()
    for base in cls.__mro__:
        if "__init__" in vars(base):
            parameters = inspect.signature(base).parameters
            accepted |= {key for key, each in parameters.items() if each.kind is not each.VAR_KEYWORD} - {"self"}
            if not any(p.kind is p.VAR_KEYWORD for p in parameters.values()):
                break
    return accepted


def make_by_name(name: str, resolver: ClassResolver[X], query: Any, kwargs: Mapping[str, Any] | None = None) -> X:
    """Make an instance by a resolver, with an error that tells the valid names.

    :param name: the argument's name
    :param resolver: the resolver
    :param query: the class' name, the class, an instance (which goes through), or None for the default
    :param kwargs: the keyword arguments of the class

    :returns: the instance

    :raises ValueError: if there is no class of this name, or if it does not take one of the keyword arguments
    """
    if isinstance(query, resolver.base):
        return query
    validate_keywords(name, resolver, query, kwargs)
    return resolver.make(query, pos_kwargs=validate_mapping(f"{name}_kwargs", kwargs))
