"""A real Prometheus, and promtool's opinion of a metrics page."""

import json
import subprocess
from pathlib import Path
from typing import Any
from urllib.error import URLError
from urllib.parse import urlencode
from urllib.request import urlopen

from tests.support.process import ServerProcess
from tests.support.waiting import free_port, poll

_CONFIGURATION = """\
global: {{scrape_interval: {interval}, scrape_timeout: {interval}, evaluation_interval: {interval}}}
rule_files: {rules}
alerting: {{alertmanagers: [{{static_configs: [{{targets: {alertmanagers}}}]}}]}}
scrape_configs:
  - job_name: {job}
    metrics_path: {path}
    static_configs: [{{targets: {targets}}}]
"""
_OTHERS = """\
  - job_name: other
    static_configs: [{{targets: ["{itself}", "127.0.0.1:1"]}}]
"""


class PrometheusServer(ServerProcess):
    """Scrapes its targets from entering to leaving.

    Args:
        folder: gets its data, its configuration and its log.
        targets: host:port of each.
        job: label of everything it scrapes from them.
        path: the targets' page.
        interval: time between scrapes, as Prometheus writes it.
        rules: files of alerting and recording rules.
        alertmanager: host:port of one that gets the alerts.
        shared: whether it scrapes other programs too, as job "other": itself, and one that does not answer.
    """

    def __init__(
        self, folder: Path, *targets: str, job: str = "emotiond", path: str = "/metrics", interval: str = "500ms",
        rules: tuple[Path, ...] = (), alertmanager: str | None = None, shared: bool = False,
    ) -> None:
        itself = f"127.0.0.1:{free_port()}"
        self.url, self._job = f"http://{itself}", job
        folder.mkdir(parents=True, exist_ok=True)
        configuration = folder / "prometheus.yml"
        configuration.write_text(_CONFIGURATION.format(
            interval=interval, job=job, path=path, targets=json.dumps(targets),
            rules=json.dumps([str(file) for file in rules]),
            alertmanagers=json.dumps([alertmanager] if alertmanager else []))
            + (_OTHERS.format(itself=itself) if shared else ""))
        super().__init__("prometheus", [
            "prometheus", f"--config.file={configuration}", f"--storage.tsdb.path={folder / 'data'}",
            f"--web.listen-address={itself}", "--log.level=warn"], folder / "prometheus.log")

    def ready(self) -> bool:
        """Tells whether it answers queries."""
        try:
            with urlopen(f"{self.url}/-/ready", timeout=2) as answer:
                return answer.status == 200
        except (URLError, TimeoutError, ConnectionError):
            return False

    def get(self, path: str, **parameters: str) -> Any:
        """Returns the `data` of an answer of its HTTP API, such as `get("rules")`."""
        with urlopen(f"{self.url}/api/v1/{path}?{urlencode(parameters)}", timeout=5) as answer:
            return json.load(answer)["data"]

    def label_values(self, selector: str, label: str) -> list[str]:
        """Returns what Grafana's `label_values(selector, label)` finds."""
        return self.get(f"label/{label}/values", **{"match[]": selector})

    def query(self, expression: str) -> list[tuple[dict[str, str], float]]:
        """Evaluates PromQL now: labels and value of each series, nothing where there is no series."""
        result = self.get("query", query=expression)["result"]
        return [(series["metric"], float(series["value"][1])) for series in result]

    def wait_for_scrape(self, deadline_s: float = 20) -> None:
        """Returns after a target was scraped once without an error; the first scrape comes after about 5 s.

        Raises:
            AssertionError: it was not, with Prometheus' reason.
        """
        def error() -> str:
            return "; ".join(f"{t['health']}: {t['lastError']}" for t in self.get("targets")["activeTargets"])

        poll(lambda: self.query(f'up{{job="{self._job}"}} == 1'), deadline_s, lambda: f"not scraped: {error()}")


def check_metrics(text: str) -> None:
    """Hands a metrics page (Prometheus text format) to `promtool check metrics`.

    Raises:
        AssertionError: promtool complains, be it about style only.
    """
    result = subprocess.run(
        ["promtool", "check", "metrics"], input=text, capture_output=True, text=True, timeout=30, check=False)
    complaints = result.stdout + result.stderr
    assert result.returncode == 0, complaints
    assert not complaints, complaints
