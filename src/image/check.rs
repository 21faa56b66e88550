//! `vestibule check`: would somebody get in with what stands on this host? Run at every image build, so that nobody
//! builds an image that locks them out.

use std::time::SystemTime;

use anyhow::bail;

use super::keys;
use crate::config::grants::Permitted;
use crate::config::network::NetworkConfig;
use crate::config::role::Role;
use crate::config::{AUTHORIZED_KEYS, CONFIG_FILE, Config, DIAL_KEY, HOST_CERTIFICATE, HOST_KEY, HOST_NAME};
use crate::root::Root;
use crate::session::ssh::authorized_keys;

/// Has systemd start the daemon before anything looks for a key that is fed. Source and destination.
const EARLY: (&str, &str) =
    ("/usr/lib/vestibule/keys.conf", "/usr/lib/systemd/system/vestibule.service.d/10-keys.conf");

/// For vsock(7) in a guest of QEMU and its like: the family, and the way over virtio. udev loads the second.
const VSOCK_MODULES: [&str; 2] = ["vsock", "vmw_vsock_virtio_transport"];

/// What was found.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Findings {
    pub keys: usize,
    /// Reasons not to build the image.
    pub errors: Vec<String>,
    pub warnings: Vec<String>,
    /// What will be done with the network, line by line; the first says where that stands.
    pub network: Vec<String>,
}

pub fn check(root: &Root) -> Findings {
    let config = Config::load(root);
    let mut found = Findings { errors: config.problems, ..Findings::default() };
    let (path, text) = &config.authorized_keys;
    let (authorized, problems) = authorized_keys::parse(path, text);
    let (unusable, partly): (Vec<_>, Vec<_>) = problems.iter().partition(|problem| problem.admits_nobody);
    found.errors.extend(unusable.iter().map(ToString::to_string));
    found.warnings.extend(partly.iter().map(ToString::to_string));
    let now = SystemTime::UNIX_EPOCH.elapsed().map_or(0, |time| time.as_secs());
    for key in authorized.iter().filter(|key| key.expires.is_some_and(|expires| expires < now)) {
        found.warnings.push(format!("{path}:{}: its expiry-time has passed", key.line));
    }
    found.keys = authorized.len();
    if authorized.is_empty() {
        let message = format!("no key may log in: put one into {} or {}", AUTHORIZED_KEYS[0], AUTHORIZED_KEYS[1]);
        let list = if config.settings.allow_no_keys { &mut found.warnings } else { &mut found.errors };
        list.push(message);
    }
    match config.host_key.map(|key| keys::parse(key.expose())) {
        None => found.errors.push(format!("there is no host key {HOST_KEY}: run \"vestibule keys\"")),
        Some(Err(error)) => found.errors.push(format!("{HOST_KEY}: {error:#}")),
        Some(Ok(key)) => {
            let certificate = config.host_certificate.map(|text| keys::certificate(&text, key.public_key()));
            match certificate {
                Some(Err(error)) => found.errors.push(format!("{HOST_CERTIFICATE}: {error:#}")),
                Some(Ok(certificate)) if certificate.valid_before() <= now => {
                    found.warnings.push(format!("{HOST_CERTIFICATE} has expired; clients look at the key alone"));
                }
                Some(Ok(_)) | None => {}
            }
        }
    }
    if !config.settings.hubs.is_empty() {
        match config.dial_key.map(|key| keys::parse(key.expose())) {
            None => {
                found.errors.push(format!("there is no key {DIAL_KEY} to log in to hubs with: run \"vestibule keys\""))
            }
            Some(Err(error)) => found.errors.push(format!("{DIAL_KEY}: {error:#}")),
            Some(Ok(_)) => {}
        }
    }
    let role = |name: &String| config.roles.find(name);
    for Role { name, grants } in config.configured_roles.iter().filter_map(role) {
        if grants.is_nothing() {
            found.warnings.push(format!("the role {name} may do nothing; see {CONFIG_FILE}"));
        }
        if grants.gateway_ports && grants.listen == Permitted::nothing() {
            found.warnings.push(format!("the role {name} has gateway-ports, but may not listen anywhere (listen-on)"));
        }
    }
    found.warnings.extend(config.recipients.iter().flat_map(|recipient| recipient.notify.warnings()));
    let (network, warnings) = NetworkConfig::choose(&config.command_line, config.settings.configured.as_ref());
    found.warnings.extend(warnings);
    found.network.push(match (config.settings.network, &config.settings.configured) {
        (false, _) => "vestibule leaves the network to others".to_owned(),
        (true, _) if NetworkConfig::is_on(&config.command_line) => {
            "network, as on the kernel command line of this boot:".to_owned()
        }
        (true, Some(_)) => format!("network, as in {CONFIG_FILE}:"),
        (true, None) => "network, as nothing is said about it:".to_owned(),
    });
    if config.settings.network {
        found.network.extend(network.lines().iter().map(|line| format!("  {line}")));
    }
    found
}

