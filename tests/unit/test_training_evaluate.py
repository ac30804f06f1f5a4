"""Figures of a set of weights: worked out by hand, measured on real pictures, and shown on a page of their own."""

import json
import re
import shutil
import tarfile
from collections import defaultdict
from dataclasses import dataclass
from html.parser import HTMLParser
from pathlib import Path

import cv2
import numpy as np
import pytest
from av.video.frame import VideoFrame
from av.video.reformatter import ColorRange

from emotiond.analyzer import Analyzer
from emotiond.config import DetectorConfig, StreamConfig
from emotiond.frames import Frame, FrameLedger, Ticket
from emotiond.metrics import Metrics
from emotiond.picture import Picture
from emotionnet.classifier import Classifier, load_classifier
from emotionnet.preprocess import resize
from emotionnet.weights import LABELS, load_info
from emotiontrain import cli
from emotiontrain.data import Split
from emotiontrain.data.votes import load_votes
from emotiontrain.evaluation import figures as evaluate
from emotiontrain.evaluation import robustness
from emotiontrain.evaluation.daemon_path import Scene, analyze, find_and_crop, measure_daemon_path
from emotiontrain.evaluation.figures import figures, reliability, risk_coverage, wilson
from emotiontrain.evaluation.geometry import measure_geometry, set_into_frame
from emotiontrain.evaluation.parallel import ParallelClassifier
from yunet.detector import load_detector

PER_LABEL = 15      # real test pictures
NAMES = ("no", "yes")


@dataclass(frozen=True)
class Sample:
    """Real pictures with their labels and votes, and a folder in which their first ones are the splits."""

    split: Split
    folder: Path
    votes: Path


