"""Kills a small run at random moments, also inside saves, until it finishes; then compares it with one that nobody touched.

python -m tests.faults.chaos [--kills 200] [--seed 0] [--kind arrays]
"""

import argparse
import random
import shutil
import signal
import sys
import tempfile
import time
from pathlib import Path

sys.path[:0] = [str(Path(__file__).parent), str(Path(__file__).parents[1])]

from runs import Process, start_server  # noqa: E402

from conftest import make_photos  # noqa: E402
from sheer.record import commit  # noqa: E402

POINTS = ("before", "file", "half weights", "half carried", "half state", "manifest", "rename", "after")


def damaged(folder):
    """Committed folders that do not verify: there must never be one."""
    return [path for path in commit.committed(folder / "checkpoints") if commit.damage(path)]


def chaos(kills, seed, kind, root):
    """Kill run after run until there were so many kills, each run to its end; returns the runs that were finished.

    Raises:
        AssertionError: a damaged folder, another end than the untouched run's, or a run that does not end.
    """
    dice, server = random.Random(seed), start_server()
    try:
        pictures = make_photos(root / "pictures", {"blue": 30, "red": 30}, side=(24, 20)) if kind == "photos" else "none"
        log = root / "log"

        def run(out, *options):
            return Process(server, log, [kind, pictures, out, *options])

        assert run(root / "whole").wait() == 0, log.read_text()
        end, killed, finished = log.read_text().splitlines()[-1], 0, 0
        while killed < kills or (root / "run").exists():
            options = ["--slow", 0.004, "--steps", dice.choice([1, 2, 5]), "--readers", dice.choice([0, 1, 2])]
            if killed >= kills:
                status = run(root / "run", *options).wait()
            elif dice.random() < 0.5:
                status = run(root / "run", *options, "--die-at", dice.choice(POINTS), dice.randint(1, 8)).wait()
            else:
                process = run(root / "run", *options)
                time.sleep(dice.uniform(0.0, 0.6))
                status = process.kill().wait()
            assert status in (0, -signal.SIGKILL), log.read_text()
            killed += status != 0
            assert not damaged(root / "run"), damaged(root / "run")
            if status == 0:
                said = log.read_text().splitlines()[-1]
                assert said == end, f"seed {seed}: after {killed} kills {said!r}, untouched {end!r}"
                left = sorted(path.name for path in (root / "run").iterdir())
                assert left == sorted(path.name for path in (root / "whole").iterdir()), left
                shutil.rmtree(root / "run")
                finished += 1
        return finished
    finally:
        server.stdin.close()
        server.wait(60)
        server.stdout.close()


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=200)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--kind", choices=["arrays", "photos"], default="arrays")
    args = parser.parse_args()
    started = time.perf_counter()
    with tempfile.TemporaryDirectory() as root:
        finished = chaos(args.kills, args.seed, args.kind, Path(root))
    seconds = time.perf_counter() - started
    print(f"{args.kills} kills, {finished} runs finished with the weights of the untouched run, no damaged folder, {seconds:.0f} s")


if __name__ == "__main__":
    main()
