"""The vocabulary of the cases: one guest, from power-on to the real root."""

import json
import re
import shutil
import time

from . import cpio, disks, images
from .machine import Hardware, Machine
from .report import Report
from .ssh import Client
from .tools import Failure
from .transcript import deadline_passed

# Under emulation a prompt comes 12 to 40 s after power-on, the real root 15 s after the passphrase.
PROMPT_DEADLINE = 240
REAL_ROOT_DEADLINE = 240

# Once there is SSH, the other addresses are a matter of seconds, with modules to load in between.
ADDRESS_DEADLINE = 60

# Between two looks at the status.
STATUS_INTERVAL = 2

# Somebody at the console reads a prompt before typing.
PERSON_REACTS = 2

# systemd's question, with the name of the volume, cryptsetup's own, with its device (so does `vestibule open`), and
# askpass's in initramfs-tools.
PROMPT = (
    r"[Pp]lease enter passphrase for disk .*?:|Enter passphrase for /dev/\S+( \(or: .*?\))?:|Please unlock disk \S+"
)


class Guest:
    """A machine with vestibule in its initramfs. Leave it with `close`."""

    def __init__(self, setting, directory):
        self.setting = setting
        self.disks = setting.disks
        self._directory = directory
        image = images.image(setting.kind, setting.config)
        self.hub = setting.hub and setting.hub(directory, image)
        arguments = [f"console={console}" for console in setting.consoles]
        arguments += [*images.KINDS[setting.kind].builder.kernel_arguments(self.disks, disks.ROOT_UUID), setting.arguments]
        hardware = Hardware(
            image / "vmlinuz", self._initramfs(image), " ".join(arguments), [disk.image() for disk in self.disks],
            setting.cable, setting.more_cables, guest_forward=self.hub and self.hub.guest_forward,
        )
        if self.hub:
            self.hub.start()
        self.machine = Machine(hardware, directory)
        self.console = self.machine.console
        self.client = self.hub.client() if self.hub else Client(self.machine.port, image)
        self._sessions = []

    def _initramfs(self, image):
        """The image as it was built, or with files in it replaced."""
        replaced = self.setting.replaced | (self.hub.files() if self.hub else {})
        if not replaced:
            return image / "initramfs"
        changed = self._directory / "initramfs"
        shutil.copyfile(image / "initramfs", changed)
        with open(changed, "ab") as file:
            # The kernel takes an uncompressed archive only at a multiple of four bytes.
            file.write(bytes(-file.tell() % 4) + cpio.archive(replaced))
        return changed

    def wait_for_prompt(self):
        """Waits until the console asks for a passphrase; returns the question."""
        return self.console.wait_for(PROMPT, PROMPT_DEADLINE, "a passphrase prompt").group()

    def wait_for_ssh(self):
        """Waits until the SSH server introduces itself."""
        self.client.wait_for_banner()

    def ssh(self, command, **how):
        """Runs a remote command; `user=` is the role, `stdin=` bytes. Returns status, out, err."""
        return self.client.run(command, **how)

    def status(self):
        """`status --json`, parsed."""
        said = self.ssh("status --json")
        if said.status:
            raise Failure(f"status --json ended with {said.status}: {said.out}{said.err}")
        try:
            return json.loads(said.out)
        except ValueError as error:
            raise Failure(f"status --json is not JSON ({error}):\n{said.out}") from None

    def wait_for_address(self, name, begins):
        """Waits until status shows an address that begins so on the interface; the interface as status has it."""
        start = time.monotonic()
        while True:
            links = self.status()["network"]
            for link in links:
                if link["name"] == name and any(it.startswith(begins) for it in link["addresses"]):
                    return link
            if deadline_passed(start, ADDRESS_DEADLINE):
                raise Failure(f"{name} never had {begins}: {links}")
            time.sleep(STATUS_INTERVAL)

    def wait_until_asked(self):
        """Waits until status shows a question that takes an answer, and returns it."""
        start = time.monotonic()
        while True:
            status = self.status()
            for question in status["questions"]:
                if question["stage"] == "asking":
                    return question
            if deadline_passed(start, PROMPT_DEADLINE):
                raise Failure(f"nothing is asked: {status}")
            time.sleep(STATUS_INTERVAL)

    def leave_half_way(self, command, stdin):
        """Sends a part of a command's input and breaks the connection."""
        self.client.leave_half_way(command, stdin=stdin)

    def unlock(self, passphrase, **how):
        """`ssh … unlock < file`, with the newline that a file ends in; the exit status."""
        said = self.ssh("unlock", stdin=passphrase + b"\n", **how)
        with open(self._directory / "unlock.log", "a", encoding="utf-8") as log:
            log.write(f"status {said.status}\n{said.out}{said.err}")
        return said.status

    def session(self, command=None, user="root"):
        """An SSH session with a terminal; the unlock screen when no command is given."""
        session = self.client.session(*([command] if command else []), user=user)
        self._sessions.append(session)
        return session

    def type_on_console(self, text):
        """Types on the machine's own console: the serial line, or the keyboard when the screen is the console.

        A prompt is printed a moment before the echo is switched off, and that throws away what came in between. Nothing
        tells when it is done; a person is never that quick."""
        time.sleep(PERSON_REACTS)
        if self.setting.consoles[-1].startswith("ttyS"):
            self.machine.type_on_serial(text)
        else:
            self.machine.press_keys(text)

    def plug_cable_in(self):
        self.machine.set_link(True)

    def real_root(self):
        """Waits for the real root's report and the power-off."""
        self.console.wait_for("^REAL-ROOT-REPORTED", REAL_ROOT_DEADLINE, "the end of the real root's report")
        report = Report(self.console.text)
        self.machine.wait_for_power_off()
        return report

    def wait_for_real_root(self, seconds=REAL_ROOT_DEADLINE):
        self.console.wait_for("^REAL-ROOT-RUNNING", seconds, "the real root")

    def kernel_start(self):
        """When the kernel's clock was at zero, on this machine's (time.monotonic). The console comes up later than
        the kernel, and catches up: the line with the least delay counts."""
        log = (self._directory / "console.log").read_text(errors="replace")
        stamps = re.findall(r"^ *(\d+\.\d+) \[ *(\d+\.\d+)\]", log, re.M)
        return self.console.started + min(float(seen) - float(said) for seen, said in stamps)

    def close(self):
        for session in self._sessions:
            session.close()
        self.machine.kill()
        if self.hub:
            self.hub.close()
        (self._directory / "initramfs").unlink(missing_ok=True)
