"""What several modules look at; each has its own."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.support.pictures import face_frames
from tests.support.redis_server import RedisServer
from tests.support.videos import write_video
from tests.support.writer import Writer

FPS = 10


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A second with a face in each frame."""
    return write_video(tmp_path_factory.mktemp("clip") / "clip.mp4", face_frames(FPS, 320, 240), fps=FPS)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory, require_server: Callable[[str], None]) -> Iterator[RedisServer]:
    require_server("redis-server")
    with RedisServer(tmp_path_factory.mktemp("redis")) as server:
        yield server


@pytest.fixture
def writer(server: RedisServer) -> Iterator[Writer]:
    """Writes into an empty Redis."""
    server.client.flushall()
    with Writer(server.url) as writer:
        yield writer
