"""`emotiond model info|verify|export`: the classifier's weights, built in or the user's own."""

import argparse
import contextlib
import textwrap
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import yaml
from rich.console import Console

from emotiond.errors import CommandError, ConfigError, NoInputError
from emotionnet.classifier import Classifier, load_classifier
from emotionnet.labelled import read_test_pictures
from emotionnet.pictures import PicturesError
from emotionnet.weights import LEAST_PICTURES, Calibration, WeightsError, WeightsInfo, load_info, verify_file

AGREE = 1e-4  # most difference of a probability between the runtimes, which add up float32 in another order
APART = 2     # pictures that the accuracy may be away from the JSON's: near ties, which rounding decides
APART_INT8 = 20    # of a set in 8 bits, where another sum of float32 may be another of 256 levels


def main(args: argparse.Namespace) -> int:
    """Runs the action; 78 when the weights are refused, 66 when `verify` finds no pictures to measure them on."""
    try:
        if args.action == "info":
            return _info(load_info(args.weights))
        if args.action == "verify":
            return _verify(args.weights, args.data)
        return _export(args)
    except BrokenPipeError:
        raise
    except PicturesError as error:
        raise NoInputError(str(error)) from None
    except WeightsError as error:
        raise ConfigError(str(error)) from None
    except OSError as error:
        raise CommandError(str(error)) from None


def _info(info: WeightsInfo) -> int:
    print(f"model        {info.model_id}")
    print(f"labels       {', '.join(info.labels)}")
    print(f"parameters   {info.parameters:,}")
    print(f"input        {info.input.side}x{info.input.side} grey, margin {info.input.margin}, "
          f"shift {info.input.shift_y}")
    print(f"calibration  {_describe(info.calibration)}")
    print(f"abstains     below {info.calibration.abstain_below}{_describe_kept(info.calibration)}")
    for name, digest in info.sha256.items():
        print(f"sha256       {digest}  {name}")
    for title, values in (("metrics", info.metrics), ("provenance", info.provenance)):
        print(f"{title:12} {'' if values else 'none'}".rstrip())
        if values:
            text = yaml.safe_dump(values, sort_keys=False, default_flow_style=None, width=64)
            print(textwrap.indent(text, " " * 4), end="")
    return 0


def _describe(calibration: Calibration) -> str:
    """Says what was fitted, and what came of it."""
    if calibration.truth is None:
        return "none: temperature 1"
    if not calibration.fitted:
        return (f"none: temperature {calibration.temperature:g}; {calibration.pictures:,} validation pictures are too "
                f"few, export with {LEAST_PICTURES} at least")
    text = f"temperature {calibration.temperature}, {calibration.split}, {calibration.pictures:,} pictures, "
    text += "their labels" if calibration.truth == "labels" else f"their {calibration.truth}"
    return f"{text}: calibration error {calibration.ece_before or 0:.1%} before, {calibration.ece_after or 0:.1%} after"


def _describe_kept(calibration: Calibration) -> str:
    if calibration.accepted is None or calibration.accuracy is None:
        return ""
    return f": keeps {calibration.accepted:.1%} of those answers, {calibration.accuracy:.1%} of them right"


def _verify(weights: str, data: Path | None) -> int:
    """Loads with every runtime that is installed and compares their answers on the same pictures."""
    info = load_info(weights)
    for name, digest in info.sha256.items():
        verify_file(info.folder / name, digest)
    classifier = load_classifier(weights, "cpu")
    side = classifier.info.input.side
    crops = np.random.default_rng(0).integers(0, 256, (8, side, side), np.uint8)
    expected = classifier.classify(crops)
    print(f"onnxruntime  ok, {classifier.info.model_id}: hash, shape, classes, finite")
    if info.quantized:
        print("torch        not compared: a set in 8 bits is for CPUs")
    elif find_spec("torch") is None or find_spec("ultralytics") is None:
        print("torch        not installed, not compared")
    else:
        worst = float(np.abs(load_classifier(weights, "torch:cpu").classify(crops) - expected).max())
        if worst > AGREE:
            raise CommandError(f"torch and onnxruntime differ by {worst:.2g}; export the weights anew")
        print(f"torch        ok, differs by at most {worst:.1g}")
    if data is not None:
        _reproduce(classifier, data)
    return 0


def _reproduce(classifier: Classifier, data: Path) -> None:
    """Measures the accuracy on the test pictures of `data` and compares it with the JSON's.

    Raises:
        CommandError: it is another, or the JSON has none.
        NoInputError: the pictures are not as many as the JSON's.
        PicturesError: there are none that can be used.
    """
    info = classifier.info
    try:
        figures = info.metrics["test"]
        pictures, stated = int(figures["pictures"]), float(figures["accuracy"])
    except (TypeError, KeyError, ValueError):
        raise CommandError(f"{info.folder / info.name}.json: has no accuracy on test to compare with; "
                           "measure it with `emotiontrain evaluate --split test --store`") from None
    apart = APART_INT8 if info.quantized else APART
    console = Console(stderr=True)
    with console.status(f"measuring on {data}") if console.is_terminal else contextlib.nullcontext():
        crops, labels = read_test_pictures(data, info.labels, info.input.side)
        if len(labels) != pictures:
            raise NoInputError(f"{data}: holds {len(labels):,} test pictures, but {info.model_id} was measured on "
                               f"{pictures:,}; give the whole set that it was measured on")
        found = float((classifier.classify(crops).argmax(axis=1) == labels).mean())
    print(f"test         {pictures:,} pictures: accuracy {stated:.2%} in the JSON, {found:.2%} here, "
          f"{abs(found - stated) * 100:.2f} points apart; {apart} pictures, {apart / pictures:.2%}, may differ")
    if abs(found - stated) > apart / pictures + 0.5e-4:  # the JSON has four digits
        raise CommandError(f"{info.model_id} does not reproduce its accuracy on {data}; give the pictures that it was "
                           "measured on, or measure it anew with `emotiontrain evaluate --split test --store`")


def _export(args: argparse.Namespace) -> int:
    """Writes the set anew from its safetensors: the same network, ONNX made by the exporter installed here."""
    try:
        from emotionnet.export import save_weights
        from emotionnet.torch_classifier import load_network
    except ImportError as error:
        raise CommandError(f"exporting needs {error.name}; install emotiond[train]") from None
    info = load_info(args.weights)
    written = save_weights(
        args.output, load_network(info), name=info.name, version=info.version, labels=info.labels, spec=info.input,
        metrics=info.metrics, provenance=info.provenance, calibration=info.calibration)
    for name in (f"{written.name}.json", *written.sha256):
        print(args.output / name)
    return 0
