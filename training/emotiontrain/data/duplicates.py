"""Copies and near copies between pictures: the same photograph scaled, shifted, compressed or marked anew."""

import cv2
import numpy as np
from numpy.typing import NDArray

from emotionnet.preprocess import resize

HASH_DISTANCE = 10
"""Bits of 64 by which the hashes of two candidates may differ."""

CORRELATION = 0.85
"""Least correlation of two candidates' pixels. On FER2013, of the pairs between .85 and .9 about nine in ten show one
photograph, of those above .9 nearly all; below .85 strangers prevail. A pair too many costs one training picture."""

_SIDE = 48  # pixels of which more would only cost memory


def perceptual_hash(pictures: NDArray[np.uint8]) -> NDArray[np.uint64]:
    """Returns a 64-bit hash a picture, (N,): which of the 8x8 lowest cosine frequencies lie above their median.

    Args:
        pictures: (N, H, W).
    """
    bits = np.empty((len(pictures), 64), bool)
    for index, picture in enumerate(pictures):
        small = np.asarray(cv2.resize(picture, (32, 32), interpolation=cv2.INTER_AREA), np.float32)
        low = np.asarray(cv2.dct(small))[:8, :8].ravel()
        bits[index] = low > np.median(low[1:])  # the first is the mean brightness
    return np.packbits(bits, axis=1).view(np.uint64)[:, 0]


def near_copies(pictures: NDArray[np.uint8], of: NDArray[np.uint8]) -> NDArray[np.bool_]:
    """Says which of `pictures` (N, H, W) are copies or near copies of any of `of` (M, H, W); returns (N,)."""
    if not (len(pictures) and len(of)):
        return np.zeros(len(pictures), bool)
    hashes, known = perceptual_hash(pictures), perceptual_hash(of)
    fine, fine_of = _standardize(pictures), _standardize(of)
    found = np.zeros(len(pictures), bool)
    for index in range(len(known)):
        candidates = np.flatnonzero(np.bitwise_count(hashes ^ known[index]) <= HASH_DISTANCE)
        if len(candidates):
            found[candidates[fine[candidates] @ fine_of[index] >= CORRELATION]] = True
    return found


def _standardize(pictures: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Returns (N, P) of mean 0 and length 1, so that a product of two is their correlation; P is 48*48 at most."""
    if pictures.shape[1] > _SIDE:
        pictures = np.stack([resize(picture, _SIDE) for picture in pictures])
    flat = pictures.reshape(len(pictures), -1).astype(np.float32)
    flat -= flat.mean(axis=1, keepdims=True)
    return flat / np.maximum(np.linalg.norm(flat, axis=1, keepdims=True), 1e-6)
