"""How a case is declared and found. See qemu-tests/cases for examples."""

import importlib.util
from dataclasses import dataclass, field
from pathlib import Path

from . import disks
from .tools import Failure

CASES = Path(__file__).resolve().parents[1] / "cases"

_declared = []


@dataclass(frozen=True)
class Setting:
    """What a case wants: the guest and what is particular about its machine.

    arguments: further kernel arguments, `ip=` above all
    cable:     whether the network cable is plugged in from the start
    more_cables: for each further network card, whether its cable is plugged in
    consoles:  `console=` of the kernel; the last is where passphrases are asked
    replaced:  `{path: bytes}` put over the finished image, as a fault would
    config:    the `config.toml` that the image is built with
    hub:       `hub.Hub` for a machine that can only dial out, to that hub
    """

    kind: str
    arguments: str = "ip=dhcp"
    disks: tuple = (disks.ROOT,)
    cable: bool = True
    more_cables: tuple = ()
    consoles: tuple = ("ttyS0",)
    replaced: dict = field(default_factory=dict)
    config: str = ""
    hub: type = None


@dataclass(frozen=True)
class Case:
    name: str
    about: str
    setting: Setting
    steps: object
    boots: bool = True


def case(guests, **setting):
    """Declares a function as a case on each of `guests` (a name, or several). Its first line of documentation says
    what it is about."""

    def declare(steps):
        for kind in (guests,) if isinstance(guests, str) else guests:
            name = f"{steps.__name__.replace('_', '-')}@{kind}"
            about = (steps.__doc__ or "").strip().splitlines()[0]
            _declared.append(Case(name, about, Setting(kind, **setting), steps))
        return steps

    return declare


def image_case(guests):
    """Declares a function that builds images and boots none; it gets the guest's name and a directory."""

    def declare(steps):
        for kind in guests:
            name = f"{steps.__name__.replace('_', '-')}@{kind}"
            _declared.append(Case(name, steps.__doc__.splitlines()[0], Setting(kind, disks=()), steps, boots=False))
        return steps

    return declare


def expect(condition, otherwise):
    """A step's claim. `otherwise` says what was wrong."""
    if not condition:
        raise Failure(otherwise)


def all_cases():
    """Every case in qemu-tests/cases, in the order of files and functions."""
    if not _declared:
        for path in sorted(CASES.glob("*.py")):
            spec = importlib.util.spec_from_file_location(path.stem, path)
            spec.loader.exec_module(importlib.util.module_from_spec(spec))
    return list(_declared)
