"""The ways in which the daemon is measured: settings that trade accuracy for time, and the defaults."""

import json
from collections.abc import Mapping

Mode = Mapping[str, Mapping[str, object]]
"""Parts of a configuration."""

MODES: dict[str, Mode] = {
    "full": {},
    "full, 8 bits": {"classifier": {"weights": "builtin-int8"}},
    "tracking": {"detector": {"interval": 3}},
    "tracking, answers kept": {"detector": {"interval": 3}, "classifier": {"interval": 3}},
    "the same, 8 bits": {"detector": {"interval": 3}, "classifier": {"interval": 3, "weights": "builtin-int8"}},
}
LIVE = {name: MODES[name] for name in ("full", "tracking, answers kept", "the same, 8 bits")}

ABOUT = """\
*Full* searches every frame whole and classifies every face: the defaults. *Tracking* searches every third frame whole
and follows faces in between (`detector.interval: 3`); *answers kept* classifies followed faces in every third frame
only (`classifier.interval: 3` too). *8 bits* is `classifier.weights: builtin-int8`."""


def options(mode: Mode) -> list[str]:
    """Returns the command line of `alone.pipeline` for a mode."""
    return ["--config", json.dumps(mode)]
