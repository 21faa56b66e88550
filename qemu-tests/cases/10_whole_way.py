"""From the prompt to the real root, on each guest, with each way of getting an address."""

import re

from harness.cases import case, expect
from harness.disks import PASSPHRASE, ROOT
from harness.guest import PROMPT


def whole_way(guest):
    """Log in, look, a wrong passphrase, the right one, the real root, nothing left"""
    guest.wait_for_prompt()
    guest.wait_for_ssh()

    question = guest.wait_until_asked()
    expect(question["volume"] == ROOT.volume, f"status names another volume: {question}")
    expect("vda" in question["device"] or ROOT.uuid in question["device"], f"status names another device: {question}")
    expect(guest.status()["host"] != "localhost", "the image does not know the name of its host")
    peek = guest.ssh("peek")
    expect(peek.status == 0 and re.search(PROMPT, peek.out), f"peek does not show the prompt: {peek}")

    expect(guest.unlock(b"wrong") == 1, "a wrong passphrase must end with 1")
    expect(guest.wait_until_asked()["volume"] == ROOT.volume, "after a wrong passphrase it must be asked again")
    expect(guest.unlock(PASSPHRASE) == 0, "the right passphrase must end with 0")
    guest.real_root().nothing_of_ours()


case("bookworm-systemd", arguments="ip=dhcp")(whole_way)
case("bookworm-classic", arguments="ip=10.0.2.15::10.0.2.2:255.255.255.0:box:eth0:none net.ifnames=0")(whole_way)
case("trixie-systemd", arguments="")(whole_way)
case("mkinitcpio-busybox", arguments="ip=:::::eth0:dhcp")(whole_way)
case("mkinitcpio-systemd", arguments="ip=dhcp")(whole_way)
case("bookworm-initramfs-tools", arguments="ip=10.0.2.15:10.0.2.9:10.0.2.2::box:eth0:off net.ifnames=0")(whole_way)
case("trixie-initramfs-tools", arguments="")(whole_way)
