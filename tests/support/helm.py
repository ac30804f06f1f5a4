"""Helm on the chart, and what Kubernetes' and the operators' schemas say of what comes out."""

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import jsonschema
import yaml
from jsonschema.exceptions import best_match

from tests.support.commands import Ended

ROOT = Path(__file__).parents[2]
CHART = ROOT / "deploy/helm/emotiond"
EXAMPLES = ROOT / "deploy/helm/examples"
TOOLS = Path(sys.prefix) / "kubernetes"      # `make test` fills it
HELM = TOOLS / "bin/helm"
OWN_KINDS = ("PodMonitor", "PrometheusRule", "ScaledObject", "ServiceMonitor", "TriggerAuthentication")

Document = dict[str, Any]


def helm_works() -> bool:
    """Tells whether helm is there and made for this processor."""
    try:
        return subprocess.run([HELM, "version"], capture_output=True, check=False, timeout=60).returncode == 0
    except OSError:
        return False


def kubernetes_versions() -> list[str]:
    """Returns the last three whose schemas there are."""
    found = [match[1] for path in TOOLS.glob("kubernetes_validate/kubernetes-json-schema/*")
             if (match := re.fullmatch(r"v(\d+\.\d+)\.\d+-local-strict", path.name))]
    return sorted(found, key=lambda version: [int(part) for part in version.split(".")])[-3:]


def helm(*arguments: str | Path) -> Ended:
    """Runs helm, which needs no cluster for what is asked of it here."""
    ended = subprocess.run([HELM, *arguments], capture_output=True, text=True, check=False, timeout=60)
    return Ended(ended.returncode, ended.stdout, ended.stderr)


def render(*arguments: str | Path, release: str = "cams", chart: Path = CHART) -> list[Document]:
    """Returns what an installation would make.

    Args:
        arguments: `-f FILE`, `--set KEY=VALUE`, ...
        release: its name.
        chart: its folder.
    """
    ended = helm("template", release, chart, "--namespace", "video", *arguments)
    assert ended.code == 0, ended.err
    return list(parse(ended.out))


def parse(text: str) -> Iterator[Document]:
    """Yields the documents of a YAML stream; a key that stands twice is an error, as it is for `kubectl`."""
    yield from (document for document in yaml.load_all(text, _Strict) if document)


def of_kind(documents: Sequence[Document], kind: str) -> list[Document]:
    """Returns those of a kind."""
    return [document for document in documents if document["kind"] == kind]


def faults(documents: Sequence[Document], version: str, folder: Path) -> list[str]:
    """Returns what Kubernetes of a version, or the operators, would refuse.

    Args:
        documents: what is installed.
        version: like 1.37.
        folder: for a file of them.
    """
    native = [document for document in documents if document["kind"] not in OWN_KINDS]
    file = folder / f"documents-{version}.yaml"
    file.write_text(yaml.safe_dump_all(native), encoding="utf-8")
    said = subprocess.run(
        [sys.executable, "-m", "kubernetes_validate", "--strict", "--kubernetes-version", version, file],
        capture_output=True, text=True, check=False, timeout=100, env={**os.environ, "PYTHONPATH": str(TOOLS)})
    lines = said.stdout.splitlines()
    assert len(lines) == len(native), said.stdout + said.stderr
    found = [line for line in lines if not re.fullmatch(rf"INFO .* passed .* against version {version}", line)]
    for document in documents:
        if document["kind"] in OWN_KINDS:
            schema = json.loads((TOOLS / f"schemas/{document['kind']}.json").read_text(encoding="utf-8"))
            if error := best_match(jsonschema.Draft202012Validator(schema).iter_errors(document)):
                found.append(f"{document['kind']}: {error.json_path}: {error.message}")
    return found


class _Strict(yaml.CSafeLoader):
    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        keys = [key.value for key, _ in node.value]
        assert len(keys) == len(set(keys)), f"a key stands twice: {keys}"
        return super().construct_mapping(node, deep)
