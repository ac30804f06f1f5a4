"""From a run's folder to a set of weights that the daemon loads, with where it came from in its JSON."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import safetensors.torch
from safetensors import SafetensorError

from emotionnet.export import save_weights
from emotionnet.network import EmotionNet
from emotionnet.preprocess import InputSpec
from emotionnet.weights import LABELS, WeightsInfo
from emotiontrain.checkpoint import STATE
from emotiontrain.data import KAGGLE_SET
from emotiontrain.train import BEST, LOG, RunError, versions


def export(run: Path, folder: Path, *, name: str, version: str, margin: float, shift_y: float) -> WeightsInfo:
    """Writes the best weights of a run as a set of weights.

    Args:
        run: folder of the run; one that is still under way gives its best weights so far, and the JSON says so.
        folder: gets the set.
        name: name of the set.
        version: version of the set.
        margin: of the daemon's crops, as in `InputSpec`.
        shift_y: of the daemon's crops, as in `InputSpec`.

    Raises:
        RunError: `run` holds no run, or one whose files cannot be read.
        WeightsError: the run diverged.
    """
    log = _read_log(run)
    recipe = log["recipe"]
    spec = replace(InputSpec(**recipe.pop("input")), margin=margin, shift_y=shift_y)
    recipe["input"] = {"side": spec.side, "mean": spec.mean, "std": spec.std}
    network = EmotionNet(3, len(LABELS))
    try:
        network.load_state_dict(safetensors.torch.load_file(run / BEST))
    except (OSError, SafetensorError, RuntimeError) as error:
        raise RunError(f"{run / BEST}: {str(error).splitlines()[0]}; run the training again") from error
    provenance = {
        "data": {"set": f"https://www.kaggle.com/datasets/{KAGGLE_SET}", **log.get("data", {})},
        "recipe": recipe,
        "epochs_run": len(log["epochs"]),
        "finished": len(log["epochs"]) == recipe["epochs"],
        "best_epoch": log["best"],
        "commands": [
            train_command(recipe),
            f"emotiontrain export RUN FOLDER --name {name} --version {version} --margin {margin} --shift-y {shift_y}",
        ],
        "versions": log.get("versions", versions()),
    }
    return save_weights(folder, network, name=name, version=version, labels=LABELS, spec=spec, metrics={},
                        provenance=provenance)


def train_command(recipe: dict[str, Any]) -> str:
    """Returns the command that trains with `recipe`; what it does not say is the default of that version."""
    return (f"emotiontrain train DATA RUN --epochs {recipe['epochs']} --batch {recipe['batch']} --learning-rate "
            f"{recipe['learning_rate']} --side {recipe['input']['side']} --seed {recipe['seed']}")


def _read_log(run: Path) -> dict[str, Any]:
    """Returns the log of a run, or what its checkpoint knows where the run is not at its end."""
    try:
        if (run / LOG).exists():
            return json.loads((run / LOG).read_text(encoding="utf-8"))
        state = json.loads((run / STATE).read_text(encoding="utf-8"))
        return {"recipe": state["recipe"], "epochs": state["log"],
                "best": max(state["log"], key=lambda epoch: epoch["validation_accuracy"])}
    except (OSError, ValueError, KeyError) as error:
        raise RunError(f"{run}: holds no readable run ({error}); give the folder of `emotiontrain train`") from error
