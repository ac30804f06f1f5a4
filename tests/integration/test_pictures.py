"""Pictures as displayed, whatever the recording's layout: upright, square pixels, full-range luma, true boxes."""

from collections.abc import Mapping
from fractions import Fraction
from pathlib import Path

import av
import cv2
import numpy as np
import pytest
from av.video.frame import VideoFrame
from av.video.reformatter import ColorRange, Colorspace
from numpy.typing import NDArray

from emotiond.analyzer import Analysis
from emotiond.config import DetectorConfig, StreamConfig
from emotiond.frames import Frame, FrameLedger, Ticket
from emotiond.metrics import Metrics
from emotiond.picture import Picture, Scalers
from emotiond.pipeline import combine
from emotiond.tracker import iou
from emotionnet.classifier import Classifier, load_classifier
from emotionnet.preprocess import expand_range
from tests.support.pictures import Picture as Pixels
from tests.support.pictures import face_frames, smiling_face, write_photo
from tests.support.videos import write_video
from yunet.detector import Detector, load_detector

WIDTH, HEIGHT = 640, 360
HEAD = (40, 20, 260)      # left, top and side: not in the middle, so that a turn or a mirror shows
BOX = (98, 51, 132, 169)  # what the detector says of it; the coder's losses move its edges by 2 pixels
NEAR = 4.5
CHROMA = 4     # levels of blue for two of chroma, which is as near as it is rounded
SCALERS = Scalers()

LOSSLESS: Mapping[str, Mapping[str, str]] = {
    "libx264": {"crf": "0"}, "libx264rgb": {"crf": "0"}, "mjpeg": {"qmin": "1", "qmax": "1"},
    # without zerolatency x265 fails now and then on so short a video
    "libx265": {"preset": "ultrafast", "tune": "zerolatency", "x265-params": "log-level=none:lossless=1"},
    "dnxhd": {"profile": "dnxhr_hq"},
}


@pytest.fixture(scope="module", params=["cpu", "torch:cpu"])
def device(request: pytest.FixtureRequest) -> str:
    if request.param != "cpu":
        pytest.importorskip("torch", reason="torch missing")
    return request.param


@pytest.fixture(scope="module")
def detector(device: str) -> Detector:
    return load_detector(device)


@pytest.fixture(scope="module")
def classifier(device: str) -> Classifier:
    return load_classifier("builtin", device)


@pytest.fixture
def shown() -> Pixels:
    """A picture as a viewer shall see it, its face at BOX."""
    return next(face_frames(1, WIDTH, HEIGHT, where=lambda n: [HEAD]))


def read(path: Path) -> Picture:
    """Reads the first picture of a file."""
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        return Picture(next(container.decode(stream)), stream.sample_aspect_ratio)


def full_luma(picture: Picture) -> NDArray[np.uint8]:
    luma = picture.luma(SCALERS)
    return expand_range(np.ascontiguousarray(luma.plane)) if luma.limited else np.ascontiguousarray(luma.plane)


def shown_bgr(picture: Picture, width: int) -> NDArray[np.uint8]:
    """Returns what the detector sees, as B, G, R (3, h, w)."""
    view = picture.detector_view(SCALERS, width)
    pixels = view.planes - np.array(view.colour.black)[:, None, None]
    return np.clip(np.rint(np.einsum("cd,dhw->chw", view.colour.to_bgr, pixels)), 0, 255).astype(np.uint8)


def analyse(
    picture: Picture, detector: Detector, classifier: Classifier, stream: StreamConfig | None = None
) -> Analysis:
    metrics = Metrics(FrameLedger(), classifier.info.labels)
    metrics.add_stream("s")
    analyzer = combine(detector, classifier, DetectorConfig(), {"s": stream or StreamConfig(source="a.mp4")}, metrics)
    analysis, = analyzer.analyze([Ticket(Frame("s", 0, 0.0, 0, "file", 0.0, None, picture), 0)])
    assert not analysis.failed
    return analysis


