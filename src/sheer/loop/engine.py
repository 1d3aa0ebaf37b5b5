"""The seam for devices: which one, PyTorch's global switches for the time of a run, and proofs of what moves and what does not."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence

import torch
from torch import nn

from sheer.errors import OwnershipError, PlanError, nearest
from sheer.loop.precision import autocast
from sheer.model.hashing import tensors_sha256
from sheer.model.stages import is_norm, stage_of
from sheer.plan.checks import check_texts, whole
from sheer.plan.plan import MOST_THREADS, Numerics, Origin, Phase
from sheer.plan.profiles import Profile

DEVICES = ("cpu", "cuda", "mps")
GIVEN = "you gave it"
DTYPES = {"bf16": torch.bfloat16, "fp16": torch.float16}


def available(device: str) -> bool:
    """Whether this machine has the device, such as `cpu` or `cuda:0`."""
    kind = device.partition(":")[0]
    return kind == "cpu" or (kind == "cuda" and torch.cuda.is_available()) or (kind == "mps" and torch.backends.mps.is_available())


def free_bytes(device: torch.device) -> int:
    """What is free of a CUDA device's own memory; 0 for devices that have none of their own."""
    return int(torch.cuda.mem_get_info(device)[0]) if device.type == "cuda" else 0


def choose_numerics(
    device: str | None,
    profile: Profile,
    *,
    pictures: bool,
    precision: str | None = None,
    memory_format: str | None = None,
    compile: bool | str | None = None,
    threads: int | str | None = None,
) -> Numerics:
    """The device, threads and formats of a run; where no device is given, cuda, then mps, then cpu.

    What is to be probed is float32, the default format, and not compiled here; `sheer.loop.probe` decides it.

    Raises:
        PlanError: the device is not known or not there, or a value is not allowed on it.
    """
    for field, value, allowed in (
        ("precision", precision, ("float32", *DTYPES, "probe")),
        ("memory_format", memory_format, ("contiguous", "channels_last", "probe")),
        ("compile", compile, (True, False, "probe")),
    ):
        if value is not None and (value not in allowed or type(value) not in map(type, allowed)):
            raise PlanError(f"{field}={value!r} is not known. {nearest(str(value), map(str, allowed))}")
    if threads not in (None, "probe"):
        threads = whole(threads, "threads", 1)
        if threads > MOST_THREADS:
            raise PlanError(f"threads={threads}: 1 to {MOST_THREADS} can be had.")
    if memory_format == "channels_last" and not pictures:
        raise PlanError("memory_format='channels_last' is for pictures only; these items are no pictures.")
    check_texts({"device": device})
    if device is not None and device.partition(":")[0] not in DEVICES:
        raise PlanError(f"device={device!r} is not known. {nearest(device, DEVICES)}")
    if device is not None and not available(device):
        there = ", ".join(name for name in DEVICES if available(name))
        raise PlanError(f"device={device!r} is not there; this machine has: {there}.")
    chosen = device or next(name for name in ("cuda", "mps", "cpu") if available(name))
    by, why = ("you", "you gave it") if device else ("machine", "the fastest kind that this machine has")
    kind = chosen.partition(":")[0]
    if precision == "fp16" and kind != "cuda":
        raise PlanError(f"precision='fp16' needs CUDA, for its GradScaler; the device is {chosen!r}. Give 'bf16' or 'probe'.")
    fast = profile.value("memory_format.cpu") == "channels_last" and pictures and kind in ("cpu", "cuda")
    cost = "it costs nothing measurable here" if kind == "cpu" else f"what it costs on {kind} was not measured"
    return Numerics(
        device=chosen,
        threads=threads if isinstance(threads, int) else torch.get_num_threads(),
        memory_format=memory_format if memory_format not in (None, "probe") else "channels_last" if fast else "contiguous",
        precision=precision if precision not in (None, "probe") else "float32",
        compile=compile is True,
        deterministic=True,
        origins=(
            Origin(field="device", by=by, reason=why),
            Origin(
                field="threads",
                by="machine" if threads is None else "you",
                reason="PyTorch's own choice here" if threads is None else GIVEN,
            ),
            _origin("memory_format", memory_format, profile.reason("memory_format.cpu") if pictures else "the inputs have one layout only"),
            _origin("precision", precision, "full precision"),
            _origin("compile", compile, "compiling takes longer than short runs win back"),
            Origin(field="deterministic", by="default", reason=f"the same bits each time; {cost}"),
        ),
    )


def _origin(field: str, given: object, reason: str) -> Origin:
    return Origin(field=field, by="default" if given is None else "you", reason=reason if given is None else GIVEN)


@contextlib.contextmanager
def prepared(model: nn.Module, numerics: Numerics, *, compiled: bool = False) -> Iterator[None]:
    """The model under the plan's precision, and compiled if asked; plain again afterwards."""
    with contextlib.ExitStack() as undo:
        if numerics.precision != "float32":
            for handle in autocast(model, torch.device(numerics.device), DTYPES[numerics.precision]):
                undo.callback(handle.remove)
        if compiled:
            model.compile()
            undo.callback(setattr, model, "_compiled_call_impl", None)  # what it sets; PyTorch has no public way back
        yield


@contextlib.contextmanager
def switched(numerics: Numerics) -> Iterator[None]:
    """PyTorch's threads and deterministic algorithms as the plan says, put back afterwards.

    On a GPU some kernels have no deterministic form; they warn instead of stopping the run.
    """
    with contextlib.ExitStack() as undo:
        undo.callback(torch.set_num_threads, torch.get_num_threads())
        undo.callback(torch.set_deterministic_debug_mode, torch.get_deterministic_debug_mode())
        torch.set_num_threads(numerics.threads)
        torch.use_deterministic_algorithms(numerics.deterministic, warn_only=numerics.device != "cpu")
        yield


def check_ownership(model: nn.Module, optimizer: torch.optim.Optimizer) -> None:
    """Prove that the optimiser holds exactly the model's trainable tensors.

    Raises:
        OwnershipError: naming the first five that one has and the other has not.
    """
    owned = {id(tensor) for group in optimizer.param_groups for tensor in group["params"]}
    trainable = {id(p): name for name, p in model.named_parameters() if p.requires_grad}
    if owned != set(trainable):
        missing = [name for key, name in trainable.items() if key not in owned]
        raise OwnershipError(
            f"The optimiser does not hold the model's trainable tensors: {len(missing)} are missing "
            f"({', '.join(missing[:5]) or 'none'}), {len(owned - set(trainable))} of its tensors are not the model's or do not train. "
            "Was the model replaced, or requires_grad changed, after the optimiser was made? Make the learner anew."
        )


def frozen_sha256(model: nn.Module, stages: Sequence[Sequence[str]], phase: Phase) -> str:
    """The hash of what must not move: fixed parameters, and statistics of norm layers under policy `frozen`."""
    norms = [(module, stage_of(path, stages)) for path, module in model.named_modules() if is_norm(module)]
    still = [module for module, stage in norms if stage is not None and phase.norm[stage] == "frozen"]
    fixed = [p for p in model.parameters() if not p.requires_grad]
    return tensors_sha256([*fixed, *(buffer for module in still for buffer in module.buffers(recurse=False))])
