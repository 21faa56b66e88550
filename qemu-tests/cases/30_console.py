"""The machine's own console and an SSH session side by side."""

from harness.cases import case, expect
from harness.disks import PASSPHRASE


@case(("bookworm-classic", "trixie-systemd", "mkinitcpio-busybox"))
def console_is_first(guest):
    """The passphrase is typed at the console while an SSH session waits: the session is told"""
    guest.wait_for_prompt()
    guest.wait_for_ssh()
    session = guest.session()
    session.wait_for("Passphrase for ")
    guest.type_on_console(PASSPHRASE.decode() + "\n")
    session.wait_for("unlocked")
    session.wait_for("boot continues")
    session.wait_for_end()
    guest.real_root().nothing_of_ours()


@case(("bookworm-classic", "trixie-systemd"))
def unlock_screen(guest):
    """On a terminal: what is asked, a wrong passphrase, the right one, the farewell"""
    guest.wait_for_prompt()
    guest.wait_for_ssh()
    session = guest.session()
    session.wait_for("wants a passphrase")
    session.wait_for("Passphrase for ")
    session.type("wrong\r")
    session.wait_for("wrong passphrase")
    session.wait_for("Passphrase for ")
    session.type(PASSPHRASE + b"\r")
    session.wait_for("unlocked")
    expect(session.wait_for_end() == 0, "the session must end with 0 when all is unlocked")
    expect(PASSPHRASE.decode() not in session.screen.text, "the passphrase must not be shown")
    guest.real_root().nothing_of_ours()


@case(("bookworm-classic", "bookworm-systemd"), consoles=("ttyS0", "tty0"))
def screen_console(guest):
    """With a screen as the console, peek shows it, and the keyboard works"""
    guest.wait_for_ssh()
    guest.wait_until_asked()
    expect("passphrase for" in guest.ssh("peek").out, "peek must show the prompt that is on the screen")
    guest.type_on_console(PASSPHRASE.decode() + "\n")
    guest.real_root().nothing_of_ours()


@case(("bookworm-classic", "trixie-systemd", "mkinitcpio-busybox"), arguments="ip=dhcp rd.vestibule=0")
def switched_off(guest):
    """rd.vestibule=0: nobody listens, the console works"""
    guest.wait_for_prompt()
    expect(not guest.client.banner(), "nothing may listen with rd.vestibule=0")
    guest.type_on_console(PASSPHRASE.decode() + "\n")
    guest.real_root().nothing_of_ours()


# With ip= trixie's initramfs-tools configures the network by itself at the end, and leaves it to the real system.
case("trixie-initramfs-tools-plymouth", arguments="")(console_is_first)
case(("trixie-initramfs-tools", "trixie-initramfs-tools-plymouth"), arguments="")(unlock_screen)
case("trixie-initramfs-tools", arguments="rd.vestibule=0")(switched_off)
