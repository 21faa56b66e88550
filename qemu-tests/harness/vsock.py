"""A client that comes to a guest over vsock. The emulator has no such device, so the guest is its own host: the kernel's
loopback (CID 1), which the test brings along, and a program in place of socat."""

import lzma
import shlex
import time

from . import images
from .cache import cached, key
from .ssh import Client
from .tools import REPOSITORY, Failure, run
from .transcript import deadline_passed

DEADLINE = 60
PROGRAM = REPOSITORY / "qemu-tests" / "programs" / "vsock.c"
# In the guest. /run may be mounted noexec there.
THERE = "/vsock"
LOOPBACK = "/vsock_loopback.ko"


def prepare(guest, port):
    """Brings what the image has not, loads the loopback beside the modules that it has, and waits until that port listens."""
    said = guest.ssh("modprobe vmw_vsock_virtio_transport")
    if said.status:
        raise Failure(f"the image lacks the modules of vsock: {said}")
    _send(guest, _program().read_bytes(), THERE)
    _send(guest, _loopback(guest.setting.kind), LOOPBACK)
    said = guest.ssh(f"{THERE} load {LOOPBACK}")
    if said.status:
        raise Failure(f"the loopback of vsock can't be loaded: {said}")
    start = time.monotonic()
    while f"listening for SSH on vsock port {port}" not in guest.ssh("dmesg").out:
        if deadline_passed(start, DEADLINE):
            raise Failure(f"vsock port {port} does not listen")
        time.sleep(1)


def client(guest, port):
    """OpenSSH, to the guest's vsock port."""
    return _Client(guest.client, port)


class _Client(Client):
    def __init__(self, first, port):
        super().__init__(first.port, first._directory)
        proxy = first.command(f"{THERE} connect 1 {port}")
        self._proxy = f"ProxyCommand={' '.join(shlex.quote(word) for word in proxy)}"

    def command(self, *words, user="root"):
        ssh, *rest = super().command(*words, user=user)
        return [ssh, "-o", self._proxy, *rest]


def _send(guest, data, path):
    said = guest.ssh(f"cat > {path} && chmod 700 {path}", stdin=data)
    if said.status:
        raise Failure(f"{path} can't be brought to the guest: {said}")


def _program():
    directory = cached("vsock-program", key(PROGRAM), "compile a program for vsock", lambda directory: run(
        ["musl-gcc", "-static", "-Os", "-Wall", "-o", directory / "vsock", PROGRAM], DEADLINE))
    return directory / "vsock"


def _loopback(kind):
    (module,) = (images.tree(kind) / "usr/lib/modules").glob("*/kernel/net/vmw_vsock/vsock_loopback.ko*")
    return lzma.decompress(module.read_bytes()) if module.suffix == ".xz" else module.read_bytes()
