"""Certificates made on the spot with OpenSSL: an authority, and what it signs for servers and clients."""

import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any

LOOPBACK = "IP:127.0.0.1"
ANY_NAME = "&ssl_check_hostname=false"


@dataclass(frozen=True)
class Certificate:
    """A certificate and its private key, both as PEM."""

    file: Path
    key: Path


def make_authority(folder: Path, name: str = "authority") -> Certificate:
    """Makes an authority that signs itself."""
    return _make(folder, name, "-addext", "basicConstraints=critical,CA:TRUE")


def make_certificate(authority: Certificate, name: str, address: str = LOOPBACK) -> Certificate:
    """Makes a certificate for a server at an address, or for a client, beside that of its authority."""
    return _make(authority.file.parent, name, "-CA", str(authority.file), "-CAkey", str(authority.key),
                 "-addext", f"subjectAltName={address}", "-addext", "basicConstraints=CA:FALSE")


class Tls:
    """Certificates of an authority, of its server, which is said to be at `address`, and of its client.

    Attributes:
        authority: who signed both.
        client: what lets a client in.
        settings: of a server, as in redis.conf and in a Sentinel's.
        words: for redis-cli.
        options: of redis-py's clients.
        query: of a URL; at another address than loopback's it asks for no name.
    """

    def __init__(self, folder: Path, address: str = LOOPBACK) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.authority = make_authority(folder)
        self.client = make_certificate(self.authority, "client")
        server = make_certificate(self.authority, "server", address)
        self.settings = {"tls-cert-file": str(server.file), "tls-key-file": str(server.key),
                         "tls-ca-cert-file": str(self.authority.file), "tls-replication": "yes"}
        self.words = ("--tls", "--cacert", str(self.authority.file), "--cert", str(self.client.file),
                      "--key", str(self.client.key))
        self.options: dict[str, Any] = {
            "ssl": True, "ssl_ca_certs": str(self.authority.file), "ssl_certfile": str(self.client.file),
            "ssl_keyfile": str(self.client.key)}
        self.query = (f"ssl_ca_certs={self.authority.file}&ssl_certfile={self.client.file}"
                      f"&ssl_keyfile={self.client.key}{'' if address == LOOPBACK else ANY_NAME}")


def _make(folder: Path, name: str, *options: str) -> Certificate:
    made = Certificate(folder / f"{name}.pem", folder / f"{name}.key")
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2",
         "-subj", f"/CN={name}", "-keyout", str(made.key), "-out", str(made.file), *options],
        check=True, capture_output=True, timeout=60)
    return made
