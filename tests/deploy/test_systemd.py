"""The shipped unit, installed by the shipped script into a Debian that a real systemd boots."""

import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import yaml

from tests.support.commands import Ended
from tests.support.debian import debian_tree, write_pip_configuration
from tests.support.systemd import Machine, in_memory, run_in_tree
from tests.support.waiting import poll

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "deploy/systemd"
CONFIG = "/etc/emotiond/emotiond.yaml"
INSTALL = "/srv/checkout/deploy/systemd/install"
CAMERA = {"source": "/srv/portrait.mp4", "live": True}
PASSWORD = "hunter2-in-a-credential"
MOST_EXPOSED = 2.0
FREEZE = "/srv/freeze"
HANGING = f"""
import os, sys, time
if "run" in sys.orig_argv:
    import emotiond.analyzer, emotiond.watchdog
    emotiond.watchdog.STALL_SECONDS = 4.0
    analyze = emotiond.analyzer.Analyzer.analyze
    def hang(*arguments, **named):
        while os.path.exists("{FREEZE}"):
            time.sleep(0.1)
        return analyze(*arguments, **named)
    emotiond.analyzer.Analyzer.analyze = hang
"""
QUICK = "[Service]\nWatchdogSec=5\n"      # of the shipped 30, which the daemon feeds as often as it is told to

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]


@pytest.fixture(scope="module")
def machine(
    tmp_path_factory: pytest.TempPathFactory, require_server: Callable[[str], None]
) -> Iterator[Machine]:
    """A machine with Redis on which the script has installed this checkout; the daemon does not run yet."""
    require_server("systemd-nspawn")
    folder = tmp_path_factory.mktemp("systemd")
    with in_memory(folder / "memory") as memory:
        tree = debian_tree(memory / "debian", "systemd", "systemd-sysv", "python3", "python3-venv", "redis-server")
        (tree / "etc/hosts").write_text("127.0.0.1 localhost\n")
        (tree / "etc/xdg/pip").mkdir(parents=True)
        write_pip_configuration(tree / "etc/xdg/pip")
        shutil.copy(ROOT / "daemon/emotiond/demo/portrait.mp4", tree / "srv")
        binds = [f"{ROOT}:/srv/checkout"]
        installed = run_in_tree(tree, INSTALL, binds=binds)
        assert installed.code == 0, installed.out + installed.err
        assert "systemctl enable --now emotiond" in installed.out
        with Machine(tree, folder / "console.log", binds) as machine:
            yield machine


class Unit:
    """The service on that machine."""

    def __init__(self, machine: Machine) -> None:
        self.machine = machine
        *_, last = machine.check("journalctl", "--lines=1", "--show-cursor", "--no-pager").splitlines()
        self.cursor = last.removeprefix("-- cursor: ")

    def configure(self, **sections: object) -> None:
        self.machine.path(CONFIG).write_text(yaml.safe_dump({
            "instance": "box", "streams": {"door": CAMERA}, "redis": {"url": "redis://localhost:6379/0"}, **sections}))

    def control(self, verb: str) -> Ended:
        return self.machine.run("systemctl", verb, "emotiond", deadline_s=100)

    def show(self, name: str) -> str:
        return self.machine.check("systemctl", "show", f"--property={name}", "--value", "emotiond").strip()

    def journal(self) -> list[str]:
        """Returns what the daemon, and systemd about it, has logged since this test began."""
        self.machine.check("journalctl", "--sync")
        return self.machine.check("journalctl", "--output=cat", "--no-pager", "--unit=emotiond",
                                  f"--after-cursor={self.cursor}").splitlines()

    def all_logged(self) -> str:
        return "\n".join(self.journal())

    def redis(self, *command: str) -> str:
        return self.machine.check("redis-cli", "--raw", *command).strip()

    def wait_for_events(self, stream: str) -> None:
        before = int(self.redis("XLEN", f"emotions:{stream}"))
        poll(lambda: int(self.redis("XLEN", f"emotions:{stream}")) >= before + 3, 60, self.all_logged, every_s=0.3)

    def exposure(self) -> float:
        """Returns what `systemd-analyze security` makes of it, from 0 to 10."""
        report = self.machine.check("systemd-analyze", "security", "--no-pager", "emotiond.service")
        return float(report.splitlines()[-1].partition("emotiond.service: ")[2].split()[0])

    def fail(self) -> str:
        """Starts it in vain and returns the one sentence that the daemon logged."""
        assert self.control("start").code != 0
        said = {line for line in self.journal() if line.startswith("emotiond: ")}
        assert len(said) == 1, self.journal()
        return said.pop()


