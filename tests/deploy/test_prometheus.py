"""Recording rules and alerts as Prometheus takes them, what they name, and what an operator finds on each."""

import re
import shutil
import subprocess
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.support.alertmanager import Alertmanager, Webhook
from tests.support.contract import CONTRACT
from tests.support.rules import ALERTS, RECORDED, RULES, operands
from tests.support.waiting import poll

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "deploy/prometheus"
RUNBOOK = (ROOT / "docs/operations.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("command", [
    "promtool check config prometheus.yaml", "promtool check rules emotiond.rules.yaml",
    "promtool test rules emotiond.rules.test.yaml", "amtool check-config alertmanager.yaml"])
def test_the_servers_own_tool_is_content(command: str, require_server: Callable[[str], None]) -> None:
    require_server("prometheus" if command.startswith("promtool") else "alertmanager")
    ended = subprocess.run(command.split(), cwd=FOLDER, capture_output=True, text=True, timeout=60)

    assert ended.returncode == 0, ended.stdout + ended.stderr
    assert "SUCCESS" in ended.stdout


def test_promtool_takes_the_scrape_configuration_of_the_docs(
    tmp_path: Path, require_server: Callable[[str], None]
) -> None:
    require_server("prometheus")
    example, = re.findall(r"```yaml\n(rule_files.*?)```", RUNBOOK, re.DOTALL)
    (tmp_path / "prometheus.yaml").write_text(example)
    shutil.copy(FOLDER / "emotiond.rules.yaml", tmp_path)

    ended = subprocess.run(["promtool", "check", "config", "prometheus.yaml"], cwd=tmp_path, capture_output=True,
                           text=True, timeout=60)

    assert ended.returncode == 0, ended.stdout + ended.stderr


def test_jobs_of_the_shipped_configurations_have_the_name_that_the_rules_know() -> None:
    pattern, = re.findall(r'up\{job=~"(.*)"\} == 0', ALERTS["EmotiondDown"]["expr"])
    for file in (FOLDER / "prometheus.yaml", ROOT / "deploy/docker/prometheus.yaml", ROOT / "docs/operations.md"):
        jobs = re.findall(r"- job_name: (\S+)", file.read_text(encoding="utf-8"))
        assert jobs
        assert all(re.fullmatch(pattern, job) for job in jobs), file


def test_an_alertmanager_sends_one_message_for_a_fleet_and_nothing_that_follows_from_a_dead_daemon(
    tmp_path: Path, require_server: Callable[[str], None]
) -> None:
    require_server("alertmanager")
    north, south, west = ({"job": f"emotiond-{place}"} for place in ("north", "south", "west"))
    dead, alive = north | {"instance": "edge-1"}, south | {"instance": "edge-2"}
    with Webhook() as webhook, Alertmanager(tmp_path / "alertmanager", webhook) as alertmanager:
        alertmanager.fire(
            dead | {"alertname": "EmotiondDown"}, dead | {"alertname": "EmotiondRedisRefuses", "kind": "oom"},
            dead | {"alertname": "EmotiondEventsLost", "stream": "door"},
            north | {"alertname": "EmotiondNotReady", "instance": "edge-0"},
            north | {"alertname": "EmotiondStreamOnNoShard"},
            south | {"alertname": "EmotiondStreamOnNoShard"},
            west | {"alertname": "EmotiondAbsent"}, west | {"alertname": "EmotiondStreamOnNoShard"},
            *(alive | {"alertname": "EmotiondStreamDown", "stream": f"camera-{number}"} for number in range(50)))
        poll(lambda: len(webhook.messages) >= 6, 30, lambda: str(webhook.messages))
        alertmanager.fire(alive | {"alertname": "Last"})
        poll(lambda: webhook.fired(alertname="Last"), 30, lambda: str(webhook.messages))

    sent = Counter({(message[0]["alertname"], message[0]["job"]): len(message) for message in webhook.messages})
    assert sent == {
        ("EmotiondDown", "emotiond-north"): 1, ("EmotiondEventsLost", "emotiond-north"): 1,
        ("EmotiondNotReady", "emotiond-north"): 1, ("EmotiondStreamOnNoShard", "emotiond-south"): 1,
        ("EmotiondAbsent", "emotiond-west"): 1, ("EmotiondStreamDown", "emotiond-south"): 50,
        ("Last", "emotiond-south"): 1}


def test_rules_name_metrics_and_labels_of_the_contract_alone() -> None:
    for rule in RULES:
        for name, selector in re.findall(r"(?<![\w:])emotiond_(\w+)(?:\{([^}]*)\})?", rule["expr"]):
            base = re.sub(r"_bucket$", "", name)
            assert base in CONTRACT, f"{name} in {rule['expr']}"
            labels = CONTRACT[base][1]
            for label, values in re.findall(r'(\w+)=~?"([^"]*)"', selector):
                allowed = labels[label]
                assert allowed is None or set(values.split("|")) <= allowed, f"{label}={values}"
        assert set(re.findall(r"\w+:emotiond_\w+:\w+", rule["expr"])) <= RECORDED


@pytest.mark.parametrize("name", ALERTS)
def test_an_alert_is_tested_and_has_a_runbook(name: str) -> None:
    alert = ALERTS[name]

    assert f'alertname="{name}"' in (FOLDER / "emotiond.rules.test.yaml").read_text()
    assert alert["labels"]["severity"] in ("warning", "critical")
    assert alert["annotations"].keys() == {"summary", "description", "runbook_url"}
    assert alert["annotations"]["runbook_url"] == f"docs/operations.md#{name.lower()}"
    assert f"\n### {name}\n" in RUNBOOK


@pytest.mark.parametrize("name", ALERTS)
def test_the_operands_of_an_alert_leave_nothing_out(name: str) -> None:
    """The tests ask a real Prometheus for each of them."""
    def metrics(expression: str) -> Counter[str]:
        return Counter(re.findall(r"[\w:]*emotiond_[\w:]+|\bup\b", expression))

    expression = ALERTS[name]["expr"]
    found = operands(expression)

    assert metrics(" ".join(found)) == metrics(re.sub(r"#.*", "", expression))
    assert "" not in found


def test_operands_are_taken_apart() -> None:
    assert operands('a{b=~"c|d"} > 0.5 # and x\n and on (b) (e or f unless absent(g offset 5m)) != h / i') == [
        'a{b=~"c|d"}', "e", "f", "g offset 5m", "h / i"]
    assert operands("sum by (a) (b and c) == 0") == ["sum by (a) (b and c)"]


def test_the_runbook_knows_no_other_alert_and_no_other_name() -> None:
    assert set(re.findall(r"^### (Emotiond\w+)$", RUNBOOK, re.MULTILINE)) == set(ALERTS)
    assert set(re.findall(r"`(\w+:emotiond_\w+:\w+)", RUNBOOK)) <= RECORDED
    assert {name for name in re.findall(r"`emotiond_(\w+)`", RUNBOOK)} <= set(CONTRACT)
