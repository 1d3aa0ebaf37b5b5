"""Why pixels differ, solved from the pixels: order, range, statistics, channels, mirrors, places, resizing."""

from __future__ import annotations

import torch

from sheer.study.compare.meeting import Cause, Meeting, near, numbers

STATISTICS = {
    "ImageNet's": ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
    "halves": ((0.5, 0.5, 0.5), (0.5, 0.5, 0.5)),
    "CIFAR-10's": ((0.4914, 0.4822, 0.4465), (0.247, 0.2435, 0.2616)),
    "CLIP's": ((0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)),
    "none (0..1)": ((0.0, 0.0, 0.0), (1.0, 1.0, 1.0)),
}
SAME = 0.999  # correlation of two pictures that are taken for the same one
ROOM = 8  # pixels within which a moved crop is looked for


def look_cause(kind: str, meeting: Meeting) -> Cause:
    """Why the first batch differs after a data step, which got equal pixels."""
    x, y = dict(meeting.one.looks)[kind], dict(meeting.other.looks)[kind]
    mine, yours = meeting.one.about.get(kind, ""), meeting.other.about.get(kind, "")
    kind = kind.removeprefix("photo ")
    name = {"decode": "decode", "resize": "resize", "cut": "crop", "augment": "augmentation", "augment again": "augmentation"}.get(kind, "")
    if mine != yours and name:
        return Cause(name="resize" if kind == "cut" else name, evidence=f"{mine} against {yours}; {_amount(x, y)}.")
    if kind in ("decode", "resize"):
        x, y = x.permute(2, 0, 1)[None], y.permute(2, 0, 1)[None]
    found = pixel_cause(x, y, meeting)
    return Cause(name=name, evidence=found.evidence) if found.name == "unknown" and name else found


def input_cause(meeting: Meeting) -> Cause:
    """Why the inputs of the network differ."""
    x, y = meeting.a.inputs, meeting.b.inputs
    assert x is not None and y is not None
    return pixel_cause(x, y, meeting)


def pixel_cause(x: torch.Tensor, y: torch.Tensor, meeting: Meeting) -> Cause:
    """Why two batches (N, C, H, W), or (N, values), differ."""
    if x.shape != y.shape:
        return _shapes(x, y)
    if x.ndim < 2:
        return Cause(name="unknown", evidence=_amount(x, y) + ".")
    x, y = x.detach().cpu().double(), y.detach().cpu().double()
    order, alike = _matched(x, y)
    reverse = False
    if x.ndim == 4 and x.shape[1] == 3:
        backwards, alike_backwards = _matched(x, y.flip(1))
        if float(alike_backwards.min()) > float(alike.min()) + 1e-3:
            order, alike, reverse = backwards, alike_backwards, True
    moved = order.tolist() != list(range(len(x)))
    if float(alike.min()) > SAME and len(set(order.tolist())) == len(x):
        aligned = (y.flip(1) if reverse else y)[order]
        relation = _relation(x, aligned, meeting, reverse)
        if moved:
            first = next(place for place, index in enumerate(order.tolist()) if place != index)
            also = f" Apart from that: {relation.evidence}" if relation else ""
            places = f"item {first} of a's batch is item {int(order[first])} of b's (correlation {float(alike.min()):.4f} or more for all)"
            return Cause(name="order", evidence=f"the same {len(x)} items in another order: {places}.{also}")
        if relation:
            return relation
    return _geometry(x, y) or Cause(name="unknown", evidence=_amount(x, y) + "; no known relation fits.")


def _shapes(x: torch.Tensor, y: torch.Tensor) -> Cause:
    said = f"{tuple(x.shape)} against {tuple(y.shape)}"
    if x.ndim != y.ndim:
        return Cause(name="shape", evidence=f"{said}.")
    if x.shape[1:] == y.shape[1:]:
        return Cause(name="batch size", evidence=f"{len(x)} items a batch against {len(y)}.")
    if x.ndim == 4 and x.shape == y.permute(0, 3, 1, 2).shape:
        equal = "the same values" if near(x, y.permute(0, 3, 1, 2)) else "other values"
        return Cause(name="layout", evidence=f"{said}: channels last in b, with {equal}; PyTorch takes (N, C, H, W).")
    if x.ndim == 4 and x.shape[1] == y.shape[1]:
        return Cause(name="size", evidence=f"{x.shape[3]} x {x.shape[2]} px against {y.shape[3]} x {y.shape[2]} px (width x height).")
    return Cause(name="shape", evidence=f"{said}.")


