"""Training runs: that they learn, go on as if never interrupted, and build on one another."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from emotionnet.preprocess import resize
from emotionnet.weights import LABELS, load_info
from emotiontrain import cli
from emotiontrain.data import Dataset, Split
from emotiontrain.recipe import PRESETS, Recipe, RecipeError

torch = pytest.importorskip("torch", reason="needs emotiond[train]")

from safetensors.torch import load_file  # noqa: E402

from emotiontrain import train as module  # noqa: E402
from emotiontrain.augment import augmentation  # noqa: E402
from emotiontrain.checkpoint import lock  # noqa: E402
from emotiontrain.muon import MATRIX_SCALE, Muon, orthogonalize  # noqa: E402
from emotiontrain.optim import (  # noqa: E402
    MovingAverage,
    SharpnessAware,
    frozen_statistics,
    initialize,
    make_optimizer,
    orthogonal_groups,
    parameter_groups,
    set_learning_rate,
)
from emotiontrain.recipe import Augmentation  # noqa: E402
from emotiontrain.start import StartError, Teacher, average, load_trained  # noqa: E402
from emotiontrain.targets import make_targets, mix  # noqa: E402

TINY = Recipe(epochs=2, batch=7).with_options({"side": 32})
MACHINE = module.Machine(threads=1)
STILL = Augmentation(**dict.fromkeys(Augmentation.__dataclass_fields__, 0.0))


def split(count: int, seed: int, labels: int = 7, votes: bool = False) -> Split:
    """Returns pictures of noise whose mean brightness tells their label."""
    random = np.random.default_rng(seed)
    targets = np.arange(count) % labels
    pictures = random.normal(30 + 190 * targets / labels, 20, (48, 48, count)).clip(0, 255).astype(np.uint8)
    counts = np.zeros((count, labels + 1), np.int64)
    counts[np.arange(count), (targets + 1) % labels] = 10
    return Split([f"{seed}_{i}.jpg" for i in range(count)], np.ascontiguousarray(pictures.transpose(2, 0, 1)), targets,
                 counts if votes else None)


@pytest.fixture(scope="module")
def data() -> Dataset:
    return Dataset(LABELS, split(28, 1), split(14, 2), split(14, 3), {})


@pytest.fixture(scope="module")
def run(data: Dataset, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Returns a finished run of two epochs."""
    folder = tmp_path_factory.mktemp("run") / "whole"
    module.train(data, folder, TINY, MACHINE)
    return folder


