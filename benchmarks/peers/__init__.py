"""Peers side by side: ways to fine-tune one network on one set of photographs, accuracy against seconds.

python -m benchmarks.peers --data FOLDER --model NAME --size N --seeds K --json OUT

`peers.py` names the peers; each is one function of a `Task` and a `Curve` (`task.py`), run by `child.py` in a process of its own, one at
a time. `prepare.py` lays the photographs out once and writes one file of weights, so that all learn from the same; `report.py` makes
numbers, tables, a plot and docs/performance.md of what they measured; `sets.py` makes class folders of public sets.
"""
