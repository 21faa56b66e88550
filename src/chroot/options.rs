//! Options of a mount as mount(8) has them: those that are flags to the kernel, and the rest, which the file system reads.
//! Pure.

use nix::mount::MsFlags;

/// What they come to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Options {
    /// To be set.
    pub flags: MsFlags,
    /// To be taken away from what a bound directory has: `suid`, `dev`, `exec`, `rw` are said.
    pub without: MsFlags,
    pub data: String,
}

/// Each word, and the flag that it sets or takes away.
const FLAGS: &[(&str, MsFlags, bool)] = &[
    ("ro", MsFlags::MS_RDONLY, true),
    ("rw", MsFlags::MS_RDONLY, false),
    ("nosuid", MsFlags::MS_NOSUID, true),
    ("suid", MsFlags::MS_NOSUID, false),
    ("nodev", MsFlags::MS_NODEV, true),
    ("dev", MsFlags::MS_NODEV, false),
    ("noexec", MsFlags::MS_NOEXEC, true),
    ("exec", MsFlags::MS_NOEXEC, false),
    ("noatime", MsFlags::MS_NOATIME, true),
    ("nodiratime", MsFlags::MS_NODIRATIME, true),
    ("relatime", MsFlags::MS_RELATIME, true),
    ("strictatime", MsFlags::MS_STRICTATIME, true),
    ("sync", MsFlags::MS_SYNCHRONOUS, true),
    ("dirsync", MsFlags::MS_DIRSYNC, true),
];

/// What a mount point can have of its own, whatever its file system has: all that a bind can be given.
const OF_A_MOUNT_POINT: MsFlags = MsFlags::MS_RDONLY
    .union(MsFlags::MS_NOSUID)
    .union(MsFlags::MS_NODEV)
    .union(MsFlags::MS_NOEXEC)
    .union(MsFlags::MS_NOATIME)
    .union(MsFlags::MS_NODIRATIME)
    .union(MsFlags::MS_RELATIME)
    .union(MsFlags::MS_STRICTATIME);

pub fn parse(text: &str, bind: bool) -> Result<Options, String> {
    let mut options = Options { flags: MsFlags::empty(), without: MsFlags::empty(), data: String::new() };
    let mut data = Vec::new();
    for word in text.split(',').filter(|word| !word.is_empty()) {
        let known = FLAGS.iter().find(|(name, ..)| *name == word);
        match known {
            Some((_, flag, _)) if bind && !OF_A_MOUNT_POINT.contains(*flag) => {
                return Err(format!("{word} is for whole file systems, and this is a bound directory"));
            }
            Some((_, flag, true)) => {
                (options.flags, options.without) = (options.flags | *flag, options.without - *flag)
            }
            Some((_, flag, false)) => {
                (options.flags, options.without) = (options.flags - *flag, options.without | *flag)
            }
            None if word == "defaults" || (bind && word == "bind") => {}
            None if matches!(word, "rbind" | "rprivate" | "rslave" | "rshared") => {
                return Err(format!("{word} is not done: write a [[mount]] for each mount that lies below"));
            }
            None if bind => return Err(format!("{word} is for new file systems, and this is a bound directory")),
            None => data.push(word),
        }
    }
    options.data = data.join(",");
    Ok(options)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_become_flags_or_data() {
        let new = parse("nosuid,nodev,,size=20%,mode=1777,defaults", false).unwrap();
        assert_eq!((new.flags, &*new.data), (MsFlags::MS_NOSUID | MsFlags::MS_NODEV, "size=20%,mode=1777"));
        let bound = parse("ro,nosuid,exec,suid,bind", true).unwrap();
        assert_eq!(bound.flags, MsFlags::MS_RDONLY, "the last word counts");
        assert_eq!(bound.without, MsFlags::MS_NOSUID | MsFlags::MS_NOEXEC);
        for (text, why) in [("size=5", "new file systems"), ("sync", "whole file systems"), ("rbind", "for each mount")]
        {
            assert!(parse(text, true).unwrap_err().contains(why), "{text}");
        }
    }
}
