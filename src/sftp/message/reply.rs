//! What a server answers.

use rustix::io::Errno;

use super::{Attributes, LENGTH, VERSION, request::EXTENSIONS, write_string};

/// `SSH_FX_*`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Code {
    Ok = 0,
    EndOfFile = 1,
    NoSuchFile = 2,
    PermissionDenied = 3,
    Failure = 4,
    BadMessage = 5,
    Unsupported = 8,
}

/// How a request ended, and a sentence for people, which OpenSSH's client doesn't show.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Status(pub Code, pub String);

impl Status {
    pub fn new(code: Code, message: &str) -> Self {
        Self(code, message.into())
    }

    pub fn denied(message: &str) -> Self {
        Self::new(Code::PermissionDenied, message)
    }
}

/// As `errno_to_portable` of OpenSSH's sftp-server.c has it.
impl From<Errno> for Status {
    fn from(error: Errno) -> Self {
        let code = match error {
            Errno::NOENT | Errno::NOTDIR | Errno::BADF | Errno::LOOP => Code::NoSuchFile,
            Errno::PERM | Errno::ACCESS => Code::PermissionDenied,
            Errno::NAMETOOLONG | Errno::INVAL => Code::BadMessage,
            Errno::NOSYS | Errno::OPNOTSUPP => Code::Unsupported,
            _ => Code::Failure,
        };
        Self(code, std::io::Error::from(error).to_string())
    }
}

/// A name in a directory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    pub name: Vec<u8>,
    /// The line of `ls -l`.
    pub long: Vec<u8>,
    pub attributes: Attributes,
}

