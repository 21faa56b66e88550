"""What is particular to initramfs-tools: askpass, rounds of tries, plymouth, dropbear beside vestibule."""

from harness.cases import case, expect, image_case
from harness.disks import DATA, PASSPHRASE, ROOT
from harness.images import refusal
from harness.initramfs_tools import crypttab


@case("trixie-initramfs-tools", arguments="")
def tries_used_up_and_then_right(guest):
    """Three wrong ones end a round, the machine says so and asks anew; the right one is still taken"""
    guest.wait_for_prompt()
    guest.wait_for_ssh()
    for left in (3, 2, 1):
        question = guest.wait_until_asked()
        expect(question["tries_left"] == left, f"{left} tries should be left: {question}")
        verdict = guest.unlock(b"wrong")
        expect(verdict == (1 if left > 1 else 5), f"with {left} tries left, unlock ended with {verdict}")
    expect(guest.wait_until_asked()["tries_left"] == 3, "a new round has all its tries")
    expect(guest.unlock(PASSPHRASE) == 0, "the right passphrase must end with 0")
    guest.real_root().nothing_of_ours()


@case("bookworm-initramfs-tools", disks=(ROOT, DATA), replaced={"/cryptroot/crypttab": crypttab(ROOT, DATA).encode()})
def two_volumes_one_passphrase(guest):
    """The second is asked for when the first is open; one passphrase opens both"""
    guest.wait_for_prompt()
    guest.wait_for_ssh()
    expect(guest.unlock(PASSPHRASE) == 0, "one passphrase must open both volumes")
    report = guest.real_root()
    report.nothing_of_ours()
    expect({ROOT.volume, DATA.volume} <= set(report.volumes), f"not both volumes are open: {report.volumes}")


@case("trixie-initramfs-tools", arguments="ip=dhcp")
def a_network_for_the_real_system(guest):
    """With ip= trixie's initramfs-tools configures the network before the hand-over, and that stays"""
    guest.wait_for_prompt()
    guest.wait_for_ssh()
    expect(guest.unlock(PASSPHRASE) == 0, "the right passphrase must end with 0")
    report = guest.real_root()
    expect(any(" 10.0.2.15/24 " in line for line in report.addresses), f"the address is gone: {report.addresses}")
    ours = [*report.files, *(line for line in report.processes if "vestibule" in line)]
    expect(not ours, f"vestibule has left: {ours}")


DROPBEAR_ON_OUR_PORT = {"/etc/dropbear/dropbear.conf": b'DROPBEAR_OPTIONS="-p 2222"\n'}


@case("bookworm-initramfs-tools-dropbear", arguments="ip=dhcp")
def beside_dropbear(guest):
    """dropbear on its port, vestibule on its own; both look after the network, and nothing is left of either"""
    guest.wait_for_prompt()
    guest.wait_for_ssh()
    expect(guest.unlock(b"wrong") == 1, "a wrong passphrase must end with 1")
    expect(guest.unlock(PASSPHRASE) == 0, "the right passphrase must end with 0")
    guest.real_root().nothing_of_ours()
    expect("Starting dropbear" in guest.console.text and "Stopping dropbear" in guest.console.text, "dropbear was not there")


@case("bookworm-initramfs-tools-dropbear", arguments="ip=dhcp", replaced=DROPBEAR_ON_OUR_PORT)
def same_port_as_dropbear(guest):
    """On one port, one of them serves and the other says so; the boot goes on"""
    guest.wait_for_prompt()
    guest.wait_for_ssh()
    guest.type_on_console(PASSPHRASE.decode() + "\n")
    guest.real_root().nothing_of_ours()


@image_case(("bookworm-initramfs-tools", "trixie-initramfs-tools"))
def no_key_no_image_here(kind, directory):
    """update-initramfs fails when no key may log in, says why, and leaves no image"""
    said = refusal(kind, directory, authorized_keys=b"")
    expect("/etc/vestibule/authorized_keys" in said, f"the refusal must name the file:\n{said}")
    expect("update-initramfs -u" in said, f"the refusal must name the cure:\n{said}")
