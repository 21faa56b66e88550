//! What a client asks for.

use super::{Attributes, Malformed, Reader};

/// `SSH_FXF_*`, how a file is to be opened.
pub const READ: u32 = 1;
pub const WRITE: u32 = 2;
pub const APPEND: u32 = 4;
pub const CREATE: u32 = 8;
pub const TRUNCATE: u32 = 0x10;
pub const EXCLUSIVE: u32 = 0x20;

/// A packet from a client.
#[derive(Debug, PartialEq, Eq)]
pub enum Packet<'a> {
    /// The first one, with the client's version.
    Init(u32),
    /// Any other, with the number that its answer has to bear.
    Request(u32, Request<'a>),
}

/// Paths, handles and data are bytes of the packet; paths in the order in which OpenSSH sends them, which for SYMLINK is
/// not that of the draft (PROTOCOL section 4.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Request<'a> {
    Open {
        path: &'a [u8],
        how: u32,
        attributes: Attributes,
    },
    Close {
        handle: &'a [u8],
    },
    Read {
        handle: &'a [u8],
        offset: u64,
        length: u32,
    },
    Write {
        handle: &'a [u8],
        offset: u64,
        data: &'a [u8],
    },
    Stat {
        path: &'a [u8],
    },
    LinkStat {
        path: &'a [u8],
    },
    HandleStat {
        handle: &'a [u8],
    },
    SetStat {
        path: &'a [u8],
        attributes: Attributes,
    },
    LinkSetStat {
        path: &'a [u8],
        attributes: Attributes,
    },
    HandleSetStat {
        handle: &'a [u8],
        attributes: Attributes,
    },
    OpenDirectory {
        path: &'a [u8],
    },
    ReadDirectory {
        handle: &'a [u8],
    },
    Remove {
        path: &'a [u8],
    },
    MakeDirectory {
        path: &'a [u8],
        attributes: Attributes,
    },
    RemoveDirectory {
        path: &'a [u8],
    },
    RealPath {
        path: &'a [u8],
    },
    ExpandPath {
        path: &'a [u8],
    },
    Rename {
        from: &'a [u8],
        to: &'a [u8],
    },
    PosixRename {
        from: &'a [u8],
        to: &'a [u8],
    },
    ReadLink {
        path: &'a [u8],
    },
    Symlink {
        target: &'a [u8],
        path: &'a [u8],
    },
    HardLink {
        existing: &'a [u8],
        path: &'a [u8],
    },
    FileSystem {
        path: &'a [u8],
    },
    HandleFileSystem {
        handle: &'a [u8],
    },
    Sync {
        handle: &'a [u8],
    },
    Limits,
    /// Of a type, or with a name, that nobody here knows.
    Unknown,
}

/// The extensions that a server announces, with their versions.
pub const EXTENSIONS: [(&str, &str); 8] = [
    ("posix-rename@openssh.com", "1"),
    ("statvfs@openssh.com", "2"),
    ("fstatvfs@openssh.com", "2"),
    ("hardlink@openssh.com", "1"),
    ("fsync@openssh.com", "1"),
    ("lsetstat@openssh.com", "1"),
    ("limits@openssh.com", "1"),
    ("expand-path@openssh.com", "1"),
];

const INIT: u8 = 1;
const EXTENDED: u8 = 200;

impl<'a> Packet<'a> {
    /// Reads a packet without its length field. What stands behind a request's last field is passed over, as OpenSSH does.
    pub fn decode(packet: &'a [u8]) -> Result<Self, Malformed> {
        let mut reader = Reader::new(packet)?;
        let number = reader.u32()?; // for INIT, the version
        if reader.kind == INIT {
            return Ok(Self::Init(number));
        }
        Request::read(&mut reader).map(|request| Self::Request(number, request))
    }
}

