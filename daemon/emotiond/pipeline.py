"""The frame's way put together: readers, buffers, analyzers, timelines; used by the service and by replay."""

import logging
import os
import threading
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import cast

from emotiond.analyzer import FACES_DETECTED, Analysis, Analyzer, BatchAnalyzer, work
from emotiond.config import Config, DetectorConfig, StreamConfig
from emotiond.crew import Crew
from emotiond.errors import ConfigError, UnavailableError
from emotiond.events import AggregateEvent, FrameEvent, StatusEvent
from emotiond.follow import KEEP
from emotiond.frames import Frame, FrameBuffers, FrameLedger
from emotiond.metrics import Metrics
from emotiond.privacy import Aggregates, EmitAggregate, Moment
from emotiond.stream import Playback, PublishStatus, StreamReader, WaitForRoom
from emotiond.timeline import Emit, Timeline, abstain_below
from emotionnet.classifier import Classifier, load_classifier
from emotionnet.weights import WeightsError, WeightsInfo, load_info
from yunet.detector import Detector, OnnxDetector, load_detector
from yunet.weights import WeightsError as DetectorWeightsError

LAST_FRAME_SECONDS = 2.0  # for the frames in hand when the rest was dropped
CPU_BATCH = 4   # most frames an analyzer takes at once where several wait: a face costs a third less than alone
GPU_BATCH = 32  # and on a GPU

log = logging.getLogger(__name__)


