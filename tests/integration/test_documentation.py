"""The documentation: a site of it builds without a warning, and its quick start works line by line."""

import contextlib
import os
import re
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import av
import pytest

from tests.support.browser import Tab, open_browser
from tests.support.leaks import look

ROOT = Path(__file__).parents[2]
PAGES = sorted((ROOT / "docs").glob("*.md"))


def test_the_site_builds_without_a_warning_and_asks_nothing_of_others(
    tmp_path: Path, require_server: Callable[[str], None],
) -> None:
    require_server("chromium")

    built = subprocess.run([sys.executable, ROOT / "docs/make_site.py", tmp_path / "site"], capture_output=True,
                           text=True, timeout=100, check=False)

    assert built.returncode == 0, built.stdout + built.stderr
    assert "No issues found" in built.stderr
    listed = (ROOT / "mkdocs.yml").read_text()
    assert [page.name for page in PAGES if f": {page.name}" not in listed] == []
    with open_browser() as browser:
        for page in ("index", "quickstart", "reference"):
            tab = Tab(browser, (tmp_path / "site" / f"{page}.html").as_uri(), viewport={"width": 1280, "height": 900})
            assert tab.page.get_by_role("heading", level=1).count() == 1
            assert [url for url in tab.asked if not url.startswith(("file:", "data:", "blob:"))] == []
            tab.close()


def test_the_quick_start_works_line_by_line(tmp_path: Path) -> None:
    page = (ROOT / "docs/quickstart.md").read_text()
    blocks = re.findall(r"```sh\n(.*?)```", page, re.DOTALL)
    assert blocks[0] == "make demo\n"       # what `make demo` does is shown by tests of its own
    names = subprocess.run(["git", "ls-files", "-co", "--exclude-standard"], cwd=ROOT, capture_output=True, text=True,
                           check=True).stdout.splitlines()
    for name in [name for name in names if (ROOT / name).is_file()]:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes((ROOT / name).read_bytes())
    (tmp_path / ".venv").symlink_to(sys.prefix)
    said, path = tmp_path / "said", os.pathsep.join(str(tmp_path / root) for root in ("daemon", "models"))

    with said.open("w") as out, subprocess.Popen(
            ["bash", "-e"], stdin=subprocess.PIPE, stdout=out, stderr=out, cwd=tmp_path, text=True,
            start_new_session=True, env={**os.environ, "PYTHONPATH": path},
    ) as bash:
        try:
            bash.communicate("".join(blocks[1:]), timeout=110)
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(bash.pid, signal.SIGKILL)      # what it may have left behind

    output = said.read_text()
    look("commands' outputs", output)
    assert bash.returncode == 0, output
    for part in ('"type":"emotiond.frame.v1"', "ok\n", "1 of 1 stream runs", "portrait         ", " portrait [("):
        assert part in output, (part, output)
    with av.open(str(tmp_path / "annotated.mp4")) as video:
        assert video.streams.video[0].frames > 100


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_what_a_page_links_is_there(page: Path) -> None:
    for target, anchor in re.findall(r"(?<=\]\()(?![a-z]+:)([^)#\s]*)(#[^)\s]*)?(?=\))", page.read_text()):
        file = page if not target else page.parent / target
        assert file.exists(), target
        if anchor and file.suffix == ".md":
            titles = re.findall(r"^#+ (.*)$", file.read_text(), re.MULTILINE)
            assert anchor[1:] in {re.sub(r"[^\w\s-]", "", title.lower()).replace(" ", "-") for title in titles}, anchor
