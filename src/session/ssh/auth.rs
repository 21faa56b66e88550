//! Who gets in: login name, key or certificate, address and time → role, or a reason why not. Pure.

use std::net::IpAddr;

use russh::keys::{Algorithm, Certificate, PublicKey};

use super::authorized_keys::{AuthorizedKey, fingerprint};
use super::certificate;
use crate::config::grants::{Grants, Narrowing};
use crate::config::role::{Role, Roles};

/// What all attempts of one connection are judged by.
pub struct Policy {
    pub keys: Vec<AuthorizedKey>,
    pub roles: Roles,
    /// Where the peer is; `None` if that can't be told, and then no line with `from=` counts.
    pub address: Option<IpAddr>,
    /// Seconds since 1970. It is never earlier than this, whatever the clock says: then the image was made.
    pub built: u64,
}

/// An admitted user.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Admission {
    /// The role's name.
    pub role: String,
    /// Fingerprint and comment, for the log; with a certificate, also what stands in it.
    pub key: String,
    pub narrowing: Narrowing,
    /// What is left of the role.
    pub grants: Grants,
}

impl Policy {
    /// Whether a signature by this key is worth asking for. A certificate is offered like a plain key (russh tells only
    /// its key), so where a line names an authority, any key may be that of a certificate.
    ///
    /// `now` is in seconds since 1970. `algorithm` is the signature algorithm that the client named.
    pub fn offer(&self, user: &str, key: (&PublicKey, &Algorithm), now: u64) -> Result<(), String> {
        match self.key(user, key, now) {
            Err(_) if self.keys.iter().any(|line| line.authority.is_some()) => {
                self.role(user)?;
                check_algorithm(key.1)
            }
            plain => plain.map(drop),
        }
    }

    /// Decides on a login name and a key whose signature is verified.
    pub fn key(&self, user: &str, (key, algorithm): (&PublicKey, &Algorithm), now: u64) -> Result<Admission, String> {
        let role = self.role(user)?;
        check_algorithm(algorithm)?;
        let lines = self.keys.iter().filter(|line| line.authority.is_none() && line.key.key_data() == key.key_data());
        self.first(lines, now, |line| {
            check_role(line, role)?;
            admit(role, described(line), line.narrowing.clone())
        })
    }

    /// Decides on a login name and a certificate. The caller has the certificate's signature verified, and that of its
    /// key.
    pub fn certificate(&self, user: &str, certificate: &Certificate, now: u64) -> Result<Admission, String> {
        let role = self.role(user)?;
        let lines = self.keys.iter().filter(|line| line.key.key_data() == certificate.signature_key());
        let authorities = lines.filter_map(|line| Some((line, line.authority.as_ref()?.principals.as_deref())));
        let judge = |line: &AuthorizedKey, principals| {
            check_role(line, role)?;
            certificate::check(certificate, now.max(self.built))?;
            certificate::check_principal(certificate, principals, user)?;
            let narrowing = certificate::narrowing(certificate, self.address)?;
            let narrowing = certificate::both(&line.narrowing, narrowing)?;
            admit(role, certificate::described(certificate, Some(&described(line))), narrowing)
        };
        let mut refused = None;
        for (line, principals) in authorities {
            match self.first(std::iter::once(line), now, |line| judge(line, principals)) {
                Err(why) => refused = Some(why),
                admitted => return admitted,
            }
        }
        let why = refused.unwrap_or_else(|| "the certificate is by nobody who is known here".to_owned());
        Err(format!("{why}: {}", certificate::described(certificate, None)))
    }

    fn role(&self, user: &str) -> Result<&Role, String> {
        self.roles.find(user).ok_or_else(|| self.roles.refusal(user))
    }

    /// By the first line that admits, as sshd does; else why the last one doesn't.
    fn first<'a>(
        &self,
        lines: impl Iterator<Item = &'a AuthorizedKey>,
        now: u64,
        judge: impl Fn(&'a AuthorizedKey) -> Result<Admission, String>,
    ) -> Result<Admission, String> {
        let now = now.max(self.built);
        let mut refused = "key not authorized".to_owned();
        for line in lines {
            let verdict = if line.expires.is_some_and(|expires| expires < now) {
                Err(format!("line {} has expired (expiry-time=)", line.line))
            } else if line.from.as_ref().is_some_and(|from| !from.admits(self.address)) {
                Err(format!("line {} is not for this address (from=)", line.line))
            } else {
                judge(line)
            };
            match verdict {
                Err(why) => refused = why,
                admitted => return admitted,
            }
        }
        Err(refused)
    }
}

fn check_role(line: &AuthorizedKey, role: &Role) -> Result<(), String> {
    match &line.roles {
        Some(roles) if !roles.contains(&role.name) => Err(format!("line {} is not for this role (roles=)", line.line)),
        _ => Ok(()),
    }
}

fn admit(role: &Role, key: String, narrowing: Narrowing) -> Result<Admission, String> {
    match (&role.grants.command, &narrowing.command) {
        // Neither is narrower than the other.
        (Some(one), Some(other)) if one != other => {
            Err(format!("the role {} has a command of its own, and the key's line forces another", role.name))
        }
        _ => {
            let grants = role.grants.clone().narrowed_by(&narrowing);
            Ok(Admission { role: role.name.clone(), key, narrowing, grants })
        }
    }
}

fn check_algorithm(algorithm: &Algorithm) -> Result<(), String> {
    match algorithm {
        Algorithm::Rsa { hash: None } | Algorithm::Dsa | Algorithm::Other(_) => {
            Err("signature algorithm not allowed".to_owned())
        }
        _ => Ok(()),
    }
}

fn described(line: &AuthorizedKey) -> String {
    format!("{} {}", fingerprint(&line.key), line.comment).trim_end().to_owned()
}

#[cfg(test)]
mod tests;
