"""A machine that nobody can reach dials out, and is unlocked through the server that it has dialled."""

import time

from harness.cases import case, expect
from harness.disks import PASSPHRASE, ROOT
from harness.guest import PROMPT_DEADLINE
from harness.hub import Hub
from harness.ssh import COMMAND_DEADLINE
from harness.transcript import deadline_passed


@case("trixie-systemd", hub=Hub)
@case("bookworm-initramfs-tools", hub=Hub, arguments="ip=dhcp net.ifnames=0")
def through_a_hub(guest):
    """A guest that can only dial out is asked and unlocked with `ssh -J hub`, and tells the hub goodbye"""
    guest.wait_for_prompt()
    guest.hub.wait_until_it_listens(PROMPT_DEADLINE)
    question = guest.wait_until_asked()
    expect(question["volume"] == ROOT.volume, f"status names another volume: {question}")
    hubs = guest.status()["hubs"]
    expect([hub["listening"] for hub in hubs] == [f"localhost:{guest.hub.port}"], f"status names another place: {hubs}")
    lists = guest.hub.list("web1")
    start = time.monotonic()
    while lists.status != 0 and not deadline_passed(start, COMMAND_DEADLINE):
        lists = guest.hub.list("web1")  # it gives an emulated machine 20 s to answer
    expect(lists.status == 0 and ROOT.volume in lists.out, f"`hub list` does not tell what the machine asks for: {lists}")
    expect(guest.unlock(b"wrong") == 1, "a wrong passphrase must end with 1")
    expect(guest.unlock(PASSPHRASE) == 0, "the right passphrase must end with 0")
    guest.real_root().nothing_of_ours()
