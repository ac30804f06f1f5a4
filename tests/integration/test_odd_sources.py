"""Sources that are legal and strange: times of another age, credentials in a URL, a tower of a picture."""

from pathlib import Path

import numpy as np
import pytest
from av.video.frame import VideoFrame

from emotiond.config_file import load_config, make_config
from emotiond.errors import ConfigError
from emotiond.picture import TALLEST, Picture, Scalers
from tests.support.commands import run
from tests.support.pictures import face_frames
from tests.support.videos import write_video


def test_times_that_no_calendar_holds_stop_nothing(tmp_path: Path) -> None:
    video = write_video(tmp_path / "jump.mkv", face_frames(4), times=[0, 0.1, 4e11, 4e11 + 0.1], codec="mjpeg",
                        pix_fmt="yuvj420p")
    ended = run("replay", video, "--events", tmp_path / "events.jsonl")
    assert "Traceback" not in ended.err
    assert ended.code == 0
    assert len((tmp_path / "events.jsonl").read_text().splitlines()) == 4


def test_a_url_with_a_password_is_shown_nowhere(tmp_path: Path) -> None:
    ended = run("replay", "http://admin:hunter22@127.0.0.1:9/hunter33.mp4?password=hunter44")
    assert ended.code == 66
    assert "hunter22" not in ended.out + ended.err
    assert "hunter44" not in ended.out + ended.err


def test_a_tall_picture_costs_no_more_than_a_few_usual_ones() -> None:
    frame = VideoFrame.from_ndarray(np.zeros((20_000, 640, 3), np.uint8), "rgb24")
    view = Picture(frame).detector_view(Scalers(), 640)
    assert view.planes[0].size <= TALLEST * 640 * 640 * 1.01
    assert view.planes.shape[1] * view.scale[1] == pytest.approx(20_000)


def test_the_environment_has_no_say_in_what_a_command_line_makes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EMOTIOND_REDIS__URL", "redis://elsewhere:1/0")
    assert make_config({}).redis.url is None
    assert make_config({}, environment=True).redis.url == "redis://elsewhere:1/0"


@pytest.mark.parametrize("key", ["_env_file", "_cli_parse_args", "__pydantic_self__"])
def test_options_of_the_settings_library_are_no_keys(tmp_path: Path, key: str) -> None:
    file = tmp_path / "emotiond.yaml"
    file.write_text(f"streams: {{a: {{source: rtsp://camera/}}}}\n{key}: x\n")
    with pytest.raises(ConfigError, match=f":2: {key}: is no key of the configuration"):
        load_config(file)
