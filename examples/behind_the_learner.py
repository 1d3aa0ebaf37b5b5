"""What goes on behind the learner: the questions of a well-known walk-through, answered for your own model and photographs.

python examples/behind_the_learner.py FOLDER [--model tf_efficientnet_lite0] [--weights package] [--size 160] [--out walk.md]

The walk-through read one line of code after the other (find the cut, make the body, double the features, make the head, join them, split,
freeze, initialise), and its readers were left with questions. Every answer here is generated from the plan of the learner that
would train on FOLDER, with the line of the plain PyTorch script that carries it out; where the module itself can be asked, it is.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import torch
from torch import nn

import sheer

LINES = (
    (
        "What is cut off, and who says where? What if no cut is known for a network?",
        ("model.name", "model.surgery", "model.node", "model.kind"),
    ),
    ("Which weights does the body start from?", ("model.weights", "model.weights_sha256", "model.licence")),
    ("Why does the head have that many inputs?", ("model.features", "phases[0].size")),
    ("What is in the head, and how many outputs has it?", ("model.head", "data.classes")),
    ("Cut and split: how are they different? Why are there groups at all?", ("model.stages",)),
    ("What does 'frozen' train?", ("phases[0].trains_from", "phases[0].norm", "phases[0].groups")),
    ("At which rates, at which step?", ("phases[0].rates", "phases[0].schedule", "phases[1].rates", "phases[1].schedule")),
    ("What is carried over from the frozen phase to the next?", ("phases[1].optimizer",)),
    ("Which weights are decayed, and how?", ("phases[1].weight_decay", "phases[1].no_decay")),
    ("How does a photograph reach the network?", ("phases[0].resize", "phases[0].augmentation", "phases[0].mean", "phases[0].std")),
)
"""Each question with the plan values whose sentences answer it."""


def answers(explanation: sheer.Explanation) -> list[str]:
    """The questions as Markdown, each with the sentences that answer it."""
    text = []
    for question, values in LINES:
        found = [one for value in values for one in explanation.about(value) if not one.topic.startswith("Against")]
        text += [f"\n## {question}\n"]
        for one in dict.fromkeys(found):
            text.append(f"{one.text}")
            if one.rows:
                text += ["", "| " + " | ".join(one.rows[0]) + " |", "|" + "---|" * len(one.rows[0])]
                text += ["| " + " | ".join(row) + " |" for row in one.rows[1:]]
            text.append(f"(`{one.values[0]}`" + (f"; script line {one.line}: `{one.code}`)" if one.line else ")") + "\n")
    return text


def asked(learn: sheer.Learner) -> list[str]:
    """What the module itself says, for whoever does not believe the plan."""
    head = learn.model.get_submodule("head")
    first = next(module for module in head.modules() if isinstance(module, nn.BatchNorm1d | nn.Linear))
    inputs = first.num_features if isinstance(first, nn.BatchNorm1d) else first.in_features
    drops = [module.p for module in head.modules() if isinstance(module, nn.Dropout)]
    return [
        "\n## The module itself\n",
        f"The first layer of its head takes {inputs:,} numbers; its dropouts are {', '.join(map(str, drops)) or 'none'}; "
        f"it has {sum(p.numel() for p in learn.model.parameters()):,} values in all.",
    ]


def four_channels(model: str, weights: str) -> list[str]:
    """A first convolution for four channels, and why assigning into a list of children changed nothing."""
    net = nn.Sequential(nn.Conv2d(3, 8, 3))
    children = list(net.children())
    children[0] = nn.Conv2d(4, 8, 3)
    kept = net[0].weight.shape[1]
    net[0] = nn.Conv2d(4, 8, 3)
    pictures = torch.randint(0, 256, (20, 4, 64, 64), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    learn = sheer.learner(sheer.arrays(pictures, [0, 1] * 10), model, weights=weights, quiet=True, batch_size=4)
    said = sheer.explain(learn.plan(sheer.recipes.one_cycle(1)))
    first = next(module for module in learn.model.modules() if isinstance(module, nn.Conv2d))
    return [
        "\n## How do I give it four channels?\n",
        f"`list(net.children())[0] = ...` writes into a list that is thrown away: the convolution still took {kept} channels. "
        f"Set it on its parent (`net[0] = ...`) and it takes {net[0].weight.shape[1]}. Here the data decide:\n",
        *(f"{one.text}\n" for value in ("model.channels", "model.channel_init", "phases[0].std") for one in said.about(value)),
        f"The module's first convolution takes {first.weight.shape[1]} channels; the fourth's weights sum to "
        f"{float(first.weight[:, 3].detach().abs().sum()):g}.",
    ]


def walk(folder: str, model: str, weights: str, size: int, epochs: int) -> str:
    """The whole walk-through as Markdown."""
    data = sheer.images(folder)
    learn = sheer.learner(data, model, weights=weights, size=size, quiet=True)
    plan = learn.plan(sheer.recipes.fine_tune(epochs))
    explanation = sheer.explain(plan)
    report = sheer.inspect(learn, sheer.recipes.fine_tune(epochs), items=64)
    text = [f"# Behind the learner: {plan.model.name} on {plan.data.source}, plan {plan.short_hash()}"]
    text += [*answers(explanation), *asked(learn), *four_channels(model, weights)]
    text += ["\n## What the network sees\n", "```", str(report), "```"]
    differ = [one for one in explanation.sentences if one.topic.startswith("Against")]
    text += ["\n## What fastai would do otherwise\n", *(f"- {one.text}" for one in differ)]
    return "\n".join(text)


def main() -> None:
    """Print the walk-through, or write it to a file."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("folder", help="class folders of photographs")
    parser.add_argument("--model", default="tf_efficientnet_lite0")
    parser.add_argument("--weights", default="package", help="package, none, default or a file")
    parser.add_argument("--size", type=int, default=160)
    parser.add_argument("--epochs", type=int, default=3)
    parser.add_argument("--out", help="a Markdown file to write")
    args = parser.parse_args()
    text = walk(args.folder, args.model, args.weights, args.size, args.epochs)
    if args.out:
        Path(args.out).write_text(text + "\n")
    print(args.out or text)


if __name__ == "__main__":
    main()
