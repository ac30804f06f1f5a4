"""The evaluation as one HTML page that needs nothing but itself: read on a telephone, in the dark, or on paper."""

from collections.abc import Sequence
from html import escape
from pathlib import Path
from typing import Any

from emotiontrain.evaluation.markup import between, figure, percent, section, signed, signed_span, span, table
from emotiontrain.evaluation.plots import FEW, bar_plot, class_plot, reliability_plot, risk_plot
from emotiontrain.evaluation.robustness import judge

Document = dict[str, Any]
Row = Sequence[str]

TRUTHS = {"labels": "labels", "votes": "majority of votes"}
SMALL = 500
"""Pictures below which the page begins with a warning."""
STYLE = Path(__file__).with_name("page.css")


def build_page(document: Document) -> str:
    """Returns the page of a document as `report.measure_all` and `report.describe` make it together."""
    weights, data = document["weights"], document["data"]
    title = f"{weights['id']} on {data['split']}"
    parts = [_summary, _limits, _classes, _confusion, _calibration, _abstention, _votes, _robustness, _path,
                _augmented, _speed, _protocol, _provenance]
    notice = (f'<p class="notice">Only {data["pictures"]:,} pictures: each figure is uncertain by several points. '
              "Read the intervals, and measure on more before relying on it.</p>\n" if data["pictures"] < SMALL else "")
    body = "\n".join(part(document) for part in parts)
    return (f'<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
            f'<meta name="viewport" content="width=device-width, initial-scale=1">\n<title>{escape(title)}</title>\n'
            f"<style>\n{STYLE.read_text(encoding='utf-8')}</style>\n</head>\n<body>\n<header><h1>{escape(title)}</h1>\n"
            f"<p>{data['pictures']:,} pictures, one look at each. Measured on {document['day']} with "
            f"the daemon's own classifier.</p>\n{notice}</header>\n<main>\n{body}\n</main>\n</body>\n</html>\n")


def _summary(document: Document) -> str:
    figures, intervals = document["figures"], document["intervals"]
    tiles = [("accuracy", percent(figures["accuracy"]), between(intervals["accuracy"]))]
    if "votes" in figures:
        votes = figures["votes"]
        tiles.append(("against the majority of votes", percent(votes["accuracy"]),
                      f"{between(intervals['votes']['accuracy'])}; {votes['pictures']:,} pictures"))
        tiles.append(("ECE against the majority", f"{votes['ece']:.3f}", span(intervals["votes"]["ece"])))
    tiles += [
        ("macro-F1", f"{figures['macro_f1']:.3f}", span(intervals["macro_f1"])),
        ("balanced accuracy", percent(figures["balanced_accuracy"]), between(intervals["balanced_accuracy"])),
        ("ECE", f"{figures['ece']:.3f}", f"{span(intervals['ece'])}; calibration error, 0 is perfect"),
        ("NLL", f"{figures['nll']:.3f}", "nats a picture"),
        ("Brier", f"{figures['brier']:.3f}", "0 to 2, 0 is perfect"),
        ("AURC", f"{document['risk_coverage']['labels']['aurc']:.3f}", "mean risk over coverages"),
    ]
    items = "".join(f"<div><dt>{escape(name)}</dt><dd>{value}<small>{escape(note)}</small></dd></div>"
                    for name, value, note in tiles)
    return section("Summary", f'<dl class="tiles">{items}</dl>')


def _limits(document: Document) -> str:
    bars = document["bars"]
    rows: list[Row] = []
    for truth, losses in document["robustness"].items():
        rows += [_limit(loss["name"], truth, loss["points"], loss["interval"], bars[loss["name"]])
                 for loss in losses if loss["name"] in bars]
    for scene in document["daemon_path"]:
        rows += [_limit(f"daemon's path, {scene['name']}", truth, scene[truth]["points"],
                        [scene[truth]["low"], scene[truth]["high"]], bars["daemon path"])
                 for truth in TRUTHS if scene[truth]]
    return section("Losses beside this project's targets", table(
        "Percentage points lost, a minus being a gain, beside the most that this project asks of the weights it "
        "ships; for weights of your own these are no more than a yardstick. Undecided: the interval spans the target.",
        ("what", "against", "points lost", "95 % interval", "target, at most", ""), rows))


