"""The options that say what to learn from, with which model and how; and the plan that they make."""

from __future__ import annotations

import argparse
import ast
import subprocess
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import replace
from types import MappingProxyType
from typing import Any

from sheer.api import learner
from sheer.data.block import DataBlock
from sheer.data.images import images
from sheer.data.leftout import POLICIES
from sheer.data.several import AnInput, ImageInput, TableInput, TextInput
from sheer.data.sources import Data
from sheer.data.tabular import table
from sheer.data.text import text
from sheer.errors import PlanError, nearest
from sheer.learner import Learner
from sheer.loop.engine import DEVICES
from sheer.loop.estimate import epochs_within
from sheer.model.build import DEFAULT_MODEL
from sheer.plan.augmentations import SETS
from sheer.plan.checks import keywords_of, real
from sheer.plan.plan import Origin, Plan
from sheer.plan.profiles import PROFILES
from sheer.plan.recipes import RECIPES, Draft
from sheer.record.keeping import EVERY, Checkpoints


def add_plan_options(parser: argparse.ArgumentParser) -> None:
    """The options of every command that makes a plan from a folder."""
    parser.add_argument("folder", help="class folders of photographs, with or without train and valid above them, or a CSV file")
    parser.add_argument(
        "--target", action="append", metavar="COLUMN", help="the CSV file is a table, and this its column to predict; or several"
    )
    parser.add_argument("--text", metavar="COLUMN", help="the column of texts that --target is to be predicted from")
    parser.add_argument("--image", metavar="COLUMN", help="the column of photographs' files, beside --text or --columns")
    parser.add_argument("--columns", metavar="A,B", help="the columns of numbers and categories, beside --image or --text")
    parser.add_argument(
        "--model",
        help=f"a timm or torchvision name (default: {DEFAULT_MODEL}), tabular for a table, or a text encoder; with settings or for several "
        "inputs as in Python, \"('tabm', {'members': 8})\" or \"{'image': 'resnet18'}\"",
    )
    parser.add_argument("--weights", default="default", help="default, none, package, or a file (default: %(default)s)")
    parser.add_argument("--epochs", type=int, help="epochs of the recipe's main phase (default: 3; of a table 10 to 50)")
    parser.add_argument("--minutes", type=float, help="as many epochs of the main phase as these hold, in the place of --epochs")
    parser.add_argument("--size", type=int, help="side of the pictures in pixels")
    parser.add_argument("--recipe", choices=sorted(RECIPES), help="(default: fine_tune, or one_cycle for a table)")
    parser.add_argument("--profile", default="default", choices=sorted(PROFILES), help="(default: %(default)s)")
    parser.add_argument("--valid", help="the share to hold out, such as 0.2, or the name of the folder to hold out")
    parser.add_argument("--root", metavar="FOLDER", help="the folder that file names in a CSV file start from (default: the file's own)")
    parser.add_argument("--label", help="the column of classes, where FOLDER is a CSV file, or an expression over file names")
    parser.add_argument("--bad-files", choices=POLICIES, help="what happens to files that cannot be read (default: raise)")
    parser.add_argument("--seed", type=int, default=0, help="of every random stream (default: %(default)s)")
    parser.add_argument("--batch-size", type=int, help="items a step")
    parser.add_argument("--device", choices=DEVICES, help="the fastest there where not given")
    parser.add_argument("--augmentation", choices=sorted(SETS), help="a set of augmentations")
    parser.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="NAME=VALUE",
        help="any other keyword of sheer.images (or sheer.table), sheer.learner or the recipe, such as folds=5, mix=mixup, rate=1e-3 or "
        "optimizer=\"('sgd', {'nesterov': True})\"; may be given several times",
    )
    parser.add_argument("--out", help="the run folder (default: runs/FOLDER-PLAN)")


