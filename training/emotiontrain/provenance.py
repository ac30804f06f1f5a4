"""What a run says of itself: its data, its settings, the versions that its numbers depend on."""

import contextlib
import hashlib
import platform
from collections.abc import Mapping
from importlib.metadata import PackageNotFoundError, version
from typing import Any, cast

import numpy as np
from torch import Tensor

from emotiontrain.data import Dataset


def difference(old: dict[str, Any], new: dict[str, Any]) -> str:
    """Names the settings in which two runs differ."""
    before, after = _flat(old), _flat(new)
    names = [name for name in sorted(before.keys() | after.keys()) if before.get(name) != after.get(name)]
    shown = [f"{name.replace('_', '-')} {before.get(name)} instead of {after.get(name)}" for name in names[:3]]
    return ", ".join(shown) + (f" and {len(names) - 3} more" if len(names) > 3 else "")


def describe_data(data: Dataset) -> dict[str, Any]:
    """Returns the counts of each split, of what cleaning dropped, and a digest of what a run learns and chooses by."""
    return {"train": data.counts(data.train), "validation": data.counts(data.validation),
            "test": data.counts(data.test), "dropped": data.dropped, "sha256": digest_data(data)}


def digest_data(data: Dataset) -> str:
    """Returns the sha256 of the pictures, labels and votes of training and validation."""
    digest = hashlib.sha256()
    for split in (data.train, data.validation):
        for values in (split.pictures, split.labels, split.votes):
            digest.update(b"" if values is None else np.ascontiguousarray(values).tobytes())
    return digest.hexdigest()


def digest_tensors(tensors: Mapping[str, Tensor]) -> str:
    """Returns the first 12 digits of the sha256 of a network's tensors: which weights a run built on."""
    digest = hashlib.sha256()
    for name in sorted(tensors):
        digest.update(tensors[name].contiguous().cpu().numpy().tobytes())
    return digest.hexdigest()[:12]


def versions() -> dict[str, str]:
    """Returns the versions of what a run's numbers depend on; OpenCV and ultralytics come in two packages each."""
    found = {"python": platform.python_version(), "machine": platform.machine()}
    for package in ("torch", "torchvision", "ultralytics-opencv-headless", "ultralytics", "numpy",
                    "opencv-python-headless", "opencv-python"):
        with contextlib.suppress(PackageNotFoundError):
            found[package] = version(package)
    return found


def _flat(settings: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    out: dict[str, Any] = {}
    for name, value in settings.items():
        inner = cast(dict[str, Any], value) if isinstance(value, dict) else None
        out |= {prefix + name: value} if inner is None else _flat(inner, f"{prefix}{name}.")
    return out
