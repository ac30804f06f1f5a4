"""`make bench`: figures of this machine, measured here and now with the real parts, printed as tables.

With ARGS="--write" they become a page: docs/benchmarks.md with its plots, and docs/benchmarks.json with every round.
Needs Redis and GStreamer's RTSP server for the live figures and the peers' environment for theirs; says so where they
are missing.
"""

from tests.benchmarks.page import BENCHMARKS
from tests.benchmarks.runner import run

if __name__ == "__main__":
    run(BENCHMARKS, __doc__)
