//! The options of a key's line, one by one, as `sshauthopt_parse()` in OpenSSH's auth-options.c takes them. Pure.
//!
//! Whatever would be granted and can't be, or is demanded and can't be checked, makes the line useless; what only takes
//! something away that nobody has here is fine.

use super::from::Sources;
use super::time;
use crate::config::destination;
use crate::config::grants::{Narrowing, is_variable};

/// What the options of a line say.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Options {
    pub narrowing: Narrowing,
    pub from: Option<Sources>,
    /// Seconds since 1970 after which the line counts no more.
    pub expires: Option<u64>,
    pub authority: bool,
    /// One of these must be in the certificate; `None`: the login name.
    pub principals: Option<Vec<String>>,
    /// The roles that it is for; `None`: for all.
    pub roles: Option<Vec<String>>,
    /// What has no effect, in words.
    pub without_effect: Vec<String>,
}

impl Options {
    /// Reads the options of a line; empty if there are none.
    pub fn parse(text: &str) -> Result<Self, String> {
        let mut options = Self::default();
        for option in split(text)? {
            match option.split_once('=') {
                Some((name, value)) => options.value(&name.to_ascii_lowercase(), value)?,
                None => options.flag(&option)?,
            }
        }
        options.check()
    }

    fn flag(&mut self, option: &str) -> Result<(), String> {
        let narrowing = &mut self.narrowing;
        match option.to_ascii_lowercase().as_str() {
            "restrict" => (narrowing.no_pty, narrowing.no_forwarding) = (true, true),
            "no-pty" => narrowing.no_pty = true,
            "pty" => narrowing.no_pty = false,
            "no-port-forwarding" => narrowing.no_forwarding = true,
            "port-forwarding" => narrowing.no_forwarding = false,
            "cert-authority" => self.authority = true,
            "once" => narrowing.once = true,
            // Nothing of this is to be had here anyway, or nothing of this is demanded.
            "no-agent-forwarding" | "no-x11-forwarding" | "no-user-rc" => {}
            "no-touch-required" | "no-verify-required" => {}
            "agent-forwarding" | "x11-forwarding" | "user-rc" => {
                return Err(format!("{option}: there is nothing of this kind here; leave the option out"));
            }
            "verify-required" | "touch-required" => {
                return Err(format!("{option}: whether a token did so can't be seen here, so it can't be demanded"));
            }
            _ => return Err(format!("the option {option:?} is not known")),
        }
        Ok(())
    }

    fn value(&mut self, name: &str, value: &str) -> Result<(), String> {
        match name {
            "command" | "principals" | "roles" | "from" | "expiry-time" | "environment" => {}
            "permitopen" | "permitlisten" => {}
            "tunnel" => return Err("tunnel=: there are no tunnel devices here".to_owned()),
            _ => return Err(format!("the option \"{name}=\" is not known")),
        }
        let value = dequote(value).map_err(|why| format!("{name}= {why}"))?;
        let of = |why: String| format!("{name}=: {why}");
        match name {
            "command" if value.trim().is_empty() => return Err("command= is empty".to_owned()),
            "command" => set_once(&mut self.narrowing.command, value, name)?,
            "principals" => set_once(&mut self.principals, names(&value).map_err(of)?, name)?,
            "roles" => set_once(&mut self.roles, names(&value).map_err(of)?, name)?,
            "from" => {
                let (sources, names) = Sources::parse(&value)?;
                set_once(&mut self.from, sources, name)?;
                let without = |name| format!("from={name:?} matches nobody: host names can't be looked up here");
                self.without_effect.extend(names.iter().map(without));
            }
            "expiry-time" => {
                let time = time::parse(&value).map_err(of)?;
                self.expires = Some(self.expires.map_or(time, |earlier| earlier.min(time)));
            }
            "environment" => {
                let variable = variable(&value).map_err(of)?;
                let environment = &mut self.narrowing.environment;
                if !environment.iter().any(|(other, _)| *other == variable.0) {
                    environment.push(variable); // of several, sshd takes the first
                }
            }
            "permitopen" => {
                self.narrowing.open.get_or_insert_default().push(destination::open(&value).map_err(of)?);
            }
            _ => self.narrowing.listen.get_or_insert_default().push(destination::listen(&value).map_err(of)?),
        }
        Ok(())
    }

