//! Conversations with the server, in this process; `tests/sftp` has those with real clients.

mod access;
mod jail;

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{MetadataExt, symlink};
use std::path::Path;

use super::access::Access;
use super::message::Attributes;
use super::message::reply::{Answer, Code, Reply, Status};
use super::message::request::{CREATE, Packet, READ, Request, TRUNCATE, WRITE};
use super::path::View;
use super::server::Server;
use super::stream::Output;
use super::tree::Tree;
use crate::root::tests::Fixture;

/// What nobody below the root may ever see: the content of a file beside it.
pub const CANARY: &[u8] = b"the canary sings outside";

/// `outside/` and, beside it, `root/` with files and with links that would lead out.
pub fn fixture() -> Fixture {
    let fixture = Fixture::new(&[
        ("outside/canary", CANARY),
        ("outside/only-here", b""),
        ("root/d/e/f", b"inside"),
        ("root/file", b"file"),
        ("root/other", b"other"),
    ]);
    let outside = fixture.join("/outside");
    let link = |target: &Path, at: &str| symlink(target, fixture.join("/root").join(at)).unwrap();
    link(&outside, "to-outside");
    link(&outside.join("canary"), "to-canary");
    link("../outside".as_ref(), "up");
    link("../../outside/canary".as_ref(), "d/up-canary");
    link("up".as_ref(), "chain");
    link("/proc/self/root".as_ref(), "proc");
    link("d/e".as_ref(), "to-e");
    link("/d/e/f".as_ref(), "absolute");
    fixture
}

/// Names below a directory, with everything of each that can be changed.
pub type Snapshot = BTreeMap<Vec<u8>, (u32, u64, u64, i64, i64, Vec<u8>)>;

pub fn snapshot(directory: &Path) -> Snapshot {
    let mut all = Snapshot::new();
    let mut todo = vec![directory.to_owned()];
    while let Some(path) = todo.pop() {
        let about = fs::symlink_metadata(&path).unwrap();
        let content = match about.file_type() {
            kind if kind.is_file() => fs::read(&path).unwrap(),
            kind if kind.is_symlink() => fs::read_link(&path).unwrap().as_os_str().as_bytes().to_vec(),
            kind if kind.is_dir() => {
                todo.extend(fs::read_dir(&path).unwrap().map(|entry| entry.unwrap().path()));
                vec![]
            }
            _ => vec![],
        };
        let name = path.as_os_str().as_bytes().to_vec();
        all.insert(name, (about.mode(), about.nlink(), about.len(), about.mtime(), about.mtime_nsec(), content));
    }
    all
}

pub struct Conversation {
    server: Server,
    output: Output,
}

impl Conversation {
    pub fn new(root: &Path, shown_as: &str, access: Access) -> Self {
        Self::on(Tree::new(root, View::new(shown_as.as_bytes()).unwrap()).unwrap(), access)
    }

    pub fn on(tree: Tree, access: Access) -> Self {
        let mut conversation = Self { server: Server::new(tree, access), output: Output::default() };
        conversation.server.answer(&Packet::Init(3).encode(), &mut conversation.output).unwrap();
        assert_eq!(Answer::decode(conversation.output.take()), Ok((0, Answer::Reply(Reply::Version))));
        conversation
    }

    pub fn ask(&mut self, request: Request) -> Answer {
        self.server.answer(&Packet::Request(7, request).encode(), &mut self.output).unwrap();
        let (number, answer) = Answer::decode(self.output.take()).unwrap();
        assert_eq!(number, 7);
        answer
    }

    /// The code of the status that a request is answered with; success for other answers.
    pub fn code(&mut self, request: Request) -> Code {
        match self.ask(request) {
            Answer::Reply(Reply::Status(Status(code, _))) => code,
            _ => Code::Ok,
        }
    }

