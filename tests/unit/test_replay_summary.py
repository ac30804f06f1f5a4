"""What a replay's summary counts."""

import contextlib
import io
import re

import msgspec
from rich.console import Console

from emotiond.commands.replay_report import Result, print_report
from emotiond.commands.replay_sink import Sink
from emotiond.config_file import make_config
from emotiond.events import Face, Smoothed
from emotiond.outputs.outputs import Outputs
from tests.support.frames import make_event, make_face, make_frame


def summary(faces: list[Face]) -> dict[str, str]:
    """Returns the cells of the first table after a frame with each of the faces."""
    out = io.StringIO()
    with contextlib.ExitStack() as stack:
        sink = Sink(stack, make_config({}), None, Outputs([], lambda stream: None))
        sink.result = Result("lobby", "lobby.mp4", seconds=1.0, read=len(faces))
        for index, face in enumerate(faces):
            frame = make_frame(index=index)
            sink.emit(make_event([face], frame), frame)
        print_report([sink.result], Console(file=out, width=200))
    titles, row = (re.split(r"\s{2,}", line.strip()) for line in out.getvalue().splitlines()[:2])
    return dict(zip(titles, row, strict=True))


def test_emotions_are_the_smoothed_ones_as_everywhere() -> None:
    sad_for_a_moment = msgspec.structs.replace(make_face(emotion="sad"), smoothed=Smoothed("happy", 0.7))
    faces = [make_face(emotion="happy"), sad_for_a_moment, sad_for_a_moment, make_face(emotion="fear", unsure=True)]

    cells = summary(faces)

    assert (cells["emotions"], cells["unsure"], cells["frames"]) == ("happy 75%", "25%", "4")
