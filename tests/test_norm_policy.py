"""The norm policy for bodies whose norm layers have no running statistics: LayerNorm and GroupNorm."""

import pytest
import torch
from torch import nn

import sheer
from sheer.model.stages import is_norm


class Grouped(nn.Module):
    """A body with GroupNorm, then two classes."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 8, 3, stride=4)
        self.norm = nn.GroupNorm(2, 8)
        self.drop = nn.Dropout(0.5)
        self.out = nn.Linear(8, 2)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.out(self.drop(self.norm(self.conv(images))).relu().mean((2, 3)))


BODIES = {"convnext_atto": 64, "vit_tiny_patch16_224": 224}


@pytest.fixture(scope="module")
def few():
    inputs = torch.randint(0, 255, (12, 3, 224, 224), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    return lambda size: sheer.arrays(inputs[:, :, :size, :size].contiguous(), [0, 1] * 6)


def frozen_fit(data, model, policy):
    learn = sheer.learner(data, model, weights="none", batch_size=4, quiet=True, norm=policy)
    before = {name: tensor.clone() for name, tensor in learn.model.state_dict().items()}
    learn.freeze().fit(1, 1e-2)
    after = learn.model.state_dict()
    return learn, {name for name in before if not torch.equal(before[name], after[name])}


@pytest.mark.parametrize("model", sorted(BODIES))
def test_adapt_is_frozen_bit_for_bit_and_train_moves_the_affine_parameters_only(few, model):
    data = few(BODIES[model])
    runs = {policy: frozen_fit(data, model, policy) for policy in ("train", "adapt", "frozen")}
    hashes = {policy: learn.history[-1].weights_sha256 for policy, (learn, _) in runs.items()}
    assert hashes["adapt"] == hashes["frozen"] != hashes["train"]
    assert not [name for name in runs["adapt"][1] | runs["frozen"][1] if name.startswith("body.")]
    learn, moved = runs["train"]
    owners = dict(learn.model.named_modules())
    names = [f"body.{name}" for name, _ in learn.model.body.named_parameters()]
    affine = {name for name in names if is_norm(owners[name.rpartition(".")[0]])}
    assert {name for name in moved if name.startswith("body.")} == affine and affine


@pytest.mark.parametrize("policy", ["train", "adapt", "frozen"])
def test_a_group_norm_of_a_frozen_stage(policy):
    from sheer.model.stages import set_modes, set_trainable

    model = Grouped()
    stages = [["conv", "norm", "drop"], ["out"]]
    set_trainable(model, stages, 1, (policy, "train"))
    set_modes(model, stages, 1, (policy, "train"))
    trains = {name for name, parameter in model.named_parameters() if parameter.requires_grad}
    assert trains == {"out.weight", "out.bias"} | ({"norm.weight", "norm.bias"} if policy == "train" else set())
    assert (model.norm.training, model.drop.training) == ((True, True) if policy == "train" else (False, False))
