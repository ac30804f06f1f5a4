"""The command `emotiontrain`: look at the data, train, export a set of weights, evaluate it."""

import argparse
import contextlib
import json
import os
import re
import shlex
import sys
from collections.abc import Callable, Sequence
from dataclasses import fields, replace
from pathlib import Path
from typing import Any, get_args

import numpy as np
from rich.console import Console
from rich.progress import Progress

from emotionnet.files import write_whole
from emotionnet.preprocess import FACE_MARGIN, FACE_SHIFT_Y, MARGINS, SHIFTS, InputSpec
from emotionnet.weights import ONNX, WeightsError, is_word, load_info, write_info
from emotiontrain.data import DataError, load_data
from emotiontrain.data.report import describe
from emotiontrain.recipe import PRESETS, RecipeError

DONE, FAILURE, USAGE, NO_INPUT = 0, 1, 2, 66
"""Exit codes."""

_DATA_HELP = "folder or tar with train/<class>/ and, where there are such, val/<class>/ and test/<class>/; or " \
             "`kaggle` for FER2013"


class CommandError(Exception):
    """The command cannot do what was asked; the message says why and how to mend it."""


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command and returns its exit code: 0 done, 1 failure, 2 usage, 66 no usable data."""
    arguments = build_parser().parse_args(argv)
    try:
        arguments.run(arguments)
    except DataError as error:
        return _fail(error, NO_INPUT)
    except RecipeError as error:
        return _fail(error, USAGE)
    except (CommandError, WeightsError, RuntimeError, OSError) as error:
        return _fail(error, FAILURE)
    except KeyboardInterrupt:
        return _fail("interrupted; `train` goes on from its last whole epoch, anything else begins anew", FAILURE)
    return DONE


def _data(arguments: argparse.Namespace) -> None:
    sheet = _import_torch_part("emotiontrain.data.contact_sheet") if arguments.sheet else None
    data = load_data(arguments.data, arguments.votes)
    print(describe(data))
    if sheet:
        sheet.draw_sheet(data, arguments.sheet)
        print(f"\ncontact sheet: {arguments.sheet}")


def _votes(arguments: argparse.Namespace) -> None:
    from emotiontrain.data.ferplus import join_votes
    joined, lost = join_votes(arguments.data, arguments.pixels, arguments.votes, arguments.out)
    print(f"{joined:,} pictures with votes in {arguments.out}" + (f", {lost:,} found no row" if lost else ""))


def _train(arguments: argparse.Namespace) -> None:
    chosen = {name: value for name, value in vars(arguments).items() if value is not None}
    recipe = PRESETS[arguments.preset].with_options(chosen)
    if recipe.vote_weight and arguments.votes is None:
        raise RecipeError("--vote-weight needs the votes; give their CSV with --votes")
    if bool(recipe.distill) != bool(arguments.teacher):
        raise RecipeError("--teacher and --distill belong together; give both, or neither")
    module = _import_torch_part("emotiontrain.train")
    # Before the pictures are read, which takes a while.
    _import_torch_part("emotionnet.torch_classifier").find_device(arguments.device)
    data = load_data(arguments.data, arguments.votes)
    if os.environ.get("RANK", "0") == "0":  # torchrun starts several of these
        for note in data.notes:
            print(f"emotiontrain: {note}", file=sys.stderr)
    machine = module.Machine(arguments.device, arguments.threads, arguments.compile)
    best = module.train(data, arguments.folder, recipe, machine, start=arguments.start, teachers=arguments.teacher)
    if best:
        print(f"best on validation: epoch {best['epoch']}, {best['accuracy']:.2%}; "
              f"next: {_export_command(arguments.folder, arguments.data, arguments.votes)}")


def _export_command(run: Path, data: str, votes: Path | None) -> str:
    """Returns what exports a run; its set and version are still to be named."""
    voted = ["--votes", str(votes)] if votes else []
    return shlex.join(["emotiontrain", "export", str(run), "WEIGHTS", "--version", "VERSION", "--data", data, *voted])


def _export(arguments: argparse.Namespace) -> None:
    module = _import_torch_part("emotiontrain.export")
    if (arguments.votes or arguments.calibrate_on) and not arguments.data:
        raise RecipeError("--votes and --calibrate-on calibrate on validation pictures; give them with --data")
    others, shares = arguments.average, arguments.share or [1 / (len(arguments.average) + 1)] * len(arguments.average)
    if len(shares) != len(others):
        raise RecipeError(f"--share is that of an --average; {len(others)} and {len(shares)} are given")
    name = arguments.name or arguments.run_folder.resolve().name
    if not is_word(name) or (not arguments.name and name == load_info().name):
        raise RecipeError(f"the run's folder is called {name!r}, which is no name for a set of one's own; give --name")
    data = load_data(arguments.data, arguments.votes) if arguments.data else None
    info = module.export(
        arguments.run_folder, arguments.folder, name=name, version=arguments.version,
        margin=arguments.margin, shift_y=arguments.shift_y, data=data,
        on=arguments.calibrate_on or ("votes" if arguments.votes else "labels"),
        others=list(zip(others, shares, strict=True)))
    if notice := module.notice(info):
        print(f"emotiontrain: {notice}", file=sys.stderr)
    sizes = ", ".join(f"{name} {(info.folder / name).stat().st_size / 1e6:.2f} MB" for name in info.sha256)
    print(f"{info.model_id}: {sizes}, temperature {info.calibration.temperature}, "
          f"abstains below {info.calibration.abstain_below}")


def _quantize(arguments: argparse.Namespace) -> None:
    module = _import_torch_part("emotiontrain.quantize")
    info = load_info(arguments.weights)
    train = load_data(arguments.data).train
    drawn = np.random.default_rng(arguments.seed).permutation(len(train))[:arguments.pictures]
    command = ["emotiontrain", "quantize", "WEIGHTS", "DATA", "OUT", "--pictures", str(arguments.pictures),
               "--seed", str(arguments.seed)]
    written = module.quantize(
        info, train.pictures[drawn], arguments.folder, seed=arguments.seed, command=shlex.join(command))
    size = written.file(ONNX).stat().st_size
    print(f"{written.model_id}: {size / 1e6:.2f} MB, ranges from {len(drawn)} training pictures; next: "
          f"{shlex.join(['emotiontrain', 'evaluate', str(arguments.folder), arguments.data])}")


def _evaluate(arguments: argparse.Namespace) -> None:
    from emotiontrain.evaluation import report
    from emotiontrain.evaluation.figures import check_labels
    from emotiontrain.evaluation.parallel import load_parallel
    if arguments.report and arguments.report.exists() and not arguments.report.is_dir():
        raise CommandError(f"{arguments.report}: is a file; give --report the folder that the page goes into")
    threads = arguments.threads or os.cpu_count() or 1
    classifier = load_parallel(arguments.weights, arguments.device, threads)
    info = classifier.info
    data = load_data(arguments.data, arguments.votes, use=arguments.split)
    check_labels(info, data.labels)
    split = data.test if arguments.split == "test" else data.validation
    if not len(split):
        raise DataError(f"{arguments.data}: has no {arguments.split} pictures; add some, or measure another --split")
    options = ((f"--{name}", getattr(arguments, name)) for name in ("votes", "split", "device", "report"))
    command = ["emotiontrain", "evaluate", arguments.weights, arguments.data,
               *(str(part) for option, value in options if value for part in (option, value))]
    document = report.describe(info, data, arguments.split, arguments.data, shlex.join(command))
    if arguments.report:
        with Progress(console=Console(stderr=True), disable=not sys.stderr.isatty(), transient=True) as progress:
            task = progress.add_task("", total=report.STEPS)
            document |= report.measure_all(
                classifier, split, lambda what, passes: progress.update(task, advance=passes, description=what))
    else:
        document |= report.measure(classifier, split)
    print(f"{info.model_id} on {arguments.split}, {report.summary(document)}")
    for line in report.comparisons(document):
        print(line)
    if arguments.report:
        print(f"page: {report.write_page(arguments.report, document)}")
    if arguments.json:
        write_whole({arguments.json: (json.dumps(document, indent=2) + "\n").encode()})
    if arguments.store:
        metrics = info.metrics | {arguments.split: document["figures"]}
        print(f"stored in {write_info(replace(info, metrics=metrics))}")


def _import_torch_part(name: str) -> Any:
    """Imports a module that needs torch, which takes seconds and is not in the base install."""
    import importlib
    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise CommandError(f"this command needs {error.name}; install emotiond[train]") from error


def build_parser() -> argparse.ArgumentParser:
    """Returns the parser of all commands."""
    parser = argparse.ArgumentParser(prog="emotiontrain", description=(
        "Trains EmotionNet, on FER2013 or on pictures with classes of your own."))
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    def add(name: str, run: Callable[[argparse.Namespace], None], text: str) -> argparse.ArgumentParser:
        command = commands.add_parser(name, help=text, description=text)
        command.set_defaults(run=run)
        return command

    command = add("data", _data, "Read and clean FER2013 or pictures of your own, and say what is there.")
    command.add_argument("data", help=_DATA_HELP)
    command.add_argument("--votes", type=Path, metavar="CSV", help="taggers' votes, as FER+ has them")
    command.add_argument("--sheet", type=_png, metavar="FILE.png", help="draw some pictures of each class there, "
                         "as they are and as training varies them")

    command = add("votes", _votes, "Join FER+'s votes to the pictures of FER2013, by the pixels of fer2013.csv.")
    command.add_argument("data", help=_DATA_HELP)
    command.add_argument("pixels", type=Path, metavar="FER2013.CSV", help="the challenge's file, with the pixels")
    command.add_argument("votes", type=Path, metavar="FER2013NEW.CSV", help="FER+'s file, with the votes")
    command.add_argument("out", type=Path, metavar="VOTES.CSV", help="what `train --votes` reads")

    command = add("train", _train, "Train, or go on with the run in RUN.")
    command.add_argument("data", help=_DATA_HELP)
    command.add_argument("folder", type=Path, metavar="RUN", help="folder for checkpoint, best weights and logs")
    command.add_argument("--votes", type=Path, metavar="CSV", help="taggers' votes, as FER+ has them")
    command.add_argument("--start", type=Path, metavar="WEIGHTS", help="begin with this set, or run's folder")
    command.add_argument("--teacher", type=Path, metavar="WEIGHTS", action="append", default=[],
                         help="distil the outputs of this set of weights, or run's folder; several are averaged")
    command.add_argument("--device", default="cpu", help="torch device; `cuda` under torchrun takes a GPU a process")
    command.add_argument("--threads", type=_positive, default=0, help="CPU threads a process (default: all cores)")
    command.add_argument("--compile", action="store_true", help="torch.compile the network; needs a C++ compiler")
    add_recipe(command)

    command = add("export", _export, "Write the best weights of a run as a set for the daemon.")
    command.add_argument("run_folder", type=Path, metavar="RUN")
    command.add_argument("folder", type=Path, metavar="WEIGHTS", help="folder for the set")
    command.add_argument("--name", type=_word, help="of the set (default: what RUN's folder is called)")
    command.add_argument("--version", type=_word, required=True, help="of the set; events name both, as in mine-1.0.0")
    command.add_argument("--margin", type=_within(*MARGINS), default=FACE_MARGIN,
                         help="a crop's side over its box's (%(default)s)")
    command.add_argument("--shift-y", type=_within(*SHIFTS), default=FACE_SHIFT_Y,
                         help="of a crop, in its sides (%(default)s)")
    command.add_argument("--average", type=Path, action="append", default=[], metavar="OTHER",
                         help="write the mean of the run's weights and those of another run or set, which should have "
                              "begun with the same weights; may be given several times")
    command.add_argument("--share", type=_within(0.01, 0.99), action="append",
                         help="that OTHER's part of the mean, which is theirs in equal parts by default: with 0.25 for "
                              "the only one, three quarters are the run's")
    command.add_argument("--data", help="calibrate on the validation split of this: " + _DATA_HELP)
    command.add_argument("--votes", type=Path, metavar="CSV", help="taggers' votes, as FER+ has them")
    command.add_argument("--calibrate-on", choices=("labels", "votes"),
                         help="what counts as true (default: votes where they are given)")

    command = add("quantize", _quantize, "Write a set of weights in 8-bit integers, for CPUs.")
    command.add_argument("weights", help="JSON or folder of the set, or `builtin`")
    command.add_argument("data", help="its training pictures: " + _DATA_HELP)
    command.add_argument("folder", type=Path, metavar="OUT", help="folder for the quantised set")
    command.add_argument("--pictures", type=_positive, default=512, help="so many give the ranges (%(default)s)")
    command.add_argument("--seed", type=int, default=0, help="draws them (%(default)s)")

    command = add("evaluate", _evaluate, "Measure a set of weights as the daemon runs it.")
    command.add_argument("weights", help="JSON or folder of the set, or `builtin`")
    command.add_argument("data", help=_DATA_HELP)
    command.add_argument("--votes", type=Path, metavar="CSV", help="taggers' votes, as FER+ has them")
    command.add_argument("--split", choices=("validation", "test"), default="validation",
                         help="(default: %(default)s)")
    command.add_argument("--report", type=Path, metavar="FOLDER", help="measure robustness, the daemon's path and "
                         "speed too, and write all of it there as one page, index.html")
    command.add_argument("--device", default="cpu", help="cpu (onnxruntime, the default) or a torch device")
    command.add_argument("--threads", type=_positive, default=0, help="CPU threads (default: all cores)")
    command.add_argument("--json", type=Path, metavar="FILE", help="write all figures there too")
    command.add_argument("--store", action="store_true", help="keep the figures in the JSON of the set")
    return parser


def _positive(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text} is no whole number from 1 on")
    return int(text)


def add_recipe(command: argparse.ArgumentParser) -> None:
    """Adds an option for each value of a recipe; what it means is said where the recipe defines it."""
    group = command.add_argument_group("recipe")
    group.add_argument("--preset", choices=sorted(PRESETS), default="default", help="(default: %(default)s)")
    group.add_argument("--side", type=_side, help="of the network's input, a multiple of 32 "
                       f"(default: {PRESETS['default'].input.side})")
    for owner in (PRESETS["default"], PRESETS["default"].augmentation):
        meaning = _attributes(type(owner))
        for field in fields(owner):
            value = getattr(owner, field.name)
            if isinstance(value, int | float | str):
                choices = get_args(field.type)
                group.add_argument(
                    f"--{field.name.replace('_', '-')}", type=type(value), choices=choices or None,
                    help=f"{meaning[field.name]} (default: {value})".replace("%", "%%"))


def _attributes(kind: type) -> dict[str, str]:
    """Returns attribute -> meaning, as the docstring of `kind` has them."""
    found = re.findall(r"^ {4,8}(\w+): (.+(?:\n {9,}.+)*)", (kind.__doc__ or "").split("Attributes:")[1], re.MULTILINE)
    return {name: " ".join(meaning.split()).rstrip(".").replace("`", "") for name, meaning in found}


def _side(text: str) -> int:
    try:
        return InputSpec(side=int(text)).side
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from error


def _word(text: str) -> str:
    if not is_word(text):
        raise argparse.ArgumentTypeError(f"{text!r} is not made of letters, digits and . _ + - alone, a letter or "
                                         "digit first, 64 at most")
    return text


def _within(least: float, most: float) -> Callable[[str], float]:
    """Returns a type of option that takes numbers from `least` to `most`."""
    def number(text: str) -> float:
        with contextlib.suppress(ValueError):
            if least <= float(text) <= most:
                return float(text)
        raise argparse.ArgumentTypeError(f"{text!r} is not a number from {least:g} to {most:g}")
    return number


def _png(text: str) -> Path:
    if Path(text).suffix.lower() != ".png":
        raise argparse.ArgumentTypeError(f"{text} does not end in .png")
    return Path(text)


def _fail(error: object, code: int) -> int:
    print(f"emotiontrain: {error}", file=sys.stderr)
    return code

