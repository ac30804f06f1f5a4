"""The shipped Dockerfile, built and run as compose.yaml runs it: without root, read-only, without privileges."""

import re
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.support.commands import Ended
from tests.support.debian import debian_tree
from tests.support.images import Images
from tests.support.redis_server import RedisServer
from tests.support.waiting import poll

ROOT = Path(__file__).parents[2]
DOCKER = ROOT / "deploy/docker"
MOST_BYTES = 650e6
IMAGE = "localhost/emotiond"
BASE = "localhost/debian"
CANARY = "canary-of-a-secret-1f0c"
TAKEN = ("LICENSE", "README.md", "pyproject.toml", ".dockerignore", "daemon", "models", "training", "requirements",
         "deploy")
FOREIGN = ("torch", "torchvision", "ultralytics", "pip", "pytest")

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]


@pytest.fixture(scope="module")
def images(
    tmp_path_factory: pytest.TempPathFactory, require_server: Callable[[str], None]
) -> Iterator[Images]:
    """Where the `cpu` image lies, built on a Debian of this test's own: no registry is asked."""
    require_server("containers")
    folder = tmp_path_factory.mktemp("image")
    with Images(folder / "storage") as images:
        tree = debian_tree(folder / "debian", suite=suite_of_the_base())
        images.import_tree(tree, BASE)
        shutil.rmtree(folder / "debian")
        images.build(IMAGE, DOCKER / "Dockerfile", context_with_canaries(folder / "context"), BASE, "cpu",
                     deadline_s=500)
        yield images


def suite_of_the_base() -> str:
    """Returns the release of Debian that the Dockerfile takes when nothing else is said."""
    default = re.search(r"^ARG BASE=docker\.io/library/debian:(\w+)-slim$", (DOCKER / "Dockerfile").read_text(), re.M)
    assert default
    return default[1]


