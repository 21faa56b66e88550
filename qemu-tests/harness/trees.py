"""Debian systems in directories: where images are built and where the real root comes from. Needs root."""

import os
import re
from pathlib import Path

from . import dracut
from .cache import cached, key
from .tools import Failure, run

# Seconds; a slow mirror is no reason to fail, a dead one is.
DEBOOTSTRAP_DEADLINE = 1200
APT_DEADLINE = 900

# INITRD=No: dracut's kernel hook would build an image that nobody boots.
KERNEL_INSTALL = """
export DEBIAN_FRONTEND=noninteractive INITRD=No LC_ALL=C.UTF-8
apt-get update && apt-get install -y --no-install-recommends linux-image-cloud-amd64 && apt-get clean && rm -f /boot/initrd*
"""


def mirror():
    """The archive that apt on this machine is set to, without naming one here."""
    release = dict(re.findall(r'^(\w+)="?([^"\n]*)', Path("/etc/os-release").read_text(), re.M))
    targets = run(
        ["apt-get", "indextargets", "--format", "$(RELEASE) $(COMPONENT) $(SITE) $(REPO_URI)", "Created-By: Packages"],
        deadline=60,
    )
    for line in targets.splitlines():
        suite, component, _, uri = line.split()
        if (suite, component) == (release.get("VERSION_CODENAME"), "main"):
            return uri
    raise Failure("apt has no source for this Debian release with the component main; see /etc/apt/sources.list.d")


def tree(suite, builder=dracut):
    """The directory of a Debian `suite` with systemd, cryptsetup, a kernel, and what `builder` needs."""
    packages = " ".join(filter(None, (builder.PACKAGES, builder.PACKAGES_BY_SUITE.get(suite))))
    name = "" if builder is dracut else f"-{builder.__name__.rpartition('.')[2]}"
    return cached(
        f"tree-{suite}{name}",
        key(suite, packages, KERNEL_INSTALL),
        f"debootstrap {suite} with a kernel and {packages.split()[0]}",
        lambda directory: _make(suite, packages.split(), directory),
    )


def kernel_version(directory):
    """The one kernel in a tree, as `uname -r` says it."""
    (version,) = os.listdir(directory / "usr/lib/modules")
    return version


def in_tree(directory, script, log, deadline):
    """Runs a shell script with `directory` as its root, in a mount and process namespace that vanish with it."""
    mounts = 'mount -t proc proc "$1/proc" && mount --rbind /dev "$1/dev" && mount --rbind /sys "$1/sys"'
    run(
        ["unshare", "--mount", "--pid", "--fork", "--kill-child", "sh", "-c",
         f'{mounts} && exec chroot "$1" /bin/sh -euc "$2"', "sh", directory, script],
        deadline=deadline, log=log,
    )


def _make(suite, packages, directory):
    log = directory.with_suffix(".log")
    log.unlink(missing_ok=True)
    # The builder first: asked for together, the kernel brings initramfs-tools, which conflicts with it.
    run(
        ["debootstrap", "--variant=minbase", f"--include={','.join(packages)}", suite, directory, mirror()],
        deadline=DEBOOTSTRAP_DEADLINE, log=log,
    )
    in_tree(directory, KERNEL_INSTALL, log, APT_DEADLINE)
