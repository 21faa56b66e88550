//! What a program finds in its environment: what is here and nothing else, in particular nothing of the daemon's own. Pure.

use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt;

/// Where programs are looked for, after the places in the daemon's own `PATH`.
const PLACES: [&str; 4] = ["/usr/sbin", "/usr/bin", "/sbin", "/bin"];
/// What a client may set by itself, beside everything that begins with `LC_`: what says how to write for people, as in the
/// sshd_config of the distributions. The first is set by the session.
const FROM_CLIENT: [&str; 5] = ["SSH_ORIGINAL_COMMAND", "LANG", "LANGUAGE", "COLORTERM", "NO_COLOR"];

/// What is known about a program and its machine.
pub struct Facts<'a> {
    /// The daemon's.
    pub path: Option<OsString>,
    pub home: OsString,
    pub shell: OsString,
    pub terminal: Option<&'a str>,
}

/// In this order, the later ones counting: our own, the client's, those of the role and the key.
pub fn make(facts: Facts, client: &[(String, Vec<u8>)], granted: &[(String, String)]) -> Vec<(OsString, OsString)> {
    let mut variables: Vec<(OsString, OsString)> = vec![
        ("PATH".into(), path(facts.path)),
        ("HOME".into(), facts.home),
        ("SHELL".into(), facts.shell),
        // Whatever the role is called, programs run as root.
        ("USER".into(), "root".into()),
        ("LOGNAME".into(), "root".into()),
    ];
    variables.extend(facts.terminal.map(|name| ("TERM".into(), name.into())));
    let from_client = client.iter().filter(|(name, _)| FROM_CLIENT.contains(&&**name) || name.starts_with("LC_"));
    let from_client = from_client.map(|(name, value)| (name, value.clone()));
    let granted = granted.iter().map(|(name, value)| (name, value.clone().into_bytes()));
    for (name, value) in from_client.chain(granted).filter(|(name, value)| is_name(name) && !value.contains(&0)) {
        variables.push((name.into(), OsString::from_vec(value)));
    }
    variables
}

/// The daemon's, completed: systemd gives its services one without `/sbin`.
fn path(own: Option<OsString>) -> OsString {
    let own = own.and_then(|path| path.into_string().ok()).unwrap_or_default();
    let mut places: Vec<&str> = own.split(':').filter(|place| place.starts_with('/')).collect();
    for place in PLACES {
        if !places.contains(&place) {
            places.push(place);
        }
    }
    places.join(":").into()
}

fn is_name(name: &str) -> bool {
    !name.starts_with(|c: char| c.is_ascii_digit())
        && !name.is_empty()
        && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_')
}
