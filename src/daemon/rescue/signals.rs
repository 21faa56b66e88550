//! Signals by the names that SSH has for them (RFC 4254 section 6.10). Pure.

use rustix::process::Signal;

/// The RFC's thirteen, and those that programs here may die of as well.
const NAMES: [(&str, Signal); 25] = [
    ("ABRT", Signal::ABORT),
    ("ALRM", Signal::ALARM),
    ("FPE", Signal::FPE),
    ("HUP", Signal::HUP),
    ("ILL", Signal::ILL),
    ("INT", Signal::INT),
    ("KILL", Signal::KILL),
    ("PIPE", Signal::PIPE),
    ("QUIT", Signal::QUIT),
    ("SEGV", Signal::SEGV),
    ("TERM", Signal::TERM),
    ("USR1", Signal::USR1),
    ("USR2", Signal::USR2),
    ("BUS", Signal::BUS),
    ("CONT", Signal::CONT),
    ("IO", Signal::IO),
    ("PROF", Signal::PROF),
    ("PWR", Signal::POWER),
    ("STOP", Signal::STOP),
    ("SYS", Signal::SYS),
    ("TRAP", Signal::TRAP),
    ("TSTP", Signal::TSTP),
    ("VTALRM", Signal::VTALARM),
    ("XCPU", Signal::XCPU),
    ("XFSZ", Signal::XFSZ),
];

pub fn named(name: &str) -> Option<Signal> {
    NAMES.iter().find(|(known, _)| *known == name).map(|(_, signal)| *signal)
}

/// For one without a name, its number in the form that the RFC has for local extensions.
pub fn name(number: i32) -> String {
    match NAMES.iter().find(|(_, signal)| signal.as_raw() == number) {
        Some((name, _)) => (*name).to_owned(),
        None => format!("{number}@vestibule"),
    }
}
