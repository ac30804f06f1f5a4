"""`config schema`, `--version` and the help: what an editor and a bug report get, at once."""

import json
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml

from emotiond import __version__
from tests.support.commands import call, run
from tests.support.daemon import with_path

HEAVY = {"av", "cv2", "numpy", "onnxruntime", "prometheus_client", "pydantic", "redis", "rich", "torch"}
EXAMPLE = """
instance: edge-1
streams:
  lobby:
    source: rtsp://user:secret@camera/stream
    live: auto
    transport: tcp
    max_fps: 15
    stall_seconds: 10
    region: [0.1, 0.0, 1.0, 0.9]
    masks: [[0, 0, 0.1, 0.1]]
    labels: {site: hq, floor: "2"}
  door: {source: /dev/video0}
redis:
  url: redis://localhost:6379/0
  key_prefix: emotions
  maxlen: 100000
  max_age: 24h
compute: {device: auto, workers: auto}
detector: {width: 640, score: 0.6, min_face: 24, max_faces: 200}
classifier: {weights: builtin, smoothing_seconds: 0.5, abstain_below: auto}
spool: {max_bytes: 1GiB}
http: {listen: 127.0.0.1:9470}
log: {format: auto, level: info}
"""


@pytest.fixture(scope="module")
def schema() -> Any:
    ended = call("config", "schema")
    assert (ended.code, ended.err) == (0, "")
    return json.loads(ended.out)


def test_the_schema_of_the_configuration_is_valid_and_accepts_what_the_daemon_accepts(
    schema: Any, tmp_path: Path
) -> None:
    jsonschema.Draft202012Validator.check_schema(schema)
    (tmp_path / "emotiond.yaml").write_text(EXAMPLE)

    jsonschema.validate(yaml.safe_load(EXAMPLE), schema, jsonschema.Draft202012Validator)
    ended = call("check", "-c", tmp_path / "emotiond.yaml")

    assert (ended.code, ended.err) == (0, "")


@pytest.mark.parametrize(("section", "content"), [
    ("streem", {}), ("redis", {"urll": "redis://localhost"}), ("detector", {"width": "wide"}),
    ("detector", {"score": 2}), ("compute", {"workers": 0}), ("log", {"level": "loud"}),
    ("classifier", {"abstain_below": "never"}),
    ("streams", {"lobby": {}}), ("streams", {"lobby": {"source": "a.mp4", "region": [0, 0, 2, 1]}})])
def test_the_schema_of_the_configuration_refuses_what_the_daemon_refuses(
    section: str, content: Any, schema: Any, tmp_path: Path
) -> None:
    config = {**yaml.safe_load(EXAMPLE), section: content}
    (tmp_path / "emotiond.yaml").write_text(yaml.safe_dump(config))

    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(config, schema, jsonschema.Draft202012Validator)
    assert call("check", "-c", tmp_path / "emotiond.yaml").code == 78


def test_every_default_is_in_the_schema(schema: Any) -> None:
    def walk(node: Any, path: str) -> Iterator[str]:
        for name, field in node.get("properties", {}).items():
            if name not in node.get("required", ()) and "default" not in field:
                yield f"{path}{name}"

    missing = [name for title, node in [("", schema), *schema["$defs"].items()] for name in walk(node, f"{title}.")]
    assert not missing


def test_the_version_is_told_with_what_matters_to_a_bug_report() -> None:
    ended = run("--version")

    assert (ended.code, ended.err) == (0, "")
    assert ended.out.splitlines()[0] == f"emotiond {__version__}"
    for name in ("python", "av", "onnxruntime", "numpy", "redis"):
        assert re.search(rf"^{name} \d+\.\d+", ended.out, re.MULTILINE)


@pytest.mark.parametrize("arguments", [["--version"], ["--help"], ["replay", "--help"]])
def test_nothing_heavy_is_imported_to_tell_the_version_or_to_help(arguments: list[str]) -> None:
    code = ("import atexit, sys; atexit.register(lambda: print(*sys.modules, file=sys.stderr)); import emotiond.cli; "
            "sys.exit(emotiond.cli.main(sys.argv[1:]))")

    ended = subprocess.run([*with_path(), sys.executable, "-c", code, *arguments], capture_output=True, text=True,
                           timeout=60, check=False)

    assert ended.returncode == 0
    assert "emotiond.cli" in ended.stderr
    assert not {name.partition(".")[0] for name in ended.stderr.split()} & HEAVY


def test_without_a_command_the_help_is_shown() -> None:
    ended = call()

    assert ended.code == 2
    assert "usage: emotiond" in ended.err