/// Prints what was found; an error if an image must not be built.
pub fn command(root: &Root) -> anyhow::Result<()> {
    let found = check(root);
    found.network.iter().for_each(|line| println!("{line}"));
    for warning in &found.warnings {
        eprintln!("vestibule: warning: {warning}");
    }
    for error in &found.errors {
        eprintln!("vestibule: error: {error}");
    }
    match found.errors.len() {
        0 => {
            println!(
                "{} may log in",
                if found.keys == 1 { "1 key".to_owned() } else { format!("{} keys", found.keys) }
            );
            Ok(())
        }
        1 => bail!("there is an error in the configuration, no image should be built with it"),
        n => bail!("there are {n} errors in the configuration, no image should be built with it"),
    }
}

/// `vestibule check --files`: what the image needs, one `source<TAB>destination` per line.
pub fn print_files(root: &Root) {
    let config = Config::load(root);
    let of_recipients = config.recipients.iter().flat_map(|recipient| &recipient.files);
    for (source, destination) in [
        (CONFIG_FILE, CONFIG_FILE),
        (&config.authorized_keys.0, AUTHORIZED_KEYS[0]),
        (HOST_KEY, HOST_KEY),
        (HOST_CERTIFICATE, HOST_CERTIFICATE),
        (HOST_NAME[1], HOST_NAME[0]),
    ]
    .into_iter()
    .chain((!config.settings.keys.is_empty()).then_some(EARLY))
    .chain((!config.settings.hubs.is_empty()).then_some((DIAL_KEY, DIAL_KEY)))
    .chain(of_recipients.map(|path| (path.as_str(), path.as_str())))
    {
        let source = root.join(source);
        if source.exists() {
            println!("{}\t{destination}", source.display());
        }
    }
}

/// `vestibule check --modules`: the kernel modules that the configuration makes necessary, one per line. A kernel may have
/// them built in, or not at all.
pub fn print_modules(root: &Root) {
    modules(root).iter().for_each(|module| println!("{module}"));
}

