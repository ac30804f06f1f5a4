"""Every metric, named in one place; counters and gauges of Prometheus, prefix `emotiond_`.

Label children are made when a stream is added, so that every series exists from the start. The frame
counters come from the ledger at scrape time: one scrape is one consistent snapshot of them.
"""

import platform
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import get_args

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, ProcessCollector, disable_created_metrics
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
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
_LATENCY = (.01, .025, .05, .075, .1, .15, .2, .3, .5, 1, 2.5, 5, 10, 30, 60)
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
        self.assigned: Mapping[str, bool] = {}
        self.last_frame = self._gauge(
            "stream_last_frame_timestamp_seconds", "When the last frame was read, by the host's clock.", "stream")
        self.bytes_read = self._counter("stream_bytes_read", "Bytes of video read.", "stream")
        self.decode_errors = self._counter(
            "stream_decode_errors", "Packets that could not be decoded, and frames that came out damaged.", "stream")
        self.connects = self._counter("stream_connects", "Tries to open the source.", "stream", "outcome")
        self.reconnects = self._counter("stream_reconnects", "Ends of a source that ran.", "stream", "reason")
        self.faces = self._counter("faces_detected", "Faces found.", "stream")
        self.faces_truncated = self._counter("faces_truncated", "Faces over max_faces, left out.", "stream")
        self.classified = self._counter("faces_classified", "Faces by their emotion.", "stream", "emotion")
        self.events = self._counter("events", "Events that reached the spool.", "stream")
        self.published = self._counter("events_published", "Events that Redis acknowledged.", "stream")
        self.events_dropped = self._counter("events_dropped", "Events lost.", "stream", "reason")
        self.resent = self._counter(
            "events_resent", "Events found in Redis after their reply was lost, or sent again after Redis lost them.",
            "reason")
        self.latency = Histogram(
            "emotiond_event_latency_seconds", "From a frame's arrival to Redis' acknowledgement of its event.",
            ["stream"], buckets=_LATENCY, registry=self.registry)
        stage = Histogram("emotiond_stage_duration_seconds", "Time a stage took: decode for each packet, detect and "
                          "classify for each call, publish for each round.", ["stage"], buckets=_SECONDS,
                          registry=self.registry)
        self.stage = {name: stage.labels(name) for name in STAGES}
        batch = Histogram("emotiond_batch_size", "Pictures in one call of a network.", ["model"], buckets=_BATCHES,
                          registry=self.registry)
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
        self.states.setdefault(stream, STATES[0])
        for metric, *values in self._of_stream():
            metric.labels(stream, *values)

    def remove_stream(self, stream: str) -> None:
        """Takes every series of a stream away."""
        self.states.pop(stream, None)
        for metric, *values in self._of_stream():
            metric.remove(stream, *values)

    def _of_stream(self) -> Iterator[tuple[Counter | Gauge | Histogram, *tuple[str, ...]]]:
        """Yields the metrics of a stream, each with the values of its other label."""
        for metric in (self.last_frame, self.bytes_read, self.decode_errors, self.faces, self.faces_truncated,
                       self.events, self.published, self.latency):
            yield (metric,)
        by_value: list[tuple[Counter, Iterable[str]]] = [
            (self.connects, ("ok", *get_args(Outcome))), (self.reconnects, get_args(EndReason)),
            (self.classified, self.labels), (self.events_dropped, EVENT_DROPS)]
        for metric, values in by_value:
            for value in values:
                yield metric, value

    def has_stream(self, stream: str) -> bool:
        """Tells whether a stream has series; what an earlier one left in the spool is sent without any."""
        return stream in self.states

    def produced(self, stream: str, events: int) -> None:
        """Counts events that reached the spool."""
        if self.has_stream(stream):
            self.events.labels(stream).inc(events)

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
        assigned = GaugeMetricFamily("emotiond_stream_assigned", "Whether this shard is to run a stream of the "
                                     "configuration.", labels=["stream"])
        for stream, own in self._metrics.assigned.items():
            assigned.add_metric([stream], own)
        yield from (up, one_hot, assigned)
        if self._metrics.read_gauges:
            yield from _gauges(self._metrics.read_gauges())


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
