"""`make audit`: what is pinned as a bill of materials, and which known vulnerabilities it has.

Writes dist/emotiond-sbom.json (CycloneDX): the packages of the daemon's install with their hashes, and the models'
weights. Then asks the Python Package Index for advisories on all packages that are pinned here for this Python.
Ends with 1 where there is one, and where it could not ask about every package.
"""

import hashlib
import json
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
PINS = sorted(set(ROOT.glob("requirements/*.txt")) - {ROOT / "requirements/peers.txt"})     # those are only measured
TOOLS = Path(sys.executable).parent


def make_bill() -> dict[str, Any]:
    """Returns the daemon's bill of materials in CycloneDX' JSON."""
    made = subprocess.run(
        [TOOLS / "cyclonedx-py", "requirements", "--pyproject", "pyproject.toml", "--output-reproducible",
         "requirements/base.txt"], cwd=ROOT, check=True, capture_output=True, text=True)
    bill = json.loads(made.stdout)
    daemon = bill["metadata"]["component"]
    daemon["version"] = re.findall(r'__version__ = "(.+)"', (ROOT / "daemon/emotiond/__init__.py").read_text())[0]
    bill["components"] += weights()
    next(entry for entry in bill["dependencies"] if entry["ref"] == daemon["bom-ref"])["dependsOn"] = [
        component["bom-ref"] for component in bill["components"]]
    return bill


def weights() -> Iterator[dict[str, Any]]:
    """Yields a component for each set of weights that the daemon brings along."""
    for file in sorted(ROOT.glob("models/*/weights*/*.json")):
        about = json.loads(file.read_text(encoding="utf-8"))
        files = [path for suffix in (".onnx", ".safetensors") if (path := file.with_suffix(suffix)).exists()]
        yield {
            "type": "machine-learning-model", "bom-ref": f"weights-{about['name']}", "name": about["name"],
            **({"version": about["version"]} if "version" in about else {}),
            "components": [
                {"type": "file", "name": part.name,
                 "hashes": [{"alg": "SHA-256", "content": hashlib.sha256(part.read_bytes()).hexdigest()}]}
                for part in files],
        }


def ask() -> list[dict[str, Any]]:
    """Returns what pip-audit says of each package; none where nobody answers it."""
    asked = subprocess.run(
        [TOOLS / "pip-audit", "--disable-pip", "--require-hashes", "--format", "json", "--progress-spinner", "off",
         *(word for file in PINS for word in ("-r", file))], check=False, capture_output=True, text=True)
    try:
        return json.loads(asked.stdout)["dependencies"]
    except ValueError:
        return []


def judge(packages: list[dict[str, Any]]) -> Iterator[str]:
    """Yields a sentence for each vulnerability, and one where packages were not looked up."""
    for package in packages:
        for found in package.get("vulns", ()):
            mend = " or ".join(found["fix_versions"])
            yield (f"{package['name']} {package['version']} has {found['id']}; "
                   + (f"take {mend} with make pins ARGS='--upgrade-package {package['name']}'" if mend else
                      "no version mends it yet"))
    skipped = sum("skip_reason" in package for package in packages)
    if skipped or not packages:
        yield (f"{skipped or 'all'} of the pinned packages could not be looked up for vulnerabilities, for the Python "
               "Package Index' advisories do not answer here; run make audit where they do")


def main() -> int:
    """Writes the bill and audits."""
    file = ROOT / "dist" / "emotiond-sbom.json"
    bill = make_bill()
    file.parent.mkdir(exist_ok=True)
    file.write_text(json.dumps(bill, indent=2) + "\n", encoding="utf-8")
    print(f"{file.relative_to(ROOT)}: {len(bill['components'])} components", flush=True)
    packages = ask()
    faults = list(judge(packages))
    for fault in faults:
        print(f"audit: {fault}", file=sys.stderr)
    if not faults:
        print(f"{len(packages)} pinned packages: no known vulnerability")
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
