"""`python -m deploy.helm` copies into the chart what it has of other folders; helm reads nothing outside of a chart."""

import json
import shutil
from pathlib import Path
from typing import Any

from deploy.grafana.__main__ import dump
from emotiond.config import Config

CHART = Path(__file__).with_name("emotiond")
DEPLOY = Path(__file__).parents[1]
COPIES = ("prometheus/emotiond.rules.yaml", "grafana/dashboards/fleet.json", "grafana/dashboards/stream.json")


def write(chart: Path) -> None:
    """Writes the copies, and the schema of the daemon's configuration into that of the values.

    Args:
        chart: the chart's folder.
    """
    for copy in COPIES:
        shutil.copyfile(DEPLOY / copy, chart / "files" / Path(copy).name)
    schema = json.dumps(Config.model_json_schema()).replace('"#/$defs/', '"#/definitions/daemon/$defs/')
    file = chart / "values.schema.json"
    values: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
    values["definitions"]["daemon"] = json.loads(schema)
    file.write_text(dump(values) + "\n", encoding="utf-8")


if __name__ == "__main__":
    write(CHART)
