//! No way out.

use std::os::fd::AsFd;
use std::os::unix::fs::PermissionsExt;
use std::sync::atomic::{AtomicBool, Ordering};

use nix::sys::stat::{Mode, SFlag, mknod};
use rustix::fs::{CWD, RenameFlags, renameat_with};

use super::super::handles::MOST_HANDLES;
use super::super::message::LONGEST_DATA;
use super::*;

fn tree(root: &Path, shown_as: &str, has_openat2: bool) -> Tree {
    let mut tree = Tree::new(root, View::new(shown_as.as_bytes()).unwrap()).unwrap();
    assert!(tree.has_openat2, "these tests want Linux 5.6");
    tree.has_openat2 = has_openat2;
    tree
}

#[test]
fn no_path_leads_out() {
    let outside = fixture().join("/outside/canary").to_str().unwrap().to_owned();
    let through_proc = format!("proc{outside}");
    let paths = [
        "../outside/canary",
        "/../outside/canary",
        "d/../../outside/canary",
        "d/e/../../../outside/canary",
        "to-e/../../../outside/canary",
        "to-outside/canary",
        "to-outside/new",
        "to-outside",
        "to-outside/.",
        "to-outside/..",
        "to-canary",
        "up/canary",
        "up/../outside/canary",
        "d/up-canary",
        "chain/canary",
        "chain/new",
        "/proc/self/root/etc/passwd",
        "proc/etc/passwd",
        &through_proc,
        &outside,
        "..",
        "/..",
        ".",
        "d/e/../../..",
    ];
    for (has_openat2, shown_as) in [(true, "/"), (true, "/home/mle"), (false, "/")] {
        let mut tried = Vec::new();
        for path in paths {
            tried.extend(requests_with(path.as_bytes(), b"other"));
            tried.extend(requests_with(b"file", path.as_bytes()));
        }
        let mut fixture = fixture();
        for request in tried {
            let tree = tree(&fixture.join("/root"), shown_as, has_openat2);
            if try_to_get_out(request, tree, &fixture) {
                fixture = self::fixture(); // something inside has changed
            }
        }
    }
}

/// Whether the request was served.
fn try_to_get_out(request: Request, tree: Tree, fixture: &Fixture) -> bool {
    let outside = fixture.join("/outside");
    let before = snapshot(&outside);
    let mut conversation = Conversation::on(tree, Access::ReadWrite);
    let answer = conversation.ask(request);
    match &answer {
        Answer::Reply(Reply::Handle(handle)) => {
            let handle = &handle.to_be_bytes();
            let data = conversation.ask(Request::Read { handle, offset: 0, length: 1000 });
            assert_ne!(data, Answer::Data(CANARY.to_vec()), "{request:?}");
            if let Answer::Reply(Reply::Names(entries)) = conversation.ask(Request::ReadDirectory { handle }) {
                assert!(
                    entries.iter().all(|entry| entry.name != b"only-here" && entry.name != b"outside"),
                    "{request:?}"
                );
            }
            conversation.ask(Request::Write { handle, offset: 0, data: b"gone" });
        }
        Answer::Reply(Reply::Attributes(attributes)) => {
            assert_ne!(attributes.size, Some(CANARY.len() as u64), "{request:?}");
        }
        _ => {}
    }
    assert_eq!(snapshot(&outside), before, "{request:?}");
    !matches!(answer, Answer::Reply(Reply::Status(Status(code, _))) if code != Code::Ok)
}

/// What a hard link, a rename or a new link has brought in is still not outside.
#[test]
fn links_made_by_the_client_lead_nowhere() {
    let fixture = fixture();
    let canary = fixture.join("/outside/canary");
    let mut conversation = Conversation::new(&fixture.join("/root"), "/", Access::ReadWrite);
    for (number, target) in
        ["/etc/passwd", "../outside/canary", canary.to_str().unwrap(), "/proc/self/root"].iter().enumerate()
    {
        let path = format!("made{number}");
        let made = Request::Symlink { target: target.as_bytes(), path: path.as_bytes() };
        assert_eq!(conversation.code(made), Code::Ok);
        assert_eq!(conversation.get(&path), Err(Code::NoSuchFile));
        let hard = format!("hard{number}");
        let hard_link = Request::HardLink { existing: path.as_bytes(), path: hard.as_bytes() };
        assert_eq!(conversation.code(hard_link), Code::Ok, "of the link itself");
        assert_eq!(conversation.get(&hard), Err(Code::NoSuchFile));
        let read = conversation.ask(Request::ReadLink { path: hard.as_bytes() });
        assert!(matches!(read, Answer::Reply(Reply::Names(names)) if names[0].name == target.as_bytes()));
    }
}

