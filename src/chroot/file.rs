//! `/etc/vestibule/chroots/NAME.toml`: its text, read into a [`Definition`] or the line that is wrong. Pure.

use std::collections::{BTreeMap, HashSet};
use std::net::IpAddr;
use std::path::{Component, Path, PathBuf};

use serde::de::value::MapAccessDeserializer;
use serde::de::{MapAccess, Visitor};
use serde::{Deserialize, Deserializer};

use super::definition::{
    DEFAULT_PORT, DEFAULT_STOP_SECONDS, Definition, LogTo, Mount, ResolvConf, SSH, Service, Ssh, What, is_name,
    standard_mounts,
};
use super::options;

/// Nobody waits longer than that for a service.
const MAX_STOP_SECONDS: u64 = 600;
/// More than anybody writes, and few enough to look through at each step.
const MAX_MOUNTS: usize = 64;
const MAX_SERVICES: usize = 32;
/// When a log is moved away, by default. The old one stays, so twice that is used.
const DEFAULT_ROTATE_MEGABYTES: u64 = 20;
/// A terabyte: what is more was meant as bytes.
const MAX_ROTATE_MEGABYTES: u64 = 1 << 20;
const MEGABYTE: u64 = 1_000_000;

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
struct Written {
    root: PathBuf,
    #[serde(default)]
    private: bool,
    #[serde(default = "yes")]
    standard_mounts: bool,
    #[serde(default, rename = "mount")]
    mounts: Vec<Mount>,
    #[serde(default, rename = "service")]
    services: Vec<Service>,
    #[serde(default, deserialize_with = "switch_or_section")]
    ssh: Option<Option<Ssh>>,
    #[serde(default)]
    resolv_conf: ResolvConf,
    #[serde(default)]
    log: WrittenLog,
    #[serde(default)]
    environment: BTreeMap<String, String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub(super) struct WrittenMount {
    source: Option<String>,
    target: PathBuf,
    #[serde(rename = "type")]
    kind: Option<String>,
    #[serde(default)]
    options: String,
    #[serde(default)]
    optional: bool,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub(super) struct WrittenService {
    name: String,
    command: Vec<String>,
    #[serde(default = "superuser")]
    user: String,
    #[serde(default)]
    groups: Vec<String>,
    #[serde(default)]
    environment: BTreeMap<String, String>,
    #[serde(default = "stop_seconds")]
    stop_seconds: u64,
}

#[derive(Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
struct WrittenSsh {
    port: u16,
    listen: Vec<IpAddr>,
}

#[derive(Default, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
struct WrittenLog {
    file: Option<PathBuf>,
    rotate_megabytes: Option<u64>,
}

/// Reads the file's text. The error names the line and what is wrong there.
pub fn parse(text: &str) -> Result<Definition, String> {
    let written: Written = toml::from_str(text).map_err(|error| {
        let line = 1 + error.span().map_or(0, |span| text[..span.start].matches('\n').count());
        format!("line {line}: {}", error.message())
    })?;
    let Written { root, private, standard_mounts, mounts, services, ssh, resolv_conf, log, environment } = written;
    if !is_clean(&root) {
        return Err(format!("root: {} must be an absolute path without “..”", root.display()));
    }
    if mounts.len() > MAX_MOUNTS || services.len() > MAX_SERVICES {
        return Err(format!("at most {MAX_MOUNTS} [[mount]] and {MAX_SERVICES} [[service]]"));
    }
    if let Some(twice) = twice(mounts.iter().map(|mount| mount.target.as_path())) {
        return Err(format!("two [[mount]] have the target {}", twice.display()));
    }
    if let Some(twice) = twice(services.iter().map(|service| &service.name)) {
        return Err(format!("two [[service]] have the name {twice}"));
    }
    let ssh = ssh.unwrap_or_else(|| services.is_empty().then(Ssh::default));
    Ok(Definition {
        root,
        private,
        mounts: with_standard(standard_mounts, mounts),
        ssh,
        services,
        resolv_conf,
        log: log.read()?,
        environment: variables(environment).map_err(|why| format!("environment: {why}"))?,
    })
}

/// One that has the target of a standard mount takes its place.
fn with_standard(wanted: bool, own: Vec<Mount>) -> Vec<Mount> {
    let mut mounts = if wanted { standard_mounts() } else { Vec::new() };
    for mount in own {
        match mounts.iter_mut().find(|standard| standard.target == mount.target) {
            Some(standard) => *standard = mount,
            None => mounts.push(mount),
        }
    }
    mounts
}

impl TryFrom<WrittenMount> for Mount {
    type Error = String;

    fn try_from(written: WrittenMount) -> Result<Self, String> {
        let WrittenMount { source, target, kind, options, optional } = written;
        if !is_clean(&target) || target == Path::new("/") {
            return Err(format!("target: {} must be an absolute path in the chroot, without “..”", target.display()));
        }
        let what = match (kind.as_deref(), source) {
            (None | Some("bind"), Some(source)) if is_clean(Path::new(&source)) => What::Bind(source.into()),
            (None | Some("bind"), source) => {
                let source = source.unwrap_or_default();
                return Err(format!(
                    "source: {source:?} must be an absolute path outside of the chroot, without “..”; for a new file system, \
                     such as a tmpfs, write its type"
                ));
            }
            (Some(""), _) => return Err("type: it is empty; for a directory of outside leave it away".to_owned()),
            (Some(kind), source) => {
                What::New { kind: kind.to_owned(), source: source.unwrap_or_else(|| kind.to_owned()) }
            }
        };
        options::parse(&options, matches!(what, What::Bind(_))).map_err(|why| format!("options: {why}"))?;
        let What::New { kind, source } = &what else { return Ok(Self { what, target, options, optional }) };
        if [kind, source, &options].iter().any(|text| text.contains('\0')) {
            return Err("type, source and options can't have a NUL byte".to_owned());
        }
        Ok(Self { what, target, options, optional })
    }
}

impl TryFrom<WrittenService> for Service {
    type Error = String;

    fn try_from(written: WrittenService) -> Result<Self, String> {
        let WrittenService { name, command, user, groups, environment, stop_seconds } = written;
        if !is_name(&name) {
            return Err(format!("name: {name:?} must be letters, digits and -_. alone"));
        }
        if name == SSH {
            return Err(format!("name: “{SSH}” is vestibule's own server; call this one sshd, or else"));
        }
        if !command.first().is_some_and(|program| program.starts_with('/')) {
            return Err(format!("command of {name}: the first must be a program's absolute path in the chroot"));
        }
        if command.iter().chain([&user]).chain(&groups).any(|word| word.contains('\0')) || user.is_empty() {
            return Err(format!("{name}: command, user and groups can't have a NUL byte, and user can't be empty"));
        }
        if !(1..=MAX_STOP_SECONDS).contains(&stop_seconds) {
            return Err(format!("stop-seconds of {name} must be from 1 to {MAX_STOP_SECONDS}"));
        }
        let environment = variables(environment).map_err(|why| format!("environment of {name}: {why}"))?;
        Ok(Self { name, command, user, groups, environment, stop_seconds })
    }
}

impl WrittenLog {
    fn read(self) -> Result<LogTo, String> {
        let Self { file, rotate_megabytes } = self;
        let Some(path) = file else {
            return match rotate_megabytes {
                None => Ok(LogTo::System),
                Some(_) => Err("log: rotate-megabytes is for a file, and there is none".to_owned()),
            };
        };
        if !is_clean(&path) || path == Path::new("/") {
            return Err(format!("log: file: {} must be an absolute path of outside, without “..”", path.display()));
        }
        let megabytes = rotate_megabytes.unwrap_or(DEFAULT_ROTATE_MEGABYTES);
        if !(1..=MAX_ROTATE_MEGABYTES).contains(&megabytes) {
            return Err(format!("log: rotate-megabytes must be from 1 to {MAX_ROTATE_MEGABYTES}"));
        }
        Ok(LogTo::File { path, rotate_at: megabytes * MEGABYTE })
    }
}

impl Default for WrittenSsh {
    fn default() -> Self {
        Self { port: DEFAULT_PORT, listen: Vec::new() }
    }
}

/// `ssh = false`, `ssh = true` or a section.
fn switch_or_section<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Option<Ssh>>, D::Error> {
    struct SwitchOrSection;
    impl<'de> Visitor<'de> for SwitchOrSection {
        type Value = Option<Ssh>;

        fn expecting(&self, f: &mut std::fmt::Formatter) -> std::fmt::Result {
            f.write_str("true, false or a section [ssh]")
        }

        fn visit_bool<E>(self, wanted: bool) -> Result<Option<Ssh>, E> {
            Ok(wanted.then(Ssh::default))
        }

        fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Option<Ssh>, A::Error> {
            let WrittenSsh { port, listen } = WrittenSsh::deserialize(MapAccessDeserializer::new(map))?;
            match port {
                0 => Err(serde::de::Error::custom("port must be from 1 to 65535")),
                _ => Ok(Some(Ssh { port, listen })),
            }
        }
    }
    deserializer.deserialize_any(SwitchOrSection).map(Some)
}

/// They go to processes as `NAME=value` (environ(7)).
fn variables(written: BTreeMap<String, String>) -> Result<Vec<(String, String)>, String> {
    match written.iter().find(|(name, value)| name.is_empty() || name.contains(['=', '\0']) || value.contains('\0')) {
        Some((name, _)) => Err(format!("{name:?} is no name of a variable, or its value has a NUL byte")),
        None => Ok(written.into_iter().collect()),
    }
}

fn is_clean(path: &Path) -> bool {
    let plain = |component| matches!(component, Component::RootDir | Component::Normal(_));
    path.is_absolute() && path.components().all(plain) && !path.to_string_lossy().contains(char::is_control)
}

fn twice<T: Copy + std::hash::Hash + Eq>(mut all: impl Iterator<Item = T>) -> Option<T> {
    let mut seen = HashSet::new();
    all.find(|one| !seen.insert(*one))
}

fn yes() -> bool {
    true
}

fn superuser() -> String {
    "root".to_owned()
}

fn stop_seconds() -> u64 {
    DEFAULT_STOP_SECONDS
}

#[cfg(test)]
mod tests {
    use super::*;

    const EXAMPLE: &str = include_str!("../../chroot.example.toml");

    #[test]
    fn the_shipped_example_says_the_defaults() {
        let expected = Definition::of("/data/local/debian".into());
        assert_eq!(parse(EXAMPLE), Ok(expected.clone()));
        let settings: String = EXAMPLE
            .lines()
            .map(|line| line.strip_prefix('#').filter(|rest| !rest.starts_with(' ')).unwrap_or(line))
            .map(|line| format!("{line}\n"))
            .collect();
        assert_eq!(parse(&settings), Ok(expected), "the commented settings are the defaults");
        assert_eq!(settings.lines().filter(|line| line.contains(" = ") && !line.starts_with('#')).count(), 4);
    }

    #[test]
    fn all_of_the_shipped_example_is_understood() {
        let is_setting =
            |line: &&str| line.starts_with("# [") || line.starts_with("# ") && line.split(' ').nth(2) == Some("=");
        let lines = EXAMPLE.lines().filter(is_setting).map(|line| format!("{}\n", &line[2..]));
        let text = format!("root = \"/r\"\n{}", lines.collect::<String>());
        let definition = parse(&text).unwrap();
        let pair = |name: &str, value: &str| (name.to_owned(), value.to_owned());
        let bound = Mount {
            what: What::Bind("/data/media/0".into()),
            target: "/mnt/storage".into(),
            options: "nosuid,nodev".to_owned(),
            optional: true,
        };
        assert_eq!(definition.mounts.len(), 8);
        assert_eq!(definition.mounts[6], bound);
        assert_eq!(definition.mounts[7].what, What::New { kind: "tmpfs".to_owned(), source: "tmpfs".to_owned() });
        let listen = vec!["192.0.2.7".parse().unwrap(), "::1".parse().unwrap()];
        assert_eq!(definition.ssh, Some(Ssh { port: 2222, listen }));
        assert_eq!(definition.environment, [pair("LANG", "C.UTF-8")]);
        let sshd = Service {
            name: "sshd".to_owned(),
            command: ["/usr/sbin/sshd", "-D", "-e"].map(str::to_owned).to_vec(),
            user: "root".to_owned(),
            groups: vec!["audio".to_owned()],
            environment: vec![pair("LANG", "C")],
            stop_seconds: 10,
        };
        assert_eq!(definition.services, [sshd]);
        let log = LogTo::File { path: "/data/local/debian.log".into(), rotate_at: 20_000_000 };
        assert_eq!(definition.log, log);
    }

    #[test]
    fn what_is_left_away() {
        let of = |text: &str| parse(&format!("root = \"/r\"\n{text}")).unwrap();
        let service = "[[service]]\nname = \"a\"\ncommand = [\"/bin/a\"]\n";
        assert_eq!(of(service).ssh, None, "whoever has a service chooses");
        assert_eq!(of(&format!("{service}[ssh]\nport = 22")).ssh, Some(Ssh { port: 22, listen: Vec::new() }));
        assert_eq!(of(&format!("ssh = true\n{service}")).ssh, Some(Ssh::default()));
        assert_eq!((of("").ssh, of("ssh = false").ssh), (Some(Ssh::default()), None));
        assert_eq!((of(service).services[0].user.as_str(), of(service).services[0].stop_seconds), ("root", 10));
        assert_eq!(of("standard-mounts = false").mounts, []);
        let own = of("[[mount]]\ntype = \"tmpfs\"\ntarget = \"/tmp\"\noptions = \"size=1m\"").mounts;
        assert_eq!((own.len(), &*own[4].options), (6, "size=1m"), "in the place of the standard one");
    }

    #[test]
    fn mistakes_are_told_with_their_line() {
        let mount = |text: &str| format!("root = \"/r\"\n[[mount]]\n{text}");
        let service = |text: &str| format!("root = \"/r\"\n[[service]]\nname = \"a\"\n{text}");
        for (text, expected) in [
            ("", "line 1: missing field `root`"),
            ("root = \"r\"", "root: r must be an absolute path"),
            ("root = \"/r/../s\"", "root: /r/../s must be an absolute path without “..”"),
            ("root = \"/r\"\nprivat = true", "line 2: unknown field `privat`"),
            ("root = \"/r\"\nssh = 22", "line 2: invalid type: integer `22`, expected true, false or a section [ssh]"),
            ("root = \"/r\"\n[ssh]\nhost = 1", "unknown field `host`"),
            ("root = \"/r\"\n[ssh]\nport = 0", "port must be from 1 to 65535"),
            ("root = \"/r\"\nresolv-conf = \"x\"", "line 2: unknown variant `x`"),
            ("root = \"/r\"\nlog.rotate-megabytes = 1", "log: rotate-megabytes is for a file"),
            ("root = \"/r\"\nlog = { file = \"/l\", rotate-megabytes = 0 }", "log: rotate-megabytes must be from 1"),
            ("root = \"/r\"\nlog.file = \"l\"", "log: file: l must be an absolute path"),
            ("root = \"/r\"\nenvironment = { \"A=B\" = \"\" }", "environment: \"A=B\" is no name"),
            (&mount("target = \"/x\""), "line 2: source: \"\" must be an absolute path"),
            (&mount("target = \"/x\"\nsource = \"x\""), "line 2: source: \"x\" must be an absolute path"),
            (&mount("target = \"/\"\nsource = \"/x\""), "line 2: target: / must be an absolute path in the chroot"),
            (&mount("target = \"/a/../..\"\nsource = \"/x\""), "line 2: target: /a/../.. must be"),
            (&mount("target = \"/a\"\nsource = \"/x\"\noptions = \"size=1\""), "line 2: options: size=1 is for new"),
            (&mount("target = \"/a\"\ntype = \"\""), "line 2: type: it is empty"),
            (
                &(mount("target = \"/a\"\ntype = \"b\"\n") + "[[mount]]\ntarget = \"/a\"\ntype = \"b\""),
                "two [[mount]] have the target /a",
            ),
            (&service("command = [\"sshd\"]"), "line 2: command of a: the first must be a program's absolute path"),
            (&service("command = [\"/a\"]\nstop-seconds = 0"), "line 2: stop-seconds of a must be from 1 to 600"),
            (&service("command = [\"/a\\u0000\"]"), "line 2: a: command, user and groups can't have a NUL byte"),
            (
                "root = \"/r\"\n[[service]]\nname = \"ssh\"\ncommand = [\"/a\"]",
                "line 2: name: “ssh” is vestibule's own",
            ),
            ("root = \"/r\"\n[[service]]\nname = \"a/b\"\ncommand = [\"/a\"]", "line 2: name: \"a/b\" must be letters"),
            (
                &(service("command = [\"/a\"]\n") + "[[service]]\nname = \"a\"\ncommand = [\"/a\"]"),
                "two [[service]] have the name a",
            ),
        ] {
            let said = parse(text).expect_err(text);
            assert!(said.contains(expected), "{text}\n{said}");
        }
    }
}