@pytest.fixture(scope="module")
def one_epoch(data: Dataset, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Returns a finished run of one epoch."""
    folder = tmp_path_factory.mktemp("run") / "one"
    module.train(data, folder, TINY.with_options({"epochs": 1}), MACHINE)
    return folder


def tensors_differ(one: Path, other: Path) -> list[str]:
    first, second = load_file(one), load_file(other)
    assert first.keys() == second.keys()
    return [name for name in first if not torch.equal(first[name], second[name])]


def log_of(folder: Path) -> dict[str, Any]:
    """Returns a run's log without its times."""
    log = json.loads((folder / "log.json").read_text())
    for entry in (*log["epochs"], log["best"]):
        assert entry.pop("seconds") >= 0
    return log


@pytest.mark.parametrize("options", [
    {}, {"optimizer": "sgd", "learning_rate": 0.01, "sam": 0.05}, {"precision": "bfloat16", "sam": 0.05},
    {"optimizer": "adamw"}])
def test_a_run_goes_on_exactly_as_if_it_had_not_been_interrupted(
    data: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, options: dict[str, Any]
) -> None:
    recipe, run = TINY.with_options(options), tmp_path / "whole"
    module.train(data, run, recipe, MACHINE)
    first = module.train_one_epoch

    def interrupted(*arguments: Any) -> float:
        if arguments[3] == 1:
            raise KeyboardInterrupt
        return first(*arguments)

    with monkeypatch.context() as patch:
        patch.setattr(module, "train_one_epoch", interrupted)
        with pytest.raises(KeyboardInterrupt):
            module.train(data, tmp_path / "twice", recipe, MACHINE)
    assert not (tmp_path / "twice" / "log.json").exists()
    torch.manual_seed(99)      # whatever was drawn in between
    module.train(data, tmp_path / "twice", recipe, MACHINE)

    assert tensors_differ(run / "checkpoint.safetensors", tmp_path / "twice" / "checkpoint.safetensors") == []
    assert tensors_differ(run / "best.safetensors", tmp_path / "twice" / "best.safetensors") == []
    assert log_of(run) == log_of(tmp_path / "twice")
    assert log_of(run)["finished"]


def test_the_same_seed_repeats_a_run_and_another_does_not(data: Dataset, run: Path, tmp_path: Path) -> None:
    module.train(data, tmp_path / "same", TINY, MACHINE)
    module.train(data, tmp_path / "other", TINY.with_options({"seed": 2}), MACHINE)

    assert tensors_differ(run / "best.safetensors", tmp_path / "same" / "best.safetensors") == []
    assert tensors_differ(run / "best.safetensors", tmp_path / "other" / "best.safetensors")


def test_a_finished_run_is_left_as_it_is_and_another_recipe_or_other_data_refused(data: Dataset, run: Path) -> None:
    before = (run / "checkpoint.safetensors").read_bytes()

    module.train(data, run, TINY, MACHINE)
    with pytest.raises(module.RunError, match=r"recipe.epochs 2 instead of 3"):
        module.train(data, run, TINY.with_options({"epochs": 3}), MACHINE)
    with pytest.raises(module.RunError, match=r"recipe.width 1 instead of 2"):
        module.train(data, run, TINY.with_options({"width": 2}), MACHINE)
    smaller = Dataset(LABELS, data.train.select(np.arange(21)), data.validation, data.test, {})
    with pytest.raises(module.RunError, match=r"data.sha256 \w+ instead of \w+, data.train.angry 4 instead of 3"):
        module.train(smaller, run, TINY, MACHINE)
    voted = Dataset(LABELS, split(28, 1, votes=True), data.validation, data.test, {})
    with pytest.raises(module.RunError, match=r"data.sha256"):
        module.train(voted, run, TINY, MACHINE)
    with pytest.raises(module.RunError, match=r"start None instead of whole@"):
        module.train(data, run, TINY, MACHINE, start=run)

    assert (run / "checkpoint.safetensors").read_bytes() == before


@pytest.mark.slow
def test_training_learns_what_can_be_learnt(data: Dataset, tmp_path: Path) -> None:
    recipe = Recipe(epochs=25, batch=14, mixup=0, dropout=0, label_smoothing=0, average_decay=0.9, augmentation=STILL)

    best = module.train(data, tmp_path, recipe.with_options({"side": 32}), MACHINE)

    assert best["accuracy"] >= 0.5      # brightness alone tells the label; by chance it would be .14
    assert (tmp_path / "best.safetensors").exists()


def test_patience_ends_a_run_that_does_not_get_better(data: Dataset, tmp_path: Path) -> None:
    recipe = TINY.with_options({"epochs": 9, "patience": 1, "learning_rate": 1e-9, "average_decay": 0.0})

    module.train(data, tmp_path, recipe, MACHINE)

    log = log_of(tmp_path)
    assert log["finished"]
    assert len(log["epochs"]) == log["best"]["epoch"] + 1 < 9


@pytest.mark.parametrize("options", [
    {"sam": 0.05}, {"optimizer": "sgd", "learning_rate": 0.01}, {"optimizer": "adam", "schedule": "step"},
    {"optimizer": "adamw"},
    {"precision": "bfloat16"}, {"precision": "float16"}, {"mixup": 0.0}, {"clip": 0.01}, {"dropout": 0.0},
    {"weight_decay": 0.9}, {"average_decay": 0.05}, {"label_smoothing": 0.5},
])
def test_every_value_of_a_recipe_changes_the_run(
    data: Dataset, one_epoch: Path, tmp_path: Path, options: dict[str, Any]
) -> None:
    best = module.train(data, tmp_path, TINY.with_options(options | {"epochs": 1}), MACHINE)

    assert np.isfinite(best["nll"])
    assert tensors_differ(one_epoch / "best.safetensors", tmp_path / "best.safetensors")


def test_a_run_begins_with_another_runs_weights_and_may_be_taught_by_it(
    data: Dataset, run: Path, tmp_path: Path
) -> None:
    recipe = TINY.with_options({"epochs": 1, "learning_rate": 1e-12, "average_decay": 0.0, "distill": 0.5})

    module.train(data, tmp_path / "next", recipe, MACHINE, start=run, teachers=[run, Path("builtin")])

    kernels = [n for n, t in load_file(run / "best.safetensors").items() if t.ndim > 1]
    first, second = load_file(run / "best.safetensors"), load_file(tmp_path / "next" / "best.safetensors")
    assert all(torch.allclose(first[name], second[name], atol=1e-6) for name in kernels)
    log = log_of(tmp_path / "next")
    assert [name.split("@")[0] for name in (log["start"], *log["teachers"])] == ["whole", "whole", load_info().model_id]
    assert log["start"] == log["teachers"][0] == load_trained(run).name
    assert len(log["start"].split("@")[1]) == 12


def test_an_average_lies_between_two_networks_that_are_alike(data: Dataset, run: Path, tmp_path: Path) -> None:
    module.train(data, tmp_path / "next", TINY.with_options({"epochs": 1}), MACHINE, start=run)
    one, other = load_file(run / "best.safetensors"), load_file(tmp_path / "next" / "best.safetensors")

    first = load_trained(run)
    mean = average(first, [(load_trained(tmp_path / "next"), 0.25)]).network.state_dict()

    assert tensors_differ(run / "best.safetensors", tmp_path / "next" / "best.safetensors")
    assert all(torch.allclose(tensor, 0.75 * one[name] + 0.25 * other[name], atol=1e-6)
               for name, tensor in mean.items() if tensor.is_floating_point())
    assert all(torch.equal(tensor, one[name]) for name, tensor in first.network.state_dict().items())
    with pytest.raises(StartError, match=r"--average: emotionnet-.* has other input sizes than whole@"):
        average(load_trained(run), [(load_trained(Path("builtin")), 0.25)])


def test_other_classes_get_a_last_layer_of_their_own(run: Path, tmp_path: Path) -> None:
    own = Dataset(("calm", "cross"), split(14, 1, 2), split(6, 2, 2), split(6, 3, 2), {})

    module.train(own, tmp_path, TINY.with_options({"epochs": 1}), MACHINE, start=run)

    trained = load_trained(tmp_path)
    assert trained.labels == ("calm", "cross")
    assert trained.network.classify.linear.out_features == 2
    with pytest.raises(StartError, match=r"teaches angry, .* but the data has calm, cross"):
        module.train(own, tmp_path / "taught", TINY.with_options({"distill": 0.5}), MACHINE, teachers=[run])


def test_a_wider_teacher_trains_and_teaches_but_is_no_start(data: Dataset, tmp_path: Path) -> None:
    wide = tmp_path / "wide"
    module.train(data, wide, TINY.with_options({"epochs": 1, "width": 2}), MACHINE)

    module.train(data, tmp_path / "small", TINY.with_options({"epochs": 1, "distill": 0.5}), MACHINE, teachers=[wide])
    with pytest.raises(StartError, match="another width"):
        module.train(data, tmp_path / "other", TINY, MACHINE, start=wide)


def test_a_run_that_cannot_be_read_is_named(run: Path, tmp_path: Path, data: Dataset) -> None:
    for name, content in (("best.safetensors", b"x"), ("checkpoint.safetensors", b"{}")):
        broken = tmp_path / name
        broken.mkdir()
        for file in ("best.safetensors", "checkpoint.safetensors"):
            (broken / file).write_bytes(content if file == name else (run / file).read_bytes())
        with pytest.raises(StartError, match="not a run that can be read"):
            load_trained(broken)
    (tmp_path / "half").mkdir()
    (tmp_path / "half" / "checkpoint.safetensors").write_bytes((run / "checkpoint.safetensors").read_bytes()[:999])
    with pytest.raises(OSError, match="no checkpoint that can be read"):
        module.train(data, tmp_path / "half", TINY, MACHINE)


def test_a_full_disk_leaves_the_last_whole_checkpoint(
    data: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    program = f"""
import resource, sys
sys.path.insert(0, {str(Path(__file__).parent)!r})
from test_training_run import *
data = Dataset(LABELS, split(28, 1), split(14, 2), split(14, 3), {{}})
if sys.argv[2] == "full":
    resource.setrlimit(resource.RLIMIT_FSIZE, (20_000_000, 20_000_000))
try:
    module.train(data, Path(sys.argv[1]), TINY, MACHINE)
except OSError as error:
    sys.exit(str(error))
"""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}

    def attempt(how: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run([sys.executable, "-c", program, str(tmp_path / "run"), how], env=environment,
                              capture_output=True, text=True, timeout=100)

    full = attempt("full")

    assert full.returncode == 1
    assert "checkpoint.safetensors: cannot be written (File too large)" in full.stderr
    assert [path.name for path in (tmp_path / "run").iterdir() if "checkpoint" in path.name] == []
    assert attempt("roomy").returncode == 0
    assert log_of(tmp_path / "run")["finished"]


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_processes_under_torchrun_stay_the_same_network(tmp_path: Path) -> None:
    program = tmp_path / "program.py"
    program.write_text(f"""
import hashlib, os, sys
sys.path.insert(0, {str(Path(__file__).parent)!r})
from test_training_run import *
from torch import distributed
data = Dataset(LABELS, split(28, 1), split(14, 2), split(14, 3), {{}})
epoch = module.train_one_epoch

def checked(training, *arguments):
    seen = []
    keep = module.make_batch

    def recorded(training, split, targets, chosen):
        seen.extend(chosen.tolist())
        return keep(training, split, targets, chosen)

    module.make_batch = recorded
    loss = epoch(training, *arguments)
    module.make_batch = keep
    shares = [None, None]
    distributed.all_gather_object(shares, seen)
    assert sorted(shares[0] + shares[1]) == list(range(28)), "the processes do not share the pictures"
    values = torch.cat([p.detach().flatten() for p in training.model.parameters()])
    mine = (hashlib.sha256(values.numpy().tobytes()).hexdigest(), torch.rand(1).item())
    everyone = [None, None]
    distributed.all_gather_object(everyone, mine)
    assert everyone[0][0] == everyone[1][0], "the weights went apart"
    assert everyone[0][1] != everyone[1][1], "both draw the same"
    return loss

module.train_one_epoch = checked
done = module.train(data, Path({str(tmp_path / "run")!r}), TINY.with_options({{"batch": 14, "patience": 5}}), MACHINE)
assert bool(done) == (os.environ["RANK"] == "0")
""")
    command = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2", "--master-addr", "127.0.0.1",
               "--master-port", "0", "--standalone", str(program)]
    with subprocess.Popen(
        command, env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path), "OMP_NUM_THREADS": "1"},
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, process_group=0,
    ) as launcher:
        try:
            out, err = launcher.communicate(timeout=250)
        finally:
            if launcher.poll() is None:      # it hangs, and so do its children
                os.killpg(launcher.pid, signal.SIGKILL)

    assert launcher.returncode == 0, err
    log = log_of(tmp_path / "run")
    assert (log["processes"], len(log["epochs"])) == (2, 2)
    assert out.count("epoch 1:") == 1      # one of them speaks


