"""The plan's network for a table: its settings, its stages, its weights from their random streams."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from typing import Any

from torch import nn

from sheer.data.columns import bin_edges
from sheer.errors import ModelError, first_line
from sheer.model.build import CPU, Built, HeadMaker, body_origin, check_fits, measured_origins, new_head, tensor_facts
from sheer.model.hashing import weights_sha256
from sheer.model.pretrained import IMAGENET, UNLICENSED
from sheer.model.tabular import TabMBody, TabularBody
from sheer.plan.parts import MODEL_SETTINGS, chosen
from sheer.plan.plan import ModelPlan, Origin, Part, Stage
from sheer.plan.profiles import Choice, Profile
from sheer.streams import borrowed_generators, reseed, stream_key

BODIES: dict[str, type[TabularBody] | type[TabMBody]] = {"tabular": TabularBody, "tabm": TabMBody}
STAGES = (
    Stage(name="embeddings", prefixes=("body.embeddings", "body.numbers")),
    Stage(name="layers", prefixes=("body",)),
    Stage(name="head", prefixes=("head",)),
)
PLAIN_HEAD = Part(name="plain", settings=(("pool", "avg"), ("hidden", ()), ("dropout", 0.0), ("init", "torch")))
HEAD_REASONS = {"vector": "one linear layer, torch's own weights", "ensemble": "one linear layer a member"}


def body_arguments(part: Part, columns: Sequence[Part]) -> dict[str, Any]:
    """What the body is made with: the part's settings, the codes of each column of codes, the continuous ones or their bin edges."""
    if part.name == "encoder":
        return part.options()
    names = [column.options().get("categories") for column in columns if column.name == "categorical"]
    codes = [len(one) + 1 for one in names if isinstance(one, tuple)] + [3] * sum(column.name == "missing" for column in columns)
    numbers = [column for column in columns if column.name == "continuous"]
    seen = {"edges": tuple(map(bin_edges, numbers))} if part.name == "tabm" else {"continuous": len(numbers)}
    return {"codes": tuple(codes)} | seen | part.options()


def table_body(part: Part, columns: Sequence[Part]) -> TabularBody | TabMBody:
    """The part's network for these columns, without its head."""
    arguments = body_arguments(part, columns)
    check_fits(lambda: BODIES[part.name](**arguments), f"model={part}")
    return BODIES[part.name](**arguments)


def _ensemble_head(part: Part, task: str, given: Part | None) -> Part:
    """The head of a network with several members; ModelError where it is given another, or its settings make no network."""
    options = part.options()
    if given is not None:
        raise ModelError(f"model={part.name!r} ends in a head of its own, a linear layer a member. Leave head={given.name!r} away.")
    for name, least in (("members", 1), ("embedding", 0), ("one_hot", 0)):
        if not isinstance(options[name], int) or options[name] < least:  # type: ignore[operator]
            raise ModelError(f"model={part}: {name}={options[name]!r}; give a whole number of at least {least}.")
    return Part(name="ensemble", settings=(("members", options["members"]), ("task", task)))


def build_table(
    model: Choice | None,
    *,
    columns: Sequence[Part],
    task: str,
    classes: int,
    profile: Profile,
    head: Part | None,
    make_head: HeadMaker | None,
    seed: int,
) -> Built:
    """The network for a table of these columns, on the CPU, the profile's where `model` is None; the caller's generators are left alone.

    Raises:
        PlanError: the name or a setting is not known.
        ModelError: the settings make no network.
    """
    part = chosen(str(profile.value("table.model")) if model is None else model, MODEL_SETTINGS, profile, "model")
    top_part, kind = head or PLAIN_HEAD, "vector"
    if part.name == "tabm":
        top_part, kind = _ensemble_head(part, task, head), "ensemble"
    hidden = part.options()["hidden"]
    assert isinstance(hidden, tuple)
    if not all(isinstance(width, int) and width > 0 for width in hidden) or (part.name == "tabm" and not hidden):
        raise ModelError(f"model={part}: hidden={hidden!r}; give a width of at least 1 for each layer, such as (128, 128).")
    with borrowed_generators(CPU):
        reseed(stream_key(seed, "init-body"), CPU)
        try:
            body = table_body(part, columns)
        except ModelError:
            raise
        except (ArithmeticError, IndexError, ValueError, TypeError, RuntimeError) as error:
            raise ModelError(f"model={part}: {first_line(error)}.") from error
        reseed(stream_key(seed, "init-head"), CPU)
        top = new_head(top_part, make_head, body.features, classes, kind)
    whole = nn.Sequential(OrderedDict(body=body, head=top))
    embeds = any(name.startswith(("embeddings", "numbers")) for name, _ in body.named_parameters())
    stages = STAGES if embeds else STAGES[1:]
    scales = tuple(f"body.{name}" for name, _ in body.named_parameters() if ".scale_" in name)
    plan = ModelPlan(
        name=f"sheer:{part.name}",
        weights=Part(name="none"),
        weights_sha256=weights_sha256(body),
        licence=UNLICENSED,
        kind=kind,
        node="",
        features=body.features,
        stride=1,
        channels=0,
        channel_init="kept",
        surgery=None,
        head=top_part,
        stages=stages,
        undecayed=scales,
        body=part,
        origins=(
            Origin(field="name", by="you", reason="you named it: sheer's own network for tables")
            if model
            else Origin(field="name", by="default", reason=profile.reason("table.model")),
            Origin(field="weights", by="default", reason="there are no pretrained weights for a table: it starts from random ones"),
            *measured_origins(Part(name="none")),
            Origin(field="channels", by="data", reason="the inputs are no pictures"),
            Origin(field="channel_init", by="data", reason="the inputs are no pictures"),
            Origin(field="head", by="you" if head else "default", reason="you gave it" if head else HEAD_REASONS[kind]),
            Origin(field="stages", by="default", reason="embeddings of the categorical columns; layers; head"),
            body_origin(
                "you" if isinstance(model, tuple) else "default", f"{profile.reason(f'{part.name}.hidden')}; what you gave comes first"
            ),
        ),
    )
    return Built(
        model=whole,
        plan=plan,
        tensors=tensor_facts(whole, stages, scales),
        inputs=IMAGENET,
        weights_label="initialised",
        made_by=None,
        made_head=make_head,
    )
