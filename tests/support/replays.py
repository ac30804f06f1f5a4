"""Replays and what they leave: annotated videos and events."""

import json
import sys
from pathlib import Path
from typing import Any

import av
import numpy as np

from tests.support.commands import call
from tests.support.pictures import Picture

START = "2026-01-31T12:00:00Z"
DEMO = Path(sys.modules["emotiond"].__file__ or "").parent / "demo" / "portrait.mp4"


def annotate(
    source: Path, folder: Path, *more: str | Path, target: str = "out.mp4"
) -> tuple[Path, list[dict[str, Any]]]:
    """Replays a source; returns the annotated one and the bodies of the events of all frames."""
    (folder / "all.yaml").write_text("publish_empty: true\n")
    ended = call("replay", source, "-c", folder / "all.yaml", "--start-time", START, "--annotate", folder / target,
                 "--events", folder / "all.jsonl", *more)
    assert (ended.code, ended.err) == (0, "")
    return folder / target, bodies(folder / "all.jsonl")


def bodies(file: Path) -> list[dict[str, Any]]:
    return [json.loads(line)["data"] for line in file.read_text().splitlines()]


def read(path: Path) -> tuple[list[Picture], list[float]]:
    """Returns a video's pictures as a player shows them, and their times."""
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        assert (stream.codec_context.name, stream.codec_context.pix_fmt) == ("h264", "yuv420p")
        assert stream.sample_aspect_ratio in (None, 1)
        frames = list(container.decode(stream))
        assert all(frame.rotation == 0 for frame in frames)
        return [np.asarray(frame.to_ndarray(format="rgb24"), np.uint8) for frame in frames], [
            float(frame.time) for frame in frames]
