"""A minimal Debian in a folder, made by debootstrap; needs root, and Debian's mirror the first time."""

import os
import shutil
import subprocess
import sys
import time
from hashlib import sha256
from pathlib import Path

SUITE = "bookworm"      # its Python is the oldest that emotiond runs with
CACHE = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "emotiond-tests/debian"
_KEPT_SECONDS = 7 * 86400       # then packages have been mended, and archives are made anew

# In memory, in a mount namespace of its own: dpkg waits for the disk after every package, and nothing stays mounted.
_MAKE = r"""
set -eu
suite=$1 cache=$2 base=$3 archive=$4
shift 4
tree=$cache/tree
mkdir -p "$tree" "$cache/packages"
mount -t tmpfs -o mode=755 tmpfs "$tree"
if [ -e "$base" ]; then
  tar -xf "$base" -C "$tree"
else
  debootstrap --variant=minbase --cache-dir="$cache/packages" "$suite" "$tree"
  rm -f "$tree"/var/cache/apt/archives/*.deb
  tar -cf "$base.$$" --numeric-owner -C "$tree" .
  mv "$base.$$" "$base"
fi
if [ $# -gt 0 ]; then
  mount --bind "$cache/packages" "$tree/var/cache/apt/archives"
  mount -t proc proc "$tree/proc"
  DEBIAN_FRONTEND=noninteractive chroot "$tree" apt-get -o Dpkg::Use-Pty=0 install -y --no-install-recommends "$@"
  umount "$tree/proc" "$tree/var/cache/apt/archives"
  tar -cf "$archive.$$" --numeric-owner -C "$tree" .
  mv "$archive.$$" "$archive"
fi
"""


def debian_tree(folder: Path, *packages: str, suite: str = SUITE) -> Path:
    """Makes a minimal Debian (debootstrap's minbase) in a folder.

    Debootstrap runs once a week: its tree is kept as an archive in the user's cache, and so is the tree of each set of
    packages. Unpacking one of those takes two seconds.

    Args:
        folder: where it goes; made where it is missing.
        packages: further Debian packages by name, without those that they merely recommend.
        suite: the release by its name.

    Returns:
        The folder.

    Raises:
        AssertionError: it could not be made; with the end of what debootstrap or apt said.
    """
    base = CACHE / f"{suite}.tar"
    digest = sha256(" ".join(sorted(packages)).encode()).hexdigest()[:12]
    archive = CACHE / f"{suite}-{digest}.tar" if packages else base
    CACHE.mkdir(parents=True, exist_ok=True)
    for kept in CACHE.glob("*.tar"):
        if kept.stat().st_mtime < time.time() - _KEPT_SECONDS:
            kept.unlink()
    if not archive.exists():
        _run("unshare", "--mount", "sh", "-c", _MAKE, "sh", suite, str(CACHE), str(base), str(archive), *packages)
    folder.mkdir(parents=True, exist_ok=True)
    _run("tar", "-xf", str(archive), "--numeric-owner", "-C", str(folder))
    return folder


def write_pip_configuration(folder: Path) -> None:
    """Writes where this machine's pip gets packages, for a Debian that sees `folder` as /etc/xdg/pip.

    Folders of this machine are left out: the other cannot see them, and finds the same packages in the index.
    """
    listed = subprocess.run([sys.executable, "-m", "pip", "config", "list"], capture_output=True, text=True,
                            check=True, timeout=60).stdout
    lines = (line.partition("=") for line in listed.splitlines())
    settings = {key.rpartition(".")[2]: value.strip("'\"") for key, _, value in lines}
    kept = {key: settings[key] for key in ("index-url", "proxy", "trusted-host", "timeout") if key in settings}
    if certificates := settings.get("cert"):
        shutil.copy(certificates, folder / "certificates.crt")
        kept["cert"] = "/etc/xdg/pip/certificates.crt"
    (folder / "pip.conf").write_text("[global]\n" + "".join(f"{key} = {value}\n" for key, value in kept.items()))


def _run(*command: str) -> None:
    ended = subprocess.run(
        command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False,
        env={**os.environ, "LC_ALL": "C"})
    last = "\n".join(ended.stdout.splitlines()[-15:])
    assert ended.returncode == 0, f"the Debian tree could not be made ({command[0]}: {ended.returncode})\n{last}"
