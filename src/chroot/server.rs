//! Our SSH server inside: `vestibule serve --stdio --system` on sockets that are bound outside, so that nothing need be
//! installed in the chroot. What belongs to it (keys, who may log in) is in the chroot. And what an sshd of the chroot's own
//! lacks before its first start.
//!
//! The server's sessions, and programs for sftp, are the same binary: it starts itself from /proc, which is mounted inside.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::path::Path;
use std::process::Command;

use anyhow::Context;
use rustix::fs::fstat;
use rustix::io::{Errno, FdFlags, fcntl_setfd};
use rustix::net::{AddressFamily, SocketType, bind, listen as listen_on, socket, sockopt};

use super::definition::{Service, Ssh};
use super::inside::Entering;
use super::place::Place;
use crate::config::{AUTHORIZED_KEYS, strict_modes};
use crate::session::ssh::authorized_keys;

/// Inside as well: the kernel knows which file it is, wherever that is.
const OURSELVES: &str = "/proc/self/exe";
const USER: &str = "root";
/// As in `daemon/listener/socket.rs`: connections that the kernel holds until they are accepted.
const BACKLOG: i32 = 512;
/// authorized_keys as `config` reads it, in bytes.
const MAX_KEYS: usize = 256 << 10;
/// Where an sshd(8) has its configuration and keys.
const SSHD_DIRECTORY: &str = "/etc/ssh";
/// Debian's sshd insists on it, and /run is empty at each start (`PRIVSEP_PATH`; systemd's unit makes it there).
const SSHD_RUN: &str = "/run/sshd";

/// Listens where the definition says; on one socket for all of IPv6 and IPv4 if it says nothing. Programs that are started
/// inherit the sockets, and `chroot-launch` keeps them from all but the one that they are for.
pub fn listen(ssh: &Ssh) -> anyhow::Result<Vec<OwnedFd>> {
    if ssh.listen.is_empty() {
        let all = (IpAddr::V6(Ipv6Addr::UNSPECIFIED), false);
        let bound = match socket_on(all.0, ssh.port, all.1) {
            // A kernel without IPv6, or one where it is switched off.
            Err(Errno::AFNOSUPPORT | Errno::ADDRNOTAVAIL) => socket_on(Ipv4Addr::UNSPECIFIED.into(), ssh.port, false),
            bound => bound,
        };
        return Ok(vec![bound.map_err(|error| explain(error, None, ssh.port))?]);
    }
    let bound = ssh
        .listen
        .iter()
        .map(|address| socket_on(*address, ssh.port, true).map_err(|error| explain(error, Some(address), ssh.port)));
    bound.collect()
}

fn socket_on(address: IpAddr, port: u16, v6_only: bool) -> Result<OwnedFd, Errno> {
    let family = if address.is_ipv6() { AddressFamily::INET6 } else { AddressFamily::INET };
    let bound = socket(family, SocketType::STREAM, None)?;
    if address.is_ipv6() {
        sockopt::set_ipv6_v6only(&bound, v6_only)?; // whatever net.ipv6.bindv6only says
    }
    sockopt::set_socket_reuseaddr(&bound, true)?;
    bind(&bound, &SocketAddr::new(address, port))?;
    listen_on(&bound, BACKLOG)?;
    fcntl_setfd(&bound, FdFlags::empty())?;
    Ok(bound)
}

fn explain(error: Errno, address: Option<&IpAddr>, port: u16) -> anyhow::Error {
    let shown = address.map_or_else(|| "all addresses".to_owned(), IpAddr::to_string);
    let advice = match error {
        Errno::ADDRNOTAVAIL => {
            "this machine doesn't have that address (now); correct [ssh] listen, or start the chroot when the network is up"
        }
        Errno::ADDRINUSE => "something listens there already; end it, or set another [ssh] port",
        Errno::ACCESS | Errno::PERM => {
            "it is not permitted; be root, and on Android in a context that may open sockets"
        }
        _ => "see [ssh] in the chroot's definition",
    };
    anyhow::anyhow!("the SSH server can't listen on {shown}, port {port}: {error}: {advice}")
}