def assert_face_at_box(picture: Picture, detector: Detector, classifier: Classifier) -> None:
    analysis = analyse(picture, detector, classifier)

    assert len(analysis.boxes) == 1
    np.testing.assert_allclose(analysis.boxes[0], BOX, atol=NEAR)
    assert classifier.info.labels[int(analysis.probabilities[0].argmax())] == "happy"


@pytest.mark.parametrize("sar", [None, Fraction(2), Fraction(1, 2), Fraction(16, 11)])
@pytest.mark.parametrize("rotation", [0, 90, 180, 270])
def test_boxes_are_right_in_the_turned_and_squared_picture(
    rotation: int, sar: Fraction | None, shown: Pixels, detector: Detector, classifier: Classifier, tmp_path: Path
) -> None:
    stored = np.ascontiguousarray(np.rot90(shown, -rotation // 90))
    if sar:
        stored = scale(stored, round(stored.shape[1] / sar / 2) * 2, stored.shape[0])
    picture = read(write_video(tmp_path / "a.mp4", [stored], rotation=rotation, sar=sar))

    assert (picture.width, picture.height) == pytest.approx((WIDTH, HEIGHT), abs=2)
    assert_face_at_box(picture, detector, classifier)


@pytest.mark.parametrize("rotation", [90, 180, 270])
def test_pictures_are_turned_as_opencv_turns_them(
    rotation: int, shown: Pixels, tmp_path: Path
) -> None:
    video = write_video(tmp_path / "a.mp4", [shown], rotation=rotation)
    reader = cv2.VideoCapture(str(video))
    _, theirs = reader.read()
    reader.release()

    ours = full_luma(read(video))

    assert_alike(ours, np.asarray(cv2.cvtColor(theirs, cv2.COLOR_BGR2GRAY), np.uint8), mean=2)


@pytest.mark.parametrize("orientation", [1, 3, 6, 8])
def test_photos_are_turned_by_their_exif_orientation(
    orientation: int, shown: Pixels, detector: Detector, classifier: Classifier, tmp_path: Path
) -> None:
    turns = {1: 0, 3: 2, 6: 1, 8: 3}[orientation]
    stored = np.ascontiguousarray(np.rot90(shown, turns))
    photo = write_photo(tmp_path / "photo.jpg", stored, orientation)

    picture = read(photo)

    assert_alike(full_luma(picture), np.asarray(cv2.imread(str(photo), cv2.IMREAD_GRAYSCALE), np.uint8), mean=1)
    assert_face_at_box(picture, detector, classifier)


@pytest.mark.parametrize(("name", "codec", "pix_fmt", "size"), [
    ("a.mp4", "libx264", "yuv444p", (639, 359)),
    ("a.mkv", "mjpeg", "yuvj420p", (639, 359)),
    ("a.mkv", "ffv1", "yuv420p10le", (641, 361)),
    ("a.mp4", "libx264rgb", "bgr0", (641, 361)),
    ("a.mp4", "libx265", "yuv420p10le", (640, 360)),
    ("a.mkv", "ffv1", "gray", (640, 360)),
    ("a.mkv", "ffv1", "gray10le", (640, 360)),
    ("a.avi", "rawvideo", "yuyv422", (640, 360)),
    ("a.mkv", "rawvideo", "nv12", (640, 360)),
])
def test_faces_are_found_in_every_layout_and_odd_sizes(
    name: str, codec: str, pix_fmt: str, size: tuple[int, int], detector: Detector, classifier: Classifier,
    tmp_path: Path,
) -> None:
    shown = next(face_frames(1, *size, where=lambda n: [HEAD]))
    picture = read(write_video(tmp_path / name, [shown], codec=codec, pix_fmt=pix_fmt))

    assert (picture.width, picture.height) == size
    assert_face_at_box(picture, detector, classifier)


def test_faces_are_found_in_interlaced_pictures(
    shown: Pixels, detector: Detector, classifier: Classifier, tmp_path: Path
) -> None:
    options = {"preset": "ultrafast", "flags": "+ildct+ilme", "x264-params": "interlaced=1:tff=1"}
    video = write_video(tmp_path / "a.mp4", [shown], options=options)
    with av.open(str(video)) as container:
        assert next(container.decode(video=0)).interlaced_frame

    assert_face_at_box(read(video), detector, classifier)


@pytest.mark.parametrize(("name", "codec", "pix_fmt"), [
    ("a.mp4", "libx264", "yuv420p"), ("a.mp4", "libx264", "yuvj420p"), ("a.mp4", "libx264rgb", "bgr0"),
    ("a.mp4", "libx265", "yuv420p10le"), ("a.mp4", "libx265", "yuv420p12le"), ("a.mkv", "mjpeg", "yuvj422p"),
    ("a.mp4", "mpeg4", "yuv420p"), ("a.webm", "libvpx-vp9", "yuv420p"), ("a.mov", "dnxhd", "yuv422p"),
    ("a.mov", "prores", "yuv422p10le"), ("a.mov", "qtrle", "rgb24"), ("a.mkv", "ffv1", "gray"),
    ("a.mkv", "ffv1", "gray16le"), ("a.mkv", "ffv1", "gbrp10le"), ("a.mkv", "ffv1", "yuva420p"),
    ("a.mkv", "ffv1", "yuv422p16le"), ("a.mkv", "rawvideo", "yuyv422"), ("a.mkv", "rawvideo", "nv21"),
    ("a.avi", "rawvideo", "bgr24"),
])
def test_luma_is_full_range_within_two_levels(
    name: str, codec: str, pix_fmt: str, tmp_path: Path
) -> None:
    ramp = grey_ramp()
    video = write_video(tmp_path / name, [ramp] * 2, codec=codec, pix_fmt=pix_fmt, options=LOSSLESS.get(codec, {}))

    picture = read(video)

    assert_alike(full_luma(picture), ramp[..., 0], most=2)
    for plane in shown_bgr(picture, ramp.shape[1]):
        assert_alike(plane, ramp[..., 0], most=CHROMA)


@pytest.mark.parametrize("pix_fmt", ["yuv420p", "yuv444p", "yuv420p10le"])
def test_luma_tagged_as_full_range_is_left_as_it_is(pix_fmt: str) -> None:
    ramp = grey_ramp()
    frame = VideoFrame.from_ndarray(ramp, format="rgb24").reformat(
        format=pix_fmt, dst_color_range=ColorRange.JPEG)
    assert frame.color_range == ColorRange.JPEG

    picture = Picture(frame)

    assert_alike(full_luma(picture), ramp[..., 0], most=2)
    assert_alike(shown_bgr(picture, ramp.shape[1])[0], ramp[..., 0], most=CHROMA)


@pytest.mark.parametrize(("codec", "pix_fmt"), [("libx264rgb", "bgr0"), ("qtrle", "rgb24")])
def test_luma_of_coloured_rgb_is_that_of_bt601_as_in_jpeg_photos(
    codec: str, pix_fmt: str, tmp_path: Path
) -> None:
    colours = np.array([(255, 0, 0), (0, 255, 0), (0, 0, 255), (255, 255, 0), (20, 120, 220)], np.uint8)
    stripes = np.ascontiguousarray(np.repeat(np.repeat(colours[None], 64, 0), 64, 1))
    expected = np.rint(stripes @ np.array([0.299, 0.587, 0.114])).astype(np.uint8)

    picture = read(write_video(tmp_path / "a.mov", [stripes], codec=codec, pix_fmt=pix_fmt,
                               options=LOSSLESS.get(codec, {})))

    assert_alike(full_luma(picture), expected, most=2)
    assert_alike(shown_bgr(picture, stripes.shape[1]).transpose(1, 2, 0), stripes[..., ::-1], most=CHROMA)


@pytest.mark.parametrize("shrink", [1, 2])
@pytest.mark.parametrize("colorspace", [Colorspace.ITU601, Colorspace.ITU709])
def test_the_detector_sees_colours_as_the_matrix_of_the_picture_gives_them(
    colorspace: Colorspace, shrink: int
) -> None:
    colours = np.array([(255, 0, 0), (0, 255, 0), (0, 0, 255), (255, 255, 0), (20, 120, 220)], np.uint8)
    stripes = np.ascontiguousarray(np.repeat(np.repeat(colours[None], 64, 0), 64, 1))
    frame = VideoFrame.from_ndarray(stripes, format="rgb24").reformat(format="yuv444p", dst_colorspace=colorspace)

    seen = shown_bgr(Picture(frame), stripes.shape[1] // shrink)

    assert_alike(seen.transpose(1, 2, 0), stripes[::shrink, ::shrink, ::-1], most=CHROMA)


@pytest.mark.parametrize("colorspace", [Colorspace.ITU601, Colorspace.ITU709])
def test_people_are_shown_colours_as_the_matrix_of_the_picture_gives_them(colorspace: Colorspace) -> None:
    colours = np.array([(255, 0, 0), (0, 255, 0), (0, 0, 255), (255, 255, 0), (20, 120, 220)], np.uint8)
    stripes = np.ascontiguousarray(np.repeat(np.repeat(colours[None], 64, 0), 64, 1))
    frame = VideoFrame.from_ndarray(stripes, format="rgb24").reformat(format="yuv444p", dst_colorspace=colorspace)

    assert_alike(Picture(frame).bgr(SCALERS), stripes[..., ::-1], most=CHROMA)


@pytest.mark.parametrize("rotation", [0, 90, 180, 270])
@pytest.mark.parametrize("sar", [None, Fraction(2)])
def test_people_are_shown_pictures_upright_and_square(
    rotation: int, sar: Fraction | None, shown: Pixels, tmp_path: Path
) -> None:
    stored = np.ascontiguousarray(np.rot90(shown, -rotation // 90))
    if sar:
        stored = scale(stored, round(stored.shape[1] / sar), stored.shape[0])
    picture = read(write_video(tmp_path / "a.mp4", [stored], rotation=rotation, sar=sar))

    assert_alike(picture.bgr(SCALERS), shown[..., ::-1], mean=4)


def test_people_are_shown_nothing_of_a_mask(two_faces: Picture) -> None:
    pixels = two_faces.bgr(SCALERS, ((0.0, 0.0, 0.5, 1.0),))

    assert pixels.shape == (360, 1280, 3)
    assert not pixels[:, :640].any()
    assert pixels[:, 650:].all(axis=-1).mean() > 0.9


LEFT, RIGHT = (40, 20, 260), (900, 60, 240)      # heads in a picture of 1280x360


@pytest.fixture(scope="module")
def two_faces(tmp_path_factory: pytest.TempPathFactory) -> Picture:
    pixels = face_frames(1, 1280, 360, where=lambda n: [LEFT, RIGHT])
    return read(write_video(tmp_path_factory.mktemp("two") / "a.mp4", pixels))


def middles(analysis: Analysis) -> list[float]:
    return sorted((analysis.boxes[:, 0] + analysis.boxes[:, 2] / 2).tolist())


def test_without_region_and_masks_both_faces_are_found(
    two_faces: Picture, detector: Detector, classifier: Classifier
) -> None:
    left, right = middles(analyse(two_faces, detector, classifier))

    assert LEFT[0] < left < LEFT[0] + LEFT[2]
    assert RIGHT[0] < right < RIGHT[0] + RIGHT[2]


@pytest.mark.parametrize(("region", "expected"), [
    ((0.5, 0.0, 1.0, 1.0), RIGHT), ((0.0, 0.0, 0.5, 1.0), LEFT), ((0.6, 0.1, 0.97, 0.9), RIGHT)])
def test_a_region_hides_the_rest_and_gives_boxes_in_the_whole_picture(
    region: tuple[float, float, float, float], expected: tuple[int, int, int], two_faces: Picture, detector: Detector,
    classifier: Classifier,
) -> None:
    whole = analyse(two_faces, detector, classifier)
    seen = analyse(two_faces, detector, classifier, StreamConfig(source="a.mp4", region=region))

    inside = (whole.boxes[:, 0] > expected[0]) & (whole.boxes[:, 0] < expected[0] + expected[2])
    assert len(seen.boxes) == 1
    assert iou(seen.boxes, whole.boxes[inside])[0, 0] > 0.8      # it is seen at another scale


@pytest.mark.parametrize(("masks", "expected"), [
    ([(0.0, 0.0, 0.5, 1.0)], RIGHT), ([(0.5, 0.0, 1.0, 1.0)], LEFT), ([(0.06, 0.1, 0.2, 0.7)], RIGHT),
    ([(0.7, 0.0, 0.9, 1.0), (0.0, 0.9, 1.0, 1.0)], LEFT)])
def test_a_face_in_a_mask_is_never_found(
    masks: list[tuple[float, float, float, float]], expected: tuple[int, int, int], two_faces: Picture,
    detector: Detector, classifier: Classifier,
) -> None:
    stream = StreamConfig(source="a.mp4", masks=tuple(masks))

    middle, = middles(analyse(two_faces, detector, classifier, stream))

    assert expected[0] < middle < expected[0] + expected[2]


def test_masks_lie_on_the_picture_as_displayed_and_hide_its_luma_too(
    shown: Pixels, detector: Detector, classifier: Classifier, tmp_path: Path
) -> None:
    picture = read(write_video(tmp_path / "a.mp4", [np.rot90(shown, -1)], rotation=90))
    mask = (0.0, 0.0, 0.5, 1.0)      # the face is there in the picture as displayed, not in the one that is stored

    assert not len(analyse(picture, detector, classifier, StreamConfig(source="a.mp4", masks=(mask,))).boxes)
    plane = picture.luma(SCALERS, (mask,)).plane
    assert not plane[:, :WIDTH // 2].any()
    assert plane[:, WIDTH // 2:].all()


@pytest.mark.parametrize("stream", [
    {"region": (0.0, 0.0, 0.001, 0.001)}, {"region": (0.999, 0.999, 1.0, 1.0)}, {"masks": ((0.0, 0.0, 1.0, 1.0),)},
    {"region": (0.0, 0.0, 0.5, 1.0), "masks": ((0.0, 0.0, 0.5, 1.0),)}])
def test_where_nothing_is_left_to_see_nothing_is_found(
    stream: dict[str, tuple[float, ...]], two_faces: Picture, detector: Detector, classifier: Classifier
) -> None:
    config = StreamConfig.model_validate({"source": "a.mp4", **stream})

    assert not len(analyse(two_faces, detector, classifier, config).boxes)


@pytest.mark.parametrize("size", [(1, 1), (2, 3), (16, 16), (8192, 16), (16, 4096), (3840, 2160)])
def test_pictures_of_any_size_are_analysed(size: tuple[int, int], detector: Detector, classifier: Classifier) -> None:
    width, height = size
    picture = Picture(VideoFrame.from_ndarray(np.zeros((height, width, 3), np.uint8), format="rgb24"))

    assert not len(analyse(picture, detector, classifier).boxes)


def test_a_face_that_fills_a_4k_picture_is_found_and_lies_in_it(detector: Detector, classifier: Classifier) -> None:
    picture = Picture(VideoFrame.from_ndarray(scale(smiling_face(), 3840, 2160), format="rgb24"))

    (x, y, width, height), = analyse(picture, detector, classifier).boxes.tolist()

    assert min(x, y) >= 0
    assert x + width <= 3840
    assert y + height <= 2160
    assert width > 1000


def grey_ramp() -> Pixels:
    """All 256 levels of grey, each two pixels wide, as RGB: its luma needs no matrix."""
    levels = np.repeat(np.arange(256, dtype=np.uint8), 2)
    return np.ascontiguousarray(np.broadcast_to(levels[None, :, None], (128, 512, 3)))


def scale(pixels: Pixels, width: int, height: int) -> Pixels:
    interpolation = cv2.INTER_AREA if width < pixels.shape[1] else cv2.INTER_LINEAR
    return np.asarray(cv2.resize(pixels, (width, height), interpolation=interpolation), np.uint8)


def assert_alike(
    ours: NDArray[np.uint8], theirs: NDArray[np.uint8], *, most: float = 255, mean: float = 255
) -> None:
    """Asserts that two pictures of one shape differ by at most so many levels."""
    assert ours.shape == theirs.shape
    difference = np.abs(ours.astype(np.int16) - theirs)
    assert difference.max() <= most
    assert difference.mean() <= mean