def add_machine_options(parser: argparse.ArgumentParser) -> None:
    """The options of what changes no bit: readers, checkpoints."""
    parser.add_argument("--readers", type=int, help="threads that decode photographs (default: what the first reading finds fastest)")
    parser.add_argument("--checkpoint-minutes", type=float, default=EVERY.minutes, help="0: not by time (default: %(default)s)")
    parser.add_argument("--checkpoint-steps", type=int, default=EVERY.steps, help="0: not by steps (default: %(default)s)")
    parser.add_argument("--on-requeue", metavar="COMMAND", help="run once when SIGUSR1 has ended the run and it is saved")


def checkpoints_of(args: argparse.Namespace) -> Checkpoints:
    """How often the options want a checkpoint."""
    hook = None if args.on_requeue is None else lambda: subprocess.run(args.on_requeue, shell=True, check=False)
    return Checkpoints(minutes=args.checkpoint_minutes, steps=args.checkpoint_steps, on_requeue=hook)


def data_of(args: argparse.Namespace) -> Data:
    """What the options say to learn from."""
    try:
        valid = None if args.valid is None else float(args.valid)
    except ValueError:
        valid = args.valid
    for_data, _, _, *for_text = settings_of(args)
    named = {option: getattr(args, option) for option in ("text", "image", "columns") if getattr(args, option)}
    for option, what in ("text", "the texts"), ("image", "the photographs"), ("columns", "what goes in"):
        if option in named and not args.target:
            raise PlanError(f"--{option} {named[option]} names {what}; --target COLUMN has to name what is predicted from them.")
    if len(named) > 1:
        block = DataBlock(
            inputs=_inputs(named, *for_text),
            label=_target(args),
            valid=valid,
            root=args.root,
            seed=args.seed,
            profile=args.profile,
            **for_data,
        )
        return block.build(args.folder)
    if args.image or args.columns:
        instead = f"sheer ... {args.folder} --label {args.target[0]}" if args.image else "--set ignore=[...] leaves columns out"
        raise PlanError(f"--{next(iter(named))} is one of several inputs: give another beside it. For this one alone: {instead}.")
    if args.text:
        return text(args.folder, text=args.text, target=_target(args), valid=valid, seed=args.seed, profile=args.profile, **for_data)
    if args.target:
        return table(args.folder, target=_target(args), valid=valid, seed=args.seed, profile=args.profile, **for_data)
    return images(
        args.folder,
        label=args.label,
        root=args.root,
        valid=valid,
        seed=args.seed,
        profile=args.profile,
        bad_files=args.bad_files,
        cache=not getattr(args, "no_cache", False),
        **for_data,
    )


def _inputs(named: Mapping[str, str], for_text: Mapping[str, Any] = MappingProxyType({})) -> dict[str, AnInput]:
    """The inputs that options name, called image, text and table, in this order; `for_text` is more of `TextInput`."""
    found: dict[str, AnInput] = {}
    if "image" in named:
        found["image"] = ImageInput(column=named["image"])
    if "text" in named:
        found["text"] = TextInput(column=named["text"], **for_text)
    if "columns" in named:
        found["table"] = TableInput(columns=[name.strip() for name in named["columns"].split(",")])
    return found


def _target(args: argparse.Namespace) -> str | list[str]:
    """The target column, or several; PlanError where an option for photographs stands beside it."""
    for name in ("label", "bad_files", *(() if args.image else ("size", "augmentation", "root"))):
        if getattr(args, name) is not None:
            raise PlanError(
                f"--{name.replace('_', '-')} is for photographs; with --target the file is a table or has texts. Leave one of them away."
            )
    return args.target[0] if len(args.target) == 1 else args.target


def _recipe(args: argparse.Namespace) -> str:
    return args.recipe or ("one_cycle" if args.target and not (args.text or args.image or args.columns) else "fine_tune")


