"""Analyses batches of frames of any streams on one device of torch."""

import logging
import time
from collections import OrderedDict
from collections.abc import Iterable, Sequence

import numpy as np

from emotiond.analyzer import Analysis, BatchAnalyzer
from emotiond.config import DetectorConfig, StreamConfig
from emotiond.device.geometry import Geometry
from emotiond.device.plan import Plan, Result
from emotiond.device.runtime import Runtime, is_out_of_memory
from emotiond.device.surface import Surface
from emotiond.frames import Ticket
from emotiond.metrics import Metrics
from emotiond.picture import Scalers
from emotionnet.classifier import check_finite
from emotionnet.torch_classifier import TorchClassifier
from yunet.torch_detector import TorchDetector

SIZES = (1, 2, 4, 8, 16, 32)
"""Of batches; fewer frames take the next larger one."""
PLANS_KEPT = SIZES[-1]
"""Combinations of geometry and size that stay prepared in any case: a batch may need as many as it has frames."""
CROWDED_SECONDS = 60.0
"""A plan that was used so lately and has to go was needed."""

log = logging.getLogger(__name__)


class TorchAnalyzer(BatchAnalyzer):
    """Runs both networks on a device, whole batches at a time; not for several threads at once.

    Every frame is searched whole: `detector.interval` and `classifier.interval` save a CPU's time, not a GPU's.
    """

    def __init__(
        self, detector: TorchDetector, classifier: TorchClassifier, config: DetectorConfig,
        streams: dict[str, StreamConfig], metrics: Metrics,
    ) -> None:
        """Takes what it needs; the networks are on the device already."""
        super().__init__(metrics, len(classifier.info.labels))
        self._detector, self._classifier, self._config, self._streams = detector, classifier, config, streams
        self._runtime = Runtime(detector.device)
        self._scalers = Scalers()
        self._plans: OrderedDict[tuple[Geometry, int], tuple[Plan, float]] = OrderedDict()      # and when it was used
        self._is_crowded = False

    def _is_fatal(self, error: Exception) -> bool:
        return not self._runtime.works()

    def _recover(self, error: Exception, tickets: Sequence[Ticket]) -> None:
        if is_out_of_memory(error):     # a smaller batch gets all the room there is
            while self._plans:
                self._plans.popitem()[1][0].close()
            self._runtime.give_back()

    def _analyze(self, tickets: Sequence[Ticket]) -> list[Analysis]:
        analyses: list[Analysis] = []
        for start in range(0, len(tickets), SIZES[-1]):
            analyses += self._analyze_batch(tickets[start:start + SIZES[-1]])
        return analyses

    def _analyze_batch(self, tickets: Sequence[Ticket]) -> list[Analysis]:
        """Analyses at most as many frames as the largest batch has: those of each geometry together."""
        self._running = "yunet"
        surfaces = [Surface(ticket.frame.picture, self._scalers) for ticket in tickets]
        alike: dict[Geometry, list[int]] = {}
        for place, (ticket, surface) in enumerate(zip(tickets, surfaces, strict=True)):
            geometry = Geometry.of(surface, self._streams[ticket.frame.stream].region, self._config.width)
            alike.setdefault(geometry, []).append(place)
        begun: list[tuple[Plan, list[int]]] = []
        for geometry, places in alike.items():
            plan = self._plan(geometry, len(places))
            plan.begin([surfaces[place] for place in places],
                       [self._streams[tickets[place].frame.stream].masks for place in places])
            begun.append((plan, places))
        results: dict[int, Result] = {}
        for plan, places in begun:
            results |= zip(places, plan.end(), strict=True)
        self._running = "emotionnet"
        for result in results.values():
            check_finite(result.probabilities)
        self._observe([plan for plan, _ in begun], results.values(), len(tickets))
        return [self._analysis(ticket, results[place]) for place, ticket in enumerate(tickets)]

    def _plan(self, geometry: Geometry, count: int) -> Plan:
        size, now = next(size for size in SIZES if size >= count), time.monotonic()
        kept = self._plans.pop((geometry, size), None)
        plan = kept[0] if kept else Plan(
            geometry, size, self._detector, self._classifier, self._config, self._runtime)
        self._plans[geometry, size] = plan, now      # the last one is the one used last
        if not kept:
            self._make_room(now)
        return plan

    def _make_room(self, now: float) -> None:
        """Lets go of the plans that were not used for longest, as many as are too much, but for this batch's."""
        held = sum(plan.nbytes for plan, _ in self._plans.values())
        while held > self._runtime.room and len(self._plans) > PLANS_KEPT:
            plan, used = self._plans.popitem(last=False)[1]
            held -= plan.nbytes
            plan.close()
            if now - used < CROWDED_SECONDS and not self._is_crowded:
                self._is_crowded = True
                log.warning("the streams have more kinds of pictures (sizes, regions, rotations) than a quarter of the "
                            "device's memory has room for prepared ones; analysis waits for those that come anew")

    def _analysis(self, ticket: Ticket, result: Result) -> Analysis:
        if result.left_out:
            self._metrics.faces_truncated.labels(ticket.frame.stream).inc(result.left_out)
        return Analysis(ticket, result.boxes, result.scores, result.probabilities,
                        np.zeros(len(result.scores), np.bool_))

    def _observe(self, plans: list[Plan], results: Iterable[Result], frames: int) -> None:
        detecting, classifying = (sum(seconds) for seconds in zip(*(plan.seconds for plan in plans), strict=True))
        self._metrics.stage["detect"].observe(detecting)
        self._metrics.batch["yunet"].observe(frames)
        if faces := sum(len(result.scores) for result in results):
            self._metrics.stage["classify"].observe(classifying)
            self._metrics.batch["emotionnet"].observe(faces)
