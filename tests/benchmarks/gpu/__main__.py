"""`make bench-gpu`: figures of the analyzer in torch on a GPU, beside what the GPU could do at best.

With ARGS="--write" they become docs/benchmarks-gpu.md and .json. ARGS="--device torch:cpu --quick" runs the same code
in small on a CPU, whose figures say nothing of a GPU.
"""

from tests.benchmarks.gpu import batches, decoding, limits, live, memory, networks, training
from tests.benchmarks.page import Document
from tests.benchmarks.parts import make_parts
from tests.benchmarks.runner import run

INTRO = """\
# Benchmarks on a GPU

What the analyzer in torch costs, beside what the device could do at best. Every figure was measured on the device below
by the command under its table; those of a CPU (`--device torch:cpu`) say nothing of a GPU.

```sh
make bench-gpu                      # measures everything here and prints it
make bench-gpu ARGS=--write         # and writes this page and benchmarks-gpu.json, which holds every round
```"""
GPU = Document("benchmarks-gpu", "python -m tests.benchmarks.gpu", INTRO,
               make_parts(limits, networks, batches, decoding, live, memory, training), lambda measured: "",
               ("cuda:0", "torch:cpu"))

if __name__ == "__main__":
    run(GPU, __doc__)
