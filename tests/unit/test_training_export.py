"""From a run to a set of weights: what its JSON says, calibrated or not, and what is refused."""

import json
import shlex
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest

from emotionnet.classifier import load_classifier
from emotionnet.weights import Calibration, WeightsError, WeightsInfo, load_info
from emotiontrain import cli
from emotiontrain.data import Dataset, Split, load_data
from emotiontrain.recipe import PRESETS, Recipe
from tests.support.labelled import write_pictures

pytest.importorskip("torch", reason="needs emotiond[train]")
pytest.importorskip("onnxscript", reason="needs emotiond[train]")

import safetensors.torch
import torch

from emotionnet.export import round_kernels
from emotionnet.torch_classifier import load_network
from emotiontrain import train as module
from emotiontrain.calibrate import CalibrationError
from emotiontrain.checkpoint import read_state, write_tensors
from emotiontrain.evaluation.figures import classify, figures
from emotiontrain.export import calibrate_trained, export, notice, train_command
from emotiontrain.start import average, load_trained
from emotiontrain.train import RunError

pytestmark = [pytest.mark.slow, pytest.mark.timeout(400)]  # torch's exporter alone takes ten seconds of a free core

LABELS = ("bright", "dark")
RECIPE = Recipe(epochs=1, batch=8, vote_weight=0.5).with_options({"side": 32, "rotate": 3.0})
OPTIONS: dict[str, Any] = {"name": "own", "version": "0.1", "margin": 1.2, "shift_y": 0.05}


def with_votes(split: Split) -> Split:
    """Returns the split with ten votes a picture, all of them for its label."""
    votes = np.zeros((len(split), len(LABELS) + 1), np.int64)
    votes[np.arange(len(split)), split.labels] = 10
    return Split(split.names, split.pictures, split.labels, votes)


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Returns a folder of a set of one's own: 16 training, 120 validation and 8 test pictures of two classes."""
    folder = tmp_path_factory.mktemp("own")
    for split, count in (("train", 8), ("validation", 60), ("test", 4)):
        write_pictures(folder, split, LABELS, count, prefix=f"{split}-")
    return folder


@pytest.fixture(scope="module")
def data(pictures: Path) -> Dataset:
    """Returns what the folder holds, with votes."""
    data = load_data(str(pictures))
    return replace(data, train=with_votes(data.train), validation=with_votes(data.validation))


