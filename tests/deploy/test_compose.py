"""compose.yaml as Docker Compose reads it, and everything it points at."""

import json
import re
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.support.images import find_compose, find_hadolint

ROOT = Path(__file__).parents[2]
DOCKER = ROOT / "deploy/docker"
COMPOSE = DOCKER / "compose.yaml"
GPU = DOCKER / "compose.gpu.yaml"
BUILT = {"emotiond", "emotiond:gpu"}


def compose(*files: Path) -> subprocess.CompletedProcess[str]:
    """Has Docker Compose check files and print what it makes of them; no engine is asked."""
    named = [word for file in files for word in ("--file", str(file))]
    return subprocess.run(
        [find_compose() or "", *named, "config", "--format", "json"], capture_output=True, text=True, timeout=60,
        check=False)


@pytest.fixture(scope="module")
def services(require_server: Callable[[str], None]) -> dict[str, Any]:
    require_server("docker-compose")
    ended = compose(COMPOSE)
    assert (ended.returncode, ended.stderr) == (0, "")
    return json.loads(ended.stdout)["services"]


def mounts(service: dict[str, Any], kind: str) -> dict[str, dict[str, Any]]:
    """Returns a service's mounts of a kind by their place in the container."""
    return {mount["target"]: mount for mount in service.get("volumes", []) if mount["type"] == kind}


def test_hadolint_finds_nothing_in_the_dockerfile(require_server: Callable[[str], None]) -> None:
    require_server("hadolint")
    ended = subprocess.run([find_hadolint() or "", DOCKER / "Dockerfile"], capture_output=True, text=True, timeout=60,
                           check=False)

    assert (ended.returncode, ended.stdout, ended.stderr) == (0, "", "")


@pytest.mark.parametrize(("written", "instead"), [
    ("cap_drop", "cap_dropp"), ("condition: service_healthy", "condition: healthy"), ("- spool:/var", "- spol:/var"),
    ("{redis: {condition", "{reddis: {condition")])
def test_a_slip_in_the_compose_file_would_be_noticed(
    written: str, instead: str, tmp_path: Path, require_server: Callable[[str], None]
) -> None:
    require_server("docker-compose")
    text = COMPOSE.read_text()
    assert written in text
    (tmp_path / "compose.yaml").write_text(text.replace(written, instead))

    assert compose(tmp_path / "compose.yaml").returncode != 0


def test_every_service_is_read_only_unprivileged_and_watched(services: dict[str, Any]) -> None:
    assert services.keys() == {"emotiond", "redis", "prometheus", "grafana"}
    for name, service in services.items():
        assert service["read_only"] is True, name
        assert service["cap_drop"] == ["ALL"], name
        assert service["security_opt"] == ["no-new-privileges:true"], name
        assert service["restart"] == "unless-stopped", name
        assert name == "emotiond" or service["healthcheck"]["test"], name      # emotiond's is its image's
        assert not service.get("privileged"), name


def test_nothing_is_reached_from_another_machine(services: dict[str, Any]) -> None:
    ports = {name: [(port["host_ip"], port["published"]) for port in service["ports"]]
             for name, service in services.items()}

    assert {address for given in ports.values() for address, _ in given} == {"127.0.0.1"}
    assert ports["emotiond"] == [("127.0.0.1", "9470")]


def test_images_from_elsewhere_are_of_one_version(services: dict[str, Any]) -> None:
    images = {service["image"] for service in services.values()} - BUILT

    assert len(images) == 3
    assert all(re.fullmatch(r"[a-z]+/[a-z]+:v?\d+\.\d+\.\d+(-alpine)?", image) for image in images), images


def test_every_file_that_is_mounted_is_there_and_cannot_be_written(services: dict[str, Any]) -> None:
    binds = [mount for service in services.values() for mount in mounts(service, "bind").values()]

    assert len(binds) >= 5
    for mount in binds:
        assert mount["read_only"] is True, mount
        assert Path(mount["source"]).exists(), mount
        assert Path(mount["source"]).is_relative_to(ROOT / "deploy"), mount


def test_a_gpu_is_asked_for_beside_the_same_file(require_server: Callable[[str], None]) -> None:
    require_server("docker-compose")
    ended = compose(COMPOSE, GPU)
    assert (ended.returncode, ended.stderr) == (0, "")
    service = json.loads(ended.stdout)["services"]["emotiond"]

    assert service["build"]["target"] == "gpu"
    assert service["image"] in BUILT
    assert service["read_only"] is True
    (device,) = service["deploy"]["resources"]["reservations"]["devices"]
    assert device["capabilities"] == ["gpu"]


def test_prometheus_finds_its_rules_and_scrapes_the_daemon(
    services: dict[str, Any], tmp_path: Path, require_server: Callable[[str], None]
) -> None:
    require_server("prometheus")
    for target, mount in mounts(services["prometheus"], "bind").items():
        shutil.copy(mount["source"], tmp_path / Path(target).name)
    ended = subprocess.run(["promtool", "check", "config", "prometheus.yaml"], cwd=tmp_path, capture_output=True,
                           text=True, timeout=60, check=False)
    config, beside = (yaml.safe_load(file.read_text()) for file in (
        DOCKER / "prometheus.yaml", ROOT / "deploy/prometheus/prometheus.yaml"))
    (job,) = config["scrape_configs"]

    assert ended.returncode == 0, ended.stdout + ended.stderr
    assert "1 rule files found" in ended.stdout
    assert "--config.file=/etc/prometheus/prometheus.yaml" in services["prometheus"]["command"]
    port = services["emotiond"]["environment"]["EMOTIOND_HTTP__LISTEN"].rpartition(":")[2]
    assert job["static_configs"] == [{"targets": [f"emotiond:{port}"]}]
    assert job["job_name"] in {other["job_name"] for other in beside["scrape_configs"]}


def test_grafana_is_provisioned_from_what_is_mounted(services: dict[str, Any]) -> None:
    places = {place: Path(mount["source"]) for place, mount in mounts(services["grafana"], "bind").items()}
    provisioning = places["/etc/grafana/provisioning"]
    (source,) = yaml.safe_load((provisioning / "datasources/prometheus.yaml").read_text())["datasources"]
    (provider,) = yaml.safe_load((provisioning / "dashboards/emotiond.yaml").read_text())["providers"]

    assert re.fullmatch(r"http://(\w+):(\d+)", source["url"])
    assert source["url"].removeprefix("http://").split(":") == ["prometheus", "9090"]
    assert list(places[provider["options"]["path"]].glob("*.json"))


def test_the_gpu_image_takes_the_versions_that_the_tests_ran_with() -> None:
    """The image itself is not built here: PyTorch with CUDA is 7 GB."""
    pins = {name: set(re.findall(r"^([a-z][\w.-]*==\S+)", (ROOT / f"requirements/{name}.txt").read_text(), re.M))
            for name in ("base", "gpu", "dev")}

    assert pins["base"] < pins["gpu"] < pins["dev"]
    assert {pin.partition("==")[0] for pin in pins["gpu"]} >= {"torch", "torchvision", "ultralytics-opencv-headless"}
