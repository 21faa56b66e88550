//! Configuration: kernel command line, config file, roles, keys → one [`Config`]. Loading never fails: what can't be
//! used is replaced by a safe default and told as a problem, because the boot must go on and somebody must get in.

pub mod cmdline;
pub mod cryptdevice;
pub mod destination;
pub mod dial;
pub mod family;
pub mod file;
mod firmware;
pub mod grants;
pub mod initramfs_tools;
pub mod key;
pub mod network;
pub mod notify;
pub mod role;
pub mod role_entry;
pub mod strict_modes;

use std::fs::File;
use std::io::{ErrorKind, Read};
use std::path::Path;

use crate::root::Root;
use crate::secret::Secret;
use cmdline::CommandLine;
use file::Settings;
use notify::{BUNDLES, Notify, Trust};
use role::Roles;

pub const CONFIG_FILE: &str = "/etc/vestibule/config.toml";
pub const HOST_KEY: &str = "/etc/vestibule/ssh_host_ed25519_key";
/// A certificate for it, as `ssh-keygen -h -s` makes it; optional.
pub const HOST_CERTIFICATE: &str = "/etc/vestibule/ssh_host_ed25519_key-cert.pub";
/// The key to log in to hubs with.
pub const DIAL_KEY: &str = "/etc/vestibule/dial_ed25519_key";
/// Where authorised keys are looked for; the first that exists counts.
pub const AUTHORIZED_KEYS: [&str; 2] = ["/etc/vestibule/authorized_keys", "/root/.ssh/authorized_keys"];

/// Where the host's name stands: in an image, and on a host.
pub const HOST_NAME: [&str; 2] = ["/etc/vestibule/hostname", "/etc/hostname"];

/// Largest file that is read; anything bigger is not what it should be.
const MAX_FILE: u64 = 256 << 10;
/// The same for a bundle of authorities: Debian's has 220 KiB.
const MAX_BUNDLE: u64 = 1 << 20;

/// Everything that the daemon and the image build need to know.
pub struct Config {
    pub host: String,
    pub settings: Settings,
    pub roles: Roles,
    /// Names of roles that the configuration has a word on.
    pub configured_roles: Vec<String>,
    /// `rd.vestibule=0`
    pub disabled: bool,
    pub command_line: CommandLine,
    /// Who is told that the machine waits.
    pub recipients: Vec<Recipient>,
    /// Path and content of the file that counts; the content is empty if there is none.
    pub authorized_keys: (String, String),
    /// In OpenSSH's format; `None` when it is missing or unreadable. Not parsed here.
    pub host_key: Option<Secret>,
    /// As it stands in the file, if there is one. Not parsed here.
    pub host_certificate: Option<String>,
    /// In OpenSSH's format; only looked for where there are hubs. Not parsed here.
    pub dial_key: Option<Secret>,
    /// One sentence for each thing that is wrong.
    pub problems: Vec<String>,
}

/// An entry of `[[notify]]`, with what its files say.
pub struct Recipient {
    pub notify: Notify,
    /// Lines of the request's head that nobody else may see.
    pub headers: Secret,
    /// Certificates of authorities (PEM), where the server proves itself by one.
    pub authorities: Option<String>,
    /// The paths of these files.
    pub files: Vec<String>,
}

