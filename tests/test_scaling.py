"""What listing, splitting and planning cost grows with the items, and no faster: counted in calls, which no other program slows."""

import sys
import time

import numpy as np
import pytest

import sheer
from sheer.data import check
from sheer.data.block import DataBlock
from sheer.data.listing import ROWS_AT_A_TIME, Listing, csv_columns
from sheer.data.splits import fold_split, group_fold_split, grouped_split, stratified_split
from sheer.streams import permutation


def counted(work):
    """What `work` returns; how many functions it called, those written in C too; and how often each of some of these."""
    calls, named = 0, dict.fromkeys(("stat", "open"), 0)

    def seen(frame, event, argument):
        nonlocal calls
        calls += event in ("call", "c_call")
        if event == "c_call" and argument.__name__ in named:
            named[argument.__name__] += 1

    sys.setprofile(seen)
    try:
        result = work()
    finally:
        sys.setprofile(None)
    return result, calls, named


def made(root, count, classes):
    for label in range(classes):
        (root / f"class{label}").mkdir(parents=True)
    for number in range(count):
        (root / f"class{number % classes}" / f"{number}.jpg").write_bytes(b"no picture, for none is decoded %06d" % number)
    return root


def test_a_folder_of_ten_times_the_files_takes_ten_times_the_calls(tmp_path):
    small, large = made(tmp_path / "small", 2_000, 100), made(tmp_path / "large", 20_000, 1_000)
    counted(lambda: sheer.images(small))  # what is imported at first
    _, few, _ = counted(lambda: sheer.images(small))
    data, many, named = counted(lambda: sheer.images(large))
    assert len(data.paths) == 20_000 and len(data.classes) == 1_000
    assert 8 * few < many < 10.5 * few
    assert named["stat"] < 3.5 * 20_000 and named["open"] <= 20_001  # all have one size, so the end of each is looked at


def listing(count, classes):
    columns = {"label": [f"label {n % classes}" for n in range(count)], "group": [f"group {n // 4}" for n in range(count)]}
    return Listing(source="made", root="", files=tuple(f"{n}.jpg" for n in range(count)), columns={"file": [], **columns})


@pytest.mark.parametrize("options", [{}, {"group": "group"}, {"folds": 5}, {"folds": 5, "group": "group"}], ids=str)
def test_a_table_of_100_000_rows_is_split_in_ten_times_the_calls_of_10_000(options):
    block = DataBlock(label="label", **options)
    items = {count: listing(count, count // 100) for count in (10_000, 100_000)}
    _, few, _ = counted(lambda: block.decided(items[10_000], False, np.arange(10_000), 10_000))
    (_, decided), many, _ = counted(lambda: block.decided(items[100_000], False, np.arange(100_000), 100_000))
    assert len(decided.classes) == 1_000 and 0.19 < decided.held_out.mean() < 0.21
    assert many < 11 * few


@pytest.mark.parametrize("split", [grouped_split, group_fold_split])
def test_a_split_by_groups_does_not_pass_over_the_items_for_each_group(split):
    order, settings = permutation(1, 20_000), (0.2,) if split is grouped_split else (5, 1)
    _, few, _ = counted(lambda: split(np.arange(20_000) % 10, *settings, order))
    held_out, many, _ = counted(lambda: split(np.arange(20_000) % 10_000, *settings, order))
    assert many == few and held_out.sum() == 4_000


def test_splits_hold_out_the_items_that_they_always_did():
    """One label or group after the other, as the definitions read."""
    draw = np.random.default_rng(0)
    for _ in range(200):
        count, share = int(draw.integers(1, 40)), float(draw.choice([0.1, 0.2, 0.5, 0.9]))
        labels, order = draw.integers(0, int(draw.integers(1, 9)), count), draw.permutation(count)
        stratified, folded, grouped = (np.zeros(count, dtype=bool) for _ in range(3))
        for label in np.unique(labels):
            members = order[labels[order] == label]
            stratified[members[: min(max(round(share * len(members)), 1), len(members) - 1)]] = True
            folded[members[1::3]] = True
        met = list(dict.fromkeys(labels[order].tolist()))
        for name in met[:-1]:
            grouped |= (labels == name) & (grouped.sum() < share * count)
        assert (stratified_split(labels, share, order) == stratified).all()
        assert (fold_split(labels, 3, 1, order) == folded).all()
        assert (grouped_split(labels, share, order) == grouped).all()


def test_copies_are_told_by_whole_files_that_are_opened_only_where_sizes_are_equal(tmp_path, monkeypatch):
    end = b"e" * 5000
    contents = {"one": b"a" + end, "copy": b"a" + end, "head": b"b" + end, "tail": b"a" + end[1:] + b"f", "long": b"a" + end + b"e"}
    for name, content in contents.items():
        (tmp_path / name).write_bytes(content)
    assert check._same_bytes(str(tmp_path), list(contents)) == [[0, 1]]
    monkeypatch.setattr(check, "MOST_OPENED", 3)
    found, _, named = counted(lambda: check.copies(str(tmp_path), list(contents), np.array([True] + [False] * 4), np.arange(5)))
    assert found == ["4 files have the size of another one: too many to open before training, so copies among them were not looked for."]
    assert named["open"] == 0


def test_100_000_rows_are_read_and_planned_in_seconds(tmp_path):
    draw, count = np.random.default_rng(0), 100_000
    columns = (range(count), draw.integers(0, 50, count), draw.random(count), draw.integers(0, 3, count))
    lines = [f"{a},w{b},{c:.4f},t{d}" for a, b, c, d in zip(*columns, strict=True)]
    (tmp_path / "rows.csv").write_text("\n".join(["a,b,c,target", *lines]) + "\n")
    started = time.process_time()
    data = sheer.table(tmp_path / "rows.csv", target="target")
    plan = sheer.learner(data, quiet=True).plan(sheer.recipes.one_cycle(1))
    assert plan.data.train_items == 80_000 and time.process_time() - started < 30


def test_equal_cells_of_a_column_are_one_object(tmp_path):
    count = 2 * ROWS_AT_A_TIME + 5
    (tmp_path / "rows.csv").write_text("a,b\n" + "".join(f"word {n % 3},{n}\n" for n in range(count)))
    columns = csv_columns(tmp_path / "rows.csv")
    assert columns["b"] == [str(n) for n in range(count)]
    assert len({id(cell) for cell in columns["a"]}) == 3
