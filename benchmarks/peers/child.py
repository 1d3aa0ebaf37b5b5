"""One peer with one seed in a process of its own: python -m benchmarks.peers.child PEER TASK.json RESULT.json LAUNCHED."""

from __future__ import annotations

import importlib
import json
import resource
import sys
import time
import traceback
from pathlib import Path

from benchmarks.peers.peers import PEERS
from benchmarks.peers.task import Curve, Skipped, Task, split_hash


def own_memory() -> int:
    """The most bytes that this process had in memory. Linux's ru_maxrss begins with the parent's, so its own count is read there."""
    status = Path("/proc/self/status")
    if status.is_file():
        return 1024 * next(int(line.split()[1]) for line in status.read_text().splitlines() if line.startswith("VmHWM"))
    return _bytes(resource.RUSAGE_SELF)


def _bytes(whose: int) -> int:
    return resource.getrusage(whose).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


def measured(peer: str, task: Task, launched: float) -> dict[str, object]:
    """What the parent keeps of the run, `skipped` with a reason, or `failed` with an error."""
    module, _, function = PEERS[peer].place.partition(":")
    try:
        train = getattr(importlib.import_module(f"benchmarks.peers.{module}"), function)
    except (ImportError, Skipped) as error:
        return {"skipped": f"{error}"}
    imported, curve = time.time() - launched, Curve()
    try:
        result = train(task, curve)
    except Skipped as error:
        return {"skipped": str(error)}
    except Exception as error:  # whatever a peer dies of is its result; the others go on
        traceback.print_exc()
        return {"failed": f"{type(error).__name__}: {error}".splitlines()[0]}
    if not curve.points:
        return {"failed": "it gave no accuracy after any epoch"}
    return {
        "curve": curve.points,
        "import_seconds": imported,
        "peak_memory": own_memory(),
        "worker_memory": _bytes(resource.RUSAGE_CHILDREN),
        "split_sha256": split_hash(task.folder, result.learned, result.hits),
        "hits": "".join("01"[result.hits[path]] for path in sorted(result.hits) if result.hits[path] is not None),
    }


def main() -> None:
    peer, task, out, launched = sys.argv[1:]
    found = measured(peer, Task(**json.loads(Path(task).read_text())), float(launched))
    Path(out).write_text(json.dumps(found))


if __name__ == "__main__":
    main()
