"""`emotiond config schema`: the JSON Schema of the configuration file."""

import argparse
import json

from emotiond.config import Config


def main(args: argparse.Namespace) -> int:
    """Prints the schema."""
    schema = Config.model_json_schema()
    schema["$schema"] = "https://json-schema.org/draft/2020-12/schema"
    print(json.dumps(schema, indent=2))
    return 0
