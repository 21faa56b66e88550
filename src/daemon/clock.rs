//! A machine without a battery for its clock wakes up in 1970, or when it was last switched off. Then every certificate is
//! "not valid yet", and no key has expired. The image's own files know better: it can't be earlier than when they were
//! made.

use std::os::unix::fs::MetadataExt;
use std::time::SystemTime;

use nix::sys::time::TimeSpec;
use nix::time::{ClockId, clock_settime};

use crate::config::{AUTHORIZED_KEYS, CONFIG_FILE, HOST_KEY};
use crate::root::Root;

/// The program itself is in every image.
const PROGRAM: &str = "/proc/self/exe";

/// When the image was made, in seconds since 1970: the latest time of a file that went into it. 0 if the files have no
/// times, as in images of mkinitcpio.
pub fn built(root: &Root) -> u64 {
    let files = [AUTHORIZED_KEYS[0], CONFIG_FILE, HOST_KEY].map(|path| root.join(path));
    let program = root.is_systems().then(|| PROGRAM.into());
    let times = files.into_iter().chain(program).filter_map(|path| std::fs::metadata(path).ok());
    times.filter_map(|file| u64::try_from(file.mtime()).ok()).max().unwrap_or(0)
}

/// Sets the machine's clock to `built` if it is behind that, as systemd does by its own build time (`clock_apply_epoch()`
/// in its src/core/main.c). Never in tests, whose root is another.
pub fn not_before(built: u64, root: &Root) {
    let now = SystemTime::UNIX_EPOCH.elapsed().map_or(0, |time| time.as_secs());
    if now >= built || !root.is_systems() {
        return;
    }
    let time = TimeSpec::new(built.try_into().unwrap_or(0), 0);
    match clock_settime(ClockId::CLOCK_REALTIME, time) {
        Ok(()) => log::warn!("the clock was behind the time when this image was made, and is set to that"),
        Err(error) => log::warn!(
            "the clock is behind the time when this image was made, and can't be set ({error}): certificates are \
             taken for not valid yet"
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::root::tests::Fixture;
    use std::time::Duration;

    #[test]
    fn the_latest_file_counts() {
        let root = Fixture::new(&[]);
        assert_eq!(built(&root), 0);
        for (path, seconds) in [(HOST_KEY, 5000), (CONFIG_FILE, 9000), (AUTHORIZED_KEYS[0], 7000)] {
            root.put(path, b"");
            let file = std::fs::File::options().append(true).open(root.join(path)).unwrap();
            file.set_modified(SystemTime::UNIX_EPOCH + Duration::from_secs(seconds)).unwrap();
        }
        assert_eq!(built(&root), 9000);
    }
}
