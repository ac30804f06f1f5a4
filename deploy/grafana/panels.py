"""How the panels of both dashboards look, as Grafana's JSON.

In expressions `{D}` stands for the chosen daemons and `{S}` for the chosen streams, each with room for more matchers:
`{S, reason="stale"}`.
"""

from collections.abc import Iterable, Mapping
from typing import Any

Json = dict[str, Any]
Query = tuple[str, str]
"""An expression and its legend."""

# Colours that people with any kind of colour vision can tell apart (Okabe and Ito, 2008).
GREEN, ORANGE, RED = "#009E73", "#E69F00", "#D55E00"
BLUE, SKY, PURPLE, YELLOW, GREY = "#0072B2", "#56B4E9", "#CC79A7", "#F0E442", "#999999"
PALETTE = (BLUE, ORANGE, GREEN, PURPLE, SKY, RED, YELLOW, GREY)

STATES = {"running": GREEN, "connecting": SKY, "stalled": ORANGE, "backoff": RED, "auth_failed": PURPLE,
          "not_found": YELLOW, "ended": GREY}
SOURCE: Json = {"type": "prometheus", "uid": "${datasource}"}
DAEMONS = 'job=~"$job", instance=~"$instance"'
ALERTS = 'ALERTS{job=~"$job|", instance=~"$instance|", alertstate="firing", alertname=~"Emotiond.+"}'
"""Those of a fleet have no instance, and EmotiondAbsent may have no job."""
COLUMNS = 24
FPS = "suffix:frames/s"      # Grafana has no such unit

Steps = tuple[float, float]
"""From where on a value is orange, and from where on it is red."""


def fill(expression: str, streams: str) -> str:
    """Writes out `{D}` and `{S}`, the latter with the matcher of the dashboard's streams."""
    return expression.replace("{D", "{" + DAEMONS).replace("{S", "{" + f"{DAEMONS}, {streams}")


def stat(title: str, text: str, unit: str, *queries: Query, steps: Steps | None = None, name: bool = False,
         **defaults: Any) -> Json:
    """One number of now; green, orange or red with `steps`, blue without; or the series' name instead."""
    panel = _panel("stat", title, text, unit, queries, instant=True, **defaults)
    mode = {"color": {"mode": "thresholds"}, "thresholds": _thresholds(steps)}
    panel["fieldConfig"]["defaults"] = {"noValue": "0", **panel["fieldConfig"]["defaults"], **mode}
    panel["options"] = {
        "colorMode": "background" if steps or name else "value", "graphMode": "none", "justifyMode": "auto",
        "orientation": "auto", "textMode": "name" if name else "auto", "wideLayout": True,
        "reduceOptions": {"calcs": ["lastNotNull"], "fields": "", "values": False}}
    return panel


def graph(title: str, text: str, unit: str, *queries: Query, colors: Mapping[str, str] | None = None,
          stack: bool = False, steps: Steps | None = None, **defaults: Any) -> Json:
    """Lines over time, or areas upon each other; dashed lines where `steps` begin."""
    panel = _panel("timeseries", title, text, unit, queries, min=0, **defaults)
    custom: Json = {"drawStyle": "line", "lineWidth": 1, "fillOpacity": 60 if stack else 10, "showPoints": "never",
                    "stacking": {"group": "A", "mode": "normal" if stack else "none"}}
    if steps:
        custom["thresholdsStyle"] = {"mode": "dashed"}
        panel["fieldConfig"]["defaults"]["thresholds"] = _thresholds(steps)
    panel["fieldConfig"]["defaults"] |= {"color": {"mode": "palette-classic"}, "custom": custom}
    panel["fieldConfig"]["overrides"] = paint(colors or {})
    panel["options"] = {
        "legend": {"calcs": ["lastNotNull", "max"], "displayMode": "table", "placement": "bottom", "showLegend": True},
        "tooltip": {"mode": "multi", "sort": "desc"}}
    return panel


