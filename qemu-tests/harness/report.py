"""What the real root said about itself (root-fs/report), parsed."""

import re
from collections import defaultdict

from .tools import Failure


class Report:
    """Lines by section. `processes` are user processes: PID, executable, arguments."""

    def __init__(self, text):
        sections = defaultdict(list)
        for section, line in re.findall(r"^REPORT (\w+) (.*)$", text, re.M):
            sections[section].append(line.strip())
        self.processes = sections["process"]
        self.addresses = sections["address"]
        self.routes = sections["route"]
        self.links = sections["link"]
        self.files = sections["file"]
        self.resolver = sections["resolver"]
        self.volumes = sections["mapper"]
        self.units = sections["unit"]

    def nothing_of_ours(self):
        """Fails, naming all of it, when anything that the initramfs added is left. The guests start without an
        address: all but the loopback's is ours."""
        left = [f"process {line}" for line in self.processes if "vestibule" in line]
        left += [f"address {line}" for line in self.addresses if not re.match(r"\d+: lo ", line)]
        left += [f"route {line}" for line in self.routes if " dev lo " not in f"{line} "]
        left += [f"link {line}" for line in self.links if not _as_found(line)]
        left += [f"file {line}" for line in self.files]
        left += [f"resolver {line}" for line in self.resolver]
        left += [f"unit {line}" for line in self.units if " active " in line]
        if not any(line.split()[1].endswith("systemd") for line in self.processes):
            left += [f"a report without init: {self.processes}"]
        if left:
            raise Failure("the real root found what the initramfs left:\n  " + "\n  ".join(left))


def _as_found(link):
    """The loopback, or a card as the kernel leaves it: down, not promiscuous, and no bond or the like."""
    name, flags = re.match(r"\d+: ([^:@]+)[^<]*<([^>]*)>", link).groups()
    made = re.search(r" (bond|vlan|bridge) | master ", link)
    return name == "lo" or ("UP" not in flags.split(",") and "promiscuity 0" in link and not made)