def prepare(args: argparse.Namespace) -> tuple[Learner, tuple[Draft, ...], Plan]:
    """The learner, the recipe and the whole plan that the options ask for; nothing is run."""
    _, for_learner, for_recipe, *_ = settings_of(args)
    learn = learner(
        data_of(args),
        _as_written(args.model),
        weights=_as_written(args.weights),
        profile=args.profile,
        seed=args.seed,
        device=args.device,
        size=args.size,
        batch_size=args.batch_size,
        cache=not getattr(args, "no_cache", False),
        augmentation=args.augmentation,
        readers=getattr(args, "readers", None),
        checkpoints=checkpoints_of(args) if hasattr(args, "on_requeue") else EVERY,
        **for_learner,
    )
    asked = [] if args.epochs is None and args.minutes is None else [args.epochs if args.minutes is None else 1]
    recipe = RECIPES[_recipe(args)](*asked, profile=args.profile, **for_recipe)
    if args.minutes is not None:
        seconds = 60 * real(args.minutes, "minutes", 0)
        epochs, each = epochs_within(learn.model, learn.plan(recipe), seconds)
        if epochs == 0 and _recipe(args) not in ("fine_tune", "linear_probe"):
            raise PlanError(f"--minutes {args.minutes:g} do not hold one epoch, which takes about {each:.0f} s. Give more, or --size less.")
        why = Origin(field="epochs", by="measured", reason=f"what {args.minutes:g} minutes hold, at about {each:.2g} s an epoch")
        recipe = RECIPES[_recipe(args)](epochs, profile=args.profile, **for_recipe)
        last = recipe[-1]
        origins = tuple(why if origin.field == "epochs" and epochs else origin for origin in last.origins)
        recipe = (*recipe[:-1], replace(last, origins=origins))
    return learn, recipe, learn.plan(recipe)


def settings_of(args: argparse.Namespace) -> list[dict[str, Any]]:
    """What --set gives to `images` (or `table`, or `text`), to `learner`, to the recipe, and of several inputs to the `TextInput`."""
    several = bool(args.image or args.columns)
    taker = DataBlock if several else text if args.text else table if args.target else images
    for_text = (TextInput,) if several and args.text else ()
    return settings(args.set, (taker, learner, RECIPES[_recipe(args)], *for_text), vars(args))


def _as_written(given: str | None) -> Any:
    """A name as it is; a name with settings, or one an input, as the Python that it is."""
    if given is None or given[:1] not in ("(", "{"):
        return given
    try:
        return ast.literal_eval(given)
    except (ValueError, SyntaxError, TypeError) as error:  # TypeError: a key that is none, such as a list
        raise PlanError(f"{given!r} is not Python: give ('NAME', {{'setting': value}}) or {{'input': 'NAME'}}.") from error


def settings(given: Sequence[str], takers: Sequence[Callable[..., Any]], flags: Collection[str]) -> list[dict[str, Any]]:
    """For each function, the keywords among NAME=VALUE texts that it takes; a value is a Python literal, or else text.

    Raises:
        PlanError: a text without =, a name twice, one that no function takes, or one that has an option of its own.
    """
    taken = [keywords_of(taker) for taker in takers]
    allowed = [name for name in sorted(set().union(*taken)) if name not in (*flags, "cache", "quiet", "inputs", "column")]
    found: list[dict[str, Any]] = [{} for _ in takers]
    for one in given:
        name, equals, value = one.partition("=")
        if name in flags:
            raise PlanError(f"--set {one}: give --{name.replace('_', '-')} instead.")
        if not equals or name not in allowed:
            raise PlanError(
                f"--set {one}: give NAME=VALUE, a keyword of sheer.{takers[0].__name__}, sheer.learner or the recipe. "
                f"{nearest(name, allowed)}"
            )
        place = next(number for number, names in enumerate(taken) if name in names)
        if name in found[place]:
            raise PlanError(f"--set {one}: {name} was given before. Give it once.")
        try:
            found[place][name] = ast.literal_eval(value)
        except (ValueError, SyntaxError, TypeError):  # what is no literal is text, so that mix=mixup needs no quotes
            found[place][name] = value
    return found
