"""From a run's folder to a set of weights that the daemon loads: calibrated, with where it came from in its JSON."""

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from emotionnet.export import round_kernels, save_weights
from emotionnet.weights import LABELS, LEAST_PICTURES, Calibration, Truth, WeightsInfo
from emotiontrain.calibrate import CalibrationError, calibrate
from emotiontrain.checkpoint import read_state
from emotiontrain.data import Dataset
from emotiontrain.data.sources import KAGGLE_SET
from emotiontrain.provenance import describe_data, digest_data, versions
from emotiontrain.recipe import PRESETS, Recipe
from emotiontrain.start import Trained, average, load_trained
from emotiontrain.train import LOG, RunError, best_entry, predict

FER2013_TEST = 3589
"""Pictures in FER2013's test split, which is always whole."""


def export(
    run: Path, folder: Path, *, name: str, version: str, margin: float, shift_y: float, data: Dataset | None = None,
    on: Truth = "labels", others: Sequence[tuple[Path, float]] = (),
) -> WeightsInfo:
    """Writes the best weights of a run as a set of weights.

    Args:
        run: folder of the run; one that is still under way gives its best weights so far, and the JSON says so.
        folder: gets the set.
        name: name of the set.
        version: version of the set.
        margin: of the daemon's crops, as in `InputSpec`.
        shift_y: of the daemon's crops, as in `InputSpec`.
        data: what the run was trained on; its validation split calibrates. Without it nothing is calibrated.
        on: what the calibration counts as true.
        others: runs and sets of weights whose weights are averaged with the run's, each with its share of that mean.

    Raises:
        RunError: `run` holds no run, or `data` is not what it was trained on.
        StartError: a file of the run cannot be read, or one of `others` is not like it.
        CalibrationError: votes are asked for and `data` has none.
        WeightsError: the run diverged, its network is wider than what is exported, or no set may have that name or
            version.
        OSError: the set cannot be written; what was in `folder` stays as it was.
    """
    log = _read_log(run)
    trained = load_trained(run)
    recipe = Recipe.from_json(log["recipe"])
    if data is not None:
        if on == "votes" and data.validation.votes is None:
            raise CalibrationError("--calibrate-on votes needs the votes; give their CSV with --votes")
        _check_data(run, trained, data, log.get("data", {}))
    of_run = trained.name
    loaded = [(load_trained(other), share) for other, share in others]
    averaged = [{"with": other.name, "share": share} for other, share in loaded]
    if loaded:
        trained = average(trained, loaded)
    averaging = "".join(f" --average OTHER --share {share}" for _, share in loaded)
    calibration = Calibration() if data is None else calibrate_trained(trained, data, on)
    voted = data is not None and data.validation.votes is not None
    calibrating = "" if data is None else f" --data DATA{' --votes VOTES' if voted else ''} --calibrate-on {on}"
    counts: dict[str, Any] = log.get("data") or (describe_data(data) if data else {})
    fer2013 = trained.labels == LABELS and sum(counts.get("test", {}).values()) == FER2013_TEST
    provenance = {
        "data": {"set": f"https://www.kaggle.com/datasets/{KAGGLE_SET}" if fer2013 else "a set of one's own", **counts},
        "run": of_run,
        "recipe": recipe.to_json(),
        "start": log.get("start"),
        "teachers": log.get("teachers", []),
        "averaged": averaged,
        "epochs_run": len(log["epochs"]),
        "finished": log.get("finished", len(log["epochs"]) >= recipe.epochs),
        "best_epoch": best_entry(log["epochs"]),
        "commands": [
            train_command(recipe, log.get("start"), log.get("teachers", [])),
            f"emotiontrain export RUN WEIGHTS --name {name} --version {version} --margin {margin} --shift-y {shift_y}"
            + averaging + calibrating,
        ],
        "versions": log.get("versions") or versions(),
    }
    return save_weights(
        folder, trained.network, name=name, version=version, labels=trained.labels,
        spec=replace(trained.spec, margin=margin, shift_y=shift_y), metrics={}, provenance=provenance,
        calibration=calibration)


