"""More than one volume, and a volume whose key takes long."""

from harness.cases import case, expect
from harness.disks import DATA, PASSPHRASE, ROOT, ROOT_ARGON2


@case("trixie-systemd", disks=(ROOT, DATA))
def two_volumes_at_once(guest):
    """Both ask at the same time; one passphrase opens both"""
    guest.wait_for_prompt()
    guest.wait_for_ssh()
    expect(guest.unlock(PASSPHRASE) == 0, "one passphrase must open both volumes")
    report = guest.real_root()
    report.nothing_of_ours()
    expect({ROOT.volume, DATA.volume} <= set(report.volumes), f"not both volumes are open: {report.volumes}")


@case("bookworm-classic", disks=(ROOT, DATA))
def two_volumes_in_turn(guest):
    """Without systemd the second is asked for when the first is open; one passphrase opens both"""
    guest.wait_for_prompt()
    guest.wait_for_ssh()
    expect(guest.unlock(PASSPHRASE) == 0, "one passphrase must open both volumes")
    report = guest.real_root()
    report.nothing_of_ours()
    expect({ROOT.volume, DATA.volume} <= set(report.volumes), f"not both volumes are open: {report.volumes}")


@case("trixie-systemd", disks=(ROOT_ARGON2,))
def argon2id(guest):
    """A key derivation as people have it: slow, and 256 MiB"""
    guest.wait_for_prompt()
    guest.wait_for_ssh()
    expect(guest.unlock(b"wrong") == 1, "a wrong passphrase must end with 1, however long it takes")
    expect(guest.unlock(PASSPHRASE) == 0, "the right passphrase must end with 0, however long it takes")
    guest.real_root().nothing_of_ours()
