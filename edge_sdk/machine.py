"""What this box is, as far as it decides how fast graphs run and what compiled graphs are worth."""

from __future__ import annotations

import hashlib
import json
import os
import platform
from functools import lru_cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

_CPUINFO = Path("/proc/cpuinfo")
_FEATURES = ("avx2", "fma", "avx512f", "avx512_vnni", "avx_vnni", "amx_int8", "asimd", "asimddp")
_LIBRARIES = ("onnxruntime", "openvino")


@lru_cache(maxsize=1)
def describe_processor() -> dict[str, Any]:
    """Name, number of usable cores, and those features that matter to inference."""
    known: dict[str, str] = {}
    if _CPUINFO.is_file():
        for line in _CPUINFO.read_text().splitlines():
            key, _, value = line.partition(":")
            known.setdefault(key.strip(), value.strip())
    flags = set((known.get("flags") or known.get("Features") or "").split())
    return {
        "processor": known.get("model name", platform.machine()),
        "usable_cores": len(os.sched_getaffinity(0)),
        "features": sorted(flags.intersection(_FEATURES)),
    }


def installed_version(distribution: str) -> str | None:
    """Version of an installed package; None: it is not there."""
    try:
        return version(distribution)
    except PackageNotFoundError:
        return None


@lru_cache(maxsize=1)
def processor_digest() -> str:
    """Changes when graphs compiled here may not run, or not as fast: 64 hexadecimal digits."""
    cpu = describe_processor()
    everything = _CPUINFO.read_bytes().partition(b"\n\n")[0] if _CPUINFO.is_file() else b""
    flags = [line for line in everything.splitlines() if line.startswith((b"flags", b"Features"))]
    return hashlib.sha256(json.dumps(cpu).encode() + b"".join(flags)).hexdigest()


def gpu_driver() -> str:
    """What the NVIDIA driver says of itself, for what was built with it; empty: none is there."""
    for path in (Path("/proc/driver/nvidia/version"), Path("/etc/nv_tegra_release")):
        if path.is_file():
            return path.read_text(errors="replace").strip()
    return ""


def box_digest() -> str:
    """Changes when a measurement of speed made here means nothing any more."""
    versions = [installed_version(name) for name in _LIBRARIES]
    return hashlib.sha256(f"{processor_digest()} {versions}".encode()).hexdigest()
