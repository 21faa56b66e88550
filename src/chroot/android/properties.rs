//! Android's properties. The library that reads them is bionic's, and their form in memory changes from version to version:
//! Android's own program is asked.

use std::io::Read;
use std::os::fd::AsFd;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, bail, ensure};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use crate::root::Root;

const PROGRAM: &str = "/system/bin/getprop";
/// It needs some hundredths of a second. At boot, while everything starts, more.
const DEADLINE: Duration = Duration::from_secs(10);
/// A value has less than 92 bytes (`PROP_VALUE_MAX`), a read-only one may have more since Android 8.
const MAX_VALUE: u64 = 4096;

/// The value of a property; none if it is empty, which is how Android says that there is no such.
pub fn get(name: &str, root: &Root) -> anyhow::Result<Option<String>> {
    ask(&root.join(PROGRAM), name, DEADLINE)
}

fn ask(program: &Path, name: &str, deadline: Duration) -> anyhow::Result<Option<String>> {
    let mut command = Command::new(program);
    command.arg(name).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null());
    let mut child = command.spawn().with_context(|| format!("starting {}", program.display()))?;
    let output = read(&mut child, deadline);
    // One that has closed its output may live on; it has said all that it will.
    let ended = child.kill().and_then(|()| child.wait());
    let bytes = output.with_context(|| format!("asking {} for {name}", program.display()))?;
    ended.with_context(|| format!("ending {}", program.display()))?;
    let value = String::from_utf8_lossy(&bytes).trim().to_owned();
    Ok((!value.is_empty()).then_some(value))
}

/// All that it prints, until it closes its output.
fn read(child: &mut Child, deadline: Duration) -> anyhow::Result<Vec<u8>> {
    let since = Instant::now();
    let output = child.stdout.as_mut().context("it has no output")?;
    let mut bytes = Vec::new();
    loop {
        let left = deadline.saturating_sub(since.elapsed());
        let timeout = PollTimeout::try_from(left).unwrap_or(PollTimeout::MAX);
        match poll(&mut [PollFd::new(output.as_fd(), PollFlags::POLLIN)], timeout) {
            Err(nix::errno::Errno::EINTR) => continue,
            Ok(0) => bail!("it has not answered within {} s", deadline.as_secs_f32()),
            ready => ready.context("waiting for what it prints")?,
        };
        let mut some = [0; 512];
        match output.read(&mut some).context("reading what it prints")? {
            0 => return Ok(bytes),
            length => bytes.extend_from_slice(&some[..length]),
        }
        ensure!(bytes.len() as u64 <= MAX_VALUE, "it printed more than {MAX_VALUE} bytes");
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::root::tests::Fixture;
    use std::os::unix::fs::symlink;

    /// Programs that every machine has stand for it: a script that was just written may still be open in a child of another
    /// test, and can't be run then.
    #[test]
    fn values() {
        let root = Fixture::new(&[("/system/bin/sh", b"")]);
        let as_program = |program: &str| {
            let path = root.join(PROGRAM);
            assert!(!path.is_symlink() || std::fs::remove_file(&path).is_ok());
            symlink(program, path).unwrap();
        };
        assert!(get("net.dns1", &root).unwrap_err().to_string().contains("/system/bin/getprop"));
        as_program("/bin/echo");
        assert_eq!(get("net.dns1", &root).unwrap().as_deref(), Some("net.dns1"));
        as_program("/bin/true");
        assert_eq!(get("net.dns1", &root).unwrap(), None);
        as_program("/usr/bin/yes");
        assert!(format!("{:#}", get("net.dns1", &root).unwrap_err()).contains("more than 4096 bytes"));
        let silent = ask(Path::new("/bin/sleep"), "600", Duration::from_millis(50));
        assert!(format!("{:#}", silent.unwrap_err()).contains("not answered within 0.05 s"));
    }
}
