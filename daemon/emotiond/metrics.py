"""Every metric, named in one place; counters and gauges of Prometheus, prefix `emotiond_`.

Label children are made when a stream is added, so that every series exists from the start. The frame
counters come from the ledger at scrape time: one scrape is one consistent snapshot of them. What is counted for each
event is plain numbers until then: after a wait, each of the client's own counters takes 60 us of a core.
"""

import platform
from bisect import bisect_left
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from itertools import accumulate
from typing import get_args

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, ProcessCollector, disable_created_metrics
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.registry import Collector

from emotiond import __version__
from emotiond.frames import Drop, FrameLedger
from emotiond.opening import Outcome
from emotiond.source import EndReason

STATES = ("connecting", "running", "stalled", "backoff", "auth_failed", "not_found", "ended")
STAGES = ("decode", "detect", "classify", "publish")
EVENT_DROPS = ("spool_full", "disk_error")
REDIS_ERRORS = ("connection", "timeout", "oom", "readonly", "noreplicas", "loading", "max_clients", "auth", "noperm",
                "moved", "other")
RESENT = ("lost_reply", "rewind")
MODELS = ("yunet", "emotionnet")
INFERENCE_ERRORS = ("non_finite", "exception")

_SECONDS = (.0005, .001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5)
_LATENCY = (.01, .025, .05, .075, .1, .15, .2, .3, .5, 1., 2.5, 5., 10., 30., 60.)
_BATCHES = (1, 2, 4, 8, 16, 32, 64, 128, 256)

disable_created_metrics()


@dataclass(frozen=True)
class Gauges:
    """What is read at scrape time: queue -> (depth, capacity), and the spool's figures."""

    queues: Mapping[str, tuple[int, int]]
    spool_events: int
    spool_bytes: int
    spool_capacity: int
    spool_oldest: float
    spool_failing: bool


@dataclass
class _Counts:
    """What is counted for each event of a stream; each number is changed by one thread at a time.

    Attributes:
        found: faces.
        emotions: faces by emotion, of those that may be told (`privacy.mode`).
        produced: events that reached the spool.
        published: those that Redis acknowledged.
        latencies: how many of them took up to each bound of _LATENCY, and longer than the last.
        seconds: that all of those took.
    """

    emotions: dict[str, int]
    found: int = 0
    produced: int = 0
    published: int = 0
    latencies: list[int] = field(default_factory=lambda: [0] * (len(_LATENCY) + 1))
    seconds: float = 0.0


