"""Commands that say why and what if: a few lines each over the public function of the same name."""

from __future__ import annotations

import argparse
from typing import Any

from sheer.study.explain import explain


def add_studies(commands: Any) -> None:
    """Add the parsers of these commands to argparse's `commands`."""
    explained = commands.add_parser("explain", help="what a finished run did, in words, each sentence with its line of the script")
    explained.add_argument("run", help="the run folder")
    explained.add_argument("--markdown", action="store_true", help="print Markdown")


def run_explain(args: argparse.Namespace) -> int:
    """`sheer explain RUN`."""
    explanation = explain(args.run)
    print(explanation.markdown() if args.markdown else explanation)
    return 0


STUDIES = {
    "explain": run_explain,
}
