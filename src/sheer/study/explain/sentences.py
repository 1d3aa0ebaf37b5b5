"""A plan's profile, model and numerics in words: for each field of the plan one function of the plan.

The texts say the value, so that another value gives another sentence.
"""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Sequence

from sheer.model.pretrained import UNLICENSED
from sheer.plan.facts import adapter_of
from sheer.plan.plan import ModelPlan, Origin, Plan
from sheer.study.explain.words import Words, listed, number


def _name(plan: Plan) -> str:
    library, _, name = plan.model.name.partition(":")
    if library in ("timm", "torchvision", "transformers", "sheer"):
        return f"The network is {library}'s {name}."
    if plan.model.branches:
        return f"The network has a branch for each input: {name}."
    return f"The network is your own {library} {name}."


def _weights(plan: Plan) -> str:
    weights = plan.model.weights
    what = {
        "none": "none: it starts from random numbers",
        "run": "those of another run, taken further",
        "branches": "those of its branches",
    }
    return f"Its pretrained weights are {what.get(weights.name, f'from {weights}')}" + (f" ({weights})." if weights.name == "run" else ".")


def _kind(plan: Plan) -> str:
    if plan.model.kind == "ensemble":
        return "The body gives a vector for each of its members, (N, members, C)."
    if plan.model.branches:
        return "The branches give a vector each, and what fuses them one of them all (N, C)."
    if plan.model.body is not None:
        return "The body ends in a vector (N, C)."
    return {
        "map": "What is kept of the network ends in a map (N, C, H, W), before its pooling.",
        "vector": "What is kept of the network ends in a vector (N, C), after its own pooling: what came before it cannot be had as a map.",
    }.get(plan.model.kind, f"The module ends in {plan.model.kind}: it is taken whole.")


def _features(plan: Plan) -> str:
    model, head = plan.model, plan.model.head
    if head is None:
        return f"The module is taken whole, with scores of its own, so there is no head and nothing is cut ({model.features} features)."
    width = f"The body gives {model.features:,} channels"
    if head.name == "concat_pool" and model.kind == "map":
        return (
            f"{width}, and the head has {model.features * 2:,} inputs: its pooling joins the maximum and the average of each channel "
            f"over the map, and 2 x {model.features:,} = {model.features * 2:,}. That has nothing to do with how many classes "
            "the weights knew."
        )
    if head.name == "plain" and head.options().get("pool") == "concat" and model.kind == "map":
        return f"{width}, and the head has {model.features * 2:,} inputs: the average and the maximum of each channel, joined."
    if model.branches:
        widths = " + ".join(f"{one.name} {one.model.features:,}" for one in model.branches)
        return f"The branches give {widths} numbers, their fusion {model.features:,}, so the head has {model.features:,} inputs."
    if model.body:
        each = " for each member" if model.kind == "ensemble" else ""
        return f"The body gives {model.features:,} numbers{each}, so the head has {model.features:,} inputs: nothing is doubled."
    how = "averaged over the map" if model.kind == "map" else "pooled by the network itself"
    return f"{width}, {how}, so the head has {model.features:,} inputs: nothing is doubled."


def head_layers(model: ModelPlan, classes: int) -> str:
    """The head's layers in order, with widths and dropout."""
    if model.head is None:
        return "the module's own"
    options, wide = model.head.options(), model.kind == "map"
    if model.head.name == "concat_pool":
        hidden = tuple(value for value in (options.get("hidden", (512,)) or ()) if isinstance(value, int))  # type: ignore[union-attr]
        drop = number(options.get("dropout"), 0.5)
        widths = [model.features * (2 if wide else 1), *hidden, classes]
        steps = ["maximum and average pooling, flat"] if wide else []
        for index, (width, out) in enumerate(itertools.pairwise(widths)):
            last = index == len(widths) - 2
            steps.append(
                f"norm, dropout {drop if last else drop / 2:g}, linear {width:,} to {out:,} without bias" + ("" if last else ", ReLU")
            )
        return "; ".join(steps)
    if model.head.name == "ensemble":
        means = "numbers" if options.get("task") == "regress" else "probabilities"
        return f"linear {model.features:,} to {classes:,} for each of {options.get('members')} members; the mean of their {means}"
    if model.head.name.startswith("function:"):
        return f"what your function {model.head.name.partition(':')[2]} returns"
    pool = "average pooling, " if wide else ""
    if model.head.name == "plain":
        joined = wide and options.get("pool") == "concat"
        widths = [model.features * (2 if joined else 1), *(value for value in options.get("hidden", ()) if isinstance(value, int)), classes]  # type: ignore[union-attr]
        linear = [f"linear {width:,} to {out:,}" for width, out in itertools.pairwise(widths)]
        steps = [*(f"{one}, norm, ReLU" for one in linear[:-1]), f"dropout {number(options.get('dropout'), 0.0):g}, {linear[-1]} (plain)"]
        return ("average and maximum pooling, " if joined else pool) + "; ".join(steps)
    return f"{pool}dropout {number(options.get('dropout'), 0.0):g}, linear {model.features:,} to {classes:,} ({model.head.name})"


