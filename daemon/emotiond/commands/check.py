"""`emotiond check`: validates a configuration, and with --connect everything it names."""

import argparse
import os
import sys
from pathlib import Path

import redis.exceptions

from emotiond.config import Config, unknown_environment
from emotiond.config_file import load_service_config
from emotiond.errors import ConfigError, UnavailableError
from emotiond.opening import OpenError, open_source
from emotiond.pipeline import choose_devices, load_model_info, load_models
from emotiond.redact import redact
from emotiond.shard import own_streams
from emotiond.source import EndedError
from emotiond.store import Store, describe
from emotiond.timeline import abstain_below


def main(args: argparse.Namespace) -> int:
    """Checks; 0, 78 when the file is wrong, or 69 when something it names is not available."""
    config = load_checked_config(args.config)
    for name in unknown_environment():
        print(f"emotiond: environment variable {name} means nothing to emotiond", file=sys.stderr)
    if args.connect:
        _connect(config)
    count, shard = len(config.streams), config.shard
    own = f", {len(own_streams(config.streams, shard))} of them for shard {shard.index} of {shard.count}"
    print(f"{args.config}: ok, {count} stream{'s' if count != 1 else ''}{own if shard.count > 1 else ''}")
    return 0


def load_checked_config(path: Path, added: bytes | None = None) -> Config:
    """Reads a configuration with all that the service would refuse before it starts.

    Args:
        path: the file.
        added: as of `load_service_config`.

    Raises:
        ConfigError: as `load_service_config`, or the weights are not usable.
    """
    config = load_service_config(path, added)
    try:
        load_model_info(config)
    except ConfigError as error:
        raise ConfigError(f"{path}: {error}") from None
    return config


def _connect(config: Config) -> None:
    *_, (_, classifier) = (load_models(config, device) for device in choose_devices(config.compute.device))
    print(f"models: ok, {classifier.info.model_id}, abstains below "
          f"{abstain_below(config.classifier, classifier.info)}")
    if fault := _spool_fault(config.spool.file):
        raise ConfigError(fault)
    print(f"spool: ok, {config.spool.file or 'in memory'}")
    faults: list[str] = []
    if config.redis.url and config.redis.url != "embedded":
        try:
            Store(config.redis, config.redis.url).ping()
            print("redis: ok")
        except (redis.exceptions.RedisError, OSError) as error:
            faults.append(f"redis.url: {describe(error, config.redis.url)}")
    for name, stream in own_streams(config.streams, config.shard).items():
        try:
            source = open_source(stream)
            try:
                if next(source.frames(), None) is None:
                    faults.append(f"streams.{name}.source: has no frame; check the camera")
                    continue
            finally:
                source.close()
            print(f"streams.{name}: ok, {source.codec} {source.size[0]}x{source.size[1]}")
        except (OpenError, EndedError) as error:
            faults.append(f"streams.{name}.source: {error}")
    if faults:
        raise UnavailableError("\n".join(redact(fault) for fault in faults))


def _spool_fault(file: Path | None) -> str | None:
    """Says why the spool's file could not be written, None where it can; nothing is made."""
    if file is None:
        return None
    existing = next(path for path in (file, *file.absolute().parents) if os.path.exists(path))
    if os.path.isdir(file) or not (os.path.isdir(existing) or existing == file):
        return f"spool.path: {file} can be no file; name another one"
    if not os.access(existing, os.W_OK if existing == file else os.W_OK | os.X_OK):
        return f"spool.path: {file} cannot be written; name a file in a folder that the daemon's user may write"
    return None