@pytest.fixture
def unit(machine: Machine) -> Iterator[Unit]:
    unit = Unit(machine)
    unit.configure()
    yield unit
    unit.control("stop")
    unit.control("reset-failed")
    for name in ("emotiond.service.d/test.conf", "emotiond.service.d/gpu.conf", "emotiond.service.d/webcam.conf"):
        machine.path(f"/etc/systemd/system/{name}").unlink(missing_ok=True)
    machine.check("systemctl", "daemon-reload")


def drop_in(machine: Machine, name: str, text: str) -> None:
    file = machine.path(f"/etc/systemd/system/emotiond.service.d/{name}")
    file.parent.mkdir(exist_ok=True)
    file.write_text(text)
    machine.check("systemctl", "daemon-reload")


@pytest.mark.parametrize("drop_ins", [(), ("gpu.conf",), ("webcam.conf",)], ids=["plain", "gpu", "webcam"])
def test_systemd_finds_nothing_to_say_about_the_unit(unit: Unit, drop_ins: tuple[str, ...]) -> None:
    for name in drop_ins:
        drop_in(unit.machine, name, (FOLDER / name).read_text())

    ended = unit.machine.run("systemd-analyze", "verify", "/etc/systemd/system/emotiond.service")

    assert (ended.code, ended.out, ended.err) == (0, "", "")
    drop_in(unit.machine, "test.conf", "[Service]\nWatchdogSecs=5\n")     # it does see what is wrong
    assert "WatchdogSecs" in unit.machine.run("systemd-analyze", "verify", "/etc/systemd/system/emotiond.service").err


def test_little_of_the_machine_is_exposed(unit: Unit, capsys: pytest.CaptureFixture[str]) -> None:
    exposed = unit.exposure()

    with capsys.disabled():
        print(f"\nsystemd-analyze security: {exposed} of at most {MOST_EXPOSED}")
    assert exposed <= MOST_EXPOSED


def test_it_starts_publishes_reloads_and_stops(unit: Unit) -> None:
    redis = {"url": "redis://localhost:6379/0", "username": "default",
             "password_file": "$CREDENTIALS_DIRECTORY/secret_redis"}
    unit.configure(redis=redis)
    secret = unit.machine.path("/etc/emotiond/secrets/redis")
    secret.write_text(PASSWORD)
    secret.chmod(0o600)
    unit.redis("CONFIG", "SET", "requirepass", PASSWORD)
    try:
        assert unit.control("start").code == 0, unit.all_logged()
        poll(lambda: "Redis answers" in unit.all_logged(), 60, unit.all_logged, every_s=0.2)
    finally:
        unit.machine.run("redis-cli", "-a", PASSWORD, "CONFIG", "SET", "requirepass", "")
    assert unit.show("WatchdogUSec") == "30s"
    logged = unit.all_logged()
    assert logged.index('"message": "emotiond ') < logged.index("Started emotiond.service")    # not before it is ready
    assert "onnxruntime" not in logged      # it has what it looks for in /proc
    unit.wait_for_events("door")
    poll(lambda: unit.show("StatusText") == "1 stream", 30, lambda: unit.show("StatusText"))
    assert unit.machine.check("stat", "--format=%U %a", "/var/lib/emotiond/spool.db").split() == ["emotiond", "600"]

    unit.configure(redis=redis, streams={"door": CAMERA, "hall": CAMERA})
    assert unit.control("reload").code == 0, unit.all_logged()
    unit.wait_for_events("hall")

    unit.configure(redis=redis, streams={"door": {**CAMERA, "max_fsp": 5}})
    assert unit.control("reload").code != 0
    assert "did you mean max_fps?" in unit.all_logged()
    assert unit.show("ActiveState") == "active"
    unit.wait_for_events("hall")

    assert unit.control("stop").code == 0
    assert (unit.show("Result"), unit.show("ExecMainStatus")) == ("success", "0")
    stopped = next(json.loads(line) for line in reversed(unit.journal()) if '"message": "stopped"' in line)
    assert stopped["frames_in_flight"] == 0
    assert PASSWORD not in unit.all_logged()


