//! Keys as lines, for round trips.

use super::AuthorizedKey;
use super::from::Sources;
use crate::config::grants::Pattern;

/// A line that says what `key` says.
pub fn line(key: &AuthorizedKey) -> String {
    let narrowing = &key.narrowing;
    let mut options = Vec::new();
    let flags = [
        (narrowing.no_pty, "no-pty"),
        (narrowing.no_forwarding, "no-port-forwarding"),
        (narrowing.once, "once"),
        (key.authority.is_some(), "cert-authority"),
    ];
    options.extend(flags.iter().filter(|(set, _)| *set).map(|(_, name)| (*name).to_owned()));
    let principals = key.authority.as_ref().and_then(|authority| authority.principals.as_ref());
    let values = [
        ("command", narrowing.command.clone()),
        ("from", key.from.as_ref().map(Sources::written)),
        ("expiry-time", key.expires.map(time)),
        ("principals", principals.map(|names| names.join(","))),
        ("roles", key.roles.as_ref().map(|names| names.join(","))),
    ];
    options.extend(values.iter().filter_map(|(name, value)| Some(quoted(name, value.as_ref()?))));
    options.extend(narrowing.environment.iter().map(|(name, value)| quoted("environment", &format!("{name}={value}"))));
    options.extend(narrowing.open.iter().flatten().map(|to| quoted("permitopen", &destination(to))));
    options.extend(narrowing.listen.iter().flatten().map(|on| quoted("permitlisten", &destination(on))));
    let space = if options.is_empty() { "" } else { " " };
    format!("{}{space}{} {}", options.join(","), key.key.to_openssh().unwrap(), key.comment)
}

fn quoted(name: &str, value: &str) -> String {
    format!("{name}=\"{}\"", value.replace('"', "\\\""))
}

fn destination(pattern: &Pattern) -> String {
    match pattern {
        Pattern::Unix(path) => path.clone(),
        Pattern::Tcp { host, port } => {
            let host = host.as_deref().unwrap_or("*");
            let host = if host.contains([':', '[', ']']) { format!("[{host}]") } else { host.to_owned() };
            format!("{host}:{}", port.map_or("*".to_owned(), |port| port.to_string()))
        }
    }
}

fn time(seconds: u64) -> String {
    let (mut days, of_day, mut year) = (seconds / 86_400, seconds % 86_400, 1970);
    let is_leap = |year: u64| year.is_multiple_of(4) && (!year.is_multiple_of(100) || year.is_multiple_of(400));
    while days >= 365 + u64::from(is_leap(year)) {
        days -= 365 + u64::from(is_leap(year));
        year += 1;
    }
    let months = [31, 28 + u64::from(is_leap(year)), 31, 30, 31, 30, 31, 31, 30, 31, 30, 31];
    let mut month = 0;
    while days >= months[month] {
        days -= months[month];
        month += 1;
    }
    let month = month + 1;
    format!("{year:04}{month:02}{:02}{:02}{:02}{:02}Z", days + 1, of_day / 3600, of_day / 60 % 60, of_day % 60)
}
