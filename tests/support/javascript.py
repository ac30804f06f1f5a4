"""Node.js and the npm packages that tests/install_servers puts into .venv/node."""

import os
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path

ROOT = Path(__file__).parents[2]
MODULES = ROOT / ".venv/node/node_modules"


def node_modules_found() -> bool:
    """Tells whether there is node, and the packages are."""
    return shutil.which("node") is not None and all(
        (MODULES / name / "package.json").is_file() for name in ("redis", "@asyncapi/specs"))


def start_node(script: Path, arguments: Sequence[str], folder: Path) -> "subprocess.Popen[str]":
    """Starts a script that imports from these packages; its copy in `folder` finds them there."""
    (folder / "node_modules").symlink_to(MODULES)
    copy = shutil.copy(script, folder)
    return subprocess.Popen(["node", copy, *arguments], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
                            env={**os.environ, "NODE_NO_WARNINGS": "1"})
