"""The dashboard of one stream."""

from deploy.grafana.panels import FPS, STATES, Json, choice, dashboard, graph, heatmap, paint, stat, timeline
from deploy.grafana.shared import (
    ANALYZED,
    DAEMON_CHOICES,
    LATENCY_STEPS,
    NONE_YET,
    OVERLOAD,
    OVERLOAD_STEPS,
    P95,
    RATE,
    READ,
    STREAMS_QUERY,
    connects,
    cpu,
    drops,
    ends,
    flow,
    lost,
    memory,
    quantiles,
    video,
)
from emotiond.palette import EMOTIONS


def stream() -> Json:
    """Returns the dashboard of one stream."""
    here = "and on (job, instance) emotiond_stream_up{S}"
    return dashboard(
        "emotiond-stream", "emotiond / Stream", "One stream, wherever it runs: rate, errors, latency, resources.",
        'stream="$stream"', [*DAEMON_CHOICES, choice("stream", "Stream", STREAMS_QUERY, multi=False)], {
            "Now": [(3, panel) for panel in _stream_now()],
            "Rate": [
                (8, flow()),
                (8, graph("Faces by emotion", "Faces a second by the emotion that is most probable for each.", "cps",
                          (f"sum by (emotion) (rate(emotiond_faces_classified_total{{S}}{RATE}))", "{{emotion}}"),
                          colors=EMOTIONS, stack=True)),
                (8, video("{{instance}}", "instance"))],
            "Errors": [
                (24, timeline("State", "What the stream did: one line for each state it was in.",
                              ("emotiond_stream_state{S} == 1", "{{state}}"), colors=STATES)),
                (8, drops()), (8, ends()), (8, connects()),
                (8, graph("Damaged video", "Packets that could not be decoded, and frames that came out damaged.",
                          "cps", (f"rate(emotiond_stream_decode_errors_total{{S}}{RATE})", "{{instance}}"))),
                (8, graph("Faces left out", "Faces beyond detector.max_faces of their frame.", "cps",
                          (f"rate(emotiond_faces_truncated_total{{S}}{RATE})", "{{instance}}"))),
                (8, lost())],
            "Latency": [
                (8, quantiles()),
                (8, heatmap("Latency, all events", "From a frame's arrival to Redis' acknowledgement: how many events "
                            "took how long.", "s",
                            f"sum by (le) (rate(emotiond_event_latency_seconds_bucket{{S}}{RATE}))")),
                (8, graph("Age of the last frame", "Rises where the camera is silent, down or at its end.", "s",
                          ("time() - (emotiond_stream_last_frame_timestamp_seconds{S} > 0)", "{{instance}}")))],
            "Resources": [
                (8, graph("Frames waiting", "In the stream's queue, the queue's size, and in flight: read and not "
                          "analysed or dropped yet.", "short",
                          ('emotiond_queue_depth{D, queue="frames:$stream"}', "waiting on {{instance}}"),
                          ('emotiond_queue_capacity{D, queue="frames:$stream"}', "size on {{instance}}"),
                          ("emotiond_frames_in_flight{S}", "in flight on {{instance}}"))),
                (8, cpu("{D}", here)), (8, memory("{D}", here))],
        }, {"Now": 4})


def _stream_now() -> list[Json]:
    state = stat(
        "State", "What the stream does now.", "none", ("emotiond_stream_state{S} == 1", "{{state}}"), name=True)
    state["fieldConfig"]["overrides"] = paint(STATES)
    return [
        state,
        stat("Last frame", "How long ago the last frame was read.", "s",
             ("min(time() - (emotiond_stream_last_frame_timestamp_seconds{S} > 0))", ""), steps=(10, 60),
             noValue="never", decimals=1),
        stat("Frames read", "Frames read a second.", FPS, (f"sum({READ})", ""), decimals=1),
        stat("Frames analysed", "Frames analysed a second.", FPS, (f"sum({ANALYZED})", ""), decimals=1),
        stat("Overload", "Share of the frames to be analysed in the last five minutes that were dropped because the "
             "analyzers were too slow.", "percentunit", (f"max({OVERLOAD})", ""), steps=OVERLOAD_STEPS, decimals=1),
        stat("Latency, p95", "95th percentile from a frame's arrival to Redis' acknowledgement, over five minutes.",
             "s", (f"max({P95})", ""), steps=LATENCY_STEPS, noValue="no events", decimals=2),
        stat("Faces in a frame", "How many faces are found in a frame, on average.", "short",
             (f"sum(rate(emotiond_faces_detected_total{{S}}{RATE})) "
              f"/ sum(rate(emotiond_frames_analyzed_total{{S}}{RATE}))", ""), decimals=1),
        stat("Events lost", "Events that were lost in the time shown: full spool or failing disk.", "short",
             ("sum(increase(emotiond_events_dropped_total{S}[$__range]))", ""), steps=NONE_YET, decimals=0)]
