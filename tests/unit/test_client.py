"""`emotiond.client` is light, and its page and the AsyncAPI document say what is true."""

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml

from emotiond.asyncapi import asyncapi
from emotiond.client import Event, subscribe
from emotiond.events import AGGREGATE_TYPE, BODIES, StatusEvent, aggregate_fields, frame_fields, status_fields
from tests.conftest import require
from tests.support.daemon import with_path
from tests.support.javascript import MODULES
from tests.unit.test_events import AT_US, EVENT, STATUS, WINDOW

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs/client.md").read_text(encoding="utf-8")
DOCUMENT = ROOT / "docs/asyncapi.yaml"


def test_the_client_imports_no_more_than_its_page_says() -> None:
    code = "import sys, emotiond.client; print(*{name.partition('.')[0] for name in sys.modules if getattr(" \
           "sys.modules[name], '__file__', None) and 'site-packages' in sys.modules[name].__file__})"

    ended = subprocess.run([*with_path(), sys.executable, "-c", code], capture_output=True, text=True, timeout=60,
                           check=True)

    imported = {name for name in ended.stdout.split() if not name.startswith("_")}      # pip leaves some of those
    assert not imported & {"av", "cv2", "numpy", "onnxruntime", "torch", "prometheus_client", "rich"}
    assert "redis" in imported
    named = re.findall(r"pip install (hiredis [^`]+)`", PAGE)[0].split()
    needs = {"annotated_types", "dotenv", "pydantic", "pydantic_core", "typing_extensions", "typing_inspection"}
    assert imported - needs == {name.replace("-", "_").replace("pyyaml", "yaml") for name in named}


def test_the_page_lists_every_attribute_and_every_argument() -> None:
    attributes = set(re.findall(r"`(\w+)`", " ".join(re.findall(r"^\| (.*?) \|", PAGE, re.MULTILINE))))
    arguments = subscribe.__annotations__.keys() - {"url", "return"}

    assert set(Event.__struct_fields__) | {"faces"} <= attributes
    assert {name for name in arguments if not re.search(rf"`[^`\n]*\b{name}\b", PAGE)} == set()


def test_the_document_is_the_codes() -> None:
    printed = subprocess.run([*with_path(), sys.executable, "-m", "emotiond.asyncapi"], capture_output=True, text=True,
                             timeout=60, check=True).stdout

    assert printed == DOCUMENT.read_text(), "write it anew: python -m emotiond.asyncapi > docs/asyncapi.yaml"


@pytest.mark.parametrize("kind", BODIES)
def test_every_event_is_a_message_of_the_document(kind: str) -> None:
    document = asyncapi()
    body = STATUS.get(kind, EVENT)
    fields = (status_fields(kind, body, 3, AT_US, "edge-1") if isinstance(body, StatusEvent)
              else aggregate_fields(WINDOW, AT_US, 899, "edge-1") if kind == AGGREGATE_TYPE
              else frame_fields(body, AT_US, "edge-1"))
    message, = (each for each in document["components"]["messages"].values() if each["name"] == kind)
    headers = {name: value.decode() for name, value in fields.items() if name != "data"}

    assert set(document["components"]["schemas"]["Attributes"]["required"]) == headers.keys()
    for part, value in (("headers", headers), ("payload", json.loads(fields["data"]))):
        jsonschema.validate(value, {**message[part], "components": document["components"]},
                            jsonschema.Draft7Validator)


def test_every_message_is_of_one_channel() -> None:
    document = asyncapi()
    referred: list[Any] = [reference["$ref"] for channel in document["channels"].values()
                           for reference in channel["messages"].values()]

    assert sorted(referred) == sorted(f"#/components/messages/{name}" for name in document["components"]["messages"])


def test_the_document_conforms_to_asyncapis_own_schema() -> None:
    require("node modules")
    schema = json.loads((MODULES / "@asyncapi/specs/schemas/3.0.0.json").read_text())

    jsonschema.validate(yaml.safe_load(DOCUMENT.read_text()), schema, jsonschema.Draft7Validator)
