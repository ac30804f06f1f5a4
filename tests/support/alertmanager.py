"""A real Alertmanager, and who receives what it sends."""

import json
from collections.abc import Mapping
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from threading import Thread
from types import TracebackType
from typing import Any, Self
from urllib.request import Request, urlopen

import yaml

from tests.support.process import ServerProcess
from tests.support.waiting import free_port

SHIPPED: dict[str, Any] = yaml.safe_load(
    (Path(__file__).parents[2] / "deploy/prometheus/alertmanager.yaml").read_text(encoding="utf-8"))


class Webhook:
    """Receives what an Alertmanager sends, from entering to leaving.

    Attributes:
        messages: the labels of what fired, message by message.
    """

    def __init__(self) -> None:
        self.messages: list[list[dict[str, str]]] = []
        messages = self.messages

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                messages.append([alert["labels"] for alert in body["alerts"] if alert["status"] == "firing"])
                self.send_response(200)
                self.end_headers()

            def log_message(self, format: str, *args: object) -> None:
                """Says nothing."""

        self._server = HTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_port}/"
        self._thread = Thread(target=self._server.serve_forever, daemon=True)

    def fired(self, **labels: str) -> bool:
        """Tells whether an alert with these labels was among what came."""
        return any(labels.items() <= alert.items() for message in self.messages for alert in message)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join(10)


class Alertmanager(ServerProcess):
    """Runs with the configuration that is shipped, but sends to a webhook, and at once."""

    def __init__(self, folder: Path, webhook: Webhook) -> None:
        self.port = free_port()
        folder.mkdir()
        receiver = {"name": SHIPPED["route"]["receiver"], "webhook_configs": [{"url": webhook.url}]}
        (folder / "alertmanager.yml").write_text(yaml.safe_dump({
            **SHIPPED, "route": {**SHIPPED["route"], "group_wait": "1s", "group_interval": "1s"},
            "receivers": [receiver]}))
        super().__init__("alertmanager", [
            "prometheus-alertmanager", f"--config.file={folder}/alertmanager.yml", f"--storage.path={folder}/data",
            f"--web.listen-address=127.0.0.1:{self.port}", "--cluster.listen-address="], folder / "alertmanager.log")

    def ready(self) -> bool:
        """Tells whether it listens."""
        return "listening" in self.output().lower()

    def fire(self, *alerts: Mapping[str, str]) -> None:
        """Tells it of alerts with these labels, all at once, as a Prometheus does."""
        body = json.dumps([{"labels": labels} for labels in alerts]).encode()
        request = Request(f"http://127.0.0.1:{self.port}/api/v2/alerts", body, {"Content-Type": "application/json"})
        with urlopen(request, timeout=5) as answer:
            assert answer.status == 200
