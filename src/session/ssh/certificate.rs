//! User certificates (OpenSSH's PROTOCOL.certkeys): everything that the SSH library leaves to us. It checks the
//! signatures of the certificate and of its key, and the time by the machine's clock. Pure.
//!
//! As `auth_check_authkey_line()` in OpenSSH's auth2-pubkeyfile.c, and `cert_option_list()` and `sshauthopt_merge()` in
//! its auth-options.c.

use std::net::IpAddr;

use russh::keys::ssh_key::certificate::{CertType, OptionsMap};
use russh::keys::ssh_key::public::KeyData;
use russh::keys::{Algorithm, Certificate, HashAlg};

use super::authorized_keys::{Sources, check_strength};
use crate::config::grants::Narrowing;

/// Longest key identity that is logged: the authority chose it, but the console is narrow.
const MAX_IDENTITY: usize = 100;

/// The certificate itself: for a user, valid at `now` (seconds since 1970), and nothing in it or above it weak.
pub fn check(certificate: &Certificate, now: u64) -> Result<(), String> {
    if certificate.cert_type() != CertType::User {
        return Err("this is not a user's certificate".to_owned());
    }
    check_strength(certificate.public_key()).map_err(|why| format!("the certified key: {why}"))?;
    check_strength(certificate.signature_key()).map_err(|why| format!("the authority's key: {why}"))?;
    match certificate.signature().algorithm() {
        Algorithm::Rsa { hash: None } | Algorithm::Dsa | Algorithm::Other(_) => {
            return Err("the authority's signature has an algorithm that is not allowed".to_owned());
        }
        _ => {}
    }
    match now {
        now if now < certificate.valid_after() => Err("the certificate is not valid yet".to_owned()),
        now if now >= certificate.valid_before() => Err("the certificate has expired".to_owned()),
        _ => Ok(()),
    }
}

/// One of the line's principals must be in the certificate or, if the line names none, the login name. A certificate
/// without principals is good for nobody.
pub fn check_principal(certificate: &Certificate, wanted: Option<&[String]>, user: &str) -> Result<(), String> {
    let named = certificate.valid_principals();
    let fits = match wanted {
        Some(wanted) => wanted.iter().any(|name| named.contains(name)),
        None => named.iter().any(|name| name == user),
    };
    match (fits, wanted) {
        (true, _) => Ok(()),
        (false, _) if named.is_empty() => Err("the certificate lists no principal".to_owned()),
        (false, Some(_)) => Err("the certificate has none of the line's principals".to_owned()),
        (false, None) => Err(format!("{user} is not among the certificate's principals")),
    }
}

/// What the certificate takes away. Every critical option has to be understood and fulfilled; of the extensions, what
/// isn't there isn't granted, and what isn't known grants nothing.
pub fn narrowing(certificate: &Certificate, address: Option<IpAddr>) -> Result<Narrowing, String> {
    let mut narrowing = Narrowing::default();
    for (name, value) in certificate.critical_options().iter() {
        match name.as_str() {
            "force-command" if value.trim().is_empty() => return Err("its force-command is empty".to_owned()),
            "force-command" => narrowing.command = Some(value.clone()),
            "source-address" => {
                let sources = Sources::networks(value).map_err(|why| format!("its source-address: {why}"))?;
                if !sources.admits(address) {
                    return Err("the certificate is not for this address (source-address)".to_owned());
                }
            }
            "verify-required" => {
                return Err("it demands verify-required, and whether a token did so can't be seen here".to_owned());
            }
            name => return Err(format!("its critical option {name:?} is not known")),
        }
    }
    narrowing.no_pty = !permits(certificate.extensions(), "permit-pty")?;
    narrowing.no_forwarding = !permits(certificate.extensions(), "permit-port-forwarding")?;
    Ok(narrowing)
}

fn permits(extensions: &OptionsMap, name: &str) -> Result<bool, String> {
    match extensions.get(name).map(String::as_str) {
        None => Ok(false),
        Some("") => Ok(true),
        Some(_) => Err(format!("its extension {name} has a value, which has no meaning")),
    }
}

/// What the line and the certificate leave together.
pub fn both(line: &Narrowing, certificate: Narrowing) -> Result<Narrowing, String> {
    match (&line.command, &certificate.command) {
        (Some(one), Some(other)) if one != other => {
            Err("the line and the certificate force different commands".to_owned())
        }
        _ => Ok(Narrowing {
            command: line.command.clone().or(certificate.command),
            no_pty: line.no_pty || certificate.no_pty,
            no_forwarding: line.no_forwarding || certificate.no_forwarding,
            ..line.clone()
        }),
    }
}

/// The key, what stands in its certificate and, where it is known, whose that is: for the log.
pub fn described(certificate: &Certificate, authority: Option<&str>) -> String {
    let identity: String = certificate.key_id().chars().take(MAX_IDENTITY).collect();
    let fingerprint = |key: &KeyData| key.fingerprint(HashAlg::Sha256).to_string();
    let (key, authority) = (
        fingerprint(certificate.public_key()),
        authority.map_or_else(|| fingerprint(certificate.signature_key()), str::to_owned),
    );
    format!("{key} (certificate {identity:?}, serial {}, by {authority})", certificate.serial())
}

#[cfg(test)]
mod tests;