def _limit(name: str, truth: str, points: float, interval: Sequence[float], most: float) -> Row:
    return (name, TRUTHS[truth], signed(points), signed_span(*interval), f"{most:g}",
            judge(points, interval, most))


def _classes(document: Document) -> str:
    figures, intervals = document["figures"], document["intervals"]
    names = list(figures["recall"])
    votes = figures.get("votes")
    rows: list[Row] = []
    drawn: list[tuple[str, list[tuple[float, float, float] | None]]] = []
    for name in names:
        row = [name, f"{document['data']['counts'][name]:,}"]
        marks: list[tuple[float, float, float] | None] = []
        pairs = [(figures["recall"], intervals["recall"]), (figures["precision"], intervals["precision"])]
        if votes:
            pairs.append((votes["recall"], intervals["votes"]["recall"]))
        for values, spans in pairs:
            row += [percent(values[name]), between(spans[name]) if values[name] is not None else ""]
            marks.append(None if values[name] is None else (values[name], *spans[name]))
        rows.append(row)
        drawn.append((name, marks[::2]))
    head = ["class", "pictures", "recall", "95 %", "precision", "95 %"]
    head += ["recall of the majority", "95 %"] if votes else []
    plot = class_plot(drawn, ["recall"] + (["of the majority of votes"] if votes else []))
    return section("By class", figure(plot, "Recall of each class with its 95 % interval.")
                    + table("Recall and precision", head, rows))


def _confusion(document: Document) -> str:
    names = list(document["figures"]["recall"])
    rows: list[str] = []
    for name, counts in zip(names, document["figures"]["confusion"], strict=True):
        total = max(sum(counts), 1)
        cells = "".join(f'<td style="--share:{100 * n / total:.0f}%">{n}<small>{100 * n / total:.0f} %</small></td>'
                        for n in counts)
        rows.append(f'<tr><th scope="row">{escape(name)}</th>{cells}</tr>')
    head = "".join(f'<th scope="col">{escape(name)}</th>' for name in names)
    return section("Confusion matrix", (
        '<div class="wide"><table class="matrix"><caption>True class down, answer across: pictures, and their share of '
        f'the true class</caption><thead><tr><th scope="col">true</th>{head}</tr></thead><tbody>{"".join(rows)}'
        "</tbody></table></div>"))


def _calibration(document: Document) -> str:
    parts: list[str] = []
    for truth, bins in document["reliability"].items():
        error = document["figures"]["ece"] if truth == "labels" else document["figures"]["votes"]["ece"]
        parts.append(figure(reliability_plot(bins), (
            f"Against the {TRUTHS[truth]}: ECE {error:.3f}. The end of a bar is the gap to the mean confidence: orange "
            "where the network was too sure, pale blue where it was not sure enough. Faint bars stand for fewer than "
            f"{FEW} pictures.")))
    return section("Calibration", f'<div class="pair">{"".join(parts)}</div>')


def _abstention(document: Document) -> str:
    curves: dict[str, list[tuple[float, float]]] = {}
    marks: dict[str, tuple[float, float]] = {}
    columns = document["risk_coverage"]
    for truth, risk in columns.items():
        curves[TRUTHS[truth]] = [(c, r) for c, r in risk["curve"]]
        default = risk["default"]
        if default["accuracy"] is not None:
            marks[TRUTHS[truth]] = (default["coverage"], 1 - default["accuracy"])
    at = columns["labels"]["default"]["abstain_below"]
    rows: list[Row] = []
    for index, row in enumerate(columns["labels"]["thresholds"]):
        cells = [f"{row['abstain_below']:.2f}"]
        for risk in columns.values():
            one = risk["thresholds"][index]
            cells += [percent(one["coverage"]), percent(one["accuracy"])]
        rows.append(cells)
    head = ["abstain below"] + [f"{what}, {TRUTHS[truth]}" for truth in columns for what in ("answered", "right")]
    areas = ", ".join(f"{risk['aurc']:.4f} against the {TRUTHS[truth]}" for truth, risk in columns.items())
    return section("Abstention", figure(
        risk_plot(curves, marks), f"Risk against coverage; area under the curve (AURC) {areas}. The dot is the "
        f"threshold of these weights, {at:g}.") + table("What a threshold leaves", head, rows))


