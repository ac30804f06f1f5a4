"""Sets of weights on disk: a JSON that describes them, beside it the same network as safetensors and as ONNX.

    emotionnet.json         labels, input, metrics, provenance, and the sha256 of the other two
    emotionnet.onnx         for onnxruntime on a CPU
    emotionnet.safetensors  for torch: a GPU, training, export

Every file is hashed before it is used, and what was hashed is what is loaded.
"""

import hashlib
import os
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Any

import msgspec

from emotionnet.preprocess import InputSpec

LABELS: tuple[str, ...] = ("angry", "disgust", "fear", "happy", "neutral", "sad", "surprise")
"""The classes of FER2013 in alphabetical order: the order of the shipped weights' outputs."""

BUILTIN = Path(__file__).parent / "weights" / "emotionnet.json"
ONNX, SAFETENSORS = ".onnx", ".safetensors"

_PICKLES = {".pt", ".pth", ".pkl", ".pickle", ".ckpt", ".bin"}


class WeightsError(ValueError):
    """A set of weights cannot be used; the message names the file and the mend."""


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
    except (ValueError, TypeError) as error:
        raise WeightsError(f"{file}: {error}; export the set of weights again") from error
    if len(set(document.labels)) != len(document.labels):
        raise WeightsError(f"{file}: a label stands twice in {', '.join(document.labels)}; export the set again")
    return WeightsInfo(
        document.name, document.version, document.labels, spec, document.parameters, document.sha256,
        document.metrics, document.provenance, file.parent)


def write_info(info: WeightsInfo) -> Path:
    """Writes the JSON of `info` into its folder, whole or not at all, and returns its path."""
    content = asdict(info)
    del content["folder"]
    path = info.folder / f"{info.name}.json"
    write_whole(path, msgspec.json.format(msgspec.json.encode(content), indent=2) + b"\n")
    return path


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


def write_whole(path: Path, content: bytes) -> None:
    """Writes a file so that a reader sees the old one or the new one, never a part."""
    partial = path.with_name(f"{path.name}.part")
    partial.write_bytes(content)
    partial.replace(path)


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
