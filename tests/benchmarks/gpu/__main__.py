"""`make bench-gpu`: figures of the analyzer in torch on a GPU, beside what the GPU could do at best.

With ARGS="--write" they become docs/benchmarks-gpu.md and .json. ARGS="--device torch:cpu --quick" runs the same code
in small on a CPU, whose figures say nothing of a GPU.
"""

from functools import partial

from tests.benchmarks.aims import section
from tests.benchmarks.gpu import aims, batches, decoding, limits, live, memory, networks, training
from tests.benchmarks.page import Document
from tests.benchmarks.parts import make_parts
from tests.benchmarks.runner import run

INTRO = """\
# Benchmarks on a GPU

What the analyzer in torch costs, beside what the device could do at best. Every figure is one of the device below, by
the command under its table; what says *not measured* was not, since no GPU was there. How it is built is in
[gpu.md](gpu.md).

```sh
make bench-gpu                      # measures everything here and prints it
make bench-gpu ARGS=--write         # and writes this page and benchmarks-gpu.json, which holds every round
make bench-gpu ARGS="--device torch:cpu --quick"      # the same code in small on a CPU, which says nothing of a GPU
```"""
GPU = Document("benchmarks-gpu", "python -m tests.benchmarks.gpu", INTRO,
               make_parts(limits, networks, batches, decoding, live, memory, training),
               partial(section, aims=aims.AIMS, about=aims.ABOUT, all_of_them=True), ("cuda:0", "torch:cpu"))

if __name__ == "__main__":
    run(GPU, __doc__)