def _votes(document: Document) -> str:
    agreement = document.get("votes_agreement")
    if not agreement:
        return ""
    votes = document["figures"]["votes"]
    rows = [
        ("pictures with a clear majority", f"{votes['pictures']:,}"),
        ("accuracy against it", f"{percent(votes['accuracy'])} "
         f"({between(document['intervals']['votes']['accuracy'])})"),
        ("macro-F1 against it", f"{agreement['macro_f1']:.3f}"),
        ("balanced accuracy against it", percent(agreement["balanced_accuracy"])),
        ("ECE / NLL / Brier against it", f"{votes['ece']:.3f} / {votes['nll']:.3f} / {agreement['brier']:.3f}"),
        ("cross-entropy against the shares of votes", f"{agreement['cross_entropy']:.3f} nats; "
         f"the shares' own entropy is {agreement['entropy']:.3f}"),
        ("agrees with a random tagger", percent(agreement["agreement"])),
        ("two random taggers agree", percent(agreement["taggers"])),
    ]
    return section("Agreement with the taggers", table("Votes", ("", ""), rows, "facts"))


def _robustness(document: Document) -> str:
    both = document["robustness"]
    rows: list[Row] = []
    for index, loss in enumerate(both["labels"]):
        cells = [loss["name"]]
        for losses in both.values():
            one = losses[index]
            low, high = one["interval"]
            cells += [percent(one["accuracy"]), signed(one["points"]), signed_span(low, high)]
        rows.append(cells)
    head = ["corruption"] + [f"{what}, {TRUTHS[truth]}" for truth in both for what in ("accuracy", "lost", "95 %")]
    plot = bar_plot([(loss["group"], loss["name"], loss["accuracy"]) for loss in both["labels"]],
                    document["figures"]["accuracy"])
    return section("Robustness", figure(plot, "Accuracy against the labels under each corruption, in percent.")
                    + table("Accuracy, and percentage points lost to the clean pictures", head, rows))


def _path(document: Document) -> str:
    rows: list[Row] = []
    for scene in document["daemon_path"]:
        for truth in TRUTHS:
            one = scene[truth]
            if one:
                rows.append((scene["name"], percent(scene["found"]), TRUTHS[truth], f"{one['pictures']:,}",
                             percent(one["direct"]), percent(one["path"]), signed(one["points"]),
                             signed_span(one["low"], one["high"])))
    return section("Through the daemon's path", table(
        "Pictures set into empty frames, found, cut out and classified, beside the same pictures classified whole",
        ("picture in frame", "faces found", "against", "pictures", "direct", "path", "points lost", "95 %"), rows))


def _augmented(document: Document) -> str:
    plain = document["figures"]
    voted = "votes" in plain
    rows = [(name, percent(figures["accuracy"]),
             *([percent(figures["votes"]["accuracy"])] if voted else []),
             f"{figures['macro_f1']:.3f}", f"{figures['nll']:.3f}", f"{figures['ece']:.3f}")
            for name, figures in {"one look (all other figures)": plain, **document["augmented"]}.items()]
    return section("Test-time augmentation", table(
        "The mean of several looks at a picture; the daemon takes one",
        ("looks", "accuracy", *(["majority of votes"] if voted else []), "macro-F1", "NLL", "ECE"), rows))


def _speed(document: Document) -> str:
    speed = document["speed"]
    rows = [(str(one["batch"]), f"{one['milliseconds']:.2f}", f"{one['cpu_milliseconds']:.2f}",
             f"{one['faces_per_second']:,.0f}") for one in speed["sizes"]]
    return section("Speed", table(f"One thread of {speed['processor']}; medians",
                                    ("faces a call", "ms a face", "processor ms a face", "faces a second"), rows))


