"""What helm refuses of values, in one sentence, and that the schemas find a typo in what it makes."""

import re
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.support.helm import CHART, EXAMPLES, faults, helm, kubernetes_versions, render

SECRET = "hunter2-Quark"
BAD: dict[str, tuple[tuple[str, ...], str]] = {
    "a misspelt key": (("shard=3",), "additional properties 'shard' not allowed"),
    "a misspelt key, deep": (("image.tga=1",), "at '/image': additional properties 'tga' not allowed"),
    "a misspelt key of the daemon": (
        ("config.redis.maxlenn=3",), "at '/config/redis': additional properties 'maxlenn' not allowed"),
    "a misspelt key of a stream": (
        ("config.streams.lobby.source=rtsp://camera/,config.streams.lobby.max_fp=5",),
        "at '/config/streams/lobby': additional properties 'max_fp' not allowed"),
    "a wrong value of the daemon": (
        ("config.detector.width=6",), "at '/config/detector/width': minimum: got 6, want 64"),
    "a wrong list of the daemon": (
        ("config.streams.a.source=b,config.streams.a.region={0,0,2,1}",),
        "at '/config/streams/a/region/2': maximum: got 2, want 1"),
    "no shards": (("shards=0",), "at '/shards': minimum: got 0, want 1"),
    "a word for a switch": (("gpu.enabled=maybe",), "at '/gpu/enabled': got string, want boolean"),
    "no limits": (("resources.limits=null",), "at '/resources': missing property 'limits'"),
    "root": (("podSecurityContext.runAsUser=0",), "at '/podSecurityContext/runAsUser': minimum: got 0, want 1"),
    "less than the daemon needs to stop": (
        ("terminationGracePeriodSeconds=10",), "at '/terminationGracePeriodSeconds': minimum: got 10, want 25"),
    "no Redis": (("config.redis.url=null",), "config.redis.url is missing; name a server like"),
    "an empty Redis": (("config.redis.url=",), "config.redis.url is missing; name a server like"),
    "a Redis inside the pod": (("config.redis.url=embedded",), "name a server"),
    "a password for Redis": (
        (f"config.redis.url=redis://:{SECRET}@redis:6379",), "use secrets.redis.existingSecret"),
    "a camera's password": (
        (f"config.streams.lobby.source=rtsp://viewer:{SECRET}@camera/",),
        "config.streams.lobby.source carries a password"),
    "no Secret of Redis": (
        ("config.redis.password_file=/run/secrets/emotiond/redis/password",),
        "config.redis.password_file: no Secret is mounted at /run/secrets/emotiond/redis/password; "
        "name it in secrets.redis.existingSecret"),
    "no Secret of cameras": (
        ("config.streams.a.source=rtsp://camera/,config.streams.a.username=viewer,"
         "config.streams.a.password_file=/run/secrets/emotiond/cameras/a",),
        "config.streams.a.password_file: no Secret is mounted at /run/secrets/emotiond/cameras/a; "
        "name it in secrets.cameras.existingSecret"),
    "listening on loopback": (
        ("config.http.listen=127.0.0.1:9470",), "config.http.listen: 127.0.0.1:9470 is not where probes"),
    "a place of its own": (("config.shard.index=1",), "config.shard is set by the chart"),
    "a name of its own": (("config.instance=edge",), "use fullnameOverride"),
    "a variable of the chart": (
        ("extraEnv[0].name=EMOTIOND_SHARD__INDEX,extraEnv[0].value=7",), "extraEnv: EMOTIOND_SHARD__INDEX is set by"),
    "a spool elsewhere": (("config.spool.path=/data/spool.db",), "config.spool.path: /data/spool.db is not on the"),
    "a spool larger than its volume": (("config.spool.max_bytes=2GiB",), "spool.size: 2Gi has no room for"),
    "streams kept where nothing can be": (
        ("config.http.streams_file=/etc/streams.json",), "write /var/lib/emotiond/streams.json"),
    "streams from everybody": (
        ("config.http.streams_file=/var/lib/emotiond/streams.json",), "name its Secret in secrets.http.existingSecret"),
    "streams that would go with the pod": (
        ("config.http.streams_file=/var/lib/emotiond/streams.json,secrets.http.existingSecret=token",),
        "would be lost with the pod; set spool.persistence.enabled"),
    "a GPU that is not used": (("gpu.enabled=true,config.compute.device=cpu",), "leaves the GPU of gpu.enabled idle"),
    "a stream that is a text": (
        ("config.streams.lobby=rtsp://camera/",), "at '/config/streams/lobby': got string, want object"),
    "a section that is a text": (("config.http=no",), "at '/config/http': got string, want object"),
    "scrapes too far apart for the rules": (
        ("serviceMonitor.interval=30s",), "at '/serviceMonitor/interval': '30s' does not match pattern"),
    "two scrapes of each pod": (("serviceMonitor.enabled=true,podMonitor.enabled=true",), "scrape every pod twice"),
}


@pytest.fixture(scope="module", autouse=True)
def needed(require_server: Callable[[str], None]) -> None:
    require_server("helm")


@pytest.mark.parametrize("name", BAD)
def test_what_is_wrong_is_told_in_one_sentence(name: str) -> None:
    values, says = BAD[name]

    ended = helm("template", "cams", CHART, *(word for value in values for word in ("--set", value)))

    assert (ended.code, ended.out) == (1, "")
    lines = [line for line in ended.err.splitlines() if line and "--debug" not in line]
    sentence = lines[-1]
    assert says in sentence
    assert len(lines) in (1, 3), lines        # the chart's own sentence, or the schema's with two lines before it
    assert SECRET not in ended.err
    assert "executing" not in ended.err       # a template's stack


@pytest.mark.parametrize(("template", "right", "wrong", "said"), [
    ("_pod.tpl", "enableServiceLinks: false", "enableServiceLink: false", "'enableServiceLink' was unexpected"),
    ("_pod.tpl", "mountPath: /tmp", "path: /tmp", "'mountPath' is a required property|'path' was unexpected"),
    ("deployment.yaml", "replicas: 1", 'replicas: "1"', "replicas: '1' is not"),
    ("networkpolicy.yaml", "protocol: TCP", "protocoll: TCP", "'protocoll' was unexpected"),
    ("_helpers.tpl", "interval: ", "intervall: ", "endpoints.*'intervall' was unexpected"),
    ("_helpers.tpl", "targetLabel: job", "targetLabels: job", "'targetLabels' was unexpected"),
    ("prometheusrule.yaml", "emotiond.rules.yaml", "lost.yaml", "None|spec"),
])
def test_a_typo_in_a_template_is_found(template: str, right: str, wrong: str, said: str, tmp_path: Path) -> None:
    chart = tmp_path / "emotiond"
    shutil.copytree(CHART, chart)
    file = chart / "templates" / template
    text = file.read_text()
    assert right in text
    file.write_text(text.replace(right, wrong))

    found = faults(render("-f", EXAMPLES / "shards.yaml", chart=chart), kubernetes_versions()[-1], tmp_path)

    assert found
    assert all(re.search(said, fault) for fault in found), found
