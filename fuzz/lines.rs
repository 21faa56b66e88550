//! authorized_keys: what is understood can be written down, and means the same then.

use crate::session::ssh::authorized_keys::{AuthorizedKey, parse, written};

/// 10000-01-01, which has no four digits for its year.
const TOO_LATE: u64 = 253_402_300_800;

pub fn authorized_keys(input: &[u8]) {
    let text = String::from_utf8_lossy(input);
    let (keys, problems) = parse("file", &text);
    let lines = text.lines().filter(|line| !line.trim_matches([' ', '\t', '\r']).is_empty()).count();
    let admits_nobody = problems.iter().filter(|problem| problem.admits_nobody).count();
    assert!(keys.len() + admits_nobody <= lines, "each line is one or the other");
    for key in keys.into_iter().filter(|key| key.expires.is_none_or(|time| time < TOO_LATE)) {
        let line = written::line(&key);
        let (again, problems) = parse("file", &line);
        let key = AuthorizedKey { line: 1, ..key };
        assert_eq!((again, problems.as_slice()), (vec![key], &[][..]), "{line}");
        let space = if line.starts_with("s") || line.starts_with("ecdsa") { ' ' } else { ',' }; // with a key's type, or options
        let (none, problems) = parse("file", &format!("no-such-option{space}{line}"));
        assert!(none.is_empty() && problems.len() == 1, "{line}");
    }
}
