"""`python -m deploy.grafana` writes both dashboards; they are made here, and kept as Grafana takes them."""

import json
from pathlib import Path
from typing import cast

from deploy.grafana.fleet import fleet
from deploy.grafana.stream import stream

FOLDER = Path(__file__).with_name("dashboards")
WIDTH = 120


def write(folder: Path) -> None:
    """Writes both dashboards into a folder."""
    for name, content in (("fleet", fleet()), ("stream", stream())):
        (folder / f"{name}.json").write_text(dump(content) + "\n", encoding="utf-8")


def dump(value: object, indent: int = 0) -> str:
    """Returns JSON in which what fits a line stands on one."""
    line = json.dumps(value, ensure_ascii=False)
    if len(line) + 2 * indent <= WIDTH or not isinstance(value, (dict, list)):
        return line
    content = cast("dict[str, object] | list[object]", value)
    if isinstance(content, dict):
        parts = [f"{json.dumps(key)}: {dump(each, indent + 1)}" for key, each in content.items()]
    else:
        parts = [dump(each, indent + 1) for each in content]
    begin, end = line[0], line[-1]
    blanks = "  " * (indent + 1)
    return f"{begin}\n{blanks}" + f",\n{blanks}".join(parts) + f"\n{blanks[2:]}{end}"


if __name__ == "__main__":
    write(FOLDER)
