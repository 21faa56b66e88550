//! `vestibule import dropbear`: takes over what dropbear-initramfs has, and says what became of each setting. It adds, and
//! replaces nothing; dropbear's own files stay.

mod dropbear;

use std::fs::{DirBuilder, OpenOptions};
use std::io::{ErrorKind, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};

use anyhow::{Context, bail};
use russh::keys::PrivateKey;
use zeroize::Zeroizing;

use super::keys;
use crate::config::{AUTHORIZED_KEYS, CONFIG_FILE, HOST_KEY, file, host_name};
use crate::root::Root;
use crate::session::ssh::authorized_keys::{self, fingerprint};
use dropbear::{Here, Settings};

/// Where dropbear-initramfs keeps its files: since Debian 12, and before. With the name of its configuration.
const PLACES: [(&str, &str); 2] = [("/etc/dropbear/initramfs", "dropbear.conf"), ("/etc/dropbear-initramfs", "config")];
/// Its authorized_keys; without it, its hook takes these public keys.
const KEY_FILES: [&str; 5] = ["authorized_keys", "id_dsa.pub", "id_rsa.pub", "id_ecdsa.pub", "id_ed25519.pub"];
/// The real system's host key, which must not be in an image that everybody who has the disk can read.
const SYSTEM_HOST_KEY: &str = "/etc/ssh/ssh_host_ed25519_key.pub";

/// What a run does, so that `--dry-run` says exactly that.
struct Import<'a> {
    root: &'a Root,
    dry: bool,
}

/// Does it, or with `dry` only says what it would do.
pub fn command(root: &Root, dry: bool) -> anyhow::Result<()> {
    let found = PLACES.iter().find(|(directory, _)| root.join(directory).is_dir());
    let Some((directory, configuration)) = found else {
        bail!("neither {} nor {} is there, so there is nothing to take over", PLACES[0].0, PLACES[1].0);
    };
    let import = Import { root, dry };
    if dry {
        println!("Nothing is changed (--dry-run); this is what would be done.\n");
    }
    let conf = import.read(&format!("{directory}/{configuration}"))?.unwrap_or_default();
    let settings = dropbear::settings(&conf);
    println!("{directory}/{configuration}:");
    for row in &settings.rows {
        println!("  {:28} {}", row.setting, in_words(&row.here));
    }
    import.port(&settings)?;
    import.host_key(directory, &settings)?;
    let usable = import.keys(directory)?;
    if usable == 0 {
        bail!("no key may log in: put one into {}", AUTHORIZED_KEYS[0]);
    }
    println!("\nNext: vestibule check, then: apt purge dropbear-initramfs && update-initramfs -u");
    Ok(())
}

fn in_words(here: &Here) -> String {
    match here {
        Here::Taken(line) => format!("config.toml: {line}"),
        Here::Already(how) => (*how).to_owned(),
        Here::Nothing(why) => format!("no equivalent: {why}"),
    }
}

