"""The options that say what to learn from, with which model and how; and the plan that they make."""

from __future__ import annotations

import argparse

from sheer.api import learner
from sheer.data.block import images
from sheer.data.leftout import BAD_FILES
from sheer.data.sources import Data
from sheer.learner import Learner
from sheer.loop.engine import DEVICES, DTYPES
from sheer.model.build import DEFAULT_MODEL
from sheer.plan.augmentations import SETS
from sheer.plan.looks import RESIZE_SETTINGS
from sheer.plan.plan import Plan
from sheer.plan.profiles import PROFILES
from sheer.plan.recipes import RECIPES, Draft


def add_plan_options(parser: argparse.ArgumentParser) -> None:
    """The options of every command that makes a plan from a folder."""
    parser.add_argument("folder", help="class folders of photographs, with or without train and valid above them, or a CSV file")
    parser.add_argument("--model", default=DEFAULT_MODEL, help="a timm or torchvision name (default: %(default)s)")
    parser.add_argument("--weights", default="default", help="default, none, package, or a file (default: %(default)s)")
    parser.add_argument("--epochs", type=int, default=3, help="epochs of the recipe's main phase (default: %(default)s)")
    parser.add_argument("--size", type=int, help="side of the pictures in pixels")
    parser.add_argument("--recipe", default="fine_tune", choices=sorted(RECIPES), help="(default: %(default)s)")
    parser.add_argument("--profile", default="default", choices=sorted(PROFILES), help="(default: %(default)s)")
    parser.add_argument("--valid", help="the share to hold out, such as 0.2, or the name of the folder to hold out")
    parser.add_argument("--label", help="the column of classes, where FOLDER is a CSV file, or an expression over file names")
    parser.add_argument("--separator", help="what separates several labels in one cell")
    parser.add_argument("--bad-files", choices=BAD_FILES, help="what happens to files that cannot be read (default: raise)")
    parser.add_argument("--group", help="a column of groups that stay on one side of the split")
    parser.add_argument("--seed", type=int, default=0, help="of every random stream (default: %(default)s)")
    parser.add_argument("--batch-size", type=int, help="items a step")
    parser.add_argument("--optimizer", help="adamw, adam, sgd, rmsprop, or timm:NAME (default: adamw)")
    parser.add_argument("--precision", choices=sorted((*DTYPES, "float32", "probe")), help="of the forward pass (default: float32)")
    parser.add_argument("--device", choices=DEVICES, help="the fastest there where not given")
    parser.add_argument("--norm", choices=("train", "adapt", "frozen"), help="norm policy of the body, in every phase")
    parser.add_argument("--resize", choices=sorted(RESIZE_SETTINGS), help="how a picture becomes a square")
    parser.add_argument("--augmentation", choices=sorted(SETS), help="a set of augmentations")
    parser.add_argument("--mix", choices=("none", "mixup", "cutmix"), help="mix the items of a batch with each other")
    parser.add_argument("--out", help="the run folder (default: runs/FOLDER-PLAN)")


def data_of(args: argparse.Namespace) -> Data:
    """What the options say to learn from."""
    try:
        valid = None if args.valid is None else float(args.valid)
    except ValueError:
        valid = args.valid
    return images(
        args.folder,
        label=args.label,
        separator=args.separator,
        group=args.group,
        valid=valid,
        seed=args.seed,
        profile=args.profile,
        bad_files=args.bad_files,
        cache=not getattr(args, "no_cache", False),
    )


def prepare(args: argparse.Namespace) -> tuple[Learner, tuple[Draft, ...], Plan]:
    """The learner, the recipe and the whole plan that the options ask for; nothing is run."""
    learn = learner(
        data_of(args),
        args.model,
        weights=args.weights,
        profile=args.profile,
        seed=args.seed,
        device=args.device,
        size=args.size,
        batch_size=args.batch_size,
        norm=args.norm,
        optimizer=args.optimizer,
        precision=args.precision,
        resize=args.resize,
        cache=not getattr(args, "no_cache", False),
        augmentation=args.augmentation,
        mix=args.mix,
    )
    recipe = RECIPES[args.recipe](args.epochs, profile=args.profile)
    return learn, recipe, learn.plan(recipe)
