"""Where `emotiond top` gets its figures: the daemon's live messages, or the events in Redis."""

import http.client
import logging
import threading
import time
from collections import Counter, deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

import msgspec
import redis.exceptions

from emotiond.client import Event, subscribe
from emotiond.config import RedisConfig, read_secret
from emotiond.errors import ConfigError, UnavailableError
from emotiond.events import DOWN_TYPE, ENDED_TYPE, UP_TYPE, AggregateEvent, StatusEvent
from emotiond.frames import Drop
from emotiond.live.message import Message, StreamView
from emotiond.redact import redact
from emotiond.store import connect, describe

RATE_SECONDS = 5.0          # that rates are means of
LATENCY_SECONDS = 10.0      # and latencies
MINUTES = 5                 # of emotions
SILENCE_SECONDS = 10.0      # after which a daemon that sends nothing counts as gone
RETRY_SECONDS = 1.0
NOW_SECONDS = 2.0           # after which a stream's last faces are old
CONNECTING = "connecting"
MUTE_SECONDS = 25.0         # without a heartbeat, after which nobody is there


@dataclass(frozen=True)
class Row:
    """A stream as it is shown.

    Attributes:
        stream: its name.
        state: what it is doing; "?" while that is not known.
        rate: analysed frames a second; events a second where only those are known.
        dropped: share of the frames that were to be analysed.
        latency_ms: mean from a frame's arrival to Redis; from its capture to here where only events are known.
        faces: of the last frame, in words.
        shares: of the emotions in the last minutes, in words.
        error: why it does not run.
    """

    stream: str
    state: str = "?"
    rate: float | None = None
    dropped: float | None = None
    latency_ms: float | None = None
    faces: str = ""
    shares: str = ""
    error: str = ""


@dataclass(frozen=True)
class View:
    """What is known now: of whom, what is wrong with it, and its streams."""

    title: str
    problem: str
    rows: list[Row]


