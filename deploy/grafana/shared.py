"""What both dashboards have: expressions, colours, choices and panels."""

from deploy.grafana.panels import BLUE, FPS, GREEN, GREY, ORANGE, PURPLE, RED, SKY, YELLOW, Json, Query, choice, graph

RATE = "[$__rate_interval]"
READ, ANALYZED, PUBLISHED = (f"instance_stream:emotiond_{name}:rate1m{{S}}" for name in (
    "stream_frames_read", "frames_analyzed", "events_published"))
OVERLOAD = "instance_stream:emotiond_frames_overload:ratio_rate5m{S}"
P95 = "instance_stream:emotiond_event_latency_seconds:p95_5m{S}"
OVERLOAD_STEPS, LATENCY_STEPS, SPOOL_STEPS = (0.05, 0.2), (1, 5), (0.5, 0.9)      # the first is where an alert begins
NONE_YET = (1, 1)      # anything is red

DROPS = {"newer_frame": RED, "stale": ORANGE, "max_fps": SKY, "too_large": PURPLE, "inference_error": YELLOW,
         "shutdown": GREY}
ENDS = {"error": RED, "stall": ORANGE, "eof": SKY}
OUTCOMES = {"refused": RED, "timeout": ORANGE, "auth": PURPLE, "not_found": YELLOW, "protocol": BLUE}
FLOW = {"read": SKY, "analysed": BLUE, "published": GREEN}
QUANTILES = {"p99": RED, "p95": ORANGE, "p50": BLUE}

SOURCE_CHOICE: Json = {"name": "datasource", "label": "Data source", "type": "datasource", "query": "prometheus",
                       "refresh": 1, "multi": False, "includeAll": False}
DAEMON_CHOICES = [      # by `up`, which a daemon that has been down for long still has
    SOURCE_CHOICE,
    choice("job", "Job", 'label_values(up{job=~".*emotiond.*"}, job)'),
    choice("instance", "Instance", 'label_values(up{job=~"$job"}, instance)')]
STREAMS_QUERY = 'label_values(emotiond_stream_up{job=~"$job", instance=~"$instance"}, stream)'


def flow() -> Json:
    """Returns the panel of what comes in, and what becomes of it."""
    rates = zip((READ, ANALYZED, PUBLISHED), FLOW, strict=True)
    queries: list[Query] = [(f"sum({rate})", name) for rate, name in rates]
    return graph("Frames and events", "Frames read, frames analysed, and events that Redis acknowledged, a second. A "
                 "frame without a face makes no event unless publish_empty is set.", "cps", *queries, colors=FLOW)


def video(legend: str, by: str) -> Json:
    """Returns the panel of what the sources deliver."""
    return graph("Video received", "What the sources deliver, still compressed.", "Bps",
                 (f"sum by ({by}) (rate(emotiond_stream_bytes_read_total{{S}}{RATE}))", legend))


def drops() -> Json:
    """Returns the panel of frames that were not analysed."""
    return graph("Frames dropped", "By reason. newer_frame, stale: the analyzers are too slow. max_fps: as configured.",
                 FPS, (f"sum by (reason) (rate(emotiond_frames_dropped_total{{S}}{RATE}))", "{{reason}}"),
                 colors=DROPS, stack=True)


def ends() -> Json:
    """Returns the panel of ends of sources."""
    return graph("Streams that broke off", "Ends of a source that ran, by reason; each is followed by a reconnect.",
                 "cpm", (f"60 * sum by (reason) (rate(emotiond_stream_reconnects_total{{S}}{RATE}))", "{{reason}}"),
                 colors=ENDS, stack=True)


def connects() -> Json:
    """Returns the panel of connects that failed."""
    return graph("Failed connects", "Tries to open a source that failed, by outcome.", "cpm",
                 (f'60 * sum by (outcome) (rate(emotiond_stream_connects_total{{S, outcome!="ok"}}{RATE}))',
                  "{{outcome}}"), colors=OUTCOMES, stack=True)


def lost() -> Json:
    """Returns the panel of events lost."""
    return graph("Events lost", "spool_full: Redis was away for longer than the spool could hold. disk_error: the "
                 "spool's disk failed.", "cpm",
                 (f"60 * sum by (reason) (rate(emotiond_events_dropped_total{{S}}{RATE}))", "{{reason}}"),
                 colors={"spool_full": RED, "disk_error": PURPLE})


def quantiles() -> Json:
    """Returns the panel of quantiles of the latency."""
    queries: list[Query] = [
        (f"histogram_quantile({share}, sum by (le) (rate(emotiond_event_latency_seconds_bucket{{S}}{RATE})))", name)
        for share, name in ((0.99, "p99"), (0.95, "p95"), (0.5, "p50"))]
    return graph("Latency", "From a frame's arrival to Redis' acknowledgement of its event.", "s", *queries,
                 colors=QUANTILES)


def cpu(daemons: str, which: str = "") -> Json:
    """Returns the panel of the cores in use."""
    return graph("CPU", "Cores in use by a daemon.", "suffix:cores",
                 (f"rate(process_cpu_seconds_total{daemons}{RATE}) {which}".strip(), "{{instance}}"))


def memory(daemons: str, which: str = "") -> Json:
    """Returns the panel of the memory in use."""
    return graph("Memory", "Resident memory of a daemon.", "bytes",
                 (f"process_resident_memory_bytes{daemons} {which}".strip(), "{{instance}}"))