/// What becomes the server inside, until SIGTERM. The sockets are those of [`listen`].
pub fn command(
    place: &Place,
    sockets: &[OwnedFd],
    network: &[u32],
    environment: &[(String, String)],
) -> anyhow::Result<Command> {
    let mut entering = Entering::new(place, USER, &[], network)?.with_variables(environment);
    entering.new_session = true;
    entering.directory = "/".into();
    let arguments = ["serve", "--stdio", "--system"].map(Into::into);
    Ok(entering.listening_command(sockets, OURSELVES.as_ref(), &arguments))
}

/// Before the first start: makes the host key unless there is one, and prints its fingerprint and what clients may put into
/// their `known_hosts`.
pub fn preparation(place: &Place, ssh: &Ssh, environment: &[(String, String)]) -> anyhow::Result<Command> {
    let mut entering = Entering::new(place, USER, &[], &[])?.with_variables(environment);
    entering.new_session = true;
    let arguments = ["keys".into(), format!("--port={}", ssh.port).into()];
    Ok(entering.command(OURSELVES.as_ref(), &arguments))
}

/// Before the first start of a service that is an sshd: as distributions' boot scripts do it, its run-time directory and,
/// unless there is a host key of any kind, `ssh-keygen -A`. Nothing for any other service.
pub fn sshd_preparation(
    place: &Place,
    service: &Service,
    environment: &[(String, String)],
) -> anyhow::Result<Option<Command>> {
    let program = service.command.first().map(Path::new).and_then(Path::file_name);
    if program != Some("sshd".as_ref()) {
        return Ok(None);
    }
    place.make_directory(SSHD_RUN.as_ref(), 0o755)?;
    if has_host_key(place)? {
        return Ok(None);
    }
    let mut entering = Entering::new(place, USER, &[], &[])?.with_variables(environment);
    entering.new_session = true;
    Ok(Some(entering.command("ssh-keygen".as_ref(), &["-A".into()])))
}

fn has_host_key(place: &Place) -> anyhow::Result<bool> {
    let directory = place.directory(SSHD_DIRECTORY.as_ref()).context("looking for host keys of sshd")?;
    let listed = std::fs::read_dir(format!("/proc/self/fd/{}", directory.as_fd().as_raw_fd()));
    let names = listed.with_context(|| format!("reading {SSHD_DIRECTORY} of the chroot"))?;
    let is_key = |name: &str| name.starts_with("ssh_host_") && name.ends_with("_key");
    Ok(names.flatten().any(|entry| entry.file_name().to_str().is_some_and(is_key)))
}

/// Why nobody could log in to our server as things are, and what to do; nothing if somebody could.
pub fn lacking(place: &Place) -> Option<String> {
    let outside = |path: &str| place.path().join(path.trim_start_matches('/'));
    for path in AUTHORIZED_KEYS {
        match place.read(path.as_ref(), MAX_KEYS) {
            Ok(None) => {}
            Ok(Some(text)) => {
                match changeable(place, path.as_ref()) {
                    Ok(None) => {}
                    Ok(fault) => return fault,
                    Err(error) => return Some(format!("who may log in is not known: {error:#}")),
                }
                let (keys, _) = authorized_keys::parse(path, &String::from_utf8_lossy(&text));
                let shown = outside(path);
                let none = || format!("{} lists no usable key, so nobody could log in: put one there", shown.display());
                return keys.is_empty().then(none);
            }
            Err(error) => return Some(format!("who may log in is not known: {error:#}")),
        }
    }
    let [_, at_home] = AUTHORIZED_KEYS;
    Some(format!(
        "nobody could log in by SSH: put your public key into {} (the server is tried again by itself)",
        outside(at_home).display()
    ))
}

