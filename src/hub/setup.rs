//! Machines → the script that makes a stock OpenSSH server (from 8.2 on) their hub. Pure.
//!
//! The account can do one thing: have the hub listen on its loopback, at the port that belongs to the key. That stands
//! twice, in sshd's configuration and on the line of each key, so that one mistake opens nothing.

use super::machines::{Machine, NO_PORT};

/// The first port that a machine gets, unless it is said: above those of services, below those that systems hand out (32768).
pub const DEFAULT_BASE: u16 = 20_001;
/// Beyond so many machines, those that dial at once after the hub's restart run into sshd's `MaxStartups` (10:30:100).
const CROWD: usize = 10;

/// Longest name of an account (useradd(8), "CAVEATS").
const MAX_ACCOUNT: usize = 32;

/// The name of an account, as useradd(8) takes it everywhere. It becomes a part of shell words and of names of files.
pub fn account(name: &str) -> Result<String, String> {
    let first = name.starts_with(|c: char| c.is_ascii_lowercase() || c == '_');
    let all = name.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"_-".contains(&byte));
    match first && all && name.len() <= MAX_ACCOUNT {
        true => Ok(name.to_owned()),
        false => Err("an account has up to 32 small letters, digits, - and _, the first no digit and no -".to_owned()),
    }
}

/// What a person reads, and then runs as root on the hub. An error is a machine that needs `sockets`.
pub fn script(user: &str, machines: &[Machine], sockets: bool) -> Result<String, String> {
    if let Some(machine) = machines.iter().find(|machine| machine.port == NO_PORT && !sockets) {
        return Err(format!("{} listens at a socket; add --sockets", machine.name));
    }
    let example = machines.iter().map(|machine| machine.port).find(|port| *port != NO_PORT).unwrap_or(DEFAULT_BASE);
    let directory = if sockets { SOCKET_DIRECTORY } else { "" };
    let head = HEAD.replace("@LIST@", &list(machines)).replace("@EXAMPLE@", &example.to_string());
    let body = ACCOUNT.replace("@DIRECTORY@", directory).replace("@KEYS@", &key_lines(machines));
    let config = CONFIG.replace("@CROWD@", if machines.len() > CROWD { STARTUPS } else { "" });
    let config =
        config.replace("@LISTEN@", &listen(machines)).replace("@SOCKETS@", if sockets { SOCKETS } else { NO_SOCKETS });
    // The user last, who is in all of them; names and keys have been put in, and have no @.
    Ok((head + &body + &config + END).replace("@USER@", user))
}

/// A comment for people.
fn list(machines: &[Machine]) -> String {
    let line = |machine: &Machine| match machine.port {
        NO_PORT => format!("#   {:<16} {}\n", "a socket", machine.name),
        port => format!("#   localhost:{port:<6} {}\n", machine.name),
    };
    machines.iter().map(line).collect()
}

/// An authorized_keys line for each (sshd(8), "AUTHORIZED_KEYS FILE FORMAT"), as `vestibule keys` prints them.
fn key_lines(machines: &[Machine]) -> String {
    let line = |machine: &Machine| {
        let Machine { name, port, key } = machine;
        format!(
            "restrict,port-forwarding,permitlisten=\"localhost:{port}\",permitopen=\"localhost:1\",command=\"/bin/false\" \
             {key} {name}\n"
        )
    };
    machines.iter().map(line).collect()
}

fn listen(machines: &[Machine]) -> String {
    machines.iter().map(|machine| format!(" localhost:{}", machine.port)).collect()
}

const HEAD: &str = r#"#!/bin/sh
# Makes this machine's OpenSSH server a hub, which other machines dial to be reached through it. By: vestibule hub setup
# Read it, then run it as root on the hub. It may be run again, with more machines or fewer: what it wrote is replaced.
#
#   on the hub       machine
@LIST@#
# Into the first of them, by way of your own account on the hub, end to end (the hub sees ciphertext only):
#   ssh -J YOU@HUB -p @EXAMPLE@ root@localhost
set -eu
PATH=$PATH:/usr/sbin:/sbin

user=@USER@
keys=/etc/ssh/hub-@USER@.keys
config=/etc/ssh/sshd_config.d/hub-@USER@.conf

die() {
    echo "hub setup: $*" >&2
    exit 1
}

[ "$(id -u)" = 0 ] || die "run this as root"
command -v sshd > /dev/null || die "OpenSSH's server is not installed here"
grep -Eqi '^[[:space:]]*Include[[:space:]]+("?/etc/ssh/)?sshd_config\.d/\*\.conf' /etc/ssh/sshd_config ||
    die "put this line first in /etc/ssh/sshd_config, and run this again: Include /etc/ssh/sshd_config.d/*.conf"
"#;

const ACCOUNT: &str = r#"
# The account. No shell; its password is none ("*"), which unlike a locked one ("!") lets keys in.
if id "$user" > /dev/null 2>&1; then
    # One that is somebody's would lose its logins by what follows.
    grep -q "^$user:.*:/usr/sbin/nologin\$" /etc/passwd || die "$user is an account that has a shell; choose another --user"
else
    useradd --system --user-group --no-create-home --home-dir /nonexistent --shell /usr/sbin/nologin --password '*' "$user"
