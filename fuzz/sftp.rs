//! What an SFTP client says, and that none of it leads out of the directory that is served.

use std::cell::RefCell;
use std::path::PathBuf;

use crate::root::tests::Fixture;
use crate::sftp::access::Access;
use crate::sftp::message::Attributes;
use crate::sftp::message::request::{Packet, Request};
use crate::sftp::path::View;
use crate::sftp::server::Server;
use crate::sftp::stream::Output;
use crate::sftp::tests::{CANARY, fixture, requests_with, snapshot};
use crate::sftp::tree::Tree;

/// Handles are numbers from 0 on; a conversation of this length opens no more.
const HANDLES: u8 = 4;

thread_local! {
    /// Made anew when something in it has changed: most inputs are refused, and files take more time than all else.
    static PLACE: RefCell<Option<Fixture>> = const { RefCell::new(None) };
}

/// A conversation. The first byte says what is allowed and where the root is seen. Then each request is a byte for its
/// kind, one for a handle, and two strings, each as a byte of length and so many bytes; kinds without a meaning are
/// packets in themselves. Nothing outside may change, and the content of a file there may not be told.
pub fn conversation(input: &[u8]) {
    let Some((how, rest)) = input.split_first() else { return };
    let access = [Access::ReadWrite, Access::ReadWrite, Access::ReadOnly, Access::WriteOnly][usize::from(how % 4)];
    let shown_as = ["/", "/s", "/root"][usize::from(how / 4 % 3)];
    let place = PLACE.take().unwrap_or_else(fixture);
    let (root, outside) = (place.join("/root"), place.join("/outside"));
    let before = [snapshot(&root), snapshot(&outside)];
    talk(rest, Server::new(Tree::new(&root, View::new(shown_as.as_bytes()).unwrap()).unwrap(), access));
    assert_eq!(snapshot(&outside), before[1], "something outside has changed");
    let after = snapshot(&root);
    if access == Access::ReadOnly {
        assert_eq!(after, before[0], "read-only");
    }
    if access == Access::WriteOnly {
        let kept = |name: &Vec<u8>| PathBuf::from(String::from_utf8(name.clone()).unwrap()).is_dir();
        assert!(before[0].iter().all(|(name, it)| after.get(name) == Some(it) || kept(name)), "a drop box");
    }
    if after == before[0] {
        PLACE.set(Some(place));
    }
}

fn talk(mut rest: &[u8], mut server: Server) {
    let mut output = Output::default();
    server.answer(&Packet::Init(3).encode(), &mut output).unwrap();
    while let [kind, handle, after @ ..] = rest {
        let (first, after) = string(after);
        let (second, after) = string(after);
        rest = after;
        let number = u32::from(handle % HANDLES).to_be_bytes();
        let packet = match request(*kind, &number, first, second) {
            Some(request) => Packet::Request(1, request).encode(),
            None => [&[*kind, 0, 0, 0, 1], first, second].concat(),
        };
        let result = server.answer(&packet, &mut output);
        let told = output.take();
        assert!(!told.windows(CANARY.len()).any(|part| part == CANARY), "what is outside was told");
        if result.is_err() {
            return;
        }
    }
}

fn request<'a>(kind: u8, handle: &'a [u8], first: &'a [u8], second: &'a [u8]) -> Option<Request<'a>> {
    let attributes = Attributes { mode: Some(0o755), times: Some((1, 1)), ..Attributes::default() };
    let offset = second.len() as u64;
    let mut all = requests_with(first, second);
    all.extend([
        Request::Close { handle },
        Request::Read { handle, offset: 0, length: 1000 },
        Request::Write { handle, offset, data: first },
        Request::HandleStat { handle },
        Request::HandleSetStat { handle, attributes },
        Request::ReadDirectory { handle },
        Request::HandleFileSystem { handle },
        Request::Limits,
    ]);
    all.get(usize::from(kind)).copied()
}

fn string(input: &[u8]) -> (&[u8], &[u8]) {
    match input.split_first() {
        Some((length, rest)) => rest.split_at(rest.len().min(usize::from(*length))),
        None => (&[], &[]),
    }
}
