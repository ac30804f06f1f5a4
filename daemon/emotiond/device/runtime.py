"""What differs between a GPU and the CPU in torch, and nothing else: recorded steps, pinned memory, clocks, errors."""

import contextlib
import time
from collections.abc import Callable, Generator
from typing import Any

import torch
from av.codec.hwaccel import HWAccel
from torch import Tensor

WARM_UP_ROUNDS = 2      # before a step is recorded: libraries choose their algorithms then

Mark = Any
"""A moment on the device: an event of its stream, or seconds."""


class Runtime:
    """How steps run on a device.

    On a GPU they go into a stream of their own, which waits for the decoder's, the default one; a step that is
    recorded becomes one launch.
    """

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self._is_cuda = device.type == "cuda"
        self._stream: Any = torch.cuda.Stream(device) if self._is_cuda else None
        self._pool: Any = None

    def record(self, step: Callable[[], None]) -> Callable[[], None]:
        """Returns what does the same as `step` on tensors that stay where they are, in one launch where it can be.

        `step` works on tensors that it is given beforehand, waits for nothing, and keeps what it makes.
        """
        step = torch.inference_mode()(step)
        if not self._is_cuda:
            return step
        with torch.cuda.stream(self._stream):
            for _ in range(WARM_UP_ROUNDS):
                step()
        self._stream.synchronize()
        self._pool = self._pool or torch.cuda.graph_pool_handle()
        graph = torch.cuda.CUDAGraph()
        # other threads decode meanwhile; what they do on the device is none of this recording's business
        with torch.cuda.graph(graph, pool=self._pool, stream=self._stream, capture_error_mode="thread_local"):
            step()
        return graph.replay

    @contextlib.contextmanager
    def queue(self) -> Generator[None]:
        """Has steps go into the device's queue, after what was decoded so far."""
        with torch.inference_mode():
            if not self._is_cuda:
                yield
                return
            self._stream.wait_stream(torch.cuda.default_stream(self.device))
            with torch.cuda.stream(self._stream):
                yield

    def empty(self, *shape: int, dtype: torch.dtype) -> Tensor:
        """Returns memory of this machine that copies to and from the device can use without waiting."""
        return torch.empty(shape, dtype=dtype, pin_memory=self._is_cuda)

    def mark(self) -> Mark:
        """Notes the moment that the device reaches this place of its queue."""
        if not self._is_cuda:
            return time.monotonic()
        event = torch.cuda.Event(enable_timing=True)
        event.record(self._stream)
        return event

    def wait(self, mark: Mark) -> None:
        """Waits until the device has come to a mark."""
        if self._is_cuda:
            mark.synchronize()

    def seconds(self, begin: Mark, end: Mark) -> float:
        """Returns the time between two marks that were reached."""
        return begin.elapsed_time(end) / 1000 if self._is_cuda else end - begin

    def give_back(self) -> None:
        """Returns memory that nobody uses to the device."""
        if self._is_cuda:
            torch.cuda.empty_cache()


def accelerate(device: str) -> HWAccel:
    """Returns what has FFmpeg decode on a GPU, `cuda:N`, in torch's own context; for the thread that calls.

    Decoded pictures stay there. What the decoder refuses, a codec or one stream too many, FFmpeg decodes in software.
    """
    index = torch.device(device).index or 0
    torch.cuda.set_device(index)
    # a primary context that torch has made already has other flags than FFmpeg would give it, which then refuses
    return HWAccel("cuda", device=index, options={"primary_ctx": "0", "current_ctx": "1"}, is_hw_owned=True,
                   allow_software_fallback=True)


def is_out_of_memory(error: BaseException) -> bool:
    """Tells whether a smaller batch may do."""
    return isinstance(error, torch.OutOfMemoryError | MemoryError)


def is_fatal(error: BaseException) -> bool:
    """Tells whether the device is lost to this process: after such an error every later call fails too."""
    return isinstance(error, torch.AcceleratorError)
