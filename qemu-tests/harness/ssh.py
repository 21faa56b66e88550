"""The stock OpenSSH client, as a user has it: own key, host key checked against the line that the build printed."""

import fcntl
import os
import pty
import socket
import struct
import subprocess
import termios
import time
from dataclasses import dataclass

from .tools import Failure
from .transcript import PATIENCE, Transcript, deadline_passed

BANNER_DEADLINE = 180
# For one look: a server that is there says its line in far less.
BANNER_PATIENCE = 5
# One remote command, the verdict of a slow key derivation included.
COMMAND_DEADLINE = 180
# How long a client dawdles before it leaves half-way: long enough to log in and to be read from.
HALF_WAY = 10
# Between two looks at the port; the emulator answers at once but has nothing behind it yet.
BANNER_INTERVAL = 0.25


@dataclass
class Result:
    """How a remote command ended. `status` 255 is the client's own: no connection, not let in."""

    status: int
    out: str
    err: str


class Client:
    """Where to connect and with what. `directory` is that of the image (images.image)."""

    def __init__(self, port, directory):
        self.port = port
        self._directory = directory

    def command(self, *words, user="root"):
        """The command line; also what a person is told to type."""
        known_hosts = self._directory / "known_hosts"
        name = known_hosts.read_text().split()[0].split(",")[0]
        return [
            "ssh", "-F", "none", "-p", str(self.port), "-i", str(self._directory / "client_key"),
            "-o", "IdentitiesOnly=yes", "-o", f"UserKnownHostsFile={known_hosts}", "-o", "StrictHostKeyChecking=yes",
            # The user's machine has a name of its own; here it is behind a forwarded port of this one.
            "-o", f"HostKeyAlias={name}", "-o", "BatchMode=yes", "-o", "ConnectTimeout=30",
            f"{user}@127.0.0.1", *words,
        ]

    def wait_for_banner(self, seconds=BANNER_DEADLINE):
        """Waits until an SSH server introduces itself. The emulator accepts connections from the start."""
        start = time.monotonic()
        while not deadline_passed(start, seconds):
            if self.banner().startswith(b"SSH-2.0-"):
                return
            time.sleep(BANNER_INTERVAL)
        raise Failure(f"no SSH banner on port {self.port} in {seconds * PATIENCE:.0f} s")

    def banner(self):
        """What the server says first; empty when there is none."""
        try:
            with socket.create_connection(("127.0.0.1", self.port), timeout=BANNER_PATIENCE * PATIENCE) as connection:
                return connection.recv(64)
        except OSError:
            return b""

    def run(self, *words, user="root", stdin=b"", seconds=COMMAND_DEADLINE):
        """Runs a remote command to its end."""
        try:
            done = subprocess.run(
                self.command(*words, user=user), input=stdin, capture_output=True, check=False,
                timeout=seconds * PATIENCE,
            )
        except subprocess.TimeoutExpired as late:
            words = " ".join(words)
            raise Failure(f"ssh {words} did not end in {seconds * PATIENCE:.0f} s; it said {late.stdout}") from None
        return Result(done.returncode, done.stdout.decode(errors="replace"), done.stderr.decode(errors="replace"))

    def leave_half_way(self, *words, stdin, seconds=HALF_WAY):
        """Starts a remote command, sends it a part of its input, and breaks the connection."""
        nowhere = subprocess.DEVNULL
        process = subprocess.Popen(self.command(*words), stdin=subprocess.PIPE, stdout=nowhere, stderr=nowhere)
        process.stdin.write(stdin)
        process.stdin.flush()
        try:
            process.wait(seconds)
            raise Failure(f"ssh {' '.join(words)} did not wait for the rest of its input")
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()

    def session(self, *words, user="root"):
        """A session with a terminal; without words it is the unlock screen."""
        return Session(self.command(*words, user=user))


class Session:
    """ssh on a pseudo-terminal of 80 by 24."""

    def __init__(self, command):
        ours, theirs = pty.openpty()
        fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 80, 0, 0))
        command = [*command[:1], "-tt", *command[1:]]
        self._process = subprocess.Popen(command, stdin=theirs, stdout=theirs, stderr=theirs, start_new_session=True)
        os.close(theirs)
        self._terminal = ours
        self.screen = Transcript("the SSH session")
        self.screen.read_from(ours)

    def wait_for(self, pattern, seconds=60):
        """Waits for words on the screen (a regular expression, after what was found last)."""
        try:
            return self.screen.wait_for(pattern, seconds)
        except Failure as failure:
            raise Failure(f"{failure}; it shows:\n{self.screen.last_lines(24)}") from None

    def type(self, text):
        os.write(self._terminal, text if isinstance(text, bytes) else text.encode())

    def wait_for_end(self, seconds=60):
        """The exit status of ssh, once the other side has ended the session."""
        try:
            return self._process.wait(seconds * PATIENCE)
        except subprocess.TimeoutExpired:
            raise Failure(f"the SSH session did not end; it shows:\n{self.screen.last_lines(24)}") from None

    def close(self):
        self._process.kill()
        self._process.wait()