impl Config {
    pub fn load(root: &Root) -> Self {
        let mut problems = Vec::new();
        let mut command_line = CommandLine::parse(&kernel_command_line(root));
        if let Some(conf) = initramfs_conf(root) {
            let (translated, not_said) = initramfs_tools::translate(command_line, &conf);
            command_line = translated;
            problems.extend(not_said);
        }
        problems.extend(firmware::add(root, &mut command_line));
        let text = read(root, CONFIG_FILE);
        let (roles, configured_roles, wrong) = match &text {
            Ok(text) => role_entry::read(text.as_deref().unwrap_or_default()),
            Err(_) => role_entry::unreadable(),
        };
        problems.extend(wrong.into_iter().map(|reason| format!("{CONFIG_FILE}: {reason}")));
        let (entries, wrong) = match &text {
            Ok(text) => notify::read(text.as_deref().unwrap_or_default(), cfg!(feature = "tls")),
            Err(_) => Default::default(), // as below
        };
        let (recipients, unusable) = recipients(root, entries);
        problems.extend(wrong.into_iter().chain(unusable).map(|reason| format!("{CONFIG_FILE}: {reason}")));
        let from_file = match text.map(|text| text.map(|text| file::parse(&text))) {
            Ok(None) => Settings::default(),
            Ok(Some(Ok((settings, wrong)))) => {
                problems.extend(wrong.into_iter().map(|reason| format!("{CONFIG_FILE}: {reason}")));
                settings
            }
            Ok(Some(Err(reason))) => {
                problems.push(format!("{CONFIG_FILE}: {reason}; the defaults are used"));
                Settings::default()
            }
            Err(reason) => {
                problems.push(format!("{reason}; the defaults are used"));
                Settings::default()
            }
        };
        let (settings, ignored) = from_file.with(&command_line);
        problems.extend(ignored);
        let authorized_keys = first_of(&AUTHORIZED_KEYS, &mut problems, |path| read(root, path));
        let host_key = secret(root, HOST_KEY, &mut problems);
        let dial_key = match settings.hubs.is_empty() {
            true => None,
            false => secret(root, DIAL_KEY, &mut problems),
        };
        let host_certificate = read(root, HOST_CERTIFICATE).unwrap_or_else(|reason| {
            problems.push(reason);
            None
        });
        Self {
            host: host_name(root),
            settings,
            roles,
            configured_roles,
            disabled: !command_line.flag("rd.vestibule", true),
            command_line,
            recipients,
            authorized_keys,
            host_key,
            host_certificate,
            dial_key,
            problems,
        }
    }
}

/// The entries with the content of their files; and a sentence for each that has to do without.
fn recipients(root: &Root, entries: Vec<Notify>) -> (Vec<Recipient>, Vec<String>) {
    let (mut all, mut problems) = (Vec::new(), Vec::new());
    for notify in entries {
        let place = format!("{} ({})", notify.place, notify.url.shown());
        match recipient(root, notify) {
            Ok(recipient) => all.push(recipient),
            Err(reason) => problems.push(format!("{place}: {reason}; nobody is told by this entry")),
        }
    }
    (all, problems)
}

fn recipient(root: &Root, notify: Notify) -> Result<Recipient, String> {
    let there = |path: &str, most| match read_at_most(&root.join(path), most) {
        Ok(text) => Ok(text),
        Err(error) => Err(format!("{path} can't be read: {error}")),
    };
    let secret = |path: &Option<String>| match path {
        Some(path) => there(path, MAX_FILE).map(|text| Some(Secret::new(text.into_bytes()))),
        None => Ok(None),
    };
    let headers = notify.headers(secret(&notify.token_file)?.as_ref(), secret(&notify.headers_file)?.as_ref())?;
    let bundle =
        match &notify.trust {
            Trust::Authorities(Some(path)) => Some(path.clone()),
            Trust::Authorities(None) if notify.url.tls => {
                let bundle = BUNDLES.iter().find(|path| root.join(path).exists());
                Some(bundle.ok_or_else(|| {
                    format!("neither {} is there; name a file with ca, or pin", BUNDLES.join(" nor "))
                })?)
                .map(|path| (*path).to_owned())
            }
            _ => None,
        };
    let authorities = bundle.as_deref().map(|path| there(path, MAX_BUNDLE)).transpose()?;
    if let (Some(path), Some(text)) = (&bundle, &authorities)
        && !text.contains("-----BEGIN CERTIFICATE-----")
    {
        return Err(format!("{path} holds no certificate (PEM)"));
    }
    let files = [&notify.token_file, &notify.headers_file, &bundle].into_iter().flatten().cloned().collect();
    Ok(Recipient { notify, headers, authorities, files })
}

/// dracut's `getarg` sources in its order (dracut-lib.sh): the image's own files first, then the kernel's.
fn kernel_command_line(root: &Root) -> String {
    let mut paths = vec![root.join("/etc/cmdline")];
    let mut snippets: Vec<_> = std::fs::read_dir(root.join("/etc/cmdline.d"))
        .into_iter()
        .flatten()
        .filter_map(|entry| Some(entry.ok()?.path()))
        .filter(|path| path.extension().is_some_and(|extension| extension == "conf"))
        .collect();
    snippets.sort();
    paths.extend(snippets);
    paths.push(root.join("/proc/cmdline"));
    // A file that is not there says nothing, which is what its absence means.
    paths.iter().filter_map(|path| read_text(path).ok()).collect::<Vec<_>>().join(" ")
}

