"""Small cpio archives (newc, the kernel's Documentation/driver-api/early-userspace/buffer-format.rst): the kernel
unpacks one after the other, so a second one replaces files of the first, as a damaged or forgotten file would be."""


def archive(files):
    """An archive of regular files from `{path: bytes}`, in directories that exist, each readable by root only; scripts
    are executable."""
    entries = [_entry(path.lstrip("/"), _mode(data), data) for path, data in files.items()]
    return b"".join(entries) + _entry("TRAILER!!!", 0, b"")


def _mode(data):
    return 0o100700 if data.startswith(b"#!") else 0o100600


def _entry(name, mode, data):
    encoded = name.encode() + b"\0"
    fields = (0, mode, 0, 0, 1, 0, len(data), 0, 0, 0, 0, len(encoded), 0)
    header = b"070701" + b"".join(b"%08X" % field for field in fields)
    return _padded(header + encoded) + _padded(data)


def _padded(data):
    return data + bytes(-len(data) % 4)
