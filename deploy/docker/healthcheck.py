"""The image's health check: asks the daemon's /healthz; exit code 0 when all is well, 1 with the reason otherwise.

Where to ask comes from the socket on which the daemon listens, not from the configuration: that may say something else
by now, or be broken by an edit that waits for a reload, and neither makes a daemon unhealthy.
"""

import http.client
import os
import struct
import sys
from contextlib import suppress
from ipaddress import ip_address
from pathlib import Path

PROGRAM = b"/bin/emotiond\0"
LISTENS = "0A"      # the kernel's TCP_LISTEN
TIMEOUT_SECONDS = 4.0      # below HEALTHCHECK's


def main() -> int:
    """Asks the daemon of this container."""
    for process in sorted(Path("/proc").glob("[0-9]*"), key=lambda path: int(path.name)):
        with suppress(OSError):      # it ended meanwhile
            address = listening(process) if PROGRAM in (process / "cmdline").read_bytes() else None
            if address:
                return ask(*address)
    print("emotiond does not listen")
    return 1


def listening(process: Path) -> tuple[str, int] | None:
    """Returns an address that reaches the socket on which a process listens, None where it has none.

    Args:
        process: its folder in /proc; the columns are those of proc_pid_net(5).
    """
    sockets = {os.readlink(descriptor) for descriptor in (process / "fd").iterdir()}
    for table in ("tcp", "tcp6"):
        for row in (process / "net" / table).read_text().splitlines()[1:]:
            columns = row.split()
            if columns[3] == LISTENS and f"socket:[{columns[9]}]" in sockets:
                digits, port = columns[1].split(":")
                words = (int(digits[start:start + 8], 16) for start in range(0, len(digits), 8))
                ip = ip_address(b"".join(struct.pack("=I", word) for word in words))
                loopback = "127.0.0.1" if ip.version == 4 else "::1"
                return loopback if ip.is_unspecified else str(ip), int(port, 16)
    return None


def ask(host: str, port: int) -> int:
    """Prints what /healthz answers."""
    connection = http.client.HTTPConnection(host, port, timeout=TIMEOUT_SECONDS)
    try:
        connection.request("GET", "/healthz")
        answer = connection.getresponse()
        print(answer.read().decode(errors="replace").strip())
    except (OSError, http.client.HTTPException) as error:
        print(f"/healthz: {'no answer in time' if isinstance(error, TimeoutError) else error}")
        return 1
    finally:
        connection.close()
    return 0 if answer.status == http.HTTPStatus.OK else 1


if __name__ == "__main__":
    sys.exit(main())
