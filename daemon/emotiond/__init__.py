"""The service: video streams in, faces found, emotions classified, events in Redis Streams out."""

__version__ = "0.1.0"
