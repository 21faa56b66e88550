"""A disk that opens with a key file as well as with the passphrase, and what makes an image wait for that file."""

from dataclasses import dataclass
from pathlib import Path

from .cache import cached, key
from .disks import DATA, DEADLINE, PASSPHRASE, QUICK, Disk
from .tools import REPOSITORY, run

# As people make them (dd if=/dev/urandom bs=512 count=8), with every byte there is.
KEY_FILE = bytes(range(256)) * 16
EARLY = "/usr/lib/systemd/system/vestibule.service.d/"


@dataclass(frozen=True)
class KeyedDisk(Disk):
    """An encrypted volume with a second key slot."""

    def image(self):
        plain = super().image()
        make_key = key(plain.parent.name, KEY_FILE, Path(__file__))
        return cached(f"disk-{self.name}-keyed", make_key, f"add a key file to the disk {self.name}",
                      lambda directory: _add_key(plain, directory)) / "disk.img"


KEYED = KeyedDisk(DATA.name, DATA.filesystem, DATA.uuid)


def waiting(config, crypttab=None):
    """What `dracut` puts into the image for this `config.toml`: that, and the drop-in of `vestibule check --files`."""
    files = {"/etc/vestibule/config.toml": config.encode(), EARLY: b"",
             f"{EARLY}10-keys.conf": (REPOSITORY / "systemd" / "keys.conf").read_bytes()}
    return files | ({"/etc/crypttab": crypttab.encode()} if crypttab else {})


def _add_key(plain, directory):
    run(["cp", "--sparse=always", plain, directory / "disk.img"], DEADLINE)
    (directory / "key").write_bytes(KEY_FILE)
    run(["cryptsetup", "luksAddKey", "--batch-mode", "--key-file=-", *QUICK.split(), directory / "disk.img",
         directory / "key"], DEADLINE, input=PASSPHRASE)
