"""The network in torch: its size, its gradients and the names a checkpoint of it has."""

import pytest

pytest.importorskip("torch", reason="needs emotiond[train]")

import torch

from emotionnet.network import EmotionNet, parameter_count, shapes

ORIGINAL = {
    "backbone.0.conv.weight": (16, 3, 3, 3),
    "backbone.0.bn.running_var": (16,),
    "backbone.2.m.0.cv2.conv.weight": (16, 8, 3, 3),
    "backbone.4.cv2.conv.weight": (128, 96, 1, 1),
    "backbone.6.m.0.0.attn.qkv.conv.weight": (192, 64, 1, 1),
    "backbone.6.m.1.1.attn.pe.conv.weight": (64, 1, 7, 7),
    "backbone.8.m.1.1.mlp.0.conv.weight": (256, 128, 1, 1),
    "backbone.8.cv2.bn.num_batches_tracked": (),
    "classify.conv.conv.weight": (1280, 256, 1, 1),
    "classify.linear.weight": (7, 1280),
    "classify.linear.bias": (7,),
}
"""Names and shapes in a checkpoint of the network as given; another version of ultralytics must not change them."""


def test_the_network_has_the_parameters_it_was_given_with() -> None:
    assert parameter_count(EmotionNet(3, 7)) == 1_768_551


def test_every_parameter_gets_a_gradient() -> None:
    network = EmotionNet().train()

    loss = torch.nn.functional.cross_entropy(network(torch.randn(4, 3, 64, 64)), torch.arange(4))
    loss.backward()

    without = [name for name, p in network.named_parameters() if p.grad is None or not p.grad.abs().sum() > 0]
    assert without == []


@pytest.mark.parametrize("side", [32, 64, 96])
def test_forward_gives_logits_in_training_and_probabilities_with_logits_in_evaluation(side: int) -> None:
    network, pictures = EmotionNet(nc=5), torch.randn(2, 3, side, side)

    assert network.train()(pictures).shape == (2, 5)
    with torch.inference_mode():
        probabilities, logits = network.eval()(pictures)
        assert torch.equal(network.logits(pictures), logits)
    assert torch.allclose(probabilities, logits.softmax(dim=1))


def test_a_state_dict_has_the_names_and_shapes_of_the_original() -> None:
    found = shapes(7)

    assert {name: found.get(name) for name in ORIGINAL} == ORIGINAL
    assert {name.split(".")[0] for name in found} == {"backbone", "classify"}
    assert len(found) == len(EmotionNet().state_dict())


def test_a_state_dict_of_another_network_loads_whole() -> None:
    torch.manual_seed(1)
    one, other = EmotionNet().eval(), EmotionNet().eval()

    other.load_state_dict(one.state_dict(), strict=True)

    with torch.inference_mode():
        pictures = torch.randn(1, 3, 64, 64)
        assert torch.equal(one(pictures)[1], other(pictures)[1])