def test_a_network_begins_shallow() -> None:
    from emotionnet.network import EmotionNet, residual_scales

    network = EmotionNet()
    initialize(network)

    assert len(residual_scales(network)) == 18      # eight blocks of two branches, and two bottlenecks
    assert all(not scale.any() for scale in residual_scales(network))
    stage: Any = network.backbone[8].eval()
    x = torch.rand(1, 256, 2, 2)
    mine = stage.cv1(x)
    assert torch.equal(stage(x), stage.cv2(torch.cat([mine, mine, mine], dim=1)))


def test_the_learning_rate_rises_falls_and_steps() -> None:
    def rates(recipe: Recipe) -> list[float]:
        optimizer = make_optimizer(torch.nn.Linear(2, 2), recipe)
        return [set_learning_rate(optimizer, recipe, p) for p in (0.05, 0.1, 0.55, 0.9999)]

    cosine = rates(Recipe(learning_rate=1, warm_up=0.1))
    assert cosine == pytest.approx([0.5, 1, 0.5, 0.001], abs=1e-6)
    assert rates(Recipe(learning_rate=1, schedule="step")) == pytest.approx([1, 1, 0.1, 0.01])


def test_the_moving_average_begins_quickly_and_takes_the_statistics_along() -> None:
    norm = torch.nn.BatchNorm2d(1)
    average = MovingAverage(norm, 0.9)
    averaged: Any = average.module
    for step in range(1, 100):
        assert norm.running_mean is not None
        norm.running_mean.fill_(step)
        before = float(averaged.running_mean)
        average.update_parameters(norm)
        after = float(averaged.running_mean)
        if step == 1:
            assert after == 1      # a copy of the first
        else:
            n = step - 1
            kept = min(0.9, (1 + n) / (10 + n))
            assert after == pytest.approx(kept * before + (1 - kept) * step, rel=1e-5)


