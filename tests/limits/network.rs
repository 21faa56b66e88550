//! A network of a test's own: a flood takes ports, which other tests would miss.

use std::io::Write;
use std::process::Command;

/// Tells the second run that it has a namespace of its own.
const VARIABLE: &str = "VESTIBULE_TEST_OWN_NETWORK";

/// Runs `body` with a network of its own, which goes with its processes. Only root can; others see a line that says so.
pub fn with_own_network(test: &str, body: impl FnOnce()) {
    if std::env::var_os(VARIABLE).is_some() {
        let up = Command::new("ip").args(["link", "set", "lo", "up"]).status().expect("ip, from iproute2");
        assert!(up.success());
        return body();
    }
    if !nix::unistd::geteuid().is_root() {
        // Not `eprintln!`, which the test harness hides when a test passes.
        let line = format!("SKIPPED {test}: needs root, for network namespaces\n");
        return std::io::stderr().write_all(line.as_bytes()).unwrap();
    }
    let again = Command::new("unshare")
        .arg("--net")
        .arg(std::env::current_exe().unwrap())
        .args(["--exact", test, "--nocapture"])
        .env(VARIABLE, "1")
        .output()
        .expect("unshare, from util-linux");
    let [out, err] = [&again.stdout, &again.stderr].map(|bytes| String::from_utf8_lossy(bytes));
    assert!(again.status.success() && out.contains("1 passed"), "{out}{err}");
}
