"""Ctrl-C and termination: they roll a deployment back, and nothing but a kill stops that."""

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Final

_SIGNALS: Final = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class StoppedError(KeyboardInterrupt):
    """A signal ended the deployment."""


class Interrupts:
    """Signals raise StoppedError until `refuse` is called; then they are answered with a line."""

    def __init__(self, say: Callable[[str], None]) -> None:
        """Catch nothing yet."""
        self._say = say
        self._refused = False
        self._meanwhile: signal.Signals | None = None

    def refuse(self) -> None:
        """From now on, signals stop nothing: the way back has begun."""
        self._refused = True

    @contextmanager
    def held_back(self) -> Iterator[None]:
        """Let signals wait for the end of the block, which raises StoppedError if one came."""
        self._refused = True
        yield
        self._refused = False
        if self._meanwhile is not None:
            self._refused = True
            raise StoppedError(f"it was stopped by {self._meanwhile.name}")

    @contextmanager
    def caught(self) -> Iterator[None]:
        """Catch the signals within the block; only the main thread gets any."""
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        before = {number: signal.signal(number, self._on_signal) for number in _SIGNALS}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    def _on_signal(self, number: int, _: FrameType | None) -> None:
        if self._refused:
            self._meanwhile = signal.Signals(number)
            self._say("the deployment is being rolled back; wait until that is done")
            return
        self._refused = True
        raise StoppedError(f"it was stopped by {signal.Signals(number).name}")
