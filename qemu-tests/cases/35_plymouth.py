"""Machines that boot with plymouth on their screen."""

import time

from harness.cases import case, expect
from harness.disks import PASSPHRASE, ROOT
from harness.transcript import deadline_passed

# Seconds until plymouth has drawn a question, and between two looks.
DRAWN_DEADLINE = 30
LOOK_INTERVAL = 0.5

# plymouth shows its screen only when asked for, and, told of a serial console, would show text there instead. These
# machines have no graphics: plymouth draws with letters, which peek can read, and which a message would wipe.
SPLASH = "splash plymouth.ignore-serial-consoles"


def unlocked_beside_plymouth(guest, source, prompt):
    guest.wait_for_ssh()
    question = guest.wait_until_asked()
    expect(question["source"] == source, f"the question must come from {source}: {question}")
    expect(question["volume"] == ROOT.volume, f"status names another volume: {question}")
    # Its client asks a moment before plymouth draws.
    screen = guest.session("peek --follow")
    screen.wait_for(prompt)
    expect(guest.unlock(b"wrong") == 1, "a wrong passphrase must end with 1")
    expect(guest.wait_until_asked()["volume"] == ROOT.volume, "after a wrong passphrase it must be asked again")
    # It is drawn some time after its client asks; the other console, which shows the question as well, doesn't count.
    start = time.monotonic()
    while prompt not in (shown := guest.ssh("peek").out.partition("ttyS0")[0]):
        expect(not deadline_passed(start, DRAWN_DEADLINE), f"plymouth's question must be on its screen again:\n{shown}")
        time.sleep(LOOK_INTERVAL)
    expect(guest.unlock(PASSPHRASE) == 0, "the right passphrase must end with 0")
    guest.real_root().nothing_of_ours()


@case("bookworm-classic-plymouth", arguments=f"ip=dhcp {SPLASH}", consoles=("ttyS0", "tty0"))
def plymouth_asks_for_dracut(guest):
    """Without systemd: plymouth's client waits with a command; it is answered beside it"""
    unlocked_beside_plymouth(guest, "plymouth", "Password")


@case("trixie-plymouth", arguments=f"ip=dhcp {SPLASH}", consoles=("ttyS0", "tty0"))
def plymouth_asks_for_systemd(guest):
    """With systemd: plymouth is one agent among others"""
    unlocked_beside_plymouth(guest, "systemd", "enter passphrase for disk")


@case(("bookworm-classic-plymouth", "trixie-plymouth"), arguments=f"ip=dhcp {SPLASH}", consoles=("ttyS0", "tty0"))
def plymouth_is_answered_at_its_keyboard(guest):
    """The passphrase is typed at plymouth's screen while an SSH session waits: the session is told"""
    guest.wait_for_ssh()
    guest.wait_until_asked()
    session = guest.session()
    session.wait_for("Passphrase for ")
    guest.type_on_console(PASSPHRASE.decode() + "\n")
    session.wait_for("unlocked")
    session.wait_for_end()
    guest.real_root().nothing_of_ours()
