//! The rooms of docs/design.md: a room that knows what it may not know fails here.

use std::path::{Path, PathBuf};

/// Which files (by prefix below `src/`), what they may not name, and why.
const RULES: &[(&[&str], &[&str], &str)] = &[
    (
        &["daemon/prompt/"],
        &["russh", "crate::session", "config::role", "daemon::net", "netlink", "control::server"],
        "prompts know neither SSH nor roles nor the network",
    ),
    (
        &["daemon/prompt/broker.rs", "daemon/prompt/submit.rs"],
        &["std::fs", "std::path", "crate::root", "systemd::", "tty::", "recovery::", "ask_file"],
        "the broker does not know where prompts come from",
    ),
    (
        &["daemon/net/"],
        &["russh", "crate::session", "daemon::prompt", "control::server", "control::client"],
        "the network does not know that SSH exists",
    ),
    (
        &["daemon/console/"],
        &["russh", "crate::session", "daemon::net", "daemon::prompt", "control::server"],
        "the console knows nothing but consoles",
    ),
    (
        &["daemon/plymouth.rs"],
        &["russh", "crate::session", "daemon::net", "daemon::prompt", "control::server"],
        "plymouth's screen is told what is in the status, and nothing else",
    ),
    (
        &["daemon/stdio/"],
        &["russh", "daemon::prompt", "daemon::house"],
        "what is inherited is handed to a daemon, or served without its questions",
    ),
    (
        &["daemon/notify/"],
        &["russh", "daemon::prompt", "daemon::rescue", "control::server", "std::fs"],
        "who is told learns the status and nothing else",
    ),
    (
        &["post/"],
        &[
            "russh",
            "tokio",
            "crate::daemon",
            "crate::session",
            "crate::root",
            "std::fs",
            "process::Command",
            "std::env",
        ],
        "who speaks to strangers' servers has two descriptors and nothing else",
    ),
    (
        &["session/", "dialler.rs"],
        &[
            "crate::daemon",
            "crate::image",
            "crate::root",
            "std::fs",
            "tokio::fs",
            "process::Command",
            "tokio::process",
            "std::env",
        ],
        "a session, or a connection to a hub, opens nothing and knows only the control protocol",
    ),
    (
        &["dial/", "flow/"],
        &[
            "crate::daemon",
            "crate::root",
            "std::fs",
            "TcpStream",
            "::connect(",
            "tokio::fs",
            "process::Command",
            "std::env",
        ],
        "the SSH client has the stream, the key and the pins, and opens nothing",
    ),
    (
        &["open/"],
        &["russh", "crate::daemon", "process::Command", "tokio::process"],
        "who asks at the console knows only the control protocol",
    ),
    (
        &["hub/", "tunnel/"],
        &["daemon::prompt", "daemon::listener", "crate::control", "process::Command", "tokio::process"],
        "what people run on a running system needs no daemon",
    ),
    (
        &["chroot/"],
        &["russh", "tokio", "daemon::prompt", "daemon::net", "daemon::house", "crate::control"],
        "a chroot needs no daemon: it has processes, mounts and files",
    ),
    (
        &["chroot/mounts.rs", "chroot/place.rs", "chroot/namespace.rs", "chroot/holders.rs", "chroot/left.rs"],
        &["process::Command", "supervise", "Ssh", "definition::Service"],
        "mounts know nothing of what runs between them",
    ),
    (
        &["sftp/"],
        &["russh", "tokio", "crate::daemon", "crate::session", "crate::control", "process::Command"],
        "the SFTP server knows nothing but files and its two descriptors",
    ),
    (
        &["sftp/confine.rs", "sftp/handles.rs", "sftp/mod.rs", "sftp/server.rs", "sftp/stream.rs"],
        &["std::fs", "fs::open", "openat"],
        "nothing but sftp/tree.rs opens a file",
    ),
    (
        &["flow/backlog.rs", "session/ssh/request.rs"],
        &["russh", "tokio", "std::net", "std::os", "control::client", "Instant::now"],
        "how much may come, and what a request means, is pure",
    ),
    (
        &["session/command.rs", "session/line.rs", "session/screen.rs", "session/text.rs"],
        &["russh", "tokio", "std::net", "std::os", "control::client"],
        "commands, lines and screens are pure",
    ),
    (
        &[
            "chroot/accounts.rs",
            "chroot/android/script.rs",
            "chroot/definition.rs",
            "chroot/file.rs",
            "chroot/mountinfo.rs",
            "chroot/options.rs",
            "chroot/plan.rs",
            "chroot/supervise/backoff.rs",
            "chroot/supervise/lines.rs",
            "chroot/table.rs",
            "config/cmdline.rs",
            "config/cryptdevice.rs",
            "config/destination.rs",
            "config/dial.rs",
            "config/file.rs",
            "config/grants.rs",
            "config/initramfs_tools.rs",
            "config/key.rs",
            "config/network/",
            "config/notify.rs",
            "config/role.rs",
            "config/role_entry.rs",
            "control/dial.rs",
            "control/message.rs",
            "dial/error.rs",
            "dial/pin.rs",
            "control/notification.rs",
            "control/status.rs",
            "daemon/console/terminal.rs",
            "daemon/listener/crowd.rs",
            "daemon/listener/origin.rs",
            "daemon/listener/penalty.rs",
            "daemon/listener/quiet.rs",
            "daemon/login.rs",
            "daemon/net/advert.rs",
            "daemon/net/arp.rs",
            "daemon/net/conflict.rs",
            "daemon/net/dhcp/",
            "daemon/net/keep/",
            "daemon/net/dhcp6/",
            "daemon/net/domain.rs",
            "daemon/net/ledger.rs",
            "daemon/net/link.rs",
            "daemon/net/plan/",
            "daemon/net/owner.rs",
            "daemon/net/resolve/files.rs",
            "daemon/net/resolve/message.rs",
            "daemon/net/rtmessage/",
            "daemon/net/step.rs",
            "daemon/notify/message.rs",
            "daemon/notify/rules.rs",
            "daemon/prompt/ask_file.rs",
            "daemon/prompt/ask_kind.rs",
            "daemon/prompt/askpass/asked.rs",
            "daemon/rescue/environment.rs",
            "daemon/rescue/modes.rs",
            "daemon/rescue/signals.rs",
            "hardening/calls.rs",
            "hardening/seccomp.rs",
            "hub/machines.rs",
            "hub/report.rs",
            "hub/setup.rs",
            "image/import/dropbear.rs",
            "post/response.rs",
            "session/ssh/auth.rs",
            "session/ssh/authorized_keys/",
            "session/ssh/certificate.rs",
            "session/ssh/algorithms.rs",
            "sftp/access.rs",
            "sftp/long_name.rs",
            "sftp/message/",
            "sftp/path.rs",
            "tunnel/forward.rs",
        ],
        &["tokio", "std::fs", "std::env", "std::process", "Instant::now", "SystemTime"],
        "pure files know neither the runtime nor files nor the clock",
    ),
];

