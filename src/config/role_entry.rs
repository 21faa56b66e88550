//! `[[role]]` of the configuration: roles of one's own, and changes to those that are built in. Pure.
//!
//! A role with a mistake denies: nobody logs in as it, and all others are as they were.

use super::destination;
use super::grants::{Access, Files, Granted, Grants, Permitted, is_variable};
use super::network::entry::{self, Entry};
use super::role::{Role, Roles};

/// Longest name: it is in log lines, and typed.
const MAX_NAME: usize = 32;
/// What is left where the file can't be read at all, and so nobody knows what was taken from the others.
const HARMLESS: [&str; 2] = ["unlock", "peek"];

/// All roles of a machine with this `config.toml`; the names of those that stand in there; and a sentence for each
/// mistake.
pub fn read(text: &str) -> (Roles, Vec<String>, Vec<String>) {
    let (mut roles, mut names, mut problems) = (Roles::default(), Vec::<String>::new(), Vec::new());
    let Some(file) = entry::parse(text) else {
        // That the file is no TOML is told by whoever reads the settings.
        let mentioned = |line: &str| line.trim_start_matches(['[', ' ', '\t']).starts_with("role");
        return match text.lines().any(mentioned) {
            true => unreadable(),
            false => (roles, names, problems),
        };
    };
    for table in Entry::sections(&file, "role", text) {
        let mut entry = match table {
            Ok(entry) => entry,
            Err(reason) => {
                problems.push(reason);
                continue;
            }
        };
        let Some(name) = entry.required("name", name) else {
            problems.extend(entry.finish().into_iter().take(1));
            continue;
        };
        if names.contains(&name) {
            entry.problem("name", "this role stands there twice; remove one");
        }
        let start = Roles::default().find(&name).map_or_else(nothing, |role| role.grants.clone());
        let grants = read_grants(&mut entry, start);
        let wrong = entry.finish();
        match wrong.is_empty() {
            true => roles.put(Role { name: name.clone(), grants }),
            false => roles.refuse(&name),
        }
        problems.extend(wrong.into_iter().map(|reason| format!("{reason}; nobody can log in as {name}")));
        names.push(name);
    }
    (roles, names, problems)
}

/// All roles of a machine whose `config.toml` can't be read; as [`read`].
pub fn unreadable() -> (Roles, Vec<String>, Vec<String>) {
    let mut roles = Roles::default();
    for name in roles.names().split(", ").filter(|name| !HARMLESS.contains(name)) {
        roles.refuse(name);
    }
    (roles, Vec::new(), vec![format!("the roles can't be read: there are only {}", HARMLESS.join(" and "))])
}

/// Where a role begins that isn't built in.
fn nothing() -> Grants {
    Grants { open: Permitted::nothing(), listen: Permitted::nothing(), ..Grants::default() }
}

/// `start` with what the entry says instead.
fn read_grants(entry: &mut Entry, start: Grants) -> Grants {
    let mut grants = start;
    let commands = entry.list("commands", command);
    if entry.has("commands") {
        grants.commands = commands;
    }
    grants.shell = entry.switch("shell").unwrap_or(grants.shell);
    grants.exec = entry.switch("exec").unwrap_or(grants.exec);
    grants.pty = entry.switch("pty").unwrap_or(grants.pty);
    grants.gateway_ports = entry.switch("gateway-ports").unwrap_or(grants.gateway_ports);
    grants.command = entry.one("command", forced).or(grants.command);
    for (key, read, permitted) in [
        ("forward-to", destination::open as fn(&str) -> _, &mut grants.open),
        ("listen-on", destination::listen, &mut grants.listen),
    ] {
        let patterns = entry.list(key, read);
        if entry.has(key) {
            *permitted = Permitted::Only(patterns);
        }
    }
    if entry.is_off("sftp") {
        entry.switch("sftp");
        grants.sftp = None;
    } else if let Some(table) = entry.table("sftp") {
        grants.sftp = files(entry, table);
    }
    if let Some(table) = entry.table("environment") {
        let (variables, wrong) = table.texts();
        wrong.into_iter().for_each(|reason| entry.pass_on(reason));
        for (name, _) in variables.iter().filter(|(name, _)| !is_variable(name)) {
            entry.problem("environment", &format!("{name:?} is no name of a variable"));
        }
        if variables.iter().any(|(_, value)| value.contains('\0')) {
            entry.problem("environment", "a NUL can't be in a variable");
        }
        grants.environment = variables;
    }
    grants
}

fn files(role: &mut Entry, mut entry: Entry) -> Option<Files> {
    let root = entry.required("root", path);
    let shown_as = entry.one("shown-as", path);
    let access = entry.one("access", |text| match text {
        "read-write" => Ok(Access::ReadWrite),
        "read-only" => Ok(Access::ReadOnly),
        "write-only" => Ok(Access::WriteOnly),
        _ => Err(format!("“{text}” is not known; write read-write, read-only or write-only")),
    });
    entry.finish().into_iter().for_each(|reason| role.pass_on(reason));
    Some(Files { root: root?, shown_as, access: access.unwrap_or_default() })
}

/// Letters, digits and some signs that mean nothing to a shell or a log.
fn name(text: &str) -> Result<String, String> {
    let good = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.');
    match !text.is_empty() && text.len() <= MAX_NAME && text.bytes().all(good) && !text.starts_with('-') {
        true => Ok(text.to_owned()),
        false => Err(format!("“{text}” can't be a role; write letters, digits, dashes and dots, at most {MAX_NAME}")),
    }
}

fn command(text: &str) -> Result<Granted, String> {
    Granted::ALL.into_iter().find(|granted| granted.name() == text).ok_or_else(|| {
        format!("“{text}” is no command that can be granted; there are {}", Granted::ALL.map(Granted::name).join(", "))
    })
}

fn forced(text: &str) -> Result<String, String> {
    match text.trim().is_empty() || text.contains('\0') {
        true => Err("there is no command".to_owned()),
        false => Ok(text.to_owned()),
    }
}

fn path(text: &str) -> Result<String, String> {
    match text.starts_with('/') && !text.contains('\0') && text.split('/').all(|part| part != "..") {
        true => Ok(text.to_owned()),
        false => Err(format!("“{text}” is no path from / on without \"..\"")),
    }
}

#[cfg(test)]
mod tests;
