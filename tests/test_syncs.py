"""What a training step reads back from the device: each such read waits until everything queued there is done.

On the CPU a real fit is watched. A CUDA device that is not there is pretended: tensors without values, on which a read of a
value is seen all the same; where there is one, PyTorch itself raises at every wait.
"""

import contextlib
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch._subclasses.fake_tensor import DynamicOutputShapeException, FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

import sheer
import sheer.loop.train as loop
from conftest import Small
from sheer.data.feed import Feed
from sheer.loop.callbacks import position_of
from sheer.loop.updates import Average
from sheer.record.checkpoint import RunState
from sheer.task.losses import CrossEntropy

SOURCE = str(Path(sheer.__file__).parent)
STEPS = 6
READ = ("_local_scalar_dense", "nonzero", "equal", "masked_select", "bincount", "unique_dim", "_unique2", "unique_consecutive")


class Reads(TorchDispatchMode):
    """Notes each operation that makes the host wait for the device, with the function of ours that asked for it."""

    def __init__(self):
        super().__init__()
        self.seen = []

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        kwargs, name = kwargs or {}, func.overloadpacket.__name__
        if waits(name, args, kwargs):
            self.seen.append((name, asked_by()))
        if name in PRETENDED and any(isinstance(value, torch.Tensor) and value.is_cuda for value in tree_leaves(args)):
            return PRETENDED[name](*args, **kwargs)
        return func(*args, **kwargs)


PRETENDED = {  # what has no result without values, or is not known to PyTorch's tensors without values
    "_local_scalar_dense": lambda value: 0,
    "nonzero": lambda value: value.new_empty((1, value.ndim), dtype=torch.int64),
    "bincount": lambda value, weights=None, minlength=0: value.new_empty(minlength),
    "_fused_sgd_": lambda *args, **kwargs: None,
}


def waits(name, args, kwargs):
    if name in ("index", "index_put", "index_put_"):
        return any(index is not None and index.dtype == torch.bool for index in args[1])
    if name == "_to_copy":
        return kwargs.get("device") not in (None, args[0].device) and not kwargs.get("non_blocking", False)
    if name == "copy_":
        return args[0].device != args[1].device and not (kwargs.get("non_blocking") or (len(args) > 2 and args[2]))
    return name in READ


def asked_by():
    frame = sys._getframe(2)
    while frame is not None and not frame.f_code.co_filename.startswith(SOURCE):
        frame = frame.f_back
    return f"{Path(frame.f_code.co_filename).stem}.{frame.f_code.co_name}" if frame is not None else "no line of ours"


class Steps:
    """A callback that keeps what was read in each step, and between the last step and the end of the epoch."""

    def __init__(self, reads, pause_after=None):
        self.reads, self.pause_after = reads, pause_after
        self.steps, self.epochs = [], []

    def _taken(self):
        taken, self.reads.seen = self.reads.seen, []
        return taken

    def on_start(self, position): ...

    def on_step(self, position):
        self.steps.append(self._taken())
        if position.step == self.pause_after:
            position.pause = "enough was seen"

    def on_epoch(self, position, row):
        self.epochs.append(self._taken())

    def on_end(self, position): ...


