"""Checks of arguments whose errors name the argument, the value and the remedy."""

from __future__ import annotations

import inspect
import itertools
import math
from collections.abc import Collection, Mapping, Sequence
from typing import Any, TypeVar

import torch
from class_resolver import ClassResolver

__all__ = [
    "make_by_name",
    "validate_at_least",
    "validate_bands",
    "validate_between",
    "validate_choice",
    "validate_device",
    "validate_finite",
    "validate_non_negative",
    "validate_positive",
    "validate_share",
]

X = TypeVar("X")
Number = TypeVar("Number", int, float)


def validate_finite(name: str, value: Number) -> Number:
    """Check that a value is a finite number.

    :param name: the argument's name
    :param value: its value

    :returns: the value

    :raises ValueError: if it is not
    """
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise ValueError(f"{name}={value!r} is not a finite number; pass one.")
    return value


def validate_between(name: str, value: Number, low: float, high: float) -> Number:
    """Check that a number lies in a closed interval.

    :param name: the argument's name
    :param value: its value
    :param low: the lowest valid value
    :param high: the highest valid value

    :returns: the value

    :raises ValueError: if it is outside
    """
    if not low <= validate_finite(name, value) <= high:
        raise ValueError(f"{name}={value!r} is outside [{low:g}, {high:g}]; choose a value within.")
    return value


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
    if validate_finite(name, value) <= 0:
        raise ValueError(f"{name}={value!r} is not positive; choose a value larger than 0.")
    return value


def validate_non_negative(name: str, value: Number) -> Number:
    """Check that a number is not negative.

    :param name: the argument's name
    :param value: its value

    :returns: the value

    :raises ValueError: if it is
    """
    if validate_finite(name, value) < 0:
        raise ValueError(f"{name}={value!r} is negative; choose 0 or a larger value.")
    return value


def validate_at_least(name: str, value: int, low: int) -> int:
    """Check that a whole number has at least some value.

    :param name: the argument's name
    :param value: its value
    :param low: the lowest valid value

    :returns: the value

    :raises ValueError: if it is smaller, or no whole number
    """
    if isinstance(value, bool) or not isinstance(value, int) or value < low:
        raise ValueError(f"{name}={value!r} is not a whole number of at least {low}; choose {low} or more.")
    return value


def validate_choice(name: str, value: str, choices: Collection[str]) -> str:
    """Check that a value is one of the valid ones.

    :param name: the argument's name
    :param value: its value
    :param choices: the valid values

    :returns: the value

    :raises ValueError: if it is not
    """
    if value not in choices:
        raise ValueError(f"{name}={value!r} is unknown; choose one of {', '.join(sorted(choices))}.")
    return value


def validate_bands(name: str, value: Sequence[int], num_timesteps: int) -> tuple[int, ...]:
    """Check the timesteps of hardness bands: at least one, the easiest (noisiest, i.e. latest) first.

    :param name: the argument's name
    :param value: the timesteps
    :param num_timesteps: the number of timesteps of the noise schedule

    :returns: the timesteps

    :raises ValueError: if one is outside of 1..num_timesteps, or if they do not strictly decrease
    """
    bands = tuple(value)
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
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        reason = str(error).partition(". ")[0].partition("\n")[0][:100]
        raise ValueError(
            f"{name}={value!r} is not there ({reason}); choose a device of this machine, e.g. 'cpu'."
        ) from error
    return torch.device(value)


def make_by_name(name: str, resolver: ClassResolver[X], query: Any, kwargs: Mapping[str, Any] | None = None) -> X:
    """Make an instance by a resolver, with an error that tells the valid names.

    :param name: the argument's name
    :param resolver: the resolver
    :param query: the class' name, the class, an instance (which goes through), or None for the default
    :param kwargs: the keyword arguments of the class

    :returns: the instance

    :raises ValueError: if there is no class of this name, or if it does not take one of the keyword arguments
    """
    try:
        cls = resolver.lookup(query)
    except KeyError:
        raise ValueError(f"{name}={query!r} is unknown; choose one of {', '.join(sorted(resolver.options))}.") from None
    accepted = inspect.signature(cls).parameters
    if not isinstance(query, resolver.base) and (unknown := sorted(set(kwargs or {}) - set(accepted))):
        raise ValueError(
            f"{name}_kwargs has {', '.join(unknown)}, which {cls.__name__} does not take; it takes "
            f"{', '.join(accepted)}."
        )
    return resolver.make(query, pos_kwargs=kwargs)