/// initramfs.conf(5) as it is in an image of initramfs-tools, with the files of `conf.d`, as its init reads them. `None`
/// anywhere else.
fn initramfs_conf(root: &Root) -> Option<String> {
    let mut text = read_text(&root.join("/conf/initramfs.conf")).ok()?;
    let entries = std::fs::read_dir(root.join("/conf/conf.d")).into_iter().flatten();
    let mut snippets: Vec<_> = entries.filter_map(|entry| Some(entry.ok()?.path())).collect();
    snippets.sort();
    for snippet in snippets.iter().filter_map(|path| read_text(path).ok()) {
        text.push('\n');
        text.push_str(&snippet);
    }
    Some(text)
}

fn secret(root: &Root, path: &str, problems: &mut Vec<String>) -> Option<Secret> {
    let text = read(root, path).unwrap_or_else(|reason| {
        problems.push(reason);
        None
    });
    text.map(|text| Secret::new(text.into_bytes()))
}

fn first_of(
    paths: &[&str],
    problems: &mut Vec<String>,
    read: impl Fn(&str) -> Result<Option<String>, String>,
) -> (String, String) {
    for path in paths {
        match read(path) {
            Ok(None) => {}
            Ok(Some(text)) => return ((*path).to_owned(), text),
            // Going on to the next file could let in somebody whom this one was meant to keep out.
            Err(reason) => {
                problems.push(reason);
                return ((*path).to_owned(), String::new());
            }
        }
    }
    (paths[0].to_owned(), String::new())
}

/// The name of this machine: what the kernel has been told, else what the image was built with (an initramfs often has
/// no /etc/hostname of its own, and its kernel is called localhost).
pub fn host_name(root: &Root) -> String {
    let kernel = nix::unistd::gethostname().ok().and_then(|name| name.into_string().ok());
    kernel
        .filter(|name| !name.is_empty() && !matches!(name.as_str(), "(none)" | "localhost"))
        .or_else(|| {
            HOST_NAME.iter().find_map(|path| read(root, path).ok().flatten()).map(|name| name.trim().to_owned())
        })
        .filter(|name| !name.is_empty())
        .unwrap_or_else(|| "localhost".to_owned())
}

/// A file's text, or `None` if it does not exist. The error names the file.
fn read(root: &Root, path: &str) -> Result<Option<String>, String> {
    match read_text(&root.join(path)) {
        Ok(text) => Ok(Some(text)),
        Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => Ok(None),
        Err(error) => Err(format!("{path} can't be read: {error}")),
    }
}

fn read_text(path: &Path) -> std::io::Result<String> {
    read_at_most(path, MAX_FILE)
}

fn read_at_most(path: &Path, most: u64) -> std::io::Result<String> {
    read_opened(File::open(path)?, most)
}