fn modules(root: &Root) -> &'static [&'static str] {
    if Config::load(root).settings.vsock_port().is_some() { &VSOCK_MODULES } else { &[] }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::root::tests::Fixture;

    const KEY: &str = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIJdD7y3aLq454yWBdwLWbieU1ebz9/cu7/QEXn9OIeZJ me\n";

    fn host(authorized: &str, config: &str) -> Fixture {
        let root = Fixture::new(&[]);
        keys::ensure(&root).unwrap();
        root.put(AUTHORIZED_KEYS[0], authorized.as_bytes());
        root.put(CONFIG_FILE, config.as_bytes());
        root
    }

    #[test]
    fn a_good_host_passes() {
        let found = check(&host(KEY, "port = 22\n"));
        let network = ["network, as nothing is said about it:", "  every Ethernet interface: DHCP"];
        let network = network.map(str::to_owned).to_vec();
        assert_eq!(found, Findings { keys: 1, network, ..Findings::default() });
    }

    #[test]
    fn the_network_is_told() {
        let eth1 = "[[network.interface]]\nname = \"eth1\"\naddress = \"192.0.2.7/24\"\n";
        let root = host(KEY, eth1);
        let told = |root| check(root).network.join("\n");
        assert_eq!(told(&root), "network, as in /etc/vestibule/config.toml:\n  eth1: 192.0.2.7/24");
        root.put("/proc/cmdline", b"ip=eth0:dhcp");
        assert_eq!(told(&root), "network, as on the kernel command line of this boot:\n  eth0: DHCP");
        root.put("/proc/cmdline", b"vestibule.network=0");
        assert_eq!(told(&root), "vestibule leaves the network to others");
        root.put(CONFIG_FILE, format!("{eth1}gatway = 1\n").as_bytes());
        assert_eq!(check(&root).errors.len(), 1);
        assert!(check(&root).errors[0].contains("config.toml: line 4: [network.interface] gatway"));
    }

    #[test]
    fn what_would_lock_people_out_is_an_error() {
        for (name, authorized, config, expected) in [
            ("nokeys", "# none\n", "", "no key may log in"),
            ("badline", &format!("{KEY}from=\"x\" {KEY}"), "", "authorized_keys:2: from= has only host names"),
            ("badconfig", KEY, "prot = 1\n", "config.toml: "),
        ] {
            let found = check(&host(authorized, config));
            assert!(found.errors.iter().any(|error| error.contains(expected)), "{name}: {found:?}");
        }
        let root = host(KEY, "");
        std::fs::write(root.join(HOST_KEY), "garbage").unwrap();
        assert!(check(&root).errors[0].contains("OpenSSH's format"));
    }

    #[test]
    fn what_has_no_effect_is_a_warning() {
        let found = check(&host(&format!("expiry-time=\"20200101\" {KEY}from=\"home.example.com,10.*\" {KEY}"), ""));
        assert_eq!((found.keys, found.errors.len(), found.warnings.len()), (2, 0, 2), "{found:?}");
        assert!(
            found.warnings.iter().any(|warning| warning.ends_with("authorized_keys:1: its expiry-time has passed"))
        );
    }

    #[test]
    fn roles_are_looked_at() {
        let role = |lines: &str| check(&host(KEY, &format!("[[role]]\nname = \"x\"\n{lines}\n")));
        assert_eq!(role("commands = [\"status\"]").warnings, [""; 0]);
        assert!(role("").warnings[0].contains("the role x may do nothing"));
        assert!(role("shell = true\ngateway-ports = true").warnings[0].contains("may not listen"));
        let wrong = role("shel = true");
        assert!(wrong.errors[0].contains("config.toml: line 3: [role] shel") && wrong.errors.len() == 1, "{wrong:?}");
    }

    #[test]
    fn who_dials_has_a_key_for_it() {
        let hub = |key: &str| format!("[[dial]]\nhub = \"box@hub\"\nlisten = 20022\nhost-key = \"{key}\"\n");
        let root = host(KEY, &hub(KEY.trim_end_matches(" me\n")));
        assert!(check(&root).errors[0].contains("dial_ed25519_key"), "{:?}", check(&root).errors);
        keys::command(&root, None).unwrap();
        assert_eq!(check(&root).errors, [""; 0]);
        root.put(CONFIG_FILE, hub("any").as_bytes());
        assert!(check(&root).errors[0].contains("is no host key"), "{:?}", check(&root).errors);
    }

    #[test]
    fn modules_come_with_what_needs_them() {
        let with = |config| modules(&host(KEY, config)).join(" ");
        assert_eq!(with("port = 22"), "");
        assert_eq!(with("vsock = true"), "vsock vmw_vsock_virtio_transport");
        assert_eq!(with("vsock = 2222"), "vsock vmw_vsock_virtio_transport");
        let root = host(KEY, "");
        root.put("/proc/cmdline", b"vestibule.vsock=1");
        assert_eq!(modules(&root).len(), 2, "also where the kernel command line says so");
    }

    #[test]
    fn notifications_are_looked_at() {
        let entry = |lines: &str| check(&host(KEY, &format!("[[notify]]\n{lines}\n")));
        assert_eq!(entry("url = \"http://a/secret\"").warnings, [""; 0]);
        let useless = entry("url = \"http://a/secret\"\non = []").warnings;
        assert!(useless[0].contains("nothing is sent") && !useless[0].contains("secret"), "{useless:?}");
        let https = entry("url = \"https://a/\"").errors;
        let expected = if cfg!(feature = "tls") { "name a file with ca" } else { "built without TLS" };
        assert!(https.len() == 1 && https[0].contains(expected), "{https:?}");
    }

    #[test]
    fn no_keys_can_be_allowed() {
        let found = check(&host("", "allow-no-keys = true\n"));
        assert_eq!((found.errors.len(), found.warnings.len()), (0, 1));
    }
}
