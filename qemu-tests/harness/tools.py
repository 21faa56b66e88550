"""Running host programs: what is missing is named with its package, what fails shows its last words."""

import shutil
import subprocess
import sys
import threading
import time
from contextlib import contextmanager
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[2]

PACKAGES = {
    "qemu-system-x86_64": "qemu-system-x86",
    "debootstrap": "debootstrap",
    "cryptsetup": "cryptsetup-bin",
    "mke2fs": "e2fsprogs",
    "ssh": "openssh-client",
    "ssh-keygen": "openssh-client",
    "unshare": "util-linux",
    "chroot": "coreutils",
    "make": "make",
    "zstd": "zstd",
}


class Failure(Exception):
    """A case or its set-up can't go on; the text is for the person who runs the tests."""


def require_tools():
    """Fails, naming all packages at once, when a program that the tests run is not installed."""
    missing = sorted({package for tool, package in PACKAGES.items() if not shutil.which(tool)})
    if missing:
        raise Failure(f"programs are missing; install them with: apt-get install {' '.join(missing)}")


def run(command, deadline, log=None, **options):
    """Runs `command` to its end and returns its standard output as text. `deadline` is in seconds.

    With `log`, both outputs go to that file. A failure shows the last lines of what was said.
    """
    command = [str(word) for word in command]
    if log:
        with open(log, "ab") as out:
            done = _run(command, deadline, stdout=out, stderr=subprocess.STDOUT, **options)
        said = Path(log).read_text(errors="replace")
    else:
        done = _run(command, deadline, capture_output=True, **options)
        said = (done.stdout + done.stderr).decode(errors="replace")
    if done.returncode:
        last = "\n".join(said.splitlines()[-20:])
        where = f" (all of it: {log})" if log else ""
        raise Failure(f"{_short(command)} ended with status {done.returncode}{where}:\n{last}")
    return "" if log else done.stdout.decode(errors="replace")


def _run(command, deadline, **options):
    options.setdefault("stdin", subprocess.DEVNULL)
    if "input" in options:
        del options["stdin"]
    try:
        return subprocess.run(command, timeout=deadline, **options)
    except FileNotFoundError:
        package = PACKAGES.get(command[0], command[0])
        raise Failure(f"{command[0]} is missing; install it with: apt-get install {package}") from None
    except subprocess.TimeoutExpired:
        raise Failure(f"{_short(command)} did not end in {deadline} s") from None


def _short(command):
    """A command for a message: its first words, no scripts."""
    return " ".join(word for word in command[:4] if "\n" not in word)


_print_lock = threading.Lock()


def say(text):
    """One line of progress, whole even when several cases run at a time."""
    with _print_lock:
        print(text, flush=True)


@contextmanager
def step(text):
    """Announces a long step when it starts, and its time when it ends."""
    say(f"  … {text}")
    start = time.monotonic()
    yield
    say(f"  ✓ {text}: {time.monotonic() - start:.0f} s")


if sys.version_info < (3, 9):
    sys.exit("the boot tests need Python 3.9 or newer")
