"""Signals for the time of a fit: they set a flag, the loop comes to the end of its step, and the fit is left with all that it needs
to go on. Nothing is saved inside a handler."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable
from types import FrameType
from typing import Any

from sheer.loop.callbacks import Position

SIGNALS = ("SIGINT", "SIGTERM", "SIGUSR1")  # the last one is not there on Windows


class Interrupts:
    """A context that has the signals pause the fit at `position`, and gives them back as they were.

    In other threads than the main one Python has no signals, and this does nothing. Signals that the process ignores stay ignored.
    """

    def __init__(self, position: Position) -> None:
        self.position, self.received = position, ""
        self._before: dict[int, Any] = {}

    def __enter__(self) -> Interrupts:
        if threading.current_thread() is threading.main_thread():
            numbers = [getattr(signal, name) for name in SIGNALS if hasattr(signal, name)]
            self._before = {n: signal.getsignal(n) for n in numbers if signal.getsignal(n) not in (None, signal.SIG_IGN)}
            for number in self._before:
                signal.signal(number, self._note)
        return self

    def __exit__(self, *error: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _note(self, number: int, frame: FrameType | None) -> None:
        if self.received and number == signal.SIGINT:
            raise KeyboardInterrupt("ended at once")
        self.received = self.position.pause = signal.Signals(number).name

    def leave(self, where: str, on_requeue: Callable[[], object] | None) -> None:
        """Raise what ends the program as the signal wanted: KeyboardInterrupt, or SystemExit with 143; nothing where none came."""
        if self.received == "SIGUSR1" and on_requeue is not None:
            on_requeue()
        if self.received == "SIGINT":
            raise KeyboardInterrupt(where)
        if self.received:
            raise SystemExit(143)
