"""Sets of weights on disk: a JSON that describes them, beside it the same network as safetensors and as ONNX.

    emotionnet.json         labels, input, calibration, metrics, provenance, and the sha256 of the other two
    emotionnet.onnx         for onnxruntime on a CPU
    emotionnet.safetensors  for torch: a GPU, training, export

Every file is hashed before it is used, and what was hashed is what is loaded.
"""

import contextlib
import hashlib
import os
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Any, TypeGuard

import msgspec

from emotionnet.preprocess import InputSpec

LABELS: tuple[str, ...] = ("angry", "disgust", "fear", "happy", "neutral", "sad", "surprise")
"""The classes of FER2013 in alphabetical order: the order of the shipped weights' outputs."""

BUILTIN = Path(__file__).parent / "weights" / "emotionnet.json"
ONNX, SAFETENSORS = ".onnx", ".safetensors"
TEMPERATURE = "temperature"
"""Key of an ONNX file's metadata: what its graph divides the logits by; missing where it does not."""

_PICKLES = {".pt", ".pth", ".pkl", ".pickle", ".ckpt", ".bin"}


class WeightsError(ValueError):
    """A set of weights cannot be used; the message names the file and the mend."""


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

    Raises:
        ValueError: a value outside its range.
    """

    temperature: float = 1.0
    abstain_below: float = 0.4
    split: str | None = None
    truth: str | None = None
    pictures: int = 0
    ece_before: float | None = None
    ece_after: float | None = None
    accepted: float | None = None
    accuracy: float | None = None

    def __post_init__(self) -> None:
        """Checks the values, which may come from a file."""
        if not _is_number(self.temperature) or not 0.01 <= self.temperature <= 100:
            raise ValueError(f"the calibration's temperature is {self.temperature!s:.20}, "
                             "not a number from 0.01 to 100")
        for name in ("abstain_below", "ece_before", "ece_after", "accepted", "accuracy"):
            value: Any = getattr(self, name)
            if value is None and name != "abstain_below":
                continue
            if not _is_number(value) or not 0 <= value <= 1:
                raise ValueError(f"the calibration's {name} is {value!s:.20}, not a number from 0 to 1")


def _is_number(value: object) -> TypeGuard[float]:
    return isinstance(value, int | float) and not isinstance(value, bool)


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

    def file(self, suffix: str) -> Path:
        """Returns the path of the file with this suffix (ONNX or SAFETENSORS).

        Raises:
            WeightsError: the JSON names no such file.
        """
        name = f"{self.name}{suffix}"
        if name not in self.sha256:
            raise WeightsError(f"{self.folder / self.name}.json names no {name} with its sha256; export the set again")
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
        path: the JSON, the folder that holds exactly one, or `builtin`.

    Raises:
        WeightsError: nothing there, a file of another kind, or a description that cannot be right.
    """
    file = _find(path)
    try:
        content = file.read_bytes()
    except OSError as error:
        raise WeightsError(f"{file}: cannot be read ({error.strerror}); check the path") from error
    try:
        document = msgspec.json.decode(content, type=_Document)
        values: dict[str, Any] = document.input
        spec = InputSpec(**values)
        calibrated: dict[str, Any] = document.calibration
        calibration = Calibration(**calibrated)
    except (ValueError, TypeError) as error:
        raise WeightsError(f"{file}: {error}; export the set of weights again") from error
    if len(set(document.labels)) != len(document.labels):
        raise WeightsError(f"{file}: a label stands twice in {', '.join(document.labels)}; export the set again")
    return WeightsInfo(
        document.name, document.version, document.labels, spec, document.parameters, document.sha256,
        document.metrics, document.provenance, file.parent, calibration)


def write_info(info: WeightsInfo) -> Path:
    """Writes the JSON of `info` into its folder, whole or not at all, and returns its path.

    Raises:
        OSError: it cannot be written.
    """
    path = info.folder / f"{info.name}.json"
    write_together({path: info_json(info)})
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


def write_together(files: dict[Path, bytes]) -> None:
    """Writes files so that a reader sees the old ones or the new ones, none of them in part.

    All are written beside their places first, so a full disk leaves what was there as it was.

    Raises:
        OSError: one cannot be written; none is.
    """
    partials = {path: path.with_name(f"{path.name}.part") for path in files}
    path = next(iter(files))
    try:
        for path, content in files.items():
            path.parent.mkdir(parents=True, exist_ok=True)
            partials[path].write_bytes(content)
        for path, partial in partials.items():
            partial.replace(path)
    except OSError as error:
        for partial in partials.values():
            with contextlib.suppress(OSError):
                partial.unlink(missing_ok=True)
        raise OSError(f"{path}: cannot be written ({error.strerror}); make room or choose another folder, "
                      "and run the same again") from error


_Word = Annotated[str, msgspec.Meta(pattern=r"^[A-Za-z0-9][A-Za-z0-9._+-]{0,63}\Z")]
_Label = Annotated[str, msgspec.Meta(min_length=1, max_length=64)]


class _Document(msgspec.Struct, forbid_unknown_fields=True):
    """The JSON itself. An unknown key is refused: what this version ignored might change what the outputs mean."""

    name: _Word
    version: _Word
    labels: Annotated[tuple[_Label, ...], msgspec.Meta(min_length=2)]
    input: dict[str, int | float]
    parameters: Annotated[int, msgspec.Meta(ge=1)]
    sha256: dict[_Word, Annotated[str, msgspec.Meta(pattern=r"^[0-9a-f]{64}\Z")]]
    metrics: dict[str, Any]
    provenance: dict[str, Any]
    calibration: dict[str, int | float | str | None] = {}


def _find(path: str | Path) -> Path:
    """Returns the JSON that `path` means."""
    if path == "builtin":
        return BUILTIN
    path = Path(path)
    if path.suffix in _PICKLES:
        raise WeightsError(f"{path}: files of this kind are pickles, which run code when they are loaded, and are "
                           "never read here; give the JSON of a set that `emotiontrain export` wrote")
    if os.path.isdir(path):  # unlike Path's, it never raises
        files = sorted(path.glob("*.json"))
        if len(files) != 1:
            raise WeightsError(f"{path}: holds {len(files)} JSON files, not the one of a set of weights; "
                               "name the file itself")
        return files[0]
    if path.suffix in (ONNX, SAFETENSORS):
        raise WeightsError(f"{path}: is one file of a set of weights; give the JSON beside it, which describes it")
    return path
