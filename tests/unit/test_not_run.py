"""What the suite says of tests that lacked a server or the data: never that they passed."""

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
TESTS = """
def test_with_data(data_dir): pass
def test_with_more_data(data_dir): pass
def test_with_redis(redis_server): pass
def test_alone(): pass
"""


def run(folder: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    (folder / "test_some.py").write_text(TESTS)
    return subprocess.run(
        [sys.executable, "-m", "pytest", "-c", "pyproject.toml", "-p", "tests.conftest", folder],
        cwd=ROOT, capture_output=True, text=True, timeout=60, check=False,
        env={"PATH": "", "HOME": str(folder), "EMOTIOND_DATA": str(folder / "none"), **environment})


def test_tests_that_lack_a_part_are_counted_by_cause_with_what_to_do(tmp_path: Path) -> None:
    result = run(tmp_path)

    assert "not run: 3 (test data missing: 2, redis-server missing: 1)" in result.stdout
    assert "test data: set EMOTIOND_DATA" in result.stdout
    assert "1 passed, 3 skipped" in result.stdout


def test_in_ci_a_missing_part_is_a_failure(tmp_path: Path) -> None:
    result = run(tmp_path, CI="true")

    assert result.returncode == 1
    assert "redis-server missing: install redis-server" in result.stdout
    assert "not run: 0" in result.stdout