def _head(plan: Plan) -> str:
    if plan.model.head is None:
        return "No head was put on: the module ends in its own scores (head None)."
    layers = head_layers(plan.model, len(plan.data.classes))
    adapter = adapter_of(plan.model.lora)
    start = f"the adapter's weights (sha256 {adapter[:16]})" if adapter else "random numbers"
    return f"The new head {plan.model.head} is, in order: {layers}. All of it starts from {start}."


def _stages(plan: Plan) -> str:
    rules = "; ".join(f"{stage.name} = names under {listed(stage.prefixes, 4)}" for stage in plan.model.stages)
    cut = (
        "The cut took the old classifier away; this split is another thing"
        if plan.model.surgery
        else "Nothing was cut; this split takes nothing"
    )
    return (
        f"{cut}: it sorts the tensors that are there into {len(plan.model.stages)} stages ({rules}), so that stages can be frozen, "
        "have rates of their own, and be left out of weight decay. That is what parameter groups are for; the split has no part in "
        "how weights are initialised. Stages are rules over names, read anew from the model at the start of each phase, never lists kept "
        "from an older model."
    )


BODY_WORDS = {
    "tabular": "an embedding for each column of codes, beside the numbers, below layers",
    "tabm": "several networks that share their weights but for scales and biases, over codes and piecewise-linear embeddings of numbers",
}
BRANCH_WEIGHTS = {"none": "no pretrained"}
MODEL: dict[str, Words] = {
    "name": _name,
    "weights": _weights,
    "weights_sha256": lambda plan: (
        f"Their SHA-256 begins with {plan.model.weights_sha256[:16]}; a script that finds others stops before it trains."
    ),
    "licence": lambda plan: (
        "Nothing pretrained goes in, so no licence of weights has to be kept."
        if plan.model.licence == UNLICENSED
        else f"The licence of the pretrained weights: {plan.model.licence}."
    ),
    "kind": _kind,
    "node": lambda plan: (
        f"torch.fx traced its graph: the cut is at the node {plan.model.node!r}, the last one that only the classifier follows."
        if plan.model.node
        else "The body is made without a classifier, so there is no node of a graph to cut at (node '')."
        if plan.model.body or plan.model.branches
        else "The network's own method leaves its classifier away, so no table of cuts is needed and no graph is taken apart (node '')."
    ),
    "features": _features,
    "body": lambda plan: (
        f"It is {plan.model.body}: the states of its last layer are pooled over the tokens of a text, never over padding."
        if plan.model.body and plan.model.body.name == "encoder"
        else f"The network is sheer's own, {plan.model.body}: {BODY_WORDS.get(plan.model.body.name, '')}."
        if plan.model.body
        else "The network's body are its branches and what fuses them."
        if plan.model.branches
        else "The network's body is as its library, or you, made it."
    ),
    "lora": lambda plan: (
        f"Beside linear layers of the body changes of low rank are learnt, {plan.model.lora}: W x + (alpha / rank) B A x, "
        f"{'which start from that adapter' if adapter_of(plan.model.lora) else 'B zero at first'}."
        if plan.model.lora
        else "The weights themselves train: no LoRA."
    ),
    "fusion": lambda plan: (
        f"What the branches give is made one vector by {plan.model.fusion}; the head is on it."
        if plan.model.fusion
        else "Each item has one input, so nothing is fused."
    ),
    "branches": lambda plan: (
        "Each input has a branch: "
        + listed(
            [
                f"{one.name} by {one.model.name}, {BRANCH_WEIGHTS.get(one.model.weights.name, one.model.weights.name)} weights, "
                f"{one.model.features} wide"
                for one in plan.model.branches
            ]
        )
        + "."
        if plan.model.branches
        else "The body is one network, without branches."
    ),
    "stride": lambda plan: (
        f"One cell of the last map stands for {plan.model.stride} x {plan.model.stride} px of the picture."
        if plan.model.kind == "map"
        else f"There is no map in the end, so its stride ({plan.model.stride}) means nothing."
    ),
    "channels": lambda plan: (
        f"The pictures have {plan.model.channels} channels." if plan.model.channels else "The inputs are no pictures: 0 channels."
    ),
    "channel_init": lambda plan: {
        "kept": "The first convolution was kept as it came." if plan.model.channels else "There is no first convolution (kept).",
        "zero": "The first convolution got weights of zero for the further channels: it keeps what it knows and learns the rest.",
    }.get(
        plan.model.channel_init,
        f"The first convolution got its weights by the rule {plan.model.channel_init!r}, since the weights knew three channels.",
    ),
    "head": _head,
    "stages": _stages,
    "undecayed": lambda plan: f"Tensors that the network's own code exempts from weight decay: {listed(plan.model.undecayed)}.",
}


