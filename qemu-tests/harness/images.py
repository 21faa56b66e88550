"""The three guests: an initramfs each, built by the guest's own dracut with vestibule installed as a user would."""

from dataclasses import dataclass

from . import trees
from .cache import cached, files_below, key
from .tools import REPOSITORY, Failure, run

DEADLINE = 600

# Every module that brings systemd in, so that dracut's own init runs and cryptsetup asks by itself.
WITHOUT_SYSTEMD = "systemd systemd-initrd systemd-udevd systemd-ask-password systemd-journald dracut-systemd dbus"


@dataclass(frozen=True)
class GuestKind:
    suite: str
    omitted: str = "plymouth"


KINDS = {
    "bookworm-systemd": GuestKind("bookworm"),
    "bookworm-classic": GuestKind("bookworm", f"plymouth {WITHOUT_SYSTEMD}"),
    "trixie-systemd": GuestKind("trixie"),
}

# $1 tree, $2 where results go, $3 repository, $4 modules to omit. The tree stays as it is: everything
# happens in a layer above it that vanishes with the mount namespace. The image is left uncompressed, which saves the
# emulated processor the unpacking. It replaces one that everybody could read.
BUILD = r"""
mount -t tmpfs tmpfs /mnt
mkdir /mnt/upper /mnt/work /mnt/root
mount -t overlay overlay -o "lowerdir=$1,upperdir=/mnt/upper,workdir=/mnt/work" /mnt/root
make -C "$3" install DESTDIR=/mnt/root PREFIX=/usr
install -D -m 0600 "$2/authorized_keys" /mnt/root/etc/vestibule/authorized_keys
mount -t proc proc /mnt/root/proc
mount --rbind /dev /mnt/root/dev
mount --rbind /sys /mnt/root/sys
version=$(ls /mnt/root/usr/lib/modules)
install -m 0644 /dev/null /mnt/root/boot/initramfs
chroot /mnt/root \
    dracut --force --no-hostonly --no-early-microcode --no-compress --omit "$4" --kver "$version" /boot/initramfs
cp --preserve=mode /mnt/root/boot/initramfs "$2/initramfs"
cp "/mnt/root/boot/vmlinuz-$version" "$2/vmlinuz"
"""


def binary():
    """The static binary under test."""
    path = REPOSITORY / "dist" / "x86_64" / "vestibule"
    if not path.exists():
        raise Failure(f"{path} is missing; build it with: make build")
    return path


def image(kind):
    """The directory with `vmlinuz`, `initramfs`, `client_key`, `known_hosts` and `build.log` of one guest."""
    installed = files_below(REPOSITORY / "dracut-module", REPOSITORY / "systemd")
    make_key = key(_tree(kind).name, KINDS[kind], BUILD, *installed, binary(), REPOSITORY / "Makefile")
    return cached(f"image-{kind}", make_key, f"build the image of {kind}", lambda directory: _make(kind, directory))


def build(kind, directory, authorized_keys):
    """Runs the guest's dracut with these authorised keys; what was said is in `build.log`."""
    (directory / "authorized_keys").write_bytes(authorized_keys)
    log = directory / "build.log"
    run(["unshare", "--mount", "sh", "-euc", BUILD, "sh", _tree(kind), directory, REPOSITORY, KINDS[kind].omitted],
        DEADLINE, log=log)
    return log


def refusal(kind, directory, authorized_keys):
    """What was said when no image was built; fails if one was."""
    (directory / "build.log").unlink(missing_ok=True)
    try:
        log = build(kind, directory, authorized_keys)
    except Failure:
        return (directory / "build.log").read_text(errors="replace")
    raise Failure(f"an image was built that nobody can log in to; see {log}")


def _tree(kind):
    return trees.tree(KINDS[kind].suite)


def _make(kind, directory):
    client_key = directory / "client_key"
    run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "boot-tests", "-f", client_key], DEADLINE)
    log = build(kind, directory, client_key.with_suffix(".pub").read_bytes())
    mode = (directory / "initramfs").stat().st_mode & 0o777
    if mode & 0o077:
        raise Failure(f"dracut left the image readable by others (mode {mode:o}), and it holds the host key; see {log}")
    (directory / "known_hosts").write_text(_known_hosts_line(log) + "\n")


def _known_hosts_line(log):
    """The line that the image build printed for the user's known_hosts, taken from its output as a user would."""
    for line in log.read_text(errors="replace").splitlines():
        before, marker, key_text = line.partition(" ssh-ed25519 ")
        if marker:
            return f"{before.split()[-1]} ssh-ed25519 {key_text.split()[0]}"
    raise Failure(f"the image build printed no known_hosts line; see {log}")
