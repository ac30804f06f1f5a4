"""Recording rules and alerts as Prometheus takes them, what they name, and what an operator finds on each."""

import re
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.support.contract import CONTRACT

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "deploy/prometheus"
RULES: list[dict[str, Any]] = [
    rule for group in yaml.safe_load((FOLDER / "emotiond.rules.yaml").read_text())["groups"] for rule in group["rules"]]
ALERTS = {rule["alert"]: rule for rule in RULES if "alert" in rule}
RECORDED = {rule["record"] for rule in RULES if "record" in rule}
RUNBOOK = (ROOT / "docs/operations.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("arguments", [
    ("check", "config", "prometheus.yaml"), ("check", "rules", "emotiond.rules.yaml"),
    ("test", "rules", "emotiond.rules.test.yaml")], ids=" ".join)
def test_promtool_is_content(arguments: tuple[str, ...], require_server: Callable[[str], None]) -> None:
    require_server("prometheus")
    ended = subprocess.run(["promtool", *arguments], cwd=FOLDER, capture_output=True, text=True, timeout=60)

    assert ended.returncode == 0, ended.stdout + ended.stderr
    assert "SUCCESS" in ended.stdout


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
    assert alert["annotations"].keys() == {"summary", "description", "runbook"}
    assert alert["annotations"]["runbook"] == f"docs/operations.md#{name.lower()}"
    assert f"\n### {name}\n" in RUNBOOK


def test_the_runbook_knows_no_other_alert_and_no_other_name() -> None:
    assert set(re.findall(r"^### (Emotiond\w+)$", RUNBOOK, re.MULTILINE)) == set(ALERTS)
    assert set(re.findall(r"`(\w+:emotiond_\w+:\w+)`", RUNBOOK)) <= RECORDED
    assert {name for name in re.findall(r"`emotiond_(\w+)`", RUNBOOK)} <= set(CONTRACT)
