"""`emotiond run`: the service, until a signal."""

import argparse
import contextlib
import logging
import os
import signal
import threading
from functools import partial
from pathlib import Path

from emotiond.commands.check import load_checked_config
from emotiond.config import Config, unknown_environment
from emotiond.config_file import load_service_config
from emotiond.embedded import embedded_valkey
from emotiond.log import setup_logging
from emotiond.redact import redact
from emotiond.reload import FileWatch
from emotiond.service import Service

log = logging.getLogger(__name__)


def main(args: argparse.Namespace) -> int:
    """Runs the service; 0 after a clean stop, 1 after a failure or when events could not be delivered in time."""
    signal.signal(signal.SIGHUP, signal.SIG_IGN)  # until there is something to reload
    watch = FileWatch(args.config)  # before it is read: what changes from now on is a change
    config = load_service_config(args.config)
    setup_logging(config.log.format, config.log.level)
    for name in unknown_environment():
        log.warning("environment variable means nothing to emotiond", extra={"variable": name})
    try:
        code = 0 if _serve(config, args.config, watch if config.watch_config else None) else 1
    except SystemExit as forced:  # a second signal
        code = int(forced.code or 1)
    if threading.active_count() > 1:  # Python would wait for, or crash in, what did not end in time
        logging.shutdown()
        os._exit(code)
    return code


def _serve(config: Config, path: Path, watch: FileWatch | None) -> bool:
    url = config.redis.url or ""
    with contextlib.ExitStack() as stack:
        if url == "embedded":
            url = stack.enter_context(embedded_valkey())
            log.warning("using an embedded Valkey: its data end with this process", extra={"url": redact(url)})
        return Service(config, url, load=partial(load_checked_config, path), watch=watch).run()