#[test]
fn the_kernels_own_links_are_only_text() {
    let mut conversation = Conversation::new("/proc".as_ref(), "/", Access::ReadOnly);
    assert!(conversation.get("self/status").unwrap().starts_with(b"Name:"), "links by name are followed");
    for path in ["self/root/etc/passwd", "self/cwd/Cargo.toml", "self/exe", "thread-self/root/etc/passwd"] {
        assert_eq!(conversation.get(path), Err(Code::NoSuchFile), "{path}");
    }
    let canary = fixture();
    let file = std::fs::File::open(canary.join("/outside/canary")).unwrap();
    let number = std::os::fd::AsRawFd::as_raw_fd(&file.as_fd());
    assert_eq!(conversation.get(&format!("self/fd/{number}")), Err(Code::NoSuchFile));
    assert_eq!(conversation.real_path("self/root"), Ok("/".into()));
}

/// A directory and a link outwards change places as fast as they can, and so do a file and a link.
#[test]
fn no_race_leads_out() {
    for has_openat2 in [true, false] {
        let fixture = fixture();
        let root = fixture.join("/root");
        std::fs::create_dir(root.join("swap")).unwrap();
        std::fs::write(root.join("swap/canary"), "inside").unwrap();
        std::fs::write(root.join("leaf"), "inside").unwrap();
        let before = snapshot(&fixture.join("/outside"));
        let stop = AtomicBool::new(false);
        std::thread::scope(|scope| {
            scope.spawn(|| {
                let exchange = |one: &str, other: &str| {
                    renameat_with(CWD, root.join(one), CWD, root.join(other), RenameFlags::EXCHANGE).unwrap();
                };
                while !stop.load(Ordering::Relaxed) {
                    exchange("swap", "to-outside");
                    exchange("leaf", "to-canary");
                }
            });
            let _end = End(&stop);
            let (inside, refused) = race(&mut Conversation::on(tree(&root, "/", has_openat2), Access::ReadWrite));
            assert!(inside > 0 && refused > 0, "a race that nobody wins or loses is none: {inside} {refused}");
        });
        assert_eq!(snapshot(&fixture.join("/outside")), before);
    }
}

/// Ends the other thread, also when this one fails.
struct End<'a>(&'a AtomicBool);

impl Drop for End<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// How often something was read inside, and how often nothing.
fn race(conversation: &mut Conversation) -> (u32, u32) {
    let mode = Attributes { mode: Some(0o640), times: Some((2, 2)), ..Attributes::default() };
    let (mut inside, mut refused) = (0, 0);
    for round in 0..1500 {
        for path in ["swap/canary", "leaf"] {
            match conversation.get(path) {
                Ok(data) => {
                    assert_eq!(data, b"inside", "round {round}");
                    inside += 1;
                }
                Err(_) => refused += 1,
            }
            conversation.ask(Request::SetStat { path: path.as_bytes(), attributes: mode });
            if let Answer::Reply(Reply::Attributes(attributes)) =
                conversation.ask(Request::Stat { path: path.as_bytes() })
            {
                assert_ne!(attributes.size, Some(CANARY.len() as u64), "round {round}"); // it may be the link's own
            }
        }
        assert!(conversation.list("swap").map_or(true, |names| !names.contains(&"only-here".into())), "round {round}");
        let _ = conversation.put("swap/new", b"new");
        conversation.ask(Request::MakeDirectory { path: b"swap/made", attributes: mode });
        conversation.ask(Request::Rename { from: b"swap/new", to: b"swap/renamed" });
        conversation.ask(Request::HardLink { existing: b"swap/canary", path: b"hard" });
        conversation.ask(Request::Remove { path: b"hard" });
        conversation.ask(Request::Remove { path: b"swap/renamed" });
        conversation.ask(Request::RemoveDirectory { path: b"swap/made" });
    }
    (inside, refused)
}