def test_a_second_pass_leaves_the_statistics_as_they_are() -> None:
    norm = torch.nn.BatchNorm2d(1)
    with frozen_statistics(norm):
        norm(torch.randn(4, 1, 2, 2) + 5)
    assert norm.running_mean is not None
    assert float(norm.running_mean) == 0
    norm(torch.randn(4, 1, 2, 2) + 5)
    assert float(norm.running_mean) > 0.3


def test_only_kernels_and_matrices_decay() -> None:
    from emotionnet.network import EmotionNet, parameter_count

    network = EmotionNet()
    kernels, rest = parameter_groups(network, 0.3)
    assert (kernels["weight_decay"], rest["weight_decay"]) == (0.3, 0)
    assert {p.ndim for p in rest["params"]} == {1}
    assert min(p.ndim for p in kernels["params"]) == 2
    assert sum(p.numel() for p in [*kernels["params"], *rest["params"]]) == parameter_count(network)


def test_muon_makes_all_kernels_orthogonal_but_the_depthwise_ones_and_the_last_layer() -> None:
    from emotionnet.network import EmotionNet, parameter_count

    network = EmotionNet()
    orthogonal, others, rest = orthogonal_groups(network, 0.3)

    assert [group["weight_decay"] for group in (orthogonal, others, rest)] == [0.3, 0.3, 0]
    assert [group.get("orthogonal", False) for group in (orthogonal, others, rest)] == [True, False, False]
    assert {tuple(p.shape) for p in others["params"]} == {(64, 1, 7, 7), (128, 1, 7, 7), (7, 1280)}
    assert sum(p.numel() for group in (orthogonal, others, rest) for p in group["params"]) == parameter_count(network)


