"""Which package may import which, and that nobody pays for torch who did not ask for it."""

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SOURCES = {
    "yunet": ROOT / "models/yunet",
    "emotionnet": ROOT / "models/emotionnet",
    "emotiond": ROOT / "daemon/emotiond",
    "emotiontrain": ROOT / "training/emotiontrain",
}
ALLOWED = {
    "yunet": set[str](),
    "emotionnet": set[str](),
    "emotiond": {"yunet", "emotionnet"},
    "emotiontrain": {"yunet", "emotionnet"},
}


def imported(file: Path) -> Iterator[str]:
    """Yields the full names of the modules a file imports, wherever in it."""
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"), str(file))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{file}:{node.lineno}: a relative import, which this test does not follow"
            yield node.module or ""


@pytest.mark.parametrize("package", SOURCES)
def test_imports_run_one_way(package: str) -> None:
    files = list(SOURCES[package].rglob("*.py"))
    found = {
        f"{file.relative_to(ROOT)} imports {module}"
        for file in files for module in imported(file)
        if (top := module.split(".")[0]) in SOURCES and top not in ALLOWED[package] | {package}}

    assert files
    assert not found


def test_only_the_network_imports_ultralytics() -> None:
    importers = {
        str(file.relative_to(ROOT)) for folder in SOURCES.values() for file in folder.rglob("*.py")
        if any(module.split(".")[0] == "ultralytics" for module in imported(file))}

    assert importers == {"models/emotionnet/network.py"}


@pytest.mark.parametrize("module", ["emotiond.cli", "yunet.detector", "emotionnet.classifier"])
def test_what_the_base_install_uses_imports_no_torch(module: str) -> None:
    code = f"import sys, {module}; print(*sorted({{'torch', 'torchvision', 'ultralytics'}} & sys.modules.keys()))"

    result = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True,
        env={"PYTHONPATH": ":".join(str(ROOT / folder) for folder in ("daemon", "models", "training"))})

    assert result.stdout.strip() == ""
