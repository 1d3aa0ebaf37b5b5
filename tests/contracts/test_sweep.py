"""A few of the random wishes that `python -m tests.contracts.sweep` carries out by the hundred."""

import pytest

pytest.importorskip("transformers", reason="the extra text is not installed")
from sweep import sweep


def test_what_is_drawn_at_random_ends_with_the_same_bits_every_way(tmp_path, capsys):
    done, refused, failed = sweep(12, 5, tmp_path)
    assert not failed, capsys.readouterr().out
    assert done >= 6 and done + refused.total() == 12
