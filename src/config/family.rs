//! What a hook tells the daemon about the initramfs that it runs in.

use clap::ValueEnum;

/// Initramfs in which askers behave in a particular way.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Family {
    /// Its `encrypt` hook starts `cryptsetup` again and again until that very command has opened the volume. Opened beside
    /// it, the volume would make every further one fail, and the boot would stand still.
    Mkinitcpio,
}
