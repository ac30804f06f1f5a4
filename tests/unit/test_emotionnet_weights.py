"""Sets of weights: what is read, and what is refused in which words."""

import hashlib
import json
import os
import re
import resource
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from emotionnet.classifier import load_classifier
from emotionnet.files import write_whole
from emotionnet.weights import BUILTIN, LABELS, Calibration, WeightsError, load_info, write_info

LADDER = Path(__file__).parents[2] / "training/ladder"

Change = Callable[[dict[str, Any]], object]


@pytest.fixture
def weights(tmp_path: Path) -> Path:
    """Returns a folder with a copy of the built-in set."""
    for file in BUILTIN.parent.glob("emotionnet.*"):
        shutil.copy(file, tmp_path)
    return tmp_path


def rewrite(folder: Path, change: Change) -> None:
    """Applies `change` to the JSON of the set."""
    path = folder / "emotionnet.json"
    content = json.loads(path.read_text())
    change(content)
    path.write_text(json.dumps(content))


def replace_file(folder: Path, name: str, content: bytes) -> None:
    """Puts other content in place of a file of the set, with its hash in the JSON."""
    (folder / name).write_bytes(content)
    rewrite(folder, lambda c: c["sha256"].update({name: hashlib.sha256(content).hexdigest()}))


def refusal(folder: str | Path) -> str:
    """Returns the sentence with which the set is refused."""
    with pytest.raises(WeightsError) as caught:
        load_classifier(folder)
    message = str(caught.value)
    assert "\n" not in message
    return message


def test_the_built_in_set_says_what_it_is() -> None:
    info = load_info()

    assert info.labels == LABELS == tuple(sorted(LABELS))
    assert info.parameters == 1_768_551
    assert info.model_id == f"emotionnet-{info.version}"
    assert set(info.sha256) == {"emotionnet.onnx", "emotionnet.safetensors"}


def test_the_built_in_set_is_whole_and_below_8_mb() -> None:
    info = load_info()

    assert sum(len(info.read(suffix)) for suffix in (".onnx", ".safetensors")) < 8e6


def test_the_model_card_tells_the_figures_of_the_json() -> None:
    info = load_info()
    card = (info.folder / "README.md").read_text(encoding="utf-8")

    assert card.startswith(f"# EmotionNet {info.version}: model card")
    for split in ("validation", "test"):
        figures = info.metrics[split]
        assert f"{figures['accuracy']:.1%}".replace("%", " %") in card
        assert f"{figures['macro_f1']:.3f}" in card
        told = [value for block in (figures, figures.get("votes", {})) for name, value in block.items()
                if name in {"accuracy", "ece", "balanced_accuracy"}]
        assert [value for value in told if f"{value:.1%}".replace("%", " %") not in card] == []
    for label, row in zip(info.labels, info.metrics["test"]["confusion"], strict=True):
        assert f"| **{label}** | " + " | ".join(map(str, row)) + " |" in card


def test_the_ladders_weights_are_whole_and_in_the_shipped_mean() -> None:
    ladder, shipped = load_info(LADDER), load_info()

    assert all(ladder.read(suffix) for suffix in (".onnx", ".safetensors"))
    before = shipped.provenance["start"]      # the ladder's fourth stage
    assert before == ladder.provenance["start"]
    for weights in (shipped, ladder):
        assert before in {part["with"] for part in weights.provenance["averaged"]}


@pytest.mark.parametrize("page", ["README.md", "CHANGELOG.md", "training/RESULTS.md"])
def test_the_pages_tell_the_figures_of_the_weights(page: str) -> None:
    text = (LADDER.parents[1] / page).read_text(encoding="utf-8")
    shipped, ladder = load_info().metrics["test"], load_info(LADDER).metrics["test"]

    for accuracy in (shipped["accuracy"], shipped["votes"]["accuracy"], ladder["accuracy"]):
        told = {f"{100 * accuracy:.1f}", f"{100 * accuracy:.2f}"}
        assert told & set(re.findall(r"(?<![\d.])\d+\.\d+", text)), accuracy


def test_the_shipped_weights_keep_to_what_is_promised_of_them() -> None:
    test = load_info().metrics["test"]

    assert test["accuracy"] >= 0.66
    assert test["votes"]["accuracy"] >= 0.85
    assert test["votes"]["ece"] <= 0.03
    assert min(test["recall"].values()) > 0.1


def test_a_set_from_before_calibration_loads_uncalibrated(weights: Path) -> None:
    rewrite(weights, lambda c: c.pop("calibration", None))

    assert load_info(weights).calibration == Calibration(temperature=1.0, abstain_below=0.4)


def test_a_calibration_is_read_back_equal(weights: Path) -> None:
    calibration = Calibration(1.25, 0.55, "validation", "votes", 2854, 0.1062, 0.0125, 0.86, 0.901)

    write_info(replace(load_info(weights), calibration=calibration))

    assert load_info(weights).calibration == calibration


