//! The private key to log in with, from a person's file.

use std::fs::File;
use std::io::Read;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use russh::keys::PrivateKey;
use zeroize::Zeroizing;

/// Longest file of a key, in bytes. An RSA key of 16 Kibit has 12 KiB.
const MAX_KEY: u64 = 64 << 10;

/// The key in that file, else in `~/.ssh/id_ed25519`. As for ssh, one that others can read is no secret, and refused.
pub fn read(file: Option<&Path>) -> anyhow::Result<PrivateKey> {
    let path = match file {
        Some(file) => file.to_owned(),
        None => match std::env::var_os("HOME") {
            Some(home) => PathBuf::from(home).join(".ssh/id_ed25519"),
            None => bail!("there is no key to log in with: give one with --identity"),
        },
    };
    let key = of(&path).with_context(|| format!("the key {} can't be used", path.display()))?;
    if key.is_encrypted() || key.algorithm().is_rsa() {
        bail!(
            "the key {} has a passphrase or is an RSA key; make one for this purpose alone: ssh-keygen -t ed25519 -N ''",
            path.display()
        );
    }
    Ok(key)
}

fn of(path: &Path) -> anyhow::Result<PrivateKey> {
    let file = File::open(path)?;
    let about = file.metadata()?;
    // As ssh does: of another's file (systemd's credentials), others' bits are that owner's affair.
    if about.uid() == nix::unistd::geteuid().as_raw() && about.mode() & 0o077 != 0 {
        bail!("others may read it; type: chmod 600 {}", path.display());
    }
    let mut text = Zeroizing::new(Vec::new());
    file.take(MAX_KEY).read_to_end(&mut text)?;
    PrivateKey::from_openssh(&*text).context("this is no private key in OpenSSH's format")
}
