"""One QEMU: its console on a pipe, its network card on a forwarded port, its control socket."""

import atexit
import json
import re
import socket
import subprocess
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path

from .tools import Failure
from .transcript import PATIENCE, Transcript

# Seconds for QEMU itself: to open its control socket, to answer there, to end.
QMP_DEADLINE = 30
EXIT_DEADLINE = 60

# Without cmpxchg16b: QEMU 7.2's emulation of it leaves wrong flags now and then, and Linux 6.12, whose allocator uses
# it, dies of a double fault. Without five-level page tables: each level costs the emulator time.
PROCESSOR = "max,cx16=off,la57=off"

_running = set()
_running_lock = threading.Lock()


@dataclass
class Hardware:
    """What a machine is started with."""

    kernel: Path
    initramfs: Path
    arguments: str
    disks: list = field(default_factory=list)
    cable: bool = True
    more_cables: tuple = ()
    memory: int = 1024
    # What the machine can connect to (slirp's guestfwd); then nobody can connect to the machine.
    guest_forward: str = None


class Machine:
    """A running QEMU. Emulated (TCG) always: a /dev/kvm that is there may still not work."""

    def __init__(self, hardware, directory):
        self._log = open(directory / "console.log", "wb")
        self.console = Transcript("the console", self._log)
        control = directory / "qmp"
        control.unlink(missing_ok=True)
        self._process = subprocess.Popen(
            _command(hardware, control), stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        with _running_lock:
            _running.add(self)
        self.console.read_from(self._process.stdout.fileno())
        self._qmp = self._connect(control)
        self.execute("qmp_capabilities")
        for number, plugged in enumerate((hardware.cable, *hardware.more_cables)):
            if not plugged:
                self.set_link(False, number)
        self.port = None if hardware.guest_forward else self._forwarded_port()
        self.execute("cont")

    def _connect(self, path):
        start = time.monotonic()
        while True:
            try:
                connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
                connection.settimeout(QMP_DEADLINE * PATIENCE)
                connection.connect(str(path))
                stream = connection.makefile("rw", encoding="utf-8")
                stream.readline()  # the greeting
                return stream
            except (FileNotFoundError, ConnectionRefusedError):
                if self._process.poll() is not None or time.monotonic() - start > QMP_DEADLINE * PATIENCE:
                    raise Failure(f"QEMU did not start:\n{self.console.last_lines()}") from None
                time.sleep(0.05)

    def execute(self, command, **arguments):
        """A QMP command; events that come in between are skipped."""
        self._qmp.write(json.dumps({"execute": command, "arguments": arguments}) + "\n")
        self._qmp.flush()
        while True:
            line = self._qmp.readline()
            if not line:
                raise Failure(f"QEMU closed its control socket at {command}")
            answer = json.loads(line)
            if "error" in answer:
                raise Failure(f"QEMU refused {command}: {answer['error']['desc']}")
            if "return" in answer:
                return answer["return"]

    def _forwarded_port(self):
        """The port that QEMU chose when asked for port 0."""
        table = self.execute("human-monitor-command", **{"command-line": "info usernet"})
        match = re.search(r"TCP\[HOST_FORWARD\]\s+\d+\s+127\.0\.0\.1\s+(\d+)", table)
        if not match:
            raise Failure(f"QEMU forwards no port:\n{table}")
        return int(match.group(1))

    def set_link(self, up, number=0):
        """Plugs a network cable in or out; the first card's is the one that SSH comes by."""
        self.execute("set_link", name=f"card{number}", up=up)

    def type_on_serial(self, text):
        self._process.stdin.write(text.encode())
        self._process.stdin.flush()

    def press_keys(self, text):
        """Types on the keyboard of the screen (lower-case letters, digits, space and newline)."""
        for character in text:
            key = {" ": "spc", "\n": "ret"}.get(character, character)
            self.execute("send-key", keys=[{"type": "qcode", "data": key}])
            time.sleep(0.05)  # the emulated keyboard controller holds 16 scan codes

    def wait_for_power_off(self):
        try:
            self._process.wait(EXIT_DEADLINE * PATIENCE)
        except subprocess.TimeoutExpired:
            raise Failure(f"the machine did not power off in {EXIT_DEADLINE * PATIENCE:.0f} s") from None

    def kill(self):
        with _running_lock:
            _running.discard(self)
        self._process.kill()
        self._process.wait()
        self.console.finish()
        self._log.close()


@atexit.register
def kill_all():
    """Ends every QEMU that still runs."""
    for machine in list(_running):
        machine.kill()


def _command(hardware, control):
    way = f"guestfwd={hardware.guest_forward}" if hardware.guest_forward else "hostfwd=tcp:127.0.0.1:0-:2222"
    command = [
        "qemu-system-x86_64", "-accel", "tcg", "-cpu", PROCESSOR, "-m", str(hardware.memory), "-smp", "1", "-S",
        "-nodefaults", "-vga", "std", "-display", "none", "-no-reboot", "-serial", "stdio",
        "-qmp", f"unix:{control},server=on,wait=off",
        "-kernel", str(hardware.kernel), "-initrd", str(hardware.initramfs), "-append", hardware.arguments,
        "-object", "rng-random,id=random,filename=/dev/urandom", "-device", "virtio-rng-pci,rng=random",
        "-netdev", f"user,id=net,restrict=on,{way}",
        "-device", "virtio-net-pci,netdev=net,id=card0,romfile=",
    ]
    for number, _ in enumerate(hardware.more_cables, 1):
        command += ["-netdev", f"user,id=net{number},restrict=on,net=10.0.{number + 2}.0/24"]
        command += ["-device", f"virtio-net-pci,netdev=net{number},id=card{number},romfile="]
    for disk in hardware.disks:
        command += ["-drive", f"file={disk},format=raw,if=virtio,snapshot=on"]
    return command