class Pipeline:
    """Everything between the sources and the events.

    Attributes:
        ledger: the frame counters.
        metrics: all metrics.
        readers: stream -> its reader.
        buffers: the frames that wait.
        model: the classifier's weights.
        devices: what runs the networks; `cpu` until they are loaded.
    """

    def __init__(
        self, config: Config, emit: Emit, publish_status: PublishStatus | None = None,
        wait_for_room: WaitForRoom | None = None, emit_aggregate: EmitAggregate | None = None,
    ) -> None:
        """Reads what the weights are; nothing is loaded and nothing runs yet.

        Args:
            config: the configuration; its streams are added with `add_stream`.
            emit: takes the event of every analysed frame, with faces or without, in order for each stream; should not
                wait, since all streams share the analyzers. Not called under `privacy.mode: aggregate`.
            publish_status: takes the events of the streams' lives.
            wait_for_room: holds the readers of files back while events cannot leave.
            emit_aggregate: takes the events of windows, under `privacy.mode: aggregate`.

        Raises:
            ConfigError: the weights are not usable.
        """
        self._config, self._emit = config, emit
        self._publish_status: PublishStatus = publish_status or _ignore
        self._wait_for_room: WaitForRoom = wait_for_room or _ignore_room
        self._emit_aggregate: EmitAggregate = emit_aggregate or _ignore_aggregate
        self._streams: dict[str, StreamConfig] = {}
        self._threads: dict[str, threading.Thread] = {}
        self._timelines: dict[str, Timeline] = {}
        self.readers: dict[str, StreamReader] = {}
        self.devices = ["cpu"]
        self.ledger = FrameLedger()
        self.buffers = FrameBuffers(self.ledger, group_size=config.detector.interval)

        self.model = load_model_info(config)
        self.metrics = Metrics(self.ledger, self.model.labels)
        self._aggregates = Aggregates(
            config.privacy, self.model.labels, abstain_below(config.classifier, self.model), self._tell_aggregate,
        ) if config.privacy.mode == "aggregate" else None
        self.reading = Crew()
        self.analyzing = Crew()

    def add_stream(self, name: str, config: StreamConfig, playback: Playback | None = None) -> StreamReader:
        """Adds a stream, or puts it in the place of one that has stopped, whose counts and track ids go on.

        Args:
            name: its name.
            config: its configuration.
            playback: as in `StreamReader`.
        """
        reader = StreamReader(
            name, config, buffers=self.buffers, ledger=self.ledger, metrics=self.metrics,
            publish_status=self._publish_status, wait_for_room=self._wait_for_room, playback=playback,
            device=lambda: self.devices[self.buffers.device(name)])
        before = self._timelines.get(name)
        if before and config.source != self._streams[name].source:
            before.tracker.forget()
        self._streams[name] = config
        self._timelines[name] = Timeline(
            self._config.classifier, config.labels, self.model, self.ledger, self._tell, before and before.tracker,
            self._config.responsible_use.purpose)
        self.readers = {**self.readers, name: reader}  # never changed in place: other threads go through it
        return reader

    def start(self) -> None:
        """Loads the models, one pair for each analyzer, and starts the analyzers.

        Raises:
            ConfigError: device or weights are not usable.
            UnavailableError: the device is not there.
        """
        devices = choose_devices(self._config.compute.device)
        workers, batch = worker_count(self._config, devices[0]), CPU_BATCH if devices == ["cpu"] else GPU_BATCH
        if devices != ["cpu"] and max(self._config.detector.interval, self._config.classifier.interval) > 1:
            log.warning("detector.interval and classifier.interval are for CPUs; on %s every frame is searched whole",
                        devices[0])
        analyzers = [(place, combine(
            *load_models(self._config, device), self._config.detector, self._streams, self.metrics,
            self._config.classifier.interval)) for place, device in enumerate(devices) for _ in range(workers)]
        self.devices = devices
        self.buffers.spread(len(devices))
        self.metrics.set_model(self.model.model_id, ",".join(devices))
        for index, (place, analyzer) in enumerate(analyzers):
            self.analyzing.start(
                f"analyzer-{index}",
                lambda analyzer=analyzer, place=place: work(
                    analyzer, self.buffers, self._deliver, batch, workers, place))

    def read(self, name: str) -> threading.Thread:
        """Starts a stream's reader."""
        self._threads[name] = self.reading.start(f"reader-{name}", self.readers[name].run)
        return self._threads[name]

    def has_stopped(self, name: str) -> bool:
        """Tells whether a stream's reader has ended and all its frames are through; closes its window then."""
        stopped = not self._threads[name].is_alive() and not self.ledger.snapshot()[name].in_flight
        if stopped and self._aggregates:
            self._aggregates.close(name)
        return stopped

    def remove_stream(self, name: str) -> None:
        """Forgets a stream that has stopped, its counts and its series."""
        self.readers = {other: reader for other, reader in self.readers.items() if other != name}
        self.buffers.remove_stream(name)
        self.ledger.remove_stream(name)
        self.metrics.remove_stream(name)
        for of in (self._streams, self._timelines, self._threads):
            del of[name]

    def stop_reading(self, deadline: float) -> list[str]:
        """Ends the readers; returns those still alive at monotonic time `deadline`."""
        for reader in self.readers.values():
            reader.stop()
        return self.reading.join(deadline)

    def finish(self, deadline: float, drain: bool = True) -> list[str]:
        """Analyses (or drops and counts) what waits and ends the analyzers; returns those still alive."""
        self.buffers.close(drain)
        alive = self.analyzing.join(deadline)
        if alive and drain:
            self.buffers.close(drain=False)
            alive = self.analyzing.join(deadline + LAST_FRAME_SECONDS)
        if self._aggregates:
            self._aggregates.close_all()
        return alive

    def close_old_windows(self) -> None:
        """Has the counts of streams told that have gone silent, under `privacy.mode: aggregate`."""
        if self._aggregates:
            self._aggregates.close_old()

    def _deliver(self, analysis: Analysis) -> None:
        self._timelines[analysis.ticket.frame.stream].deliver(analysis)

    def _tell(self, event: FrameEvent, frame: Frame) -> None:
        if self._aggregates:
            if self._aggregates.is_group(event):
                self.metrics.found(event.stream, len(event.faces))
            self._aggregates.take(event, frame)
        else:
            self.metrics.found(event.stream, len(event.faces))
            self.metrics.classified(event.stream, (face.emotion for face in event.faces))
            self._emit(event, frame)

    def _tell_aggregate(self, event: AggregateEvent, last: Moment) -> None:
        self.metrics.classified(event.stream, Counter(event.emotions).elements())
        self._emit_aggregate(event, last)