def _protocol(document: Document) -> str:
    notes = [
        "Every picture is scaled to the network's input as the daemon scales a crop: by area where it shrinks, "
        "bilinearly where it grows. One look, no test-time augmentation, except in its own section.",
        "Intervals are 95 %: Wilson's for shares; for macro-F1 and balanced accuracy the percentiles of 2,000 seeded "
        "bootstrap draws; for the ECE those of 1,000, reflected at it; for points lost a normal interval of the "
        "differences picture by picture.",
        "Macro-F1 is the mean F1 of the classes; balanced accuracy their mean recall.",
        "ECE: answers in 15 bins of equal width by their top confidence; the mean of |accuracy - confidence| over "
        "pictures. NLL: natural logarithm. Brier: squared distance summed over classes, 0 to 2.",
        "Risk is the share of wrong answers among those given, coverage the share of pictures answered, the most "
        "confident first; AURC is the mean risk over all coverages. The curve is drawn from 1 % coverage on.",
        "Corruptions work on the stored picture, and are seeded. Blur is in pixels of a 48 px picture, noise and "
        "brightness in grey levels of 255. Crop jitter cuts a square whose side is up to the given share larger or "
        "smaller and whose centre lies up to that share of the side off in x and in y, each drawn uniformly, edges "
        "repeated, the mean of three draws. Rectangles lie anywhere; eyes are 22 to 48 %, the mouth 62 to 95 % of the "
        "height; what covers is grey.",
        "The daemon's path: pictures stand at random places in empty grey frames of limited-range luma, several in "
        "each; the frame is scaled down to 640 px for the detector, whose boxes (score 0.6, 24 px and more) are scaled "
        "back, and the crop is cut as the daemon cuts it. A picture is found if a box's centre lies in it. Only "
        "pictures found are compared.",
    ]
    if document["data"]["clear_votes"] is not None:
        notes.insert(3, "The majority of votes: the class that more than half of all taggers chose; pictures without "
                     "one, and those whose majority is no class of the network, are left out. Agreement with a random "
                     "tagger counts every vote, the ones for no class too.")
    return section("How it was measured", f"<ul>{''.join(f'<li>{escape(note)}</li>' for note in notes)}</ul>")


def _provenance(document: Document) -> str:
    weights, data = document["weights"], document["data"]
    calibration = weights["calibration"]
    rows: list[Row] = [("weights", f"{weights['id']} ({weights['file']}), {weights['parameters']:,} parameters, "
                        f"input {weights['side']} x {weights['side']} px")]
    rows += [(f"sha256 of {name}", digest) for name, digest in weights["sha256"].items()]
    rows.append(("calibration", _describe_calibration(calibration)))
    rows += [("made by", command) for command in weights["provenance"].get("commands", [])]
    rows += [("data", data["source"]),
             ("split", f"{data['split']}: " + ", ".join(f"{name} {n:,}" for name, n in data["counts"].items()))]
    rows += [("dropped", f"{count:,} {reason}") for reason, count in data["dropped"].items() if count]
    rows += [("note", note) for note in data["notes"]]
    rows += [("command", document["command"]),
             ("versions", ", ".join(f"{name} {value}" for name, value in document["versions"].items()))]
    return section("Provenance", table("Where these figures come from", ("", ""), rows, "facts"))


def _describe_calibration(calibration: dict[str, Any]) -> str:
    threshold = f"abstain below {calibration['abstain_below']:g}"
    if calibration["ece_after"] is None:
        few = f": {calibration['pictures']:,} validation pictures are too few" if calibration["pictures"] else ""
        return f"none{few}; temperature {calibration['temperature']:g}, {threshold}, the default"
    return (f"temperature {calibration['temperature']:g}, {threshold}, fitted on {calibration['pictures']:,} pictures "
            f"of {calibration['split']} against the {TRUTHS[calibration['truth']]}; ECE there "
            f"{calibration['ece_before']:.3f} before, {calibration['ece_after']:.3f} after")
