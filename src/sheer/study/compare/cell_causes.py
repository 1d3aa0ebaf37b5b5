"""Why cells of a table, tokens of texts, or several inputs differ: which column or input, and by what rule."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import torch

from sheer.study.compare.meeting import Cause, some
from sheer.study.compare.parts import Parts

FEW_CODES = 12


def cell_cause(x: torch.Tensor, y: torch.Tensor, parts: Parts) -> Cause:
    """Why two batches (N, numbers) differ, whose numbers are `parts` in a."""
    if x.shape != y.shape:
        said = f"{tuple(x.shape)} against {tuple(y.shape)}"
        if x.ndim == y.ndim and x.shape[1:] == y.shape[1:]:
            return Cause(name="batch size", evidence=f"{len(x)} items a batch against {len(y)}.")
        return Cause(
            name="columns", evidence=f"{said}: other columns, or texts of another length. a's are {some([name for name, _ in parts])}."
        )
    x, y = x.detach().cpu().double(), y.detach().cpu().double()
    place = _order(x, y)
    if place is not None:
        return Cause(
            name="order", evidence=f"the same {len(x)} items in another order: item {place[0]} of a's batch is item {place[1]} of b's."
        )
    start, wrong = 0, list[tuple[str, torch.Tensor, torch.Tensor]]()
    for name, width in parts if sum(width for _, width in parts) == x.shape[1] else [("the inputs", x.shape[1])]:
        own = slice(start, start + width)
        start = own.stop
        if not torch.equal(x[:, own], y[:, own]):
            wrong.append((name, x[:, own], y[:, own]))
    if not wrong:
        return Cause(name="precision", evidence="the numbers are equal, and their types are not.")
    name, one, other = wrong[0]
    more = f" So do {some([name for name, _, _ in wrong[1:]])}." if wrong[1:] else ""
    return Cause(
        name="tokens" if _whole(one, other) and one.shape[1] > 1 else "columns", evidence=f"{name} differs: {_rule(one, other)}.{more}"
    )


def _order(x: torch.Tensor, y: torch.Tensor) -> tuple[int, int] | None:
    """The first item that has another place, where both have the same items; else None."""
    mine, yours = ([tuple(row) for row in values.tolist()] for values in (x, y))
    if mine == yours or sorted(mine) != sorted(yours):
        return None
    first = next(place for place, (p, q) in enumerate(zip(mine, yours, strict=True)) if p != q)
    return first, yours.index(mine[first])


def _whole(*values: torch.Tensor) -> bool:
    return all(bool((one == one.round()).all()) for one in values)


def _rule(x: torch.Tensor, y: torch.Tensor) -> str:
    """How b's values follow from a's, (N, width)."""
    rows = int((x != y).any(dim=1).sum())
    said = f"{rows} of {len(x)} items"
    if _whole(x, y):
        if x.shape[1] > 1:
            row, token = (x != y).nonzero()[0].tolist()
            return f"{said}; in item {row} of the batch token {token + 1} is {x[row, token]:.0f} in a and {y[row, token]:.0f} in b"
        pairs = sorted({(int(p), int(q)) for p, q in zip(x.flatten().tolist(), y.flatten().tolist(), strict=True)})
        if _one_to_one(pairs) and len(pairs) <= FEW_CODES:
            return f"{said}; the codes are others: {', '.join(f'{p} is {q}' for p, q in pairs if p != q)} in b"
        return said
    flat, other = x.flatten(), y.flatten()
    centred = flat - flat.mean()
    slope = float((centred * other).sum() / centred.square().sum().clamp_min(1e-300))
    shift = float(other.mean() - slope * flat.mean())
    residual = float((other - slope * flat - shift).abs().max() / other.std().clamp_min(1e-12)) if len(other) > 2 else 1.0
    if residual < 1e-3:
        return f"{said}; b = {slope:.4g} a {'+' if shift >= 0 else '-'} {abs(shift):.4g}, so it is standardised otherwise"
    return f"{said}, by {float((x - y).abs().max()):.3g} at most"


def _one_to_one(pairs: Sequence[tuple[int, int]]) -> bool:
    def once(values: Iterable[int]) -> bool:
        return len(set(values)) == len(pairs)

    return once(p for p, _ in pairs) and once(q for _, q in pairs)
