"""The seam for devices: which one, and PyTorch's global switches for the time of a run."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import torch

from sheer.errors import PlanError, nearest
from sheer.plan.plan import Numerics, Origin
from sheer.plan.profiles import Profile

DEVICES = ("cpu", "cuda", "mps")


def _available(name: str) -> bool:
    return {"cpu": True, "cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available()}[name]


def choose_numerics(device: str | None, profile: Profile, *, pictures: bool) -> Numerics:
    """The device, threads and formats of a run; where no device is given, cuda, then mps, then cpu.

    Raises:
        PlanError: the device is not known or not there.
    """
    if device is not None and device.partition(":")[0] not in DEVICES:
        raise PlanError(f"device={device!r} is not known. {nearest(device, DEVICES)}")
    if device is not None and not _available(device.partition(":")[0]):
        there = ", ".join(name for name in DEVICES if _available(name))
        raise PlanError(f"device={device!r} is not there; this machine has: {there}.")
    chosen = device or next(name for name in ("cuda", "mps", "cpu") if _available(name))
    by, why = ("you", "you gave it") if device else ("machine", "the fastest kind that this machine has")
    kind = chosen.partition(":")[0]
    fast = profile.value("memory_format.cpu") == "channels_last" and pictures and kind in ("cpu", "cuda")
    return Numerics(
        device=chosen,
        threads=torch.get_num_threads(),
        memory_format="channels_last" if fast else "contiguous",
        precision="float32",
        deterministic=True,
        origins=(
            Origin(field="device", by=by, reason=why),
            Origin(field="threads", by="machine", reason="PyTorch's own choice here"),
            Origin(
                field="memory_format",
                by="default",
                reason=profile.reason("memory_format.cpu") if pictures else "for pictures only",
            ),
            Origin(field="precision", by="default", reason="full precision"),
            Origin(field="deterministic", by="default", reason="the same bits each time; it costs nothing measurable here"),
        ),
    )


@contextlib.contextmanager
def switched(numerics: Numerics) -> Iterator[None]:
    """PyTorch's threads and deterministic algorithms as the plan says, put back afterwards.

    On a GPU some kernels have no deterministic form; they warn instead of stopping the run.
    """
    threads = torch.get_num_threads()
    deterministic = torch.are_deterministic_algorithms_enabled()
    warn_only = torch.is_deterministic_algorithms_warn_only_enabled()
    torch.set_num_threads(numerics.threads)
    torch.use_deterministic_algorithms(numerics.deterministic, warn_only=numerics.device != "cpu")
    try:
        yield
    finally:
        torch.set_num_threads(threads)
        torch.use_deterministic_algorithms(deterministic, warn_only=warn_only)
