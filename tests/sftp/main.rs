//! `vestibule sftp-server` with OpenSSH's own clients, which start it themselves (`-D`, over a socket), and with bytes over
//! pipes and sockets. What a path may reach is tested in `src/sftp/tests`.

mod clients;
mod stream;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};

/// `root`, which is served, and `here`, where the client is.
struct Place(PathBuf);

impl Place {
    fn new() -> Self {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let place = std::env::temp_dir().join(format!("vestibule-sftp-{}-{number}", std::process::id()));
        for directory in ["root", "here"] {
            fs::create_dir_all(place.join(directory)).unwrap();
        }
        Self(place)
    }

    fn root(&self, path: &str) -> PathBuf {
        self.0.join("root").join(path)
    }

    fn here(&self, path: &str) -> PathBuf {
        self.0.join("here").join(path)
    }

    /// The server's command line.
    fn server(&self, options: &str) -> String {
        format!("{} sftp-server --root {} {options}", env!("CARGO_BIN_EXE_vestibule"), self.root("").display())
    }

    /// Runs `sftp` with these commands, from `here`. It ends at the first that fails, unless that begins with `-`.
    fn sftp(&self, options: &str, commands: &str) -> Output {
        fs::write(self.0.join("batch"), commands).unwrap();
        let mut sftp = Command::new("sftp");
        sftp.arg("-b").arg(self.0.join("batch")).arg("-D").arg(self.server(options)).arg("server");
        run(sftp.current_dir(self.here("")))
    }

    /// What `sftp` printed; it must succeed.
    fn sftp_prints(&self, options: &str, commands: &str) -> String {
        let output = self.sftp(options, commands);
        assert!(output.status.success(), "{}\n{}", text(&output.stdout), text(&output.stderr));
        text(&output.stdout)
    }

    /// Runs `scp` from `here`; `-D` takes a path and no options, so it gets a script.
    fn scp(&self, options: &str, arguments: &[&str]) -> Output {
        use std::os::unix::fs::PermissionsExt;
        let script = self.0.join("server");
        fs::write(&script, format!("#!/bin/sh\nexec {}\n", self.server(options))).unwrap();
        fs::set_permissions(&script, fs::Permissions::from_mode(0o700)).unwrap();
        run(Command::new("scp").arg("-s").arg("-D").arg(&script).args(arguments).current_dir(self.here("")))
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

fn run(command: &mut Command) -> Output {
    command.stdin(Stdio::null()).output().unwrap()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

fn same(one: &Path, other: &Path) -> bool {
    fs::read(one).unwrap() == fs::read(other).unwrap()
}

/// Bytes that don't repeat.
fn noise(length: usize) -> Vec<u8> {
    let mut state = 1u64;
    let mut next = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 56) as u8
    };
    (0..length).map(|_| next()).collect()
}
