"""Why two losses of the same scores and targets differ, solved from their values and their gradients at the scores."""

from __future__ import annotations

import torch
from torch.nn import functional

from sheer.study.compare.meeting import Cause, Meeting, near, numbers, ratio


def loss_cause(meeting: Meeting) -> Cause:
    """Why the loss differs while the scores are equal."""
    a, b = meeting.a, meeting.b
    x, y, scores = a.loss, b.loss, a.logits
    assert x is not None and y is not None and scores is not None
    if x.shape != y.shape:
        return Cause(
            name="reduction", evidence=f"a's loss is of shape {tuple(x.shape)}, b's {tuple(y.shape)}: one value an item is not yet a mean."
        )
    said = f"{float(x):.6g} against {float(y):.6g}"
    gradients = a.logits_gradient, b.logits_gradient
    found = _scale(*gradients, float(y) / float(x) if float(x) else 0.0, scores)
    if found:
        return Cause(name=found.name, evidence=f"{said}: {found.evidence}")
    target = a.target.to(scores.device)
    if scores.ndim == 2 and target.ndim == 1 and not target.is_floating_point():
        kinds = [_kind(float(value), scores.double(), target) for value in (x, y)]
        if kinds[0] and kinds[1] and kinds[0] != kinds[1]:
            return Cause(name="loss kind", evidence=f"{said}: a is {kinds[0]}, b is {kinds[1]}, recomputed from the scores.")
        if gradients[0] is not None and gradients[1] is not None:
            found = _cross_entropies(gradients[0].double(), gradients[1].double(), scores.double(), target)
            if found:
                return Cause(name=found.name, evidence=f"{said}: {found.evidence}")
        if kinds[0] != kinds[1]:
            names = [kind or "none of the losses that are known here" for kind in kinds]
            return Cause(name="loss kind", evidence=f"{said}: a is {names[0]}, b is {names[1]}, recomputed from the scores.")
    if gradients[0] is not None and gradients[1] is not None and near(gradients[0], gradients[1]):
        added = float(y - x)
        squares = sum(float(value.double().square().sum()) for name, value in b.before.items() if name in b.trains)
        return Cause(
            name="penalty",
            evidence=f"{said}, with equal gradients at the scores: {added:.4g} is added, {added / squares:.3g} times the sum of all "
            f"squared parameters ({squares:.4g}).",
        )
    return Cause(name="unknown", evidence=f"{said}, a ratio of {float(y) / float(x) if float(x) else float('nan'):.4g}.")


def _scale(x: torch.Tensor | None, y: torch.Tensor | None, factor: float, scores: torch.Tensor) -> Cause | None:
    """One factor between the losses, and the same between their gradients."""
    if x is None or y is None or not factor or not near(x * factor, y) or abs(factor - 1) < 1e-6:
        return None
    items, outputs = len(scores), scores[0].numel()
    whole = {items: "the items of the batch", outputs: "the outputs", items * outputs: "items times outputs"}
    for count, what in whole.items():
        for times, said in ((factor, "b takes the sum where a takes the mean"), (1 / factor, "b takes the mean where a takes the sum")):
            if count > 1 and abs(times / count - 1) < 1e-3:
                return Cause(name="reduction", evidence=f"b's is {factor:.5g} times a's, and {count} are {what}: {said}.")
    return Cause(name="loss scale", evidence=f"b's is {factor:.5g} times a's, and so is its gradient at the scores.")


def _kind(value: float, scores: torch.Tensor, target: torch.Tensor) -> str:
    """The name of a loss that gives this value, "" where none does."""
    wanted = functional.one_hot(target, scores.shape[1]).double()
    chance, picked = scores.softmax(1), target[:, None]
    losses = {
        "cross-entropy": functional.cross_entropy(scores, target, reduction="none"),
        "cross-entropy of softmaxed scores (softmax twice)": functional.cross_entropy(chance, target, reduction="none"),
        "cross-entropy of sigmoids": functional.cross_entropy(scores.sigmoid(), target, reduction="none"),
        "binary cross-entropy of each score": functional.binary_cross_entropy_with_logits(scores, wanted, reduction="none"),
        "squared error to the one-hot target": (scores - wanted).square(),
        "squared error of probabilities": (chance - wanted).square(),
        "the negative score of the true class (a log-likelihood without log-softmax)": -scores.gather(1, picked),
        "a hinge over classes": functional.multi_margin_loss(scores, target, reduction="none"),
    }
    for name, each in losses.items():
        for how, total in (("", each.mean()), (", summed", each.sum()), (", summed over outputs", each.sum() / len(scores))):
            if abs(float(total) - value) <= 2e-5 * max(abs(value), 1e-6):
                return name + how
    return ""


def _cross_entropies(x: torch.Tensor, y: torch.Tensor, scores: torch.Tensor, target: torch.Tensor) -> Cause | None:
    """Label smoothing, weights of classes, or focal weights, from gradients at the scores: (p - target) weight / items."""
    items, classes = scores.shape
    wanted, chance = functional.one_hot(target, classes).double(), scores.softmax(1)
    away = chance - wanted
    smooth = []
    for gradient in (x, y):
        share = ratio(wanted - 1 / classes, gradient * items - away)
        fits = near(gradient * items, away + share * (wanted - 1 / classes), 2e-3)
        smooth.append(share if fits else None)
    if smooth[0] is not None and smooth[1] is not None and abs(smooth[0] - smooth[1]) > 1e-4:
        mine, yours = (f"{abs(share):.4g}" if abs(share) > 1e-5 else "0" for share in (smooth[0], smooth[1]))
        return Cause(name="label smoothing", evidence=f"label smoothing {mine} against {yours}, solved from the gradient at the scores.")
    if near(x, y, 1e-6):
        said = (
            "the gradients at the scores are equal: a term that does not come from the scores, such as a penalty on the weights, is in one"
        )
        return Cause(name="added term", evidence=f"{said}.")
    weights = []
    for gradient in (x, y):
        each = (gradient * away).sum(1) / away.square().sum(1).clamp_min(1e-300) * items
        if not near(gradient * items, each[:, None] * away, 2e-3):
            return None
        weights.append(each)
    present = target.unique()
    by_class = [torch.stack([each[target == label].mean() for label in present]) for each in weights]
    if all(near(each, found[torch.searchsorted(present, target)], 2e-3) for each, found in zip(weights, by_class, strict=True)):
        shown = f"{numbers(by_class[0])} against {numbers(by_class[1])} for classes {', '.join(str(int(label)) for label in present)}"
        return Cause(name="class weights", evidence=f"an item of each class counts {shown}, solved from the gradient at the scores.")
    true = chance.gather(1, target[:, None])[:, 0]
    gammas = [_gamma(each, true) for each in weights]
    if gammas[0] is not None and gammas[1] is not None:
        return Cause(name="focal", evidence=f"focal gamma {gammas[0]:g} against {gammas[1]:g}, solved from the gradient at the scores.")
    return Cause(name="item weights", evidence=f"items count {float(weights[1].min()):.3g} to {float(weights[1].max()):.3g} in b.")


def _gamma(each: torch.Tensor, true: torch.Tensor) -> float | None:
    """The focal exponent, to a tenth, with which items of these true-class probabilities count so."""
    for tenth in range(51):
        gamma = tenth / 10
        if near(each, (1 - true) ** gamma - (gamma * true * (1 - true) ** (gamma - 1) * true.log() if gamma else 0), 2e-3):
            return gamma
    return None
