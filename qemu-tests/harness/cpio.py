"""Small cpio archives (newc, the kernel's Documentation/driver-api/early-userspace/buffer-format.rst): the kernel
unpacks one after the other, so a second one replaces files of the first, as a damaged or forgotten file would be."""


def archive(files):
    """An archive of regular files from `{path: bytes}`, each readable by root only, scripts executable, in directories
    that exist or stand before them, with a slash at their end."""
    entries = [_entry(path.strip("/"), _mode(path, data), data) for path, data in files.items()]
    return b"".join(entries) + _entry("TRAILER!!!", 0, b"")


def _mode(path, data):
    if path.endswith("/"):
        return 0o040700
    return 0o100700 if data.startswith(b"#!") else 0o100600


def _entry(name, mode, data):
    encoded = name.encode() + b"\0"
    fields = (0, mode, 0, 0, 1, 0, len(data), 0, 0, 0, 0, len(encoded), 0)
    header = b"070701" + b"".join(b"%08X" % field for field in fields)
    return _padded(header + encoded) + _padded(data)


def _padded(data):
    return data + bytes(-len(data) % 4)
