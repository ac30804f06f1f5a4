"""`emotiond run`: the service, until a signal."""

import argparse
import contextlib
import logging

from emotiond.config import unknown_environment
from emotiond.config_file import load_config
from emotiond.errors import ConfigError
from emotiond.log import setup_logging
from emotiond.redact import redact
from emotiond.service import Service
from emotiond.store import embedded_valkey

log = logging.getLogger(__name__)


def main(args: argparse.Namespace) -> int:
    """Runs the service; 0 after a clean stop, 1 after a failure or when events could not be delivered in time."""
    config = load_config(args.config)
    setup_logging(config.log.format, config.log.level)
    for name in unknown_environment():
        log.warning("environment variable means nothing to emotiond", extra={"variable": name})
    if not config.streams:
        raise ConfigError(f"{args.config}: streams: there is none; add one like `lobby: {{source: rtsp://camera/}}`")
    if config.redis.url is None:
        raise ConfigError(f"{args.config}: redis.url: is missing; name a server like redis://localhost:6379/0, "
                          "or write embedded to have a Valkey started here")
    with contextlib.ExitStack() as stack:
        url = config.redis.url
        if url == "embedded":
            url = stack.enter_context(embedded_valkey())
            log.warning("using an embedded Valkey: its data end with this process", extra={"url": redact(url)})
        return 0 if Service(config, url).run() else 1
