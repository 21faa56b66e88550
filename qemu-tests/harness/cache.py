"""Things that take long to make are made once, whole or not at all."""

import fcntl
import hashlib
import os
import shutil
from contextlib import contextmanager
from pathlib import Path

from .tools import REPOSITORY, step

CACHE = Path(os.environ.get("VESTIBULE_TEST_CACHE", REPOSITORY / "qemu-tests" / "cache"))


def key(*parts):
    """A short hash of everything that makes a thing what it is: texts, and files by their content."""
    digest = hashlib.sha256()
    for part in parts:
        data = part.read_bytes() if isinstance(part, Path) else str(part).encode()
        digest.update(len(data).to_bytes(8, "little") + data)
    return digest.hexdigest()[:16]


def files_below(*directories):
    """All files below some directories, in a stable order, for `key`."""
    found = (path for directory in directories for path in directory.rglob("*"))
    return sorted(path for path in found if path.is_file() and "__pycache__" not in path.parts)


def cached(name, make_key, description, make):
    """The directory `name-KEY`, made by `make(directory)` when it isn't there yet.

    It is made under another name and renamed when complete, so a broken run leaves nothing that looks finished.
    Older versions of the same thing are removed. Two runs at a time wait for each other.
    """
    CACHE.mkdir(parents=True, exist_ok=True)
    final = CACHE / f"{name}-{make_key}"
    with _locked(CACHE / f"{name}.lock"):
        if not final.exists():
            unfinished = CACHE / f"{name}.unfinished"
            remove(unfinished)
            unfinished.mkdir()
            with step(description):
                make(unfinished)
            for old in CACHE.glob(f"{name}-" + "[0-9a-f]" * 16):
                remove(old)
            unfinished.rename(final)
    return final


def remove(directory):
    if directory.exists():
        shutil.rmtree(directory)


@contextmanager
def _locked(path):
    with open(path, "w", encoding="ascii") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield
