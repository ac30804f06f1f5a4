"""The configuration: a YAML file, single values overridden by EMOTIOND_* variables, secrets from files."""

import os
import re
import socket
from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import BaseModel, ByteSize, ConfigDict, Field, model_validator
from pydantic_settings import BaseSettings, EnvSettingsSource, PydanticBaseSettingsSource, SettingsConfigDict

from emotiond.config_values import (
    Device,
    Duration,
    Fraction,
    KeyPrefix,
    ListenAddress,
    LongDuration,
    Name,
    Purpose,
    Rectangle,
    RedisUrl,
    Size,
    SpoolPath,
    StreamName,
    StreamSource,
)
from emotiond.redact import protect

ENV_PREFIX = "EMOTIOND_"


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True, use_attribute_docstrings=True)


class StreamConfig(_Section):
    """One camera or file."""

    source: StreamSource
    """`rtsp(s)://` or `http(s)://` URL, path of a file, `/dev/video0`, or a test pattern: `lavfi:testsrc2=rate=15`."""
    username: str | None = None
    """For a camera whose URL shall not carry it."""
    password_file: Path | None = None
    """File whose first line is the camera's password; needs `username`."""
    live: Literal["auto"] | bool = "auto"
    """`true`: drops its oldest frame when the analyzers are slow, and reconnects; `false`: waits, and ends. `auto`:
    RTSP, devices and test patterns are live, files are not, HTTP is where it does not say how long it is. A file
    with `true` plays a camera: at its own pace, for ever."""
    transport: Literal["tcp", "udp"] = "tcp"
    """How RTSP carries its packets: `tcp` or `udp`."""
    max_fps: Annotated[float, Field(gt=0, le=1000)] | None = None
    """Analyse at most so many frames a second; the others are counted as dropped."""
    stall_seconds: LongDuration = 10.0
    """A live stream that is silent for so long is opened anew."""
    region: Rectangle = (0.0, 0.0, 1.0, 1.0)
    """Faces are searched in this part only; boxes still count from the whole picture's corner."""
    masks: tuple[Rectangle, ...] = ()
    """Rectangles that are never looked at."""
    labels: dict[str, str] = {}
    """Text -> text, carried in every event."""

    @model_validator(mode="after")
    def _password_needs_a_username(self) -> Self:
        if self.password_file and not self.username:
            raise ValueError("password_file needs username beside it")
        return self


class RedisConfig(_Section):
    """Where events go."""

    url: RedisUrl | None = None
    """`redis://`, `rediss://` or `unix://`; `redis+sentinel://host:26379,host:26379/primary/0`;
    `redis+cluster://host:6379,host:6379`; both with `rediss+` for TLS. After the `?` of a `rediss` URL:
    `ssl_ca_certs=FILE`, `ssl_certfile=FILE&ssl_keyfile=FILE`, `ssl_check_hostname=false`, `ssl_cert_reqs=none`; or
    `embedded`: a Valkey started by the daemon, whose data end with it."""
    username: str | None = None
    """Goes before one in the URL."""
    password_file: Path | None = None
    """File whose first line is the password; goes before one in the URL."""
    key_prefix: KeyPrefix = "emotions"
    """Events of stream `lobby` go to the key `emotions:lobby`."""
    maxlen: Annotated[int, Field(ge=1, le=1_000_000_000)] | None = 100_000
    """Entries kept in each key, about; `null` keeps all."""
    max_age: LongDuration | None = 86400.0
    """Entries older than this, by capture time, are trimmed; `null` keeps all, and replays do."""


class ComputeConfig(_Section):
    """Where inference runs."""

    device: Device = "auto"
    """`cpu` (onnxruntime); `cuda:0`, or `cuda` for all GPUs, among which streams are dealt out (torch, needs
    `emotiond[gpu]`); `auto`: all GPUs where torch sees any."""
    workers: Literal["auto"] | Annotated[int, Field(ge=1, le=256)] = "auto"
    """Analyzer threads; `auto` is one for each core the process may use, or one for each GPU; a number is that of each
    GPU. A second one of a GPU begins a batch while the first delivers its own; each then takes half of what waits, and
    as much of the GPU's memory again."""


