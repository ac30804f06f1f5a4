"""PyPI's `facex`, as its README uses it: `peer_facex CLIP`. Runs in the peers' environment."""

from importlib import import_module

from tests.benchmarks.alone.peer_loop import measure

if __name__ == "__main__":
    found = import_module("facex.core").PoolManager(pool_size=1).predict
    measure(lambda frame: len(found(frame)))
