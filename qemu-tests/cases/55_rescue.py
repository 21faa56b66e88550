"""Somebody is still at work when the boot could continue."""

import time

from harness.cases import case, expect
from harness.disks import PASSPHRASE

# Longer than anybody waits for a daemon that doesn't end: 20 s, of `vestibule stop` and of systemd for the unit.
HELD = 45

# Between two looks.
INTERVAL = 3

# The unlocked root is checked and mounted first.
HAND_OVER_DEADLINE = 120


@case(("bookworm-classic", "trixie-systemd"))
def a_held_boot(guest):
    """The boot waits for who has asked for it, and goes on when it is released"""
    guest.wait_for_prompt()
    guest.wait_for_ssh()
    expect(guest.ssh("hold", user="unlock").status == 6, "the role unlock may not hold the boot")
    expect(guest.ssh("hold --seconds 1800").status == 0, "the boot can be held")
    expect(guest.unlock(PASSPHRASE) == 0, "the passphrase is right")
    end = time.monotonic() + HAND_OVER_DEADLINE
    while not (guest.status()["hold"] or "").startswith("the boot waits"):
        expect(time.monotonic() < end, "the hand-over does not come")
        time.sleep(INTERVAL)
    end = time.monotonic() + HELD
    while time.monotonic() < end:
        expect("the boot waits" in guest.ssh("status").out, "it must still wait, and say so")
        time.sleep(INTERVAL)
    expect("REAL-ROOT-RUNNING" not in guest.console.text, "the real root must not run yet")
    expect(guest.ssh("release").status == 0, "the boot can be released")
    guest.real_root().nothing_of_ours()


@case("bookworm-initramfs-tools")
def rescue_shell(guest):
    """A shell and programs of the image; what is left open is told that the boot continues, and ended"""
    guest.wait_for_ssh()
    guest.wait_until_asked()
    done = guest.ssh("cat; ls /conf >&2; exit 7", stdin=b"through")
    expect((done.status, done.out) == (7, "through") and "initramfs.conf" in done.err, f"a program of the image: {done}")
    shell = guest.session("shell")
    shell.type("sleep 4711 & echo it runs as $((40 + 2)) on $(tty)\n")
    shell.wait_for("it runs as 42 on /dev/pts/")
    expect(guest.unlock(PASSPHRASE) == 0, "the passphrase is right")
    shell.wait_for("the boot continues")
    shell.wait_for_end()
    report = guest.real_root()
    report.nothing_of_ours()
    left = [process for process in report.processes if "4711" in process]
    expect(not left, f"what the shell had started is still there: {left}")
