//! What ssh-audit (PyPI) says about the algorithms that are offered.

use std::borrow::Cow;
use std::process::Command;
use std::sync::Arc;

use russh::Preferred;
use russh::client;
use russh::keys::{PrivateKeyWithHashAlg, PublicKeyOrCertificate};

use crate::common::{DEADLINE, Machine};

/// There is no other key exchange that OpenSSH before 9.9 (Debian 12), dropbear before 2025 and PuTTY before 0.83 have in
/// common with the SSH library, beside finite-field Diffie-Hellman.
const ACCEPTED: [&str; 2] = ["curve25519-sha256", "curve25519-sha256@libssh.org"];

#[test]
fn nothing_that_is_offered_is_weak() {
    let machine = Machine::started("audit");
    machine.wait_for_ssh();
    judge(&machine, &ACCEPTED);
}

#[test]
fn on_demand_nothing_is_offered_that_a_quantum_computer_breaks() {
    let mut machine = Machine::new("quantum");
    let config = format!("port = {}\nnetwork = false\npost-quantum-only = true\n", machine.port);
    machine.write("etc/vestibule/config.toml", &config);
    machine.start();
    machine.wait_for_ssh();
    judge(&machine, &[]);
    let old = machine.ssh("root", &["-o", "KexAlgorithms=curve25519-sha256", "--", "status"], b"");
    assert_eq!(old.status.code(), Some(255), "{old:?}");
    let said = "no login from 127.0.0.1: it has no key exchange in common with us; it offers curve25519-sha256,";
    machine.wait_for("the reason", || machine.log().contains(said));
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async { tokio::time::timeout(DEADLINE, log_in(&machine)).await.expect("in time") });
}

/// With a client that offers nothing else either: OpenSSH has this key exchange since 9.9, which is later than Debian 12.
async fn log_in(machine: &Machine) {
    let kex = Cow::Borrowed(&[russh::kex::MLKEM768X25519_SHA256][..]);
    let preferred = Preferred { kex, ..Preferred::DEFAULT };
    let config = Arc::new(client::Config { preferred, ..Default::default() });
    let mut session = client::connect(config, ("127.0.0.1", machine.port), Anything).await.unwrap();
    let key = russh::keys::load_secret_key(machine.root.join("id"), None).unwrap();
    let key = PrivateKeyWithHashAlg::new(Arc::new(key), None);
    assert!(session.authenticate_publickey("root", key).await.unwrap().success());
}

/// A client that takes any host key.
struct Anything;

impl client::Handler for Anything {
    type Error = russh::Error;

    async fn check_server_key(&mut self, _key: &PublicKeyOrCertificate) -> Result<bool, Self::Error> {
        Ok(true)
    }
}

/// No algorithm has a `fail` line, and none has a `warn` line but these for not being post-quantum.
fn judge(machine: &Machine, accepted: &[&str]) {
    let program = concat!(env!("CARGO_MANIFEST_DIR"), "/target/audit/bin/ssh-audit");
    assert!(std::path::Path::new(program).exists(), "{program} is missing. Type: make deps");
    // Without the part that floods: limits have tests of their own.
    let port = machine.port.to_string();
    let output = Command::new(program)
        .args(["--json", "--skip-rate-test", "--timeout", "60", "-p", &port, "127.0.0.1"])
        .output()
        .unwrap();
    let report: serde_json::Value =
        serde_json::from_slice(&output.stdout).unwrap_or_else(|error| panic!("{error}: {output:?}"));
    let mut seen = 0;
    for kind in ["kex", "key", "enc", "mac"] {
        for algorithm in report[kind].as_array().unwrap() {
            seen += 1;
            let (name, notes) = (algorithm["algorithm"].as_str().unwrap(), &algorithm["notes"]);
            assert_eq!(notes["fail"].as_array().map_or(0, Vec::len), 0, "{name}: {notes}");
            let mut warnings: Vec<_> = notes["warn"].as_array().into_iter().flatten().collect();
            let post_quantum = |note: &&serde_json::Value| note.as_str().unwrap().contains("post-quantum");
            if accepted.contains(&name) {
                warnings.retain(|note| !post_quantum(note));
            }
            assert!(warnings.is_empty(), "{name}: {warnings:?}");
        }
    }
    assert!(seen >= 8 + accepted.len(), "{report}");
    assert!(report["cves"].as_array().is_none_or(Vec::is_empty), "{}", report["cves"]);
    assert_eq!(report["kex"][0]["algorithm"], "mlkem768x25519-sha256", "the one against quantum computers comes first");
}
