"""Sets of weights on disk: a JSON that describes them, beside it the same network as safetensors and as ONNX.

    emotionnet.json         labels, input, calibration, metrics, provenance, and the sha256 of the other two
    emotionnet.onnx         for onnxruntime on a CPU
    emotionnet.safetensors  for torch: a GPU, training, export

Every file is hashed before it is used, and what was hashed is what is loaded.
"""

import hashlib
import os
import re
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Annotated, Any, Literal

import msgspec

from emotionnet.files import write_whole
from emotionnet.preprocess import InputSpec

LABELS: tuple[str, ...] = ("angry", "disgust", "fear", "happy", "neutral", "sad", "surprise")
"""The classes of FER2013 in alphabetical order: the order of the shipped weights' outputs."""

BUILTIN = Path(__file__).parent / "weights" / "emotionnet.json"
BUILTIN_INT8 = Path(__file__).parent / "weights-int8" / "emotionnet-int8.json"
ONNX, SAFETENSORS = ".onnx", ".safetensors"
TEMPERATURE = "temperature"
"""Key of an ONNX file's metadata: what its graph divides the logits by; missing where it does not."""

LONGEST_LABEL = 64
"""Characters."""

LEAST_PICTURES = 100
"""Validation pictures that a calibration needs; fewer say too little."""

Truth = Literal["labels", "votes"]
"""What counts as true: the pictures' labels, or the clear majorities of taggers' votes."""

_PICKLES = {".pt", ".pth", ".pkl", ".pickle", ".ckpt", ".bin"}


class WeightsError(ValueError):
    """A set of weights cannot be used; the message names the file and the mend."""


_WORD = r"^[A-Za-z0-9][A-Za-z0-9._+-]{0,63}\Z"
_Word = Annotated[str, msgspec.Meta(pattern=_WORD)]
_File = Annotated[str, msgspec.Meta(pattern=r"^[A-Za-z0-9][A-Za-z0-9._+-]{0,79}\Z")]
_Label = Annotated[str, msgspec.Meta(min_length=1, max_length=LONGEST_LABEL, pattern=r"^[^\x00-\x1f\x7f-\x9f]*\Z")]
_Share = Annotated[float, msgspec.Meta(ge=0, le=1)]


@dataclass(frozen=True)
class Calibration:
    """How a set's probabilities were made to fit the truth, and below which of them an answer is better withheld.

    The defaults are those of a set that was never calibrated.

    Attributes:
        temperature: the logits are divided by it; the probabilities of both files come after that.
        abstain_below: what the daemon's `classifier.abstain_below` is where the configuration says `auto`.
        split: pictures that both were fitted on; None where they were not.
        truth: what those pictures were compared with: `labels`, or the clear majority of `votes`.
        pictures: number of them.
        ece_before: expected calibration error on them at temperature 1.
        ece_after: the same at `temperature`.
        accepted: share of them that `abstain_below` keeps.
        accuracy: share of right answers among those kept.
    """

    temperature: Annotated[float, msgspec.Meta(ge=0.01, le=100)] = 1.0
    abstain_below: _Share = 0.4
    split: _Word | None = None
    truth: Truth | None = None
    pictures: Annotated[int, msgspec.Meta(ge=0)] = 0
    ece_before: _Share | None = None
    ece_after: _Share | None = None
    accepted: _Share | None = None
    accuracy: _Share | None = None

    @property
    def fitted(self) -> bool:
        """Whether temperature and threshold come from pictures, rather than being the defaults."""
        return self.ece_before is not None and self.ece_after is not None


@dataclass(frozen=True)
class WeightsInfo:
    """What the JSON of a set of weights says.

    Attributes:
        name: name of the set, and of its files.
        version: version of the set.
        labels: the classes, in the order of the outputs.
        input: the picture that the network takes.
        parameters: number of trainable values.
        sha256: file name -> digest of the files beside the JSON.
        metrics: split -> figures, as `emotiontrain evaluate` measures them.
        provenance: data, recipe, commands and versions that made the set.
        folder: where the files are.
        calibration: of the probabilities; a JSON without it, as that of 1.0.0, means that none was done.
    """

    name: str
    version: str
    labels: tuple[str, ...]
    input: InputSpec
    parameters: int
    sha256: dict[str, str]
    metrics: dict[str, Any]
    provenance: dict[str, Any]
    folder: Path
    calibration: Calibration = Calibration()

    @property
    def model_id(self) -> str:
        """What events call the model, for example `emotionnet-1.0.0`."""
        return f"{self.name}-{self.version}"

    @property
    def quantized(self) -> bool:
        """Whether it is in 8 bits: for CPUs alone."""
        return "quantized" in self.provenance

    def file(self, suffix: str) -> Path:
        """Returns the path of the file with this suffix (ONNX or SAFETENSORS).

        Raises:
            WeightsError: the JSON names no such file.
        """
        name = f"{self.name}{suffix}"
        if name not in self.sha256:
            mend = ("an 8-bit set is for CPUs: give the one it was made from" if self.quantized
                    else "export the set again")
            raise WeightsError(f"{self.folder / self.name}.json names no {name} with its sha256; {mend}")
        return self.folder / name

    def read(self, suffix: str) -> bytes:
        """Returns the content of the file with this suffix, its hash checked.

        Raises:
            WeightsError: the file is missing or is not the one that the JSON describes.
        """
        path = self.file(suffix)
        return verify_file(path, self.sha256[path.name])


