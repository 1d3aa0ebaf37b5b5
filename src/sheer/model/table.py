"""The plan's network for a table: its settings, its stages, its weights from their random streams."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from typing import Any

from torch import nn

from sheer.errors import ModelError
from sheer.model.build import CPU, Built, HeadMaker, body_origin, measured_origins, new_head, tensor_facts
from sheer.model.hashing import weights_sha256
from sheer.model.pretrained import IMAGENET
from sheer.model.tabular import TabularBody
from sheer.plan.parts import MODEL_SETTINGS, chosen
from sheer.plan.plan import ModelPlan, Origin, Part, Stage
from sheer.plan.profiles import Choice, Profile
from sheer.streams import borrowed_generators, reseed, stream_key

DEFAULT_TABLE_MODEL = "tabular"
STAGES = (
    Stage(name="embeddings", prefixes=("body.embeddings",)),
    Stage(name="layers", prefixes=("body",)),
    Stage(name="head", prefixes=("head",)),
)
PLAIN_HEAD = Part(name="plain", settings=(("pool", "avg"), ("hidden", ()), ("dropout", 0.0), ("init", "torch")))


def body_arguments(part: Part, columns: Sequence[Part]) -> dict[str, Any]:
    """What TabularBody is made with: the part's settings, the codes of each column of codes, the number of continuous ones."""
    if part.name == "encoder":
        return part.options()
    names = [column.options().get("categories") for column in columns if column.name == "categorical"]
    codes = [len(one) + 1 for one in names if isinstance(one, tuple)] + [3] * sum(column.name == "missing" for column in columns)
    return {"codes": tuple(codes), "continuous": sum(column.name == "continuous" for column in columns)} | part.options()


def build_table(
    model: Choice, *, columns: Sequence[Part], classes: int, profile: Profile, head: Part | None, make_head: HeadMaker | None, seed: int
) -> Built:
    """The network for a table of these columns, on the CPU; the caller's generators are left alone.

    Raises:
        PlanError: the name or a setting is not known.
        ModelError: the settings make no network.
    """
    part = chosen(model, MODEL_SETTINGS, profile, "model")
    with borrowed_generators(CPU):
        reseed(stream_key(seed, "init-body"), CPU)
        try:
            body = TabularBody(**body_arguments(part, columns))
        except (ValueError, TypeError, RuntimeError) as error:
            raise ModelError(f"model={part}: {error}.") from error
        reseed(stream_key(seed, "init-head"), CPU)
        top = new_head(head or PLAIN_HEAD, make_head, body.features, classes, "vector")
    whole = nn.Sequential(OrderedDict(body=body, head=top))
    has_codes = len(body.embeddings) > 0
    stages = STAGES if has_codes else STAGES[1:]
    plan = ModelPlan(
        name=f"sheer:{part.name}",
        weights=Part(name="none"),
        weights_sha256=weights_sha256(body),
        licence="Apache-2.0",
        kind="vector",
        node="",
        features=body.features,
        stride=1,
        channels=0,
        channel_init="kept",
        surgery=None,
        head=head or PLAIN_HEAD,
        stages=stages,
        undecayed=(),
        body=part,
        origins=(
            Origin(field="name", by="default" if model == DEFAULT_TABLE_MODEL else "you", reason="sheer's own network for tables"),
            Origin(field="weights", by="default", reason="there are no pretrained weights for a table: it starts from random ones"),
            *measured_origins(),
            Origin(field="channels", by="data", reason="the inputs are no pictures"),
            Origin(field="channel_init", by="data", reason="the inputs are no pictures"),
            Origin(
                field="head", by="you" if head else "default", reason="you gave it" if head else "one linear layer, torch's own weights"
            ),
            Origin(field="stages", by="default", reason="embeddings of the categorical columns; layers; head"),
            body_origin("default" if isinstance(model, str) else "you", f"{profile.reason('tabular.hidden')}; what you gave comes first"),
        ),
    )
    return Built(
        model=whole,
        plan=plan,
        tensors=tensor_facts(whole, stages, ()),
        inputs=IMAGENET,
        weights_label="initialised",
        made_by=None,
        made_head=make_head,
    )
