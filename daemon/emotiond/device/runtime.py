"""How steps run on a GPU and, for tests, on a CPU: recorded, in a queue of their own, with pinned memory and clocks."""

import contextlib
import ctypes
import functools
import gc
import logging
import threading
import time
from collections.abc import Callable, Generator
from typing import Any

import av.codec
import torch
from av.codec.hwaccel import HWAccel
from av.error import FFmpegError
from torch import Tensor

WARM_UP_ROUNDS = 2      # before a step is recorded: libraries choose their algorithms then
TRIES = 2               # to record a step: what other threads do on the device may spoil one
MOST_OF_MEMORY = 0.25   # share of a device's memory that prepared batches may take; of a CPU's, which tests use, 1 GiB
_OUT_OF_MEMORY = 2      # cudaErrorMemoryAllocation
_SLEEP = 4              # CU_CTX_SCHED_BLOCKING_SYNC
_recording = threading.Lock()       # one at a time in a process, and nothing that waits for a whole device meanwhile
_asking = threading.Lock()          # whether a device decodes

log = logging.getLogger(__name__)

Mark = Any
"""A moment on the device: an event of its stream, or seconds."""


class Runtime:
    """How steps run on a device; for the one thread that uses it.

    On a GPU they go into a stream of their own, which waits for the decoder's, the default one; a step that is
    recorded becomes one launch.

    Attributes:
        device: on which they run.
        is_cuda: whether it is a GPU.
    """

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self.is_cuda = device.type == "cuda"
        self._stream: Any = torch.cuda.Stream(device) if self.is_cuda else None
        self._pool: Any = None

    def record(self, step: Callable[[], None]) -> Callable[[], None]:
        """Returns what does the same as `step`, in one launch where it can be.

        `step` waits for nothing, and reads and writes tensors that stay where they are: what it makes on its way is
        gone afterwards. Where it cannot be recorded it runs as it is, and the log says so.
        """
        step = torch.inference_mode()(step)
        reason = ""
        for _ in range(TRIES if self.is_cuda else 0):
            try:
                return self._record(step)
            except RuntimeError as error:
                self._pool = None       # a recording that failed may leave it unusable
                if is_out_of_memory(error):
                    raise
                reason = str(error).partition("\n")[0]
        if reason:
            log.warning("a step is not recorded and runs slower: %s", reason)
        return step

    @torch.inference_mode()
    def _record(self, step: Callable[[], None]) -> Callable[[], None]:
        torch.cuda.set_device(self.device)
        self._stream.wait_stream(torch.cuda.current_stream(self.device))     # which may have to make its tensors
        graph = torch.cuda.CUDAGraph()
        with _recording, torch.cuda.stream(self._stream):
            for _ in range(WARM_UP_ROUNDS):
                step()
            self._stream.synchronize()
            torch.cuda.empty_cache()      # while a step is recorded nothing that is cached could be had
            self._pool = self._pool or torch.cuda.graph_pool_handle()
            gc.disable()      # it might end a decoder, which this thread must not do just now
            try:
                # other threads decode meanwhile; what they do on the device is none of this recording's business
                graph.capture_begin(pool=self._pool, capture_error_mode="thread_local")
                try:
                    step()
                except BaseException:
                    with contextlib.suppress(RuntimeError):
                        graph.capture_end()
                    raise
                graph.capture_end()
            finally:
                gc.enable()
        return graph.replay

    @contextlib.contextmanager
    def queue(self) -> Generator[None]:
        """Has steps go into the device's queue, after what was decoded so far."""
        with torch.inference_mode():
            if not self.is_cuda:
                yield
                return
            torch.cuda.set_device(self.device)
            self._stream.wait_stream(torch.cuda.default_stream(self.device))
            with torch.cuda.stream(self._stream):
                yield

    def empty(self, *shape: int, dtype: torch.dtype) -> Tensor:
        """Returns memory of this machine that copies to and from the device can use without waiting."""
        return torch.empty(shape, dtype=dtype, pin_memory=self.is_cuda)

    def mark(self) -> Mark:
        """Notes the moment that the device reaches this place of its queue."""
        if not self.is_cuda:
            return time.monotonic()
        event = torch.cuda.Event(enable_timing=True, blocking=True)     # else waiting for it would keep a core busy
        event.record(self._stream)
        return event

    def wait(self, mark: Mark) -> None:
        """Waits until the device has come to a mark."""
        if self.is_cuda:
            mark.synchronize()

    def seconds(self, begin: Mark, end: Mark) -> float:
        """Returns the time between two marks that were reached."""
        return begin.elapsed_time(end) / 1000 if self.is_cuda else end - begin

    @property
    def room(self) -> int:
        """Bytes that prepared batches may take."""
        if not self.is_cuda:
            return 1 << 30
        return int(torch.cuda.mem_get_info(self.device)[1] * MOST_OF_MEMORY)

    def give_back(self) -> None:
        """Returns memory that nobody uses to the device."""
        self._pool = None
        if self.is_cuda:
            with _recording:      # it frees what is cached on every device
                torch.cuda.empty_cache()

    def works(self) -> bool:
        """Tells whether the device still answers: after an error that stays, every call fails."""
        if self.is_cuda:
            try:
                with _recording:
                    torch.cuda.synchronize(self.device)
            except RuntimeError:
                return False
        return True


