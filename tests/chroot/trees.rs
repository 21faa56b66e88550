//! What stands in the lab's tree: a small system, in a layer of the test's own, which goes with the lab.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::lab::{Lab, outcome, run};

/// The directory of a tree (`busybox`, `debian`), which is made if it is missing. To be called on the machine, whose network
/// may be needed for it, and before the lab is entered. Empty without root, who alone can make it.
pub fn find(name: &str) -> PathBuf {
    if !nix::unistd::geteuid().is_root() {
        return PathBuf::new();
    }
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/scripts/chroot-trees");
    let made = outcome(Command::new(script).arg(name).stdin(Stdio::null()));
    assert_eq!(made.status, Some(0), "{name}: {made:?}");
    PathBuf::from(made.out.trim_end())
}

/// Puts it where the lab has its tree.
pub fn put(lab: &Lab, tree: &Path) {
    let layers = ["upper", "work"].map(|name| lab.path(name));
    layers.iter().for_each(|layer| fs::create_dir_all(layer).unwrap());
    fs::set_permissions(&layers[0], fs::Permissions::from_mode(0o755)).unwrap();
    let [upper, work] = &layers;
    let (lower, upper, work) = (tree.display(), upper.display(), work.display());
    let options = format!("lowerdir={lower},upperdir={upper},workdir={work}");
    run("mount", &["-t", "overlay", "overlay", "-o", &options, lab.tree().to_str().unwrap()]);
}
