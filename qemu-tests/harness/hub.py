"""A stock sshd that a guest dials out to, and that its owner comes in by."""

import atexit
import random
import shutil
import socket
import subprocess
import time

from . import images
from .ssh import Client, Result
from .tools import REPOSITORY, Failure, run
from .transcript import PATIENCE, deadline_passed

DEADLINE = 60
SSHD = REPOSITORY / "scripts" / "stock-sshd"
# Where the guest finds it. QEMU answers there, and starts an sshd for each connection.
ADDRESS = "10.0.2.100"
# What a guest has its hub listen on: below the ports that the kernel hands out, each for one guest of a run.
PORTS = list(range(30_200, 32_700))
random.shuffle(PORTS)


class Hub:
    """The hub of one guest. `listen` is what the guest's `[[dial]]` says, with the port filled in for {port}."""

    def __init__(self, directory, image):
        self._directory = directory
        self._image = image
        self._process = None
        self.port = _free_port()
        self._own_port = _free_port()
        for name in ("hub_key", "dial_ed25519_key"):
            (directory / name).unlink(missing_ok=True)
            run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", name, "-f", directory / name], DEADLINE)
        machine, owner = ((where / name).read_text() for where, name in
                          ((directory, "dial_ed25519_key.pub"), (image, "client_key.pub")))
        (directory / "authorized_keys").write_text(
            f'restrict,port-forwarding,permitlisten="localhost:{self.port}",command="/bin/false" {machine}{owner}')
        (directory / "sshd_config").write_text(
            f"ListenAddress 127.0.0.1:{self._own_port}\nHostKey {directory}/hub_key\nAuthorizedKeysFile {directory}/authorized_keys\n"
            "StrictModes no\nUsePAM no\nPidFile none\nPermitRootLogin prohibit-password\nLogLevel VERBOSE\nClientAliveInterval 10\n")

    @property
    def guest_forward(self):
        """For QEMU's user network: what answers at the hub's address."""
        return f"tcp:{ADDRESS}:22-cmd:{SSHD} -i -f {self._directory}/sshd_config -E {self._directory}/hub.log"

    def files(self):
        """What the guest's image has for it."""
        key = " ".join((self._directory / "hub_key.pub").read_text().split()[:2])
        config = f'[[dial]]\nname = "hub"\nhub = "root@{ADDRESS}"\nhost-key = "{key}"\nlisten = {self.port}\n'
        return {"/etc/vestibule/config.toml": config.encode(),
                "/etc/vestibule/dial_ed25519_key": (self._directory / "dial_ed25519_key").read_bytes()}

    def start(self):
        """Listens for the owner."""
        atexit.register(self.close)
        self._process = subprocess.Popen(
            [SSHD, "-D", "-f", self._directory / "sshd_config", "-E", self._directory / "hub.log"],
            stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        start = time.monotonic()
        while not _answers(self._own_port):
            if self._process.poll() is not None or deadline_passed(start, DEADLINE):
                raise Failure(f"the hub does not listen:\n{self.log()}")
            time.sleep(0.1)
        key = " ".join((self._directory / "hub_key.pub").read_text().split()[:2])
        (self._directory / "hub_known_hosts").write_text(f"hub {key}\n")

    def client(self):
        """An owner who knows nothing but the hub."""
        return _Through(self, self._directory, self._image, self._own_port)

    def wait_until_it_listens(self, seconds):
        """For the guest."""
        start = time.monotonic()
        while not _answers(self.port):
            if deadline_passed(start, seconds):
                raise Failure(f"the guest does not dial out in {seconds * PATIENCE:.0f} s; the hub says:\n{self.log()}")
            time.sleep(1)

    def list(self, name):
        """`vestibule hub list`, as somebody on the hub types it."""
        known = self._directory / "machines"
        known.write_text(f"{name} {(self._image / 'known_hosts').read_text().split(' ', 1)[1]}")
        done = subprocess.run(
            [images.binary(), "hub", "list", f"{name}={self.port}", "--identity", self._image / "client_key", "--known-hosts", known],
            stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=DEADLINE * PATIENCE, check=False)
        return Result(done.returncode, done.stdout, done.stderr)

    def log(self):
        log = self._directory / "hub.log"
        return log.read_text(errors="replace") if log.exists() else "(nothing)"

    def close(self):
        if self._process:
            self._process.terminate()
            self._process.wait()


class _Through(Client):
    """`ssh -J hub machine`, with a configuration file as people have it."""

    def __init__(self, hub, directory, image, own_port):
        super().__init__(hub.port, image)
        self._config = directory / "ssh_config"
        shutil.copyfile(image / "known_hosts", directory / "known_hosts")
        name = (image / "known_hosts").read_text().split()[0].split(",")[0]
        self._config.write_text(
            f"IdentityFile {image}/client_key\nIdentitiesOnly yes\nBatchMode yes\nStrictHostKeyChecking yes\nConnectTimeout 30\n"
            f"Host hub\n HostName 127.0.0.1\n Port {own_port}\n User root\n HostKeyAlias hub\n"
            f" UserKnownHostsFile {directory}/hub_known_hosts\n"
            f"Host machine\n HostName localhost\n Port {hub.port}\n HostKeyAlias {name}\n"
            f" UserKnownHostsFile {directory}/known_hosts\n")

    def command(self, *words, user="root"):
        return ["ssh", "-F", str(self._config), "-J", "hub", f"{user}@machine", *words]


def _answers(port):
    try:
        with socket.create_connection(("127.0.0.1", port), timeout=5):
            return True
    except OSError:
        return False


def _free_port():
    while True:
        port = PORTS.pop()  # one thread gets it
        try:
            with socket.create_server(("127.0.0.1", port)):
                return port
        except OSError:
            continue
