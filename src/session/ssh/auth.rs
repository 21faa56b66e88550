//! Who gets in: login name and key → role, or a reason why not. Pure.

use russh::keys::{Algorithm, PublicKey};

use super::authorized_keys::{AuthorizedKey, fingerprint};
use crate::config::grants::Narrowing;
use crate::config::role::Roles;

/// An admitted user.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Admission {
    /// The role's name.
    pub role: String,
    /// Fingerprint and comment, for the log.
    pub key: String,
    pub narrowing: Narrowing,
}

/// Decides on a login name and a key. The caller has the key's signature verified, or asks only whether it would do.
/// `algorithm` is the signature algorithm that the client named.
pub fn decide(
    keys: &[AuthorizedKey],
    roles: &Roles,
    user: &str,
    (key, algorithm): (&PublicKey, &Algorithm),
) -> Result<Admission, String> {
    let role = roles.find(user).ok_or_else(|| format!("no such role; the login name is one of {}", roles.names()))?;
    if matches!(algorithm, Algorithm::Rsa { hash: None } | Algorithm::Dsa | Algorithm::Other(_)) {
        return Err("signature algorithm not allowed".to_owned());
    }
    let line = keys.iter().find(|line| line.key.key_data() == key.key_data()).ok_or("key not authorized")?;
    Ok(Admission {
        role: role.name.clone(),
        key: format!("{} {}", fingerprint(&line.key), line.comment).trim_end().to_owned(),
        narrowing: line.narrowing.clone(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::session::ssh::authorized_keys::parse;
    use russh::keys::ssh_key::private::{Ed25519Keypair, KeypairData};
    use russh::keys::{HashAlg, PrivateKey};

    fn key(seed: u8) -> PublicKey {
        let pair = Ed25519Keypair::from_seed(&[seed; 32]);
        PrivateKey::new(KeypairData::Ed25519(pair), "").unwrap().public_key().clone()
    }

    #[test]
    fn only_a_listed_key_with_a_role_for_name_gets_in() {
        let (keys, _) = parse("f", &format!("no-pty {} laptop", key(1).to_openssh().unwrap()));
        let ed = Algorithm::Ed25519;
        let roles = Roles::default();
        let admitted = decide(&keys, &roles, "unlock", (&key(1), &ed)).unwrap();
        assert_eq!((admitted.role.as_str(), admitted.narrowing.no_pty), ("unlock", true));
        assert!(admitted.key.starts_with("SHA256:") && admitted.key.ends_with(" laptop"));
        for (user, key, algorithm) in [
            ("unlock", key(2), ed.clone()),
            ("nobody", key(1), ed.clone()),
            ("", key(1), ed),
            ("root", key(1), Algorithm::Rsa { hash: None }),
        ] {
            assert!(decide(&keys, &roles, user, (&key, &algorithm)).is_err(), "{user} {algorithm:?}");
        }
        let sha2 = Algorithm::Rsa { hash: Some(HashAlg::Sha256) };
        assert!(decide(&[], &roles, "root", (&key(1), &sha2)).is_err());
    }
}