@pytest.mark.parametrize("shape", [(3, 8, 20), (2, 20, 8), (1, 16, 16)])
@pytest.mark.parametrize("size", [1e-6, 1.0, 1e6])
def test_orthogonalizing_keeps_directions_and_evens_singular_values(shape: tuple[int, ...], size: float) -> None:
    matrices = torch.randn(shape, generator=torch.Generator().manual_seed(1))

    evened = orthogonalize(size * matrices)

    left, values, right = torch.linalg.svd(matrices, full_matrices=False)
    found = torch.diagonal(left.mT @ evened @ right.mT, dim1=1, dim2=2)
    assert values.max() / values.min() > 3
    assert ((found > 0.6) & (found < 1.3)).all()
    assert torch.allclose(left @ torch.diag_embed(found) @ right, evened, atol=1e-4)


@pytest.mark.parametrize(("precision", "tolerance"), [(torch.float32, 1e-5), (torch.bfloat16, 2e-2)])
def test_a_step_of_muon_is_the_orthogonal_part_of_its_momentum(precision: Any, tolerance: float) -> None:
    kernels = [torch.nn.Parameter(torch.randn(shape)) for shape in ((4, 2, 3, 3), (4, 2, 3, 3), (20, 2, 1, 1))]
    kernels[1].data = kernels[1].data.to(memory_format=torch.channels_last)
    optimizer = Muon([{"params": kernels, "orthogonal": True, "weight_decay": 0.5}], 0.1, 0.9, precision)
    momenta = [torch.zeros_like(kernel) for kernel in kernels]
    for _ in range(3):
        before = [kernel.detach().clone() for kernel in kernels]
        for kernel in kernels:
            kernel.grad = torch.randn_like(kernel)
        optimizer.step()
        for index, kernel in enumerate(kernels):
            assert kernel.grad is not None
            momenta[index] = 0.9 * momenta[index] + 0.1 * kernel.grad
            nesterov = (0.1 * kernel.grad + 0.9 * momenta[index]).flatten(1)
            step = orthogonalize(nesterov[None]).view_as(kernel) * MATRIX_SCALE * max(nesterov.shape) ** 0.5
            assert torch.allclose(kernel, before[index] * (1 - 0.1 * 0.5) - 0.1 * step, atol=tolerance)