class Metrics:
    """The daemon's metrics in a registry of their own."""

    def __init__(self, ledger: FrameLedger, labels: Iterable[str]) -> None:
        """Makes the metrics.

        Args:
            ledger: the frame counters.
            labels: the classifier's labels.
        """
        self.registry = CollectorRegistry()
        ProcessCollector(registry=self.registry)      # process_cpu_seconds_total and its like, as everybody has them
        self.labels = tuple(labels)
        self.read_gauges: Callable[[], Gauges] | None = None

        self.states: dict[str, str] = {}
        self.counts: dict[str, _Counts] = {}
        self.assigned: Mapping[str, bool] = {}
        self.last_frame = self._gauge(
            "stream_last_frame_timestamp_seconds", "When the last frame was read, by the host's clock.", "stream")
        self.bytes_read = self._counter("stream_bytes_read", "Bytes of video read.", "stream")
        self.decode_errors = self._counter(
            "stream_decode_errors", "Packets that could not be decoded, and frames that came out damaged.", "stream")
        self.connects = self._counter("stream_connects", "Tries to open the source.", "stream", "outcome")
        self.reconnects = self._counter("stream_reconnects", "Ends of a source that ran.", "stream", "reason")
        self.faces_truncated = self._counter("faces_truncated", "Faces over max_faces, left out.", "stream")
        self.events_dropped = self._counter("events_dropped", "Events lost.", "stream", "reason")
        self.resent = self._counter(
            "events_resent", "Events found in Redis after their reply was lost, or sent again after Redis lost them.",
            "reason")
        stage = Histogram("emotiond_stage_duration_seconds", "Time a stage took: decode for each packet, detect and "
                          "classify for each call, publish for each round.", ["stage"], buckets=_SECONDS,
                          registry=self.registry)
        self.stage = {name: stage.labels(name) for name in STAGES}
        batch = Histogram("emotiond_batch_size", "Frames (yunet) or faces (emotionnet) taken at once.", ["model"],
                          buckets=_BATCHES, registry=self.registry)
        self.batch = {name: batch.labels(name) for name in MODELS}
        self.redis_up = self._gauge("redis_up", "Whether the last exchange with Redis worked.")
        self.redis_errors = self._counter("redis_errors", "Failed exchanges with Redis.", "kind")
        self.inference_errors = self._counter("inference_errors", "Frames a network failed on.", "model", "reason")
        self.ready = self._gauge("ready", "Whether /readyz says yes.")
        self.reloaded = self._gauge(
            "config_last_reload_successful", "Whether the last configuration that was read was accepted.")
        self.reloaded.set(1)
        self.reloaded_at = self._gauge(
            "config_last_reload_success_timestamp_seconds", "When the configuration in use was read.")
        self.reloaded_at.set_to_current_time()
        self._shard_index = self._gauge("shard_index", "Which shard this daemon is.")
        self._shards = self._gauge("shards", "How many shards it believes there are.")
        self._info = self._gauge("build_info", "Versions.", "version", "python")
        self._model = self._gauge("model_info", "The weights in use, and the device that runs them.", "model", "device")

        for kind in REDIS_ERRORS:
            self.redis_errors.labels(kind)
        for model in MODELS:
            for reason in INFERENCE_ERRORS:
                self.inference_errors.labels(model, reason)
        for reason in RESENT:
            self.resent.labels(reason)
        self._info.labels(__version__, platform.python_version()).set(1)
        self.registry.register(_AtScrape(ledger, self))

    def add_stream(self, stream: str) -> None:
        """Makes every series of a stream exist, at zero."""
        self.counts.setdefault(stream, _Counts(dict.fromkeys(self.labels, 0)))
        self.states.setdefault(stream, STATES[0])
        for metric, *values in self._of_stream():
            metric.labels(stream, *values)

    def remove_stream(self, stream: str) -> None:
        """Takes every series of a stream away."""
        self.states.pop(stream, None)
        self.counts.pop(stream, None)
        for metric, *values in self._of_stream():
            metric.remove(stream, *values)

    def _of_stream(self) -> Iterator[tuple[Counter | Gauge | Histogram, *tuple[str, ...]]]:
        """Yields the metrics of a stream, each with the values of its other label."""
        for metric in (self.last_frame, self.bytes_read, self.decode_errors, self.faces_truncated):
            yield (metric,)
        by_value: list[tuple[Counter, Iterable[str]]] = [
            (self.connects, ("ok", *get_args(Outcome))), (self.reconnects, get_args(EndReason)),
            (self.events_dropped, EVENT_DROPS)]
        for metric, values in by_value:
            for value in values:
                yield metric, value

    def found(self, stream: str, faces: int) -> None:
        """Counts a frame's faces."""
        if counts := self.counts.get(stream):
            counts.found += faces

    def classified(self, stream: str, emotions: Iterable[str]) -> None:
        """Counts what was read in faces."""
        if counts := self.counts.get(stream):
            for emotion in emotions:
                counts.emotions[emotion] += 1

    def produced(self, stream: str, events: int) -> None:
        """Counts events that reached the spool."""
        if counts := self.counts.get(stream):
            counts.produced += events

    def published(self, stream: str, events: int, latencies: Iterable[float]) -> None:
        """Counts events that Redis acknowledged; of a removed stream, what it left is sent without any series.

        Args:
            stream: whose they are.
            events: how many.
            latencies: seconds from the arrivals of their frames, where this run read those.
        """
        if counts := self.counts.get(stream):
            counts.published += events
            for seconds in latencies:
                counts.latencies[bisect_left(_LATENCY, seconds)] += 1
                counts.seconds += seconds

    def lost(self, stream: str, reason: str, events: int) -> None:
        """Counts events that will never be published, also of a stream that is another shard's by now."""
        self.events_dropped.labels(stream, reason).inc(events)

    def set_state(self, stream: str, state: str) -> None:
        """Sets the one-hot state of a stream, and whether it is up."""
        self.states[stream] = state

    def set_shard(self, index: int, count: int) -> None:
        """Tells which shard of how many this daemon is."""
        self._shard_index.set(index)
        self._shards.set(count)

    def set_assigned(self, assigned: Mapping[str, bool]) -> None:
        """Tells for every stream of the configuration whether this shard is the one that runs it."""
        self.assigned = assigned

    def set_model(self, model: str, device: str) -> None:
        """Names the weights in use and the device that runs them."""
        self._model.labels(model, device).set(1)

    def _counter(self, name: str, text: str, *labels: str) -> Counter:
        return Counter(f"emotiond_{name}_total", text, labels, registry=self.registry)

    def _gauge(self, name: str, text: str, *labels: str) -> Gauge:
        return Gauge(f"emotiond_{name}", text, labels, registry=self.registry)