class DaemonSource:
    """Reads a daemon's live messages; `run` is a thread's whole life."""

    def __init__(self, url: str, token_file: Path | None) -> None:
        """Connects to nobody yet.

        Raises:
            ConfigError: the URL or the token's file is wrong.
        """
        wrong = ConfigError(f"{redact(url)}: is no daemon's address; give one like http://127.0.0.1:9470")
        try:
            parts = urlsplit(url if "://" in url else f"http://{url}")
            named = parts.hostname and parts.port != 0 and parts.username is None
        except ValueError:
            raise wrong from None
        if parts.scheme not in ("http", "https") or not named:
            raise wrong
        self._https, self._address, self._path = parts.scheme == "https", parts.netloc, f"{parts.path.rstrip('/')}/live"
        self._url = url
        self._headers = {"Accept": "text/event-stream"}
        if token_file:
            try:
                self._headers["Authorization"] = f"Bearer {read_secret(token_file)}"
            except ValueError as error:
                raise ConfigError(f"--token-file: {error}") from None
        self._messages: deque[Message] = deque()
        self._told = False
        self._totals: dict[str, dict[int, list[int]]] = {}
        self._problem = CONNECTING
        self._lock = threading.Lock()

    def run(self, ended: threading.Event) -> None:
        """Reads until `ended`; connects again where the daemon goes away after it was there.

        Raises:
            UnavailableError: it is not there, or refuses.
        """
        while not ended.is_set():
            try:
                self._read(ended)
            except msgspec.MsgspecError as error:
                raise UnavailableError(
                    f"{self._url}: is no daemon of this version ({error}); give another address, or --redis") from None
            except (OSError, http.client.HTTPException) as error:
                if not self._told:
                    raise UnavailableError(
                        f"{self._url}: cannot be read ({error}); give the daemon's address, or --redis") from None
            with self._lock:
                self._problem = "the daemon is gone; trying again"
            ended.wait(RETRY_SECONDS)

    def view(self) -> View:
        """Returns what was told last."""
        with self._lock:
            if not self._messages:
                return View("emotiond", self._problem, [])
            last, problem = self._messages[-1], self._problem or self._messages[-1].problem or ""
            return View(f"emotiond {last.instance}", problem, [
                self._row(name, stream, last) for name, stream in last.streams.items()])

    def _read(self, ended: threading.Event) -> None:
        kind = http.client.HTTPSConnection if self._https else http.client.HTTPConnection
        connection = kind(self._address, timeout=SILENCE_SECONDS)
        try:
            connection.request("GET", self._path, headers=self._headers)
            reply = connection.getresponse()
            if reply.status != 200:
                raise UnavailableError(f"{self._url}: {reply.read(500).decode(errors='replace').strip()}")
            with self._lock:
                self._messages.clear()
                self._totals.clear()
            while not ended.is_set() and (line := reply.readline()):
                if line.startswith(b"data: "):
                    self._take(msgspec.json.decode(line[len(b"data: "):], type=Message))
        finally:
            connection.close()

    def _take(self, message: Message) -> None:
        with self._lock:
            self._problem, self._told = "", True
            self._messages.append(message)
            while self._messages[0].time < message.time - LATENCY_SECONDS or self._messages[0].time > message.time:
                self._messages.popleft()
            for name, stream in message.streams.items():
                totals = self._totals.setdefault(name, {})
                totals |= {entry.begin: entry.counts for entry in stream.history}
                for old in [begin for begin in totals if begin < message.at - message.span * message.step]:
                    del totals[old]

    def _row(self, name: str, stream: StreamView, last: Message) -> Row:
        recent = [(message.time, message.streams[name]) for message in self._messages if name in message.streams]
        first = recent[0][1]
        since, before = next(each for each in recent if each[0] >= last.time - RATE_SECONDS - 0.25)
        seconds, timed = last.time - since, stream.timed - first.timed
        wanted, lost = (now - then for now, then in zip(_count(stream), _count(before), strict=True))
        totals = [sum(counts) for counts in zip(*self._totals.get(name, {}).values(), strict=True)]
        return Row(
            name, stream.state, (stream.analyzed - before.analyzed) / seconds if seconds > 0 else None,
            lost / wanted if wanted > 0 else None,
            1000 * (stream.latency_seconds - first.latency_seconds) / timed if timed > 0 else None,
            _name_faces([(face.track_id, face.emotion, face.confidence, face.unsure) for face in stream.now.faces],
                        stream.now.more) if stream.now else _name_window(stream.window),
            _name_shares(dict(zip([*last.labels, "unsure"], totals, strict=False))), stream.error or "")


def _count(stream: StreamView) -> tuple[int, int]:
    """Returns the frames that were to be analysed, and those of them that were dropped."""
    skipped = stream.dropped.get(Drop.MAX_FPS, 0)
    return stream.read - skipped, sum(stream.dropped.values()) - skipped


@dataclass
class _Heard:
    """What events said of a stream; times are monotonic seconds."""

    state: str = "?"
    error: str = ""
    came: deque[tuple[float, float]] = field(default_factory=deque)             # when, and seconds since its capture
    faces: str = ""
    faces_came: float = 0.0
    emotions: deque[tuple[int, Counter[str]]] = field(default_factory=deque)    # second, and what its faces showed

    def count(self, now: float, emotions: Mapping[str, int]) -> None:
        """Adds what faces showed."""
        if not self.emotions or self.emotions[-1][0] != int(now):
            self.emotions.append((int(now), Counter()))
        self.emotions[-1][1].update(emotions)


