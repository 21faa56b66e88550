//! The host key: made at the first image build, kept, and reused, so that `known_hosts` stays true. And the key with which
//! the machine logs in to its hubs, where it has any.

use std::fs::{DirBuilder, File, OpenOptions};
use std::io::{ErrorKind, Read, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};

use anyhow::{Context, bail};
use russh::keys::ssh_key::LineEnding;
use russh::keys::ssh_key::certificate::CertType;
use russh::keys::ssh_key::private::{Ed25519Keypair, KeypairData};
use russh::keys::{Certificate, HashAlg, PrivateKey, PublicKey};
use rustix::io::Errno;
use zeroize::Zeroizing;

use crate::config::dial::Dial;
use crate::config::{Config, DIAL_KEY, HOST_KEY, host_name};
use crate::root::Root;
use crate::session::ssh::authorized_keys::fingerprint;

/// Makes the host key below `root` unless there is one, and returns its public half. A key that is there but can't be
/// read is an error and stays as it is: replacing it would make every `known_hosts` a false alarm.
pub fn ensure(root: &Root) -> anyhow::Result<(PublicKey, bool)> {
    ensure_at(root, HOST_KEY)
}

fn ensure_at(root: &Root, place: &str) -> anyhow::Result<(PublicKey, bool)> {
    let path = root.join(place);
    match std::fs::read(&path).map(Zeroizing::new) {
        Ok(text) => {
            let key = parse(&text).with_context(|| {
                format!("the key {} can't be used; restore it, or remove it to have a new one made", path.display())
            })?;
            Ok((key.public_key().clone(), false))
        }
        Err(error) if error.kind() == ErrorKind::NotFound => Ok((create(root, place)?, true)),
        Err(error) => Err(error).with_context(|| format!("reading the key {}", path.display())),
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

/// `vestibule keys`: the key is there afterwards, and its fingerprint and `known_hosts` line are printed. Without a `port`,
/// it is the configured one.
pub fn command(root: &Root, port: Option<u16>) -> anyhow::Result<()> {
    let (key, made) = ensure(root)?;
    let config = Config::load(root);
    for problem in problems(&config) {
        eprintln!("{problem}");
    }
    let settings = config.settings;
    println!("{} host key {HOST_KEY}", if made { "made the" } else { "keeping the" });
    println!("fingerprint: {}", fingerprint(&key));
    println!("known_hosts: {}", known_hosts_line(&host_name(root), port.unwrap_or(settings.port), &key)?);
    if !settings.hubs.is_empty() {
        let (dialling, made) = ensure_at(root, DIAL_KEY)?;
        println!("{} key to log in to hubs with {DIAL_KEY}", if made { "made the" } else { "keeping the" });
        for hub in &settings.hubs {
            println!("authorized_keys of {}: {}", hub.hub(), hub_line(root, hub, &key, &dialling)?);
        }
    }
    Ok(())
}

/// What is wrong with the configuration, which may be why a hub is missing here. What is wrong with the key for hubs is told
/// where that is made.
fn problems(config: &Config) -> impl Iterator<Item = &String> {
    config.problems.iter().filter(|problem| !problem.contains(DIAL_KEY))
}

/// What the hub's administrator puts into that account's authorized_keys.
fn hub_line(root: &Root, hub: &Dial, host: &PublicKey, dialling: &PublicKey) -> anyhow::Result<String> {
    let key = PublicKey::from(dialling.key_data().clone()).to_openssh().context("writing the public key")?;
    Ok(format!("{} {key} {}", hub.key_options(machine_number(host)), host_name(root)))
}

/// What `listen = "from-machine"` goes by: SHA-256 of the public host key, as in its fingerprint.
pub fn machine_number(host: &PublicKey) -> [u8; 32] {
    host.fingerprint(HashAlg::Sha256).sha256().expect("it was asked for by this")
}

/// Of a private ed25519 key (RFC 8032), in bytes.
const SEED: usize = 32;

fn create(root: &Root, place: &str) -> anyhow::Result<PublicKey> {
    let mut seed = Zeroizing::new([0; SEED]);
    let mut filled = 0;
    while filled < seed.len() {
        filled += match rustix::rand::getrandom(&mut seed[filled..], rustix::rand::GetRandomFlags::empty()) {
            // Before Linux 3.17: phones, which have been up for long enough when people come to this.
            Err(Errno::NOSYS) => File::open("/dev/urandom")
                .and_then(|mut device| device.read_exact(&mut seed[filled..]))
                .map(|()| SEED - filled),
            read => read.map_err(Into::into),
        }
        .context("getting random bytes for a key")?;
    }
    let pair = KeypairData::Ed25519(Ed25519Keypair::from_seed(&seed));
    let key = PrivateKey::new(pair, "vestibule").context("making a key")?;
    store_at(root, place, &key)?;
    Ok(key.public_key().clone())
}

/// Writes the host key below `root`, readable by root only.
pub fn store(root: &Root, key: &PrivateKey) -> anyhow::Result<()> {
    store_at(root, HOST_KEY, key)
}

fn store_at(root: &Root, place: &str, key: &PrivateKey) -> anyhow::Result<()> {
    let text = key.to_openssh(LineEnding::LF).context("writing a key")?;
    let path = root.join(place);
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
    use crate::config::dial::Machine;
    use crate::dial::Listen;
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
    fn the_line_for_the_hub_is_for_the_port_that_is_asked_for() {
        let root = Fixture::new(&[]);
        let (host, _) = ensure(&root).unwrap();
        let config = format!(
            "[[dial]]\nhub = \"box@hub\"\nhost-key = \"{}\"\nlisten = \"from-machine\"\n",
            host.to_openssh().unwrap()
        );
        root.put("etc/vestibule/config.toml", config.as_bytes());
        assert_eq!(problems(&Config::load(&root)).next(), None, "the key that is missing is made");
        command(&root, None).unwrap();
        let (dialling, made) = ensure_at(&root, DIAL_KEY).unwrap();
        assert!(!made && dialling.key_data() != host.key_data());
        let hub = &Config::load(&root).settings.hubs[0];
        let machine = Machine { name: "x", key: machine_number(&host) };
        let Ok(Listen::Port { port, .. }) = hub.listen(&machine, [192, 0, 2, 1].into()) else { panic!("no port") };
        let line = hub_line(&root, hub, &host, &dialling).unwrap();
        assert!(line.contains(&format!("permitlisten=\"localhost:{port}\"")), "{line}");
    }

    #[test]
    fn mistakes_of_the_configuration_are_told() {
        let root = Fixture::new(&[("etc/vestibule/config.toml", b"[[dial]]\nhub = \"box\"\n")]);
        ensure(&root).unwrap();
        let config = Config::load(&root);
        let told: Vec<_> = problems(&config).collect();
        assert!(told.len() == 1 && told[0].contains("missing field `host-key`"), "{told:?}");
    }

    #[test]
    fn the_known_hosts_line() {
        let root = Fixture::new(&[]);
        let (key, _) = ensure(&root).unwrap();
        let line = known_hosts_line("web1", 2222, &key).unwrap();
        assert!(line.starts_with("[web1]:2222 ssh-ed25519 AAAA") && line.split(' ').count() == 3, "{line}");
    }
}
