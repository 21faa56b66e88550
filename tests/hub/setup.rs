//! The script of `vestibule hub setup`, run on a hub.

use std::fs;
use std::net::TcpStream;
use std::os::unix::net::UnixStream;
use std::process::{Command, Stdio};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::network::with_own_network;
use crate::stock::{DEADLINE, Hub, PORT, script, succeed};

/// Run twice, with a mistake in between; then machines get what is theirs, and nothing else.
#[test]
fn the_script_makes_a_hub() {
    with_own_network("setup::the_script_makes_a_hub", || {
        let mut hub = Hub::new("setup");
        let keys = [hub.new_key("web1"), hub.new_key("web2")];
        let setup = hub.place.join("setup.sh");
        hub.write("setup.sh", &script(&keys[..1], &[]));
        succeed(Command::new("shellcheck").arg(&setup));
        let first = hub.run(&["sh", setup.to_str().unwrap()]);
        assert!(first.status.success(), "{first:?}");
        let config = hub.place.join("etc/ssh/sshd_config.d/hub-vestibule.conf");
        let before = fs::read_to_string(&config).unwrap();

        // What sshd does not understand is taken back.
        hub.write("setup.sh", &script(&keys[..1], &[]).replace("    PermitTunnel no\n", "    Nonsense no\n"));
        let wrong = hub.run(&["sh", setup.to_str().unwrap()]);
        assert_eq!(wrong.status.code(), Some(1), "{wrong:?}");
        assert!(String::from_utf8_lossy(&wrong.stderr).contains("Nonsense"), "{wrong:?}");
        assert_eq!(fs::read_to_string(&config).unwrap(), before);

        hub.write("setup.sh", &script(&keys, &["--base", "20001", "--sockets"]));
        let second = hub.run(&["sh", setup.to_str().unwrap()]);
        assert!(second.status.success(), "{second:?}");
        assert!(fs::read_to_string(&config).unwrap().contains("PermitListen localhost:20001 localhost:20002\n"));

        hub.start();
        // Its own port, yes; another's, a command, a connection onwards: no.
        let socket = "/var/lib/hub-vestibule/web1:127.0.0.1:22";
        let options = ["-N", "-o", "ExitOnForwardFailure=yes", "-R", "localhost:20001:127.0.0.1:22", "-R", socket];
        let mut tunnel = ssh(&hub, &options, &[]).spawn().unwrap();
        hub.wait_for("the tunnel", || TcpStream::connect(("127.0.0.1", 20_001)).is_ok());
        hub.wait_for("the socket", || UnixStream::connect(hub.place.join("lib/hub-vestibule/web1")).is_ok());
        // Not SIGKILL, which timeout could not pass on to ssh.
        kill(Pid::from_raw(tunnel.id() as i32), Signal::SIGTERM).unwrap();
        tunnel.wait().unwrap();
        hub.wait_for("the port to be free", || TcpStream::connect(("127.0.0.1", 20_001)).is_err());
        for (options, command) in [
            (&["-N", "-o", "ExitOnForwardFailure=yes", "-R", "localhost:20002:127.0.0.1:22"][..], &[][..]),
            (&["-N", "-o", "ExitOnForwardFailure=yes", "-R", "0.0.0.0:20001:127.0.0.1:22"], &[]),
            (&["-W", "127.0.0.1:22"], &[]),
            (&[], &["id"]),
            (&["-s"], &["sftp"]),
        ] {
            let refused = ssh(&hub, options, command).output().unwrap();
            assert!(
                refused.status.code() == Some(255) && refused.stdout.is_empty(),
                "{options:?} {command:?}: {refused:?}"
            );
            assert!(!refused.stderr.is_empty(), "{options:?} {command:?}");
        }
    });
}

/// OpenSSH's client as the first machine.
fn ssh(hub: &Hub, options: &[&str], command: &[&str]) -> Command {
    let mut ssh = Command::new("timeout");
    ssh.args([&DEADLINE.as_secs().to_string(), "ssh", "-F", "none", "-p", &PORT.to_string(), "-o", "BatchMode=yes"])
        .args(["-o", "IdentitiesOnly=yes", "-o", "IdentityAgent=none", "-o", "StrictHostKeyChecking=yes"])
        .arg("-o")
        .arg(format!("UserKnownHostsFile={}", hub.known_hosts_file().display()))
        .arg("-i")
        .arg(hub.place.join("web1"))
        .args(options)
        .arg("vestibule@127.0.0.1")
        .args(command);
    ssh.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    ssh
}
