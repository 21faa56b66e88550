"""Networks that are more than one card with DHCP. SSH comes by the first card, whose IPv4 address QEMU forwards to."""

import re

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


# Sourced by dracut after the disk is unlocked and before vestibule is told to stop.
TELL_OF_BOND = {"/usr/lib/dracut/hooks/pre-pivot/00-tell.sh": b"""
cd /sys/class/net && for option in mode miimon updelay xmit_hash_policy slaves; do
    echo "BOND $option $(cat "bond0/bonding/$option")"
done > /dev/console; echo "BOND mtu $(cat bond0/mtu) in $(ls br0/brif)" > /dev/console; cd /
"""}


@case("bookworm-classic", more_cables=(True, False), replaced=TELL_OF_BOND, arguments=(
    "ip=eth0:dhcp bond=bond0:eth1,eth2:mode=balance-xor,miimon=50,xmit_hash_policy=layer3+4,updelay=100:1400 "
    f"bridge=br0:bond0 ip=192.0.2.7::192.0.2.1:24::br0:none {OLD_NAMES}"
))
def bridge_on_bond(guest):
    """A bridge on a bond that balances: the kernel has the options that were asked for, and all is gone"""
    guest.wait_for_prompt()
    guest.wait_for_ssh()
    link = guest.wait_for_address("br0", "192.0.2.7/24")
    expect(link["carrier"], f"the bridge has no carrier: {link}")
    unlocked_without_a_trace(guest)
    told = re.findall(r"^BOND (.*?)\r?$", guest.console.text, re.MULTILINE)
    expected = ["mode balance-xor 2", "miimon 50", "updelay 100", "xmit_hash_policy layer3+4 1", "slaves eth1 eth2",
                "mtu 1400 in bond0"]
    expect(told == expected, f"the kernel has {told}")
