//! What accounts with less than all rights can do.

use super::super::handles::MOST_MADE;
use super::super::message::request::APPEND;
use super::*;

#[test]
fn read_only_changes_nothing() {
    let fixture = fixture();
    let root = fixture.join("/root");
    let before = snapshot(&root);
    let mut conversation = Conversation::new(&root, "/", Access::ReadOnly);
    assert_eq!(conversation.get("absolute").unwrap(), b"inside");
    assert!(conversation.list("to-e").unwrap().contains(&"f".into()));
    assert_eq!(conversation.code(Request::ReadLink { path: b"to-e" }), Code::Ok);
    assert_eq!(conversation.code(Request::FileSystem { path: b"/" }), Code::Ok);
    for path in ["file", "d", "to-e", "new"] {
        for request in requests_with(path.as_bytes(), b"other") {
            let changes = !matches!(
                request,
                Request::Open { how: READ, .. }
                    | Request::Stat { .. }
                    | Request::LinkStat { .. }
                    | Request::OpenDirectory { .. }
                    | Request::RealPath { .. }
                    | Request::ExpandPath { .. }
                    | Request::ReadLink { .. }
                    | Request::FileSystem { .. }
            );
            let code = conversation.code(request);
            assert_eq!(code == Code::PermissionDenied, changes, "{request:?}: {code:?}");
        }
    }
    let handle = conversation.open("file", READ).unwrap();
    let mode = Attributes { mode: Some(0o600), ..Attributes::default() };
    assert_eq!(conversation.code(Request::HandleSetStat { handle: &handle, attributes: mode }), Code::PermissionDenied);
    let write = Request::Write { handle: &handle, offset: 0, data: b"x" };
    assert_eq!(conversation.code(write), Code::PermissionDenied);
    assert_eq!(snapshot(&root), before);
}

/// Of what others have put there, nothing can be read, listed, changed, replaced or removed, and not even be seen, but
/// for directories.
#[test]
fn a_drop_box_keeps_what_it_has() {
    let fixture = fixture();
    let root = fixture.join("/root");
    let before = snapshot(&root);
    let mut conversation = Conversation::new(&root, "/", Access::WriteOnly);
    for path in ["file", "d/e/f", "to-e/f", "absolute", "d"] {
        for request in requests_with(path.as_bytes(), b"d/e/f") {
            let code = conversation.code(request);
            let harmless = match request {
                Request::Stat { .. } | Request::LinkStat { .. } => path == "d",
                Request::RealPath { .. } | Request::ExpandPath { .. } | Request::FileSystem { .. } => true,
                _ => false,
            };
            assert_eq!(code == Code::Ok, harmless, "{request:?}: {code:?}");
        }
    }
    assert_eq!(conversation.code(Request::Stat { path: b"file" }), Code::NoSuchFile);
    assert_eq!(conversation.real_path("to-e/../x"), Ok("/x".into()), "no link is looked at");
    assert_eq!(snapshot(&root), before);
}

#[test]
fn a_drop_box_takes_what_is_new() {
    let fixture = fixture();
    let root = fixture.join("/root");
    let mut conversation = Conversation::new(&root, "/", Access::WriteOnly);
    assert_eq!(conversation.put("to-e/new", b"first"), Ok(()));
    assert_eq!(conversation.open("d/e/new", READ), Err(Code::PermissionDenied), "not even what is one's own");
    assert_eq!(conversation.put("d/e/new", b"2nd"), Ok(()), "this session's own can be overwritten");
    let handle = conversation.open("d/e/new", WRITE | APPEND).unwrap();
    assert_eq!(conversation.code(Request::Read { handle: &handle, offset: 0, length: 1 }), Code::PermissionDenied);
    assert_eq!(conversation.code(Request::Write { handle: &handle, offset: 0, data: b" more" }), Code::Ok);
    assert_eq!(std::fs::read(root.join("d/e/new")).unwrap(), b"2nd more");
    let Answer::Reply(Reply::Attributes(attributes)) = conversation.ask(Request::Stat { path: b"d/e/new" }) else {
        panic!("one's own can be looked at");
    };
    assert_eq!(attributes.size, Some(8));
    let attributes = Attributes { mode: Some(0o600), times: Some((1, 1)), ..Attributes::default() };
    assert_eq!(conversation.code(Request::SetStat { path: b"d/e/new", attributes }), Code::Ok);
    assert_eq!(conversation.code(Request::MakeDirectory { path: b"made", attributes }), Code::Ok);
    assert_eq!(conversation.code(Request::SetStat { path: b"made", attributes }), Code::Ok);
    assert_eq!(conversation.code(Request::OpenDirectory { path: b"made" }), Code::PermissionDenied);
    assert_eq!(conversation.code(Request::PosixRename { from: b"d/e/new", to: b"file" }), Code::Failure);
    assert_eq!(conversation.code(Request::Rename { from: b"d/e/new", to: b"made/x" }), Code::Ok);
    assert_eq!(conversation.put("made/x", b"3rd"), Ok(()), "it is the same file");
    let mut next = Conversation::new(&root, "/", Access::WriteOnly);
    assert_eq!(next.put("made/x", b"4th"), Err(Code::Failure), "another session may not");
    assert_eq!(next.open("made/x", WRITE), Err(Code::Failure));
    assert_eq!(next.code(Request::Remove { path: b"made/x" }), Code::NoSuchFile);
    assert_eq!(conversation.code(Request::Remove { path: b"made/x" }), Code::Ok);
    assert_eq!(conversation.code(Request::RemoveDirectory { path: b"made" }), Code::Ok);
    assert_eq!(std::fs::read(root.join("file")).unwrap(), b"file");
    for number in 0..=MOST_MADE {
        assert_eq!(conversation.put(&format!("many{number}"), b"x"), Ok(()));
    }
    assert_eq!(conversation.put("many1", b"y"), Ok(()));
    assert_eq!(conversation.put("many0", b"y"), Err(Code::Failure), "so long ago is not remembered");
}
