"""The guests: an initramfs each, built by the guest's own tool with vestibule installed as a user would."""

from dataclasses import dataclass
from types import ModuleType

from . import dracut, initramfs_tools, mkinitcpio, trees
from .cache import cached, files_below, key
from .tools import REPOSITORY, Failure, run

DEADLINE = 600


@dataclass(frozen=True)
class GuestKind:
    """`builder` is the module for the tool that makes the image; `options` are for its script."""

    suite: str
    builder: ModuleType
    options: str = ""


KINDS = {
    "bookworm-systemd": GuestKind("bookworm", dracut, "plymouth"),
    "bookworm-classic": GuestKind("bookworm", dracut, dracut.WITHOUT_SYSTEMD),
    "trixie-systemd": GuestKind("trixie", dracut, "plymouth"),
    "bookworm-classic-plymouth": GuestKind("bookworm", dracut, dracut.NO_SYSTEMD),
    "trixie-plymouth": GuestKind("trixie", dracut, "dbus"),
    "mkinitcpio-busybox": GuestKind("trixie", mkinitcpio, mkinitcpio.BUSYBOX),
    "mkinitcpio-systemd": GuestKind("trixie", mkinitcpio, mkinitcpio.SYSTEMD),
    "bookworm-initramfs-tools": GuestKind("bookworm", initramfs_tools),
    "trixie-initramfs-tools": GuestKind("trixie", initramfs_tools),
    "trixie-initramfs-tools-plymouth": GuestKind("trixie", initramfs_tools, "plymouth"),
    "bookworm-initramfs-tools-dropbear": GuestKind("bookworm", initramfs_tools, "dropbear-initramfs"),
    # What vestibule is measured beside: the same image with the other SSH server.
    "bookworm-dropbear": GuestKind("bookworm", initramfs_tools, "dropbear-initramfs no-vestibule"),
    "trixie-dropbear": GuestKind("trixie", initramfs_tools, "dropbear-initramfs no-vestibule"),
}

# $1 tree, $2 where results go, $3 repository, $4 the kind's options. The tree stays as it is: everything happens in a
# layer above it that vanishes with the mount namespace. The image replaces one that everybody could read.
PREPARE = r"""
options=$4
mount -t tmpfs tmpfs /mnt
mkdir /mnt/upper /mnt/work /mnt/root
mount -t overlay overlay -o "lowerdir=$1,upperdir=/mnt/upper,workdir=/mnt/work" /mnt/root
make -C "$3" install DESTDIR=/mnt/root PREFIX=/usr
install -D -m 0600 "$2/authorized_keys" /mnt/root/etc/vestibule/authorized_keys
[ ! -e "$2/config.toml" ] || install -m 0600 "$2/config.toml" /mnt/root/etc/vestibule/config.toml
mount -t proc proc /mnt/root/proc
mount --rbind /dev /mnt/root/dev
mount --rbind /sys /mnt/root/sys
version=$(ls /mnt/root/usr/lib/modules)
install -m 0644 /dev/null /mnt/root/boot/initramfs
"""
COLLECT = r"""
cp --preserve=mode /mnt/root/boot/initramfs "$2/initramfs"
cp "/mnt/root/boot/vmlinuz-$version" "$2/vmlinuz"
"""


def binary():
    """The static binary under test."""
    path = REPOSITORY / "dist" / "x86_64" / "vestibule"
    if not path.exists():
        raise Failure(f"{path} is missing; build it with: make build")
    return path


def image(kind, config=""):
    """The directory with `vmlinuz`, `initramfs`, `client_key`, `known_hosts` and `build.log` of one guest, built with this
    `config.toml`."""
    installed = files_below(*KINDS[kind].builder.SOURCES)
    make_key = key(tree(kind).name, KINDS[kind].options, _script(kind), *installed, binary(), REPOSITORY / "Makefile", config)
    name, what = (f"image-{kind}-{key(config)[:4]}", f" with {' '.join(config.split())}") if config else (f"image-{kind}", "")
    return cached(name, make_key, f"build the image of {kind}{what}{note(kind)}", lambda directory: _make(kind, config, directory))


def note(kind):
    """What a reader of the results must know about the tool that made a guest's image."""
    return getattr(KINDS[kind].builder, "NOTE", "")


def build(kind, directory, authorized_keys):
    """Runs the guest's image tool with these authorised keys; what was said is in `build.log`."""
    (directory / "authorized_keys").write_bytes(authorized_keys)
    log = directory / "build.log"
    run(["unshare", "--mount", "sh", "-euc", _script(kind), "sh", tree(kind), directory, REPOSITORY,
         KINDS[kind].options], DEADLINE, log=log)
    return log


def refusal(kind, directory, authorized_keys):
    """What was said when no image was built; fails if one was."""
    (directory / "build.log").unlink(missing_ok=True)
    try:
        log = build(kind, directory, authorized_keys)
    except Failure:
        return (directory / "build.log").read_text(errors="replace")
    raise Failure(f"an image was built that nobody can log in to; see {log}")


def _script(kind):
    return PREPARE + KINDS[kind].builder.SCRIPT + COLLECT


def tree(kind):
    """The directory of the system that a guest's image is built in."""
    return trees.tree(KINDS[kind].suite, KINDS[kind].builder)


def _make(kind, config, directory):
    if config:
        (directory / "config.toml").write_text(config)
    client_key = directory / "client_key"
    run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "boot-tests", "-f", client_key], DEADLINE)
    log = build(kind, directory, client_key.with_suffix(".pub").read_bytes())
    mode = (directory / "initramfs").stat().st_mode & 0o777
    if mode & 0o077:
        raise Failure(f"the build left the image readable by others (mode {mode:o}), and it holds the host key; see {log}")
    (directory / "known_hosts").write_text(_known_hosts_line(log) + "\n")


def _known_hosts_line(log):
    """The line that the image build printed for the user's known_hosts, taken from its output as a user would."""
    for line in log.read_text(errors="replace").splitlines():
        before, marker, key_text = line.partition(" ssh-ed25519 ")
        if marker:
            return f"{before.split()[-1]} ssh-ed25519 {key_text.split()[0]}"
    raise Failure(f"the image build printed no known_hosts line; see {log}")
