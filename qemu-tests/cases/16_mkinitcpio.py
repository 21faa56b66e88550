"""What is particular to mkinitcpio: its encrypt asks for ever, and at the console alone."""

from harness.cases import case, expect, image_case
from harness.disks import PASSPHRASE, ROOT
from harness.images import refusal
from harness.tools import REPOSITORY


@case("mkinitcpio-busybox")
def asked_in_both_places(guest):
    """The console tells how to log in; wrong ones from both sides, as many as there come; SSH opens it, encrypt does nothing"""
    guest.console.wait_for(r"Enter passphrase for /dev/\S+ \(or: ssh -p 2222 root@10\.0\.2\.15\): ", 240)
    guest.wait_for_ssh()
    guest.type_on_console("wrong at the console\n")
    guest.console.wait_for(f"{ROOT.volume} .*: wrong passphrase", 60)
    for _ in range(4):
        expect(guest.unlock(b"wrong") == 1, "a wrong passphrase must end with 1, and be asked for again")
    expect(guest.wait_until_asked()["tries_left"] is None, "encrypt knows no last try")
    expect(guest.unlock(PASSPHRASE) == 0, "the right passphrase must end with 0")
    guest.console.wait_for(f"Device {ROOT.volume} already exists", 60)
    guest.real_root().nothing_of_ours()


@case("mkinitcpio-busybox", arguments="ip=dhcp cryptkey=rootfs:/etc/os-release")
def key_file_is_wrong(guest):
    """encrypt tries its key first; where it then asks, it asks in both places"""
    guest.console.wait_for("Invalid keyfile", 240)
    guest.wait_for_prompt()
    guest.wait_for_ssh()
    expect(guest.unlock(b"wrong") == 1, "a wrong passphrase must end with 1")
    expect(guest.unlock(PASSPHRASE) == 0, "the right passphrase must end with 0")
    guest.real_root().nothing_of_ours()


@case("mkinitcpio-busybox", replaced={"/usr/bin/vestibule": b""})
def program_is_damaged(guest):
    """vestibule can't run at all: encrypt asks at the console as always"""
    guest.console.wait_for(f"A password is required to access the {ROOT.volume} volume", 240)
    guest.wait_for_prompt()
    expect(not guest.client.banner(), "nobody can listen")
    guest.type_on_console(PASSPHRASE.decode() + "\n")
    guest.real_root().nothing_of_ours()


@case("mkinitcpio-busybox", replaced={"/etc/vestibule/authorized_keys": b""})
def nobody_may_log_in(guest):
    """No SSH, and no mention of it at the prompt; the console takes the passphrase"""
    guest.console.wait_for("vestibule.*/etc/vestibule/authorized_keys", 240)
    expect("ssh" not in guest.wait_for_prompt(), "the prompt must not offer what is not there")
    expect(not guest.client.banner(), "a server that lets nobody in must not be there")
    guest.type_on_console(PASSPHRASE.decode() + "\n")
    guest.real_root().nothing_of_ours()


# The daemon runs, but nothing of ours asks before encrypt, as with a daemon that came back too late.
SERVES_ONLY = b"""#!/usr/bin/ash
run_earlyhook() { vestibule serve --family mkinitcpio < /dev/null > /dev/kmsg 2>&1 & }
run_hook() { :; }
run_cleanuphook() { vestibule stop; }
"""


@case("mkinitcpio-busybox", replaced={"/hooks/vestibule": SERVES_ONLY})
def loop_is_left_alone(guest):
    """Where encrypt asks by itself, SSH shows the question, says that only the console can answer, and breaks nothing"""
    guest.wait_for_prompt()
    guest.wait_for_ssh()
    expect(guest.wait_until_asked()["source"] == "tty", "the question of encrypt's cryptsetup must be shown")
    said = guest.ssh("unlock", stdin=PASSPHRASE + b"\n")
    expect(said.status == 4 and "at the console alone" in said.out + said.err, f"it must not be tried: {said}")
    guest.type_on_console(PASSPHRASE.decode() + "\n")
    guest.real_root().nothing_of_ours()


HOOK = (REPOSITORY / "mkinitcpio-hook/hooks/vestibule").read_bytes()
SERVE = b"vestibule serve --family mkinitcpio && return\n"
# Some seconds after the first prompt.
KILLED = HOOK.replace(SERVE, b"vestibule serve --family mkinitcpio &\nsleep 40\nkill -9 $!\nreturn\n")


@case("mkinitcpio-busybox", replaced={"/hooks/vestibule": KILLED})
def daemon_is_killed(guest):
    """The daemon dies for good while it asks: the console is told, encrypt asks there, and nothing is left"""
    expect(SERVE in HOOK, "the hook starts the daemon in another way than this case expects")
    guest.console.wait_for(r"Enter passphrase for /dev/\S+ \(or: ssh", 240)
    guest.console.wait_for("vestibule ended while it was asking", 120)
    guest.console.wait_for(f"A password is required to access the {ROOT.volume} volume", 60)
    guest.wait_for_prompt()
    guest.type_on_console(PASSPHRASE.decode() + "\n")
    guest.real_root().nothing_of_ours()


@image_case(("mkinitcpio-busybox", "mkinitcpio-systemd"))
def no_key_is_an_error(kind, directory):
    """mkinitcpio ends with an error, and says that nobody could log in"""
    said = refusal(kind, directory, authorized_keys=b"")
    expect("/etc/vestibule/authorized_keys" in said, f"it must name the file:\n{said}")
    expect("nobody could log in" in said, f"it must say what that means:\n{said}")
    said = refusal(kind, directory, authorized_keys=b"# one\nssh-ed25519 AAAAnot-a-key me\n")
    expect("/etc/vestibule/authorized_keys:2" in said, f"it must name file and line:\n{said}")
