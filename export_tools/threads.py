"""How many threads torch computes with in the commands of the host half."""

from __future__ import annotations

import torch

from edge_sdk.machine import describe_processor


def use_cores(count: int | None = None) -> None:
    """Let torch compute with so many threads; None: with every usable core.

    Commands give libraries one thread, for the device's sake; here nothing else computes.
    """
    torch.set_num_threads(max(1, count or describe_processor()["usable_cores"]))
