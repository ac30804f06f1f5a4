"""`emotiond model info|verify|export`: the classifier's weights, built in or the user's own."""

import argparse
import json
from importlib.util import find_spec

import numpy as np

from emotiond.errors import CommandError, ConfigError
from emotionnet.classifier import load_classifier
from emotionnet.weights import WeightsError, WeightsInfo, load_info, verify_file

AGREE = 1e-4  # most difference of a probability between the runtimes, which add up float32 in another order


def main(args: argparse.Namespace) -> int:
    """Runs the action; 78 when the weights are refused."""
    try:
        if args.action == "info":
            return _info(load_info(args.weights))
        if args.action == "verify":
            return _verify(args.weights)
        return _export(args)
    except BrokenPipeError:
        raise
    except (WeightsError, OSError) as error:
        raise ConfigError(str(error)) from None


def _info(info: WeightsInfo) -> int:
    print(f"model        {info.model_id}")
    print(f"labels       {', '.join(info.labels)}")
    print(f"parameters   {info.parameters:,}")
    print(f"input        {info.input.side}x{info.input.side} grey, margin {info.input.margin}, "
          f"shift {info.input.shift_y}")
    for name, digest in info.sha256.items():
        print(f"sha256       {digest}  {name}")
    for title, values in (("metrics", info.metrics), ("provenance", info.provenance)):
        print(f"{title:12} {json.dumps(values)}")
    return 0


def _verify(weights: str) -> int:
    """Loads with every runtime that is installed and compares their answers on the same pictures."""
    info = load_info(weights)
    for name, digest in info.sha256.items():
        verify_file(info.folder / name, digest)
    classifier = load_classifier(weights, "cpu")
    side = classifier.info.input.side
    crops = np.random.default_rng(0).integers(0, 256, (8, side, side), np.uint8)
    expected = classifier.classify(crops)
    print(f"onnxruntime  ok, {classifier.info.model_id}: hash, shape, classes, finite")
    if find_spec("torch") is None or find_spec("ultralytics") is None:
        print("torch        not installed, not compared")
        return 0
    worst = float(np.abs(load_classifier(weights, "torch:cpu").classify(crops) - expected).max())
    if worst > AGREE:
        raise CommandError(f"torch and onnxruntime differ by {worst:.2g}; export the weights anew")
    print(f"torch        ok, differs by at most {worst:.1g}")
    return 0


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
        metrics=info.metrics, provenance=info.provenance)
    for name in (f"{written.name}.json", *written.sha256):
        print(args.output / name)
    return 0
