"""The shipped unit, installed by the shipped script into a Debian that a real systemd boots."""

import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import yaml

from tests.support.commands import Ended
from tests.support.debian import debian_tree, write_pip_configuration
from tests.support.systemd import Machine, call, run_in_tree
from tests.support.waiting import poll

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "deploy/systemd"
CONFIG = "/etc/emotiond/emotiond.yaml"
CAMERA = {"source": "/srv/portrait.mp4", "live": True}
PASSWORD = "hunter2-in-a-credential"
MOST_EXPOSED = 2.0
FREEZE = "/srv/freeze"
HANGING = f"""
import sys
if "run" in sys.orig_argv:
    import os, time
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
    tree = debian_tree(folder / "debian", "systemd", "systemd-sysv", "python3", "python3-venv", "redis-server")
    (folder / "pip").mkdir()
    write_pip_configuration(folder / "pip")
    binds = (f"{ROOT}:/srv/checkout", f"{folder / 'pip'}:/etc/xdg/pip")
    installed = run_in_tree(tree, "/srv/checkout/deploy/systemd/install", binds=binds)
    assert installed.code == 0, installed.out + installed.err
    assert "systemctl enable --now emotiond" in installed.out
    shutil.copy(ROOT / "daemon/emotiond/demo/portrait.mp4", tree / "srv")
    with Machine(tree, folder / "console.log") as machine:
        yield machine
    shutil.rmtree(tree)


class Unit:
    """The service on that machine."""

    def __init__(self, machine: Machine) -> None:
        self.machine = machine

    def configure(self, **sections: object) -> None:
        self.machine.path(CONFIG).write_text(yaml.safe_dump({
            "instance": "box", "streams": {"door": CAMERA}, "redis": {"url": "redis://127.0.0.1:6379/0"}, **sections}))

    def control(self, verb: str) -> Ended:
        return self.machine.run("systemctl", verb, "emotiond", deadline_s=100)

    def show(self, name: str) -> str:
        return self.machine.check("systemctl", "show", f"--property={name}", "--value", "emotiond").strip()

    def journal(self) -> list[str]:
        """Returns what the last start, and all that belongs to it, has logged."""
        invocation = self.show("InvocationID")
        return self.machine.check(
            "journalctl", "--output=cat", "--no-pager", f"_SYSTEMD_INVOCATION_ID={invocation}", "+",
            f"INVOCATION_ID={invocation}").splitlines()

    def all_logged(self) -> str:
        return self.machine.check("journalctl", "--output=cat", "--no-pager", "--unit=emotiond")

    def redis(self, *command: str) -> str:
        return self.machine.check("redis-cli", "--raw", *command).strip()

    def wait_for_events(self, stream: str) -> None:
        before = int(self.redis("XLEN", f"emotions:{stream}"))
        poll(lambda: int(self.redis("XLEN", f"emotions:{stream}")) >= before + 3, 60, self.all_logged, every_s=0.3)

    def fail(self) -> str:
        """Starts it in vain and returns the one sentence that the daemon logged."""
        assert self.control("start").code != 0
        said = [line for line in self.journal() if line.startswith(("emotiond: ", "/etc/emotiond"))]
        assert len(said) == 1, self.journal()
        return said[0]


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
    report = unit.machine.check("systemd-analyze", "security", "--no-pager", "emotiond.service")
    last = report.splitlines()[-1]
    exposed = float(last.partition("emotiond.service: ")[2].split()[0])

    with capsys.disabled():
        print(f"\nsystemd-analyze security: {exposed} of at most {MOST_EXPOSED}")
    assert exposed <= MOST_EXPOSED


def test_it_starts_publishes_reloads_and_stops(unit: Unit) -> None:
    unit.configure(redis={"url": "redis://127.0.0.1:6379/0", "username": "default",
                          "password_file": "$CREDENTIALS_DIRECTORY/redis"})
    secret = unit.machine.path("/etc/emotiond/secrets/redis")
    secret.write_text(PASSWORD)
    secret.chmod(0o600)
    unit.redis("CONFIG", "SET", "requirepass", PASSWORD)
    try:
        drop_in(unit.machine, "test.conf", "[Service]\nLoadCredential=redis:/etc/emotiond/secrets/redis\n")
        assert unit.control("start").code == 0, unit.journal()
    finally:
        unit.machine.run("redis-cli", "-a", PASSWORD, "CONFIG", "SET", "requirepass", "")
    assert unit.show("ActiveState") == "active"
    assert any('"message": "emotiond ' in line for line in unit.journal())
    unit.wait_for_events("door")
    assert unit.machine.check("stat", "--format=%U %a", "/var/lib/emotiond/spool.db").split() == ["emotiond", "600"]

    unit.configure(streams={"door": CAMERA, "hall": CAMERA})
    assert unit.control("reload").code == 0
    unit.wait_for_events("hall")

    unit.configure(streams={"door": {**CAMERA, "max_fsp": 5}})
    refused = unit.control("reload")
    assert refused.code != 0
    assert any("did you mean max_fps?" in line for line in unit.journal())
    assert unit.show("ActiveState") == "active"
    unit.wait_for_events("hall")

    assert unit.control("stop").code == 0
    assert (unit.show("Result"), unit.show("ExecMainStatus")) == ("success", "0")
    logged = unit.all_logged()
    stopped = [json.loads(line) for line in logged.splitlines() if '"message": "stopped"' in line][-1]
    assert stopped["frames_in_flight"] == 0
    assert PASSWORD not in logged
    assert "cpuinfo" not in logged      # onnxruntime would be slower where it cannot see the processor


def test_frozen_analyzers_are_killed_by_the_watchdog_and_it_comes_back(unit: Unit) -> None:
    packages = next(unit.machine.path("/opt/emotiond/lib").glob("python3.*/site-packages"))
    (packages / "hang.py").write_text(HANGING)
    (packages / "hang.pth").write_text("import hang\n")
    drop_in(unit.machine, "test.conf", QUICK)
    try:
        assert unit.control("start").code == 0, unit.journal()
        unit.wait_for_events("door")
        pid = unit.show("MainPID")

        unit.machine.path(FREEZE).touch()
        poll(lambda: unit.show("NRestarts") == "1", 60, unit.all_logged, every_s=0.5)
        unit.machine.path(FREEZE).unlink()

        logged = unit.all_logged()
        assert "the analyzers stood still for" in logged
        assert "Watchdog timeout (limit 5s)!" in logged
        assert "in hang" in logged      # the stack of a frozen analyzer
        poll(lambda: unit.show("ActiveState") == "active", 60, unit.all_logged, every_s=0.5)
        assert unit.show("MainPID") != pid
        unit.wait_for_events("door")
    finally:
        unit.machine.path(FREEZE).unlink(missing_ok=True)
        (packages / "hang.pth").unlink()


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
    assert "credentials" in unit.all_logged()


def test_the_script_keeps_the_configuration_and_root_owns_what_runs(unit: Unit) -> None:
    assert unit.machine.check("stat", "--format=%U:%G %a", CONFIG, "/etc/emotiond", "/etc/emotiond/secrets",
                              "/opt/emotiond/bin/emotiond").splitlines() == [
        "root:emotiond 640", "root:emotiond 750", "root:root 700", "root:root 755"]


def test_the_script_refuses_in_one_sentence(tmp_path: Path) -> None:
    for command, code, sentence in (
        (["setpriv", "--reuid=65534", "--clear-groups", FOLDER / "install"], 1, "root alone may install a service"),
        ([FOLDER / "install", "--cpu"], 2, "--cpu is no option"),
        (["env", "PYTHON=/bin/false", FOLDER / "install"], 1, "'/bin/false' is no Python 3.11, 3.12 or 3.13"),
    ):
        ended = call(command)
        assert (ended.code, ended.out) == (code, "")
        assert ended.err.startswith(f"install: {sentence}")
        assert ended.err.count("\n") == 1