@pytest.fixture(scope="module")
def sample(data_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Sample:
    """Returns pictures of PrivateTest; the folder has four of each label for test and validation, noise to train on."""
    folder, fer = tmp_path_factory.mktemp("sample"), data_dir / "fer2013"
    taken: dict[str, list[tuple[str, bytes]]] = defaultdict(list)
    with tarfile.open(fer / "fer2013_kaggle_jpg.tar.xz") as tar:
        for member in tar:
            name = Path(member.name)
            if name.name.startswith("Training"):
                break       # test pictures stand before them
            content = tar.extractfile(member) if member.isfile() else None
            if content and name.name.startswith("PrivateTest") and len(taken[name.parent.name]) < PER_LABEL:
                taken[name.parent.name].append((name.name, content.read()))
    for label, files in taken.items():
        for usage, few in (("PublicTest", files[4:8]), ("PrivateTest", files[:4])):
            for name, content in few:
                path = folder / "test" / label / name.replace("PrivateTest", usage)
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(content)
    put_noise(folder / "train", 2, "Training_{}.jpg")
    items = [(label, *file) for label, files in sorted(taken.items()) for file in files]
    pictures = [np.asarray(cv2.imdecode(np.frombuffer(content, np.uint8), cv2.IMREAD_GRAYSCALE), np.uint8)
                for *_, content in items]
    votes = load_votes(fer / "fer2013_meta.csv", LABELS)
    split = Split([name for _, name, _ in items], np.stack(pictures),
                  np.array([LABELS.index(label) for label, *_ in items]),
                  votes.of([(label, name) for label, name, _ in items]))
    assert len(split) == PER_LABEL * len(LABELS)
    return Sample(split, folder, fer / "fer2013_meta.csv")


@pytest.fixture(scope="module")
def classifier() -> Classifier:
    return load_classifier()


def put_noise(folder: Path, count: int, name: str, labels: tuple[str, ...] = LABELS) -> None:
    """Writes pictures of noise, `count` of each label, all different."""
    random = np.random.default_rng(len(str(name)) + count)
    for place, label in enumerate(labels):
        (folder / label).mkdir(parents=True, exist_ok=True)
        for index in range(count):
            picture = random.integers(0, 256, (48, 48), dtype=np.uint8)
            assert cv2.imwrite(str(folder / label / name.format(1000 * place + index)), picture)


def answers(*rows: tuple[float, float]) -> np.ndarray:
    return np.array(rows, np.float32)


def test_figures_are_those_worked_out_by_hand() -> None:
    labels = np.array([0, 0, 0, 1, 2, 2], np.int64)
    predicted = [0, 0, 1, 1, 2, 0]
    probabilities = np.full((6, len(LABELS)), 0.05, np.float32)
    probabilities[np.arange(6), predicted] = 0.7

    result = figures(probabilities, labels)

    assert result["accuracy"] == round(4 / 6, 4)
    assert [result["recall"][label] for label in LABELS[:4]] == [round(2 / 3, 4), 1.0, 0.5, None]
    assert [result["precision"][label] for label in LABELS[:4]] == [round(2 / 3, 4), 0.5, 1.0, None]
    assert result["macro_f1"] == round((2 / 3 + 2 / 3 + 2 / 3) / 3, 4)
    assert result["balanced_accuracy"] == round((2 / 3 + 1 + 1 / 2) / 3, 4)
    assert result["confusion"][0][:3] == [2, 1, 0]
    assert result["nll"] == pytest.approx(-(4 * np.log(0.7) + 2 * np.log(0.05)) / 6, abs=1e-4)
    assert result["ece"] == pytest.approx(0.7 - 4 / 6, abs=1e-4)
    wrong, right = 0.7**2 + 0.95**2 + 5 * 0.05**2, 0.3**2 + 6 * 0.05**2
    assert result["brier"] == pytest.approx((4 * right + 2 * wrong) / 6, abs=1e-4)


def test_calibration_error_weighs_the_gap_of_each_bin_by_its_pictures() -> None:
    probabilities = answers((0.9, 0.1), (0.9, 0.1), (0.9, 0.1), (0.4, 0.6))
    labels = np.array([0, 0, 1, 1])

    bins = reliability(probabilities, labels)

    assert bins.counts.sum() == 4
    assert np.count_nonzero(bins.counts) == 2
    assert bins.error == pytest.approx((3 * abs(2 / 3 - 0.9) + 1 * abs(1 - 0.6)) / 4, abs=1e-6)


def test_a_confidence_on_the_edge_of_a_bin_belongs_to_the_lower_one() -> None:
    bins = reliability(answers((1.0, 0.0), (0.5, 0.5), (0.75, 0.25)), np.array([0, 0, 0]), bins=4)

    assert bins.counts.tolist() == [0, 1, 1, 1]


def test_risk_is_counted_from_the_most_confident_answer_on() -> None:
    curve = risk_coverage(answers((0.7, 0.3), (0.9, 0.1), (0.2, 0.8)), np.array([0, 0, 0]))

    assert curve.coverage.tolist() == pytest.approx([1 / 3, 2 / 3, 1])
    assert curve.risk.tolist() == pytest.approx([0, 1 / 2, 1 / 3])
    assert curve.aurc == pytest.approx((0 + 1 / 2 + 1 / 3) / 3)
    assert curve.above(0.75) == pytest.approx((2 / 3, 1 / 2))
    assert curve.above(0.95)[0] == 0


@pytest.mark.parametrize("labels", [[0, 1], [1, 0]])
def test_answers_of_one_confidence_have_no_order(labels: list[int]) -> None:
    curve = risk_coverage(answers((0.8, 0.2), (0.8, 0.2)), np.array(labels))

    assert curve.risk.tolist() == [0.5, 0.5]


def test_intervals_of_shares_are_wilsons() -> None:
    found = wilson(np.array([8, 0, 10, 0]), np.array([10, 10, 10, 0]))

    assert found == pytest.approx(np.array([[0.4902, 0.9433], [0, 0.2775], [0.7225, 1], [0, 1]]), abs=1e-4)


def test_bootstrapped_matrices_spread_as_the_share_itself_does() -> None:
    confusion = np.array([[400, 100], [50, 450]])

    drawn = evaluate.bootstrap(confusion)

    assert np.array_equal(drawn, evaluate.bootstrap(confusion))
    assert (drawn.sum(axis=(1, 2)) == 1000).all()
    low, high = evaluate.percentiles(evaluate.accuracy(drawn))
    assert [low, high] == pytest.approx(wilson(850, 1000).tolist(), abs=0.004)
    assert evaluate.balanced_accuracy(drawn).mean() == pytest.approx(0.85, abs=0.002)


def test_a_perfect_classifier_has_nothing_to_mend() -> None:
    labels = np.arange(70) % 7
    probabilities = np.eye(7, dtype=np.float32)[labels]

    result = figures(probabilities, labels)

    assert [result[name] for name in ("accuracy", "macro_f1", "balanced_accuracy")] == [1, 1, 1]
    assert [abs(result[name]) for name in ("nll", "ece", "brier")] == [0, 0, 0]
    assert risk_coverage(probabilities, labels).aurc == 0


def test_a_classifier_that_guesses_is_right_one_time_in_seven_and_as_sure_as_it_says() -> None:
    random = np.random.default_rng(3)
    labels = random.integers(0, 7, 20_000)
    probabilities = np.full((20_000, 7), 1 / 7 - 0.001, np.float32)
    probabilities[np.arange(20_000), random.integers(0, 7, 20_000)] += 0.007

    result = figures(probabilities, labels)

    assert result["accuracy"] == pytest.approx(1 / 7, abs=0.01)
    assert result["ece"] < 0.02
    assert result["nll"] == pytest.approx(np.log(7), abs=0.001)
    assert risk_coverage(probabilities, labels).aurc == pytest.approx(6 / 7, abs=0.01)


def test_votes_count_where_more_than_half_agree_and_their_shares_everywhere() -> None:
    probabilities = answers((0.7, 0.3), (0.7, 0.3), (0.2, 0.8), (0.9, 0.1))
    votes = np.array([[6, 4, 0], [5, 5, 0], [8, 2, 0], [0, 0, 10]])

    result = figures(probabilities, np.array([1, 1, 1, 1]), NAMES, votes)
    agreement = evaluate.votes_agreement(probabilities, votes)

    assert result["votes"]["pictures"] == 2
    assert result["votes"]["accuracy"] == 0.5
    assert result["votes"]["recall"] == {"no": 0.5, "yes": None}
    assert agreement["agreement"] == pytest.approx((0.6 + 0.5 + 0.2 + 0) / 4)
    assert agreement["taggers"] == pytest.approx(((30 + 12) + (20 + 20) + (56 + 2) + 90) / 90 / 4, abs=1e-4)
    shares = [(0.6, 0.4), (0.5, 0.5), (0.8, 0.2)]
    crossed = [-sum(s * np.log(p) for s, p in zip(share, row, strict=True))
               for share, row in zip(shares, probabilities.tolist(), strict=False)]
    assert agreement["pictures"] == 3
    assert agreement["cross_entropy"] == pytest.approx(np.mean(crossed), abs=1e-4)
    own = -np.mean([np.sum([s * np.log(s) for s in share]) for share in shares])
    assert agreement["entropy"] == pytest.approx(own, abs=1e-4)
    assert evaluate.votes_agreement(probabilities[:1], np.array([[1, 0, 0]]))["taggers"] is None
    assert set(evaluate.votes_agreement(probabilities[:1], np.array([[0, 0, 1]])).values()) == {0, None}


def test_the_interval_of_the_calibration_error_covers_the_truth_and_shrinks_with_more_pictures() -> None:
    random = np.random.default_rng(4)

    def interval(count: int, over: float) -> list[float]:
        confidence = random.uniform(0.5, 0.9, count)
        right = random.random(count) < confidence - over
        probabilities = np.stack([1 - confidence, confidence], axis=1).astype(np.float32)
        return evaluate.ece_interval(probabilities, right.astype(np.int64))

    wide, low, high = interval(60, 0.1), interval(6000, 0.0), interval(6000, 0.1)
    assert low[0] < 0.01
    assert low[1] < 0.03
    assert high[0] < 0.1 < high[1]
    assert wide[1] - wide[0] > 3 * (high[1] - high[0])


@pytest.mark.parametrize(("points", "interval", "word"), [
    (1.0, (0.5, 1.5), "within"), (5.0, (-5.0, 16.0), "undecided"), (13.0, (-5.0, 31.0), "undecided"),
    (13.0, (12.5, 13.5), "above"), (-8.0, (-9.0, -7.0), "within")])
def test_a_loss_whose_interval_spans_the_target_is_undecided(
    points: float, interval: tuple[float, float], word: str
) -> None:
    assert robustness.judge(points, interval, 12) == word


@pytest.mark.parametrize("corruption", robustness.CORRUPTIONS, ids=lambda corruption: corruption.name)
def test_a_corruption_repeats_and_changes_the_picture_but_not_its_size(corruption: robustness.Corruption) -> None:
    pictures = np.random.default_rng(5).integers(40, 216, (4, 12, 12), dtype=np.uint8)
    pictures = np.stack([cv2.resize(picture, (48, 48), interpolation=cv2.INTER_CUBIC) for picture in pictures])
    before = pictures.copy()

    crops = corruption.crops(pictures, 64)

    assert crops.shape == (4, 64, 64)
    assert crops.dtype == np.uint8
    assert np.array_equal(crops, corruption.crops(pictures, 64))
    assert np.array_equal(pictures, before)
    clean = np.stack([cv2.resize(picture, (64, 64)) for picture in pictures])
    assert all((crop != plain).any() for crop, plain in zip(crops, clean, strict=True))
    assert len(corruption.crops(pictures[:0], 64)) == 0


def test_each_draw_of_a_crop_is_another_and_no_jitter_is_no_change() -> None:
    picture = np.random.default_rng(6).integers(0, 256, (48, 48), dtype=np.uint8)
    jitter = next(c for c in robustness.CORRUPTIONS if c.name == robustness.JITTER_10)

    assert (jitter.crops(picture[None], 64, 0) != jitter.crops(picture[None], 64, 1)).any()
    assert np.array_equal(robustness.jitter(picture, np.random.default_rng(0), 64, 0), resize(picture, 64))


def test_robustness_is_counted_in_points_against_labels_and_votes(sample: Sample, classifier: Classifier) -> None:
    clean = evaluate.classify(classifier, sample.split.pictures)
    same = robustness.Corruption("none", "as it is", lambda picture, rng, side: picture)
    dark = robustness.Corruption("none", "dark", lambda picture, rng, side: np.zeros_like(picture))

    losses = robustness.measure_robustness(classifier, sample.split, clean, (same, dark))

    accuracy = figures(clean, sample.split.labels)["accuracy"]
    assert (losses["labels"][0].accuracy, losses["labels"][0].points) == (accuracy, 0)
    assert losses["labels"][1].accuracy == round(1 / 7, 4)
    assert losses["labels"][1].points == pytest.approx(100 * (accuracy - 1 / 7), abs=0.01)
    assert losses["labels"][1].low < losses["labels"][1].points < losses["labels"][1].high
    assert losses["votes"][0].accuracy == figures(clean, sample.split.labels, LABELS, sample.split.votes)[
        "votes"]["accuracy"]


def test_several_threads_classify_as_one_does(sample: Sample, classifier: Classifier) -> None:
    several = ParallelClassifier([load_classifier() for _ in range(3)])

    together = evaluate.classify(several, sample.split.pictures)

    np.testing.assert_allclose(together, evaluate.classify(classifier, sample.split.pictures), atol=1e-5)
    side = classifier.info.input.side
    assert len(several.classify(np.zeros((0, side, side), np.uint8))) == 0


@pytest.mark.parametrize("scene", [Scene(96), Scene(192, 1280, 720)], ids=lambda scene: scene.name)
def test_faces_set_into_frames_are_found_and_read_nearly_as_the_pictures_are(
    scene: Scene, sample: Sample, classifier: Classifier
) -> None:
    clean = evaluate.classify(classifier, sample.split.pictures)

    result, = measure_daemon_path(classifier, sample.split, clean, [scene], threads=2)

    assert result.found > 0.8
    assert result.labels is not None
    assert result.labels.pictures == round(result.found * len(sample.split))
    assert result.labels.path > result.labels.direct - 0.1
    assert result.votes is not None
    assert 0 < result.votes.pictures < result.labels.pictures


def test_the_number_of_threads_changes_nothing_of_what_is_found(sample: Sample, classifier: Classifier) -> None:
    pictures, spec = sample.split.pictures[:40], classifier.info.input

    one, several = (find_and_crop(pictures, Scene(96), spec, threads) for threads in (1, 3))

    assert np.array_equal(one[0], several[0])
    assert np.array_equal(one[1], several[1])


@pytest.mark.parametrize(("width", "height", "near"), [(640, 384, 0.05), (1280, 720, 0.1)])
def test_the_path_is_the_one_that_the_daemon_goes(
    width: int, height: int, near: float, sample: Sample, classifier: Classifier
) -> None:
    pictures = sample.split.pictures[::25]
    places = np.array([[40 + 110 * index, 30 + 40 * index] for index in range(len(pictures))])
    frame = set_into_frame(list(pictures), places, 96, width, height)
    crops = analyze(load_detector(), frame, places, 96, classifier.info.input)

    planes = np.full((height * 3 // 2, width), 128, np.uint8)       # no colour
    planes[:height] = np.rint(frame * (219 / 255) + 16)
    video = VideoFrame.from_ndarray(planes, format="yuv420p")
    video.color_range = ColorRange.MPEG
    metrics = Metrics(FrameLedger(), classifier.info.labels)
    metrics.add_stream("s")
    analyzer = Analyzer(load_detector(), classifier, DetectorConfig(), {"s": StreamConfig(source="a.mp4")}, metrics)
    ticket = Ticket(Frame("s", 0, 0.0, 0, "file", 0.0, None, Picture(video)), 0)
    analysis, = analyzer.analyze([ticket])

    assert all(crop is not None for crop in crops)
    assert len(analysis.boxes) == len(crops)
    left_to_right = analysis.probabilities[np.argsort(analysis.boxes[:, 0])]
    own = classifier.classify(np.stack([crop for crop in crops if crop is not None]))
    np.testing.assert_allclose(own, left_to_right, atol=near)
    second, first = np.sort(own, axis=1)[:, -2:].T
    clear = first - second > 2 * near
    assert clear.any()
    assert own[clear].argmax(axis=1).tolist() == left_to_right[clear].argmax(axis=1).tolist()


def test_pictures_without_a_face_are_not_compared(classifier: Classifier) -> None:
    empty = Split(["a"], np.full((1, 48, 48), 128, np.uint8), np.array([0]))

    result, = measure_daemon_path(classifier, empty, evaluate.classify(classifier, empty.pictures), [Scene(96)])

    assert (result.found, result.labels, result.votes) == (0, None, None)


def test_the_training_pictures_geometry_is_that_of_the_daemons_crop(sample: Sample) -> None:
    geometry = measure_geometry(list(sample.split.pictures[::3]), 144)

    assert geometry.found > 0.85
    assert geometry.margin.median == pytest.approx(1.104, abs=0.05)
    assert geometry.shift_y.median == pytest.approx(-0.019, abs=0.03)


@pytest.fixture(scope="module")
def reported(sample: Sample, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Returns the folder of a whole report on 28 pictures, with its figures in figures.json."""
    folder = tmp_path_factory.mktemp("report")
    assert cli.main(["evaluate", "builtin", str(sample.folder), "--votes", str(sample.votes), "--split", "test",
                     "--report", str(folder / "page"), "--json", str(folder / "figures.json"), "--threads", "1"]) == 0
    return folder


def test_the_page_holds_the_figures_and_needs_nothing_else(reported: Path) -> None:
    page = (reported / "page" / "index.html").read_text(encoding="utf-8")
    document = json.loads((reported / "figures.json").read_text(encoding="utf-8"))

    assert [path.name for path in (reported / "page").iterdir()] == ["index.html"]
    assert not re.search(r"https?:|\b(?:src|href)=|url\(|@import|<script|<link", page)
    figures = document["figures"]
    assert figures["pictures"] == 28
    for share in (figures["accuracy"], figures["votes"]["accuracy"], figures["recall"]["happy"],
                  document["robustness"]["labels"][0]["accuracy"], document["daemon_path"][0]["found"],
                  document["augmented"]["mirrored too, 2 looks"]["accuracy"]):
        assert f"{100 * share:.1f} %" in page
    for text in (load_info().sha256["emotionnet.onnx"], *(c.name for c in robustness.CORRUPTIONS),
                 document["speed"]["processor"], "emotiontrain evaluate builtin"):
        assert text in page
    assert page.count("<svg") == 5
    assert "Only 28 pictures: each figure is uncertain" in page
    assert 'class="bar faint"' in page
    fitted = load_info().calibration
    assert (f"temperature {fitted.temperature:g}, abstain below {fitted.abstain_below:g}, "
            f"fitted on {fitted.pictures:,} pictures of validation") in page
    assert not re.search(r"\bnan\b|\bNone\b", page)


def test_every_tag_of_the_page_is_closed_and_every_table_has_a_caption(reported: Path) -> None:
    page = (reported / "page" / "index.html").read_text(encoding="utf-8")
    unclosed: list[str] = []

    class Reader(HTMLParser):
        def handle_starttag(self, tag: str, attrs: object) -> None:
            if tag != "meta":
                unclosed.append(tag)

        def handle_startendtag(self, tag: str, attrs: object) -> None:
            pass

        def handle_endtag(self, tag: str) -> None:
            assert unclosed.pop() == tag

    Reader(convert_charrefs=True).feed(page)

    assert unclosed == []
    assert page.count("<table") == page.count("<caption>") > 5


def test_losses_with_a_limit_are_printed_beside_it(
    sample: Sample, tmp_path: Path, capsys: pytest.CaptureFixture[str], reported: Path
) -> None:
    from emotiontrain.evaluation.report import comparisons

    lines = comparisons(json.loads((reported / "figures.json").read_text(encoding="utf-8")))

    assert len(lines) == 2 * (1 + 1 + 6)
    assert any(re.match(r"resolution 24 px, against labels: \d+\.\d\d points (lost|gained) \(loss at 95 %: .*\), "
                        "target at most 12: (within|above|undecided)$", line)
               for line in lines)
    assert any(re.match(r"daemon's path, 96 px in 640 x 384, [\d.]+% found, against votes: .*, target at most 2: ",
                        line) for line in lines)


def test_figures_are_kept_in_the_weights_only_when_asked(
    sample: Sample, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    weights = tmp_path / "set"
    shutil.copytree(load_info().folder, weights)
    before = load_info(weights)
    command = ["evaluate", str(weights), str(sample.folder), "--votes", str(sample.votes), "--threads", "1"]

    assert cli.main([*command, "--json", str(tmp_path / "figures.json")]) == 0
    assert load_info(weights) == before
    assert cli.main([*command, "--split", "test", "--store"]) == 0

    assert json.loads((tmp_path / "figures.json").read_text())["figures"]["pictures"] == 28
    stored = load_info(weights).metrics
    assert stored["validation"] == before.metrics["validation"]
    assert set(stored["test"]) == {"pictures", "accuracy", "macro_f1", "balanced_accuracy", "nll", "ece", "brier",
                                   "recall", "precision", "confusion", "votes"}
    assert set(stored["test"]["votes"]) == {"pictures", "accuracy", "ece", "nll", "recall"}
    assert np.sum(stored["test"]["confusion"]) == 28
    said = capsys.readouterr().out
    assert "on test, 28 pictures: accuracy" in said
    assert "clear majority of votes" in said


def test_a_set_in_which_no_face_is_found_and_nobody_voted_still_gets_its_page(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    put_noise(tmp_path / "fer" / "train", 2, "Training_{}.jpg")
    put_noise(tmp_path / "fer" / "test", 1, "PublicTest_{}.jpg")
    put_noise(tmp_path / "fer" / "test", 1, "PrivateTest_{}.jpg")
    page = tmp_path / "deep" / "page"

    assert cli.main(["evaluate", "builtin", str(tmp_path / "fer"), "--report", str(page), "--threads", "1",
                     "--json", str(tmp_path / "figures.json")]) == 0

    assert "crop jitter 10 %, against labels" in capsys.readouterr().out
    document = json.loads((tmp_path / "figures.json").read_text(),
                          parse_constant=lambda name: pytest.fail(f"{name} is no JSON"))
    assert all(scene["votes"] is None for scene in document["daemon_path"])
    assert "majority of votes" not in (page / "index.html").read_text().partition("<section>")[2].partition(
        "Test-time")[0]


def test_a_folder_with_nothing_but_test_pictures_can_be_measured(
    sample: Sample, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copytree(sample.folder / "test", tmp_path / "own" / "test", ignore=shutil.ignore_patterns("PublicTest*"))

    assert cli.main(["evaluate", "builtin", str(tmp_path / "own"), "--split", "test", "--threads", "1"]) == 0
    assert "on test, 28 pictures: accuracy" in capsys.readouterr().out
    assert "has no validation pictures" in error_of(["builtin", str(tmp_path / "own")], 66, capsys)


def error_of(arguments: list[str], code: int, capsys: pytest.CaptureFixture[str]) -> str:
    """Runs an evaluation that cannot be and returns its one sentence."""
    assert cli.main(["evaluate", *arguments, "--threads", "1"]) == code
    said = capsys.readouterr()
    assert said.out == ""
    assert said.err.startswith("emotiontrain: ")
    assert said.err.count("\n") == 1
    return said.err


def test_what_cannot_be_measured_is_said_in_one_sentence(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    own, other, file = tmp_path / "own", tmp_path / "other", tmp_path / "file"
    put_noise(own / "train", 12, "{}.png")
    put_noise(other / "train", 12, "{}.png", ("cat", "owl"))
    file.write_text("here already")

    assert f"{own}: has no test pictures" in error_of(["builtin", str(own), "--split", "test"], 66, capsys)
    assert "its labels are angry, disgust" in error_of(["builtin", str(other)], 1, capsys)
    assert "is a file" in error_of(["builtin", str(own), "--report", str(file)], 1, capsys)
    assert str(tmp_path / "votes.csv") in error_of(
        ["builtin", str(own), "--votes", str(tmp_path / "votes.csv")], 66, capsys)
    assert str(tmp_path / "none") in error_of([str(tmp_path / "none"), str(own)], 1, capsys)
    assert file.read_text() == "here already"


def test_a_page_that_cannot_be_written_leaves_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    put_noise(tmp_path / "own" / "train", 12, "{}.png")
    (tmp_path / "page" / "index.html").mkdir(parents=True)

    assert cli.main(["evaluate", "builtin", str(tmp_path / "own"), "--report", str(tmp_path / "page"),
                     "--threads", "1"]) == 1

    assert "index.html: cannot be written" in capsys.readouterr().err
    assert [path.name for path in (tmp_path / "page").iterdir()] == ["index.html"]