class DetectorConfig(_Section):
    """Finding faces."""

    width: Annotated[int, Field(ge=64, le=4096)] = 640
    """The picture is scaled down to this width for the detector, never up; more finds smaller faces, slower."""
    score: Annotated[float, Field(ge=0.01, le=0.99)] = 0.6
    """Faces below this score are left out."""
    min_face: Annotated[int, Field(ge=1, le=10_000)] = 24
    """Faces narrower or lower than this, in pixels of the full picture, are left out."""
    interval: Annotated[int, Field(ge=1, le=100)] = 1
    """Every so many frames of a stream are searched whole; in between, the faces found are followed in small
    windows. For CPUs: a GPU searches every frame whole."""
    max_faces: Annotated[int, Field(ge=1, le=1000)] = 200
    """The best so many faces of a frame are kept; the others are counted."""


class ClassifierConfig(_Section):
    """Reading emotions."""

    weights: str = "builtin"
    """`builtin-int8` is their 8-bit copy for CPUs; or the path of weights of your own: the JSON that
    `emotiontrain export` or `quantize` wrote, or its folder."""
    interval: Annotated[int, Field(ge=1, le=100)] = 1
    """Every so many frames the faces that are followed are classified; in between they keep their answer, and the
    event says `carried`. Nobody is followed without `detector.interval` above 1, and the first of its frames is
    always classified."""
    smoothing_seconds: Duration = 0.5
    """Time constant of the moving average over a track; 0 is none."""
    abstain_below: Literal["auto"] | Fraction = "auto"
    """A face whose smoothed confidence is lower is marked as abstained; `auto` is what the weights say (`emotiond
    model info`)."""


class SpoolConfig(_Section):
    """Events between the timelines and Redis."""

    path: SpoolPath = "auto"
    """File that holds events until Redis has them, also over a restart. `auto`: `spool.db` in systemd's
    StateDirectory, for root in `/var/lib/emotiond`, for others in `~/.local/state/emotiond`. `memory`: in memory
    alone. Each daemon needs a file of its own."""
    max_bytes: Size = ByteSize(1024**3)
    """Events waiting for Redis; full, live streams lose their oldest and file readers wait."""
    keep_acknowledged: Duration = 60.0
    """How long events stay after Redis acknowledged them, to be sent again should it lose them in a failover."""

    @property
    def file(self) -> Path | None:
        """The file that `path` means, None for memory."""
        if self.path == "memory":
            return None
        return default_spool_file() if self.path == "auto" else Path(self.path).expanduser()


class HttpConfig(_Section):
    """Metrics, health and control."""

    listen: ListenAddress = "127.0.0.1:9470"
    """Where the live page, `/metrics`, `/healthz`, `/readyz` and `/streams` are; port 0 takes a free one."""
    token_file: Path | None = None
    """File whose first line is the token that POST, DELETE, the live page, and `/streams` from another machine must
    bring; read each time."""
    streams_file: Path | None = None
    """File that keeps the streams added with `POST /streams`; needs `http.token_file`."""
    preview: bool = False
    """Show each stream's picture on the live page, while somebody looks."""

    @property
    def address(self) -> tuple[str, int]:
        """Host and port of `listen`."""
        host, _, port = self.listen.rpartition(":")
        return host.strip("[]"), int(port)


class PrivacyConfig(_Section):
    """What is told of people."""

    mode: Literal["frames", "aggregate"] = "frames"
    """`aggregate`: no event of a frame, only counts over a window, of frames with a group of
    faces."""
    window: LongDuration = 60.0
    """How long such a window is."""
    min_group: Annotated[int, Field(ge=2, le=1000)] = 5
    """Frames with fewer faces are not counted; at least 2."""
    blur_preview: bool = True
    """Faces are blurred in the live page's pictures."""


class ResponsibleUseConfig(_Section):
    """What emotions are read for."""

    purpose: Purpose | None = None
    """What emotions are read for, in a few words; carried in every event. Without it each start reminds of
    responsible use."""


class ShardConfig(_Section):
    """Several daemons that share the streams of one file."""

    index: Annotated[int, Field(ge=0)] = 0
    """Which of several daemons with the same `streams` this one is, from 0 on."""
    count: Annotated[int, Field(ge=1, le=4096)] = 1
    """How many there are."""


class LogConfig(_Section):
    """Log lines on stderr."""

    format: Literal["auto", "text", "json"] = "auto"
    """`text`, `json`, or `auto`: text on a terminal and JSON elsewhere."""
    level: Literal["debug", "info", "warning", "error"] = "info"
    """`debug`, `info`, `warning` or `error`."""


