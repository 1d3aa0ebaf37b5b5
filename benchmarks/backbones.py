"""Cut every backbone of the list, with random weights, and write proof or refusal into docs/backbones.md.

    python benchmarks/backbones.py

The cut and its proof depend on the architecture, not on the weights, so nothing is downloaded.
"""

from pathlib import Path

from sheer.errors import ModelError
from sheer.model.build import build_named
from sheer.plan.plan import ModelPlan
from sheer.plan.profiles import profile_named

TIMM = """resnet18 resnet34 resnet50 resnetv2_50 densenet121 vgg11 vgg16_bn efficientnet_b0 tf_efficientnet_lite0 tf_efficientnetv2_b0
mobilenetv2_050 mobilenetv2_100 mobilenetv3_small_050 mobilenetv3_large_100 mnasnet_small mnasnet_050 inception_v3 convnext_atto
convnext_tiny convnextv2_atto regnetx_002 regnety_002 vit_tiny_patch16_224 vit_small_patch16_224 deit_tiny_patch16_224
deit_tiny_distilled_patch16_224 deit3_small_patch16_224 swin_tiny_patch4_window7_224 swinv2_tiny_window8_256 maxvit_tiny_tf_224
maxvit_rmlp_pico_rw_256"""
TORCHVISION = """resnet18 resnet34 resnet50 densenet121 vgg11 vgg16_bn alexnet efficientnet_b0 efficientnet_v2_s mobilenet_v2
mobilenet_v3_small mobilenet_v3_large shufflenet_v2_x0_5 shufflenet_v2_x1_0 mnasnet0_5 mnasnet1_0 googlenet inception_v3 squeezenet1_0
squeezenet1_1 convnext_tiny regnet_x_400mf regnet_y_400mf vit_b_16 swin_t swin_v2_t maxvit_t"""
NAMES = [f"timm:{name}" for name in TIMM.split()] + [f"torchvision:{name}" for name in TORCHVISION.split()]
HEADER = "| model | body gives | stride | kept values | dropped values | difference | what was dropped, or why not | stages |"
PAGE = Path(__file__).parent.parent / "docs" / "backbones.md"
TEXT = """# Backbones that were cut, and the proof

A cut keeps a body and drops the classifier. Before anything is dropped, kept body + old classifier must give the logits of the whole
network bit for bit, on two pictures of waves; kept and dropped values together are all values of the network. A network that does not
pass is refused, and nothing is changed. *map*: (N, width, H, W), pooled by the head; *vector*: (N, width), pooled by the network.
*stride*: by how many pixels the picture's side grows for one more cell of the map. Any other name of timm or torchvision is cut or
refused in the same way.

torch {torch}, timm {timm}, torchvision {torchvision}; random weights. This page is the output of

    python benchmarks/backbones.py

and `tests/contracts/test_backbones.py` holds every line of it against the libraries, up to 30 million values.

{header}
|---|---|---|---|---|---|---|---|
{rows}
"""


def cut(name: str) -> ModelPlan:
    """The plan of the cut network with a new head for two classes; raises ModelError where it is refused."""
    profile = profile_named("default")
    return build_named(name, weights="none", classes=2, profile=profile, head=None, seed=0, head_by="default").plan


def row(name: str) -> str:
    """The network's line of the table."""
    try:
        plan = cut(name)
    except ModelError as error:
        return f"| {name} | refused | | | | | {str(error).partition(' Nothing was changed')[0].replace('|', '/')} | |"
    proof = plan.surgery
    assert proof is not None
    stride = str(plan.stride) if plan.kind == "map" else ""
    dropped = ", ".join(proof.dropped[:4]) + (f" and {len(proof.dropped) - 4} more" if len(proof.dropped) > 4 else "")
    stages = ", ".join(stage.name for stage in plan.stages)
    sizes = f"{proof.kept_parameters:,} | {proof.dropped_parameters:,} | {proof.largest_difference:g}"
    return f"| {name} | {plan.kind} of {plan.features} | {stride} | {sizes} | {dropped} | {stages} |"


def main() -> None:
    from importlib.metadata import version

    rows = []
    for name in NAMES:
        rows.append(row(name))
        print(rows[-1], flush=True)
    versions = {package: version(package).partition("+")[0] for package in ("torch", "timm", "torchvision")}
    PAGE.write_text(TEXT.format(header=HEADER, rows="\n".join(rows), **versions))


if __name__ == "__main__":
    main()