impl<'a> Request<'a> {
    /// Fields are read in the order in which they are written here.
    fn read(from: &mut Reader<'a>) -> Result<Self, Malformed> {
        Ok(match from.kind {
            3 => Self::Open { path: from.string()?, how: from.u32()?, attributes: Attributes::read(from)? },
            4 => Self::Close { handle: from.string()? },
            5 => Self::Read { handle: from.string()?, offset: from.u64()?, length: from.u32()? },
            6 => Self::Write { handle: from.string()?, offset: from.u64()?, data: from.string()? },
            7 => Self::LinkStat { path: from.string()? },
            8 => Self::HandleStat { handle: from.string()? },
            9 => Self::SetStat { path: from.string()?, attributes: Attributes::read(from)? },
            10 => Self::HandleSetStat { handle: from.string()?, attributes: Attributes::read(from)? },
            11 => Self::OpenDirectory { path: from.string()? },
            12 => Self::ReadDirectory { handle: from.string()? },
            13 => Self::Remove { path: from.string()? },
            14 => Self::MakeDirectory { path: from.string()?, attributes: Attributes::read(from)? },
            15 => Self::RemoveDirectory { path: from.string()? },
            16 => Self::RealPath { path: from.string()? },
            17 => Self::Stat { path: from.string()? },
            18 => Self::Rename { from: from.string()?, to: from.string()? },
            19 => Self::ReadLink { path: from.string()? },
            20 => Self::Symlink { target: from.string()?, path: from.string()? },
            EXTENDED => match from.string()? {
                b"posix-rename@openssh.com" => Self::PosixRename { from: from.string()?, to: from.string()? },
                b"statvfs@openssh.com" => Self::FileSystem { path: from.string()? },
                b"fstatvfs@openssh.com" => Self::HandleFileSystem { handle: from.string()? },
                b"hardlink@openssh.com" => Self::HardLink { existing: from.string()?, path: from.string()? },
                b"fsync@openssh.com" => Self::Sync { handle: from.string()? },
                b"lsetstat@openssh.com" => {
                    Self::LinkSetStat { path: from.string()?, attributes: Attributes::read(from)? }
                }
                b"limits@openssh.com" => Self::Limits,
                b"expand-path@openssh.com" => Self::ExpandPath { path: from.string()? },
                _ => Self::Unknown,
            },
            _ => Self::Unknown,
        })
    }
}

/// The client's side, for tests and made-up conversations.
#[cfg(test)]
impl Packet<'_> {
    pub fn encode(&self) -> Vec<u8> {
        let (number, request) = match *self {
            Self::Init(version) => return [&[INIT], &version.to_be_bytes()[..]].concat(),
            Self::Request(number, request) => (number, request),
        };
        let (kind, fields) = request.encode();
        [&[kind], &number.to_be_bytes()[..], &fields].concat()
    }
}

