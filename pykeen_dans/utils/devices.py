"""Tables that are kept on the CPU, and read on another device in each step."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

__all__ = [
    "DeviceCopies",
]


class DeviceCopies:
    """Copies of tensors of the CPU on the devices of those who read them, made anew when they have changed."""

    def __init__(self) -> None:
        """Begin without any."""
        self._copies: dict[tuple[str, torch.device], tuple[int, Tensor]] = {}

    def __getstate__(self) -> dict[str, Any]:
        """Leave the copies behind, for a process or a file that may have no such device."""
        return {"_copies": {}}

    def get(self, name: str, tensor: Tensor, device: torch.device, *, version: int = 0) -> Tensor:
        """Get a tensor on a device.

        :param name: what it is called here
        :param tensor: the tensor, on the CPU
        :param device: the device
        :param version: a number that changes when the tensor does

        :returns: the tensor itself on the CPU, else its copy
        """
        if tensor.device == device:
            return tensor
        known = self._copies.get((name, device))
        if known is None or known[0] != version:
            known = self._copies[name, device] = version, tensor.to(device)
        return known[1]