class Config(BaseSettings):
    """The whole configuration."""

    model_config = SettingsConfigDict(
        env_prefix=ENV_PREFIX, env_nested_delimiter="__", extra="forbid", frozen=True,
        hide_input_in_errors=True, use_attribute_docstrings=True)

    instance: Name = Field(
        default_factory=lambda: re.sub(r"[^A-Za-z0-9_.-]", "-", socket.gethostname())[:64] or "emotiond",
        json_schema_extra={"default": "the host's name"})
    """Names this daemon in the events' `source`; `replay` in replays."""
    streams: Annotated[dict[StreamName, StreamConfig], Field(json_schema_extra={"additionalProperties": False})] = {}
    """Stream name -> one camera or file, see below. Names are 1 to 64 of `A-Z a-z 0-9 _ . -`, and not `status`."""
    publish_empty: bool = False
    """Also publish frames in which no face was found."""
    watch_config: bool = False
    """Reload, as on SIGHUP, when the file's content has changed."""
    redis: RedisConfig = RedisConfig()
    compute: ComputeConfig = ComputeConfig()
    detector: DetectorConfig = DetectorConfig()
    classifier: ClassifierConfig = ClassifierConfig()
    spool: SpoolConfig = SpoolConfig()
    http: HttpConfig = HttpConfig()
    privacy: PrivacyConfig = PrivacyConfig()
    responsible_use: ResponsibleUseConfig = ResponsibleUseConfig()
    shard: ShardConfig = ShardConfig()
    log: LogConfig = LogConfig()

    @classmethod
    def settings_customise_sources(
        cls, settings_cls: type[BaseSettings], init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource, dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Environment before file; nothing else."""
        return _ScalarEnvironment(settings_cls), init_settings


class PlainConfig(Config):
    """The configuration that a command line makes: the environment has no say in it."""

    @classmethod
    def settings_customise_sources(
        cls, settings_cls: type[BaseSettings], init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource, dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Only what is given."""
        return (init_settings,)


class _ScalarEnvironment(EnvSettingsSource):
    """Only the variables that name a single value: streams, lists and whole sections come from the file."""

    def __init__(self, settings_cls: type[BaseSettings]) -> None:
        super().__init__(settings_cls)
        known = {name.lower() for name in environment_names()}
        self.env_vars = {key: value for key, value in self.env_vars.items() if key.lower() in known}


def default_spool_file() -> Path:
    """Returns where events wait when the configuration does not say."""
    if folder := os.environ.get("STATE_DIRECTORY", "").partition(":")[0]:  # from systemd
        return Path(folder) / "spool.db"
    if os.geteuid() == 0:
        return Path("/var/lib/emotiond/spool.db")
    return Path(os.environ.get("XDG_STATE_HOME") or Path.home() / ".local/state") / "emotiond" / "spool.db"


def environment_names() -> list[str]:
    """Returns every EMOTIOND_* variable that sets a value."""
    names: list[str] = []
    for key, field in Config.model_fields.items():
        if isinstance(field.annotation, type) and issubclass(field.annotation, _Section):
            names += [f"{ENV_PREFIX}{key}__{inner}".upper() for inner in field.annotation.model_fields]
        elif key != "streams":
            names.append(f"{ENV_PREFIX}{key}".upper())
    return names


def unknown_environment() -> list[str]:
    """Returns the EMOTIOND_* variables that are set and mean nothing."""
    known = set(environment_names())
    return sorted(name for name in os.environ if name.startswith(ENV_PREFIX) and name.upper() not in known)


def read_secret(path: Path) -> str:
    """Returns the first line of a secret's file and keeps it out of every output.

    Variables in the path are filled in, as in $CREDENTIALS_DIRECTORY/redis, where systemd puts a unit's credentials.

    Raises:
        ValueError: the file cannot be read or is empty; the message names it.
    """
    try:
        lines = Path(os.path.expandvars(path)).read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "not text"
        raise ValueError(f"{path} cannot be read ({reason}); make it readable for the daemon's user") from None
    secret = lines[0].strip() if lines else ""
    if not secret:
        raise ValueError(f"{path} is empty; write the secret in its first line")
    protect(secret)
    return secret
