//! What the administrator wants of the network: from the kernel command line (dracut.cmdline(7) and its relatives), or
//! else from the `[network]` section of `config.toml`. Pure.
//!
//! What is not understood becomes a problem (argument, place, cure) and the rest still comes up. If no `ip=` argument
//! is usable, the default applies: an unreachable machine would be the worse mistake.

mod arguments;
mod bond;
mod draft;
pub(super) mod entry;
mod field;
pub mod ibft;
mod ip;
mod made;
mod names;
pub mod section;
mod show;
mod types;

pub use draft::master;
pub use types::*;

#[cfg(test)]
mod tests;