#[cfg(test)]
impl Request<'_> {
    fn encode(&self) -> (u8, Vec<u8>) {
        fn strings(strings: &[&[u8]]) -> Vec<u8> {
            let mut bytes = Vec::new();
            strings.iter().for_each(|string| super::write_string(&mut bytes, string));
            bytes
        }
        fn with(path: &[u8], attributes: &Attributes) -> Vec<u8> {
            let mut bytes = strings(&[path]);
            attributes.write(&mut bytes);
            bytes
        }
        fn extended(name: &str, fields: Vec<u8>) -> (u8, Vec<u8>) {
            (EXTENDED, [strings(&[name.as_bytes()]), fields].concat())
        }
        match self {
            Self::Open { path, how, attributes } => {
                let mut bytes = [strings(&[path]), how.to_be_bytes().to_vec()].concat();
                attributes.write(&mut bytes);
                (3, bytes)
            }
            Self::Close { handle } => (4, strings(&[handle])),
            Self::Read { handle, offset, length } => {
                (5, [&strings(&[handle])[..], &offset.to_be_bytes(), &length.to_be_bytes()].concat())
            }
            Self::Write { handle, offset, data } => {
                (6, [&strings(&[handle])[..], &offset.to_be_bytes(), &strings(&[data])].concat())
            }
            Self::LinkStat { path } => (7, strings(&[path])),
            Self::HandleStat { handle } => (8, strings(&[handle])),
            Self::SetStat { path, attributes } => (9, with(path, attributes)),
            Self::HandleSetStat { handle, attributes } => (10, with(handle, attributes)),
            Self::OpenDirectory { path } => (11, strings(&[path])),
            Self::ReadDirectory { handle } => (12, strings(&[handle])),
            Self::Remove { path } => (13, strings(&[path])),
            Self::MakeDirectory { path, attributes } => (14, with(path, attributes)),
            Self::RemoveDirectory { path } => (15, strings(&[path])),
            Self::RealPath { path } => (16, strings(&[path])),
            Self::Stat { path } => (17, strings(&[path])),
            Self::Rename { from, to } => (18, strings(&[from, to])),
            Self::ReadLink { path } => (19, strings(&[path])),
            Self::Symlink { target, path } => (20, strings(&[target, path])),
            Self::PosixRename { from, to } => extended("posix-rename@openssh.com", strings(&[from, to])),
            Self::FileSystem { path } => extended("statvfs@openssh.com", strings(&[path])),
            Self::HandleFileSystem { handle } => extended("fstatvfs@openssh.com", strings(&[handle])),
            Self::HardLink { existing, path } => extended("hardlink@openssh.com", strings(&[existing, path])),
            Self::Sync { handle } => extended("fsync@openssh.com", strings(&[handle])),
            Self::LinkSetStat { path, attributes } => extended("lsetstat@openssh.com", with(path, attributes)),
            Self::Limits => extended("limits@openssh.com", vec![]),
            Self::ExpandPath { path } => extended("expand-path@openssh.com", strings(&[path])),
            Self::Unknown => extended("unknown@example.com", vec![]),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// As OpenSSH 9.2's sftp sends it: `put -p` of a file of mode 0640.
    #[test]
    fn a_packet_of_openssh() {
        let packet = b"\x03\0\0\0\x05\0\0\0\x06/tmp/f\0\0\0\x1a\0\0\0\x04\0\0\x01\xa0";
        let attributes = Attributes { mode: Some(0o640), ..Default::default() };
        let open = Request::Open { path: b"/tmp/f", how: WRITE | CREATE | TRUNCATE, attributes };
        assert_eq!(Packet::decode(packet), Ok(Packet::Request(5, open)));
    }

    #[test]
    fn extended_attributes_are_passed_over() {
        let packet = b"\x0e\0\0\0\x01\0\0\0\x01d\x80\0\0\x04\0\0\x01\xed\0\0\0\x01\0\0\0\x01k\0\0\0\x01v";
        let attributes = Attributes { mode: Some(0o755), ..Default::default() };
        let expected = Request::MakeDirectory { path: b"d", attributes };
        assert_eq!(Packet::decode(packet), Ok(Packet::Request(1, expected)));
        assert!(Packet::decode(&packet[..packet.len() - 1]).is_err());
    }

    fn attributes() -> impl Strategy<Value = Attributes> {
        use prop::option::of;
        (of(any::<u64>()), of(any::<(u32, u32)>()), of(any::<u32>()), of(any::<(u32, u32)>()))
            .prop_map(|(size, owner, mode, times)| Attributes { size, owner, mode, times })
    }

    #[rustfmt::skip] // a table
    fn every_request<'a>(a: &'a [u8], b: &'a [u8], attributes: Attributes, offset: u64, how: u32) -> Vec<Request<'a>> {
        vec![
            Request::Open { path: a, how, attributes },
            Request::Close { handle: a },
            Request::Read { handle: a, offset, length: how },
            Request::Write { handle: a, offset, data: b },
            Request::Stat { path: a },
            Request::LinkStat { path: a },
            Request::HandleStat { handle: a },
            Request::SetStat { path: a, attributes },
            Request::LinkSetStat { path: a, attributes },
            Request::HandleSetStat { handle: a, attributes },
            Request::OpenDirectory { path: a },
            Request::ReadDirectory { handle: a },
            Request::Remove { path: a },
            Request::MakeDirectory { path: a, attributes },
            Request::RemoveDirectory { path: a },
            Request::RealPath { path: a },
            Request::ExpandPath { path: a },
            Request::Rename { from: a, to: b },
            Request::PosixRename { from: a, to: b },
            Request::ReadLink { path: a },
            Request::Symlink { target: a, path: b },
            Request::HardLink { existing: a, path: b },
            Request::FileSystem { path: a },
            Request::HandleFileSystem { handle: a },
            Request::Sync { handle: a },
            Request::Limits,
            Request::Unknown,
        ]
    }

    proptest! {
        #[test]
        fn round_trip_and_no_prefix_is_read(
            a: Vec<u8>, b: Vec<u8>, attributes in attributes(), offset: u64, how: u32, number: u32,
        ) {
            for request in every_request(&a, &b, attributes, offset, how) {
                let packet = Packet::Request(number, request);
                let bytes = packet.encode();
                prop_assert_eq!(Packet::decode(&bytes), Ok(packet));
                for length in 0..bytes.len() {
                    prop_assert!(Packet::decode(&bytes[..length]).is_err());
                }
            }
        }

        #[test]
        fn anything_can_be_read_without_a_panic(bytes: Vec<u8>) {
            let _ = Packet::decode(&bytes);
        }
    }
}
