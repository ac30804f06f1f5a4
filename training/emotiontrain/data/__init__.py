"""Labelled pictures: where they come from, what cleaning drops, and the taggers' votes that go with them."""

from emotiontrain.data.dataset import DataError, Dataset, Split, load_data

__all__ = ["DataError", "Dataset", "Split", "load_data"]