fi
@DIRECTORY@
# The machines' keys, root's, so that nobody who has one can add another. Each may listen at its own port, and do nothing else.
cat > "$keys.new" << 'END'
@KEYS@END
chmod 644 "$keys.new"
"#;

const SOCKET_DIRECTORY: &str = r#"
# Where machines may have sockets. People whom you add to the group reach them: usermod --append --groups @USER@ PERSON
install -d -o "$user" -g "$user" -m 0750 /var/lib/hub-@USER@
"#;

const CONFIG: &str = r#"
# What sshd lets the account do. A machine that is gone without a word frees its port within 30 s (ClientAlive…).
mkdir -p /etc/ssh/sshd_config.d
rm -f "$config.before"
[ ! -e "$config" ] || mv "$config" "$config.before"
cat > "$config" << 'END'
# Written by vestibule hub setup.
@CROWD@Match User @USER@
    AuthorizedKeysFile /etc/ssh/hub-@USER@.keys
    AuthenticationMethods publickey
    PasswordAuthentication no
    KbdInteractiveAuthentication no
    AllowTcpForwarding remote
    PermitListen@LISTEN@
    PermitOpen none
    GatewayPorts no
@SOCKETS@    AllowAgentForwarding no
    X11Forwarding no
    PermitTunnel no
    PermitTTY no
    PermitUserRC no
    MaxSessions 0
    ForceCommand /bin/false
    ClientAliveInterval 10
    ClientAliveCountMax 3
END
"#;

const STARTUPS: &str = "# For all accounts: so many may be logging in at once, as they do when the hub has restarted.
MaxStartups 100:30:500
";

const SOCKETS: &str = "    AllowStreamLocalForwarding remote
    StreamLocalBindMask 0117
    StreamLocalBindUnlink yes
";

const NO_SOCKETS: &str = "    AllowStreamLocalForwarding no\n";

const END: &str = r#"if ! sshd -t; then
    rm -f "$config" "$keys.new"
    [ ! -e "$config.before" ] || mv "$config.before" "$config"
    die "sshd does not accept this (its reason is above); its configuration is as it was before"
fi
rm -f "$config.before"
mv "$keys.new" "$keys"
echo "hub setup: done. Now have sshd read it: systemctl reload ssh (or sshd)"
"#;

#[cfg(test)]
mod tests {
    use super::*;

    fn machines(count: u16) -> Vec<Machine> {
        let machine =
            |number| Machine { name: format!("web{number}"), port: 20_000 + number, key: "ssh-ed25519 AAAA".into() };
        (1..=count).map(machine).collect()
    }

    /// Everything that a key and the account may do, word for word.
    #[test]
    fn what_is_permitted() {
        let text = script("hub", &machines(2), false).unwrap();
        assert!(text.contains(concat!(
            "\nrestrict,port-forwarding,permitlisten=\"localhost:20001\",permitopen=\"localhost:1\",command=\"/bin/false\" \
             ssh-ed25519 AAAA web1",
            "\nrestrict,port-forwarding,permitlisten=\"localhost:20002\",permitopen=\"localhost:1\",command=\"/bin/false\" \
             ssh-ed25519 AAAA web2\nEND\n"
        )));
        let config = text.split_once("# Written by vestibule hub setup.\n").unwrap().1.split_once("END\n").unwrap().0;
        let expected = "Match User hub
    AuthorizedKeysFile /etc/ssh/hub-hub.keys
    AuthenticationMethods publickey
    PasswordAuthentication no
    KbdInteractiveAuthentication no
    AllowTcpForwarding remote
    PermitListen localhost:20001 localhost:20002
    PermitOpen none
    GatewayPorts no
    AllowStreamLocalForwarding no
    AllowAgentForwarding no
    X11Forwarding no
    PermitTunnel no
    PermitTTY no
    PermitUserRC no
    MaxSessions 0
    ForceCommand /bin/false
    ClientAliveInterval 10
    ClientAliveCountMax 3
";
        assert_eq!(config, expected);
        assert!(text.starts_with("#!/bin/sh\n") && text.contains("#   localhost:20002  web2\n"), "{text}");
        assert_eq!(text.matches('@').count(), 2, "a placeholder is left, beside YOU@HUB and root@localhost:\n{text}");
    }

    #[test]
    fn only_what_is_needed() {
        let text = script("hub", &machines(11), true).unwrap();
        assert!(text.contains("AllowStreamLocalForwarding remote\n") && text.contains("install -d -o"));
        assert!(text.contains("\nMaxStartups 100:30:500\nMatch User hub\n"));
        assert!(!script("hub", &machines(10), false).unwrap().contains("MaxStartups"));
    }

    #[test]
    fn a_machine_at_a_socket() {
        let at_socket = Machine { port: NO_PORT, ..machines(1).remove(0) };
        assert!(script("hub", std::slice::from_ref(&at_socket), false).unwrap_err().contains("--sockets"));
        assert!(script("hub", &[at_socket], true).unwrap().contains("#   a socket         web1\n"));
    }

    #[test]
    fn accounts() {
        for name in ["vestibule", "_x-1", &"a".repeat(32)] {
            assert_eq!(account(name), Ok(name.to_owned()));
        }
        for name in ["", "Root", "-x", "1a", "a b", "a$(b)", "a/b", "ä", &"a".repeat(33)] {
            assert!(account(name).is_err(), "{name}");
        }
    }
}
