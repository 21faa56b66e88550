//! What files say about names: hosts(5) and resolv.conf(5). Pure.

use std::net::IpAddr;

/// More are not asked, as in every resolver (`MAXNS` of resolv.h), which leaves time for each.
const SERVERS: usize = 3;
/// Likewise for domains (`MAXDNSRCH`).
const DOMAINS: usize = 6;

/// Servers and domains to ask with.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Names {
    pub servers: Vec<IpAddr>,
    pub search: Vec<String>,
}

impl Names {
    /// Adds what a resolv.conf(5) says. What is there already goes first. Options are not heeded.
    pub fn add(&mut self, text: &str) {
        for line in text.lines() {
            let mut words = line.split_ascii_whitespace();
            match words.next() {
                // A server on one link alone (`%eth0`) is none for us.
                Some("nameserver") => self.servers.extend(words.next().and_then(|word| word.parse::<IpAddr>().ok())),
                Some("search" | "domain") => {
                    self.search.extend(words.map(|word| word.trim_end_matches('.').to_owned()));
                }
                _ => {}
            }
        }
        self.trim();
    }

    /// The same with those of another.
    pub fn extend(&mut self, more: &Self) {
        self.servers.extend(&more.servers);
        self.search.extend(more.search.iter().cloned());
        self.trim();
    }

    fn trim(&mut self) {
        let mut seen = Vec::new();
        self.servers.retain(|it| {
            !seen.contains(it) && {
                seen.push(*it);
                true
            }
        });
        let mut seen = Vec::new();
        self.search.retain(|it| {
            !seen.contains(it) && {
                seen.push(it.clone());
                true
            }
        });
        self.servers.truncate(SERVERS);
        self.search.truncate(DOMAINS);
    }

    /// The names that may be meant, in this order. One with a dot is whole, and only one without is searched for.
    pub fn candidates(&self, name: &str) -> Vec<String> {
        match name.strip_suffix('.') {
            Some(whole) => vec![whole.to_owned()],
            None if name.contains('.') => vec![name.to_owned()],
            None => self.search.iter().map(|domain| format!("{name}.{domain}")).chain([name.to_owned()]).collect(),
        }
    }
}

/// The addresses of a name in a hosts(5) file.
pub fn hosts(text: &str, name: &str) -> Vec<IpAddr> {
    let line = |line: &str| {
        let mut words = line.split('#').next().unwrap_or_default().split_ascii_whitespace();
        let address = words.next()?.parse().ok()?;
        words.any(|word| word.eq_ignore_ascii_case(name)).then_some(address)
    };
    text.lines().filter_map(line).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both() {
        let mut names = Names::default();
        names.add(
            "# x\nnameserver 192.0.2.53\nnameserver fe80::1%eth0\nsearch lab.example b.example.\noptions ndots:9\n",
        );
        names.add("nameserver 192.0.2.53\nnameserver 2001:db8::53\nnameserver 192.0.2.1\nnameserver 192.0.2.2\n");
        assert_eq!(
            names.servers.iter().map(ToString::to_string).collect::<Vec<_>>(),
            ["192.0.2.53", "2001:db8::53", "192.0.2.1"]
        );
        assert_eq!(names.candidates("box"), ["box.lab.example", "box.b.example", "box"]);
        assert_eq!(names.candidates("box.example"), ["box.example"]);
        assert_eq!(names.candidates("box."), ["box"]);
        let text = "127.0.0.1 localhost # box\n192.0.2.7\tother Box\n2001:db8::7 box\n";
        assert_eq!(hosts(text, "box").len(), 2);
        assert_eq!(hosts(text, "nobody"), [] as [IpAddr; 0]);
    }
}