def test_what_muon_does_not_make_orthogonal_goes_as_by_adamw() -> None:
    first = torch.nn.Parameter(torch.randn(5))
    second = torch.nn.Parameter(first.detach().clone())
    muon = Muon([{"params": [first], "weight_decay": 0.1}], lr=0.01)
    adamw = torch.optim.AdamW([second], lr=0.01, weight_decay=0.1)
    for _ in range(4):
        first.grad = torch.randn(5)
        second.grad = first.grad.clone()
        muon.step()
        adamw.step()
    assert torch.allclose(first, second, atol=1e-7)


def test_a_teacher_that_agrees_teaches_nothing_and_one_that_does_not_costs_its_divergence(
    data: Dataset, run: Path
) -> None:
    trained = load_trained(run)
    teacher, torch_device = Teacher(trained), torch.device("cpu")
    recipe = TINY.with_options({"distill": 1.0, "dropout": 0.0, "distill_temperature": 2.0})
    pictures, target = torch.rand(7, 1, 32, 32), torch.full((7, 7), 1 / 7)

    def loss(shift: float) -> float:
        model = load_trained(run).network
        with torch.no_grad():
            model.classify.linear.bias[0] += shift
        model.eval()
        training = module.Training(
            recipe, module.Processes(), torch_device, model, Logits(model), MovingAverage(model, 0.9),
            make_optimizer(model, recipe), torch.amp.GradScaler("cpu", enabled=False), None, [teacher])
        return module.train_step(training, pictures, target).item()

    assert loss(0) == pytest.approx(0, abs=1e-5)
    taught = (teacher.logits(pictures) / 2).softmax(dim=1)
    shifted = teacher.logits(pictures) + torch.eye(7)[0] * 3
    expected = 4 * (taught * (taught.log() - (shifted / 2).log_softmax(dim=1))).sum(dim=1).mean()
    assert loss(3) == pytest.approx(float(expected), rel=1e-3)


class Logits(torch.nn.Module):
    """A network in evaluation mode that gives its logits alone, as it does in training."""

    def __init__(self, network: Any) -> None:
        super().__init__()
        self.network = network

    def forward(self, x: Any) -> Any:
        return self.network.logits(x)


def test_a_run_that_diverges_ends_at_once_and_keeps_its_last_checkpoint(data: Dataset, tmp_path: Path) -> None:
    with pytest.raises(module.RunError, match=r"diverged in epoch 1: .* a smaller --learning-rate"):
        module.train(data, tmp_path / "run", TINY.with_options({"learning_rate": 1e30, "clip": 0}), MACHINE)
    assert [path.name for path in (tmp_path / "run").iterdir()] == [".lock"]