def load_info(path: str | Path = "builtin") -> WeightsInfo:
    """Reads the description of a set of weights.

    Args:
        path: the JSON, the folder that holds exactly one, `builtin`, or `builtin-int8` for its 8-bit copy.

    Raises:
        WeightsError: nothing there, a file of another kind, or a description that cannot be right.
    """
    file = _find(path)
    try:
        content = file.read_bytes()
    except OSError as error:
        raise WeightsError(f"{file}: cannot be read ({error.strerror}); check the path") from error
    try:
        return _parse(content, file.parent)
    except (ValueError, TypeError) as error:
        raise WeightsError(f"{file}: {error}; export the set of weights again") from error


def check_info(info: WeightsInfo) -> None:
    """Refuses what could be written as a set's JSON, but not be read again.

    Raises:
        WeightsError: a name, version, label or number that no set may have.
    """
    try:
        _parse(info_json(info), info.folder)
    except (ValueError, TypeError) as error:
        raise WeightsError(f"{info.folder}: such a set could not be loaded ({error}); give what it allows") from error


def _parse(content: bytes, folder: Path) -> WeightsInfo:
    """Returns what a JSON in `folder` says.

    Raises:
        ValueError, TypeError: it cannot be right.
    """
    document = msgspec.json.decode(content, type=_Document)
    values: dict[str, Any] = document.input
    if len(set(document.labels)) != len(document.labels):
        raise ValueError(f"a label stands twice in {', '.join(document.labels)}")
    unknown = sorted(document.calibration.keys() - {field.name for field in fields(Calibration)})
    if unknown:
        raise ValueError(f"the calibration has an unknown {unknown[0]!r}")
    try:
        calibration = msgspec.convert(document.calibration, Calibration)
    except msgspec.ValidationError as error:
        raise ValueError(f"in the calibration: {error}") from error
    return WeightsInfo(
        document.name, document.version, document.labels, InputSpec(**values), document.parameters, document.sha256,
        document.metrics, document.provenance, folder, calibration)


def is_word(text: str) -> bool:
    """Returns whether `text` can be the name or the version of a set."""
    return re.match(_WORD, text) is not None


def write_info(info: WeightsInfo) -> Path:
    """Writes the JSON of `info` into its folder, whole or not at all, and returns its path.

    Raises:
        OSError: it cannot be written.
    """
    path = info.folder / f"{info.name}.json"
    write_whole({path: info_json(info)})
    return path


def info_json(info: WeightsInfo) -> bytes:
    """Returns the JSON of `info`."""
    content = asdict(info)
    del content["folder"]
    return msgspec.json.format(msgspec.json.encode(content), indent=2) + b"\n"


def verify_file(path: Path, sha256: str) -> bytes:
    """Returns the content of `path`, having compared its hash.

    Raises:
        WeightsError: the file is missing, or its hash is another.
    """
    try:
        content = path.read_bytes()
    except OSError as error:
        raise WeightsError(f"{path}: {error.strerror}; put it back beside its JSON, or export the set again") from error
    found = hashlib.sha256(content).hexdigest()
    if found != sha256:
        raise WeightsError(f"{path}: its sha256 is {found[:12]}..., but the JSON beside it says {sha256[:12]}...; "
                           "it is damaged or of another set: copy the whole set again")
    return content


class _Document(msgspec.Struct, forbid_unknown_fields=True):
    """The JSON itself. An unknown key is refused: what this version ignored might change what the outputs mean."""

    name: _Word
    version: _Word
    labels: Annotated[tuple[_Label, ...], msgspec.Meta(min_length=2)]
    input: dict[str, int | float]
    parameters: Annotated[int, msgspec.Meta(ge=1)]
    sha256: dict[_File, Annotated[str, msgspec.Meta(pattern=r"^[0-9a-f]{64}\Z")]]
    metrics: dict[str, Any]
    provenance: dict[str, Any]
    calibration: dict[str, Any] = {}


def _find(path: str | Path) -> Path:
    """Returns the JSON that `path` means."""
    if path in ("builtin", "builtin-int8"):
        return BUILTIN if path == "builtin" else BUILTIN_INT8
    path = Path(path)
    if path.suffix in _PICKLES:
        raise WeightsError(f"{path}: files of this kind are pickles, which run code when they are loaded, and are "
                           "never read here; give the JSON of a set that `emotiontrain export` wrote")
    if os.path.isdir(path):  # unlike Path's, it never raises
        files = sorted(path.glob("*.json"))
        if (path / "checkpoint.safetensors").exists():
            raise WeightsError(f"{path}: is the folder of a training run; make a set of weights of it with "
                               "`emotiontrain export`, and give that")
        if len(files) != 1:
            raise WeightsError(f"{path}: holds {len(files)} JSON files, not the one of a set of weights; "
                               "name the file itself")
        return files[0]
    if path.suffix in (ONNX, SAFETENSORS):
        raise WeightsError(f"{path}: is one file of a set of weights; give the JSON beside it, which describes it")
    return path