def surgery_words(model: ModelPlan) -> str:
    """What was cut, what was kept, and the proof; "" where nothing was cut."""
    cut = model.surgery
    if cut is None:
        return ""
    if model.body is not None:
        return (
            f"Left out: {cut.dropped_parameters:,} values in {len(cut.dropped)} tensors ({listed(cut.dropped)}), which pool what is pooled "
            f"otherwise here. Kept: {cut.kept_parameters:,} values, proved first ({cut.method}); the largest difference of a number was "
            f"{cut.largest_difference:g}."
        )
    return (
        f"Cut: the old classifier, {cut.dropped_parameters:,} values in {len(cut.dropped)} tensors ({listed(cut.dropped)}). "
        f"Kept: {cut.kept_parameters:,} values. Before anything was thrown away, kept body and old classifier together gave the old logits "
        f"({cut.method}); the largest difference of a logit was {cut.largest_difference:g}."
    )


NUMERICS: dict[str, Words] = {
    "device": lambda plan: f"It runs on {plan.numerics.device}.",
    "threads": lambda plan: (
        f"PyTorch computes with {plan.numerics.threads} thread{'s' * (plan.numerics.threads != 1)}; other numbers of threads give other "
        "last bits."
    ),
    "memory_format": lambda plan: f"Inputs lie in memory as {plan.numerics.memory_format}: other last bits, the same mathematics.",
    "precision": lambda plan: (
        "Everything is computed in float32."
        if plan.numerics.precision == "float32"
        else f"The forward pass is computed in {plan.numerics.precision}; the weights stay float32."
    ),
    "compile": lambda plan: "torch.compile makes the training step." if plan.numerics.compile else "Nothing is compiled.",
    "deterministic": lambda plan: (
        "Only deterministic algorithms are used, so the same plan gives the same bits each time here."
        if plan.numerics.deterministic
        else "Algorithms need not be deterministic: the same plan may give other bits the next time."
    ),
}

PLAN: dict[str, Words] = {
    "profile": lambda plan: f"Values that nobody gave are taken from the profile {plan.profile!r}.",
    "seed": lambda plan: (
        f"Every random draw (new weights, order, cuts, augmentation, dropout) follows from the seed {plan.seed} by streams of its own name."
    ),
    "metrics": lambda plan: f"After each epoch the held-out items are judged by {listed(plan.metrics)}; that never changes training.",
    "weighted_metrics": lambda plan: (
        "In the metrics each held-out item counts what its weight is." if plan.weighted_metrics else "In the metrics all items count alike."
    ),
}


def deciders(origins: Sequence[Origin]) -> str:
    """Who decided which fields, as one sentence."""
    counts = Counter(origin.by for origin in origins)
    words = {"you": "you", "recipe": "the recipe", "default": "a default", "weights": "the weights", "data": "the data"}
    words |= {"machine": "this machine", "measured": "a measurement"}
    parts = [f"{words.get(by, by)} {counts[by]} ({', '.join(o.field for o in origins if o.by == by)})" for by in counts]
    return f"Who decided the {len(origins)} values here: {'; '.join(parts)}."