def combine(
    detector: Detector, classifier: Classifier, config: DetectorConfig, streams: dict[str, StreamConfig],
    metrics: Metrics, classify_every: int = 1,
) -> BatchAnalyzer:
    """Returns the analyzer for where the networks are: `Analyzer` for a CPU, `TorchAnalyzer` for a device of torch."""
    if isinstance(detector, OnnxDetector):
        return Analyzer(detector, classifier, config, streams, metrics, classify_every)
    # only now, since importing torch takes seconds
    from emotiond.device.analyzer import TorchAnalyzer
    from emotionnet.torch_classifier import TorchClassifier
    from yunet.torch_detector import TorchDetector
    return TorchAnalyzer(cast(TorchDetector, detector), cast(TorchClassifier, classifier), config, streams, metrics)


def load_models(config: Config, device: str) -> tuple[Detector, Classifier]:
    """Loads detector and classifier for `cpu`, `torch:cpu` or `cuda:N`.

    Raises:
        ConfigError: weights or device are not usable, with the key at fault.
        UnavailableError: the device is not there, as a GPU whose driver is not loaded yet when the machine starts.
    """
    try:
        follows = config.detector.interval > 1 and device == "cpu"
        score = config.detector.score * (KEEP if follows else 1)
        if device.startswith("cuda"):
            from emotiond.device.runtime import sleep_while_waiting
            sleep_while_waiting(device)
        detector = load_detector(device, score=max(score, 0.01), max_faces=FACES_DETECTED)
        return detector, load_classifier(config.classifier.weights, device)
    except DetectorWeightsError as error:
        raise ConfigError(f"detector: {error}") from None
    except WeightsError as error:
        raise ConfigError(f"classifier.weights: {error}") from None
    except (ImportError, ValueError) as error:
        raise ConfigError(f"compute.device: {device} cannot be used ({error}); "
                          "install emotiond[gpu] or set cpu") from None
    except RuntimeError as error:
        reason = str(error).partition("\n")[0]
        raise UnavailableError(f"compute.device: {device} cannot be used ({reason}); "
                               "check its driver, or set cpu") from None


def load_model_info(config: Config) -> WeightsInfo:
    """Reads the description of the classifier's weights.

    Raises:
        ConfigError: they are not usable, with the key at fault.
    """
    try:
        return load_info(config.classifier.weights)
    except WeightsError as error:
        raise ConfigError(f"classifier.weights: {error}") from None


def choose_devices(wanted: str) -> list[str]:
    """Returns what runs the networks: all GPUs for `cuda`, and for `auto` where there are any; else what is named."""
    if wanted not in ("auto", "cuda"):
        return [wanted]
    if wanted == "auto" and not any(Path(node).exists() for node in ("/dev/nvidiactl", "/dev/nvidia0", "/dev/dxg")):
        return ["cpu"]  # without a driver there is no need to spend seconds on importing torch
    try:
        import torch
    except ImportError:
        if wanted == "auto":
            log.warning("there is a GPU, but torch is not installed; install emotiond[gpu] to use it")
        count = 0
    else:
        count = torch.cuda.device_count() if torch.cuda.is_available() else 0
    # without one, loading the models says what is wrong
    return [f"cuda:{index}" for index in range(count)] or ["cpu" if wanted == "auto" else "cuda:0"]


def worker_count(config: Config, device: str) -> int:
    """Returns the number of analyzers of each device: by itself one for a GPU, one a core for the CPU."""
    if config.compute.workers != "auto":
        return config.compute.workers
    return available_cores() if device == "cpu" else 1


def available_cores(quota: Path = Path("/sys/fs/cgroup/cpu.max")) -> int:
    """Returns the cores of this process by affinity and by a container's quota (cgroup v2), at least 1."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    try:
        limit, period = quota.read_text().split()
        return max(1, min(cores, -(-int(limit) // int(period))))
    except (OSError, ValueError):  # no cgroup v2, or "max"
        return cores


def _ignore(kind: str, event: StatusEvent) -> None:
    """Stands in where nobody listens to the streams' lives."""


def _ignore_aggregate(event: AggregateEvent, last: Moment) -> None:
    """Stands in where nobody wants counts."""


def _ignore_room(stopped: Callable[[], bool]) -> None:
    """Stands in where events always have room."""
