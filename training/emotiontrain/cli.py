"""The command `emotiontrain`: look at the data, train, export a set of weights, evaluate it."""

import argparse
import json
import sys
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from emotionnet.classifier import load_classifier
from emotionnet.preprocess import FACE_MARGIN, FACE_SHIFT_Y, InputSpec
from emotionnet.weights import WeightsError, write_info
from emotiontrain.data import DataError, Dataset, load_data

DONE, FAILURE, NO_INPUT = 0, 1, 66
"""Exit codes; argparse adds 2 for wrong usage."""

_DATA_HELP = "folder or tar with train/<label>/*.jpg and test/<label>/*.jpg, or `kaggle`"


class CommandError(Exception):
    """The command cannot do what was asked; the message says why and how to mend it."""


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command and returns its exit code: 0 done, 1 failure, 2 usage, 66 no usable data."""
    arguments = build_parser().parse_args(argv)
    try:
        arguments.run(arguments)
    except DataError as error:
        return _fail(error, NO_INPUT)
    except (CommandError, WeightsError, RuntimeError, OSError) as error:
        return _fail(error, FAILURE)
    except KeyboardInterrupt:
        return _fail("interrupted; the same `train` goes on from its last whole epoch", FAILURE)
    return DONE


def _data(arguments: argparse.Namespace) -> None:
    data = load_data(arguments.data)
    for split, pictures in (("train", data.train), ("validation", data.validation), ("test", data.test)):
        print(f"{split:<11}{len(pictures):>6}  " + "  ".join(f"{k} {n}" for k, n in pictures.counts().items()))
    for reason, count in data.dropped.items():
        print(f"dropped    {count:>6}  {reason}")


def _train(arguments: argparse.Namespace) -> None:
    module = _import_torch_part("emotiontrain.train")
    recipe = module.Recipe()
    given = {field: getattr(arguments, field) for field in ("epochs", "batch", "learning_rate", "seed")}
    recipe = replace(recipe, **{k: v for k, v in given.items() if v is not None})
    if arguments.side:
        recipe = replace(recipe, input=replace(recipe.input, side=arguments.side))
    try:
        best = module.train(arguments.data, arguments.folder, recipe, arguments.device)
    except module.RunError as error:
        raise CommandError(str(error)) from error
    print(f"best on validation: epoch {best['epoch']}, {best['validation_accuracy']:.2%}; "
          f"next: emotiontrain export {arguments.folder} WEIGHTS --version VERSION")


def _export(arguments: argparse.Namespace) -> None:
    module = _import_torch_part("emotiontrain.export")
    try:
        info = module.export(arguments.run_folder, arguments.folder, name=arguments.name, version=arguments.version,
                             margin=arguments.margin, shift_y=arguments.shift_y)
    except module.RunError as error:
        raise CommandError(str(error)) from error
    if not info.provenance["finished"]:
        print(f"emotiontrain: this run is at epoch {info.provenance['epochs_run']} of "
              f"{info.provenance['recipe']['epochs']}", file=sys.stderr)
    sizes = ", ".join(f"{name} {(info.folder / name).stat().st_size / 1e6:.2f} MB" for name in info.sha256)
    print(f"{info.model_id}: {sizes}")


def _evaluate(arguments: argparse.Namespace) -> None:
    from emotiontrain.evaluate import evaluate, table
    classifier = load_classifier(arguments.weights, arguments.device)
    data: Dataset = load_data(arguments.data)
    split = data.test if arguments.split == "test" else data.validation
    result = evaluate(classifier, split)
    print(f"{classifier.info.model_id} on {arguments.split}, {table(result)}")
    if arguments.json:
        arguments.json.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")
    if arguments.store:
        metrics = classifier.info.metrics | {arguments.split: result}
        print(f"stored in {write_info(replace(classifier.info, metrics=metrics))}")


def _import_torch_part(name: str) -> Any:
    """Imports a module that needs torch, which takes seconds and is not in the base install."""
    import importlib
    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise CommandError(f"this command needs {error.name}; install emotiond[train]") from error


def build_parser() -> argparse.ArgumentParser:
    """Returns the parser of all commands."""
    parser = argparse.ArgumentParser(prog="emotiontrain", description="Trains EmotionNet on FER2013.")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    def add(name: str, run: Callable[[argparse.Namespace], None], text: str) -> argparse.ArgumentParser:
        command = commands.add_parser(name, help=text, description=text)
        command.set_defaults(run=run)
        return command

    command = add("data", _data, "Read and clean the data, and say what is in it.")
    command.add_argument("data", help=_DATA_HELP)

    command = add("train", _train, "Train, or go on with the run in RUN.")
    command.add_argument("data", help=_DATA_HELP)
    command.add_argument("folder", type=Path, metavar="RUN", help="folder for checkpoint, best weights and log")
    command.add_argument("--epochs", type=_positive)
    command.add_argument("--batch", type=_positive)
    command.add_argument("--learning-rate", type=float, help="at the top of the cycle")
    command.add_argument("--side", type=_side, help="of the network's input, a multiple of 32")
    command.add_argument("--seed", type=int)
    command.add_argument("--device", default="cpu", help="torch device (default: cpu)")

    command = add("export", _export, "Write the best weights of a run as a set for the daemon.")
    command.add_argument("run_folder", type=Path, metavar="RUN")
    command.add_argument("folder", type=Path, metavar="WEIGHTS", help="folder for the set")
    command.add_argument("--name", default="emotionnet")
    command.add_argument("--version", required=True)
    command.add_argument("--margin", type=float, default=FACE_MARGIN, help="a crop's side over its box's (%(default)s)")
    command.add_argument("--shift-y", type=float, default=FACE_SHIFT_Y, help="of a crop, in its sides (%(default)s)")

    command = add("evaluate", _evaluate, "Measure a set of weights as the daemon runs it.")
    command.add_argument("weights", help="JSON or folder of the set, or `builtin`")
    command.add_argument("data", help=_DATA_HELP)
    command.add_argument("--split", choices=("validation", "test"), default="validation")
    command.add_argument("--device", default="cpu", help="cpu (onnxruntime, the default) or a torch device")
    command.add_argument("--json", type=Path, metavar="FILE", help="write the figures there too")
    command.add_argument("--store", action="store_true", help="keep the figures in the JSON of the set")
    return parser


def _positive(text: str) -> int:
    if int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text} is not above 0")
    return int(text)


def _side(text: str) -> int:
    try:
        return InputSpec(side=int(text)).side
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from error


def _fail(error: object, code: int) -> int:
    print(f"emotiontrain: {error}", file=sys.stderr)
    return code


if __name__ == "__main__":
    sys.exit(main())