def timeline(title: str, text: str, *queries: Query, colors: Mapping[str, str]) -> Json:
    """A bar for each series as long as it has a value, in its colour."""
    panel = _panel("state-timeline", title, text, "none", queries)
    panel["fieldConfig"] = {
        "defaults": {"unit": "none", "custom": {"fillOpacity": 80, "lineWidth": 0}},
        "overrides": paint(colors)}
    panel["options"] = {"legend": {"displayMode": "list", "placement": "bottom", "showLegend": False},
                        "mergeValues": True, "rowHeight": 0.8, "showValue": "never", "tooltip": {"mode": "single"}}
    return panel


def heatmap(title: str, text: str, unit: str, expression: str) -> Json:
    """The buckets of a histogram over time; darker is more."""
    panel = _panel("heatmap", title, text, unit, [(expression, "{{le}}")])
    panel["targets"][0]["format"] = "heatmap"
    panel["options"] = {
        "calculate": False, "cellGap": 1, "color": {"mode": "scheme", "scheme": "Blues", "steps": 64},
        "legend": {"show": True}, "rowsFrame": {"layout": "auto"},
        "tooltip": {"show": True, "yHistogram": False},      # the heatmap's axis takes the unit from here
        "yAxis": {"axisPlacement": "left", "unit": unit}}
    return panel


def table(title: str, text: str, columns: Mapping[str, tuple[str, Json]], order: Iterable[str], sort: str,
          descending: bool = True) -> Json:
    """One line for each set of labels, a column for each expression.

    Args:
        title: the panel's.
        text: its description.
        columns: heading -> expression and the field's properties; values of labels have no expression.
        order: headings and labels from left to right; other labels are left out.
        sort: the heading that the lines are sorted by at first.
        descending: the largest at the top.
    """
    order = list(order)
    valued = [(heading, expression) for heading, (expression, _) in columns.items() if expression]
    panel = _panel("table", title, text, "none", [(expression, "") for _, expression in valued], instant=True)
    for target in panel["targets"]:
        target["format"] = "table"
    one = len(valued) == 1
    names = {f"Value #{target['refId']}" if not one else "Value": heading
             for target, (heading, _) in zip(panel["targets"], valued, strict=True)}
    fields = {heading: field for field, heading in names.items()}
    shown = [fields.get(heading, heading) for heading in order]
    panel["transformations"] = [
        *([] if one else [{"id": "merge", "options": {}}]),
        {"id": "filterFieldsByName", "options": {"include": {"names": shown}}},
        {"id": "organize", "options": {
            "indexByName": {field: index for index, field in enumerate(shown)}, "renameByName": names}}]
    panel["fieldConfig"]["overrides"] = [
        {"matcher": {"id": "byName", "options": heading},
         "properties": [{"id": key, "value": value} for key, value in properties.items()]}
        for heading, (_, properties) in columns.items() if properties]
    panel["options"] = {"cellHeight": "sm", "showHeader": True, "sortBy": [{"desc": descending, "displayName": sort}]}
    return panel


def cell(unit: str, steps: Steps | None = None, decimals: int | None = None) -> Json:
    """Returns the properties of a table's numbers; coloured with `steps`."""
    shown: Json = {"unit": unit} | ({} if decimals is None else {"decimals": decimals})
    if steps:
        shown |= {"thresholds": _thresholds(steps), "color": {"mode": "thresholds"},
                  "custom.cellOptions": {"type": "color-text"}}
    return shown


def colored_words(words: Mapping[str, str], texts: Mapping[str, str] | None = None) -> Json:
    """Returns the properties of a table's words, each in its colour, and as another text where there is one."""
    return {"mappings": [{"type": "value", "options": {
        word: {"color": color, "index": index} | ({"text": texts[word]} if texts else {})
        for index, (word, color) in enumerate(words.items())}}],
        "custom.cellOptions": {"type": "color-text"}}


def paint(colors: Mapping[str, str]) -> list[Json]:
    """Returns the overrides that give series of these names their colours."""
    return [{"matcher": {"id": "byName", "options": name},
             "properties": [{"id": "color", "value": {"mode": "fixed", "fixedColor": color}}]}
            for name, color in colors.items()]


