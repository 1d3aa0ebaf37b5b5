"""`sheer COMMAND ...`: each command is a few lines over the public function of the same name.

Nothing but the chosen command is imported, so that `sheer --help` answers at once.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Sequence
from importlib import import_module

from sheer.errors import SheerError

COMMANDS = {
    "demo": ("training", "train a real network on real photographs, then eject it"),
    "train": ("training", "train on a folder of photographs"),
    "resume": ("training", "go on with a run that was interrupted or killed, to the same bits"),
    "plan": ("training", "show what train would do, without doing it"),
    "lr-find": ("training", "sweep learning rates for the recipe's first phase, on a copy of the model"),
    "predict": ("runs", "classify photographs, or the rows of a table, with a finished run"),
    "evaluate": ("runs", "metrics of a finished run on labelled folders"),
    "report": ("runs", "what a finished run gets right, wrong and how surely"),
    "inspect": ("studies", "what the network would see, against its pretraining, with alarms; trains nothing"),
    "compare": ("studies", "the first tensor in which two set-ups differ, and why; changes nothing"),
    "explain": ("studies", "what a finished run did, in words, each sentence with its line of the script"),
    "diff": ("studies", "every decision in which two runs or profiles differ, and what each is worth"),
    "ablate": ("studies", "change one decision at a time, with several seeds, and say what each is worth"),
    "doctor": ("studies", "find what is wrong with a PyTorch loop of your own"),
    "eject": ("runs", "write a finished run as one plain PyTorch script"),
    "check": ("files", "read every file of a folder or table, and list what is wrong or odd"),
    "export": ("runs", "write a finished run as one file of data that predicts by itself"),
    "extract": ("files", "unpack an archive of a data set by checks of its own"),
    "cache": ("files", "list the presized photographs that are kept on disk, or remove them"),
}
"""By name: the module of this folder whose COMMANDS has the function that adds its options and the one that runs it; what it does."""

Run = Callable[[argparse.Namespace], int]


def parsed(given: Sequence[str]) -> tuple[argparse.Namespace, Run]:
    """The arguments of the command that is given first, and the function that runs it; SystemExit for help and mistakes."""
    parser = argparse.ArgumentParser(prog="sheer", description="Fine-tune pretrained PyTorch models with nothing hidden.")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    runs: dict[str, Run] = {}
    for name, (home, text) in COMMANDS.items():
        options = commands.add_parser(name, help=text)
        if name in given[:1]:  # an import by name, so that the other commands and what they need are not imported
            add_options, runs[name] = import_module(f"sheer.cli.{home}").COMMANDS[name]
            add_options(options)
    args = parser.parse_args(given)
    return args, runs[args.command]


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; errors that sheer raises are one paragraph on standard error, status 2."""
    args, run = parsed(sys.argv[1:] if arguments is None else arguments)
    try:
        return run(args)
    except SheerError as error:
        print(f"sheer: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("sheer: interrupted; sheer resume RUN, or the same command again, goes on from the last checkpoint.", file=sys.stderr)
        return 130
    except BrokenPipeError:
        return 0


if __name__ == "__main__":
    sys.exit(main())