impl Entry {
    /// Of a path or a link's target: without attributes.
    pub fn bare(name: Vec<u8>) -> Self {
        Self { long: name.clone(), name, attributes: Attributes::default() }
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reply {
    Version,
    Status(Status),
    Handle(u32),
    Names(Vec<Entry>),
    Attributes(Attributes),
    /// What `limits@` and `statvfs@` answer with.
    Numbers(Vec<u64>),
}

const DATA: u8 = 103;

/// Length, type, number and length of the data: what stands before the data of a READ's reply, in bytes.
pub const DATA_HEADER: usize = LENGTH + 1 + 4 + 4;

/// Panics if `length` is not that of a packet's data.
pub fn data_header(number: u32, length: usize) -> [u8; DATA_HEADER] {
    let length = u32::try_from(length).expect("data fits into a packet");
    let mut header = [0; DATA_HEADER];
    header[..4].copy_from_slice(&(length + (DATA_HEADER - LENGTH) as u32).to_be_bytes());
    header[4] = DATA;
    header[5..9].copy_from_slice(&number.to_be_bytes());
    header[9..].copy_from_slice(&length.to_be_bytes());
    header
}

impl Reply {
    /// The packet, length field included, that answers request `number`.
    pub fn encode(&self, number: u32) -> Vec<u8> {
        let mut to = vec![0; LENGTH];
        let mut begin = |kind: u8| {
            to.push(kind);
            to.extend(number.to_be_bytes());
        };
        match self {
            Self::Version => {
                to.push(2);
                to.extend(VERSION.to_be_bytes());
                for (name, version) in EXTENSIONS {
                    write_string(&mut to, name.as_bytes());
                    write_string(&mut to, version.as_bytes());
                }
            }
            Self::Status(Status(code, message)) => {
                begin(101);
                to.extend((*code as u32).to_be_bytes());
                write_string(&mut to, message.as_bytes());
                write_string(&mut to, b""); // the language
            }
            Self::Handle(handle) => {
                begin(102);
                write_string(&mut to, &handle.to_be_bytes());
            }
            Self::Names(entries) => {
                begin(104);
                to.extend((entries.len() as u32).to_be_bytes());
                for entry in entries {
                    write_string(&mut to, &entry.name);
                    write_string(&mut to, &entry.long);
                    entry.attributes.write(&mut to);
                }
            }
            Self::Attributes(attributes) => {
                begin(105);
                attributes.write(&mut to);
            }
            Self::Numbers(numbers) => {
                begin(201);
                to.extend(numbers.iter().flat_map(|number| number.to_be_bytes()));
            }
        }
        let length = (to.len() - LENGTH) as u32;
        to[..LENGTH].copy_from_slice(&length.to_be_bytes());
        to
    }
}

/// What a client reads, for tests and made-up conversations.
#[cfg(test)]
#[derive(Debug, PartialEq, Eq)]
pub enum Answer {
    Reply(Reply),
    Data(Vec<u8>),
}

#[cfg(test)]
impl Answer {
    /// Reads what [`Reply::encode`] or [`data_header`] wrote. Panics on a packet that no client would understand.
    pub fn decode(packet: &[u8]) -> Result<(u32, Self), super::Malformed> {
        assert_eq!(packet.len() - LENGTH, u32::from_be_bytes(packet[..LENGTH].try_into().unwrap()) as usize);
        let mut from = super::Reader::new(&packet[LENGTH..])?;
        let number = from.u32()?;
        let reply = match from.kind {
            2 => {
                assert_eq!(number, VERSION);
                return Ok((0, Self::Reply(Reply::Version)));
            }
            101 => {
                let code = from.u32()?;
                let code = Code::ALL.into_iter().find(|known| *known as u32 == code).expect("a code that there is");
                let message = String::from_utf8(from.string()?.to_vec()).unwrap();
                assert_eq!(from.string(), Ok(&b""[..]));
                Reply::Status(Status(code, message))
            }
            102 => Reply::Handle(u32::from_be_bytes(from.string()?.try_into().unwrap())),
            DATA => return Ok((number, Self::Data(from.string()?.to_vec()))),
            104 => {
                let mut entries = Vec::new();
                for _ in 0..from.u32()? {
                    let (name, long) = (from.string()?.to_vec(), from.string()?.to_vec());
                    entries.push(Entry { name, long, attributes: Attributes::read(&mut from)? });
                }
                Reply::Names(entries)
            }
            105 => Reply::Attributes(Attributes::read(&mut from)?),
            201 => Reply::Numbers(from.rest.chunks(8).map(|it| u64::from_be_bytes(it.try_into().unwrap())).collect()),
            kind => panic!("type {kind}"),
        };
        Ok((number, Self::Reply(reply)))
    }
}

#[cfg(test)]
impl Code {
    pub const ALL: [Self; 7] = [
        Self::Ok,
        Self::EndOfFile,
        Self::NoSuchFile,
        Self::PermissionDenied,
        Self::Failure,
        Self::BadMessage,
        Self::Unsupported,
    ];
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn round_trip(
            number: u32, size: u64, owner: (u32, u32), name: Vec<u8>, message: String, numbers: Vec<u64>, code in 0..7usize,
        ) {
            let attributes = Attributes { size: Some(size), owner: Some(owner), ..Default::default() };
            let long = [&name[..], b" long"].concat();
            let entries = vec![Entry::bare(name.clone()), Entry { name, long, attributes }];
            for reply in [
                Reply::Status(Status(Code::ALL[code], message)),
                Reply::Handle(owner.0),
                Reply::Names(entries),
                Reply::Attributes(attributes),
                Reply::Numbers(numbers),
            ] {
                let packet = reply.encode(number);
                prop_assert_eq!(Answer::decode(&packet), Ok((number, Answer::Reply(reply))));
            }
        }
    }

    #[test]
    fn the_header_of_data() {
        assert_eq!(data_header(7, 2), *b"\0\0\0\x0b\x67\0\0\0\x07\0\0\0\x02");
    }

    #[test]
    fn the_version_and_its_extensions() {
        let packet = Reply::Version.encode(0);
        assert!(packet[LENGTH..].starts_with(b"\x02\0\0\0\x03\0\0\0\x18posix-rename@openssh.com\0\0\0\x01"));
    }
}