fn read_opened(file: File, most: u64) -> std::io::Result<String> {
    let mut text = String::new();
    file.take(most + 1).read_to_string(&mut text)?;
    if text.len() as u64 > most {
        return Err(std::io::Error::new(ErrorKind::InvalidData, format!("it is larger than {} KiB", most >> 10)));
    }
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::root::tests::Fixture;

    #[test]
    fn nothing_there_is_the_default() {
        let config = Config::load(&Fixture::new(&[]));
        assert_eq!(config.settings, Settings::default());
        assert!(config.problems.is_empty() && config.host_key.is_none() && !config.disabled);
    }

    #[test]
    fn a_broken_file_is_a_problem_and_not_the_end() {
        let root = Fixture::new(&[("etc/vestibule/config.toml", b"port = 22\nprot = 1\n")]);
        let config = Config::load(&root);
        assert_eq!(config.settings, Settings::default());
        assert!(
            config.problems[0].contains("config.toml: ") && config.problems[0].contains("line 2"),
            "{:?}",
            config.problems
        );
        let unreadable = Config::load(&Fixture::new(&[("etc/vestibule/config.toml", &[0xff, 0xfe, 0x00])]));
        assert_eq!((unreadable.problems.len(), unreadable.roles.names().as_str()), (2, "unlock, peek"));
    }

    #[test]
    fn roles_count_although_another_setting_is_wrong() {
        let text = b"prot = 1\n[[role]]\nname = \"root\"\nshell = false\n[[role]]\nname = \"x\"\nshel = true\n";
        let config = Config::load(&Fixture::new(&[("etc/vestibule/config.toml", text)]));
        assert!(!config.roles.find("root").unwrap().grants.shell && config.roles.find("x").is_none());
        assert!(
            config.problems[0].starts_with("/etc/vestibule/config.toml: line 7: [role] shel: "),
            "{:?}",
            config.problems
        );
    }

    #[test]
    fn who_is_told_needs_files_that_are_there() {
        let text =
            b"[[notify]]\nurl = \"http://a/secret\"\ntoken-file = \"/etc/token\"\n[[notify]]\nurl = \"http://b/\"\n";
        let config = ("etc/vestibule/config.toml", &text[..]);
        let without = Config::load(&Fixture::new(&[config]));
        assert_eq!(without.recipients.len(), 1, "the other counts");
        assert!(without.problems[0].contains("line 1: [notify] (http://a): /etc/token can't be read"));
        assert!(!without.problems[0].contains("secret"));
        let with = Config::load(&Fixture::new(&[config, ("etc/token", b"hunter2\n")]));
        assert_eq!((with.recipients.len(), with.problems), (2, Vec::new()));
        assert_eq!(with.recipients[0].headers.expose(), b"Authorization: Bearer hunter2\r\n");
        assert_eq!(with.recipients[0].files, ["/etc/token"]);
    }

    #[test]
    fn in_an_image_of_initramfs_tools_its_configuration_counts() {
        let conf = |text: &'static str| ("conf/initramfs.conf", text.as_bytes());
        let line = ("proc/cmdline", &b"quiet"[..]);
        let later = ("conf/conf.d/net", &b"IP=:::::eth1:dhcp\n"[..]);
        for (files, expected) in [
            (vec![line], None),
            (vec![line, conf("IP=off\n")], Some("off")),
            (vec![line, conf("IP=off\n"), later], Some(":::::eth1:dhcp")),
            (vec![line, later], None),
        ] {
            let config = Config::load(&Fixture::new(&files));
            assert_eq!(config.command_line.last("ip"), expected, "{files:?}");
        }
    }

    #[test]
    fn the_first_authorized_keys_file_counts_even_if_it_is_unreadable() {
        let own = ("etc/vestibule/authorized_keys", &b"own"[..]);
        let roots = ("root/.ssh/authorized_keys", &b"roots"[..]);
        assert_eq!(Config::load(&Fixture::new(&[own, roots])).authorized_keys.1, "own");
        assert_eq!(Config::load(&Fixture::new(&[roots])).authorized_keys.1, "roots");
        let broken = Config::load(&Fixture::new(&[("etc/vestibule/authorized_keys", &[0xff]), roots]));
        assert_eq!((broken.authorized_keys.1.as_str(), broken.problems.len()), ("", 1));
    }

    #[test]
    fn a_file_that_is_too_large_is_said_to_be() {
        let large = vec![b'#'; MAX_FILE as usize + 1];
        let config = Config::load(&Fixture::new(&[("etc/vestibule/authorized_keys", &large)]));
        assert!(config.problems[0].ends_with("authorized_keys can't be read: it is larger than 256 KiB"));
    }

    #[test]
    fn command_line_comes_from_the_image_and_the_kernel() {
        let root = Fixture::new(&[
            ("etc/cmdline.d/20-b.conf", b"vestibule.port=2\n"),
            ("etc/cmdline.d/10-a.conf", b"vestibule.port=1\n"),
            ("etc/cmdline.d/99.txt", b"vestibule.port=9\n"),
            ("proc/cmdline", b"quiet rd.vestibule=0\n"),
        ]);
        let config = Config::load(&root);
        assert_eq!((config.settings.port, config.disabled), (2, true));
    }
}