#[test]
fn the_root_stays() {
    let fixture = fixture();
    let mut conversation = Conversation::new(&fixture.join("/root"), "/", Access::ReadWrite);
    for request in [
        Request::RemoveDirectory { path: b"/" },
        Request::Remove { path: b"." },
        Request::Rename { from: b"/", to: b"x" },
        Request::PosixRename { from: b"d", to: b"/" },
        Request::MakeDirectory { path: b"/", attributes: Attributes::default() },
        Request::HardLink { existing: b"file", path: b"/" },
    ] {
        assert_ne!(conversation.code(request), Code::Ok, "{request:?}");
    }
    let mode = Attributes { mode: Some(0o711), ..Attributes::default() };
    assert_eq!(conversation.code(Request::SetStat { path: b"/", attributes: mode }), Code::Ok);
    assert_eq!(std::fs::metadata(fixture.join("/root")).unwrap().permissions().mode() & 0o777, 0o711);
    let outside = std::fs::Permissions::from_mode(0o700);
    std::fs::set_permissions(fixture.join("/"), outside).unwrap();
    let Answer::Reply(Reply::Handle(handle)) = conversation.ask(Request::OpenDirectory { path: b"/" }) else {
        panic!()
    };
    let Answer::Reply(Reply::Names(names)) = conversation.ask(Request::ReadDirectory { handle: &handle.to_be_bytes() })
    else {
        panic!()
    };
    let above = names.iter().find(|entry| entry.name == b"..").unwrap();
    assert_eq!(above.attributes.mode, Some(0o40711), "what is above is not told");
}

/// The client sees the root somewhere; absolute links mean that place too, whatever is above.
#[test]
fn nested_roots() {
    let fixture = Fixture::new(&[("mle/secret", b"secret"), ("mle/sub/f", b"f")]);
    symlink("/home/mle/sub/f", fixture.join("/mle/sub/link")).unwrap();
    symlink("/home/mle/secret", fixture.join("/mle/sub/out")).unwrap();
    symlink("../secret", fixture.join("/mle/sub/up")).unwrap();
    let mut account = Conversation::new(&fixture.join("/mle"), "/home/mle", Access::ReadWrite);
    let mut sub = Conversation::new(&fixture.join("/mle/sub"), "/home/mle/sub", Access::ReadWrite);
    for conversation in [&mut account, &mut sub] {
        assert_eq!(conversation.get("/home/mle/sub/link").unwrap(), b"f");
        assert_eq!(conversation.real_path("/home/mle/sub/link"), Ok("/home/mle/sub/f".into()));
        assert_eq!(conversation.list("/").unwrap(), [".", "..", "home"]);
        assert_eq!(conversation.list("/home").unwrap(), [".", "..", "mle"]);
        let mode = Attributes { mode: Some(0o777), ..Attributes::default() };
        for request in [
            Request::SetStat { path: b"/home", attributes: mode },
            Request::RemoveDirectory { path: b"/home" },
            Request::Rename { from: b"/home", to: b"/h" },
            Request::Symlink { target: b"/home", path: b"/home" },
            Request::FileSystem { path: b"/" },
        ] {
            assert_eq!(conversation.code(request), Code::PermissionDenied, "{request:?}");
        }
        assert_eq!(conversation.put("/home/new", b""), Err(Code::NoSuchFile));
        assert_eq!(conversation.put("/etc/passwd", b""), Err(Code::NoSuchFile));
    }
    assert_eq!(account.real_path("."), Ok("/home/mle".into()));
    assert_eq!(sub.real_path("."), Ok("/home/mle/sub".into()));
    for path in ["/home/mle/secret", "/home/mle/sub/out", "/home/mle/sub/up"] {
        assert_eq!(account.get(path).unwrap(), b"secret");
        assert_eq!(sub.get(path), Err(Code::NoSuchFile), "{path}");
    }
    assert_eq!(sub.list("/home/mle").unwrap(), [".", "..", "sub"]);
    assert_eq!(sub.put("/home/mle/sub/new", b"new"), Ok(()));
    assert_eq!(account.get("sub/new").unwrap(), b"new");
}