@pytest.mark.parametrize(("change", "words"), [
    ({"temperature": 0}, r"in the calibration: Expected `float` >= 0\.01 - at `\$\.temperature`"),
    ({"temperature": -1.5}, r"`float` >= 0\.01 - at `\$\.temperature`"),
    ({"temperature": 10**400}, "out of range|temperature"),
    ({"temperature": None}, r"got `null` - at `\$\.temperature`"),
    ({"temperature": True}, r"got `bool` - at `\$\.temperature`"),
    ({"temperature": "warm"}, r"got `str` - at `\$\.temperature`"),
    ({"abstain_below": 1.01}, r"`float` <= 1\.0 - at `\$\.abstain_below`"),
    ({"abstain_below": None}, r"got `null` - at `\$\.abstain_below`"),
    ({"ece_after": -0.1}, r"`float` >= 0\.0 - at `\$\.ece_after`"),
    ({"pictures": "many"}, r"`int`, got `str` - at `\$\.pictures`"),
    ({"pictures": -1}, r"`int` >= 0 - at `\$\.pictures`"),
    ({"split": 3}, r"`str \| null`, got `int` - at `\$\.split`"),
    ({"split": "\x1b[31m"}, r"matching regex .* - at `\$\.split`"),
    ({"truth": "guesses"}, r"Invalid enum value 'guesses' - at `\$\.truth`"),
    ({"bias": 1}, "the calibration has an unknown 'bias'"),
])
def test_a_calibration_that_cannot_be_right_is_refused(weights: Path, change: dict[str, object], words: str) -> None:
    rewrite(weights, lambda c: c.update(calibration=change))

    message = refusal(weights)

    assert message.startswith(str(weights / "emotionnet.json"))
    assert re.search(words, message)


def test_a_json_whose_temperature_is_not_that_of_the_onnx_is_refused(weights: Path) -> None:
    calibration = load_info(weights).calibration
    write_info(replace(load_info(weights), calibration=replace(calibration, temperature=calibration.temperature * 2)))

    assert f"but the JSON beside it says {calibration.temperature * 2}; export the set again" in refusal(weights)


def test_on_a_full_disk_the_old_files_stay_and_no_parts(weights: Path) -> None:
    before = {file.name: file.read_bytes() for file in weights.iterdir()}
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, hard))  # larger files are written in part, then fail
    try:
        with pytest.raises(OSError, match=r"emotionnet\.onnx: cannot be written \(.+\); make room or") as caught:
            write_whole({weights / "emotionnet.json": b"{}", weights / "emotionnet.onnx": bytes(200_000)})
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))

    assert "\n" not in str(caught.value)
    assert {file.name: file.read_bytes() for file in weights.iterdir()} == before


@pytest.mark.parametrize("moment", ["fsync", "replace"])
def test_an_interrupted_write_leaves_whole_files_and_no_parts(
    weights: Path, monkeypatch: pytest.MonkeyPatch, moment: str
) -> None:
    before = {file.name: file.read_bytes() for file in weights.iterdir()}
    new = {f"emotionnet{suffix}": bytes(1000) for suffix in (".onnx", ".safetensors", ".json")}
    owner = os if moment == "fsync" else Path
    done, real = 0, getattr(owner, moment)

    def stop(*arguments: Any) -> Any:
        nonlocal done
        done += 1
        if done == 2:
            raise KeyboardInterrupt
        return real(*arguments)

    with monkeypatch.context() as patch:
        patch.setattr(owner, moment, stop)
        with pytest.raises(KeyboardInterrupt):
            write_whole({weights / name: content for name, content in new.items()})

    after = {file.name: file.read_bytes() for file in weights.iterdir()}
    if moment == "fsync":
        assert after == before
    else:       # the first has its place, and the JSON, which comes last, is the old one
        assert after == before | {"emotionnet.onnx": new["emotionnet.onnx"]}
        assert "its sha256 is" in refusal(weights)


def test_a_place_below_a_file_is_refused_in_a_sentence(weights: Path) -> None:
    for path in (weights / "emotionnet.json/new.json", weights / "emotionnet.json/folder/new.json"):
        with pytest.raises(OSError, match=r"new\.json: cannot be written \(a file is where its folder should be\)"):
            write_whole({path: b"{}"})


def test_a_set_is_named_by_its_json_or_by_its_folder(weights: Path) -> None:
    assert load_info(weights) == load_info(weights / "emotionnet.json") == load_info(str(weights))


def test_what_is_written_is_read_back_equal(weights: Path) -> None:
    info = load_info(weights)

    write_info(info)

    assert load_info(weights) == info
    assert list(weights.glob("*.part")) == []


