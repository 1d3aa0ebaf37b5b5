"""Every backbone of docs/backbones.md: the proof of its cut, or the refusal that is recorded there."""

import json
import re
from pathlib import Path

import pytest
import torch
from torch import nn

from sheer.cli.main import main
from sheer.errors import ModelError
from sheer.model.backbones import timm_whole, torchvision_whole
from sheer.model.build import Built, build_named
from sheer.model.stages import EARLY
from sheer.model.surgery import probe_images
from sheer.plan.profiles import profile_named

PAGE = Path(__file__).parents[2] / "docs" / "backbones.md"
ROWS = [tuple(cell.strip() for cell in line.split("|")[1:-1]) for line in PAGE.read_text().splitlines() if re.match(r"\| \w+:", line)]
LIMIT = 30_000_000


def built(name: str) -> Built:
    return build_named(name, weights="none", classes=2, profile=profile_named("default"), head=None, seed=0, head_by="default")


def whole_of(name: str) -> nn.Module:
    library, _, bare = name.partition(":")
    return timm_whole(bare) if library == "timm" else torchvision_whole(bare)


def number(cell: str) -> int:
    return int(cell.replace(",", ""))


def test_the_page_has_every_family():
    names = " ".join(row[0] for row in ROWS)
    for family in (
        *("resnet", "densenet", "vgg", "efficientnet", "mobilenetv2", "mobilenet_v2", "mobilenetv3", "mobilenet_v3", "shufflenet_v2"),
        *("mnasnet", "googlenet", "inception_v3", "squeezenet", "convnext", "regnet", "vit", "swin", "deit", "maxvit"),
    ):
        assert family in names


@pytest.mark.parametrize("row", ROWS, ids=[row[0] for row in ROWS])
def test_the_cut_is_proved_or_refused_as_recorded(row):
    name, gives, stride, kept, dropped, difference, what, stages = row
    if gives == "refused":
        with pytest.raises(ModelError, match="cannot be cut") as caught:
            built(name)
        assert str(caught.value).startswith(what)
        return
    if number(kept) + number(dropped) > LIMIT:
        pytest.skip(f"{number(kept) + number(dropped):,} values; run python benchmarks/backbones.py for these")
    made, whole = built(name), whole_of(name)
    proof = made.plan.surgery
    assert proof.largest_difference == 0 == float(difference)
    assert (proof.kept_parameters, proof.dropped_parameters) == (number(kept), number(dropped))
    assert proof.kept_parameters + proof.dropped_parameters == sum(p.numel() for p in whole.parameters())
    assert f"{made.plan.kind} of {made.plan.features}" == gives and (made.plan.kind == "vector" or made.plan.stride == number(stride))
    assert ", ".join(stage.name for stage in made.plan.stages) == stages and stages.startswith("early")
    coarse = hooked_strides(made)
    with torch.no_grad():
        assert made.model.eval()(probe_images(made.inputs.size)).shape == (2, 2)
    plain_transformer = "VisionTransformer" in type(whole).__name__
    assert plain_transformer or not [cell for cell in coarse if cell > 9], "the early stage reaches beyond stride 8"


def hooked_strides(made: Built) -> list[float]:
    """Filled at the next forward: pixels a cell of every map with channels first that an early module gives."""
    seen: list[float] = []

    def note(module, inputs, output):
        if isinstance(output, torch.Tensor) and output.ndim == 4 and output.shape[2] == output.shape[3] > 1:
            seen.append(made.inputs.size / output.shape[2])

    modules = dict(made.model.named_modules())
    for prefix in made.plan.stages[0].prefixes:
        for path, module in modules.items():
            squeezes = {"se", "attn", "avgpool", "fc1", "fc2", "conv_reduce", "conv_expand"} & set(path.split("."))
            if (path == prefix or path.startswith(prefix + ".")) and not squeezes:
                module.register_forward_hook(note)
    return seen


@pytest.mark.parametrize("name", sorted(name for name in EARLY["stride torchvision"] if name.startswith("vgg")))
def test_the_early_stage_of_a_vgg_ends_at_its_fourth_pooling(name):
    with torch.device("meta"):
        import torchvision

        features = torchvision.models.get_model(name, weights=None, init_weights=False).features
    end = len(EARLY["stride torchvision"][name])
    assert sum(isinstance(layer, nn.MaxPool2d) for layer in features[:end]) == 3 and isinstance(features[end], nn.MaxPool2d)


def test_plan_of_a_shufflenet_has_its_proof(capsys, photos):
    assert main(["plan", str(photos), "--model", "torchvision:shufflenet_v2_x1_0", "--weights", "none", "--json"]) == 0
    proof = json.loads(capsys.readouterr().out)["model"]["surgery"]
    assert proof["largest_difference"] == 0 and (proof["kept_parameters"], proof["dropped_parameters"]) == (1_253_604, 1_025_000)


def test_a_refusal_is_one_paragraph_and_status_2(capsys, photos):
    assert main(["plan", str(photos), "--model", "deit_tiny_distilled_patch16_224", "--weights", "none"]) == 2
    message = capsys.readouterr().err
    assert "2 classifiers" in message and "Nothing was changed" in message and message.count("\n") == 1


def test_transform_input_is_in_the_statistics():
    from sheer.model.pretrained import input_facts

    assert input_facts("torchvision", "inception_v3").mean == (0.5, 0.5, 0.5)
    assert input_facts("torchvision", "resnet18").mean == (0.485, 0.456, 0.406)