@pytest.mark.parametrize("name", ["gpu.conf", "webcam.conf"])
def test_it_runs_with_a_drop_in_and_is_hardly_more_exposed(name: str, unit: Unit) -> None:
    drop_in(unit.machine, name, (FOLDER / name).read_text())

    assert unit.control("start").code == 0, unit.all_logged()
    unit.wait_for_events("door")
    assert unit.exposure() <= MOST_EXPOSED
    if name == "webcam.conf":
        groups = unit.machine.check("sh", "-c", f"grep ^Groups: /proc/{unit.show('MainPID')}/status")
        video = unit.machine.check("getent", "group", "video").split(":")[2]
        assert video in groups.split()


def test_it_starts_the_embedded_valkey(unit: Unit) -> None:
    unit.configure(redis={"url": "embedded"})

    assert unit.control("start").code == 0, unit.all_logged()
    poll(lambda: "Redis answers" in unit.all_logged(), 60, unit.all_logged, every_s=0.2)


def test_frozen_analyzers_are_killed_by_the_watchdog_and_it_comes_back(unit: Unit) -> None:
    packages = next(unit.machine.path("/opt/emotiond/lib").glob("python3.*/site-packages"))
    (packages / "freezable.py").write_text(HANGING)
    (packages / "freezable.pth").write_text("import freezable\n")
    drop_in(unit.machine, "test.conf", QUICK)
    freeze = unit.machine.path(FREEZE)
    try:
        assert unit.control("start").code == 0, unit.all_logged()
        unit.wait_for_events("door")
        pid = unit.show("MainPID")

        freeze.touch()
        poll(lambda: "code=killed, status=6/ABRT" in unit.all_logged(), 60, unit.all_logged, every_s=0.2)
        freeze.unlink()

        logged = unit.all_logged()
        assert "the analyzers stood still for" in logged
        assert "Watchdog timeout (limit 5s)!" in logged
        assert "in hang" in logged      # the stack of a frozen analyzer
        unit.wait_for_events("door")
        assert unit.show("MainPID") != pid
        assert unit.show("NRestarts") != "0"
    finally:
        freeze.unlink(missing_ok=True)
        for file in packages.glob("freezable.*"):
            file.unlink()


@pytest.mark.parametrize(("sections", "sentence"), [
    ({"streams": {"door": {"sauce": "x.mp4"}}}, "did you mean source?"),
    ({"redis": {"url": "redis://127.0.0.1/", "password_file": "$CREDENTIALS_DIRECTORY/none"}}, "redis.password_file: "),
    ({"spool": {"path": "/srv/spool.db"}}, "spool.path: /srv/spool.db cannot be written"),
], ids=["broken", "no secret", "unwritable spool"])
def test_a_wrong_configuration_is_one_sentence_in_the_journal_and_not_tried_again(
    unit: Unit, sections: dict[str, object], sentence: str
) -> None:
    unit.configure(**sections)

    assert sentence in unit.fail()
    assert (unit.show("ActiveState"), unit.show("NRestarts"), unit.show("ExecMainStatus")) == ("failed", "0", "78")