impl Import<'_> {
    /// A configuration that is there is the administrator's, and is left alone.
    fn port(&self, settings: &Settings) -> anyhow::Result<()> {
        println!("\n{CONFIG_FILE}:");
        let wanted = format!("port = {}", settings.port);
        match self.read(CONFIG_FILE)? {
            None => {
                let text = format!("# As dropbear had it; without this line it is {}.\n{wanted}\n", file::DEFAULT_PORT);
                println!("  made, with {wanted}");
                self.write(CONFIG_FILE, &text, 0o600)
            }
            Some(text) if file::parse(&text).is_ok_and(|(found, _)| found.port == settings.port) => {
                println!("  stays as it is; it says {wanted}");
                Ok(())
            }
            Some(_) => {
                println!("  stays as it is; to be reached where dropbear was, set there: {wanted}");
                Ok(())
            }
        }
    }

    /// The same host key keeps every known_hosts true.
    fn host_key(&self, directory: &str, settings: &Settings) -> anyhow::Result<()> {
        println!("\n{HOST_KEY}:");
        let theirs = self.their_host_key(directory, settings)?;
        let public = if self.root.join(HOST_KEY).exists() {
            let (ours, _) = keys::ensure(self.root)?;
            match &theirs {
                Some(key) if key.public_key().key_data() == ours.key_data() => println!("  is dropbear's already"),
                _ => println!("  stays as it is; it is not dropbear's, so clients have to learn it"),
            }
            Some(ours)
        } else if let Some(key) = theirs.filter(|key| !self.is_systems_own(key)) {
            println!("  made from dropbear's ed25519 host key, so that clients know it");
            if !self.dry {
                keys::store(self.root, &key)?;
            }
            Some(key.public_key().clone())
        } else {
            println!("  will be a new one: dropbear has no ed25519 host key that could be taken");
            if self.dry { None } else { Some(keys::ensure(self.root)?.0) }
        };
        if let Some(public) = public {
            println!("  fingerprint: {}", fingerprint(&public));
            println!("  known_hosts: {}", keys::known_hosts_line(&host_name(self.root), settings.port, &public)?);
        }
        Ok(())
    }

    fn their_host_key(&self, directory: &str, settings: &Settings) -> anyhow::Result<Option<PrivateKey>> {
        let usual = [format!("{directory}/dropbear_ed25519_host_key")];
        for path in usual.iter().chain(&settings.host_keys) {
            let content = match std::fs::read(self.root.join(path)).map(Zeroizing::new) {
                Ok(content) => content,
                Err(error) if error.kind() == ErrorKind::NotFound => continue,
                Err(error) => return Err(error).with_context(|| format!("reading {path}")),
            };
            if let Some(key) = dropbear::ed25519(&content).or_else(|| keys::parse(&content).ok()) {
                return Ok(Some(key));
            }
        }
        Ok(None)
    }

    fn is_systems_own(&self, key: &PrivateKey) -> bool {
        let public = self.read(SYSTEM_HOST_KEY).ok().flatten().unwrap_or_default();
        let own = key.public_key().to_openssh().is_ok_and(|line| dropbear::has_key(&line, &public));
        if own {
            println!("  dropbear's is also the real system's ({SYSTEM_HOST_KEY}), which is no business of an image");
        }
        own
    }

    /// Adds the keys that vestibule understands; how many may log in then.
    fn keys(&self, directory: &str) -> anyhow::Result<usize> {
        let ours = AUTHORIZED_KEYS[0];
        let before = self.read(ours)?;
        println!("\n{ours}:");
        if before.is_none() && self.root.join(AUTHORIZED_KEYS[1]).exists() {
            println!("  counts from now on in place of {}", AUTHORIZED_KEYS[1]);
        }
        let mut after = before.clone().unwrap_or_default();
        if !after.is_empty() && !after.ends_with('\n') {
            after.push('\n');
        }
        for path in self.key_files(directory) {
            let text = self.read(&path)?.unwrap_or_default();
            let (_, unusable) = authorized_keys::parse(&path, &text);
            for (index, line) in text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty()) {
                let said = match unusable.iter().find(|problem| problem.admits_nobody && problem.line == index + 1) {
                    _ if line.trim_start().starts_with('#') => continue,
                    Some(problem) => format!("not taken: {}", problem.reason),
                    None if dropbear::has_key(line, &after) => "there already".to_owned(),
                    None => {
                        after += line.trim();
                        after.push('\n');
                        "added".to_owned()
                    }
                };
                println!("  {path}:{}: {said}", index + 1);
            }
        }
        let usable = authorized_keys::parse(ours, &after).0.len();
        if before.unwrap_or_default() != after {
            self.write(ours, &after, 0o600)?;
        }
        println!("  {usable} in all may log in");
        Ok(usable)
    }

    fn key_files(&self, directory: &str) -> Vec<String> {
        let there =
            KEY_FILES.iter().map(|name| format!("{directory}/{name}")).filter(|path| self.root.join(path).exists());
        let all: Vec<_> = there.collect();
        let own = |path: &String| path.ends_with(KEY_FILES[0]);
        if all.iter().any(own) { all.into_iter().filter(own).collect() } else { all }
    }

    fn read(&self, path: &str) -> anyhow::Result<Option<String>> {
        match std::fs::read_to_string(self.root.join(path)) {
            Ok(text) => Ok(Some(text)),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error).with_context(|| format!("reading {path}")),
        }
    }

    /// Under another name first: what is interrupted leaves the old file whole.
    fn write(&self, path: &str, text: &str, mode: u32) -> anyhow::Result<()> {
        if self.dry {
            return Ok(());
        }
        let path = self.root.join(path);
        let directory = path.parent().expect("the path has a directory");
        let context = || format!("writing {}", path.display());
        DirBuilder::new().recursive(true).mode(0o700).create(directory).with_context(context)?;
        let new = path.with_extension("new");
        // One that an interrupted run left may have another mode.
        match std::fs::remove_file(&new) {
            Err(error) if error.kind() != ErrorKind::NotFound => return Err(error).with_context(context),
            _ => {}
        }
        let mut file = OpenOptions::new().write(true).create_new(true).mode(mode).open(&new).with_context(context)?;
        file.write_all(text.as_bytes()).and_then(|()| file.sync_all()).with_context(context)?;
        std::fs::rename(&new, &path).with_context(context)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::root::tests::Fixture;
    use std::os::unix::fs::PermissionsExt;

    const ONE: &str = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIJdD7y3aLq454yWBdwLWbieU1ebz9/cu7/QEXn9OIeZJ me\n";
    const TWO: &str = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAINBkSP3p0a5q/rH31iWj4AGUiqg1hJLiu5D/uCgsJjwW you\n";
    const CONF: (&str, &[u8]) = ("etc/dropbear/initramfs/dropbear.conf", b"DROPBEAR_OPTIONS=\"-p 4748 -s\"\n");

    fn text(root: &Root, path: &str) -> Option<String> {
        std::fs::read_to_string(root.join(path)).ok()
    }

    #[test]
    fn everything_is_taken_once() {
        let theirs = format!("# comment\n{ONE}tunnel=\"0\" {TWO}");
        let root = Fixture::new(&[CONF, ("etc/dropbear/initramfs/authorized_keys", theirs.as_bytes())]);
        let host_key = dropbear::tests::host_key();
        root.put("etc/dropbear/initramfs/dropbear_ed25519_host_key", &host_key);
        for _ in 0..2 {
            command(&root, false).unwrap();
            assert_eq!(text(&root, AUTHORIZED_KEYS[0]).as_deref(), Some(ONE), "a restriction is not lost");
            assert_eq!(file::parse(&text(&root, CONFIG_FILE).unwrap()).unwrap().0.port, 4748);
            let (public, made) = keys::ensure(&root).unwrap();
            let wanted = dropbear::ed25519(&host_key).unwrap();
            assert!(!made && public.key_data() == wanted.public_key().key_data());
            for path in [AUTHORIZED_KEYS[0], CONFIG_FILE, HOST_KEY] {
                let mode = std::fs::metadata(root.join(path)).unwrap().permissions().mode();
                assert_eq!(mode & 0o7777, 0o600, "{path}");
            }
        }
    }

    #[test]
    fn what_is_there_stays() {
        let root = Fixture::new(&[
            CONF,
            ("etc/dropbear/initramfs/authorized_keys", format!("{TWO}{ONE}").as_bytes()),
            ("etc/vestibule/authorized_keys", ONE.trim().as_bytes()),
            ("etc/vestibule/config.toml", b"port = 22\n"),
        ]);
        let (ours, _) = keys::ensure(&root).unwrap();
        root.put("etc/dropbear/initramfs/dropbear_ed25519_host_key", &dropbear::tests::host_key());
        command(&root, false).unwrap();
        assert_eq!(text(&root, AUTHORIZED_KEYS[0]), Some(format!("{ONE}{TWO}")));
        assert_eq!(text(&root, CONFIG_FILE).as_deref(), Some("port = 22\n"));
        assert_eq!(keys::ensure(&root).unwrap(), (ours, false));
    }

    #[test]
    fn the_old_place_and_single_keys() {
        let root = Fixture::new(&[("etc/dropbear-initramfs/id_ed25519.pub", ONE.as_bytes())]);
        command(&root, false).unwrap();
        assert_eq!(text(&root, AUTHORIZED_KEYS[0]).as_deref(), Some(ONE));
        assert_eq!(file::parse(&text(&root, CONFIG_FILE).unwrap()).unwrap().0.port, 22);
    }

    #[test]
    fn the_real_systems_host_key_is_not_taken() {
        let root = Fixture::new(&[CONF, ("etc/dropbear/initramfs/authorized_keys", ONE.as_bytes())]);
        let host_key = dropbear::tests::host_key();
        let public = dropbear::ed25519(&host_key).unwrap().public_key().to_openssh().unwrap();
        root.put("etc/dropbear/initramfs/dropbear_ed25519_host_key", &host_key);
        root.put(SYSTEM_HOST_KEY, public.as_bytes());
        command(&root, false).unwrap();
        assert_ne!(keys::ensure(&root).unwrap().0.to_openssh().unwrap(), public);
    }

    #[test]
    fn a_dry_run_changes_nothing_and_nothing_to_take_is_an_error() {
        let root = Fixture::new(&[CONF, ("etc/dropbear/initramfs/authorized_keys", ONE.as_bytes())]);
        command(&root, true).unwrap();
        assert!(!root.join("/etc/vestibule").exists());
        assert!(command(&Fixture::new(&[]), false).is_err());
        let root =
            Fixture::new(&[CONF, ("etc/dropbear/initramfs/authorized_keys", b"command=\"x\" ssh-ed25519 AAAA\n")]);
        assert!(command(&root, false).unwrap_err().to_string().contains("no key may log in"));
    }
}
