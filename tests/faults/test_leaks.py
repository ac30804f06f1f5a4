"""Nothing grows while cameras reconnect; a thousand times of it is `python -m tests.chaos.reconnects`."""

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.chaos.reconnects import cut_again_and_again

CAMERAS = 10
MEMORY_GROWTH = 8 << 20      # over so few, caches fill yet


@pytest.mark.slow
def test_reconnecting_costs_neither_descriptors_nor_threads_nor_memory(
    tmp_path: Path, require_server: Callable[[str], None]
) -> None:
    require_server("redis-server")
    require_server("rtsp-server")

    first, last = cut_again_and_again(tmp_path, times=6 * CAMERAS, warm=2 * CAMERAS, cameras=CAMERAS)

    assert last.reconnects >= first.reconnects + 4 * CAMERAS
    assert last.descriptors == first.descriptors
    assert last.threads == first.threads
    assert last.memory < first.memory + MEMORY_GROWTH
