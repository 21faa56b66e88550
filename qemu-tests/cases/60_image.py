"""Images that nobody could log in to are not built."""

from harness.cases import expect, image_case
from harness.images import refusal


@image_case(("bookworm-systemd", "trixie-systemd"))
def no_key_no_image(kind, directory):
    """dracut refuses when no key may log in, or when a key line can't be read"""
    said = refusal(kind, directory, authorized_keys=b"")
    expect("/etc/vestibule/authorized_keys" in said, f"the refusal must name the file:\n{said}")
    said = refusal(kind, directory, authorized_keys=b"# one\nssh-ed25519 AAAAnot-a-key me\n")
    expect("/etc/vestibule/authorized_keys:2" in said, f"the refusal must name file and line:\n{said}")