/// It waits for nobody, and starts nothing.
#[test]
fn only_files_are_opened() {
    let fixture = fixture();
    let root = fixture.join("/root");
    let mode = Mode::from_bits_truncate(0o600);
    mknod(&root.join("fifo"), SFlag::S_IFIFO, mode, 0).unwrap();
    let socket = std::os::unix::net::UnixListener::bind(root.join("socket")).unwrap();
    let mut conversation = Conversation::new(&root, "/", Access::ReadWrite);
    for path in ["fifo", "socket", "d", "."] {
        for how in [READ, WRITE, READ | WRITE, WRITE | CREATE | TRUNCATE] {
            assert_eq!(conversation.open(path, how), Err(Code::Failure), "{path}");
        }
    }
    let sized = Attributes { size: Some(0), ..Attributes::default() };
    assert_eq!(conversation.code(Request::SetStat { path: b"fifo", attributes: sized }), Code::BadMessage);
    assert_eq!(conversation.code(Request::Remove { path: b"fifo" }), Code::Ok);
    drop(socket);
    let mut devices = Conversation::new("/dev".as_ref(), "/", Access::ReadWrite);
    assert_eq!(devices.open("null", READ), Err(Code::Failure));
}

#[test]
fn a_jailed_client_makes_nobody_root() {
    let fixture = fixture();
    let root = fixture.join("/root");
    let with = |mode| Attributes { mode: Some(mode), ..Attributes::default() };
    let mode = |path: &str| std::fs::metadata(root.join(path)).unwrap().permissions().mode() & 0o7777;
    let mut jailed = Conversation::new(&root, "/", Access::ReadWrite);
    for set in [0o4755, 0o2755] {
        assert_eq!(jailed.code(Request::SetStat { path: b"file", attributes: with(set) }), Code::PermissionDenied);
        let open = Request::Open { path: b"new", how: WRITE | CREATE, attributes: with(set) };
        let Answer::Reply(Reply::Handle(handle)) = jailed.ask(open) else { panic!() };
        let set = Request::HandleSetStat { handle: &handle.to_be_bytes(), attributes: with(set) };
        assert_eq!(jailed.code(set), Code::PermissionDenied);
        assert_eq!(mode("new") & 0o6000, 0);
    }
    assert_eq!(jailed.code(Request::SetStat { path: b"d", attributes: with(0o1777) }), Code::Ok);
    let mut free = Conversation::new("/".as_ref(), "/", Access::ReadWrite);
    let path = root.join("file");
    let set = Request::SetStat { path: path.as_os_str().as_bytes(), attributes: with(0o4755) };
    assert_eq!(free.code(set), Code::Ok);
    assert_eq!(mode("file"), 0o4755);
}

#[test]
fn limits() {
    let fixture = fixture();
    let mut conversation = Conversation::new(&fixture.join("/root"), "/", Access::ReadWrite);
    let handles: Vec<_> = (0..MOST_HANDLES).map(|_| conversation.open("file", READ).unwrap()).collect();
    assert_eq!(conversation.open("file", READ), Err(Code::Failure));
    assert_eq!(conversation.open("not-made", WRITE | CREATE), Err(Code::Failure));
    assert!(!fixture.join("/root/not-made").exists());
    assert_eq!(conversation.code(Request::OpenDirectory { path: b"d" }), Code::Failure);
    assert_eq!(conversation.code(Request::Close { handle: &handles[0] }), Code::Ok);
    let handle = conversation.open("file", READ).unwrap();
    assert_ne!(handle, handles[0], "no handle is used twice");
    for handle in [&handles[0][..], b"", b"\0\0", b"\xff\xff\xff\xff"] {
        assert_eq!(conversation.code(Request::Read { handle, offset: 0, length: 1 }), Code::Failure);
    }
    let read = conversation.ask(Request::Read { handle: &handle, offset: 1, length: u32::MAX });
    assert_eq!(read, Answer::Data(b"ile".to_vec()));
    let read = conversation.ask(Request::Read { handle: &handle, offset: 1, length: 0 });
    assert_eq!(read, Answer::Data(vec![]));
    for offset in [4, 1 << 40] {
        assert_eq!(conversation.code(Request::Read { handle: &handle, offset, length: 1 }), Code::EndOfFile);
    }
    assert_eq!(conversation.code(Request::Read { handle: &handle, offset: u64::MAX, length: 1 }), Code::BadMessage);
    assert_eq!(conversation.code(Request::Write { handle: &handle, offset: 0, data: b"x" }), Code::NoSuchFile);
    std::fs::write(fixture.join("/root/big"), vec![1; LONGEST_DATA + 1]).unwrap();
    conversation.code(Request::Close { handle: &handle });
    let handle = conversation.open("big", READ).unwrap();
    let read = conversation.ask(Request::Read { handle: &handle, offset: 0, length: u32::MAX });
    assert_eq!(read, Answer::Data(vec![1; LONGEST_DATA]));
}
