"""`make audit`: what it says of what pip-audit found, and the weights in the bill of materials."""

import json
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def audit() -> Any:
    spec = spec_from_file_location("audit", ROOT / "requirements/audit.py")
    assert spec
    assert spec.loader
    module = module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


FINE = {"name": "redis", "version": "7.1.0", "vulns": []}
SKIPPED = {"name": "av", "skip_reason": "Dependency not found on PyPI and could not be audited: av (18.1.0)"}


def bad(*fixes: str) -> dict[str, Any]:
    return {"name": "pyyaml", "version": "6.0", "vulns": [{"id": "PYSEC-2026-1", "fix_versions": list(fixes)}]}


def test_nothing_is_said_where_every_package_was_looked_up_and_is_fine(audit: Any) -> None:
    assert list(audit.judge([FINE, FINE])) == []


def test_a_vulnerability_is_named_with_its_mend(audit: Any) -> None:
    assert list(audit.judge([FINE, bad("6.1", "7.0"), bad()])) == [
        "pyyaml 6.0 has PYSEC-2026-1; take 6.1 or 7.0 with make pins ARGS='--upgrade-package pyyaml'",
        "pyyaml 6.0 has PYSEC-2026-1; no version mends it yet"]


@pytest.mark.parametrize(("packages", "how_many"), [([], "all"), ([FINE, SKIPPED], "1"), ([SKIPPED, SKIPPED], "2")])
def test_packages_that_were_not_looked_up_are_no_pass(packages: list[Any], how_many: str, audit: Any) -> None:
    said, = audit.judge(packages)

    assert said.startswith(f"{how_many} of the pinned packages could not be looked up")
    assert said.endswith("run make audit where they do")


def test_the_weights_of_the_bill_have_the_hashes_that_the_daemon_checks(audit: Any) -> None:
    found = {part["name"]: part["hashes"][0]["content"] for model in audit.weights() for part in model["components"]}
    known = {name: digest for file in ROOT.glob("models/*/weights*/*.json")
             for name, digest in json.loads(file.read_text())["sha256"].items()}

    assert found == known
    assert len(found) == 5