def test_a_folder_serves_one_training_at_a_time_and_is_tried_before_the_first_epoch(
    data: Dataset, tmp_path: Path
) -> None:
    with lock(tmp_path / "run", module.Processes()), pytest.raises(OSError, match="another training has this folder"):
        module.train(data, tmp_path / "run", TINY, MACHINE)
    (tmp_path / "file").write_text("")
    with pytest.raises(OSError, match="file: cannot be a run's folder"):
        module.train(data, tmp_path / "file", TINY, MACHINE)


def test_of_equal_epochs_the_one_with_the_least_loss_is_kept() -> None:
    log = [{"epoch": 1, "accuracy": 0.5, "nll": 1.0}, {"epoch": 2, "accuracy": 0.5, "nll": 0.9},
           {"epoch": 3, "accuracy": 0.4, "nll": 0.1}]
    assert module.best_entry(log)["epoch"] == 2
    log[2]["votes_accuracy"] = 0.9
    assert module.best_entry(log)["epoch"] == 3


def test_sharpness_awareness_climbs_and_comes_back() -> None:
    weight = torch.nn.Parameter(torch.tensor([3.0, 4.0]))
    weight.square().sum().div(2).backward()      # the gradient is the weight itself
    sharpness = SharpnessAware([weight], 0.5)

    sharpness.climb()
    assert torch.allclose(weight, torch.tensor([3.3, 4.4]))
    assert weight.grad is None
    sharpness.descend()
    assert torch.equal(weight, torch.tensor([3.0, 4.0]))


def test_targets_are_labels_votes_and_smoothing_in_their_shares() -> None:
    one = Split(["a", "b", "c"], np.zeros((3, 4, 4), np.uint8), np.array([0, 1, 0]),
                np.array([[2, 6, 2], [0, 0, 0], [1, 0, 9]]))

    targets = make_targets(one, 2, Recipe(vote_weight=0.5, label_smoothing=0.2)).numpy()

    voted = 0.5 * np.array([1, 0]) + 0.5 * np.array([0.25, 0.75])
    assert targets[0] == pytest.approx(0.8 * voted + 0.1)
    assert targets[1] == pytest.approx([0.1, 0.9])      # no votes
    assert targets[2] == pytest.approx([0.9, 0.1])      # most votes went to no class
    assert make_targets(one, 2, Recipe(label_smoothing=0)).numpy()[0] == pytest.approx([1, 0])


def test_mixing_keeps_pictures_and_targets_together() -> None:
    torch.manual_seed(1)
    pictures = torch.eye(4)[:, None, None, :].expand(4, 1, 4, 4)

    mixed, targets = mix(pictures, torch.eye(4), 1.0)

    assert torch.allclose(mixed[:, 0, 0], targets)
    assert torch.allclose(targets.sum(dim=1), torch.ones(4))
    assert not torch.equal(targets, torch.eye(4))
    assert mix(pictures, torch.eye(4), 0)[0] is pictures


def enlarged(pictures: Any, side: int) -> Any:
    """Returns (B, 1, side, side), 0..1, scaled as the daemon does."""
    return torch.from_numpy(np.stack([resize(picture, side) for picture in pictures.numpy()]))[:, None] / 255


def test_without_strength_augmentation_only_mirrors() -> None:
    random = np.random.default_rng(1)
    pictures = torch.from_numpy(random.integers(0, 256, (32, 48, 48), dtype=np.uint8))
    plain = enlarged(pictures, 64)

    torch.manual_seed(1)
    out = augmentation(STILL, 64)(pictures)

    same = [torch.allclose(a, b, atol=4e-3) for a, b in zip(out, plain, strict=True)]
    mirrored = [torch.allclose(a, b.flip(2), atol=4e-3) for a, b in zip(out, plain, strict=True)]
    assert all(a != b for a, b in zip(same, mirrored, strict=True))
    assert 8 <= sum(mirrored) <= 24


