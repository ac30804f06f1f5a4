"""`python -m tests.benchmarks` measures, prints and writes its page, with nothing but what the project brings along."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.daemon import with_path

ROOT = Path(__file__).parents[2]


@pytest.mark.slow
def test_stages_are_measured_on_the_bundled_portrait_where_the_clips_are_not_there(tmp_path: Path) -> None:
    done = subprocess.run(
        [*with_path(), sys.executable, "-m", "tests.benchmarks", "stages", "--quick", "--write", "--into", tmp_path],
        cwd=ROOT, check=False, capture_output=True, text=True, timeout=100,
        env={**os.environ, "EMOTIOND_DATA": str(tmp_path / "nowhere")})

    assert done.returncode == 0, done.stderr
    part = json.loads((tmp_path / "benchmarks.json").read_bytes())["parts"]["stages"]
    values = {figure["column"]: figure["values"] for figure in part["figures"]}
    assert values["faces a frame"] == [1, 1]
    for stage in ("decode", "scale", "detect", "crop", "classify", "encode", "publish"):
        assert min(values[stage]) > 0, stage
        assert stage in done.stdout
    text = (tmp_path / "benchmarks.md").read_text()
    assert "`python -m tests.benchmarks stages --quick`" in text
    assert "the demo's portrait stands in for them" in text
    assert (tmp_path / "images" / "bench-stages.png").exists()
