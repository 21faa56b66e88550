"""Images of mkinitcpio, for `images.KINDS`. A kind's options are its HOOKS.

Real mkinitcpio is not in Debian. Where a source tree of it is given ($VESTIBULE_MKINITCPIO), that one is used; else the
stand-in in qemu-tests/mkinitcpio, which knows the documented interface of hooks and no more. Both go where Arch's package
has them; the image's build.log says which one ran."""

import os
from pathlib import Path

from .tools import REPOSITORY

# bsdtar (libarchive-tools) and zstd: the real one's.
PACKAGES = "busybox-static cryptsetup-bin dmsetup systemd systemd-sysv udev kmod e2fsprogs make libarchive-tools zstd"
PACKAGES_BY_SUITE = {"trixie": "systemd-cryptsetup"}

BUSYBOX = "base udev block vestibule encrypt"
SYSTEMD = "base systemd block vestibule sd-encrypt"

STAND_IN = REPOSITORY / "qemu-tests" / "mkinitcpio"
REAL = os.environ.get("VESTIBULE_MKINITCPIO")

# Said with every image and every case.
NOTE = f" ({'real' if REAL else 'stand-in'} mkinitcpio)"

# Files whose change makes a new image.
SOURCES = (REPOSITORY / "mkinitcpio-hook", REPOSITORY / "systemd", STAND_IN, *([Path(REAL)] if REAL else []))

# In the tree, after vestibule was installed; $version is the kernel's, $options the kind's.
SCRIPT = f"""
MKINITCPIO='{REAL or STAND_IN}' KIND='{"real" if REAL else "stand-in"}'
. "$3/qemu-tests/mkinitcpio/install-into" """ + r"""
install_mkinitcpio /mnt/root
printf 'HOOKS=(%s)\nMODULES=(virtio_pci virtio_blk ext4)\nCOMPRESSION=cat\n' "$options" > /mnt/root/etc/mkinitcpio.conf
chroot /mnt/root mkinitcpio -g /boot/initramfs -k "$version"
"""


def kernel_arguments(volumes, root_uuid):
    """What opens these disks and finds the file system of the root: for encrypt the first volume, for sd-encrypt all."""
    first = volumes[0]
    by_systemd = [f"rd.luks.name={disk.uuid}={disk.volume}" for disk in volumes]
    # Debian's /sbin/init is an absolute link, which real mkinitcpio's init does not find below /new_root.
    rest = [f"root=UUID={root_uuid}", "ro", "init=/usr/lib/systemd/systemd"]
    return [f"cryptdevice=UUID={first.uuid}:{first.volume}:allow-discards", *by_systemd, *rest]
