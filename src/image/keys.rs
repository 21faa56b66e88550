//! The host key: made at the first image build, kept, and reused, so that `known_hosts` stays true.

use std::fs::{DirBuilder, OpenOptions};
use std::io::{ErrorKind, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};

use anyhow::{Context, bail};
use russh::keys::ssh_key::LineEnding;
use russh::keys::ssh_key::certificate::CertType;
use russh::keys::ssh_key::private::{Ed25519Keypair, KeypairData};
use russh::keys::{Certificate, PrivateKey, PublicKey};
use zeroize::Zeroizing;

use crate::config::{Config, HOST_KEY, host_name};
use crate::root::Root;
use crate::session::ssh::authorized_keys::fingerprint;

/// Makes the host key below `root` unless there is one, and returns its public half. A key that is there but can't be
/// read is an error and stays as it is: replacing it would make every `known_hosts` a false alarm.
pub fn ensure(root: &Root) -> anyhow::Result<(PublicKey, bool)> {
    let path = root.join(HOST_KEY);
    match std::fs::read(&path).map(Zeroizing::new) {
        Ok(text) => {
            let key = parse(&text).with_context(|| {
                format!(
                    "the host key {} can't be used; restore it, or remove it to have a new one made",
                    path.display()
                )
            })?;
            Ok((key.public_key().clone(), false))
        }
        Err(error) if error.kind() == ErrorKind::NotFound => Ok((create(root)?, true)),
        Err(error) => Err(error).with_context(|| format!("reading the host key {}", path.display())),
    }
}

/// A private host key in OpenSSH's format, as vestibule can use it: ed25519, without a passphrase.
pub fn parse(text: &[u8]) -> anyhow::Result<PrivateKey> {
    let key = PrivateKey::from_openssh(text).context("this is no private key in OpenSSH's format")?;
    if key.is_encrypted() {
        bail!("it is encrypted with a passphrase, which nobody could enter at boot");
    }
    if !matches!(key.key_data(), KeypairData::Ed25519(_)) {
        bail!("it is a {} key, and only ed25519 is supported", key.algorithm());
    }
    Ok(key)
}

/// A certificate for the host key, if it is one that the server can show. Whether it is valid now is for its clients to say.
pub fn certificate(text: &str, key: &PublicKey) -> anyhow::Result<Certificate> {
    let certificate = Certificate::from_openssh(text).context("this is no certificate in OpenSSH's format")?;
    if certificate.cert_type() != CertType::Host {
        bail!("it is a user's certificate; make one for a host: ssh-keygen -h -s CA");
    }
    if certificate.public_key() != key.key_data() {
        bail!("it is for another key than {HOST_KEY}; certify that one");
    }
    certificate.verify_signature().context("its authority's signature is wrong")?;
    Ok(certificate)
}

/// What a person copies into `~/.ssh/known_hosts` (sshd(8), "SSH_KNOWN_HOSTS FILE FORMAT").
pub fn known_hosts_line(host: &str, port: u16, key: &PublicKey) -> anyhow::Result<String> {
    let key = PublicKey::from(key.key_data().clone()).to_openssh().context("writing the public key")?;
    Ok(format!("[{host}]:{port} {key}"))
}

/// `vestibule keys`: the key is there afterwards, and its fingerprint and `known_hosts` line are printed.
pub fn command(root: &Root) -> anyhow::Result<()> {
    let (key, made) = ensure(root)?;
    let port = Config::load(root).settings.port;
    println!("{} host key {HOST_KEY}", if made { "made the" } else { "keeping the" });
    println!("fingerprint: {}", fingerprint(&key));
    println!("known_hosts: {}", known_hosts_line(&host_name(root), port, &key)?);
    Ok(())
}

fn create(root: &Root) -> anyhow::Result<PublicKey> {
    let mut seed = Zeroizing::new([0; 32]);
    let mut filled = 0;
    while filled < seed.len() {
        filled += rustix::rand::getrandom(&mut seed[filled..], rustix::rand::GetRandomFlags::empty())
            .context("getting random bytes for the host key")?;
    }
    let pair = KeypairData::Ed25519(Ed25519Keypair::from_seed(&seed));
    let key = PrivateKey::new(pair, "vestibule").context("making the host key")?;
    store(root, &key)?;
    Ok(key.public_key().clone())
}

/// Writes the host key below `root`, readable by root only.
pub fn store(root: &Root, key: &PrivateKey) -> anyhow::Result<()> {
    let text = key.to_openssh(LineEnding::LF).context("writing the host key")?;
    let path = root.join(HOST_KEY);
    let directory = path.parent().expect("the path has a directory");
    DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(directory)
        .with_context(|| format!("making {}", directory.display()))?;
    // Written under another name first: a build that is interrupted here leaves no half of a key.
    let temporary = path.with_extension("new");
    let mut file = OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(&temporary)
        .with_context(|| format!("making {}", temporary.display()))?;
    file.write_all(text.as_bytes())
        .and_then(|()| file.sync_all())
        .with_context(|| format!("writing {}", temporary.display()))?;
    std::fs::rename(&temporary, &path).with_context(|| format!("making {}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::root::tests::Fixture;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn made_once_then_kept() {
        let root = Fixture::new(&[]);
        let (first, made) = ensure(&root).unwrap();
        assert!(made);
        assert_eq!(ensure(&root).unwrap(), (first, false));
        let mode = std::fs::metadata(root.join(HOST_KEY)).unwrap().permissions().mode();
        assert_eq!(mode & 0o7777, 0o600);
    }

    #[test]
    fn a_broken_key_is_an_error_and_is_not_replaced() {
        let root = Fixture::new(&[]);
        ensure(&root).unwrap();
        std::fs::write(root.join(HOST_KEY), "garbage").unwrap();
        assert!(format!("{:#}", ensure(&root).unwrap_err()).contains("can't be used"));
        assert_eq!(std::fs::read(root.join(HOST_KEY)).unwrap(), b"garbage");
    }

    #[test]
    fn the_known_hosts_line() {
        let root = Fixture::new(&[]);
        let (key, _) = ensure(&root).unwrap();
        let line = known_hosts_line("web1", 2222, &key).unwrap();
        assert!(line.starts_with("[web1]:2222 ssh-ed25519 AAAA") && line.split(' ').count() == 3, "{line}");
    }
}
