//! What ssh-audit (PyPI) says about the algorithms that are offered.

use std::process::Command;

use crate::common::Machine;

/// There is no other key exchange that OpenSSH before 9.9 (Debian 12), dropbear before 2025 and PuTTY before 0.83 have in
/// common with the SSH library, beside finite-field Diffie-Hellman.
const ACCEPTED: [&str; 2] = ["curve25519-sha256", "curve25519-sha256@libssh.org"];

#[test]
fn nothing_that_is_offered_is_weak() {
    let program = concat!(env!("CARGO_MANIFEST_DIR"), "/target/audit/bin/ssh-audit");
    assert!(std::path::Path::new(program).exists(), "{program} is missing. Type: make deps");
    let machine = Machine::started("audit");
    machine.wait_for_ssh();
    // Without the part that floods: limits have tests of their own.
    let port = machine.port.to_string();
    let output = Command::new(program).args(["--json", "--skip-rate-test", "-p", &port, "127.0.0.1"]).output().unwrap();
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
            if ACCEPTED.contains(&name) {
                warnings.retain(|note| !post_quantum(note));
            }
            assert!(warnings.is_empty(), "{name}: {warnings:?}");
        }
    }
    assert!(seen >= 10, "{report}");
    assert!(report["cves"].as_array().is_none_or(Vec::is_empty), "{}", report["cves"]);
    assert_eq!(report["kex"][0]["algorithm"], "mlkem768x25519-sha256", "the one against quantum computers comes first");
}
