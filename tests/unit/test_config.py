"""The configuration: values and defaults, the environment, secrets, the schema, and the page that lists it all."""

import json
import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from jsonschema import Draft202012Validator

from emotiond import redact
from emotiond.commands.config import reference
from emotiond.config import Config, environment_names, read_secret, unknown_environment
from emotiond.config_file import load_config, load_service_config, make_config
from emotiond.config_values import kind_of, split_redis_url
from emotiond.errors import ConfigError
from tests.support.commands import call

ROOT = Path(__file__).parents[2]
SECTIONS = ("redis", "compute", "detector", "classifier", "spool", "http", "privacy", "responsible_use", "shard", "log")


@pytest.fixture(autouse=True)
def no_secrets_known(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(redact, "_secrets", set[str]())


@pytest.fixture(scope="module")
def schema() -> dict[str, Any]:
    return json.loads(call("config", "schema").out)


def load(folder: Path, text: str) -> Config:
    (folder / "emotiond.yaml").write_text(text)
    return load_config(folder / "emotiond.yaml")


@pytest.mark.parametrize(("written", "seconds"), [
    ("2", 2), ("2.5", 2.5), ("'2'", 2), ("1500ms", 1.5), ("30s", 30), ("1.5 m", 90), ("24h", 86400), ("7d", 604800)])
def test_durations_have_units(written: str, seconds: float, tmp_path: Path) -> None:
    assert load(tmp_path, f"redis: {{max_age: {written}}}").redis.max_age == pytest.approx(seconds)


@pytest.mark.parametrize(("written", "size"), [
    ("2000000", 2_000_000), ("512MiB", 512 * 2**20), ("1GiB", 2**30), ("2GB", 2 * 10**9)])
def test_sizes_have_units(written: str, size: int, tmp_path: Path) -> None:
    assert load(tmp_path, f"spool: {{max_bytes: {written}}}").spool.max_bytes == size


@pytest.mark.parametrize(("written", "address"), [
    ("127.0.0.1:9470", ("127.0.0.1", 9470)), ("'[::1]:0'", ("::1", 0)), ("':65535'", ("", 65535)),
    ("metrics.example:80", ("metrics.example", 80))])
def test_an_address_is_host_and_port(written: str, address: tuple[str, int], tmp_path: Path) -> None:
    assert load(tmp_path, f"http: {{listen: {written}}}").http.address == address


@pytest.mark.parametrize(("url", "hosts", "service", "plain"), [
    ("redis+sentinel://a:26379,[::1]:26380/main/2", [("a", 26379), ("::1", 26380)], "main", "redis://a:26379/2"),
    ("rediss+sentinel://me:pw@a:1/main?ssl_ca_certs=ca.pem", [("a", 1)], "main",
     "rediss://me:pw@a:1/?ssl_ca_certs=ca.pem"),
    ("redis+cluster://:pw@a:7000,b:7001", [("a", 7000), ("b", 7001)], "", "redis://:pw@a:7000/"),
    ("rediss+cluster://a:7000/0", [("a", 7000)], "", "rediss://a:7000/0")])
def test_sentinels_and_clusters_have_several_hosts(
    url: str, hosts: list[tuple[str, int]], service: str, plain: str, tmp_path: Path
) -> None:
    assert split_redis_url(url) == (hosts, service, plain)
    assert load(tmp_path, f"redis: {{url: '{url}'}}").redis.url == url
    assert "pw" not in redact.redact(url)


@pytest.mark.parametrize(("source", "kind"), [
    ("rtsp://h/", "rtsp"), ("RTSPS://h/", "rtsps"), ("http://h/", "http"), ("https://h/", "https"),
    ("lavfi:testsrc2", "lavfi"), ("/dev/video0", "device"), ("clip.mp4", "file"), ("./rtsp", "file"), ("rtsp", "file"),
    ("a:b.mp4", "file")])
def test_a_source_has_a_kind(source: str, kind: str) -> None:
    assert kind_of(source) == kind


def test_names_keep_their_case_and_order(tmp_path: Path) -> None:
    config = load(tmp_path, "streams:\n  Zoo: {source: a.mp4}\n  ant.1-B_: {source: b.mp4}\n")

    assert list(config.streams) == ["Zoo", "ant.1-B_"]


def test_a_file_whose_name_has_a_colon_is_a_source_where_it_exists(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    text = "streams: {lobby: {source: 'clip:1.mp4'}}"
    with pytest.raises(ConfigError, match="is no source"):
        load(tmp_path, text)

    (tmp_path / "clip:1.mp4").touch()

    assert load(tmp_path, text).streams["lobby"].source == "clip:1.mp4"


def test_the_default_instance_is_the_hosts_name_made_fit(monkeypatch: pytest.MonkeyPatch) -> None:
    for host, instance in (("edge-1.example", "edge-1.example"), ("küche 2", "k-che-2"), ("", "emotiond"),
                           ("x" * 70, "x" * 64)):
        monkeypatch.setattr("socket.gethostname", lambda host=host: host)

        assert make_config({}).instance == instance


def test_the_environment_goes_before_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EMOTIOND_REDIS__URL", "redis://b")
    monkeypatch.setenv("EMOTIOND_COMPUTE__WORKERS", "3")
    monkeypatch.setenv("EMOTIOND_PUBLISH_EMPTY", "true")
    monkeypatch.setenv("EMOTIOND_REDIS__MAX_AGE", "2h")

    config = load(tmp_path, "redis: {url: 'redis://a', maxlen: 5}\nlog: {level: debug}\ncompute: {device: cpu}\n")

    assert config.redis.url == "redis://b"
    assert config.redis.maxlen == 5
    assert config.redis.max_age == 7200
    assert config.compute.workers == 3
    assert config.compute.device == "cpu"
    assert config.publish_empty
    assert config.log.level == "debug"


def test_streams_and_sections_come_from_the_file_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EMOTIOND_STREAMS", '{"door": {"source": "/dev/video0"}}')
    monkeypatch.setenv("EMOTIOND_STREAMS__LOBBY__SOURCE", "rtsp://other/")
    monkeypatch.setenv("EMOTIOND_REDIS", '{"url": "redis://other"}')

    config = load(tmp_path, "streams: {lobby: {source: a.mp4}}\nredis: {url: 'redis://a'}\n")

    assert [(name, stream.source) for name, stream in config.streams.items()] == [("lobby", "a.mp4")]
    assert config.redis.url == "redis://a"
    assert unknown_environment() == ["EMOTIOND_REDIS", "EMOTIOND_STREAMS", "EMOTIOND_STREAMS__LOBBY__SOURCE"]


@pytest.mark.parametrize("name", environment_names())
def test_every_variable_is_read_and_its_faults_are_told(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    key = name.removeprefix("EMOTIOND_").lower().replace("__", ".")
    refusals: list[str] = []
    for value in ("{", "[1", '{"a": 1}', "", "\x01", "never seen"):
        monkeypatch.setenv(name, value)
        try:
            load(tmp_path, "{}")
        except ConfigError as error:
            refusals.append(str(error))

    assert unknown_environment() == []
    assert refusals or name.endswith(("USERNAME", "WEIGHTS"))
    assert all(text.startswith(f"environment variable {name}: {key}: ") and "\n" not in text for text in refusals)


def test_a_secrets_file_gives_its_first_line(tmp_path: Path) -> None:
    file = tmp_path / "secret"
    for content in (b"p@ss/w:rd", b"p@ss/w:rd\n", b"  p@ss/w:rd\r\nmore\n", b"\xef\xbb\xbfp@ss/w:rd\n"):
        file.write_bytes(content)

        assert read_secret(file) == "p@ss/w:rd"


def test_a_secrets_path_may_name_systemds_credentials(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(tmp_path))
    (tmp_path / "redis").write_text("p@ss/w:rd")

    config = load(tmp_path, "redis: {url: 'redis://h', password_file: $CREDENTIALS_DIRECTORY/redis}")

    assert config.redis.password_file
    assert read_secret(config.redis.password_file) == "p@ss/w:rd"


def test_a_secrets_content_is_kept_out_of_texts_from_then_on(tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("p@ss w'rd")

    load(tmp_path, f"redis: {{url: 'redis://h', password_file: {tmp_path}/secret}}")

    assert redact.redact("AUTH p@ss w'rd failed") == "AUTH *** failed"


@pytest.mark.parametrize(("variables", "root", "file"), [
    ({"STATE_DIRECTORY": "/var/lib/one:/var/lib/two"}, False, "/var/lib/one/spool.db"),
    ({}, True, "/var/lib/emotiond/spool.db"),
    ({"HOME": "/home/me"}, False, "/home/me/.local/state/emotiond/spool.db"),
    ({"HOME": "/home/me", "XDG_STATE_HOME": "/state"}, False, "/state/emotiond/spool.db"),
])
def test_events_wait_where_such_files_belong(
    variables: dict[str, str], root: bool, file: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("STATE_DIRECTORY", "XDG_STATE_HOME"):
        monkeypatch.delenv(name, raising=False)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr("os.geteuid", lambda: 0 if root else 1000)

    assert load(tmp_path, "{}").spool.file == Path(file)
    assert load(tmp_path, "spool: {path: memory}").spool.file is None
    assert load(tmp_path, "spool: {path: /data/s.db}").spool.file == Path("/data/s.db")


def test_the_schema_is_one(schema: dict[str, Any]) -> None:
    Draft202012Validator.check_schema(schema)
    assert schema["$schema"] == Draft202012Validator.META_SCHEMA["$id"]


def test_every_key_of_the_schema_says_what_it_means(schema: dict[str, Any]) -> None:
    silent = [name for model in [schema, *schema["$defs"].values()] for name, key in model["properties"].items()
              if "description" not in schema["$defs"].get(key.get("$ref", "").rpartition("/")[2], key)]

    assert not silent


def test_the_shipped_example_is_right_and_shows_the_defaults(schema: dict[str, Any], tmp_path: Path) -> None:
    text = (ROOT / "deploy/emotiond.yaml").read_text()
    Draft202012Validator(schema).validate(yaml.safe_load(text))

    config = load(tmp_path, text)

    said = config.model_dump(exclude={"instance", "streams"})
    usual = make_config({}).model_dump(exclude={"instance", "streams"})
    usual["redis"]["url"] = said["redis"]["url"]
    assert said == usual


def test_what_the_example_comments_out_is_right_too(schema: dict[str, Any], tmp_path: Path) -> None:
    text = (ROOT / "deploy/emotiond.yaml").read_text()
    missing = [key for key in defined(schema) if f"{key.rpartition('.')[2]}:" not in text]
    assert not missing
    for name in ("lobby", "redis", "token"):
        text = text.replace(f"/run/secrets/{name}", str(tmp_path / "secret"))
    (tmp_path / "secret").write_text("secret")
    used = re.sub(r"^( *)# (?=[a-z_]+: )", r"\1", text, flags=re.MULTILINE)

    config = load(tmp_path, used)

    lobby = config.streams["lobby"]
    assert set(config.streams) == {"lobby", "door"}
    assert (lobby.username, lobby.max_fps, lobby.region[0], len(lobby.masks)) == ("viewer", 15, 0.1, 1)
    assert config.instance == "edge-1"
    assert config.http.token_file == tmp_path / "secret"
    assert config.http.streams_file == Path("/var/lib/emotiond/streams.json")


@pytest.mark.parametrize(("content", "fits"), [
    ({"spool": {"max_bytes": "1GiB"}, "redis": {"max_age": "24h"}}, True),
    ({"streams": {"lobby": {"source": "a.mp4", "stall_seconds": 5, "region": [0, 0, 1, 1]}}}, True),
    ({"streams": {"front door": {"source": "a.mp4"}}}, False), ({"redis": {"uri": "x"}}, False),
    ({"streams": {"lobby": {}}}, False), ({"detector": {"score": 60}}, False), ({"http": {"listen": "here"}}, False)])
def test_an_editor_with_the_schema_accepts_what_the_daemon_accepts(
    content: dict[str, Any], fits: bool, schema: dict[str, Any], tmp_path: Path
) -> None:
    try:
        load(tmp_path, yaml.safe_dump(content))
    except ConfigError:
        accepted = False
    else:
        accepted = True

    assert accepted is fits
    assert Draft202012Validator(schema).is_valid(content) is fits


def documented() -> dict[str, str]:
    """Returns key -> default of every row of the tables in docs/reference.md."""
    page = (ROOT / "docs/reference.md").read_text()
    rows = re.findall(r"^\| `([a-z_.]+)` \| (.+?) \| (.+) \|$", page, re.MULTILINE)
    assert len({key for key, _, _ in rows}) == len(rows)
    return {key: default.strip("`") for key, default, _ in rows}


def defined(schema: dict[str, Any]) -> dict[str, Any]:
    """Returns key -> default as the schema has them; a stream's keys stand alone."""
    found: dict[str, Any] = {}
    for name, key in schema["properties"].items():
        if name in SECTIONS:
            section = schema["$defs"][key["$ref"].rpartition("/")[2]]
            found |= {f"{name}.{inner}": value["default"] for inner, value in section["properties"].items()}
        else:
            found[name] = key["default"]
    stream = schema["$defs"]["StreamConfig"]["properties"]
    return found | {name: value.get("default", "required") for name, value in stream.items()}


def test_the_reference_lists_every_key_with_its_default(schema: dict[str, Any], tmp_path: Path) -> None:
    page, keys = documented(), defined(schema)

    assert page.keys() == keys.keys()
    for key, default in keys.items():
        written = yaml.safe_load(page[key])
        if key in ("redis.max_age", "stall_seconds", "spool.keep_acknowledged", "privacy.window"):
            written = load(tmp_path, f"redis: {{max_age: {page[key]}}}").redis.max_age
        if key == "spool.max_bytes":
            written = load(tmp_path, f"spool: {{max_bytes: {page[key]}}}").spool.max_bytes
        assert written == default, key


def test_the_reference_is_as_the_code_says() -> None:
    assert (ROOT / "docs/reference.md").read_text() == reference()


def test_the_pages_examples_are_right(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    page = (ROOT / "docs/configuration.md").read_text()
    (tmp_path / "secret").write_text("secret")
    example = re.findall(r"```yaml\n(.*?)```", page, re.DOTALL)[0].replace("/run/secrets/lobby", f"{tmp_path}/secret")
    variables = set(re.findall(r"`(EMOTIOND_[A-Z_]+[A-Z])`", page)) | set(re.findall(r"=(EMOTIOND_[A-Z_]+)=", page))

    assert load(tmp_path, example).streams["door"].max_fps == 10
    assert len(variables) == 3
    assert variables <= set(environment_names())


def test_a_shards_index_is_below_their_count(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"shard\.index: is none of 3 shards; they are numbered from 0"):
        load(tmp_path, "shard: {index: 3, count: 3}")


def test_streams_over_http_need_a_token(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"http\.streams_file: needs http\.token_file"):
        load(tmp_path, "http: {streams_file: streams.json}")


def test_a_streams_file_holds_streams_alone(tmp_path: Path) -> None:
    (tmp_path / "token").write_text("token")
    (tmp_path / "streams.json").write_text('{"streams": {}, "redis": {}}')
    with pytest.raises(ConfigError, match=r"streams\.json: holds redis beside streams"):
        load_with_streams_file(tmp_path, f"{tmp_path}/streams.json")


def test_a_streams_file_that_cannot_be_looked_at_is_not_an_empty_one(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(ConfigError, match=r"http\.streams_file: .*/streams\.json cannot be read \(Not a directory\)"):
        load_with_streams_file(tmp_path, f"{tmp_path}/file/streams.json")
    with pytest.raises(ConfigError, match=r"http\.streams_file: \$NOT_SET/streams\.json holds a variable that is not"):
        load_with_streams_file(tmp_path, "$NOT_SET/streams.json")
    assert not load_with_streams_file(tmp_path, f"{tmp_path}/none/streams.json").streams


def test_who_only_wants_to_know_where_redis_is_needs_no_streams_file(tmp_path: Path) -> None:
    with pytest.raises(ConfigError):
        load_with_streams_file(tmp_path, str(tmp_path))

    assert load_config(tmp_path / "emotiond.yaml").redis.url


def load_with_streams_file(folder: Path, named: str) -> Config:
    (folder / "token").write_text("token")
    (folder / "emotiond.yaml").write_text(
        f"http: {{token_file: {folder}/token, streams_file: {named}}}\nredis: {{url: 'redis://localhost'}}\n")
    return load_service_config(folder / "emotiond.yaml")