def test_a_port_in_use_is_told_and_tried_again(unit: Unit) -> None:
    unit.configure(http={"listen": "127.0.0.1:6379"})

    assert "http.listen: 127.0.0.1:6379 cannot be used (Address already in use)" in unit.fail()
    assert unit.show("ExecMainStatus") == "69"
    poll(lambda: int(unit.show("NRestarts")) >= 1, 30, unit.all_logged, every_s=0.5)


def test_a_credential_that_is_not_there_is_told_by_systemd(unit: Unit) -> None:
    drop_in(unit.machine, "test.conf", "[Service]\nLoadCredential=redis:/etc/emotiond/secrets/nowhere\n")

    assert unit.control("start").code != 0
    assert "status=243/CREDENTIALS" in unit.all_logged()


def test_the_script_brings_a_running_daemon_to_its_version_and_keeps_the_configuration(unit: Unit) -> None:
    assert unit.control("start").code == 0, unit.all_logged()
    pid = unit.show("MainPID")
    configuration = unit.machine.path(CONFIG).read_text()

    installed = unit.machine.run(INSTALL, deadline_s=400, own_network=False)

    assert (installed.code, installed.out) == (
        0, f"{CONFIG}: ok, 1 stream\nemotiond is installed, and was started anew.\n"), installed.err
    assert unit.show("MainPID") != pid
    assert '"message": "stopped"' in unit.all_logged()
    unit.wait_for_events("door")
    assert unit.machine.path(CONFIG).read_text() == configuration
    assert unit.machine.check("stat", "--format=%U:%G %a", CONFIG, "/etc/emotiond", "/etc/emotiond/secrets",
                              "/opt/emotiond/bin/emotiond").splitlines() == [
        "root:emotiond 640", "root:emotiond 750", "root:root 700", "root:root 755"]
    assert not unit.machine.check("find", "/opt", "-name", "emotiond.*", "-maxdepth", "1")


def test_a_version_that_does_not_start_is_taken_back(unit: Unit) -> None:
    assert unit.control("start").code == 0, unit.all_logged()
    unit.machine.path("/opt/emotiond/old").touch()
    unit.configure(http={"listen": "127.0.0.1:6379"})      # which no check sees, for Redis has it

    installed = unit.machine.run(INSTALL, deadline_s=400, own_network=False)

    assert (installed.code, installed.out) == (1, f"{CONFIG}: ok, 1 stream\n")
    assert "cannot be used (Address already in use)" in installed.err
    assert installed.err.endswith("install: the new version does not start, so the old one is back; "
                                  "journalctl -u emotiond says why\n")
    assert unit.machine.path("/opt/emotiond/old").exists()
    assert not unit.machine.check("find", "/opt", "-name", "emotiond.*", "-maxdepth", "1")
    unit.configure()
    assert unit.control("restart").code == 0, unit.all_logged()
    unit.wait_for_events("door")


def test_the_script_refuses_a_python_that_the_service_would_not_see(machine: Machine) -> None:
    python = machine.check("realpath", "/usr/bin/python3").strip()
    machine.check("cp", python, "/root/python3")

    ended = machine.run("env", "PYTHON=/root/python3", INSTALL)

    assert (ended.code, ended.out) == (1, "")
    assert ended.err.startswith("install: '/root/python3' lies in a home folder")
    assert ended.err.count("\n") == 1


def test_the_script_refuses_in_one_sentence(machine: Machine) -> None:
    for command, code, sentence in (
        (["setpriv", "--reuid=65534", "--clear-groups", INSTALL], 1, "root alone may install a service"),
        ([INSTALL, "--tpu"], 2, "--tpu is no option; there are --gpu and --cpu"),
        (["env", "PYTHON=/bin/false", INSTALL], 1, "'/bin/false' is no Python 3.11, 3.12 or 3.13"),
    ):
        ended = machine.run(*command)
        assert (ended.code, ended.out) == (code, "")
        assert ended.err.startswith(f"install: {sentence}")
        assert ended.err.count("\n") == 1
