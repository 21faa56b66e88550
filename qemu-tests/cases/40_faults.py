"""What is wrong is said on the console, and the boot goes on."""

import time

from harness.cases import case, expect
from harness.disks import PASSPHRASE

CABLE_IS_LATE = 20  # seconds


@case("bookworm-systemd", replaced={"/etc/vestibule/ssh_host_ed25519_key": b"not a key\n"})
def host_key_corrupt(guest):
    """A damaged host key: the console says so, and takes the passphrase"""
    guest.console.wait_for("vestibule.*ssh_host_ed25519_key", 180)
    guest.wait_for_prompt()
    guest.type_on_console(PASSPHRASE.decode() + "\n")
    guest.real_root().nothing_of_ours()


@case("bookworm-classic", replaced={"/etc/vestibule/authorized_keys": b""})
def no_authorized_keys(guest):
    """Nobody could log in: the console says so, nobody listens, and the console takes the passphrase"""
    guest.console.wait_for("vestibule.*/etc/vestibule/authorized_keys", 180)
    guest.wait_for_prompt()
    expect(not guest.client.banner(), "a server that lets nobody in must not be there")
    guest.type_on_console(PASSPHRASE.decode() + "\n")
    guest.real_root().nothing_of_ours()


@case("trixie-systemd", replaced={"/etc/vestibule/config.toml": b"port = 2222\nprot = 1\n"})
def config_unreadable(guest):
    """A mistake in the configuration: named with its line, served with the defaults"""
    guest.wait_for_prompt()
    guest.wait_for_ssh()
    problems = " ".join(guest.status()["problems"])
    expect("line 2" in problems, f"status must name the line: {problems!r}")
    expect(guest.unlock(PASSPHRASE) == 0, "the right passphrase must end with 0")
    guest.real_root().nothing_of_ours()


@case(("bookworm-systemd", "bookworm-classic"), cable=False)
def cable_comes_late(guest):
    """The network cable is plugged in 20 s after the prompt: SSH then answers"""
    guest.wait_for_prompt()
    time.sleep(CABLE_IS_LATE)  # this is the fault, not a wait for something
    expect(not guest.client.banner(), "nobody can have answered without a cable")
    guest.plug_cable_in()
    guest.wait_for_ssh()
    expect(guest.unlock(PASSPHRASE) == 0, "the right passphrase must end with 0")
    guest.real_root().nothing_of_ours()
