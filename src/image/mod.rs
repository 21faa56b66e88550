//! What runs at image build, on the host: host keys, and the check that somebody will get in.

pub mod check;
pub mod keys;
