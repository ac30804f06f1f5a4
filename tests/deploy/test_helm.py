"""The Helm chart: what an installation makes is valid, starts the daemon, and cannot do more than it has to."""

import json
import re
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from deploy.helm.__main__ import write
from emotiond import __version__
from emotiond.config import environment_names
from emotiond.service import STOP_SECONDS
from tests.support.commands import run
from tests.support.helm import (
    CHART,
    EXAMPLES,
    OWN_KINDS,
    ROOT,
    Document,
    faults,
    helm,
    kubernetes_versions,
    of_kind,
    parse,
    render,
)

VALUES: dict[str, tuple[str | Path, ...]] = {
    "default": (),
    "over-http": ("--set", "config.http.streams_file=/var/lib/emotiond/streams.json,secrets.http.existingSecret=token,"
                           "spool.persistence.enabled=true"),
    **{name: ("-f", EXAMPLES / f"{name}.yaml") for name in ("gpu", "shards", "cluster")},
}
LONG = "the-cameras-of-the-north-building-and-its-car-park-a"     # 52 of the 53 that helm allows
DOCS = [CHART / "README.md", ROOT / "docs/operations.md"]


@pytest.fixture(scope="module", autouse=True)
def rendered(require_server: Callable[[str], None]) -> dict[str, list[Document]]:
    require_server("helm")
    return {name: render(*arguments) for name, arguments in VALUES.items()}


def pods(documents: list[Document]) -> list[Any]:
    return [deployment["spec"]["template"]["spec"] for deployment in of_kind(documents, "Deployment")]


def environment(pod: Any) -> dict[str, str]:
    return {variable["name"]: variable["value"] for variable in pod["containers"][0]["env"]}


def config_text(documents: list[Document]) -> str:
    text, = [config_map["data"]["emotiond.yaml"] for config_map in of_kind(documents, "ConfigMap")
             if "emotiond.yaml" in config_map["data"]]
    return text


def config_of(documents: list[Document]) -> Any:
    return yaml.safe_load(config_text(documents))


@pytest.mark.parametrize("name", VALUES)
def test_helm_lint_has_nothing_to_say(name: str) -> None:
    ended = helm("lint", "--strict", CHART, *VALUES[name])

    assert ended.code == 0
    assert "0 chart(s) failed" in ended.out
    assert not re.search("WARNING|ERROR", ended.out + ended.err)


@pytest.mark.parametrize("back", range(3))
def test_the_last_three_kubernetes_accept_every_document(
    back: int, rendered: dict[str, list[Document]], tmp_path: Path
) -> None:
    everything = [document for documents in rendered.values() for document in documents]
    everything += parse((EXAMPLES / "keda-subscribers.yaml").read_text())

    assert {document["kind"] for document in everything} >= {
        *OWN_KINDS, "ConfigMap", "Deployment", "NetworkPolicy", "PersistentVolumeClaim", "PodDisruptionBudget",
        "Service", "ServiceAccount"}
    assert faults(everything, kubernetes_versions()[back], tmp_path) == []


@pytest.mark.parametrize("name", VALUES)
def test_the_daemon_accepts_its_configuration_and_environment(
    name: str, rendered: dict[str, list[Document]], tmp_path: Path
) -> None:
    pod = pods(rendered[name])[0]
    text = config_text(rendered[name])
    mounts = {mount["name"]: mount["mountPath"] for mount in pod["containers"][0]["volumeMounts"]}
    for volume in pod["volumes"]:       # as kubelet would lay them
        if "secret" in volume:
            listed = [item["path"] for item in volume["secret"].get("items", [])]
            folder = mounts[volume["name"]]
            for file in listed or re.findall(rf"{folder}/(\S+)", text):
                (tmp_path / folder.lstrip("/")).mkdir(parents=True, exist_ok=True)
                (tmp_path / folder.lstrip("/") / file).write_text("secret\n")
    file = tmp_path / "emotiond.yaml"
    file.write_text(text.replace("/run/secrets/", f"{tmp_path}/run/secrets/"))

    ended = run("check", "-c", file, env=environment(pod))

    assert (ended.code, ended.err) == (0, "")
    assert "ok, " in ended.out


