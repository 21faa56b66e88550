# Sourced by the scripts beside it: messages, names of targets, and which Rust toolchain there is.
# shellcheck shell=sh

top=$(cd "$(dirname "$0")/.." && pwd)

# Zig comes as a Python package: a C compiler and a musl for every architecture but this machine's.
export zig_python="$top/target/zig/bin/python3" zig_version=0.15.2

# Judges what an SSH server offers; a test of tests/keys runs it.
export audit_python="$top/target/audit/bin/python3" audit_version=3.9.0

say() { printf '%s: %s\n' "${0##*/}" "$*" >&2; }

die() {
    say "$*"
    exit 1
}

have() { command -v "$1" > /dev/null 2>&1; }

# The musl target that an architecture's name (as `uname -m` and dist/ have it) stands for.
target_of() {
    case $1 in
        x86_64 | aarch64) echo "$1-unknown-linux-musl" ;;
        armv7 | armv7l) echo armv7-unknown-linux-musleabihf ;;
        *) die "unknown architecture '$1': x86_64, aarch64 and armv7 are supported" ;;
    esac
}

# Whether the rustc on PATH comes with a compiled standard library for target $1.
rustc_has() { have rustc && [ -d "$(rustc --print sysroot)/lib/rustlib/$1/lib" ]; }

# Debian's rustc-web, cargo-web and rust-web-src: std can be built from its source. The source has to be of that very rustc.
debian_rust() {
    [ -x /usr/bin/rustc ] && [ -x /usr/bin/cargo ] || return 1
    [ -f "$(/usr/bin/rustc --print sysroot)/lib/rustlib/src/rust/library/Cargo.lock" ] || return 1
    rust_at_least "$(/usr/bin/rustc --version)"
}

# Whether `rustc 1.96.0 (…)` is no older than the rust-version that Cargo.toml asks for.
rust_at_least() {
    wanted=$(sed -n 's/^rust-version = "\(.*\)"/\1/p' "$top/Cargo.toml")
    found=${1#rustc }
    found=${found%% *}
    [ "$(printf '%s\n%s\n' "$wanted" "$found" | sort -V | head -n 1)" = "$wanted" ]
}

# Makes `cargo` one that can format, lint and test: the first on PATH if it is complete, else Debian's.
complete_rust() {
    is_complete_rust && return
    PATH=/usr/bin:$PATH
    export PATH
    is_complete_rust
}

is_complete_rust() {
    have cargo && rust_at_least "$(rustc --version)" && cargo fmt --version && cargo clippy --version
} > /dev/null 2>&1