def pictures(items=64):
    return sheer.arrays(torch.randint(0, 255, (items, 3, 16, 16), dtype=torch.uint8), [0, 1] * (items // 2))


def learned(data=None, **options):
    return sheer.learner(data or pictures(), Small, batch_size=4, quiet=True, device="cpu", **options)


def test_a_step_on_the_cpu_reads_two_values():
    with Reads() as reads:
        steps = Steps(reads)
        learn = learned().fit(2, callbacks=[steps])
    phase, usual = learn.plan().phases[0], ["step.finite_update", "step.put_back"]  # is it finite, must statistics be put back?
    assert len(steps.steps) == 2 * phase.steps_per_epoch > 20
    for number, seen in enumerate(steps.steps[1:], 2):  # after every tenth step is told, `hopeless` looks
        more = ["step.<genexpr>"] if (number - 1) % phase.skip_limit == 0 else []
        assert (number, [line for _, line in seen]) == (number, [*more, *usual])


def test_metrics_are_computed_once_an_epoch():
    calls = []

    def counted(outputs, targets):
        calls.append(len(steps.steps))
        return 0.5

    with Reads() as reads:
        steps = Steps(reads)
        learned(metrics=[counted]).fit(3, callbacks=[steps])
    per_epoch = len(steps.steps) // 3
    assert calls == [per_epoch, 2 * per_epoch, 3 * per_epoch]


VARIANTS = {
    "default": {},
    "light": {"augmentation": "light"},
    "colours": {"augmentation": ("brightness", "contrast", "saturation", "hue")},
    "perspective": {"augmentation": ("perspective", "dihedral")},
    "erasing": {"augmentation": ("random_erasing",)},
    "inception": {"augmentation": "inception"},
    "timm": {"augmentation": "timm"},
    "keras": {"augmentation": "keras-guide"},
    "rand augment": {"augmentation": ("rand_augment",)},
    "adam": {"optimizer": "adam"},
    "sgd": {"optimizer": "sgd"},
    "rmsprop": {"optimizer": "rmsprop"},
    "class weights": {"class_weights": "balanced"},
    "mixup": {"mix": "mixup"},
    "cutmix": {"mix": "cutmix"},
    "clip": {"clip": 1.0},
    "accumulate": {"accumulate": 8},
    "ema": {"ema": 0.9},
    "balanced": {"sampling": "balanced"},
    "focal": {"loss": "focal"},
    "smoothing": {"label_smoothing": 0.1},
}


def pretended(monkeypatch, data=None, **options):
    """The waits of each of the first steps of a fit on a CUDA device that is not there."""

    class OnDevice(Small):
        def to(self, *args, **kwargs):
            return self

    def backward(value, *args, **kwargs):  # the engine of autograd asks the driver, which is not there
        for parameter in model.parameters():
            parameter.grad = torch.zeros_like(parameter)

    learn = learned(data, **options)
    plan = learn.plan(sheer.recipes.constant(1))
    plan = replace(plan, numerics=replace(plan.numerics, device="cuda:0"))
    monkeypatch.setattr(torch.Tensor, "backward", backward)
    monkeypatch.setattr(torch.Tensor, "pin_memory", lambda value: value)  # so does page-locked memory
    monkeypatch.setattr(Average, "tensors", staticmethod(lambda model: list(model.state_dict().values())))
    monkeypatch.setattr(loop, "borrowed_generators", lambda device: contextlib.nullcontext())
    monkeypatch.setattr(loop, "reseed", lambda key, device: None)
    monkeypatch.setattr(loop, "frozen_sha256", lambda *args: "")
    state, wanted = RunState(plan=plan, first=0, phase=0), torch.from_numpy(learn.data.targets)
    with FakeTensorMode(allow_non_fake_inputs=True), Reads() as reads:
        with torch.device("cuda"):
            model = OnDevice()
        feed = Feed(learn.data, wanted, plan.phases[0], 0, torch.device("cuda:0"), "contiguous", 2, functions=learn._functions)
        steps = Steps(reads, pause_after=STEPS)
        assert loop.train(model, state, position_of(state), [feed], learn._metrics, [steps]) == ""
    return steps.steps


ALLOWED = {
    "rmsprop": {("_local_scalar_dense", "step.finite_update")},  # it has no fused form, which skips on the device: once a step
    "rand augment": {("bincount", "policies.equalized"), ("nonzero", "policies.equalized")},  # a step with a picture that draws it
}


@pytest.mark.parametrize("name", VARIANTS)
def test_a_step_on_a_pretended_cuda_device_waits_for_nothing(name, monkeypatch):
    steps = pretended(monkeypatch, **VARIANTS[name])
    assert len(steps) == STEPS
    seen = [wait for waits in steps[1:] for wait in waits]
    assert set(seen) == ALLOWED.get(name, set())
    assert name != "rmsprop" or len(seen) == len(steps[1:])


def test_photographs_wait_for_nothing_on_a_pretended_cuda_device(photos, monkeypatch):
    assert pretended(monkeypatch, sheer.images(photos), size=32)[1:] == [[]] * (STEPS - 1)


@pytest.mark.parametrize(
    ("read", "seen"),
    [
        (lambda value: value.sum().item(), "_local_scalar_dense"),
        (lambda value: bool(value.sum() > 0), "_local_scalar_dense"),
        (lambda value: float(value.sum()), "_local_scalar_dense"),
        (lambda value: value.cpu(), "_to_copy"),
        (lambda value: torch.zeros(3).to(value.device), "_to_copy"),
        (lambda value: value.nonzero(), "nonzero"),
        (lambda value: value[value > 0], "index"),
    ],
)
def test_a_hidden_wait_would_be_seen(read, seen, monkeypatch):
    class Reading(CrossEntropy):
        def __call__(self, scores, target):
            with contextlib.suppress(DynamicOutputShapeException):
                read(scores.detach())
            return super().__call__(scores, target)

    monkeypatch.setattr(loop, "loss_of", lambda *given: Reading())
    steps = pretended(monkeypatch)
    assert all(seen in [name for name, _ in waits] for waits in steps)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="PyTorch finds no CUDA device")
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", [name for name in VARIANTS if name not in ALLOWED])
def test_a_step_on_a_cuda_device_waits_for_nothing(name):
    """PyTorch raises at what waits, from the end of the first step on."""

    class Strict(Steps):
        def on_step(self, position):
            torch.cuda.set_sync_debug_mode("error" if position.step < STEPS else "default")
            super().on_step(position)

    learn = sheer.learner(pictures(), Small, batch_size=4, quiet=True, device="cuda", **VARIANTS[name])
    steps = Strict(Reads(), pause_after=STEPS)
    try:
        learn.fit(1, callbacks=[steps])
    finally:
        torch.cuda.set_sync_debug_mode("default")
    assert len(steps.steps) == STEPS
