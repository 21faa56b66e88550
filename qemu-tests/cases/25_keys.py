"""A second volume whose key file is fed over SSH: no key in the image, none on the machine."""

import time

from harness.cases import case, expect
from harness.disks import PASSPHRASE, ROOT
from harness.guest import STATUS_INTERVAL
from harness.keyed import KEY_FILE, KEYED, waiting
from harness.transcript import deadline_passed

# Five seconds without a key, and a first try that systemd counts for it.
PATIENCE_FOR_BOTH = 60

BY_ITSELF = waiting(f'[[key]]\nvolume = "{KEYED.volume}"\nwait-seconds = 600\n')
CRYPTTAB = waiting('[[key]]\nvolume = "data"\npath = "/run/vestibule/keys/data"\nwait-seconds = 600\n',
                   f"data UUID={KEYED.uuid} /run/vestibule/keys/data luks\n")
TOO_LATE = waiting(f'[[key]]\nvolume = "{KEYED.volume}"\nwait-seconds = 5\n')


def kinds(guest):
    return {question["volume"]: question["kind"] for question in guest.status()["questions"]}


@case(("bookworm-systemd", "trixie-systemd"), disks=(ROOT, KEYED), replaced=BY_ITSELF)
def key_file_is_fed(guest):
    """The root by passphrase, the data volume by a key file from a pipe; crypttab knows nothing of it"""
    guest.wait_for_prompt()
    guest.wait_for_ssh()
    expect(kinds(guest) == {ROOT.volume: "passphrase", KEYED.volume: "key"}, f"asked is {kinds(guest)}")
    said = guest.ssh(f"feed {KEYED.volume}", user="unlock", stdin=KEY_FILE)
    expect(said.status == 0, f"the right key must end with 0: {said}")
    expect(guest.unlock(PASSPHRASE) == 0, "the right passphrase must end with 0")
    report = guest.real_root()
    report.nothing_of_ours()
    expect({ROOT.volume, KEYED.volume} <= set(report.volumes), f"not both volumes are open: {report.volumes}")


@case("bookworm-systemd", disks=(ROOT, KEYED), replaced=CRYPTTAB)
def wrong_key_is_fed(guest):
    """crypttab names our socket; after a wrong key the console asks, and a passphrase opens it"""
    guest.wait_for_prompt()
    guest.wait_for_ssh()
    said = guest.ssh("feed data", stdin=KEY_FILE[1:])
    expect(said.status == 1 and "wrong key" in said.out, f"a wrong key must end with 1: {said}")
    expect(kinds(guest) == {ROOT.volume: "passphrase", "data": "passphrase"}, f"asked is {kinds(guest)}")
    said = guest.ssh("feed data --wait 1", stdin=KEY_FILE)
    expect(said.status == 3, f"nothing waits for a key any more: {said}")
    expect(guest.unlock(PASSPHRASE) == 0, "the right passphrase must end with 0")
    report = guest.real_root()
    report.nothing_of_ours()
    expect({ROOT.volume, "data"} <= set(report.volumes), f"not both volumes are open: {report.volumes}")


@case("trixie-systemd", disks=(ROOT, KEYED), replaced=TOO_LATE)
def nobody_feeds(guest):
    """When no key comes, the console asks for the passphrase of both, and takes it"""
    guest.wait_for_prompt()
    guest.wait_for_ssh()
    start = time.monotonic()
    while kinds(guest) != {ROOT.volume: "passphrase", KEYED.volume: "passphrase"}:
        expect(not deadline_passed(start, PATIENCE_FOR_BOTH), f"asked is {kinds(guest)}")
        time.sleep(STATUS_INTERVAL)
    expect(guest.unlock(PASSPHRASE) == 0, "one passphrase must open both volumes")
    guest.real_root().nothing_of_ours()
