"""PyPI's `fer`, as its README uses it: `peer_fer CLIP`. Runs in the peers' environment."""

from importlib import import_module

from tests.benchmarks.alone.peer_loop import measure

if __name__ == "__main__":
    found = import_module("fer.fer").FER().detect_emotions
    measure(lambda frame: len(found(frame)))
