"""No dead end: tries used up, time-outs, emergency mode. SSH still answers, says what happened, and unlocks."""

import time

from harness.cases import case, expect
from harness.disks import PASSPHRASE, ROOT
from harness.tools import Failure
from harness.transcript import deadline_passed

# What dracut says before its shell, and what sulogin or the shell itself says when it waits.
EMERGENCY = r"Entering emergency mode|Dropping to debug shell"
SHELL_WAITS = r"Press Enter|\(or press Control-D|dracut:\S*# "
# dracut writes a report before its shell.
EMERGENCY_DEADLINE = 240

STATUS_DEADLINE = 30

# systemd takes three passphrases at most, cryptsetup at dracut's console five.
MOST_TRIES = 5


def use_up_the_tries(guest):
    """Over SSH, until the machine gives up."""
    guest.wait_for_prompt()
    guest.wait_for_ssh()
    for _ in range(MOST_TRIES):
        verdict = guest.unlock(b"wrong")
        if verdict != 1:
            break
    expect(verdict == 5, f"the last try must end with 5, not {verdict}")


def use_up_the_tries_at_the_console(guest):
    """Ours cost the console none, so somebody types there."""
    guest.wait_for_prompt()
    guest.wait_for_ssh()
    for tries in range(MOST_TRIES):
        guest.type_on_console("wrong\n")
        guest.console.wait_for("No key available", 60, "a refusal")
        if tries + 1 < MOST_TRIES:
            guest.wait_for_prompt()


def given_up(guest):
    """The status of a machine that gave up, and that can still be helped."""
    status = status_with(guest, lambda status: status["phase"] == "failed", "the failure")
    expect([volume["name"] for volume in status["gave_up"]] == [ROOT.volume], f"another volume was given up: {status}")
    expect([question["source"] for question in status["questions"]] == ["recovery"], f"nothing can be done: {status}")
    return status


def status_with(guest, wanted, what):
    """The first status that is `wanted`: what happens is seen within a second or two."""
    start = time.monotonic()
    while True:
        status = guest.status()
        if wanted(status):
            return status
        if deadline_passed(start, STATUS_DEADLINE):
            raise Failure(f"status does not tell of {what}: {status}")


def wait_for_the_shell(guest):
    """The boot is held at the console, and status says so."""
    guest.console.wait_for(EMERGENCY, EMERGENCY_DEADLINE, "emergency mode")
    guest.console.wait_for(SHELL_WAITS, EMERGENCY_DEADLINE, "the emergency shell")
    status_with(guest, lambda status: status["emergency"], "emergency mode")
    said = guest.ssh("status").out
    expect("the boot is held by" in said, f"status does not tell a person of emergency mode:\n{said}")


def resumed(guest):
    expect(guest.unlock(PASSPHRASE) == 0, "the right passphrase must end with 0")
    guest.real_root().nothing_of_ours()


@case(("bookworm-systemd", "trixie-systemd"))
def tries_used_up(guest):
    """When the machine gives up asking, unlock says so, and the next one still opens the root"""
    use_up_the_tries(guest)
    status = given_up(guest)
    expect(status["gave_up"][0]["why"] == "no tries left", f"status does not say why: {status['gave_up']}")
    resumed(guest)


@case("bookworm-classic")
def tries_used_up_at_the_console(guest):
    """The same without systemd, where only somebody at the console can use up the tries"""
    use_up_the_tries_at_the_console(guest)
    given_up(guest)
    expect(guest.unlock(b"wrong") == 1, "a wrong passphrase must end with 1")
    resumed(guest)


@case(("bookworm-systemd", "trixie-systemd"), arguments="ip=dhcp rd.retry=10")
def emergency_after_the_tries(guest):
    """dracut's initqueue gives up waiting for the root: a wrong passphrase changes nothing, the right one resumes"""
    use_up_the_tries(guest)
    wait_for_the_shell(guest)
    given_up(guest)
    expect(guest.unlock(b"wrong") == 1, "a wrong passphrase must end with 1")
    expect(guest.status()["emergency"], "a wrong passphrase must not end the shell")
    resumed(guest)


@case("bookworm-classic", arguments="ip=dhcp rd.luks.timeout=20 rd.retry=10")
def emergency_after_a_time_out(guest):
    """Nobody answers in time, dracut's shell comes: a wrong passphrase changes nothing, the right one resumes"""
    guest.wait_for_prompt()
    guest.wait_for_ssh()
    wait_for_the_shell(guest)
    given_up(guest)
    expect(guest.unlock(b"wrong") == 1, "a wrong passphrase must end with 1")
    expect(guest.status()["emergency"], "a wrong passphrase must not end the shell")
    resumed(guest)


@case(("bookworm-systemd", "trixie-systemd"), arguments=f"ip=dhcp root=/dev/mapper/{ROOT.volume}")
def the_root_depends_on_it(guest):
    """The root's mount fails with its volume, and systemd enters emergency mode at once"""
    use_up_the_tries(guest)
    wait_for_the_shell(guest)
    given_up(guest)
    resumed(guest)


@case(("bookworm-systemd", "trixie-systemd"), arguments="ip=dhcp rd.timeout=45")
def root_device_time_out(guest):
    """The root's device comes too late, and the question still stands: the passphrase resumes the boot

    On a slow machine the time-out comes even before the question, which the console then doesn't show."""
    guest.wait_for_ssh()
    wait_for_the_shell(guest)
    question = guest.wait_until_asked()
    expect(question["source"] == "systemd", f"the question does not stand any more: {question}")
    resumed(guest)


@case("bookworm-systemd", arguments="ip=dhcp rd.timeout=45")
def somebody_in_the_shell(guest):
    """Somebody has logged in to the emergency shell, and somebody else unlocks on the unlock screen"""
    guest.wait_for_ssh()
    wait_for_the_shell(guest)
    guest.type_on_console("\n")
    guest.console.wait_for(r":/root# ", 60, "the shell")
    session = guest.session()
    session.wait_for("the boot is held by", 60)
    session.wait_for("Passphrase for ", 120)
    session.type(PASSPHRASE + b"\n")
    guest.real_root().nothing_of_ours()


@case(("bookworm-initramfs-tools", "trixie-initramfs-tools"), arguments="rootdelay=5")
def panic_shell(guest):
    """initramfs-tools asks round after round, and then drops to a shell; the right passphrase still boots it"""
    guest.wait_for_prompt()
    guest.wait_for_ssh()
    start = time.monotonic()
    while not guest.status()["emergency"]:
        expect(not deadline_passed(start, EMERGENCY_DEADLINE), "no shell came, however often the passphrase was wrong")
        guest.ssh("unlock --wait 1", stdin=b"wrong\n")
    expect("Dropping to a shell" in guest.console.text, "status must not tell of a shell that is not there")
    expect(guest.unlock(b"wrong") == 1, "a wrong passphrase must end with 1")
    expect(guest.unlock(PASSPHRASE) == 0, "the right passphrase must end with 0")
    guest.real_root().nothing_of_ours()
