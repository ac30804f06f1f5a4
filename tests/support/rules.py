"""The recording rules and alerts that are shipped."""

import re
from pathlib import Path
from typing import Any

import yaml

FILE = Path(__file__).parents[2] / "deploy/prometheus/emotiond.rules.yaml"
GROUPS: dict[str, list[dict[str, Any]]] = {
    group["name"]: group["rules"] for group in yaml.safe_load(FILE.read_text(encoding="utf-8"))["groups"]}
RULES = [rule for rules in GROUPS.values() for rule in rules]
ALERTS = {rule["alert"]: rule for rule in RULES if "alert" in rule}
RECORDED = {rule["record"] for rule in RULES if "record" in rule}
SHARD_ALERTS = {rule["alert"] for rule in GROUPS["emotiond-shards"]}
"""They need shards to have anything to compare."""

_OPERATOR = re.compile(r"\b(?:and|or|unless)\b(?: on \(·*\))?|[=!<>]=|[<>]")


def hurried(folder: Path) -> Path:
    """Writes the rules with their waits left out and their windows shortened, minutes to seconds; returns the file."""
    text = re.sub(r"^(\s+)for: \w+\n", "", FILE.read_text(encoding="utf-8"), flags=re.M)
    file = folder / "hurried.rules.yaml"
    file.write_text(hurry(text), encoding="utf-8")
    return file


def hurry(expression: str) -> str:
    """Makes the minutes of an expression's windows and offsets seconds, and at least four."""
    return re.sub(r"(\[|offset )(\d+)m\b", lambda match: f"{match[1]}{max(4, int(match[2]))}s", expression)


def operands(expression: str) -> list[str]:
    """Returns what `and`, `or`, `unless` and comparisons combine, within brackets too; numbers stay out.

    Of a healthy daemon's metrics each of them has data, whatever the alert says.
    """
    expression = " ".join(re.sub(r"#.*", "", expression).split())
    top = _top(expression)
    begins, ends = [0], list[int]()
    for operator in _OPERATOR.finditer(top):
        ends.append(operator.start())
        begins.append(operator.end())
    parts = [expression[begin:end].strip() for begin, end in zip(begins, [*ends, len(expression)], strict=True)]
    if len(parts) > 1:
        return [operand for part in parts for operand in operands(part)]
    if inner := re.fullmatch(r"(?:absent)?\((·*)\)", top):
        return operands(expression[inner.start(1):inner.end(1)])
    return [] if re.fullmatch(r"[\d.]+", expression) else [expression]


def _top(expression: str) -> str:
    """Puts a dot for every character that stands within brackets."""
    depth, top = 0, ""
    for character in expression:
        depth -= character in ")]}"
        top += "·" if depth else character
        depth += character in "([{"
    return top
