"""The metrics of the public contract: name -> type, and label -> its values from the start (None: any)."""

STATES = {"connecting", "running", "stalled", "backoff", "auth_failed", "not_found", "ended"}
EMOTIONS = {"angry", "disgust", "fear", "happy", "neutral", "sad", "surprise"}
OUTCOMES = {"ok", "refused", "timeout", "auth", "not_found", "protocol"}
ENDS = {"eof", "stall", "error"}
DROPS = {"newer_frame", "max_fps", "stale", "too_large", "inference_error", "shutdown"}
KINDS = {"connection", "timeout", "oom", "readonly", "noreplicas", "loading", "max_clients", "auth", "noperm", "moved",
         "other"}
STREAMS = {"door", "dead"}
CONTRACT: dict[str, tuple[str, dict[str, set[str] | None]]] = {
    "stream_up": ("gauge", {"stream": STREAMS}),
    "stream_last_frame_timestamp_seconds": ("gauge", {"stream": STREAMS}),
    "stream_state": ("gauge", {"stream": STREAMS, "state": STATES}),
    "stream_assigned": ("gauge", {"stream": STREAMS}),
    "stream_frames_read_total": ("counter", {"stream": STREAMS}),
    "stream_bytes_read_total": ("counter", {"stream": STREAMS}),
    "stream_decode_errors_total": ("counter", {"stream": STREAMS}),
    "stream_connects_total": ("counter", {"stream": STREAMS, "outcome": OUTCOMES}),
    "stream_reconnects_total": ("counter", {"stream": STREAMS, "reason": ENDS}),
    "frames_analyzed_total": ("counter", {"stream": STREAMS}),
    "frames_in_flight": ("gauge", {"stream": STREAMS}),
    "frames_dropped_total": ("counter", {"stream": STREAMS, "reason": DROPS}),
    "faces_detected_total": ("counter", {"stream": STREAMS}),
    "faces_truncated_total": ("counter", {"stream": STREAMS}),
    "faces_classified_total": ("counter", {"stream": STREAMS, "emotion": EMOTIONS}),
    "events_total": ("counter", {"stream": STREAMS}),
    "events_published_total": ("counter", {"stream": STREAMS}),
    "events_dropped_total": ("counter", {"stream": STREAMS, "reason": {"spool_full", "disk_error"}}),
    "events_resent_total": ("counter", {"reason": {"lost_reply", "rewind"}}),
    "stage_duration_seconds": ("histogram", {"stage": {"decode", "detect", "classify", "publish"}}),
    "batch_size": ("histogram", {"model": {"yunet", "emotionnet"}}),
    "event_latency_seconds": ("histogram", {"stream": STREAMS}),
    "queue_depth": ("gauge", {"queue": None}),
    "queue_capacity": ("gauge", {"queue": None}),
    "spool_events": ("gauge", {}),
    "spool_bytes": ("gauge", {}),
    "spool_capacity_bytes": ("gauge", {}),
    "spool_oldest_timestamp_seconds": ("gauge", {}),
    "spool_failing": ("gauge", {}),
    "redis_up": ("gauge", {}),
    "redis_errors_total": ("counter", {"kind": KINDS}),
    "inference_errors_total": ("counter", {"model": {"yunet", "emotionnet"}, "reason": None}),
    "ready": ("gauge", {}),
    "config_last_reload_successful": ("gauge", {}),
    "config_last_reload_success_timestamp_seconds": ("gauge", {}),
    "shard_index": ("gauge", {}),
    "shards": ("gauge", {}),
    "build_info": ("gauge", {"version": None, "python": None}),
    "model_info": ("gauge", {"model": None, "device": None}),
}
PROCESS = {"process_cpu_seconds_total", "process_resident_memory_bytes", "process_virtual_memory_bytes",
           "process_open_fds", "process_max_fds", "process_start_time_seconds"}
"""What every Prometheus client says of its process."""