@pytest.fixture(scope="module")
def votes(data: Dataset, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Returns those votes of training and validation as a CSV."""
    lines = [f"{LABELS[label]},{name},{10 * (label == 0)},{10 * (label == 1)},0"
             for split in (data.train, data.validation) for name, label in zip(split.names, split.labels, strict=True)]
    file = tmp_path_factory.mktemp("votes") / "votes.csv"
    file.write_text("\n".join(["class,name,bright,dark,unknown", *lines]))
    return file


@pytest.fixture(scope="module")
def run(data: Dataset, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Returns a finished run of one epoch."""
    folder = tmp_path_factory.mktemp("runs") / "first"
    module.train(data, folder, RECIPE, module.Machine(threads=1))
    return folder


@pytest.fixture(scope="module")
def exported(run: Path, pictures: Path, votes: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Returns the set that the command makes of the run, calibrated on labels."""
    folder = tmp_path_factory.mktemp("weights") / "own"
    assert cli.main(["export", str(run), str(folder), "--name", "own", "--version", "0.1", "--margin", "1.2",
                     "--shift-y", "-0.05", "--data", str(pictures), "--votes", str(votes),
                     "--calibrate-on", "labels"]) == 0
    return folder


def test_a_set_of_ones_own_labels_says_where_it_came_from(exported: Path) -> None:
    info = load_info(exported)

    assert (info.model_id, info.labels) == ("own-0.1", LABELS)
    assert (info.input.side, info.input.margin, info.input.shift_y) == (32, 1.2, -0.05)
    made = info.provenance
    assert made["data"] == {"set": "a set of one's own", "train": {"bright": 8, "dark": 8},
                            "validation": {"bright": 60, "dark": 60}, "test": {"bright": 4, "dark": 4},
                            "dropped": made["data"]["dropped"], "sha256": made["data"]["sha256"]}
    assert made["finished"]
    assert made["epochs_run"] == made["best_epoch"]["epoch"] == made["recipe"]["epochs"] == 1
    assert set(made["versions"]) >= {"python", "torch", "numpy"}
    assert made["commands"] == [
        "emotiontrain train DATA RUN --votes VOTES --epochs 1 --batch 8 --vote-weight 0.5 --rotate 3.0 --side 32",
        "emotiontrain export RUN WEIGHTS --name own --version 0.1 --margin 1.2 --shift-y -0.05 --data DATA "
        "--votes VOTES --calibrate-on labels"]


def test_its_commands_are_taken_by_the_program(exported: Path) -> None:
    parser = cli.build_parser()

    train, export_ = (parser.parse_args(line.split()[1:]) for line in load_info(exported).provenance["commands"])

    assert PRESETS[train.preset].with_options({k: v for k, v in vars(train).items() if v is not None}) == RECIPE
    assert (export_.margin, export_.calibrate_on) == (1.2, "labels")


def test_no_file_tells_of_the_machine(exported: Path, run: Path, pictures: Path) -> None:
    for file in exported.iterdir():
        assert not [path for path in (run, pictures, exported) if str(path).encode() in file.read_bytes()], file


def test_the_set_is_calibrated_on_validation_as_the_daemon_classifies(exported: Path, data: Dataset) -> None:
    calibration = load_info(exported).calibration
    assert (calibration.split, calibration.truth, calibration.pictures) == ("validation", "labels", 120)
    assert calibration.temperature != 1

    measured = figures(classify(load_classifier(exported), data.validation.pictures), data.validation.labels, LABELS)

    assert measured["ece"] == pytest.approx(calibration.ece_after, abs=5e-3)


def test_votes_calibrate_where_they_are_asked_for(data: Dataset, run: Path, tmp_path: Path) -> None:
    info = export(run, tmp_path, **OPTIONS, data=data, on="votes")

    assert info.calibration.truth == "votes"
    assert info.provenance["commands"][1].endswith("--data DATA --votes VOTES --calibrate-on votes")


def test_without_data_nothing_is_calibrated_and_that_is_said(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(["export", str(run), str(tmp_path), "--version", "2"]) == 0

    assert load_info(tmp_path).calibration == Calibration()
    output = capsys.readouterr()
    assert output.err == "emotiontrain: not calibrated: temperature 1; give --data to fit it on validation\n"
    assert "first-2: first.onnx" in output.out      # as the run's folder is called


def test_a_run_still_under_way_gives_its_best_so_far_and_says_so(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copytree(run, tmp_path / "run")
    (tmp_path / "run/log.json").unlink()
    checkpoint, state = tmp_path / "run/checkpoint.safetensors", read_state(run)
    assert state is not None
    state["settings"]["recipe"]["epochs"] = 9
    write_tensors(checkpoint, safetensors.torch.load_file(checkpoint), {"state": json.dumps(state)})

    assert cli.main(["export", str(tmp_path / "run"), str(tmp_path / "out"), "--version", "1"]) == 0

    provenance = load_info(tmp_path / "out").provenance
    assert (provenance["finished"], provenance["epochs_run"]) == (False, 1)
    assert "this run is at epoch 1 of 9; not calibrated" in capsys.readouterr().err


def test_an_average_is_written_calibrated_and_told(
    run: Path, data: Dataset, pictures: Path, votes: Path, tmp_path: Path
) -> None:
    module.train(data, tmp_path / "next", RECIPE, module.Machine(threads=1), start=run)
    one, other = load_trained(tmp_path / "next"), load_trained(run)

    assert cli.main(["export", str(tmp_path / "next"), str(tmp_path / "out"), "--version", "1", "--data", str(pictures),
                     "--votes", str(votes), "--average", str(run), "--share", "0.25"]) == 0

    info = load_info(tmp_path / "out")
    mean = average(one, [(other, 0.25)])
    expected = round_kernels(mean.network).state_dict()
    written = load_network(info).state_dict()
    assert all(torch.allclose(tensor, expected[name], atol=1e-6) for name, tensor in written.items())
    assert info.calibration == calibrate_trained(mean, data, "votes")
    assert info.calibration != calibrate_trained(one, data, "votes")
    assert info.provenance["run"] == one.name
    assert info.provenance["start"] == other.name
    assert info.provenance["averaged"] == [{"with": other.name, "share": 0.25}]
    arguments = cli.build_parser().parse_args(info.provenance["commands"][1].split()[1:])
    assert (arguments.average, arguments.share) == ([Path("OTHER")], [0.25])


def test_a_mean_of_three_has_each_by_its_share(run: Path, data: Dataset, tmp_path: Path) -> None:
    for name in ("second", "third"):
        module.train(data, tmp_path / name, replace(RECIPE, seed=len(name)), module.Machine(threads=1), start=run)
    folders = (run, tmp_path / "second", tmp_path / "third")

    def export(*options: str) -> WeightsInfo:
        assert cli.main(["export", str(run), str(tmp_path / "out"), "--version", "1", "--average", str(folders[1]),
                         "--average", str(folders[2]), *options]) == 0
        return load_info(tmp_path / "out")

    for options, shares in ((("--share", ".2", "--share", ".3"), (.5, .2, .3)), ((), (1 / 3, 1 / 3, 1 / 3))):
        info = export(*options)
        tensors = [load_trained(folder).network.state_dict()["classify.linear.weight"] for folder in folders]
        expected = sum(share * tensor for share, tensor in zip(shares, tensors, strict=True))
        written = load_network(info).state_dict()["classify.linear.weight"]
        assert torch.allclose(written, cast(torch.Tensor, expected), atol=1e-3)
        assert [part["with"] for part in info.provenance["averaged"]] == [load_trained(f).name for f in folders[1:]]
        assert [part["share"] for part in info.provenance["averaged"]] == pytest.approx(shares[1:])


def test_the_command_that_training_names_next_is_taken(
    pictures: Path, votes: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "a run"
    assert cli.main(["train", str(pictures), str(folder), "--epochs", "1", "--batch", "8", "--side", "32",
                     "--threads", "1", "--votes", str(votes), "--vote-weight", "0.5"]) == 0
    told = shlex.split(capsys.readouterr().out.partition("next: ")[2])
    named = [{"WEIGHTS": str(tmp_path / "out"), "VERSION": "1"}.get(word, word) for word in told]

    assert cli.main([*named[1:], "--name", "own"]) == 0

    assert load_info(tmp_path / "out").calibration.truth == "votes"


def test_what_cannot_be_exported_is_refused_in_one_sentence_and_nothing_is_written(
    run: Path, data: Dataset, pictures: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    (tmp_path / "empty").mkdir()
    shutil.copytree(run, tmp_path / "damaged")
    (tmp_path / "damaged/best.safetensors").write_bytes(b"cut")
    for arguments, code, words in (
        ([str(tmp_path / "empty")], 1, "holds no epoch of a run; give the folder of"),
        ([str(tmp_path / "damaged")], 1, "not a run that can be read"),
        ([str(run), "--data", str(tmp_path / "nowhere")], 66, "no such folder or file"),
        ([str(run), "--data", str(pictures), "--calibrate-on", "votes"], 1, "give their CSV with --votes"),
        ([str(run), "--calibrate-on", "votes"], 2, "give them with --data"),
        ([str(run), "--share", "0.3"], 2, "--share is that of an --average; 0 and 1 are given"),
        ([str(run), "--average", str(run), "--average", str(run), "--share", "0.3"], 2, "2 and 1 are given"),
        ([str(run), *["--average", str(run), "--share", "0.5"] * 2], 1, "shares that sum to 1.00 leave nothing for"),
        ([str(run), "--average", str(tmp_path / "nowhere")], 1, "nowhere"),
        ([str(run), "--average", "builtin"], 1, "has other labels than first@"),
    ):
        assert cli.main(["export", arguments[0], str(out), "--version", "1", *arguments[1:]]) == code
        error = capsys.readouterr().err
        assert words in error
        assert error.count("\n") == 1
    for arguments, words in (
        (["--version", "1 / ä"], "'1 / ä' is not made of letters, digits and . _ + - alone"),
        (["--version", ""], "argument --version: '' is not made of"),
        (["--version", "1", "--name", "../escape"], "argument --name: '../escape' is not made of"),
        (["--version", "1", "--margin", "nan"], "argument --margin: 'nan' is not a number from 0.2 to 5"),
        (["--version", "1", "--shift-y", "9"], "argument --shift-y: '9' is not a number from -1 to 1"),
        (["--version", "1", "--share", "1"], "argument --share: '1' is not a number from 0.01 to 0.99"),
    ):
        with pytest.raises(SystemExit) as ended:
            cli.main(["export", str(run), str(out), *arguments])
        assert ended.value.code == 2
        assert words in capsys.readouterr().err
    for name in ("my run", "emotionnet"):
        assert cli.main(["export", str(tmp_path / name), str(out), "--version", "1"]) == 2
        assert capsys.readouterr().err == (f"emotiontrain: the run's folder is called '{name}', which is no name for a "
                                           "set of one's own; give --name\n")
    others = Dataset(("a", "b"), data.train, data.validation, data.test, {})
    with pytest.raises(RunError, match="was trained on bright, dark, but the data has a, b"):
        export(run, out, **OPTIONS, data=others)
    with pytest.raises(CalibrationError, match="--votes"):
        export(run, out, **OPTIONS, data=load_data(str(pictures)), on="votes")
    assert not out.exists()


def test_other_pictures_than_the_runs_do_not_calibrate_it(
    run: Path, pictures: Path, votes: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copytree(pictures, tmp_path / "other")
    shutil.copy(tmp_path / "other/train/dark/train-dark0.png", tmp_path / "other/validation/dark/more.png")

    for arguments in ([str(tmp_path / "other"), "--votes", str(votes)], [str(pictures)]):
        assert cli.main(["export", str(run), str(tmp_path / "out"), "--version", "1", "--data", *arguments]) == 1

        assert capsys.readouterr().err == (f"emotiontrain: {run}: was not trained on this data; give the same --data, "
                                           "and the --votes if it had some\n")
    assert not (tmp_path / "out").exists()


def test_votes_that_the_run_had_not_may_calibrate_it(data: Dataset, tmp_path: Path) -> None:
    plain = replace(data, train=replace(data.train, votes=None), validation=replace(data.validation, votes=None))
    module.train(plain, tmp_path / "run", RECIPE.with_options({"vote_weight": 0.0}), module.Machine(threads=1))

    assert export(tmp_path / "run", tmp_path / "out", **OPTIONS, data=data, on="votes").calibration.truth == "votes"


def test_too_few_pictures_to_calibrate_are_told_with_the_mend(run: Path, tmp_path: Path) -> None:
    info = export(run, tmp_path, **OPTIONS)
    few = replace(info, calibration=Calibration(split="validation", truth="labels", pictures=36))

    assert notice(few) == ("not calibrated: temperature 1, for 36 validation pictures say too little; give more of "
                           "them, 100 at least")


def test_a_teacher_wider_than_the_daemons_network_is_not_exported(data: Dataset, tmp_path: Path) -> None:
    module.train(data, tmp_path / "wide", RECIPE.with_options({"width": 2}), module.Machine(threads=1))

    with pytest.raises(WeightsError, match="2 times as wide"):
        export(tmp_path / "wide", tmp_path / "out", **OPTIONS)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("preset", sorted(PRESETS))
def test_the_command_of_a_preset_names_the_preset_alone(preset: str) -> None:
    extra = "" if preset == "default" else f" --preset {preset}"
    votes = " --votes VOTES" if PRESETS[preset].vote_weight else ""

    assert train_command(PRESETS[preset], None, []) == f"emotiontrain train DATA RUN{votes}{extra}"


def test_the_command_says_that_a_run_was_built_on_others() -> None:
    recipe = Recipe().with_options({"distill": 0.5})

    assert train_command(recipe, "emotionnet-1.0.0@0123456789ab", ["wide", "other"]) == (
        "emotiontrain train DATA RUN --start START --teacher TEACHER1 --teacher TEACHER2 --distill 0.5")
