"""What runs on a GPU, on one without values: all of it is there, in half precision, and nothing waits for it."""

import pytest
from av.video.frame import VideoFrame

torch = pytest.importorskip("torch", reason="torch missing")

from torch._subclasses.fake_tensor import DataDependentOutputException  # noqa: E402

from emotiond.config import DetectorConfig  # noqa: E402
from emotiond.device.geometry import Geometry  # noqa: E402
from emotiond.device.plan import FACES, Plan  # noqa: E402
from emotiond.device.runtime import Runtime  # noqa: E402
from emotiond.device.surface import Surface  # noqa: E402
from emotiond.picture import Picture, Scalers  # noqa: E402
from emotiontrain import augment, targets  # noqa: E402
from emotiontrain.muon import orthogonalize  # noqa: E402
from emotiontrain.optim import MovingAverage  # noqa: E402
from emotiontrain.recipe import Augmentation  # noqa: E402
from tests.support.fake_gpu import GPU, NothingWaits, fake_gpu, load_for_it, move, sending  # noqa: E402
from yunet.colour import Colour  # noqa: E402

WHOLE = (0.0, 0.0, 1.0, 1.0)
GEOMETRIES = {
    "720p": Geometry((720, 1280), (720, 1280), 0, Colour.YUV_709, False, WHOLE, 640),
    "a third of it": Geometry((1080, 1920), (1080, 1920), 0, Colour.YUV_709, False, WHOLE, 640),
    "turned, full range": Geometry((360, 640), (360, 640), 1, Colour.YUV_601, True, WHOLE, 640),
    "odd sides": Geometry((271, 481), (271, 481), 0, Colour.YUV_601, False, WHOLE, 640),
    "flat pixels, upside down": Geometry((576, 720), (540, 720), 2, Colour.YUV_601, False, WHOLE, 640),
    "a region": Geometry((720, 1280), (720, 1280), 0, Colour.YUV_709, False, (0.25, 0.1, 0.75, 0.9), 320),
}


@pytest.mark.parametrize("geometry", GEOMETRIES.values(), ids=GEOMETRIES)
def test_a_batch_is_analysed_on_the_gpu_alone_and_nothing_waits_for_it(geometry: Geometry) -> None:
    size = 4
    classifier, detector = load_for_it(Colour.YUV_601, Colour.YUV_709)
    height, width = geometry.stored
    frame = VideoFrame(width, height, "yuvj420p" if geometry.full_range else "yuv420p")
    surfaces = [Surface(Picture(frame), Scalers())] * size
    runtime = Runtime(torch.device("cpu"))
    runtime.device = GPU
    with fake_gpu():
        plan = Plan(geometry, size, detector, classifier, DetectorConfig(), runtime)
        with NothingWaits():
            plan.begin(surfaces, [((0.0, 0.0, 0.5, 0.5),)] * size)
            for count in FACES:
                plan.prepare(count)()


def test_pictures_are_varied_and_mixed_on_the_gpu_and_nothing_waits_for_it(monkeypatch: pytest.MonkeyPatch) -> None:
    strength = Augmentation(erase=1.0, low_resolution=1.0, blur=1.0, jpeg=1.0, noise=1.0)
    with fake_gpu() as mode:
        pass
    for module in (augment, targets):
        monkeypatch.setattr(module, "send", sending(mode))
    target = sending(mode)(torch.full((8, 7), 1 / 7), GPU)

    with NothingWaits():
        pictures = augment.augmentation(strength, 64, GPU)(torch.zeros(8, 48, 48, dtype=torch.uint8))
        pictures, target = targets.mix(pictures, target, 0.2)

    assert (pictures.device, pictures.shape, pictures.dtype) == (GPU, (8, 1, 64, 64), torch.float32)
    assert (target.device, target.shape) == (GPU, (8, 7))


def test_muon_and_the_average_wait_for_no_gpu() -> None:
    network = torch.nn.Sequential(torch.nn.Linear(4, 3), torch.nn.BatchNorm1d(3))
    average = MovingAverage(network, 0.9)
    for model in (network, average.module):
        move(model)

    with NothingWaits():
        for _ in range(2):
            average.update_parameters(network)
        with fake_gpu():
            steps = orthogonalize(torch.zeros(3, 128, 64, device=GPU))

    assert (steps.device, steps.shape) == (GPU, (3, 128, 64))
    assert int(average.n_averaged) == 2


def test_a_gpu_without_values_refuses_what_would_wait_and_what_lies_elsewhere() -> None:
    with fake_gpu(), NothingWaits():
        there, here = torch.zeros(3, device=GPU), torch.zeros(3)
        with pytest.raises(DataDependentOutputException):
            there.sum().item()
        with pytest.raises(RuntimeError, match="same device"):
            _ = there + here
        with pytest.raises(AssertionError, match="waits"):
            here.to(GPU)
        with pytest.raises(AssertionError, match="waits"):
            there.copy_(here)
        there.copy_(here, non_blocking=True)
