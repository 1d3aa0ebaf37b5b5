"""Small runs for tests of faults: as functions, and as a process that may be killed.

    python runs.py KIND DATA OUT [--readers N] [--steps N] [--slow SECONDS] [--die-at POINT COUNT] [--full-after N]
    python runs.py --serve

KIND is `arrays` (a small MLP with an average, the best epoch kept), `photos` (class folders of tiny pictures), or `cli` (sheer's own
command line follows). What is printed at the end is the hash of the weights. A server has imported everything and forks for each run, so
that a process costs no start of 3 s; it never computes, so that no thread is lost in a fork.
"""

import argparse
import contextlib
import errno
import faulthandler
import importlib
import json
import os
import signal
import subprocess
import sys
import time
import traceback
from pathlib import Path

import torch
from torch import nn

import sheer
from sheer.cli.main import main as cli
from sheer.model.hashing import weights_sha256
from sheer.record import commit, keeping

RECIPE = [*sheer.recipes.one_cycle(3, rate=1e-2), *sheer.recipes.constant(2, rate=1e-3)]


def mlp():
    return nn.Sequential(nn.Linear(6, 16), nn.BatchNorm1d(16), nn.ReLU(), nn.Dropout(0.1), nn.Linear(16, 2))


def net():
    layers = [nn.Conv2d(3, 4, 3, stride=2), nn.BatchNorm2d(4), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten()]
    return nn.Sequential(*layers, nn.Dropout(0.1), nn.Linear(4, 2))


def table(seed=0, classes=None):
    """100 rows of 6 numbers; 80 to train on: 10 steps an epoch, 50 in the plan."""
    inputs = torch.randn(100, 6, generator=torch.Generator().manual_seed(seed))
    labels = (inputs.sum(1) > 0).long().tolist()
    return sheer.arrays(inputs, labels, classes=classes)


def learner(kind, data, out, **options):
    source = table() if kind == "arrays" else sheer.images(data)
    mine = {"ema": 0.9, "keep": "best"} if kind == "arrays" else {"size": 16, "cache": False, "optimizer": "sgd"}
    options = {"batch_size": 8, "quiet": True, "out": out} | mine | options
    return sheer.learner(source, mlp if kind == "arrays" else net, **options)


def rows_of(learn):
    """The history, but for the seconds."""
    return [(row.phase, row.epoch, row.train_loss, row.valid_loss, row.metrics, row.weights_sha256) for row in learn.history]


class Observer:
    """A callback that does nothing, or in each step what it is given."""

    def __init__(self, step=None):
        self.step = step

    def on_start(self, position): ...

    def on_step(self, position):
        if self.step is not None:
            self.step(position)

    def on_epoch(self, position, row): ...

    def on_end(self, position): ...


def pause_at(step):
    """Leave the fit after this step of it."""

    def pause(position):
        if position.step >= step:
            position.pause = "a test"

    return Observer(pause)


def die_at(point, count):
    """Kill this process when a commit comes to `point` for the time number `count`."""
    left = [count]

    def fault(name):
        if name.startswith(point):
            left[0] -= 1
            if left[0] == 0:
                os.kill(os.getpid(), signal.SIGKILL)

    commit.fault = fault


def full_after(count):
    """A disk that is full from commit number `count` on; attempts come quickly."""
    keeping.PAUSES = keeping.LAST_PAUSES = (0.01, 0.02)
    left = [count]

    def fault(name):
        left[0] -= name == "before"
        if left[0] < 0 and name.startswith("half"):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    commit.fault = fault


class Process:
    """A run in a process of its own, forked by the server; what it prints goes to `log`."""

    def __init__(self, server, log, arguments):
        self.log, self.server = log, server
        server.stdin.write(json.dumps([str(log), *map(str, arguments)]) + "\n")
        server.stdin.flush()
        self.pid = int(server.stdout.readline())

    def wait(self):
        """The exit status, negative for the signal that killed it."""
        return int(self.server.stdout.readline())

    def until(self, text, seconds=60):
        """Wait until the run has printed this line."""
        for _ in range(seconds * 100):
            if self.log.is_file() and text in self.log.read_text().split("\n")[:-1]:
                return self
            time.sleep(0.01)
        raise AssertionError(f"{text!r} was not printed: {self.log.read_text()}")

    def kill(self, number=signal.SIGKILL):
        with contextlib.suppress(ProcessLookupError):  # it has come to its end meanwhile
            os.kill(self.pid, number)
        return self


def start_server():
    command = [sys.executable, str(Path(__file__)), "--serve"]
    return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)


def serve():
    importlib.import_module("torch._dynamo")  # which the first optimiser imports
    for line in sys.stdin:
        log, *arguments = json.loads(line)
        pid = os.fork()
        if pid == 0:
            output = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
            os.dup2(output, 1)
            os.dup2(output, 2)
            faulthandler.dump_traceback_later(100, exit=True)
            status = 1
            try:
                status = (cli(arguments[1:]) if arguments[0] == "cli" else main(arguments)) or 0
            except SystemExit as error:
                status = error.code
            except KeyboardInterrupt:
                status = 130
            except BaseException:
                traceback.print_exc()
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(status)
        print(pid, flush=True)
        print(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), flush=True)


def main(arguments):
    parser = argparse.ArgumentParser()
    parser.add_argument("kind", choices=["arrays", "photos"])
    parser.add_argument("data")
    parser.add_argument("out")
    parser.add_argument("--readers", type=int, default=2)
    parser.add_argument("--steps", type=int, default=3)
    parser.add_argument("--slow", type=float, default=0.0)
    parser.add_argument("--die-at", nargs=2)
    parser.add_argument("--full-after", type=int)
    args = parser.parse_args(arguments)
    if args.die_at:
        die_at(args.die_at[0], int(args.die_at[1]))
    if args.full_after is not None:
        full_after(args.full_after)

    def told(position):
        print(position.step, flush=True)
        time.sleep(args.slow)

    every = sheer.Checkpoints(minutes=0, steps=args.steps, on_requeue=lambda: print("requeued", flush=True))
    learn = learner(args.kind, args.data, args.out, readers=args.readers, checkpoints=every)
    try:
        learn.run(RECIPE, callbacks=[Observer(told)])
    except sheer.SheerError as error:
        print(f"sheer: {error}", file=sys.stderr)
        sys.exit(2)
    print("finished", weights_sha256(learn.model), flush=True)


if __name__ == "__main__":
    serve() if sys.argv[1:] == ["--serve"] else main(sys.argv[1:])