def test_what_the_pod_says_is_what_the_daemon_and_its_image_know(rendered: dict[str, list[Document]]) -> None:
    image = (ROOT / "deploy/docker/Dockerfile").read_text(encoding="utf-8")
    for documents in rendered.values():
        config, (service,) = config_of(documents), of_kind(documents, "Service")
        for pod in pods(documents):
            container, = pod["containers"]
            port, = container["ports"]
            assert {name for name in environment(pod) if name != "HOME"} <= set(environment_names())
            assert config["http"]["listen"] == f"0.0.0.0:{port['containerPort']}"
            assert service["spec"]["ports"][0]["targetPort"] == port["name"]
            assert {container[f"{kind}Probe"]["httpGet"]["path"] for kind in ("startup", "liveness")} == {"/healthz"}
            assert container["readinessProbe"]["httpGet"]["path"] == "/readyz"
            assert pod["terminationGracePeriodSeconds"] > STOP_SECONDS + 2
            spool, = [mount for mount in container["volumeMounts"] if mount["name"] == "spool"]
            assert Path(config["spool"]["path"]).parent == Path(spool["mountPath"])
            assert re.findall("^USER (.+)", image, re.MULTILINE) == [
                f"{pod['securityContext']['runAsUser']}:{pod['securityContext']['runAsGroup']}"]
            assert json.loads(*re.findall("^ENTRYPOINT (.+)", image, re.MULTILINE)) == ["emotiond"]
            assert json.loads(*re.findall("^CMD (.+)", image, re.MULTILINE)) == container["args"]
    assert yaml.safe_load((CHART / "Chart.yaml").read_text())["appVersion"] == __version__


def test_a_test_pattern_runs_where_no_stream_can_be_yet(rendered: dict[str, list[Document]]) -> None:
    assert {name: set(config_of(documents)["streams"]) for name, documents in rendered.items()} == {
        "default": {"test-pattern"}, "over-http": set(), "gpu": {"lobby", "door"},
        "shards": {"north-1", "north-2", "south-1"}, "cluster": {"lobby", "door", "hall"}}


