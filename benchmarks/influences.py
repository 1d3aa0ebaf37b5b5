"""What each decision between two profiles is worth, measured alone; becomes what `sheer diff` ranks by, and the page of docs/.

python benchmarks/influences.py FOLDER [FOLDER ...] [--items 600] [--seeds 3] [--epochs 2] [--size N] [--work runs] [--dry]

Writes src/sheer/study/diff/published.py, then docs/diff_default_fastai.md. The first folder's measurement of a decision is the one that is
shown; all are kept.
"""

from __future__ import annotations

import argparse
import pprint
import subprocess
import sys
from pathlib import Path

import sheer
from sheer.study.ablate.measure import probe_data
from sheer.study.diff.influence import Influence

ROOT = Path(__file__).parent.parent
PUBLISHED = ROOT / "src" / "sheer" / "study" / "diff" / "published.py"
PAGE = ROOT / "docs" / "diff_default_fastai.md"
HEAD = '''"""What the project itself measured of single decisions; written by `python benchmarks/influences.py`."""

from sheer.study.diff.influence import Influence

PUBLISHED: tuple[Influence, ...] = (
'''


def measured(folder: str, args: argparse.Namespace) -> tuple[Influence, ...]:
    """The influences of one data set, each decision of `default` changed to that of `fastai-2.8`."""
    data = probe_data(sheer.images(folder), args.items, seed=0)
    name = Path(folder).resolve().name
    learn = sheer.learner(data, weights=args.weights, quiet=True, size=args.size, **({"model": args.model} if args.model else {}))
    plan = learn.plan(sheer.recipes.fine_tune(args.epochs))
    out = Path(args.work) / "influences" / name
    found = sheer.ablate(plan, "fastai-2.8", data=data, out=out, seeds=args.seeds, waterfall=False, processes=args.processes)
    print(f"\n{found}\n")
    network = plan.model.name.partition(":")[2]
    how = f"{network}, {args.epochs + 1} epochs, {plan.phases[-1].size} px, benchmarks/influences.py"
    return found.influences(f"{len(data.train)} items of {name}, {how}")


def main() -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folders", nargs="+")
    parser.add_argument("--items", type=int, default=600)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--epochs", type=int, default=2, help="of the unfrozen phase (default: %(default)s)")
    parser.add_argument("--model")
    parser.add_argument("--size", type=int, help="in pixels, alike on both sides; each profile's own where not given")
    parser.add_argument("--weights", default="package")
    parser.add_argument("--processes", type=int, default=1)
    parser.add_argument("--work", default="runs")
    parser.add_argument("--dry", action="store_true", help="write nothing")
    args = parser.parse_args()
    found = [one for folder in args.folders for one in measured(folder, args)]
    text = HEAD + "".join(f"{pprint.pformat(one, width=120)},\n" for one in found) + ")\n"
    if args.dry:
        print(text)
        return
    PUBLISHED.write_text(text)
    subprocess.run([sys.executable, "-m", "ruff", "format", "-q", str(PUBLISHED)], check=True)
    done = subprocess.run(
        [sys.executable, "-m", "sheer.cli.main", "diff", "default", "fastai-2.8", "--markdown"], check=True, capture_output=True, text=True
    )
    PAGE.write_text(done.stdout)


if __name__ == "__main__":
    main()