def test_another_hash_is_refused(weights: Path) -> None:
    path = weights / "emotionnet.onnx"
    path.write_bytes(path.read_bytes()[:-1] + b"x")

    assert refusal(weights).startswith(f"{path}: its sha256 is ")


def test_a_missing_file_is_named(weights: Path) -> None:
    (weights / "emotionnet.onnx").unlink()

    message = refusal(weights)

    assert str(weights / "emotionnet.onnx") in message
    assert "put it back beside its JSON" in message


def test_a_truncated_onnx_is_refused(weights: Path) -> None:
    replace_file(weights, "emotionnet.onnx", (weights / "emotionnet.onnx").read_bytes()[:1_000_000])

    assert "onnxruntime cannot load it" in refusal(weights)


def test_an_onnx_whose_weights_are_no_numbers_is_refused(weights: Path) -> None:
    onnx = pytest.importorskip("onnx", reason="needs emotiond[train]")
    model = onnx.load(weights / "emotionnet.onnx")
    bias = next(t for t in model.graph.initializer if t.name.endswith("linear.bias"))
    bias.CopyFrom(onnx.numpy_helper.from_array(onnx.numpy_helper.to_array(bias) * float("nan"), bias.name))
    replace_file(weights, "emotionnet.onnx", model.SerializeToString())

    assert "a grey picture gives no numbers" in refusal(weights)


def test_labels_that_are_not_as_many_as_the_outputs_are_refused(weights: Path) -> None:
    rewrite(weights, lambda c: c["labels"].append("contempt"))

    message = refusal(weights)

    assert message.startswith(str(weights / "emotionnet.onnx"))
    assert "gives ['faces', 7], but the JSON beside it has 8 labels" in message


def test_an_input_of_another_side_is_refused(weights: Path) -> None:
    rewrite(weights, lambda c: c["input"].update(side=64))

    assert "but the JSON beside it says uint8 crops of 64x64" in refusal(weights)


@pytest.mark.parametrize(("change", "words"), [
    (lambda c: c["labels"].append("sad"), "a label stands twice"),
    (lambda c: c["input"].update(side=65), "side is 65, not a multiple of 32"),
    (lambda c: c["input"].update(std=0), "out of range"),
    (lambda c: c["input"].update(gamma=1), "unexpected keyword argument 'gamma'"),
    (lambda c: c["input"].update(mean="grey"), "`$.input[...]`"),
    (lambda c: c.pop("labels"), "missing required field `labels`"),
    (lambda c: c.update(labels=["happy"]), "length >= 2"),
    (lambda c: c.update(temperature=1.3), "unknown field `temperature`"),
    (lambda c: c.update(name="../emotionnet"), "`$.name`"),
    (lambda c: c["sha256"].update({"emotionnet.onnx": "123"}), "`$.sha256[...]`"),
    (lambda c: c["sha256"].clear(), "names no emotionnet.onnx"),
    (lambda c: c["labels"].__setitem__(0, "a\x1b[31m"), "`$.labels[0]`"),
])
def test_a_json_that_cannot_be_right_is_refused(weights: Path, change: Change, words: str) -> None:
    rewrite(weights, change)

    message = refusal(weights)

    assert message.startswith(str(weights / "emotionnet.json"))
    assert words in message


def test_a_file_that_is_no_json_is_refused(weights: Path) -> None:
    (weights / "emotionnet.json").write_bytes(b"\x80\x04not json")

    assert "is malformed" in refusal(weights)


@pytest.mark.parametrize("name", ["model.pt", "model.pth", "model.pkl", "model.ckpt"])
def test_pickles_are_refused_unread(tmp_path: Path, name: str) -> None:
    assert "are never read here" in refusal(tmp_path / name)


@pytest.mark.parametrize("name", ["emotionnet.onnx", "emotionnet.safetensors"])
def test_one_file_of_a_set_is_answered_with_the_json(weights: Path, name: str) -> None:
    assert "give the JSON beside it" in refusal(weights / name)


def test_a_folder_must_hold_exactly_one_json(weights: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    shutil.copy(weights / "emotionnet.json", weights / "another.json")

    assert "holds 2 JSON files" in refusal(weights)
    assert "holds 0 JSON files" in refusal(tmp_path_factory.mktemp("empty"))


def test_the_folder_of_a_run_is_answered_with_the_export(tmp_path: Path) -> None:
    for name in ("checkpoint.safetensors", "checkpoint.json", "log.json"):
        (tmp_path / name).touch()

    assert "is the folder of a training run; make a set of weights of it with `emotiontrain" in refusal(tmp_path)


def test_a_path_with_nothing_there_is_named(tmp_path: Path) -> None:
    message = refusal(tmp_path / "nowhere.json")

    assert message.startswith(f"{tmp_path / 'nowhere.json'}: ")
    assert "No such file" in message
