//! Frames: four bytes of length (little endian), then that many bytes of postcard.

use std::io;

use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use zeroize::Zeroizing;

/// Largest frame: a host key, an authorized_keys file and a screen of text fit many times over, and a peer that
/// announces more is broken or hostile.
pub const MAX_FRAME: usize = 1 << 20;

/// The next frame, or `None` when the peer has closed the stream between two frames.
pub async fn read<T: DeserializeOwned>(stream: &mut (impl AsyncRead + Unpin)) -> io::Result<Option<T>> {
    let mut length = [0; 4];
    match stream.read_exact(&mut length).await {
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(None),
        result => result?,
    };
    let length = u32::from_le_bytes(length) as usize;
    if length > MAX_FRAME {
        return Err(invalid(format!("a control frame of {length} bytes is over the limit of {MAX_FRAME}")));
    }
    let mut bytes = Zeroizing::new(vec![0; length]);
    stream.read_exact(&mut bytes).await?;
    match postcard::take_from_bytes(&bytes) {
        Ok((message, [])) => Ok(Some(message)),
        Ok((_, rest)) => Err(invalid(format!("a control frame has {} bytes too many", rest.len()))),
        Err(error) => Err(invalid(format!("a control frame can't be read: {error}"))),
    }
}

pub async fn write<T: Serialize>(stream: &mut (impl AsyncWrite + Unpin), message: &T) -> io::Result<()> {
    let bytes = Zeroizing::new(postcard::to_extend(message, vec![0; 4]).map_err(|error| invalid(error.to_string()))?);
    let length = bytes.len() - 4;
    if length > MAX_FRAME {
        return Err(invalid(format!("a control frame of {length} bytes is over the limit of {MAX_FRAME}")));
    }
    let mut bytes = bytes;
    bytes[..4].copy_from_slice(&(length as u32).to_le_bytes());
    stream.write_all(&bytes).await
}

fn invalid(text: String) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, text)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::control::message::{Event, Request};

    #[tokio::test]
    async fn frames_pass_and_the_end_is_seen() {
        let (mut ours, mut theirs) = tokio::io::duplex(64);
        let writer = crate::task::spawn(async move {
            write(&mut ours, &(1u32, Request::Status)).await.unwrap();
            write(&mut ours, &(2u32, Request::Peek { follow: true })).await.unwrap();
        });
        assert!(matches!(read(&mut theirs).await.unwrap(), Some((1u32, Request::Status))));
        assert!(matches!(read(&mut theirs).await.unwrap(), Some((2u32, Request::Peek { follow: true }))));
        assert!(read::<(u32, Request)>(&mut theirs).await.unwrap().is_none());
        writer.await.unwrap();
    }

    #[tokio::test]
    async fn garbage_is_an_error() {
        let too_long = [255u8; 4].as_slice();
        let unknown = &[1, 0, 0, 0, 99];
        let trailing = &[3, 0, 0, 0, 6, 0, 0];
        let cut = &[9, 0, 0, 0, 1];
        for bytes in [too_long, unknown, trailing, cut] {
            assert!(read::<Event>(&mut &*bytes).await.is_err(), "{bytes:?}");
        }
    }
}
