//! SFTP version 3 as bytes (draft-ietf-secsh-filexfer-02, and OpenSSH's PROTOCOL sections 4 for its extensions). Pure, and
//! never panics on what a client sends.

pub mod reply;
pub mod request;

/// The longest packet, in bytes, without its length field. OpenSSH's `SFTP_MAX_MSG_LENGTH` (sftp-common.h).
pub const LONGEST_PACKET: usize = 256 << 10;
/// The most data of one READ or WRITE, in bytes: a packet less its other fields. OpenSSH's `SFTP_MAX_READ_LENGTH`.
pub const LONGEST_DATA: usize = LONGEST_PACKET - 1024;
/// The length field before each packet, in bytes.
pub const LENGTH: usize = 4;
/// The version that is spoken, whatever a client offers.
pub const VERSION: u32 = 3;

/// A packet that can't be read. The stream can't be trusted after it.
#[derive(Debug, PartialEq, Eq)]
pub struct Malformed(pub String);

/// Of a file or directory (draft section 5): each part may be missing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Attributes {
    /// In bytes.
    pub size: Option<u64>,
    /// User and group.
    pub owner: Option<(u32, u32)>,
    /// As st_mode, with the kind of file.
    pub mode: Option<u32>,
    /// Last access and last change, in seconds since 1970.
    pub times: Option<(u32, u32)>,
}

const SIZE: u32 = 1;
const OWNER: u32 = 2;
const MODE: u32 = 4;
const TIMES: u32 = 8;
const EXTENDED: u32 = 0x8000_0000;

impl Attributes {
    fn read(reader: &mut Reader) -> Result<Self, Malformed> {
        let flags = reader.u32()?;
        let has = |flag| flags & flag != 0;
        let attributes = Self {
            size: has(SIZE).then(|| reader.u64()).transpose()?,
            owner: has(OWNER).then(|| reader.pair()).transpose()?,
            mode: has(MODE).then(|| reader.u32()).transpose()?,
            times: has(TIMES).then(|| reader.pair()).transpose()?,
        };
        if has(EXTENDED) {
            for _ in 0..reader.u32()? {
                reader.string()?; // nobody's extension means anything here
                reader.string()?;
            }
        }
        Ok(attributes)
    }

    fn write(&self, to: &mut Vec<u8>) {
        let flag = |there: bool, flag| if there { flag } else { 0 };
        let flags = flag(self.size.is_some(), SIZE)
            | flag(self.owner.is_some(), OWNER)
            | flag(self.mode.is_some(), MODE)
            | flag(self.times.is_some(), TIMES);
        to.extend(flags.to_be_bytes());
        to.extend(self.size.iter().flat_map(|size| size.to_be_bytes()));
        for (first, second) in self.owner.iter() {
            to.extend([first.to_be_bytes(), second.to_be_bytes()].concat());
        }
        to.extend(self.mode.iter().flat_map(|mode| mode.to_be_bytes()));
        for (first, second) in self.times.iter() {
            to.extend([first.to_be_bytes(), second.to_be_bytes()].concat());
        }
    }
}

/// What is left of a packet.
struct Reader<'a> {
    kind: u8,
    rest: &'a [u8],
}

impl<'a> Reader<'a> {
    fn new(packet: &'a [u8]) -> Result<Self, Malformed> {
        let (kind, rest) = packet.split_first().ok_or_else(|| Malformed("an empty packet".into()))?;
        Ok(Self { kind: *kind, rest })
    }

    fn take(&mut self, length: usize) -> Result<&'a [u8], Malformed> {
        let (taken, rest) = self
            .rest
            .split_at_checked(length)
            .ok_or_else(|| Malformed(format!("a packet of type {} ends before all of it was there", self.kind)))?;
        self.rest = rest;
        Ok(taken)
    }

    fn u32(&mut self) -> Result<u32, Malformed> {
        self.take(4).map(|bytes| bytes.iter().fold(0, |value, byte| value << 8 | u32::from(*byte)))
    }

    fn u64(&mut self) -> Result<u64, Malformed> {
        Ok(u64::from(self.u32()?) << 32 | u64::from(self.u32()?))
    }

    fn pair(&mut self) -> Result<(u32, u32), Malformed> {
        Ok((self.u32()?, self.u32()?))
    }

    fn string(&mut self) -> Result<&'a [u8], Malformed> {
        let length = self.u32()?;
        self.take(usize::try_from(length).unwrap_or(usize::MAX))
    }
}

/// Panics if it is longer than a packet can be: what is written is bounded by its writer.
fn write_string(to: &mut Vec<u8>, string: &[u8]) {
    to.extend(u32::try_from(string.len()).expect("strings are shorter than packets").to_be_bytes());
    to.extend(string);
}
