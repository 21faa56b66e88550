"""Encrypted disks, made on the host without device mapper, loop devices or a second machine: mke2fs fills a file
system from a directory, and `cryptsetup reencrypt --encrypt` encrypts a file in place, in user space."""

from dataclasses import dataclass
from pathlib import Path

from . import trees
from .cache import cached, files_below, key
from .tools import REPOSITORY, run

PASSPHRASE = b"correct horse battery staple"
ROOT_FS = REPOSITORY / "qemu-tests" / "root-fs"

# What the real root doesn't need to start systemd and say what it found: three quarters of a minimal Debian.
LEFT_OUT = """./boot/* ./usr/lib/modules ./usr/lib/dracut ./usr/lib/udev/hwdb* ./usr/share/doc ./usr/share/man
./usr/share/locale ./usr/share/zoneinfo ./usr/share/i18n ./usr/share/perl* ./usr/share/info ./usr/share/bash-completion
./usr/lib/x86_64-linux-gnu/perl* ./usr/lib/x86_64-linux-gnu/gconv ./var/cache ./var/lib/apt ./var/lib/dpkg ./dev/*
./proc/* ./sys/* ./run/* ./tmp/* ./etc/resolv.conf""".split()

# 1000 iterations keep the emulated processor's time for the boot; one disk has a key as people have it.
QUICK = "--pbkdf pbkdf2 --pbkdf-force-iterations 1000"
# 256 MiB and 4 passes: what cryptsetup's benchmark chooses on a small machine (its two-second goal).
ARGON2 = "--pbkdf argon2id --pbkdf-memory 262144 --pbkdf-parallel 1 --pbkdf-force-iterations 4"

# cryptsetup moves the data down by half of this to make room for the LUKS2 header (cryptsetup-reencrypt(8)).
HEADER_ROOM = 32 << 20
DEADLINE = 300


@dataclass(frozen=True)
class Disk:
    """One encrypted volume: `filesystem` is `root` or `data`, `pbkdf` cryptsetup options."""

    name: str
    filesystem: str
    uuid: str
    pbkdf: str = QUICK

    @property
    def volume(self):
        """The name below /dev/mapper that dracut and systemd give by default."""
        return f"luks-{self.uuid}"

    def image(self):
        """The disk image; boots write into a throw-away layer above it."""
        plain = _root_filesystem() if self.filesystem == "root" else _data_filesystem()
        make_key = key(plain.parent.name, self.uuid, self.pbkdf, PASSPHRASE, Path(__file__))
        return cached(f"disk-{self.name}", make_key, f"encrypt the disk {self.name}",
                      lambda directory: self._encrypt(plain, directory / "disk.img")) / "disk.img"

    def _encrypt(self, plain, image):
        run(["cp", "--sparse=always", plain, image], DEADLINE)
        with open(image, "r+b") as file:
            file.truncate(plain.stat().st_size + HEADER_ROOM)
        run(["cryptsetup", "reencrypt", "--encrypt", "--type", "luks2", "--batch-mode", "--uuid", self.uuid,
             "--reduce-device-size", HEADER_ROOM // 512 * 512, "--key-file=-", *self.pbkdf.split(), image],
            DEADLINE, input=PASSPHRASE)


ROOT_UUID = "00000000-0000-4000-8000-00000000000f"
ROOT = Disk("root", "root", "10000000-0000-4000-8000-000000000001")
ROOT_ARGON2 = Disk("root-argon2", "root", "20000000-0000-4000-8000-000000000002", ARGON2)
DATA = Disk("data", "data", "30000000-0000-4000-8000-000000000003")


def _root_filesystem():
    tree = trees.tree("bookworm")

    def make(directory):
        stage = directory / "stage"
        stage.mkdir()
        excluded = [f"--exclude={pattern}" for pattern in LEFT_OUT]
        archive = directory / "root.tar"
        run(["tar", "-C", tree, "-cf", archive, *excluded, "."], DEADLINE)
        run(["tar", "-C", stage, "-xf", archive], DEADLINE)
        archive.unlink()
        for file, place in (("report", "usr/local/sbin"), ("report.service", "etc/systemd/system"),
                            ("default.target", "etc/systemd/system")):
            run(["cp", ROOT_FS / file, stage / place], DEADLINE)
        _mke2fs(stage, directory / "plain.img", ROOT_UUID)
        run(["rm", "-rf", stage], DEADLINE)

    make_key = key(tree.name, *files_below(ROOT_FS), Path(__file__))
    return cached("root-filesystem", make_key, "make the real root's file system", make) / "plain.img"


def _data_filesystem():
    def make(directory):
        stage = directory / "stage"
        stage.mkdir()
        (stage / "data").write_text("a second volume\n")
        _mke2fs(stage, directory / "plain.img", "00000000-0000-4000-8000-00000000000d")

    return cached("data-filesystem", key(Path(__file__)), "make the data file system", make) / "plain.img"


def _mke2fs(stage, image, uuid):
    used = int(run(["du", "-sm", stage], DEADLINE).split()[0])
    run(["mke2fs", "-q", "-t", "ext4", "-O", "^has_journal", "-U", uuid, "-d", stage, image, f"{used * 5 // 4 + 16}M"],
        DEADLINE)