def test_pod_security_restricted_holds_field_by_field(rendered: dict[str, list[Document]]) -> None:
    # https://kubernetes.io/docs/concepts/security/pod-security-standards, every row of baseline and restricted
    for pod in (pod for documents in rendered.values() for pod in pods(documents)):
        assert not {"hostNetwork", "hostPID", "hostIPC", "initContainers", "ephemeralContainers"} & set(pod)
        allowed = {"configMap", "emptyDir", "persistentVolumeClaim", "secret"}
        assert all(set(volume) - {"name"} <= allowed for volume in pod["volumes"])
        security = pod["securityContext"]
        assert security["runAsNonRoot"] is True
        assert security["runAsUser"] > 0
        assert security["seccompProfile"] == {"type": "RuntimeDefault"}
        assert not {"sysctls", "seLinuxOptions", "appArmorProfile", "windowsOptions"} & set(security)
        assert (pod["automountServiceAccountToken"], pod["enableServiceLinks"]) == (False, False)
        for container in pod["containers"]:
            assert container["securityContext"] == {
                "allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}, "readOnlyRootFilesystem": True}
            assert all("hostPort" not in port for port in container["ports"])


def test_nothing_is_without_requests_and_limits(rendered: dict[str, list[Document]]) -> None:
    for pod in (pod for documents in rendered.values() for pod in pods(documents)):
        for container in pod["containers"]:
            for part in ("requests", "limits"):
                assert {"cpu", "memory"} <= container["resources"][part].keys()
        assert all(volume["emptyDir"]["sizeLimit"] for volume in pod["volumes"] if "emptyDir" in volume)


def test_a_spool_in_the_pod_is_requested_of_the_nodes_disk(rendered: dict[str, list[Document]]) -> None:
    def disk(documents: list[Document]) -> list[tuple[str | None, str | None]]:
        parts = [pod["containers"][0]["resources"] for pod in pods(documents)]
        return [(part["requests"].get("ephemeral-storage"), part["limits"].get("ephemeral-storage")) for part in parts]

    assert disk(rendered["default"]) == [("2Gi", "2304Mi")]
    assert disk(rendered["gpu"]) == [("2Gi", "2304Mi")] * 2
    assert disk(rendered["shards"]) == [(None, None)] * 8
    assert disk(render("--set", "spool.size=2.5G")) == [("2.5G", "2641Mi")]
    assert disk(render("--set", "resources.requests.ephemeral-storage=9Gi")) == [("9Gi", None)]


def test_eight_shards_are_eight_deployments_that_know_their_place(rendered: dict[str, list[Document]]) -> None:
    deployments = of_kind(rendered["shards"], "Deployment")
    claims = {claim["metadata"]["name"]: claim for claim in of_kind(rendered["shards"], "PersistentVolumeClaim")}

    places = [environment(pod) for pod in pods(rendered["shards"])]
    assert [place["EMOTIOND_SHARD__INDEX"] for place in places] == [str(index) for index in range(8)]
    assert {place["EMOTIOND_SHARD__COUNT"] for place in places} == {"8"}
    assert [place["EMOTIOND_INSTANCE"] for place in places] == [
        deployment["metadata"]["name"] for deployment in deployments]
    for deployment in deployments:
        spec = deployment["spec"]
        assert (spec["replicas"], spec["strategy"]) == (1, {"type": "Recreate"})
        labels = spec["template"]["metadata"]["labels"]
        others = [other["spec"]["selector"]["matchLabels"].items() for other in deployments if other is not deployment]
        assert spec["selector"]["matchLabels"].items() <= labels.items()
        assert not any(other <= labels.items() for other in others)
        for kind, field in (("Service", "selector"), ("PodDisruptionBudget", None), ("NetworkPolicy", None)):
            found, = of_kind(rendered["shards"], kind)
            selector = found["spec"][field] if field else (
                found["spec"].get("selector") or found["spec"]["podSelector"])["matchLabels"]
            assert selector.items() <= labels.items()
        claimed = [volume["persistentVolumeClaim"]["claimName"] for volume in spec["template"]["spec"]["volumes"]
                   if "persistentVolumeClaim" in volume]
        assert claims.pop(*claimed)["metadata"]["annotations"] == {"helm.sh/resource-policy": "keep"}
    assert claims == {}


def test_names_are_unique_and_short_enough_whatever_the_release_is_called() -> None:
    names: list[str] = []
    for release in (f"{LONG}a", f"{LONG}b"):
        documents = render("--set", "shards=256,spool.persistence.enabled=true", release=release)
        names += [f"{document['kind']}/{document['metadata']['name']}" for document in documents]
        assert max(len(document["metadata"]["name"]) for document in documents) <= 63
        for deployment in of_kind(documents, "Deployment"):
            assert max(map(len, deployment["spec"]["template"]["metadata"]["labels"].values())) <= 63
            assert re.fullmatch(r"[a-z]([-a-z0-9]*[a-z0-9])?", deployment["metadata"]["name"])
    assert len(names) == len(set(names)) == 2 * (2 * 256 + 5)


def test_a_gpu_is_asked_for_its_image_taken_and_the_daemon_told(rendered: dict[str, list[Document]]) -> None:
    for pod in pods(rendered["gpu"]):
        container, = pod["containers"]
        assert container["image"] == f"emotiond:{__version__}-gpu"
        assert container["resources"]["limits"]["nvidia.com/gpu"] == 1
        assert pod["runtimeClassName"] == "nvidia"
    assert config_of(rendered["gpu"])["compute"]["device"] == "cuda:0"
    assert pods(rendered["default"])[0]["containers"][0]["image"] == f"emotiond:{__version__}"


def test_a_changed_key_rolls_the_pods_and_changed_streams_do_not() -> None:
    def checksums(*arguments: str) -> list[str | None]:
        return [deployment["spec"]["template"]["metadata"]["annotations"].get("checksum/config")
                for deployment in of_kind(render("--set", "shards=2", *arguments), "Deployment")]

    before = checksums()
    assert len(set(before)) == 1
    assert checksums("--set", "serviceMonitor.enabled=true,commonLabels.team=vision") == before
    assert checksums("--set", "config.streams.lobby.source=rtsp://camera/") == before
    assert checksums("--set", "config.log.level=debug") != before
    assert checksums("--set", "rollOnConfigChange=false") == [None, None]


def test_streams_roll_the_pods_where_the_daemon_does_not_watch_its_file() -> None:
    def checksum(source: str) -> str:
        deployment, = of_kind(render("--set", f"config.watch_config=false,config.streams.lobby.source={source}"),
                              "Deployment")
        return deployment["spec"]["template"]["metadata"]["annotations"]["checksum/config"]

    assert checksum("rtsp://camera/1") != checksum("rtsp://camera/2")


def test_the_daemon_watches_a_file_that_kubernetes_updates(rendered: dict[str, list[Document]]) -> None:
    for documents in rendered.values():
        assert config_of(documents)["watch_config"] is True
        for pod in pods(documents):
            mount, = [mount for mount in pod["containers"][0]["volumeMounts"] if mount["name"] == "config"]
            assert "subPath" not in mount       # such a file stays as it was
            assert f"{mount['mountPath']}/emotiond.yaml" in pod["containers"][0]["args"]
    assert config_of(render("--set", "config.watch_config=false"))["watch_config"] is False


def test_the_chart_has_the_schema_the_rules_and_the_dashboards_of_today(tmp_path: Path) -> None:
    shutil.copytree(CHART, tmp_path / "emotiond")
    write(tmp_path / "emotiond")

    for fresh in (path for path in (tmp_path / "emotiond").rglob("*") if path.is_file()):
        kept = CHART / fresh.relative_to(tmp_path / "emotiond")
        assert kept.read_text() == fresh.read_text(), f"python -m deploy.helm writes {kept.relative_to(ROOT)} anew"


def test_the_rules_arrive_as_they_are(rendered: dict[str, list[Document]]) -> None:
    rule, = of_kind(rendered["shards"], "PrometheusRule")

    assert rule["spec"] == yaml.safe_load((ROOT / "deploy/prometheus/emotiond.rules.yaml").read_text())


def test_grafanas_sidecar_finds_both_dashboards_as_they_are(rendered: dict[str, list[Document]]) -> None:
    config_map, = [each for each in of_kind(rendered["shards"], "ConfigMap")
                   if each["metadata"]["labels"].get("grafana_dashboard") == "1"]

    dashboards = ROOT / "deploy/grafana/dashboards"
    assert {name: json.loads(text) for name, text in config_map["data"].items()} == {
        f"emotiond-{name}.json": json.loads((dashboards / f"{name}.json").read_text()) for name in ("fleet", "stream")}


def test_each_release_is_a_job_of_its_own_that_the_rules_know() -> None:
    jobs: list[str] = []
    for release, *values in (("cams",), ("emotiond",), (f"{LONG}a",), (f"{LONG}b",),
                             ("cams", "--set", "fullnameOverride=vision"), ("cams", "--set", "nameOverride=vision")):
        monitor, = of_kind(render("--set", "serviceMonitor.enabled=true", *values, release=release), "ServiceMonitor")
        jobs += [relabeling["replacement"] for relabeling in monitor["spec"]["endpoints"][0]["relabelings"]
                 if relabeling["targetLabel"] == "job"]

    assert len(set(jobs)) == len(jobs) == 6
    assert all("emotiond" in job for job in jobs)


def test_prometheus_sees_the_job_of_the_release_and_an_instance_that_outlives_its_pod(
    rendered: dict[str, list[Document]], require_server: Callable[[str], None], tmp_path: Path
) -> None:
    require_server("prometheus")
    endpoint, = of_kind(rendered["shards"], "ServiceMonitor")[0]["spec"]["endpoints"]
    assert of_kind(rendered["cluster"], "PodMonitor")[0]["spec"]["podMetricsEndpoints"] == [endpoint]
    assert of_kind(rendered["shards"], "Service")[0]["spec"]["ports"][0]["name"] == endpoint["port"]
    deployment = of_kind(rendered["shards"], "Deployment")[7]
    meta = {f"__meta_kubernetes_pod_label_{re.sub(r'[^a-zA-Z0-9_]', '_', name)}": value
            for name, value in deployment["spec"]["template"]["metadata"]["labels"].items()}
    snake = {"sourceLabels": "source_labels", "targetLabel": "target_label"}
    job = {"job_name": "operator", "metrics_path": endpoint["path"], "scrape_interval": endpoint["interval"],
           "static_configs": [{"targets": ["10.0.0.7:9470"],
                               "labels": {"__meta_kubernetes_namespace": "video", **meta}}],
           "relabel_configs": [{snake.get(key, key): value for key, value in relabeling.items()}
                               for relabeling in endpoint["relabelings"]]}
    (tmp_path / "prometheus.yaml").write_text(yaml.safe_dump({"scrape_configs": [job]}))

    said = subprocess.run(
        ["promtool", "check", "service-discovery", "--timeout=3s", tmp_path / "prometheus.yaml", "operator"],
        capture_output=True, text=True, check=True, timeout=60)

    labels = json.loads(said.stdout)[0]["labels"]
    assert (labels["job"], labels["instance"]) == ("cams-emotiond", "video/cams-emotiond-7")


@pytest.mark.parametrize(("values", "told"), [
    ("default", {"a test pattern": True, "Nothing scrapes": True, "is lost": True, "over HTTP": False}),
    ("over-http", {"a test pattern": False, "Nothing scrapes": True, "is lost": False, "over HTTP": True}),
    ("shards", {"a test pattern": False, "Nothing scrapes": False, "is lost": False, "over HTTP": False}),
])
def test_the_notes_tell_what_this_installation_lacks(values: str, told: dict[str, bool]) -> None:
    ended = helm("install", "--dry-run=client", "cams", CHART, *VALUES[values])

    notes = ended.out.partition("NOTES:")[2]
    assert {sentence: sentence in notes for sentence in told} == told


def commands() -> list[str]:
    text = "\n".join(file.read_text(encoding="utf-8").replace("\\\n", " ") for file in DOCS)
    return re.findall(r"^helm upgrade .*$", text, re.MULTILINE)


@pytest.mark.parametrize("command", commands())
def test_the_commands_of_the_docs_install(command: str) -> None:
    words = command.partition(" #")[0].split()
    assert words[:3] == ["helm", "upgrade", "--install"]

    render(*words[5:], release=words[3], chart=ROOT / words[4])


def test_the_docs_have_such_commands_and_every_value() -> None:
    table = re.findall(r"^\| `(\w+)", (CHART / "README.md").read_text(encoding="utf-8"), re.MULTILINE)

    assert commands()
    assert set(table) == set(yaml.safe_load((CHART / "values.yaml").read_text()))
