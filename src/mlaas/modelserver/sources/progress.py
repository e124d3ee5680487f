"""One line on standard error that says how far a download is; rewritten on a terminal, written twice elsewhere."""

import sys
import time
from typing import TextIO

_EVERY = 0.2  # seconds between two lines on a terminal


class Progress:
    """Counts bytes of one source. `total` is 0 where nobody knows it."""

    def __init__(self, what: str, out: TextIO | None = None) -> None:
        self._what = what
        self._out = out or sys.stderr
        self._done = self._total = 0
        self._begin = self._shown = 0.0

    def begin(self, total: int) -> None:
        """Something is fetched: where all of it is in the cache, this is never called and nothing is written."""
        self._total = total
        self._begin = time.monotonic()
        self._write(f"Fetching {self._what}" + (f" ({size(total)})" if total else ""), last=not self._out.isatty())

    def add(self, count: int) -> None:
        """So many bytes more have come."""
        self._done += count
        if self._out.isatty() and time.monotonic() - self._shown > _EVERY:
            share = f" of {size(self._total)} ({100 * self._done // self._total}%)" if self._total else ""
            self._write(f"Fetching {self._what}: {size(self._done)}{share}", last=False)

    def end(self) -> None:
        """All of it has come."""
        if self._begin:
            seconds = time.monotonic() - self._begin
            self._write(f"Fetched {self._what}: {size(self._done)} in {seconds:.1f} s", last=True)

    def broken(self) -> None:
        """It ends here; what is written next begins a line of its own."""
        if self._begin and self._out.isatty():
            self._out.write("\n")

    def _write(self, text: str, last: bool) -> None:
        self._shown = time.monotonic()
        self._out.write(("\r\x1b[K" if self._out.isatty() else "") + text + ("\n" if last else ""))
        self._out.flush()


def size(count: int) -> str:
    """Bytes in words, with decimal prefixes."""
    amount = float(count)
    for unit in ("bytes", "kB", "MB"):
        if amount < 1000:
            return f"{amount:.0f} {unit}" if unit == "bytes" else f"{amount:.1f} {unit}"
        amount /= 1000
    return f"{amount:.1f} GB"
