"""What a terminal said, growing while somebody waits for words in it."""

import os
import re
import threading
import time

from .tools import Failure

# All deadlines are for an emulated machine on two shared cores; a slower machine sets the factor.
PATIENCE = float(os.environ.get("VESTIBULE_TEST_PATIENCE", "1"))

# Control Sequence Introducer, OSC and two-byte escapes (ECMA-48): what moves the cursor or colours the text.
_ESCAPES = re.compile(r"\x1b\[[0-?]*[ -/]*[@-~]|\x1b\][^\x07\x1b]*(?:\x07|\x1b\\)|\x1b[@-Z\\^_=>78]|\r")

# Seconds to read what is left in a pipe whose writer is gone.
FINISH_DEADLINE = 5


def deadline_passed(start, seconds):
    return time.monotonic() - start > seconds * PATIENCE


class Transcript:
    """Bytes from one terminal, as text without escape sequences. `name` is for messages."""

    def __init__(self, name, log=None):
        self.name = name
        self._log = log
        self._reader = None
        self._raw = b""
        self._searched = 0
        self._closed = False
        self._change = threading.Condition()
        self._line_started = False
        self.started = time.monotonic()

    def read_from(self, descriptor):
        """Reads `descriptor` to its end in a thread of its own."""
        self._reader = threading.Thread(target=self._pump, args=(descriptor,), daemon=True)
        self._reader.start()

    def finish(self):
        """Waits until the other side, which must have ended, has been read to its end."""
        if self._reader:
            self._reader.join(FINISH_DEADLINE)

    def _pump(self, descriptor):
        while True:
            try:
                data = os.read(descriptor, 65536)
            except OSError:  # a pty whose other side is closed
                data = b""
            with self._change:
                self._raw += data
                self._closed = not data
                self._write_log(data)
                self._change.notify_all()
            if not data:
                return

    def _write_log(self, data):
        """Each line with the time since the start at which it began."""
        if not self._log:
            return
        now = time.monotonic()
        for line in data.splitlines(keepends=True):
            if not self._line_started:
                self._log.write(f"{now - self.started:8.2f} ".encode())
            self._log.write(line)
            self._line_started = not line.endswith((b"\n", b"\r"))
        self._log.flush()

    @property
    def text(self):
        """All of it so far."""
        return _ESCAPES.sub("", self._raw.decode(errors="replace"))

    @property
    def closed(self):
        return self._closed

    def wait_for(self, pattern, seconds, what=None):
        """Waits until `pattern` (a regular expression) appears after what was found last, and returns the match."""
        start = time.monotonic()
        with self._change:
            while True:
                match = re.compile(pattern, re.M).search(self.text, self._searched)
                if match:
                    self._searched = match.end()
                    return match
                if self._closed:
                    raise Failure(f"{self.name} ended before it showed {what or repr(pattern)}")
                if deadline_passed(start, seconds):
                    raise Failure(f"{self.name} did not show {what or repr(pattern)} in {seconds * PATIENCE:.0f} s")
                self._change.wait(1)

    def last_lines(self, count=40):
        return "\n".join(self.text.splitlines()[-count:])