def link(url: str, title: str) -> Json:
    """Returns the properties of a table's cells that lead elsewhere."""
    return {"links": [{"title": title, "url": url}]}


def dashboard(
    uid: str, title: str, text: str, streams: str, variables: list[Json], rows: Mapping[str, list[tuple[int, Json]]],
    heights: Mapping[str, int],
) -> Json:
    """Lays the panels out and completes the dashboard.

    Args:
        uid: part of its address.
        title: its name.
        text: its description.
        streams: what `{S}` adds to `{D}`.
        variables: what can be chosen at its top.
        rows: heading -> panels with their widths, of `COLUMNS` in all; what does not fit begins a new line.
        heights: heading -> height of its panels, where it is not 8.
    """
    panels = list[Json]()
    top = 0
    for heading, row in rows.items():
        panels.append({"type": "row", "title": heading, "collapsed": False, "panels": [],
                       "gridPos": {"x": 0, "y": top, "w": COLUMNS, "h": 1}})
        top, left, height = top + 1, 0, heights.get(heading, 8)
        for width, panel in row:
            if left + width > COLUMNS:
                top, left = top + height, 0
            panels.append({**panel, "gridPos": {"x": left, "y": top, "w": width, "h": height}})
            left += width
        top += height
    for number, panel in enumerate(panels, 1):
        panel["id"] = number
        for target in panel.get("targets", []):
            target["expr"] = fill(target["expr"], streams)
    return {
        "uid": uid, "title": title, "description": text, "tags": ["emotiond"], "schemaVersion": 38, "version": 1,
        "editable": True, "timezone": "browser", "refresh": "30s", "time": {"from": "now-1h", "to": "now"},
        "graphTooltip": 1, "templating": {"list": variables}, "panels": panels,
        "links": [{"title": "emotiond", "type": "dashboards", "tags": ["emotiond"], "icon": "external link",
                   "asDropdown": False, "includeVars": True, "keepTime": True, "targetBlank": False,
                   "tooltip": "The other dashboard, with the same time and choice", "url": ""}],
        "annotations": {"list": [{
            "name": "Alerts", "datasource": SOURCE, "enable": True, "iconColor": RED,
            "expr": ALERTS, "titleFormat": "{{alertname}}", "textFormat": "{{job}} {{instance}} {{stream}}",
            "tagKeys": "severity"}]}}


def choice(name: str, label: str, query: str, *, multi: bool = True, anything: bool = False) -> Json:
    """Returns a variable.

    Args:
        name: what expressions call it.
        label: what people read.
        query: where its values come from.
        multi: whether several of them or all may be chosen, and all are at first.
        anything: whether all of them is whatever there is, and not a list of them, which may be long.
    """
    every = {**({"allValue": ".*"} if anything else {}), "includeAll": True, "multi": True,
             "current": {"selected": True, "text": ["All"], "value": ["$__all"]}}
    return {"name": name, "label": label, "type": "query", "datasource": SOURCE,
            "query": {"query": query, "refId": name}, "definition": query, "refresh": 2, "sort": 1,
            **(every if multi else {"includeAll": False, "multi": False})}


def _panel(kind: str, title: str, text: str, unit: str, queries: Iterable[Query], *, instant: bool = False,
           **defaults: Any) -> Json:
    return {
        "type": kind, "title": title, "description": text, "datasource": SOURCE,
        "fieldConfig": {"defaults": {"unit": unit, **defaults}, "overrides": []},
        "targets": [{"refId": chr(ord("A") + index), "datasource": SOURCE, "expr": expression, "legendFormat": legend,
                     "instant": instant, "range": not instant} for index, (expression, legend) in enumerate(queries)]}


def _thresholds(steps: Steps | None) -> Json:
    values: list[tuple[float | None, str]] = [(None, GREEN), *zip(steps, (ORANGE, RED), strict=True)] if steps else [
        (None, BLUE)]
    return {"mode": "absolute", "steps": [{"value": value, "color": color} for value, color in values]}