def calibrate_trained(trained: Trained, data: Dataset, on: Truth) -> Calibration:
    """Fits a calibration of a trained network, its kernels rounded as they are exported, on validation.

    Raises:
        CalibrationError: as in `calibrate`.
    """
    network = round_kernels(trained.network)
    logits = predict(network, data.validation.pictures, trained.spec, torch.device("cpu"))
    return calibrate(logits.numpy(), data.validation, on)


def _check_data(run: Path, trained: Trained, data: Dataset, recorded: dict[str, Any]) -> None:
    """Refuses other pictures than the run's: its own training pictures may be among their validation.

    Votes may come on top where the run had none.

    Raises:
        RunError: they are others.
    """
    if trained.labels != data.labels:
        raise RunError(f"{run}: was trained on {', '.join(trained.labels)}, but the data has "
                       f"{', '.join(data.labels)}; give the data that it was trained on")
    plain = replace(data, train=replace(data.train, votes=None), validation=replace(data.validation, votes=None))
    if "sha256" in recorded and recorded["sha256"] not in (digest_data(data), digest_data(plain)):
        raise RunError(f"{run}: was not trained on this data; give the same --data, and the --votes if it had some")


def notice(info: WeightsInfo) -> str | None:
    """Returns what a person should know about the exported set, None where all is as it should be."""
    provenance, calibration = info.provenance, info.calibration
    sentences: list[str] = []
    if not provenance["finished"]:
        sentences.append(f"this run is at epoch {provenance['epochs_run']} of {provenance['recipe']['epochs']}")
    if calibration.truth is None:
        sentences.append("not calibrated: temperature 1; give --data to fit it on validation")
    elif not calibration.fitted:
        which = "validation pictures" + (" with a clear majority of votes" if calibration.truth == "votes" else "")
        sentences.append(f"not calibrated: temperature 1, for {calibration.pictures} {which} say too little; give "
                         f"more of them, {LEAST_PICTURES} at least")
    return "; ".join(sentences) or None


def train_command(recipe: Recipe, start: str | None, teachers: list[str]) -> str:
    """Returns the command that trains with `recipe`; what it does not say is the preset's of that version.

    What it reads stands there in capitals; `start` and `teachers` in the provenance name which ones they were.
    """
    preset, options = min(((name, _options(recipe, base)) for name, base in PRESETS.items()), key=lambda p: len(p[1]))
    parts = ["emotiontrain train DATA RUN"]
    parts += ["--votes VOTES"] if recipe.vote_weight else []
    parts += ["--start START"] if start else []
    parts += [f"--teacher TEACHER{number if len(teachers) > 1 else ''}" for number in range(1, len(teachers) + 1)]
    parts += [f"--preset {preset}"] if preset != "default" else []
    parts += [f"--{name.replace('_', '-')} {value}" for name, value in options.items()]
    return " ".join(parts)


def _options(recipe: Recipe, base: Recipe) -> dict[str, Any]:
    """Returns the values of `recipe` that are not those of `base`, by the names of their options."""
    own, other = _values(recipe), _values(base)
    return {name: value for name, value in own.items() if value != other[name]}


def _values(recipe: Recipe) -> dict[str, Any]:
    settings = recipe.to_json()
    augmentation: dict[str, Any] = settings.pop("augmentation")
    side = settings.pop("input")["side"]
    return settings | augmentation | {"side": side}


def _read_log(run: Path) -> dict[str, Any]:
    """Returns the log of a run, or what its checkpoint knows where the run is not at its end."""
    try:
        state = read_state(run) or {"log": []}
        if not state["log"]:
            raise RunError(f"{run}: holds no epoch of a run; give the folder of `emotiontrain train`")
        log: dict[str, Any] = {**state["settings"], "epochs": state["log"]}
        if (run / LOG).is_file():
            ended = json.loads((run / LOG).read_text(encoding="utf-8"))
            log |= ended if len(ended["epochs"]) == len(log["epochs"]) else {}
    except (OSError, ValueError, KeyError, TypeError) as error:
        reason = error.strerror if isinstance(error, OSError) and error.strerror else error
        raise RunError(f"{run}: holds no readable run ({reason}); give the folder of `emotiontrain train`") from error
    return log
