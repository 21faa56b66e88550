"""The trees that tests of `vestibule chroot` use: below tests/chroot each gets a layer of its own above one. Needs root."""

import os
from pathlib import Path

from . import trees
from .cache import cached, key
from .tools import Failure, run

# debootstrap mounts /proc in the tree; whoever is killed meanwhile leaves no mount, and no test sees one.
ALONE = ("unshare", "--mount", "--pid", "--fork", "--kill-child")
SUITE = "bookworm"
# What is served and asked for by the tests: an SSH server of the chroot's own. Its host keys are made inside, by the test.
PACKAGES = ("openssh-server",)
FORGET_HOST_KEYS = "rm -f /etc/ssh/ssh_host_*; apt-get clean"

BUSYBOX = Path("/bin/busybox")
DIRECTORIES = "bin sbin usr/bin usr/sbin etc root home/anna dev proc sys run tmp var/log mnt"
FILES = {
    "etc/passwd": "root:x:0:0:root:/root:/bin/ash\nanna:x:1000:1000:Anna:/home/anna:/bin/sh\n",
    "etc/group": "root:x:0:\nusers:x:100:anna\nanna:x:1000:\n",
    "etc/profile": "export FROM_PROFILE=yes\n",
    "etc/hosts": "127.0.0.1 localhost\n",
    "etc/os-release": "ID=busybox\n",
}


def debian():
    """A directory with a small Debian that has an SSH server, as debootstrap makes it."""
    return cached(
        "chroot-debian",
        key(SUITE, PACKAGES, FORGET_HOST_KEYS),
        f"debootstrap {SUITE} with {PACKAGES[0]}",
        _make_debian,
    )


def busybox():
    """A directory as small distributions have it: busybox, and its commands as links to it."""
    if not BUSYBOX.exists():
        raise Failure("busybox is missing; install it with: apt-get install busybox-static")
    return cached("chroot-busybox", key(BUSYBOX, DIRECTORIES, FILES), "a tree of busybox", _make_busybox)


def _make_debian(directory):
    log = directory.with_suffix(".log")
    log.unlink(missing_ok=True)
    run(
        [*ALONE, "debootstrap", "--variant=minbase", f"--include={','.join(PACKAGES)}", SUITE, directory, trees.mirror()],
        deadline=trees.DEBOOTSTRAP_DEADLINE, log=log,
    )
    trees.in_tree(directory, FORGET_HOST_KEYS, log, trees.APT_DEADLINE)


def _make_busybox(directory):
    # A system is open to its users, whatever the caller's umask is; cached() has made the directory by that.
    os.umask(0o022)
    directory.chmod(0o755)
    for name in DIRECTORIES.split():
        (directory / name).mkdir(parents=True)
    (directory / "tmp").chmod(0o1777)
    (directory / "root").chmod(0o700)
    for name, text in FILES.items():
        (directory / name).write_text(text, encoding="utf-8")
    run(["cp", BUSYBOX, directory / "bin/busybox"], deadline=60)
    run(["chroot", directory, "/bin/busybox", "--install", "-s"], deadline=60)
    run(["chown", "-R", "1000:1000", directory / "home/anna"], deadline=60)