@pytest.mark.parametrize("name", ["low_resolution", "blur", "jpeg", "noise", "erase", "upside_down"])
def test_each_augmentation_changes_the_pictures_it_draws_and_no_other(name: str) -> None:
    random = np.random.default_rng(1)
    pictures = torch.from_numpy(random.integers(0, 256, (64, 48, 48), dtype=np.uint8))

    torch.manual_seed(1)
    plain = augmentation(STILL, 48)(pictures)
    always = Augmentation(**(dict.fromkeys(Augmentation.__dataclass_fields__, 0.0) | {name: 1.0}))
    out = augmentation(always, 48)(pictures)

    assert out.shape == plain.shape
    assert bool(((out >= 0) & (out <= 1)).all())
    either = [min(float((a - b).abs().max()), float((a.flip(2) - b).abs().max()))
              for a, b in zip(out, enlarged(pictures, 48), strict=True)]
    changed = sum(value > 0.02 for value in either)
    assert changed >= (40 if name in ("noise", "erase") else 64)


def test_pictures_larger_than_the_input_are_averaged_down() -> None:
    stripes = torch.zeros(1, 192, 192, dtype=torch.uint8)
    stripes[:, ::2] = 255

    assert augmentation(STILL, 32)(stripes).std() < 0.01


def test_recipes_refuse_values_out_of_range_and_come_back_from_json() -> None:
    for options, wanted in (
        ({"epochs": 0}, "epochs is 0; give 1 or more"), ({"dropout": 1.5}, "dropout is 1.5; give between 0 and 1"),
        ({"learning_rate": float("nan")}, "learning-rate is nan; give above 0"),
        ({"optimizer": "lion"}, "give one of muon, sgd, adamw, adam"),
        ({"sam": 0.1, "precision": "float16"}, "bfloat16 with sam"), ({"erase": 7}, "erase is 7; give between 0 and 1"),
        ({"rotate": float("nan")}, "rotate is nan; give between 0 and 180"), ({"zoom": 1.5}, "between 0 and 0.9"),
    ):
        with pytest.raises(RecipeError, match=wanted):
            Recipe().with_options(options)
    for recipe in PRESETS.values():
        assert Recipe.from_json(json.loads(json.dumps(recipe.to_json()))) == recipe
    with pytest.raises(RecipeError, match="not a recipe of this version"):
        Recipe.from_json({"epochs": 1})


def test_wrong_usage_ends_with_2(capsys: pytest.CaptureFixture[str]) -> None:
    for arguments in (
        [], ["train", "data"], ["train", "data", "run", "--side", "50"], ["train", "data", "run", "--optimizer", "x"],
    ):
        with pytest.raises(SystemExit) as caught:
            cli.main(arguments)
        assert caught.value.code == 2
    assert "side is 50, not a multiple of 32" in capsys.readouterr().err
    for arguments, wanted in (
        (["--epochs", "0"], "epochs is 0; give 1 or more"), (["--vote-weight", ".5"], "give their CSV with --votes"),
        (["--distill", ".5"], "give both, or neither"),
    ):
        assert cli.main(["train", "data", "run", *arguments]) == 2
        assert wanted in capsys.readouterr().err


def test_every_value_of_a_recipe_is_an_option_that_says_what_it_means(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        cli.main(["train", "--help"])
    help_text = " ".join(capsys.readouterr().out.split())
    assert "--mixup MIXUP both parameters of the beta distribution" in help_text
    assert "--jpeg JPEG probability of JPEG at quality 15 to 70 (default: 0.08)" in help_text
    assert "--preset {default,original}" in help_text


def test_a_batch_larger_than_the_data_is_refused(data: Dataset, tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match="--batch is 64, but there are 28 training pictures"):
        module.train(data, tmp_path, TINY.with_options({"batch": 64}), MACHINE)
    assert list(tmp_path.iterdir()) == []


def test_a_batch_that_the_processes_cannot_share_is_refused() -> None:
    assert Recipe(batch=128).share(4) == 32
    with pytest.raises(RecipeError, match="--batch is 128, which 3 processes cannot share; give a multiple of 3"):
        Recipe(batch=128).share(3)


def test_a_device_that_is_not_there_is_said_before_anything_is_read(capsys: pytest.CaptureFixture[str]) -> None:
    for device in ("foo", "cuda:99"):
        assert cli.main(["train", "nowhere", "run", "--device", device]) == 1
        error = capsys.readouterr().err
        assert f"device {device} is not there" in error
        assert error.count("\n") == 1
