"""SSH without a network, over vsock."""

from harness import vsock
from harness.cases import case, expect
from harness.disks import PASSPHRASE, ROOT

PORT = 4222


@case(("bookworm-initramfs-tools", "trixie-systemd", "mkinitcpio-busybox"), config=f"vsock = {PORT}\n")
def over_vsock(guest):
    """An image whose configuration wants vsock has its modules, and is unlocked over it"""
    guest.wait_for_prompt()
    guest.wait_for_ssh()
    vsock.prepare(guest, PORT)
    guest.client = vsock.client(guest, PORT)
    question = guest.wait_until_asked()
    expect(question["volume"] == ROOT.volume, f"status names another volume: {question}")
    log = guest.ssh("dmesg")
    expect("logged in from vsock CID 1 " in log.out, f"the log names no vsock peer: {log}")
    expect(guest.unlock(PASSPHRASE) == 0, "the right passphrase must end with 0")
    guest.real_root().nothing_of_ours()
