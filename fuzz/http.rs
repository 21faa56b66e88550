//! Notifications: what servers answer, and what the configuration says of them.

use crate::config::notify;
use crate::post::response::{MAX_HEAD, Parsed, parse};

/// However an answer is cut into pieces, it means the same.
pub fn response(input: &[u8]) {
    let input = &input[..input.len().min(MAX_HEAD)];
    let mut verdict = Parsed::More;
    for end in 0..=input.len() {
        let now = parse(&input[..end]);
        assert!(verdict == Parsed::More || now == verdict, "{verdict:?}, then {now:?}");
        assert!(!matches!(now, Parsed::Code(code) if !(200..600).contains(&code)), "{now:?}");
        verdict = now;
    }
}

/// A URL leaves its line in the request to itself, whatever it is, and shows no more than it may.
pub fn recipients(text: &str) {
    let (all, _) = notify::read(text, true);
    for notify in all {
        let url = &notify.url;
        let parts = [url.target.as_str(), url.host.as_str()];
        assert!(parts.iter().all(|part| part.bytes().all(|byte| byte.is_ascii_graphic())), "{parts:?}");
        assert!(url.target.starts_with('/') && !url.host.is_empty() && url.port != 0);
        assert_eq!(url.shown().split_once("://").map(|(_, host)| host), Some(url.host.as_str()));
        notify.warnings();
    }
}
