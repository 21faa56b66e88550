"""Networks that are more than one card with DHCP. SSH comes by the first card, whose IPv4 address QEMU forwards to."""

from harness.cases import case, expect
from harness.disks import PASSPHRASE

OLD_NAMES = "net.ifnames=0"


def unlocked_without_a_trace(guest):
    expect(guest.unlock(PASSPHRASE) == 0, "the right passphrase must end with 0")
    guest.real_root().nothing_of_ours()


@case("trixie-systemd", arguments=f"ip=eth0:dhcp ip=[fec0::77]::[fec0::2]:64::eth0:none {OLD_NAMES}")
def static_ipv6(guest):
    """A static IPv6 address beside DHCP: there after the kernel's check, gone in the real root"""
    guest.wait_for_prompt()
    guest.wait_for_ssh()
    link = guest.wait_for_address("eth0", "fec0::77/64")
    expect(any(it.startswith("10.0.2.15/") for it in link["addresses"]), f"the IPv4 address is missing: {link}")
    unlocked_without_a_trace(guest)


@case("bookworm-classic", arguments="", more_cables=(False,))
def dead_second_card(guest):
    """Two cards, one without a cable: SSH answers as with one, and IPv6 comes by router advertisement"""
    guest.wait_for_prompt()
    guest.wait_for_ssh()
    links = guest.status()["network"]
    notes = sorted(str(link["note"]) for link in links if not link["addresses"])
    expect(notes == ["no carrier: waiting for a cable"], f"one card must wait for its cable: {links}")
    alive = next(link["name"] for link in links if link["carrier"])
    guest.wait_for_address(alive, "fec0::")
    unlocked_without_a_trace(guest)


@case(("bookworm-systemd", "bookworm-classic"), more_cables=(True, False), arguments=(
    "ip=eth0:dhcp bond=bond0:eth1,eth2:mode=active-backup,miimon=100 vlan=bond0.5:bond0 "
    f"ip=192.0.2.7::192.0.2.1:24::bond0.5:none {OLD_NAMES}"
))
def vlan_on_bond(guest):
    """A VLAN on a bond of two cards, beside the card that SSH comes by: made, with its address, and all gone"""
    guest.wait_for_prompt()
    guest.wait_for_ssh()
    link = guest.wait_for_address("bond0.5", "192.0.2.7/24")
    expect(link["carrier"] and link["gateway"] == "192.0.2.1", f"the VLAN is not as asked for: {link}")
    parts = {it["name"]: it["note"] for it in guest.status()["network"] if it["name"] in ("eth1", "eth2")}
    expect(parts == {"eth1": "part of bond0", "eth2": "part of bond0"}, f"the bond has other parts: {parts}")
    unlocked_without_a_trace(guest)