    fn check(self) -> Result<Self, String> {
        match self {
            Self { authority: false, principals: Some(_), .. } => Err("principals= without cert-authority".to_owned()),
            Self { authority: true, narrowing: Narrowing { once: true, .. }, .. } => {
                Err("once is for a key, and can't be said of an authority's certificates".to_owned())
            }
            good => Ok(good),
        }
    }
}

fn set_once<T>(place: &mut Option<T>, value: T, name: &str) -> Result<(), String> {
    match place.replace(value) {
        None => Ok(()),
        Some(_) => Err(format!("{name}= stands there twice")),
    }
}

fn names(list: &str) -> Result<Vec<String>, String> {
    let names: Vec<_> = list.split(',').map(str::to_owned).collect();
    match names.iter().any(String::is_empty) {
        true => Err("a name in the list is empty".to_owned()),
        false => Ok(names),
    }
}

fn variable(text: &str) -> Result<(String, String), String> {
    let (name, value) = text.split_once('=').ok_or_else(|| format!("{text:?} is not NAME=value"))?;
    match is_variable(name) {
        true => Ok((name.to_owned(), value.to_owned())),
        false => Err(format!("{name:?} is no name of a variable")),
    }
}

/// At the first white space outside double quotes (`sshkey_advance_past_options()` in OpenSSH's misc.c): the options, and
/// what follows.
pub fn split_off(line: &str) -> Result<(&str, &str), String> {
    match ends(line, &[' ', '\t'])? {
        Some(at) => Ok((&line[..at], line[at..].trim_start_matches([' ', '\t']))),
        None => Ok((line, "")),
    }
}

/// The options of a line, split at commas outside quotes.
fn split(mut options: &str) -> Result<Vec<String>, String> {
    let mut split = Vec::new();
    while !options.is_empty() {
        let at = ends(options, &[','])?;
        split.push(options[..at.unwrap_or(options.len())].to_owned());
        options = at.map_or("", |at| &options[at + 1..]);
        if at.is_some() && options.is_empty() {
            split.push(String::new());
        }
    }
    match split.iter().any(String::is_empty) {
        true => Err("an option is empty (two commas, or one at the end)".to_owned()),
        false => Ok(split),
    }
}

/// Where one of these stands first, outside quotes. Everywhere, `\"` is no quote.
fn ends(text: &str, stops: &[char]) -> Result<Option<usize>, String> {
    let mut quoted = false;
    let mut escaped = false;
    for (at, c) in text.char_indices() {
        match c {
            '"' if !escaped => quoted = !quoted,
            c if !quoted && stops.contains(&c) => return Ok(Some(at)),
            _ => {}
        }
        escaped = c == '\\';
    }
    match quoted {
        true => Err("a double quote is not closed".to_owned()),
        false => Ok(None),
    }
}

/// What stands between the quotes. `\"` is a quote, and any other backslash is one (`opt_dequote()` in OpenSSH's misc.c).
fn dequote(value: &str) -> Result<String, &'static str> {
    let inside = value.strip_prefix('"').ok_or("is not followed by a double quote")?;
    let mut text = String::new();
    let mut chars = inside.chars().peekable();
    while let Some(c) = chars.next() {
        match c {
            '"' if chars.peek().is_some() => return Err("goes on after its closing quote"),
            '"' => return Ok(text),
            '\\' if chars.next_if_eq(&'"').is_some() => text.push('"'),
            c => text.push(c),
        }
    }
    Err("has no closing quote")
}
