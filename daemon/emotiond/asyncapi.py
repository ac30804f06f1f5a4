"""What is in Redis as an AsyncAPI 3.0 document, generated from the events' types: docs/asyncapi.yaml.

https://www.asyncapi.com/docs/reference/specification/v3.0.0
"""

from typing import Any

import msgspec
import yaml

from emotiond.events import AGGREGATE_TYPE, BODIES, DOWN_TYPE, ENDED_TYPE, FRAME_TYPE, HEARTBEAT_TYPE, UP_TYPE

_SUMMARIES = {
    FRAME_TYPE: "An analysed frame of a stream, with its faces.",
    AGGREGATE_TYPE: "A window's faces, counted in frames with a group of them; where frames are not told.",
    UP_TYPE: "The first frame of a stream's connection has come.",
    DOWN_TYPE: "A stream's connection is lost or refused; it is tried again.",
    ENDED_TYPE: "A file is over, or a stream is in the configuration no more.",
    HEARTBEAT_TYPE: "The states of all streams of an instance, every ten seconds.",
}
_OF_STREAMS = ["frame", "aggregate"]
_ATTRIBUTES = {
    "specversion": {"type": "string", "const": "1.0"},
    "id": {"type": "string", "description": "Unique together with source; the same where an event comes again."},
    "source": {"type": "string", "description": "The daemon: /emotiond/<instance>."},
    "type": {"type": "string"},
    "subject": {"type": "string", "description": "The stream; the instance in heartbeats."},
    "time": {"type": "string", "format": "date-time", "description": "RFC 3339 in UTC, with microseconds."},
    "datacontenttype": {"type": "string", "const": "application/json"},
}


def asyncapi() -> dict[str, Any]:
    """Returns the document; an entry's fields are a message's headers, but for `data`, which is its payload."""
    bodies, schemas = msgspec.json.schema_components(BODIES.values(), ref_template="#/components/schemas/{name}")
    messages = {_name(kind): _message(kind, body) for kind, body in zip(BODIES, bodies, strict=True)}
    attributes = {"type": "object", "properties": _ATTRIBUTES, "required": list(_ATTRIBUTES)}
    status = [name for name in messages if name not in _OF_STREAMS]
    return {
        "asyncapi": "3.0.0",
        "info": {
            "title": "emotiond's events",
            "version": "1",
            "description": "CloudEvents 1.0 in Redis Streams: an entry's fields are the attributes (headers here), and "
                           "`data` holds the body as JSON (payload here). docs/events.md tells more.",
            "license": {"name": "AGPL-3.0-or-later"},
        },
        "defaultContentType": "application/json",
        "servers": {"redis": {"host": "localhost:6379", "protocol": "redis", "description": "redis.url"}},
        "channels": {
            "stream": {
                "address": "emotions:{stream}",
                "description": "A Redis Stream for each camera or file; redis.key_prefix may be another.",
                "parameters": {"stream": {"description": "The stream's name: [A-Za-z0-9_.-]{1,64}, but not status."}},
                "messages": _references(_OF_STREAMS),
            },
            "status": {
                "address": "emotions:status",
                "description": "The streams' lives, of all daemons.",
                "messages": _references(status),
            },
        },
        "operations": {
            "publishFrames": {"action": "send", "channel": {"$ref": "#/channels/stream"}},
            "publishStatus": {"action": "send", "channel": {"$ref": "#/channels/status"}},
        },
        "components": {"messages": messages, "schemas": {"Attributes": attributes, **schemas}},
    }


def _name(kind: str) -> str:
    """Returns frame, up, down, ended or heartbeat."""
    return kind.split(".")[-2]


def _message(kind: str, body: dict[str, Any]) -> dict[str, Any]:
    return {
        "name": kind,
        "summary": _SUMMARIES[kind],
        "contentType": "application/json",
        "headers": {"type": "object", "allOf": [{"$ref": "#/components/schemas/Attributes"}],
                    "properties": {"type": {"const": kind}}},
        "payload": body,
    }


def _references(names: list[str]) -> dict[str, Any]:
    return {name: {"$ref": f"#/components/messages/{name}"} for name in names}


if __name__ == "__main__":
    print(yaml.safe_dump(asyncapi(), sort_keys=False, width=120), end="")
