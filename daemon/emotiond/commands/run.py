"""`emotiond run`: the service, until a signal."""

import argparse
import contextlib
import logging
import os
import threading

from emotiond.config import Config, unknown_environment
from emotiond.config_file import load_config
from emotiond.embedded import embedded_valkey
from emotiond.errors import ConfigError
from emotiond.log import setup_logging
from emotiond.redact import redact
from emotiond.service import Service

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
    try:
        code = 0 if _serve(config, config.redis.url) else 1
    except SystemExit as forced:  # a second signal
        code = int(forced.code or 1)
    if threading.active_count() > 1:  # Python would wait for, or crash in, what did not end in time
        logging.shutdown()
        os._exit(code)
    return code


def _serve(config: Config, url: str) -> bool:
    with contextlib.ExitStack() as stack:
        if url == "embedded":
            url = stack.enter_context(embedded_valkey())
            log.warning("using an embedded Valkey: its data end with this process", extra={"url": redact(url)})
        return Service(config, url).run()
