"""Clients that may do less, that send nonsense, that leave."""

import socket

from harness.cases import case, expect
from harness.disks import PASSPHRASE, ROOT


@case("bookworm-classic")
def roles_and_usage(guest):
    """Each role does what it may; statuses for scripts"""
    guest.wait_for_prompt()
    guest.wait_for_ssh()
    expect(guest.ssh("status", user="peek").status == 0, "the role peek may see the status")
    expect(guest.unlock(PASSPHRASE, user="peek") == 6, "the role peek may not unlock")
    expect(guest.ssh("unlock --nonsense").status == 2, "a usage error must end with 2")
    expect(guest.ssh("console_peek").status == 0, "console_peek is peek")
    expect(guest.ssh("status", user="nobody-like-this").status == 255, "an unknown role may not log in")
    expect(guest.unlock(PASSPHRASE, user="unlock") == 0, "the role unlock may unlock")
    guest.real_root().nothing_of_ours()


@case("trixie-systemd")
def hostile_clients(guest):
    """Nonsense, floods, long and empty passphrases, a client that leaves half-way: nothing is lost"""
    guest.wait_for_prompt()
    guest.wait_for_ssh()
    idle = [socket.create_connection(("127.0.0.1", guest.client.port)) for _ in range(50)]
    for connection in idle[::2]:
        connection.sendall(b"GET / HTTP/1.0\r\n\r\n" * 100)
    for connection in idle:
        connection.close()
    guest.wait_for_ssh()

    guest.leave_half_way("unlock", PASSPHRASE[:5])
    expect(guest.wait_until_asked()["tries_used"] == 0, "half a passphrase must not cost a try")
    expect(guest.unlock(b"x" * 10_000) != 0, "10 000 bytes are no passphrase")
    expect(guest.ssh("unlock", stdin=b"").status != 0, "no bytes are no passphrase")
    expect(guest.wait_until_asked()["volume"] == ROOT.volume, "it must still be asked")
    guest.type_on_console(PASSPHRASE.decode() + "\n")
    guest.real_root().nothing_of_ours()