/// The only places that may start programs; `daemon/console/capture.rs` starts our own relay.
const MAY_RUN: &[&str] = &[
    "daemon/confined.rs",
    "daemon/rescue/",
    "daemon/prompt/cryptsetup.rs",
    "daemon/prompt/systemctl.rs",
    "daemon/console/capture.rs",
    "daemon/prompt/zfs/tool.rs",
    "chroot/",
];
/// The only places with `unsafe`, each with a reason at its top and at every block.
const MAY_BE_UNSAFE: &[&str] = &[
    "daemon/descriptors.rs",
    "daemon/net/packet.rs",
    "daemon/rescue/launch.rs",
    "hardening/kernel.rs",
    "recycle.rs",
    "flow/descriptor.rs",
];

#[test]
fn rooms_know_only_what_they_may() {
    let mut broken = Vec::new();
    for (name, code) in sources() {
        for (rooms, forbidden, why) in RULES {
            if rooms.iter().any(|room| name.starts_with(room)) {
                for word in forbidden.iter().filter(|word| code.contains(*word)) {
                    broken.push(format!("src/{name} names {word}: {why}"));
                }
            }
        }
        let runs = code.contains("process::Command") || code.contains("tokio::process");
        if runs && !MAY_RUN.iter().any(|place| name.starts_with(place)) {
            broken.push(format!("src/{name} starts programs, which only {MAY_RUN:?} may"));
        }
        if code.contains("unsafe {") && !MAY_BE_UNSAFE.contains(&name.as_str()) {
            broken.push(format!("src/{name} has unsafe code, which only {MAY_BE_UNSAFE:?} may"));
        }
    }
    assert!(broken.is_empty(), "\n{}", broken.join("\n"));
}

#[test]
fn the_named_places_exist() {
    let names: Vec<String> = sources().into_iter().map(|(name, _)| name).collect();
    let rooms = RULES.iter().flat_map(|(rooms, _, _)| rooms.iter()).chain(MAY_BE_UNSAFE);
    for room in rooms {
        assert!(names.iter().any(|name| name.starts_with(room)), "no file src/{room}: the rule guards nothing");
    }
}

#[test]
fn main_only_chooses() {
    let lines = std::fs::read_to_string(source_directory().join("main.rs")).unwrap().lines().count();
    assert!(lines <= 40, "src/main.rs has {lines} lines");
}

#[test]
fn no_file_is_too_long() {
    let long: Vec<_> = walk(&source_directory())
        .into_iter()
        .filter(|path| std::fs::read_to_string(path).unwrap().lines().count() > 400)
        .collect();
    assert!(long.is_empty(), "over 400 lines: {long:?}");
}

/// Each source file's name below `src/` and its code without comments and tests.
fn sources() -> Vec<(String, String)> {
    let directory = source_directory();
    let read = |path: PathBuf| {
        let name = path.strip_prefix(&directory).unwrap().to_str().unwrap().to_owned();
        let text = std::fs::read_to_string(&path).unwrap();
        let code = text.split("#[cfg(test)]\nmod tests").next().unwrap_or_default();
        let code = code.lines().filter(|line| !line.trim_start().starts_with("//")).collect::<Vec<_>>().join("\n");
        (name, code)
    };
    walk(&directory).into_iter().map(read).collect()
}

fn source_directory() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("src")
}

fn walk(directory: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    for entry in std::fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        match path.is_dir() {
            true => files.extend(walk(&path)),
            false => files.push(path),
        }
    }
    files.retain(|path| path.extension().is_some_and(|extension| extension == "rs"));
    files
}