/// Who but root could change the file or a directory above it, for which the server will refuse it; and what to do.
fn changeable(place: &Place, path: &Path) -> anyhow::Result<Option<String>> {
    for part in path.ancestors() {
        let shown = place.outside(part);
        let (node, _) = place.node(part)?.with_context(|| format!("{} has just gone", shown.display()))?;
        let found = fstat(&node).with_context(|| format!("looking at {}", shown.display()))?;
        if let Some(fault) = strict_modes::fault(&shown, found.st_uid, found.st_mode) {
            return Ok(Some(fault));
        }
    }
    Ok(None)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::root::tests::Fixture;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn listens_where_it_is_told_and_says_where_it_cannot() {
        let sockets = listen(&Ssh { port: 0, listen: vec![[127, 0, 0, 1].into()] }).unwrap();
        let at = std::net::TcpListener::from(sockets[0].try_clone().unwrap()).local_addr().unwrap();
        std::net::TcpStream::connect(at).unwrap();
        let taken = listen(&Ssh { port: at.port(), listen: vec![at.ip()] }).unwrap_err().to_string();
        assert!(taken.contains("127.0.0.1") && taken.contains("something listens there already"), "{taken}");
        drop(sockets);
        // RFC 5737: an address that no machine has.
        let nowhere = listen(&Ssh { port: 0, listen: vec![[192, 0, 2, 77].into()] }).unwrap_err().to_string();
        assert!(nowhere.contains("192.0.2.77") && nowhere.contains("doesn't have that address"), "{nowhere}");
    }

    #[test]
    fn says_where_a_key_is_to_be_put() {
        let fixture = Fixture::new(&[("/tree/etc/x", b"")]);
        let place = Place::open(&fixture.join("/tree")).unwrap();
        let said = lacking(&place).unwrap();
        assert!(said.contains("/tree/root/.ssh/authorized_keys"), "{said}");
        fixture.put("/tree/root/.ssh/authorized_keys", b"# none yet\n");
        let set = |path: &str, mode| {
            std::fs::set_permissions(fixture.join(path), std::fs::Permissions::from_mode(mode)).unwrap();
        };
        for path in ["/tree", "/tree/root", "/tree/root/.ssh", "/tree/root/.ssh/authorized_keys"] {
            set(path, 0o755);
        }
        assert!(lacking(&place).unwrap().contains("lists no usable key"));
        let key = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIJdD7y3aLq454yWBdwLWbieU1ebz9/cu7/QEXn9OIeZJ";
        fixture.put("/tree/root/.ssh/authorized_keys", key.as_bytes());
        assert_eq!(lacking(&place), None);
        for path in ["/tree", "/tree/root/.ssh", "/tree/root/.ssh/authorized_keys"] {
            set(path, 0o777);
            let said = lacking(&place).unwrap();
            assert!(said.ends_with(&format!("chmod go-w {}", fixture.join(path).display())), "{said}");
            set(path, 0o755);
        }
    }

    #[test]
    fn only_an_sshd_without_keys_gets_some() {
        let fixture = Fixture::new(&[("/tree/etc/ssh/ssh_config", b"")]);
        let place = Place::open(&fixture.join("/tree")).unwrap();
        let service = |program: &str| Service {
            name: "x".to_owned(),
            command: vec![program.to_owned(), "-D".to_owned()],
            user: "root".to_owned(),
            groups: vec![],
            environment: vec![],
            stop_seconds: 1,
        };
        let prepared = |program| sshd_preparation(&place, &service(program), &[]).unwrap().is_some();
        assert!(prepared("/usr/sbin/sshd") && !prepared("/usr/sbin/sshd-ish"));
        assert!(fixture.join("/tree/run/sshd").is_dir());
        fixture.put("/tree/etc/ssh/ssh_host_ed25519_key", b"");
        assert!(!prepared("/usr/sbin/sshd"), "it has a key");
    }
}
