//! Chooses an action, reports an error, nothing else.

use std::alloc::System;
use std::process::ExitCode;

use vestibule::recycle::Recycle;
use zeroizing_alloc::ZeroAlloc;

/// Wipes every allocation when it is freed: libraries copy passphrases into packets and buffers that we don't own.
#[global_allocator]
static ALLOCATOR: ZeroAlloc<Recycle<System>> = ZeroAlloc(Recycle::new(System));

fn main() -> ExitCode {
    vestibule::cli::main(std::env::args_os()).unwrap_or_else(|error| {
        eprintln!("vestibule: {error:#}");
        ExitCode::FAILURE
    })
}