    pub fn open(&mut self, path: &str, how: u32) -> Result<[u8; 4], Code> {
        match self.ask(Request::Open { path: path.as_bytes(), how, attributes: Attributes::default() }) {
            Answer::Reply(Reply::Handle(handle)) => Ok(handle.to_be_bytes()),
            Answer::Reply(Reply::Status(Status(code, _))) => Err(code),
            other => panic!("{other:?}"),
        }
    }

    pub fn get(&mut self, path: &str) -> Result<Vec<u8>, Code> {
        let handle = self.open(path, READ)?;
        let answer = self.ask(Request::Read { handle: &handle, offset: 0, length: 1000 });
        assert_eq!(self.code(Request::Close { handle: &handle }), Code::Ok);
        match answer {
            Answer::Data(data) => Ok(data),
            Answer::Reply(Reply::Status(Status(Code::EndOfFile, _))) => Ok(vec![]),
            other => panic!("{other:?}"),
        }
    }

    pub fn put(&mut self, path: &str, data: &[u8]) -> Result<(), Code> {
        let handle = self.open(path, WRITE | CREATE | TRUNCATE)?;
        assert_eq!(self.code(Request::Write { handle: &handle, offset: 0, data }), Code::Ok);
        assert_eq!(self.code(Request::Close { handle: &handle }), Code::Ok);
        Ok(())
    }

    pub fn list(&mut self, path: &str) -> Result<Vec<String>, Code> {
        let handle = match self.ask(Request::OpenDirectory { path: path.as_bytes() }) {
            Answer::Reply(Reply::Handle(handle)) => handle.to_be_bytes(),
            Answer::Reply(Reply::Status(Status(code, _))) => return Err(code),
            other => panic!("{other:?}"),
        };
        let mut names = Vec::new();
        while let Answer::Reply(Reply::Names(entries)) = self.ask(Request::ReadDirectory { handle: &handle }) {
            names.extend(entries.into_iter().map(|entry| String::from_utf8(entry.name).unwrap()));
        }
        assert_eq!(self.code(Request::Close { handle: &handle }), Code::Ok);
        names.sort();
        Ok(names)
    }

    pub fn real_path(&mut self, path: &str) -> Result<String, Code> {
        match self.ask(Request::RealPath { path: path.as_bytes() }) {
            Answer::Reply(Reply::Names(entries)) => Ok(String::from_utf8(entries[0].name.clone()).unwrap()),
            Answer::Reply(Reply::Status(Status(code, _))) => Err(code),
            other => panic!("{other:?}"),
        }
    }
}

/// Every request that has a path, with `path` where it has one and `other` where it has a second.
pub fn requests_with<'a>(path: &'a [u8], other: &'a [u8]) -> Vec<Request<'a>> {
    let nothing = Attributes::default();
    let attributes = Attributes { mode: Some(0o700), times: Some((1, 1)), owner: Some((1, 1)), ..nothing };
    let sized = Attributes { size: Some(1), ..nothing };
    let open = |how| Request::Open { path, how, attributes: nothing };
    vec![
        open(READ),
        open(WRITE),
        open(READ | WRITE | CREATE),
        open(WRITE | CREATE | TRUNCATE),
        open(WRITE | CREATE | super::message::request::EXCLUSIVE),
        Request::Stat { path },
        Request::LinkStat { path },
        Request::SetStat { path, attributes },
        Request::SetStat { path, attributes: sized },
        Request::LinkSetStat { path, attributes },
        Request::OpenDirectory { path },
        Request::Remove { path },
        Request::MakeDirectory { path, attributes },
        Request::RemoveDirectory { path },
        Request::RealPath { path },
        Request::ExpandPath { path },
        Request::Rename { from: path, to: other },
        Request::Rename { from: other, to: path },
        Request::PosixRename { from: path, to: other },
        Request::PosixRename { from: other, to: path },
        Request::ReadLink { path },
        Request::Symlink { target: other, path },
        Request::HardLink { existing: path, path: other },
        Request::HardLink { existing: other, path },
        Request::FileSystem { path },
    ]
}
