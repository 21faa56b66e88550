//! What an access right lets a client do. Pure.

use super::message::request::{READ, Request, WRITE};

#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Access {
    /// Everything below the root
    ReadWrite,
    /// No change
    ReadOnly,
    /// A drop box: new files and directories; nothing is read, listed or overwritten but what this session made
    WriteOnly,
}

/// Whether a request is served.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Leave {
    Granted,
    /// Only for what this session has made.
    OwnWork,
    Refused,
}

impl Access {
    pub fn leave(self, request: &Request) -> Leave {
        match self {
            Self::ReadWrite => Leave::Granted,
            Self::ReadOnly => read_only(request),
            Self::WriteOnly => write_only(request),
        }
    }
}

/// No wildcard here and below: whoever adds a request decides about it.
fn read_only(request: &Request) -> Leave {
    match request {
        Request::Open { how, .. } if how & !READ == 0 => Leave::Granted,
        Request::Close { .. }
        | Request::Read { .. }
        | Request::Stat { .. }
        | Request::LinkStat { .. }
        | Request::HandleStat { .. }
        | Request::OpenDirectory { .. }
        | Request::ReadDirectory { .. }
        | Request::RealPath { .. }
        | Request::ExpandPath { .. }
        | Request::ReadLink { .. }
        | Request::FileSystem { .. }
        | Request::HandleFileSystem { .. }
        | Request::Limits
        | Request::Unknown => Leave::Granted,
        Request::Open { .. }
        | Request::Write { .. }
        | Request::SetStat { .. }
        | Request::LinkSetStat { .. }
        | Request::HandleSetStat { .. }
        | Request::Remove { .. }
        | Request::MakeDirectory { .. }
        | Request::RemoveDirectory { .. }
        | Request::Rename { .. }
        | Request::PosixRename { .. }
        | Request::Symlink { .. }
        | Request::HardLink { .. }
        | Request::Sync { .. } => Leave::Refused,
    }
}

fn write_only(request: &Request) -> Leave {
    match request {
        Request::Open { how, .. } if how & (READ | WRITE) == WRITE => Leave::OwnWork,
        Request::Close { .. }
        | Request::Write { .. }
        | Request::HandleStat { .. }
        | Request::HandleSetStat { .. }
        | Request::MakeDirectory { .. }
        | Request::RealPath { .. }
        | Request::ExpandPath { .. }
        | Request::FileSystem { .. }
        | Request::HandleFileSystem { .. }
        | Request::Sync { .. }
        | Request::Limits
        | Request::Unknown => Leave::Granted,
        Request::Stat { .. }
        | Request::LinkStat { .. }
        | Request::SetStat { .. }
        | Request::LinkSetStat { .. }
        | Request::Remove { .. }
        | Request::RemoveDirectory { .. }
        | Request::Rename { .. }
        | Request::PosixRename { .. } => Leave::OwnWork,
        Request::Open { .. }
        | Request::Read { .. }
        | Request::OpenDirectory { .. }
        | Request::ReadDirectory { .. }
        | Request::ReadLink { .. }
        | Request::Symlink { .. }
        | Request::HardLink { .. } => Leave::Refused,
    }
}

#[cfg(test)]
mod tests {
    use super::super::message::Attributes;
    use super::super::message::request::{APPEND, CREATE, EXCLUSIVE, TRUNCATE};
    use super::*;

    #[test]
    fn what_is_opened_for() {
        use {Access::*, Leave::*};
        for (how, read_only, write_only) in [
            (0, Granted, Refused),
            (READ, Granted, Refused),
            (READ | WRITE, Refused, Refused),
            (WRITE, Refused, OwnWork),
            (WRITE | CREATE | EXCLUSIVE, Refused, OwnWork),
            (READ | CREATE, Refused, Refused),
            (READ | TRUNCATE, Refused, Refused),
            (READ | APPEND, Refused, Refused),
            (READ | 1 << 31, Refused, Refused),
        ] {
            let open = Request::Open { path: b"f", how, attributes: Attributes::default() };
            assert_eq!(ReadWrite.leave(&open), Granted);
            assert_eq!(ReadOnly.leave(&open), read_only, "{how:#x}");
            assert_eq!(WriteOnly.leave(&open), write_only, "{how:#x}");
        }
    }
}
