"""Where pictures come from: a folder, a tar, or Kaggle."""

from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from emotionnet.pictures import Entry, PicturesError, read_files

KAGGLE_SET = "aadityasinghal/facial-expression-dataset"


class DataError(Exception):
    """The data cannot be used; the message says what is wrong and how to mend it."""


def read_source(source: str, others: Counter[str] | None = None) -> Iterator[Entry]:
    """Yields the folders and the files of pictures in `source`, hidden ones left out, in no certain order.

    Args:
        source: a folder, a tar, or `kaggle` to fetch KAGGLE_SET with kagglehub.
        others: counts files of other kinds, as `read_files` does.

    Raises:
        DataError: nothing there, no tar, or a file that cannot be read.
    """
    try:
        yield from read_files(fetch_from_kaggle() if source == "kaggle" else Path(source), others)
    except PicturesError as error:
        raise DataError(str(error)) from error


def fetch_from_kaggle() -> Path:
    """Returns the folder that kagglehub keeps KAGGLE_SET in, fetched where it is not there yet.

    Raises:
        DataError: no kagglehub, no credentials, no network, or Kaggle refuses.
    """
    try:
        import kagglehub  # only this source needs it
    except ImportError as error:
        raise DataError("kaggle: needs kagglehub; install emotiond[train], or give a local folder or tar") from error
    try:
        return Path(kagglehub.dataset_download(KAGGLE_SET))
    except Exception as error:  # kagglehub's errors have no common base
        raise DataError(
            f"kaggle: {KAGGLE_SET} could not be fetched ({type(error).__name__}); check the network, put an API token "
            "in ~/.kaggle/kaggle.json or KAGGLE_USERNAME and KAGGLE_KEY, or give a local folder or tar") from error