def _channels(x: torch.Tensor) -> torch.Tensor:
    """(N, C, values): the values of each channel of each item."""
    return x.flatten(2) if x.ndim > 2 else x[:, None]


def _matched(x: torch.Tensor, y: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """For each item of x the most alike item of y, and how alike: correlation channel by channel, blind to scale and shift."""
    rows = []
    for values in (_channels(x), _channels(y)):
        centred = values - values.mean(2, keepdim=True)
        rows.append((centred / centred.norm(dim=2, keepdim=True).clamp_min(1e-12)).flatten(1) / values.shape[1] ** 0.5)
    alike = rows[0] @ rows[1].T
    own = torch.arange(len(x))
    best = alike.argmax(1)
    best = torch.where(alike[own, own] >= alike[own, best] - 1e-9, own, best)
    return best, alike[own, best]


def _line(x: torch.Tensor, y: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, float]:
    """Slope and shift a channel with y = slope x + shift, and the largest residual as a share of y's spread."""
    u, v = (_channels(t).transpose(0, 1).flatten(1) for t in (x, y))
    centred = u - u.mean(1, keepdim=True)
    slope = (centred * v).sum(1) / centred.square().sum(1).clamp_min(1e-12)
    shift = v.mean(1) - slope * u.mean(1)
    residual = (v - slope[:, None] * u - shift[:, None]).abs().amax()
    return slope, shift, float(residual / v.std().clamp_min(1e-12))


def _relation(x: torch.Tensor, y: torch.Tensor, meeting: Meeting, reverse: bool) -> Cause | None:
    """The cause, where each channel of y is a straight line of x's."""
    slope, shift, residual = _line(x, y)
    if residual > 0.01:
        return None
    same = near(slope, torch.ones_like(slope), 1e-4) and float(shift.abs().max()) < 1e-4 * float(x.abs().max())
    if reverse:
        rest = "" if same else f" and b = {numbers(slope, 4)} a + {numbers(shift, 4)} after that"
        return Cause(
            name="channel order", evidence=f"b's channels are a's in reverse, as in BGR against RGB{rest} (residual {residual:.1g})."
        )
    if same:
        return None
    small = float(shift.abs().max()) < 1e-3 * float(y.abs().max())
    for factor, said in ((255.0, "0..1 against 0..255"), (1 / 255, "0..255 against 0..1")):
        if small and near(slope, torch.full_like(slope, factor)):
            reach = f"a lies in {float(x.min()):.3g} to {float(x.max()):.3g}, b in {float(y.min()):.3g} to {float(y.max()):.3g}"
            return Cause(name="range", evidence=f"values are {said}: b is {float(slope.mean()):.5g} times a ({reach}).")
    solved = _statistics(x, y, meeting)
    if solved is not None:
        (mean_a, std_a), (mean_b, std_b) = solved
        parts = [
            f"{what} {numbers(p)} against {numbers(q)}"
            for what, p, q in (("mean", mean_a, mean_b), ("std", std_a, std_b))
            if not near(p, q)
        ]
        left = (
            "; b is not normalised, its values are plain 0..1"
            if near(std_b, torch.ones_like(std_b)) and float(mean_b.abs().max()) < 1e-3
            else ""
        )
        left = "; b is neither scaled to 0..1 nor normalised" if near(std_b, torch.full_like(std_b, 1 / 255)) else left
        return Cause(
            name="normalisation", evidence=f"same pixels, {', '.join(parts)}{left} (solved from the pixels, residual {residual:.1g})."
        )
    named = [
        (p, q)
        for p, (mean_a, std_a) in STATISTICS.items()
        for q, (mean_b, std_b) in STATISTICS.items()
        if len(slope) == 3
        and near(slope, torch.tensor(std_a).double() / torch.tensor(std_b), 3e-3)
        and float((shift - (torch.tensor(mean_a).double() - torch.tensor(mean_b)) / torch.tensor(std_b)).abs().max()) < 0.01
    ]
    known = f"that is {named[0][0]} mean and std against {named[0][1]}" if named else "no statistics that are known here"
    said = f"b = {numbers(slope, 4)} a + {numbers(shift, 4)} (a value a channel, residual {residual:.1g}): {known}."
    return Cause(name="normalisation", evidence=said)


def _statistics(x: torch.Tensor, y: torch.Tensor, meeting: Meeting) -> tuple[tuple[torch.Tensor, torch.Tensor], ...] | None:
    """(mean, std) of both sides where the pixels before normalising are known: recorded by a side, or
    whole bytes once known statistics are undone, or plain 0..1."""
    pixels = None
    for side in (meeting.one, meeting.other):
        looks = dict(side.looks)
        look = looks.get("augment", looks.get("photo cut"))
        if pixels is None and look is not None and look.dtype == torch.uint8 and look.shape == x.shape:
            candidate = look.cpu().double() / 255
            pixels = candidate if max(_line(candidate, x)[2], _line(candidate, y)[2]) < 0.01 else None
    for values in (x, y):
        for mean, std in STATISTICS.values() if x.ndim == 4 and x.shape[1] == 3 and pixels is None else ():
            plain = values * torch.tensor(std).double().view(-1, 1, 1) + torch.tensor(mean).double().view(-1, 1, 1)
            whole = float((plain * 255 - (plain * 255).round()).abs().max()) < 0.01  # bytes, as photographs have them
            pixels = plain if whole and float(plain.min()) > -1e-3 and 0.1 < float(plain.max()) < 1.001 else pixels
        if pixels is None and float(values.min()) >= 0 and 0.1 < float(values.max()) <= 1:
            pixels = values
    if pixels is None:
        return None
    lines = [_line(pixels, values) for values in (x, y)]
    return tuple((-shift / slope, 1 / slope) for slope, shift, _ in lines)


def _geometry(x: torch.Tensor, y: torch.Tensor) -> Cause | None:
    """Mirrors, moved crops, other resizing: the same pictures, looked at otherwise."""
    if x.ndim != 4:
        return None
    equal = torch.tensor([near(p, q) for p, q in zip(x, y, strict=True)])
    for dims, said in (((-1,), "mirrored left to right"), ((-2,), "mirrored top to bottom"), ((-2, -1), "turned by 180 degrees")):
        mirrored = torch.tensor([near(p.flip(dims), q) for p, q in zip(x, y, strict=True)]) & ~equal
        if bool((mirrored | equal).all()):
            return Cause(
                name="flip", evidence=f"{int(mirrored.sum())} of {len(x)} items are {said} in b, the other {int(equal.sum())} are equal."
            )
    if x.shape[2] == x.shape[3] and near(x.transpose(2, 3), y):
        return Cause(name="orientation", evidence="height and width are exchanged in b: a turned photograph (EXIF), or transposed axes.")
    place = _moved(x[~equal][0], y[~equal][0])
    if place:
        return Cause(
            name="crop",
            evidence=f"the same pixels, cut {place[0]:+d} px across and {place[1]:+d} px down in b (the first item that differs).",
        )
    own = float(torch.stack([torch.corrcoef(torch.stack([p.flatten(), q.flatten()]))[0, 1] for p, q in zip(x, y, strict=True)]).mean())
    if bool(equal.any()):
        return Cause(
            name="augmentation", evidence=f"{int(equal.sum())} of {len(x)} items are equal, the others not: drawn changes. {_amount(x, y)}."
        )
    if own > 0.6:
        rough = [float((t.diff(dim=-1).abs().mean() + t.diff(dim=-2).abs().mean()) / t.std()) for t in (x, y)]
        sharp = f"b's neighbouring pixels differ {rough[1] / rough[0]:.2f} times as much as a's"
        return Cause(
            name="resize", evidence=f"the same pictures resized or interpolated otherwise: correlation {own:.3f}; {sharp}. {_amount(x, y)}."
        )
    return Cause(name="items", evidence=f"other items, or changed beyond recognition: the mean correlation at the same place is {own:.2f}.")


def _moved(x: torch.Tensor, y: torch.Tensor) -> tuple[int, int] | None:
    """By how many pixels (across, down) b's cut of one picture (C, H, W) lies from a's, where that explains all that both show."""
    height, width = x.shape[1:]
    room = min(ROOM, height // 3, width // 3)
    for down in range(-room, room + 1):
        for across in range(-room, room + 1):
            mine = x[:, max(down, 0) : height + min(down, 0), max(across, 0) : width + min(across, 0)]
            yours = y[:, max(-down, 0) : height + min(-down, 0), max(-across, 0) : width + min(-across, 0)]
            if (down or across) and near(mine, yours):
                return across, down
    return None


def _amount(x: torch.Tensor, y: torch.Tensor) -> str:
    if x.shape != y.shape:
        return f"{tuple(x.shape)} against {tuple(y.shape)}"
    apart = (x.double() - y.double()).abs()
    share, mean, most = (apart > 0).double().mean(), apart.mean(), apart.max()
    return f"{float(share):.0%} of the values differ, by {float(mean):.3g} on average and {float(most):.3g} at most"