def is_out_of_memory(error: BaseException) -> bool:
    """Tells whether a smaller batch may do."""
    return (isinstance(error, torch.OutOfMemoryError | MemoryError)
            or (isinstance(error, torch.AcceleratorError) and getattr(error, "error_code", None) == _OUT_OF_MEMORY))


def sleep_while_waiting(device: str) -> None:
    """Has threads that wait for a GPU sleep, also those that decode; to be said before torch uses it.

    By itself CUDA keeps a core busy for each waiting thread where a process uses fewer devices than there are cores.

    Args:
        device: `cuda:N`.
    """
    with contextlib.suppress(OSError, AttributeError):      # torch will say what is missing
        driver = ctypes.CDLL("libcuda.so.1")
        driver.cuInit(0)
        driver.cuDevicePrimaryCtxSetFlags_v2(int(device.partition(":")[2] or 0), _SLEEP)


def accelerator(device: str) -> HWAccel | None:
    """Returns what has FFmpeg decode on a GPU, for the thread that calls; None where it cannot, which is logged once.

    Decoded pictures stay there. What the decoder refuses, a codec or one stream too many, FFmpeg decodes in software.

    Args:
        device: `cuda:N`.

    Raises:
        OSError: the device gives an error.
    """
    try:
        with _asking:
            decodes = _decodes(device)
        return _accelerator(device) if decodes else None
    except RuntimeError as error:
        raise OSError(f"{device}: {str(error).partition(chr(10))[0]}") from None


def _accelerator(device: str) -> HWAccel:
    index = torch.device(device).index or 0
    torch.cuda.set_device(index)
    with _recording:
        torch.cuda.default_stream(index).synchronize()      # makes the context the thread's own, as setting need not
    # torch's own context, whatever its flags are: asked for the primary one, FFmpeg refuses others than its own
    return HWAccel("cuda", device=index, options={"primary_ctx": "0", "current_ctx": "1"}, is_hw_owned=True,
                   allow_software_fallback=True)


@functools.cache
def _decodes(device: str) -> bool:
    try:
        _accelerator(device).create(av.codec.Codec("h264", "r"))
    except (FFmpegError, OSError, RuntimeError, AssertionError, NotImplementedError) as error:
        if isinstance(error, RuntimeError) and torch.cuda.is_available():
            raise       # which may pass, as when there is no memory just now
        log.warning("decoding in software: %s takes no video (%s)", device,
                    str(error).partition("\n")[0] or type(error).__name__)
        return False
    return True