def context_with_canaries(folder: Path) -> Path:
    """Copies what the build takes, and puts beside it what lies about in a checkout but must not get into an image."""
    folder.mkdir()
    for name in TAKEN:
        copy = shutil.copytree if (ROOT / name).is_dir() else shutil.copy
        copy(ROOT / name, folder / name)
    for name in (".env", ".git/config", ".venv/bin/python", "id_ed25519", "deploy/docker/config/lobby.password",
                 "models/emotionnet/__pycache__/weights.cpython-311.pyc", "training/runs/mine/log.json"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(CANARY)
    return folder


@pytest.fixture(scope="module")
def config(images: Images) -> dict[str, Any]:
    return images.inspect(IMAGE)["Config"]


@pytest.fixture(scope="module")
def health_check(images: Images) -> list[str]:
    """The command of the image's HEALTHCHECK."""
    kind, *command = images.inspect(IMAGE)["Healthcheck"]["Test"]
    assert kind == "CMD"
    return command


def test_the_image_is_small(images: Images, capsys: pytest.CaptureFixture[str]) -> None:
    size = images.inspect(IMAGE)["Size"]
    with capsys.disabled():
        print(f"\nimage cpu: {size / 1e6:.0f} MB unpacked, of at most {MOST_BYTES / 1e6:.0f}; gpu: not built here")

    assert size <= MOST_BYTES


def test_it_holds_the_daemon_and_nothing_that_could_serve_an_intruder(images: Images) -> None:
    root = images.mount(IMAGE)
    packages = root / "opt/emotiond/lib"
    files = [file for file in root.rglob("*") if file.is_file() and not file.is_symlink()]

    assert list(packages.glob("*/site-packages/emotiond/service.py"))
    assert list(packages.glob("*/site-packages/emotiond-*.dist-info/licenses/LICENSE"))
    assert not [name for name in FOREIGN if list(packages.glob(f"*/site-packages/{name}"))]
    assert not [file for file in files if file.name in {"gcc", "cc", "make", "curl", "wget", "git"}]
    assert not [file for file in files if file.stat().st_mode & 0o6000]      # nobody becomes somebody else
    assert not [file for file in files if file.stat().st_mode & 0o002]
    assert not [file for file in files if file.stat().st_size < 1e6 and CANARY.encode() in file.read_bytes()]


def test_what_starts_with_the_daemon_is_compiled_whatever_happens_to_files_times(images: Images) -> None:
    package = next(images.mount(IMAGE).glob("opt/emotiond/lib/*/site-packages/emotiond"))
    flags = {file.name: int.from_bytes(file.read_bytes()[4:8], "little") for file in package.glob("__pycache__/*.pyc")}

    assert len(flags) == len(list(package.glob("*.py")))
    assert set(flags.values()) == {0b01}      # by hash and unchecked, https://peps.python.org/pep-0552/


def test_the_image_says_how_it_wants_to_be_run(config: dict[str, Any]) -> None:
    user, _, group = config["User"].partition(":")
    labels = config["Labels"]

    assert min(int(user), int(group)) >= 10_000
    assert (config["Entrypoint"], config["Cmd"]) == (["emotiond"], ["run", "-c", "/etc/emotiond/emotiond.yaml"])
    assert config["StopSignal"] in {"SIGTERM", "15"}
    assert list(config["Volumes"]) == ["/var/lib/emotiond"]
    assert labels["org.opencontainers.image.licenses"] == "AGPL-3.0-or-later"
    assert not [value for value in config["Env"] if value.startswith("EMOTIOND_")]      # the file has its say


def test_the_first_contact_is_the_demo(images: Images) -> None:
    ended = images.run(IMAGE, "demo", "--speed", "max")
    summary = " ".join(ended.out.split())

    assert (ended.code, ended.err) == (0, "")
    assert "180 frames analysed" in summary
    assert summary.count("happy") > 15
    assert "Next: `emotiond replay YOUR_VIDEO`" in summary


def test_a_recording_is_replayed_as_any_user(images: Images, tmp_path: Path) -> None:
    tmp_path.chmod(0o777)
    ended = images.run(
        IMAGE, "replay", "/usr/share/emotiond/portrait.mp4", "--events", "/out/events.jsonl",
        options=["--user=54321:0", f"--volume={tmp_path}:/out", "--tmpfs=/var/lib/emotiond:mode=1777"])

    assert ended.code == 0, ended.err
    assert len((tmp_path / "events.jsonl").read_text().splitlines()) == 140


@pytest.mark.parametrize(("text", "sentence"), [
    (None, "/etc/emotiond/emotiond.yaml: cannot be read (No such file or directory)"),
    ("streams: {a: {source: x.mp4, max_fsp: 5}}\nredis: {url: redis://localhost}\n", "did you mean max_fps?"),
    ("streams: {a: {source: x.mp4}}\nredis: {url: redis://localhost, password_file: /run/secrets/none}\n",
     "redis.password_file"),
    ("streams: {a: {source: x.mp4}}\nredis: {url: redis://localhost}\nspool: {path: /srv/spool.db}\n", "/srv"),
], ids=["no file", "unknown key", "no secret", "read-only spool"])
def test_a_broken_configuration_is_one_sentence_in_the_containers_log(
    images: Images, tmp_path: Path, text: str | None, sentence: str
) -> None:
    ended = configured(images, tmp_path, text)

    assert ended.code == 78, ended.err
    assert sentence in ended.err
    assert len(ended.lines) == 1
    assert not ended.out


def configured(images: Images, folder: Path, text: str | None) -> Ended:
    if text is None:
        return images.run(IMAGE)
    folder.chmod(0o755)
    (folder / "emotiond.yaml").write_text(text)
    return images.run(IMAGE, options=[f"--volume={folder}:/etc/emotiond:ro"])


def options_of_compose() -> list[str]:
    """Returns what compose.yaml gives the daemon's container beside `HARDENED`, but for networks, ports and volumes."""
    service = yaml.safe_load((DOCKER / "compose.yaml").read_text())["services"]["emotiond"]
    return [f"--hostname={service['hostname']}", *(f"--tmpfs={mount}" for mount in service["tmpfs"]),
            *(f"--env={name}={value}" for name, value in service["environment"].items())]


def test_as_compose_runs_it_the_sample_configuration_publishes_and_is_healthy_and_stops(
    images: Images, health_check: list[str], redis_server: RedisServer
) -> None:
    options = [f"--volume={DOCKER / 'config'}:/etc/emotiond:ro", "--network=host", *options_of_compose(),
               "--env=EMOTIOND_HTTP__LISTEN=127.0.0.1:0", f"--env=EMOTIOND_REDIS__URL={redis_server.url}"]
    images.start("service", IMAGE, options=options)
    poll(lambda: images.execute("service", *health_check).code == 0, 60, lambda: images.logs("service"), every_s=0.5)
    poll(lambda: redis_server.client.xlen("emotions:demo") > 20, 60, lambda: images.logs("service"), every_s=0.2)

    images.signal("service", "STOP")
    frozen = images.execute("service", *health_check)
    images.signal("service", "CONT")
    assert (frozen.code, frozen.out) == (1, "/healthz: no answer in time\n")
    assert images.stop("service") == 0, images.logs("service")


def test_without_a_daemon_the_health_check_fails(images: Images, health_check: list[str]) -> None:
    program, *arguments = health_check
    ended = images.run(IMAGE, *arguments, options=[f"--entrypoint={program}"])

    assert (ended.code, ended.out) == (1, "emotiond does not listen\n")
