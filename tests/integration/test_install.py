"""What a user gets from the wheel: the daemon, without torch, without tests, in a few hundred megabytes."""

import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PACKAGES = {"emotiond", "emotionnet", "emotiontrain", "yunet"}
DATA = {
    "emotiond/demo/portrait.mp4",
    "emotionnet/weights/emotionnet.json",
    "emotionnet/weights/emotionnet.onnx",
    "emotionnet/weights/emotionnet.safetensors",
    "emotionnet/weights-int8/emotionnet-int8.json",
    "emotionnet/weights-int8/emotionnet-int8.onnx",
    "yunet/weights/yunet.json",
    "yunet/weights/yunet.onnx",
    "yunet/weights/yunet.safetensors",
    "yunet/weights/LICENSE.yunet",
}

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]


def run(*command: str | Path) -> str:
    """Runs a command as on a fresh machine and returns what it prints."""
    environment = {key: value for key, value in os.environ.items() if key not in {"PYTHONPATH", "VIRTUAL_ENV"}}
    result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False, env=environment)
    assert result.returncode == 0, result.stdout + result.stderr
    return result.stdout


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("dist")
    run(sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", folder)
    return next(folder.glob("emotiond-*.whl"))


def test_the_wheel_holds_the_four_packages_with_their_data_and_nothing_else(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
        tops = {name.split("/")[0] for name in names}

    assert {top for top in tops if not top.endswith(".dist-info")} == PACKAGES
    assert names >= DATA
    assert any(name.endswith(".dist-info/licenses/LICENSE") for name in names)
    assert not [name for name in names if "test" in name.lower() or name.endswith((".pyc", ".pt"))]


def test_a_base_install_runs_without_torch_in_less_than_600_megabytes(wheel: Path, tmp_path: Path) -> None:
    python = tmp_path / "venv/bin/python"
    run(sys.executable, "-m", "venv", tmp_path / "venv")
    pip = (python, "-m", "pip", "--disable-pip-version-check", "install", "--quiet", "--no-compile")
    run(*pip, "--require-hashes", "-r", "requirements/base.txt")
    run(*pip, "--no-deps", wheel)

    installed = run(python, "-m", "pip", "list", "--format=freeze")
    size = sum(file.lstat().st_size for file in tmp_path.rglob("*"))

    assert "onnxruntime==" in installed
    assert "torch" not in installed
    assert "ultralytics" not in installed
    assert size < 600e6
    assert run(python, "-m", "pip", "check").strip() == "No broken requirements found."
    assert run(tmp_path / "venv/bin/emotiond", "--version").startswith("emotiond ")