class _AtScrape(Collector):
    """Frame counters, states, queues and spool, read when Prometheus asks."""

    def __init__(self, ledger: FrameLedger, metrics: Metrics) -> None:
        self._ledger, self._metrics = ledger, metrics

    def describe(self) -> Iterable[Metric]:
        return []

    def collect(self) -> Iterator[Metric]:
        read = CounterMetricFamily("emotiond_stream_frames_read", "Frames read.", labels=["stream"])
        analyzed = CounterMetricFamily("emotiond_frames_analyzed", "Frames analysed.", labels=["stream"])
        flying = GaugeMetricFamily("emotiond_frames_in_flight", "Frames read, not analysed or dropped yet.",
                                   labels=["stream"])
        dropped = CounterMetricFamily("emotiond_frames_dropped", "Frames not analysed, by reason.",
                                      labels=["stream", "reason"])
        for stream, counts in self._ledger.snapshot().items():
            read.add_metric([stream], counts.read)
            analyzed.add_metric([stream], counts.analyzed)
            flying.add_metric([stream], counts.in_flight)
            for reason in Drop:
                dropped.add_metric([stream, reason], counts.dropped[reason])
        yield from (read, analyzed, flying, dropped)
        up = GaugeMetricFamily("emotiond_stream_up", "Whether the stream runs.", labels=["stream"])
        one_hot = GaugeMetricFamily("emotiond_stream_state", "One for the state the stream is in.",
                                    labels=["stream", "state"])
        for stream, state in dict(self._metrics.states).items():
            up.add_metric([stream], state == "running")
            for other in STATES:
                one_hot.add_metric([stream, other], other == state)
        yield from _counted(dict(self._metrics.counts))
        assigned = GaugeMetricFamily("emotiond_stream_assigned", "Whether this shard is to run a stream of the "
                                     "configuration.", labels=["stream"])
        for stream, own in self._metrics.assigned.items():
            assigned.add_metric([stream], own)
        yield from (up, one_hot, assigned)
        if self._metrics.read_gauges:
            yield from _gauges(self._metrics.read_gauges())


def _counted(streams: Mapping[str, _Counts]) -> Iterator[Metric]:
    faces = CounterMetricFamily("emotiond_faces_detected", "Faces found.", labels=["stream"])
    classified = CounterMetricFamily(
        "emotiond_faces_classified", "Faces by their emotion.", labels=["stream", "emotion"])
    produced = CounterMetricFamily("emotiond_events", "Events that reached the spool.", labels=["stream"])
    published = CounterMetricFamily("emotiond_events_published", "Events that Redis acknowledged.", labels=["stream"])
    latency = HistogramMetricFamily(
        "emotiond_event_latency_seconds", "From a frame's arrival to Redis' acknowledgement of its event.",
        labels=["stream"])
    bounds = [*map(str, _LATENCY), "+Inf"]
    for stream, counts in streams.items():
        for emotion, number in counts.emotions.items():
            classified.add_metric([stream, emotion], number)
        faces.add_metric([stream], counts.found)
        produced.add_metric([stream], counts.produced)
        published.add_metric([stream], counts.published)
        latency.add_metric([stream], list(zip(bounds, accumulate(counts.latencies), strict=True)), counts.seconds)
    yield from (faces, classified, produced, published, latency)


def _gauges(gauges: Gauges) -> Iterator[Metric]:
    depth = GaugeMetricFamily("emotiond_queue_depth", "Things waiting in a queue.", labels=["queue"])
    capacity = GaugeMetricFamily("emotiond_queue_capacity", "Things a queue holds at most.", labels=["queue"])
    for queue, (length, limit) in gauges.queues.items():
        depth.add_metric([queue], length)
        capacity.add_metric([queue], limit)
    yield from (depth, capacity)
    yield GaugeMetricFamily("emotiond_spool_events", "Events waiting for Redis.", gauges.spool_events)
    yield GaugeMetricFamily("emotiond_spool_bytes", "Bytes of events waiting for Redis.", gauges.spool_bytes)
    yield GaugeMetricFamily("emotiond_spool_capacity_bytes", "Bytes the spool holds at most.", gauges.spool_capacity)
    yield GaugeMetricFamily(
        "emotiond_spool_oldest_timestamp_seconds", "Capture time of the oldest event waiting, 0 without one.",
        gauges.spool_oldest)
    yield GaugeMetricFamily(
        "emotiond_spool_failing", "Whether the spool's disk takes no events, so that they are in memory alone.",
        gauges.spool_failing)
