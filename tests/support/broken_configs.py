"""Configuration files that are wrong, each in one way, and what has to be said of them; most hold a secret."""

from dataclasses import dataclass

SECRET = "hunter2-Quark"
CAMERA = f"rtsp://admin:{SECRET}@192.0.2.7/stream"
REDIS = f"redis://:{SECRET}@192.0.2.8:6379/0"
REST = f"redis: {{url: '{REDIS}'}}\n"


@dataclass(frozen=True)
class Broken:
    """A wrong file, and what is said of it: where, and a part of the sentence."""

    content: str | bytes
    line: int | None
    key: str | None
    says: str


def stream(*lines: str, source: str = CAMERA) -> str:
    """Returns a file whose one stream has these lines, the first of them line 5."""
    return f"{REST}streams:\n  lobby:\n    source: '{source}'\n" + "".join(f"    {line}\n" for line in lines)


def beside_a_stream(lines: str) -> str:
    """Returns a file that is right but for these lines, the first of them line 1."""
    return f"{lines}\nstreams: {{lobby: {{source: '{CAMERA}'}}}}\n"


BROKEN = {
    # the text itself
    "a tab": Broken(f"streams:\n\tlobby: {{source: '{CAMERA}'}}\n", 2, None, "is not valid YAML"),
    "a bracket left open": Broken(f"streams: {{lobby: {{source: '{CAMERA}'\n", 2, None, "is not valid YAML"),
    "two documents": Broken(f"{REST}---\nstreams: {{}}\n", 2, None, "is not valid YAML"),
    "a tag that runs code": Broken("streams: !!python/object/apply:os.abort []\n", 1, None, "is not valid YAML"),
    "a secret read as an alias": Broken(f"redis:\n  url: *{SECRET}\n", 2, None, "quote"),
    "a secret read as a tag": Broken(f"redis:\n  url: !{SECRET}\n", 2, None, "quote"),
    "a secret read as an escape": Broken(f'redis:\n  url: "\\q{SECRET}"\n', 2, None, "is not valid YAML"),
    "not UTF-8": Broken(f"streams:\n  café: {{source: '{CAMERA}'}}\n".encode("latin-1"), None, None, "is not UTF-8"),
    "UTF-16": Broken(REST.encode("utf-16"), None, None, "is not UTF-8"),
    "a NUL": Broken(b"streams: {}\x00\n", None, None, "is not valid YAML"),
    "no such day": Broken("instance: 2026-02-30\n", None, None, "put it in quotes"),
    "a number without end": Broken(f"redis: {{maxlen: {'9' * 5000}}}\n", None, None, "put it in quotes"),
    "a list": Broken(f"- {CAMERA}\n- {REDIS}\n", 1, None, "holds no keys"),
    "a text": Broken(f"{CAMERA}\n", 1, None, "holds no keys"),
    "nested too deeply": Broken("{a: " * 1000 + "1" + "}" * 1000, None, None, "is nested too deeply"),
    # keys
    "a key twice": Broken(
        f"{REST}streams:\n  lobby: {{source: '{CAMERA}'}}\n  lobby: {{source: other.mp4}}\n", 4, "streams.lobby",
        "stands twice"),
    "a key twice, deep": Broken(stream("transport: tcp", "transport: udp"), 6, "streams.lobby.transport", "twice"),
    "a switch as a key": Broken(f"{REST}on: 1\n", 2, "on", "put the key in quotes"),
    "a switch as a name": Broken(
        f"{REST}streams:\n  no: {{source: '{CAMERA}'}}\n", 3, "streams.no", "put the key in quotes"),
    "a number as a name": Broken(
        f"{REST}streams:\n  1: {{source: '{CAMERA}'}}\n", 3, "streams.1", "put the key in quotes"),
    "nothing as a name": Broken(
        f"{REST}streams:\n  ~: {{source: '{CAMERA}'}}\n", 3, "streams.~", "put the key in quotes"),
    "a list as a key": Broken(f"{REST}? [a, b]\n: 1\n", 2, None, "is not valid YAML"),
    "a switch as a label's name": Broken(stream("labels: {on: 'x'}"), 5, "streams.lobby.labels.on", "in quotes"),
    "an unknown section": Broken(f"stream:\n  lobby: {{source: '{CAMERA}'}}\n", 1, "stream", "did you mean streams?"),
    "a misspelt key": Broken(
        f"{REST}streams:\n  lobby:\n    sorce: {CAMERA}\n", 4, "streams.lobby.sorce", "did you mean source?"),
    "a password in the file": Broken(
        f"redis:\n  url: redis://192.0.2.8\n  password: {SECRET}\n", 3, "redis.password", "mean password_file?"),
    "a key of another program": Broken(
        beside_a_stream(f"spool:\n  folder: /{SECRET}"), 2, "spool.folder", "there are "),
    "a URL as a key": Broken(f"{CAMERA}: 1\n", 1, "rtsp://***@192.0.2.7/stream", "is no key"),
    # sections
    "streams as a list": Broken(f"streams:\n  - source: {CAMERA}\n", 1, "streams", "is not a section"),
    "streams as a text": Broken(f"streams: {CAMERA}\n", 1, "streams", "is not a section"),
    "streams without a value": Broken(f"streams:\n{REST}", 1, "streams", "is not a section"),
    "a stream as a text": Broken(f"{REST}streams:\n  lobby: {CAMERA}\n", 3, "streams.lobby", "is not a section"),
    "a stream without a value": Broken(f"{REST}streams:\n  lobby:\n", 3, "streams.lobby", "is not a section"),
    "redis as a text": Broken(f"redis: {REDIS}\n", 1, "redis", "is not a section"),
    "an alias to itself": Broken("streams: &all [*all]\n", 1, "streams", "is not a section"),
    # names
    "a stream named status": Broken(
        f"{REST}streams:\n  status: {{source: '{CAMERA}'}}\n", 3, "streams.status", "is taken"),
    "a name with a blank": Broken(
        f"{REST}streams:\n  front door: {{source: '{CAMERA}'}}\n", 3, "streams.front door", "is no name"),
    "a name with a line break": Broken(
        f"{REST}streams:\n  \"front\\ndoor\": {{source: '{CAMERA}'}}\n", 3, r"streams.front\ndoor", "printed"),
    "a name of 65": Broken(
        f"{REST}streams:\n  {'x' * 65}: {{source: '{CAMERA}'}}\n", 3, f"streams.{'x' * 65}", "is no name"),
    "an instance with blanks": Broken(beside_a_stream("instance: edge 1"), 1, "instance", "is no name"),
    "an instance with a line break": Broken(beside_a_stream('instance: "edge\\n"'), 1, "instance", "printed"),
    "a prefix with braces": Broken(
        beside_a_stream("redis:\n  key_prefix: '{emotions}'"), 2, "redis.key_prefix", "is no key prefix"),
    # sources
    "no source": Broken(f"{REST}streams:\n  lobby:\n    live: true\n", 3, "streams.lobby.source", "is missing"),
    "an empty source": Broken(stream(source=" "), 4, "streams.lobby.source", "is empty"),
    "a number as a source": Broken(
        f"{REST}streams:\n  lobby:\n    source: 0\n", 4, "streams.lobby.source", "is not text"),
    "an unknown scheme": Broken(
        stream(source=CAMERA.replace("rtsp", "rtmp")), 4, "streams.lobby.source", "is no source"),
    "a misspelt scheme": Broken(
        stream(source=CAMERA.replace("rtsp", "rstp")), 4, "streams.lobby.source", "is no source"),
    "a scheme alone": Broken(stream(source="rtsp://"), 4, "streams.lobby.source", "is no source"),
    "a URL without slashes": Broken(
        stream(source=CAMERA.replace("//", "")), 4, "streams.lobby.source", "write one like rtsp://"),
    "a camera's port out of range": Broken(
        stream(source=f"rtsp://admin:{SECRET}@camera:99999/"), 4, "streams.lobby.source", "up to 65535"),
    "a camera's port in letters": Broken(
        stream(source=f"rtsp://admin:{SECRET}@camera:port/"), 4, "streams.lobby.source", "up to 65535"),
    "a slash in a camera's password": Broken(
        stream(source=f"rtsp://admin:{SECRET}/x@camera/"), 4, "streams.lobby.source", "%2F"),
    "an @ in a camera's password": Broken(
        stream(source=f"rtsp://admin:{SECRET}@x@camera/"), 4, "streams.lobby.source", "%40"),
    "a # in a camera's password": Broken(
        stream(source=f"rtsp://admin:{SECRET}#x@camera/"), 4, "streams.lobby.source", "%23"),
    "a line break in a source": Broken(
        f'{REST}streams:\n  lobby:\n    source: "rtsp://camera/\\nx"\n', 4, "streams.lobby.source", "printed"),
    # the stream's other values
    "three numbers as a region": Broken(stream("region: [0, 0, 1]"), 5, "streams.lobby.region", "four numbers"),
    "five numbers as a region": Broken(stream("region: [0, 0, 1, 1, 1]"), 5, "streams.lobby.region", "four numbers"),
    "a word as a region": Broken(stream("region: whole"), 5, "streams.lobby.region", "four numbers"),
    "pixels as a region": Broken(
        stream("region: [0, 0, 640, 1]"), 5, "streams.lobby.region.2", "less than or equal to 1"),
    "a region from right to left": Broken(stream("region: [0.6, 0, 0.4, 1]"), 5, "streams.lobby.region", "is empty"),
    "a region of no number": Broken(stream("region: [.nan, 0, 1, 1]"), 5, "streams.lobby.region.0", "should be"),
    "a mask of no size": Broken(
        stream("masks:", "- [0, 0, 1, 1]", "- [0.2, 0.2, 0.2, 0.3]"), 7, "streams.lobby.masks.1", "is empty"),
    "a negative duration": Broken(stream("stall_seconds: -5"), 5, "streams.lobby.stall_seconds", "should be greater"),
    "a negative duration with a unit": Broken(
        stream("stall_seconds: -5s"), 5, "streams.lobby.stall_seconds", "is not a duration"),
    "a duration without end": Broken(stream("stall_seconds: .inf"), 5, "streams.lobby.stall_seconds", "should be less"),
    "a duration of ages": Broken(
        stream("stall_seconds: 999999999999d"), 5, "streams.lobby.stall_seconds", "should be less"),
    "a rate of zero": Broken(stream("max_fps: 0"), 5, "streams.lobby.max_fps", "greater than 0"),
    "a rate without end": Broken(stream("max_fps: .inf"), 5, "streams.lobby.max_fps", "less than or equal to"),
    "an unknown transport": Broken(stream("transport: sctp"), 5, "streams.lobby.transport", "'tcp' or 'udp'"),
    "neither live nor not": Broken(stream("live: maybe"), 5, "streams.lobby.live", "'auto' or true or false"),
    "half a character as a label": Broken(
        stream('labels: {site: "\\ud800"}'), 5, "streams.lobby.labels.site", "printed"),
    "a number as a label": Broken(
        stream("labels: {site: hq, floor: 2}"), 5, "streams.lobby.labels.floor", "in quotes"),
    "labels as a list": Broken(stream("labels: [site, floor]"), 5, "streams.lobby.labels", "is not a section"),
    "a password without a user": Broken(
        stream("password_file: /run/secrets/lobby", source="rtsp://camera/"), 3, "streams.lobby", "needs username"),
    # redis
    "no Redis": Broken(f"streams: {{lobby: {{source: '{CAMERA}'}}}}\n", None, "redis.url", "or write embedded"),
    "Redis over HTTP": Broken(
        beside_a_stream(f"redis:\n  url: http://:{SECRET}@redis"), 2, "redis.url", "is no Redis URL"),
    "Redis without a scheme": Broken(beside_a_stream("redis:\n  url: redis:6379"), 2, "redis.url", "is no Redis URL"),
    "an empty Redis URL": Broken(beside_a_stream("redis:\n  url: ''"), 2, "redis.url", "is no Redis URL"),
    "Redis' port out of range": Broken(
        beside_a_stream(f"redis:\n  url: redis://:{SECRET}@redis:70000/0"), 2, "redis.url", "no valid port"),
    "Redis' port in letters": Broken(
        beside_a_stream(f"redis:\n  url: redis://:{SECRET}@redis:port/0"), 2, "redis.url", "no valid port"),
    "a slash in Redis' password": Broken(
        beside_a_stream(f"redis:\n  url: redis://:{SECRET}/x@redis:6379/0"), 2, "redis.url", "%2F"),
    "Redis' database in letters": Broken(
        beside_a_stream(f"redis:\n  url: redis://:{SECRET}@redis/main"), 2, "redis.url", "no valid port or database"),
    "a Sentinel URL without the primary's name": Broken(
        beside_a_stream(f"redis:\n  url: redis+sentinel://:{SECRET}@one:26379,two:26379"), 2, "redis.url",
        "redis+sentinel://host:26379,host:26379/primary/0"),
    "a Cluster URL with a host that has no port": Broken(
        beside_a_stream(f"redis:\n  url: redis+cluster://:{SECRET}@one:6379,two"), 2, "redis.url",
        "every host with its port"),
    "Redis' URL as a list": Broken(beside_a_stream(f"redis:\n  url: ['{REDIS}']"), 2, "redis.url", "is not text"),
    "keep no entries": Broken(beside_a_stream("redis:\n  maxlen: 0"), 2, "redis.maxlen", "greater than"),
    "keep many entries": Broken(beside_a_stream("redis:\n  maxlen: many"), 2, "redis.maxlen", "a whole number"),
    "an age in weeks": Broken(beside_a_stream("redis:\n  max_age: 2w"), 2, "redis.max_age", "is not a duration"),
    "an age of yes": Broken(beside_a_stream("redis:\n  max_age: yes"), 2, "redis.max_age", "is not a duration"),
    # the rest
    "an unknown device": Broken(beside_a_stream("compute:\n  device: gpu"), 2, "compute.device", "use auto, cpu"),
    "no workers": Broken(beside_a_stream("compute:\n  workers: 0"), 2, "compute.workers", "'auto' or greater"),
    "a narrow detector": Broken(beside_a_stream("detector:\n  width: 10"), 2, "detector.width", "greater than"),
    "a score above one": Broken(beside_a_stream("detector:\n  score: 60"), 2, "detector.score", "less than"),
    "a score of next to nothing": Broken(beside_a_stream("detector:\n  score: 0.001"), 2, "detector.score", "greater"),
    "abstain in per cent": Broken(
        beside_a_stream("classifier:\n  abstain_below: 40%"), 2, "classifier.abstain_below", "a number"),
    "a pickle as weights": Broken(
        f"{beside_a_stream('classifier: {weights: /tmp/model.pt}')}{REST}", None, "classifier.weights", "pickles"),
    "no such weights": Broken(
        f"{beside_a_stream('classifier: {weights: /nowhere/at/all.json}')}{REST}", None, "classifier.weights",
        "/nowhere/at/all.json"),
    "a camera as weights": Broken(
        stream() + f"classifier: {{weights: '{CAMERA}'}}\n", None, "classifier.weights", "***"),
    "a command to the terminal as weights": Broken(
        stream() + 'classifier: {weights: "\\x1b[2J"}\n', 5, "classifier.weights", "printed"),
    "a camera as a password's file": Broken(
        beside_a_stream(f"redis:\n  url: redis://redis\n  password_file: {CAMERA}"), 3, "redis.password_file", "***"),
    "a password as its own file": Broken(
        beside_a_stream(f"redis:\n  url: redis://redis\n  password_file: {SECRET}"), 3, "redis.password_file", "***"),
    "a spool of ten bytes": Broken(beside_a_stream("spool:\n  max_bytes: 10"), 2, "spool.max_bytes", "1MiB or more"),
    "a spool in parsecs": Broken(beside_a_stream("spool:\n  max_bytes: 10 parsecs"), 2, "spool.max_bytes", "512MiB"),
    "a negative spool": Broken(beside_a_stream("spool:\n  max_bytes: -1GiB"), 2, "spool.max_bytes", "512MiB"),
    "HTTP's port out of range": Broken(
        beside_a_stream("http:\n  listen: 127.0.0.1:70000"), 2, "http.listen", "above 65535"),
    "HTTP without a port": Broken(beside_a_stream("http:\n  listen: localhost"), 2, "http.listen", "127.0.0.1:9470"),
    "HTTP with a port alone": Broken(beside_a_stream("http:\n  listen: 9470"), 2, "http.listen", "is not text"),
    "an unknown level": Broken(beside_a_stream("log:\n  level: loud"), 2, "log.level", "'debug', 'info'"),
    "an unclear switch": Broken(beside_a_stream("publish_empty: maybe"), 1, "publish_empty", "true or false"),
}