class RedisSource:
    """Reads events from Redis; `run` is a thread's whole life."""

    def __init__(self, config: RedisConfig, url: str) -> None:
        """Asks Redis whether it is there; `config` has the user, the password and the prefix of the keys.

        Raises:
            UnavailableError: it is not, or refuses.
        """
        client = connect(config, url)
        try:
            client.ping()
        except (redis.exceptions.RedisError, OSError) as error:
            raise UnavailableError(describe(error, url)) from None
        finally:
            client.close()
        logging.getLogger("emotiond.client").addHandler(logging.NullHandler())      # the screen is not for its lines
        self._subscription = subscribe(
            url, status=True, key_prefix=config.key_prefix, username=config.username,
            password_file=config.password_file)
        self._heard: dict[str, _Heard] = {}
        self._title = redact(url)
        self._beat: float | None = None
        self._lock = threading.Lock()

    def run(self, ended: threading.Event) -> None:
        """Reads until `ended`.

        Raises:
            UnavailableError: Redis refuses.
        """
        with self._subscription as events:
            for event in events:
                if ended.is_set():
                    return
                with self._lock:
                    self._take(event)

    def view(self) -> View:
        """Returns what was heard so far."""
        now = time.monotonic()
        with self._lock:
            silent = self._beat is not None and now - self._beat > MUTE_SECONDS
            problem = "no heartbeat: no daemon, or no way to Redis" if silent else ""
            return View(self._title, problem or ("" if self._heard else "waiting for events"), [
                self._row(name, heard, now) for name, heard in sorted(self._heard.items())])

    def _take(self, event: Event) -> None:
        now, body = time.monotonic(), event.data
        if isinstance(body, StatusEvent):
            self._take_status(event, body, now)
            return
        heard = self._heard.setdefault(event.stream, _Heard())
        heard.came.append((now, time.time() - event.time.timestamp()))
        if isinstance(body, AggregateEvent):
            heard.faces, heard.faces_came = _name_window(body), now
            heard.count(now, {**body.emotions, "unsure": body.unsure})
        else:
            heard.faces, heard.faces_came = _name_faces([
                (face.track_id, face.smoothed.emotion, face.smoothed.confidence, face.abstained)
                for face in body.faces], 0), now
            heard.count(now, Counter("unsure" if face.abstained else face.smoothed.emotion for face in body.faces))

    def _take_status(self, event: Event, body: StatusEvent, now: float) -> None:
        if body.stream is None:
            self._beat = now
            for name, state in (body.streams or {}).items():
                heard = self._heard.setdefault(name, _Heard())
                heard.state, heard.error = state, "" if state == "running" else heard.error
            return
        heard = self._heard.setdefault(body.stream, _Heard())
        heard.error = body.detail or "" if event.type == DOWN_TYPE else ""
        heard.state = {UP_TYPE: "running", DOWN_TYPE: "backoff", ENDED_TYPE: "ended"}.get(event.type, heard.state)

    def _row(self, name: str, heard: _Heard, now: float) -> Row:
        while heard.came and heard.came[0][0] < now - LATENCY_SECONDS:
            heard.came.popleft()
        while heard.emotions and heard.emotions[0][0] < now - 60 * MINUTES:
            heard.emotions.popleft()
        late = [seconds for _, seconds in heard.came]
        return Row(
            name, heard.state, sum(at >= now - RATE_SECONDS for at, _ in heard.came) / RATE_SECONDS, None,
            1000 * sum(late) / len(late) if late else None,
            heard.faces if now - heard.faces_came < NOW_SECONDS else "",
            _name_shares(sum((counts for _, counts in heard.emotions), Counter[str]())), heard.error)


def _name_faces(faces: Sequence[tuple[int, str, float, bool]], more: int) -> str:
    said = [f"{track} unsure" if unsure else f"{track} {emotion} {confidence:.0%}"
            for track, emotion, confidence, unsure in sorted(faces)]
    return ", ".join([*said, *([f"and {more} more"] if more else [])])


def _name_window(window: AggregateEvent | None) -> str:
    if window is None:
        return ""
    return f"{window.faces} faces in {window.counted} frames with {window.min_group} or more"


def _name_shares(counts: Mapping[str, int]) -> str:
    total = sum(counts.values())
    shares = sorted(counts.items(), key=lambda share: -share[1])
    return ", ".join(f"{name} {count / total:.0%}" for name, count in shares if total and count * 100 >= total)
