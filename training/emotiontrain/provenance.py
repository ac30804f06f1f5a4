"""What a run says of itself: its data, its settings, the versions that its numbers depend on."""

import platform
from importlib.metadata import version
from typing import Any, cast

from emotiontrain.data import Dataset


def difference(old: dict[str, Any], new: dict[str, Any]) -> str:
    """Names the settings in which two runs differ."""
    before, after = _flat(old), _flat(new)
    names = [name for name in sorted(before.keys() | after.keys()) if before.get(name) != after.get(name)]
    shown = [f"{name.replace('_', '-')} {before.get(name)} instead of {after.get(name)}" for name in names[:3]]
    return ", ".join(shown) + (f" and {len(names) - 3} more" if len(names) > 3 else "")


def describe_data(data: Dataset) -> dict[str, Any]:
    """Returns the counts of each split and of what cleaning dropped."""
    return {"train": data.counts(data.train), "validation": data.counts(data.validation),
            "test": data.counts(data.test), "dropped": data.dropped}


def versions() -> dict[str, str]:
    """Returns the versions of what a run's numbers depend on."""
    packages = ("torch", "torchvision", "ultralytics", "numpy", "opencv-python")
    return {"python": platform.python_version(), "machine": platform.machine()} | {p: version(p) for p in packages}


def _flat(settings: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    out: dict[str, Any] = {}
    for name, value in settings.items():
        inner = cast(dict[str, Any], value) if isinstance(value, dict) else None
        out |= {prefix + name: value} if inner is None else _flat(inner, f"{prefix}{name}.")
    return out
