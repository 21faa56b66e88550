//! The script that starts a chroot when Android has booted. Pure.
//!
//! POSIX sh: Magisk and KernelSU run it with the ash of BusyBox (<https://topjohnwu.github.io/Magisk/guides.html>,
//! <https://kernelsu.org/guide/module.html>), SuperSU and init.d with Android's own mksh.

use std::path::Path;

use anyhow::Context;

/// Android may need minutes for its first start after an update. When it does not come up at all, the chroot does: that is
/// when somebody wants to look at it. In seconds.
const BOOT_DEADLINE: u32 = 300;

const HEAD: &str = r"#!/system/bin/sh
# Starts a chroot when Android has booted. Written by: vestibule chroot install android
# Remove this file, and it is not started any more.
";
const BODY: &str = r#"
PATH=${PATH:-/sbin}:/system/bin:/system/xbin
export PATH

start_when_booted() {
    waited=0
    until [ "$(getprop sys.boot_completed)" = 1 ] || [ "$waited" -ge "$deadline" ]; do
        sleep 1
        waited=$((waited + 1))
    done
    exec "$program" chroot start "$name"
}

# A log that can't be written is no reason not to start.
(umask 077 && : > "$log") 2> /dev/null || log=/dev/null
# Others wait until this script has ended: what takes time is done behind it.
start_when_booted < /dev/null > "$log" 2>&1 &
"#;

/// For the chroot `name`, started by the binary `program`; any character may be in either.
pub fn boot_script(program: &Path, name: &str) -> anyhow::Result<String> {
    let log = program.with_file_name(format!("boot-{name}.log"));
    let [program, log] = [program, &log].map(|path| {
        let text = path.to_str().with_context(|| format!("{} is not text: give it a name in ASCII", path.display()));
        text.map(quoted)
    });
    let settings = format!(
        "program={}\n{}\nlog={} # what the last start said\ndeadline={BOOT_DEADLINE} # in seconds; then it is started all \
         the same\n",
        program?,
        name_line(name),
        log?
    );
    Ok([HEAD, &settings, BODY].concat())
}

/// Whether such a script starts another chroot. What says no name is no script of ours.
pub fn is_for_another(script: &str, name: &str) -> bool {
    script.contains("\nname=") && !script.contains(&format!("\n{}\n", name_line(name)))
}

fn name_line(name: &str) -> String {
    format!("name={}", quoted(name))
}

/// What the script is called. BusyBox's run-parts, which runs init.d, passes by names with a dot.
pub fn file_name(name: &str) -> String {
    format!("vestibule-{}", name.replace('.', "_"))
}

/// One word of a shell, whatever is in it.
fn quoted(word: &str) -> String {
    format!("'{}'", word.replace('\'', r"'\''"))
}
