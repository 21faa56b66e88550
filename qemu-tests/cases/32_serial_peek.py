"""A console without a screen: peek shows its text, and nothing that happens to us holds it up."""

from harness.cases import case, expect
from harness.disks import PASSPHRASE

# Sourced by dracut in the initramfs, with /dev/console as its output: waits until the console's text is captured, does
# something to the process whose command line has a word, and writes more than all buffers hold.
HOOK = """
disturb() {
    local process n=0
    while [ "$n" -lt 60 ]; do
        n=$((n + 1))
        sleep 1
        for process in /proc/[0-9]*; do
            case "$(tr '\\0' ' ' < "$process/cmdline" 2> /dev/null)" in
                *"%(word)s"*) ;;
                *) continue ;;
            esac
            sleep 3
            kill -%(signal)s "${process#/proc/}" && echo "<4>DISTURBED" > /dev/kmsg
            return
        done
    done
}
disturb
n=0
while [ "$n" -lt 1000 ]; do
    n=$((n + 1))
    echo "line $n of text that nobody may have to wait for, as long as lines on consoles often are"
done
echo WRITERS-GO-ON
"""
FREEZE = (HOOK % {"word": "console-relay", "signal": "STOP"}).encode()
KILL = (HOOK % {"word": "vestibule serve", "signal": "KILL"}).encode()


def peek_on_a_serial_line(guest):
    """peek shows what the serial line got, prompt included; the console works before and after hand-over"""
    prompt = guest.wait_for_prompt()
    guest.wait_for_ssh()
    guest.wait_until_asked()
    shown = guest.ssh("peek").out
    expect(prompt in shown, f"peek must show {prompt!r}:\n{shown}")
    expect("can't be read back" not in shown, f"the serial line's text must be captured:\n{shown}")
    expect("\x1b" not in shown, f"no escape sequence may come out: {shown!r}")
    follower = guest.session("peek --follow")
    follower.wait_for("passphrase for")
    guest.type_on_console("wrong\n")
    refusal = "No key available|incorrect passphrase|not authorized|try again|lease enter"
    guest.console.wait_for(refusal, 120)
    follower.wait_for(refusal)
    guest.type_on_console(PASSPHRASE.decode() + "\n")
    guest.real_root().nothing_of_ours()
    return shown


@case("bookworm-classic")
def serial_peek(guest):
    """Without systemd: what cryptsetup and dracut write to /dev/console"""
    peek_on_a_serial_line(guest)


@case(("trixie-systemd", "bookworm-systemd"))
def serial_peek_systemd(guest):
    """With systemd: its status lines, and the question that its agent writes to the serial device itself"""
    shown = peek_on_a_serial_line(guest)
    expect("Starting " in shown and "Reached target" in shown, f"peek must show systemd's status lines:\n{shown}")


@case("bookworm-classic", arguments="ip=dhcp vestibule.console-capture=0")
def serial_peek_off(guest):
    """vestibule.console-capture=0: nothing is redirected, peek says that it can't show the text"""
    guest.wait_for_prompt()
    guest.wait_for_ssh()
    guest.wait_until_asked()
    expect("can't be read back" in guest.ssh("peek").out, "with the capture off peek must say what it can't show")
    expect(guest.unlock(PASSPHRASE) == 0, "the right passphrase must end with 0")
    guest.real_root().nothing_of_ours()


def goes_on(guest):
    guest.console.wait_for("DISTURBED", 180)
    guest.console.wait_for("^line 1000 ", 180)
    guest.console.wait_for("^WRITERS-GO-ON", 30)
    guest.wait_for_prompt()
    guest.wait_for_ssh()
    guest.wait_until_asked()
    expect("passphrase for" in guest.ssh("peek").out, "peek must work again")
    guest.type_on_console(PASSPHRASE.decode() + "\n")
    guest.real_root().nothing_of_ours()


@case("bookworm-classic", replaced={"/usr/lib/dracut/hooks/pre-trigger/30-freeze.sh": FREEZE})
def relay_frozen(guest):
    """The relay is stopped while the boot writes to the console: the kernel ends it, and the writers go on"""
    goes_on(guest)


@case("bookworm-classic", replaced={"/usr/lib/dracut/hooks/pre-trigger/30-kill.sh": KILL})
def daemon_killed(guest):
    """The daemon is killed while it captures: the console works, and the next daemon captures again"""
    goes_on(guest)
