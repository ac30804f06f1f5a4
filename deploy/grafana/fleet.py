"""The dashboard of all daemons and all streams."""

from deploy.grafana.panels import (
    ALERTS,
    FPS,
    GREEN,
    ORANGE,
    PALETTE,
    RED,
    STATES,
    Json,
    cell,
    choice,
    colored_words,
    dashboard,
    graph,
    link,
    stat,
    table,
)
from deploy.grafana.shared import (
    ANALYZED,
    DAEMON_CHOICES,
    LATENCY_STEPS,
    NONE_YET,
    OVERLOAD,
    OVERLOAD_STEPS,
    P95,
    PUBLISHED,
    RATE,
    READ,
    SPOOL_STEPS,
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


def fleet() -> Json:
    """Returns the dashboard of all daemons and all streams."""
    return dashboard(
        "emotiond-fleet", "emotiond / Fleet", "All daemons and all streams: what runs, what fails, what is late.",
        'stream=~"$stream"', [*DAEMON_CHOICES, choice("stream", "Stream", STREAMS_QUERY, anything=True)], {
            "Now": [(3, panel) for panel in _fleet_now()],
            "Alerts and streams": [(8, _alerts()), (16, _streams())],
            "Rate": [
                (8, flow()),
                (8, graph("Streams by state", "How many streams are in each state; ended ones are recordings.", "none",
                          ("sum by (state) (emotiond_stream_state{S})", "{{state}}"), colors=STATES, stack=True)),
                (8, video("{{instance}}", "instance"))],
            "Errors": [
                (8, drops()),
                (8, graph("Overload, worst streams", "Share of the frames to be analysed, which max_fps does not skip, "
                          "that gave way to newer ones or became too old, over five minutes. Above the first line: "
                          "EmotiondFramesDropped.", "percentunit",
                          (f"topk(10, {OVERLOAD})", "{{stream}} on {{instance}}"), steps=OVERLOAD_STEPS)),
                (8, ends()), (8, connects()),
                (8, graph("Damaged video, worst streams", "Packets that could not be decoded, and frames that came out "
                          "damaged.", "cps", (f"topk(10, rate(emotiond_stream_decode_errors_total{{S}}{RATE}))",
                                              "{{stream}} on {{instance}}"))),
                (8, graph("Inference errors", "Frames that a network failed on: they are dropped and counted.", "cpm",
                          (f"60 * sum by (model, reason) (rate(emotiond_inference_errors_total{{D}}{RATE}))",
                           "{{model}}: {{reason}}")))],
            "Latency": [
                (8, quantiles()),
                (8, graph("p95, worst streams", "95th percentile from a frame's arrival to Redis' acknowledgement, "
                          "over five minutes. Above the first line: EmotiondLatencyHigh.", "s",
                          (f"topk(10, {P95})", "{{stream}} on {{instance}}"), steps=LATENCY_STEPS)),
                (8, graph("Stages, p95", "95th percentile of what a call takes: decode for each packet, detect and "
                          "classify for each batch, publish for each round.", "s",
                          ("histogram_quantile(0.95, sum by (stage, le) "
                           f"(rate(emotiond_stage_duration_seconds_bucket{{D}}{RATE})))", "{{stage}}"),
                          colors=dict(zip(("decode", "detect", "classify", "publish"), PALETTE, strict=False))))],
            "Redis and spool": [
                (8, graph("Spool used", "Events waiting for Redis, as a share of spool.max_bytes. Full, it drops the "
                          "oldest of live streams, and recordings wait.", "percentunit",
                          ("emotiond_spool_bytes{D} / emotiond_spool_capacity_bytes{D}", "{{instance}}"),
                          steps=SPOOL_STEPS)),
                (8, graph("Oldest event waiting", "How far what reaches Redis is behind; 0 with nothing waiting.", "s",
                          ("(time() - emotiond_spool_oldest_timestamp_seconds{D}) "
                           "* (emotiond_spool_oldest_timestamp_seconds{D} > bool 0)", "{{instance}}"))),
                (8, graph("Redis reached", "1 where the last exchange with Redis worked, 0 where it did not.", "none",
                          ("emotiond_redis_up{D}", "{{instance}}"), max=1)),
                (8, graph("Redis errors", "Failed exchanges by kind. Connection and timeout: it is away; the others: "
                          "it refuses, see EmotiondRedisRefuses.", "cpm",
                          (f"60 * sum by (kind) (rate(emotiond_redis_errors_total{{D}}{RATE}))", "{{kind}}"))),
                (8, lost()),
                (8, graph("Events found or sent again", "lost_reply: found in Redis although its reply was lost. "
                          "rewind: sent again after Redis had lost them. Neither is twice in Redis.", "cpm",
                          (f"60 * sum by (reason) (rate(emotiond_events_resent_total{{D}}{RATE}))", "{{reason}}")))],
            "Resources": [
                (8, cpu("{D}")), (8, memory("{D}")),
                (8, graph("File descriptors", "Open ones, as a share of the process's limit.", "percentunit",
                          ("process_open_fds{D} / process_max_fds{D}", "{{instance}}"), steps=(0.7, 0.9))),
                (8, graph("Queues", "How full the fullest queue of frames is; 1 for long: the analyzers are too slow.",
                          "percentunit", ("max by (instance) (emotiond_queue_depth{D} / emotiond_queue_capacity{D})",
                                          "{{instance}}"), max=1)),
                (8, graph("Frames in flight", "Read, and not analysed or dropped yet.", "short",
                          ("sum by (instance) (emotiond_frames_in_flight{S})", "{{instance}}"))),
                (8, graph("Batches", "Frames (yunet) or faces (emotionnet) taken at once, on average.", "short",
                          (f"sum by (model) (rate(emotiond_batch_size_sum{{D}}{RATE})) "
                           f"/ sum by (model) (rate(emotiond_batch_size_count{{D}}{RATE}))", "{{model}}"))),
                (24, _daemons())],
        }, {"Now": 4})


def _fleet_now() -> list[Json]:
    overloaded = 'sum(rate(emotiond_frames_dropped_total{S, reason=~"newer_frame|stale"}[5m]))'
    wanted = ("sum(rate(emotiond_stream_frames_read_total{S}[5m])) "
              '- sum(rate(emotiond_frames_dropped_total{S, reason="max_fps"}[5m]))')
    return [
        stat("Daemons down", "Daemons that Prometheus gets no answer from.", "none",
             ("sum(up{D} == bool 0)", ""), steps=NONE_YET),
        stat("Daemons not ready", "Still loading, or Redis has never answered since their start.", "none",
             ("sum(emotiond_ready{D} == bool 0)", ""), steps=NONE_YET),
        stat("Daemons without Redis", "Their last exchange with Redis failed: events wait in their spools.", "none",
             ("sum(emotiond_redis_up{D} == bool 0)", ""), steps=NONE_YET),
        stat("Streams", "Streams that run, and all that are configured.", "none",
             ("sum(emotiond_stream_up{S})", "running"), ("count(emotiond_stream_up{S})", "in all")),
        stat("Streams in trouble", "Neither running nor at their end: connecting, stalled, backing off, refused.",
             "none", ('sum(emotiond_stream_state{S, state!~"running|ended"})', ""), steps=(1, 3)),
        stat("Frames analysed", "Frames analysed a second, of all streams.", FPS, (f"sum({ANALYZED})", "")),
        stat("Overload", "Share of all frames to be analysed in the last five minutes that were dropped because the "
             "analyzers were too slow.", "percentunit", (f"{overloaded} / ({wanted} > 0)", ""), steps=OVERLOAD_STEPS,
             decimals=1),
        stat("Events lost", "Events that were lost in the time shown: full spool or failing disk.", "short",
             ("sum(increase(emotiond_events_dropped_total{S}[$__range]))", ""), steps=NONE_YET, decimals=0)]


def _alerts() -> Json:
    return table("Alerts", "What fires now; docs/operations.md has a section for each.", {
        "Since": (ALERTS, {}),
        "severity": ("", colored_words({"critical": RED, "warning": ORANGE})),
    }, ("severity", "alertname", "job", "instance", "stream"), "severity", descending=False)


def _streams() -> Json:
    return table("Streams", "Each stream as it is now; its name leads to its own dashboard.", {
        "State": ("emotiond_stream_state{S} == 1", {}),
        "Read": (READ, cell(FPS, decimals=1)), "Analysed": (ANALYZED, cell(FPS, decimals=1)),
        "Events": (PUBLISHED, cell("eps", decimals=1)),
        "Overload": (OVERLOAD, cell("percentunit", OVERLOAD_STEPS, 1)), "p95": (P95, cell("s", LATENCY_STEPS)),
        "Last frame": ("time() - (emotiond_stream_last_frame_timestamp_seconds{S} > 0)", cell("s", (10, 60))),
        "state": ("", colored_words(STATES)),
        "stream": ("", link("/d/emotiond-stream?${__url_time_range}&var-datasource=${datasource}&${job:queryparam}"
                            "&var-instance=${__data.fields.instance}&var-stream=${__value.raw}", "Open the stream")),
    }, ("stream", "instance", "state", "Read", "Analysed", "Events", "Overload", "p95", "Last frame"), "state",
        descending=False)


def _daemons() -> Json:
    return table("Daemons", "Versions, weights and their device, time since the start, configuration, the spool's "
                 "disk.", {
        "Build": ("emotiond_build_info{D}", {}), "Weights": ("emotiond_model_info{D}", {}),
        "Up": ("time() - process_start_time_seconds{D}", cell("dtdurations")),
        "Configuration": ("emotiond_config_last_reload_successful{D}",
                          colored_words({"0": RED, "1": GREEN}, {"0": "refused", "1": "accepted"})),
        "Spool's disk": ("emotiond_spool_failing{D}",
                         colored_words({"0": GREEN, "1": RED}, {"0": "works", "1": "fails"})),
    }, ("instance", "version", "python", "model", "device", "Up", "Configuration", "Spool's disk"), "instance",
        descending=False)
