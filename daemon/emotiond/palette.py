"""What every output shows of a face, and in which colour: pictures, charts, reports, dashboards."""

import colorsys
import zlib
from collections.abc import Iterable

from emotiond.events import Face

# Okabe and Ito's colours, which people of any colour vision tell apart (https://jfly.uni-koeln.de/color/)
BLUE, SKY, GREEN, YELLOW = "#0072B2", "#56B4E9", "#009E73", "#F0E442"
ORANGE, RED, PURPLE = "#E69F00", "#D55E00", "#CC79A7"

EMOTIONS = {"angry": RED, "disgust": GREEN, "fear": PURPLE, "happy": YELLOW, "neutral": SKY, "sad": BLUE,
            "surprise": ORANGE}
UNSURE = "#C8C8C8"      # darker, it would be fear's purple to those who lack the cones for green


def shown_emotion(face: Face) -> str | None:
    """Returns what to believe of a face: its smoothed emotion; None where that is unsure."""
    return None if face.abstained else face.smoothed.emotion


def in_order(emotions: Iterable[str | None]) -> list[str | None]:
    """Sorts shown emotions: the seven as above, other classes after them by name, unsure last."""
    known = list(EMOTIONS)
    return sorted(emotions, key=lambda emotion: (
        emotion is None, known.index(emotion) if emotion in EMOTIONS else len(known), emotion or ""))


def colour_of(emotion: str | None) -> str:
    """Returns `#rrggbb`. A class beyond the seven has one by its name, the same everywhere; None is unsure."""
    if emotion is None:
        return UNSURE
    if emotion in EMOTIONS:
        return EMOTIONS[emotion]
    hue = zlib.crc32(emotion.encode()) / 2**32
    return "#" + "".join(f"{round(255 * part):02X}" for part in colorsys.hls_to_rgb(hue, 0.6, 0.7))


def to_rgb(colour: str) -> tuple[int, int, int]:
    """Splits `#rrggbb` into its parts, 0 to 255."""
    return int(colour[1:3], 16), int(colour[3:5], 16), int(colour[5:7], 16)


def ink_on(colour: str) -> str:
    """Returns black or white, whichever reads better on a colour: the larger contrast as WCAG 2 counts it."""
    linear = [part / 255 / 12.92 if part <= 10 else ((part / 255 + 0.055) / 1.055) ** 2.4 for part in to_rgb(colour)]
    luminance = 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]
    return "#000000" if (luminance + 0.05) / 0.05 > 1.05 / (luminance + 0.05) else "#FFFFFF"
