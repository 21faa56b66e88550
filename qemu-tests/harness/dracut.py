"""Images of dracut, for `images.KINDS`. A kind's options are the modules that it omits."""

from .tools import REPOSITORY

PACKAGES = "dracut cryptsetup-bin dmsetup systemd systemd-sysv udev iproute2 kmod e2fsprogs busybox-static make"
PACKAGES_BY_SUITE = {"trixie": "systemd-cryptsetup"}

# Every module that brings systemd in, so that dracut's own init runs and cryptsetup asks by itself.
NO_SYSTEMD = "systemd systemd-initrd systemd-udevd systemd-ask-password systemd-journald dracut-systemd dbus"
WITHOUT_SYSTEMD = f"plymouth {NO_SYSTEMD}"

# Files whose change makes a new image.
SOURCES = (REPOSITORY / "dracut-module", REPOSITORY / "systemd")

# In the tree, after vestibule was installed; $version is the kernel's, $options the kind's. Left uncompressed, which
# saves the emulated processor the unpacking. A kind that does not omit plymouth gets it.
SCRIPT = r"""
case " $options " in
    *" plymouth "*) ;;
    *) chroot /mnt/root sh -euc 'apt-get update; DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends plymouth' ;;
esac
chroot /mnt/root \
    dracut --force --no-hostonly --no-early-microcode --no-compress --omit "$options" --kver "$version" /boot/initramfs
"""


def kernel_arguments(volumes, root_uuid):
    """What opens these disks and finds the file system of the root."""
    return [*(f"rd.luks.uuid={disk.uuid}" for disk in volumes), f"root=UUID={root_uuid}", "ro"]
