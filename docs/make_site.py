"""Builds the documentation as a site: `python docs/make_site.py [FOLDER]`, by default build/site; `make docs` calls it.

The pages link to files of the project that are not documentation: tests, deployment files, other READMEs. Those become
pages too, so that the site stands alone; the rest is Zensical's work, by mkdocs.yml.
"""

import re
import shutil
import subprocess
import sys
from functools import partial
from pathlib import Path, PurePosixPath
from posixpath import normpath, relpath

import yaml

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
_LINK = re.compile(r"(?<=\]\()(?![a-z]+:|#)([^)#\s]+)(#[^)\s]*)?(?=\))")
_LANGUAGES = {".py": "python", ".yaml": "yaml", ".json": "json", ".sh": "sh", ".mjs": "js", ".lua": "lua"}


class Site:
    """Copies pages, and what they link to, into a folder."""

    def __init__(self, folder: Path) -> None:
        """Begins with an empty folder."""
        shutil.rmtree(folder, ignore_errors=True)
        self._folder = folder
        self._waiting = [path.relative_to(ROOT) for path in sorted(DOCS.rglob("*"))
                         if path.is_file() and path != Path(__file__)]
        self._known = set(self._waiting)

    def write(self) -> None:
        """Writes every page, and the pages of what they link to."""
        while self._waiting:
            path = self._waiting.pop()
            target = self._folder / place(path)
            target.parent.mkdir(parents=True, exist_ok=True)
            if path.suffix == ".md":
                text = (ROOT / path).read_text(encoding="utf-8")
                target.write_text(_LINK.sub(partial(self._link, path), text), encoding="utf-8")
            elif path.parts[0] == "docs" or path.suffix in (".png", ".svg"):
                shutil.copy(ROOT / path, target)
            elif (ROOT / path).is_dir():
                target.write_text(self._list(path), encoding="utf-8")
            else:
                fence = f"````{_LANGUAGES.get(path.suffix, '')}"
                text = (ROOT / path).read_text(encoding="utf-8")
                target.write_text(f"# {path.name}\n\n`{path}`\n\n{fence}\n{text}\n````\n", encoding="utf-8")

    def _link(self, page: Path, link: re.Match[str]) -> str:
        """Returns where a link of a page leads in the site."""
        path = Path(normpath(PurePosixPath(page.parent, link[1])))
        if not (ROOT / path).exists():
            raise FileNotFoundError(f"{page}: links to {link[1]}, which is not there")
        self._want(path)
        return relpath(place(path), place(page).parent) + (link[2] or "")

    def _want(self, path: Path) -> None:
        if path not in self._known:
            self._known.add(path)
            self._waiting.append(path)

    def _list(self, folder: Path) -> str:
        kept = subprocess.run(["git", "ls-files", "--", folder], cwd=ROOT, capture_output=True, text=True, check=True)
        children = sorted({Path(line).relative_to(folder).parts[0] for line in kept.stdout.splitlines()})
        lines = [f"# {folder}\n"]
        for name in children:
            self._want(folder / name)
            lines.append(f"- [{name}]({relpath(place(folder / name), place(folder).parent)})")
        return "\n".join(lines) + "\n"


def place(path: Path) -> PurePosixPath:
    """Returns where a file of the project goes in the site's source."""
    if path.parts[0] == "docs" and len(path.parts) > 1:
        return PurePosixPath(*path.parts[1:])
    if (ROOT / path).is_dir():
        return PurePosixPath("project", path, "index.md")
    if path.suffix in (".md", ".png", ".svg"):
        return PurePosixPath("project", path)
    return PurePosixPath("project", f"{path}.md")


def main(folder: Path) -> int:
    """Builds the site into a folder; returns Zensical's exit code, which is not 0 where it warns."""
    source = folder.parent / f"{folder.name}-source"
    Site(source).write()
    settings = yaml.safe_load((ROOT / "mkdocs.yml").read_text(encoding="utf-8"))
    settings |= {"docs_dir": source.name, "site_dir": folder.name}
    (folder.parent / "mkdocs.yml").write_text(yaml.safe_dump(settings, sort_keys=False), encoding="utf-8")
    command = [sys.executable, "-m", "zensical", "build", "--strict", "--clean"]
    return subprocess.run(command, cwd=folder.parent, check=False).returncode


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1] if len(sys.argv) > 1 else ROOT / "build/site")))
