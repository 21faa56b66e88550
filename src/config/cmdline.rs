//! The kernel command line, as words. Pure; what a word means is decided elsewhere.
//!
//! Quoting as in the kernel's `next_arg()` (`lib/cmdline.c`): double quotes protect white space, around the whole
//! word or around the value. `-` and `_` differ, as they do for dracut.

/// `key=value` words in order of appearance.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CommandLine(Vec<(String, Option<String>)>);

impl CommandLine {
    pub fn parse(text: &str) -> Self {
        let mut words = Vec::new();
        let mut word = String::new();
        let mut quoted = false;
        for c in text.chars().chain([' ']) {
            match c {
                '"' => quoted = !quoted,
                c if c.is_ascii_whitespace() && !quoted => {
                    if !word.is_empty() {
                        words.push(split(&std::mem::take(&mut word)));
                    }
                }
                c => word.push(c),
            }
        }
        if !word.is_empty() {
            words.push(split(&word)); // an unclosed quote runs to the end, as in the kernel
        }
        Self(words)
    }

    /// All values of `key`, in order; a word without `=` gives the empty string.
    pub fn values<'a>(&'a self, key: &'a str) -> impl Iterator<Item = &'a str> {
        self.0.iter().filter(move |(k, _)| k == key).map(|(_, v)| v.as_deref().unwrap_or(""))
    }

    /// The last value of `key`, which is the one that counts for a setting that can be given once.
    pub fn last<'a>(&'a self, key: &'a str) -> Option<&'a str> {
        self.values(key).last()
    }

    /// Leaves `key` with one value, or with none.
    pub fn set(&mut self, key: &str, value: Option<String>) {
        self.0.retain(|(k, _)| k != key);
        self.0.extend(value.map(|value| (key.to_owned(), Some(value))));
    }

    /// Adds a word at the end.
    pub fn add(&mut self, key: &str, value: String) {
        self.0.push((key.to_owned(), Some(value)));
    }

    /// dracut's `getargbool DEFAULT KEY` (dracut-lib.sh): `0`, `no` and `off` are false; anything else that is
    /// there is true.
    pub fn flag(&self, key: &str, default: bool) -> bool {
        match self.last(key) {
            None => default,
            Some(value) => !matches!(value, "0" | "no" | "off"),
        }
    }

    /// Every word, for settings with a common prefix (`vestibule.*`).
    pub fn iter(&self) -> impl Iterator<Item = (&str, Option<&str>)> {
        self.0.iter().map(|(k, v)| (k.as_str(), v.as_deref()))
    }
}

fn split(word: &str) -> (String, Option<String>) {
    match word.split_once('=') {
        Some((key, value)) => (key.to_owned(), Some(value.to_owned())),
        None => (word.to_owned(), None),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_quotes_and_flags() {
        let line = CommandLine::parse("ro ip=dhcp \"rd.x=a b\" y=\"c d\" ip=off rd.neednet=1 rd.vestibule=0 quiet\n");
        assert_eq!(line.values("ip").collect::<Vec<_>>(), ["dhcp", "off"]);
        assert_eq!(line.last("ip"), Some("off"));
        assert_eq!(line.last("rd.x"), Some("a b"));
        assert_eq!(line.last("y"), Some("c d"));
        assert_eq!(line.last("quiet"), Some(""));
        assert_eq!(line.last("nothing"), None);
        assert!(line.flag("rd.neednet", false));
        assert!(!line.flag("rd.vestibule", true));
        assert!(line.flag("rd.nothing", true));
    }
}
