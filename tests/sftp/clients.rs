//! OpenSSH's sftp and scp.

use std::fs;
use std::os::unix::fs::{MetadataExt, symlink};

use crate::{Place, noise, same, text};

#[test]
fn files_there_and_back() {
    let place = Place::new();
    for (name, size) in [("empty", 0), ("one", 1), ("packet", 256 * 1024 - 1024), ("big", 20_000_001)] {
        fs::write(place.here(name), noise(size)).unwrap();
        place.sftp_prints("", &format!("put -p {name}\nget -p {name} back\n"));
        assert!(same(&place.here(name), &place.root(name)), "{name}");
        assert!(same(&place.here(name), &place.here("back")), "{name}");
        let times = |path| fs::metadata(path).map(|about| (about.mtime(), about.mode())).unwrap();
        assert_eq!(times(place.here(name)), times(place.root(name)));
        assert_eq!(times(place.here(name)), times(place.here("back")));
    }
}

#[test]
fn what_was_interrupted_goes_on() {
    let place = Place::new();
    let all = noise(3_000_000);
    fs::write(place.here("up"), &all).unwrap();
    fs::write(place.root("up"), &all[..1_234_567]).unwrap();
    fs::write(place.root("down"), &all).unwrap();
    fs::write(place.here("down"), &all[..1_000_001]).unwrap();
    place.sftp_prints("", "reput up\nreget down\n");
    assert!(same(&place.here("up"), &place.root("up")));
    assert!(same(&place.here("down"), &place.root("down")));
}

/// Written from both ends, with a hole that takes no space.
#[test]
fn offsets_beyond_four_gigabytes() {
    let place = Place::new();
    let hole = fs::File::create(place.root("sparse")).unwrap();
    hole.set_len((5 << 30) - 3).unwrap();
    let about = fs::File::create(place.here("sparse")).unwrap();
    about.set_len((5 << 30) - 3).unwrap();
    use std::io::Write;
    fs::OpenOptions::new().append(true).open(place.here("sparse")).unwrap().write_all(b"end").unwrap();
    place.sftp_prints("", "reput sparse\n");
    let about = fs::metadata(place.root("sparse")).unwrap();
    assert_eq!(about.len(), 5 << 30);
    assert!(about.blocks() < 1000, "{} blocks", about.blocks());
    let mut end = [0; 3];
    use std::os::unix::fs::FileExt;
    fs::File::open(place.root("sparse")).unwrap().read_exact_at(&mut end, (5 << 30) - 3).unwrap();
    assert_eq!(&end, b"end");
}

#[test]
fn whole_trees() {
    let place = Place::new();
    fs::create_dir_all(place.here("tree/a/b")).unwrap();
    for number in 0..250 {
        fs::write(place.here(&format!("tree/a/file {number}")), number.to_string()).unwrap();
    }
    fs::write(place.here("tree/a/b/ümlaut"), "x").unwrap();
    place.sftp_prints("", "put -r tree\nget -r tree back\n");
    for path in ["a/b/ümlaut", "a/file 0", "a/file 249"] {
        assert!(same(&place.here(&format!("tree/{path}")), &place.root(&format!("tree/{path}"))));
        assert!(same(&place.here(&format!("tree/{path}")), &place.here(&format!("back/{path}"))));
    }
    assert_eq!(fs::read_dir(place.here("back/a")).unwrap().count(), 251, "more than one answer's entries");
}

#[test]
fn every_command() {
    let place = Place::new();
    fs::write(place.here("f"), "text").unwrap();
    let printed = place.sftp_prints(
        "",
        "pwd\nput f\nmkdir d\nchmod 640 f\nsymlink f link\nln f hard\nrename f d/g\nls -l\nls -l d/g\ndf\nln -s d/g to-g\n\
         get to-g\nrm link\ncd d\npwd\nls -la\nchown 7 g\nchgrp 8 g\nrename g h\nrm h\ncd ..\nrmdir d\n",
    );
    assert!(printed.starts_with("sftp> pwd\nRemote working directory: /\n"), "{printed}");
    assert!(printed.contains("Remote working directory: /d\n"), "{printed}");
    let line = |end: &str| {
        printed
            .lines()
            .find(|line| line.ends_with(end) && !line.starts_with("sftp>"))
            .unwrap_or_else(|| panic!("{end}: {printed}"))
    };
    assert!(line(" hard").starts_with("-rw-r-----   2 0        0               4 "), "{printed}");
    assert!(line(" link").starts_with("lrwxrwxrwx   1 "), "{printed}");
    assert!(line(" d").starts_with("drwx"), "{printed}");
    assert!(line("%").contains('%') && printed.contains("Avail"), "{printed}");
    assert_eq!(fs::read(place.here("to-g")).unwrap(), b"text");
    assert!(!place.root("d").exists() && !place.root("link").is_symlink());
    assert_eq!(fs::read_link(place.root("to-g")).unwrap().to_str(), Some("d/g"));
    let about = fs::metadata(place.root("hard")).unwrap();
    assert_eq!((about.uid(), about.gid(), about.mode() & 0o777), (7, 8, 0o640));
}

/// PROTOCOL section 4.8: `chmod -h` and `chown -h` change the link itself.
#[test]
fn links_themselves() {
    let place = Place::new();
    fs::write(place.root("f"), "").unwrap();
    symlink("f", place.root("link")).unwrap();
    place.sftp_prints("", "chown -h 9 link\n");
    assert_eq!(fs::symlink_metadata(place.root("link")).unwrap().uid(), 9);
    assert_eq!(fs::metadata(place.root("f")).unwrap().uid(), 0);
    let output = place.sftp("", "chmod -h 600 link\n");
    assert!(text(&output.stderr).contains("Operation unsupported"), "Linux has no modes of links: {output:?}");
}

#[test]
fn scp_both_ways() {
    let place = Place::new();
    fs::create_dir_all(place.here("tree/sub")).unwrap();
    fs::write(place.here("tree/sub/f"), noise(1_000_000)).unwrap();
    let scp = |arguments: &[&str]| {
        let output = place.scp("--shown-as /home/mle", arguments);
        assert!(output.status.success(), "{arguments:?}: {}", text(&output.stderr));
    };
    scp(&["-r", "tree", "server:"]);
    scp(&["-p", "tree/sub/f", "server:/home/mle/new"]);
    scp(&["tree/sub/f", "server:~/tilde"]);
    scp(&["-r", "server:~/tree", "back"]);
    scp(&["server:tree/sub/*", "."]);
    for path in
        [place.root("new"), place.root("tilde"), place.root("tree/sub/f"), place.here("back/sub/f"), place.here("f")]
    {
        assert!(same(&place.here("tree/sub/f"), &path), "{}", path.display());
    }
    let refused = place.scp("--shown-as /home/mle", &["server:/etc/passwd", "passwd"]);
    assert!(!refused.status.success() && !place.here("passwd").exists());
    assert!(text(&refused.stderr).contains("No such file or directory"), "{refused:?}");
}

#[test]
fn read_only() {
    let place = Place::new();
    fs::write(place.root("f"), "text").unwrap();
    fs::write(place.here("new"), "").unwrap();
    place.sftp_prints("--access read-only", "get f\nls -l\ndf\n");
    assert!(same(&place.here("f"), &place.root("f")));
    for command in ["put new", "rm f", "chmod 600 f", "rename f g", "mkdir d", "symlink f l", "put new f", "chown 5 f"]
    {
        let output = place.sftp("--access read-only", &format!("{command}\n"));
        assert_eq!(output.status.code(), Some(1), "{command}");
        assert!(text(&output.stderr).contains("Permission denied"), "{command}: {output:?}");
    }
    assert_eq!(fs::read_dir(place.root("")).unwrap().count(), 1);
}

#[test]
fn a_drop_box() {
    let place = Place::new();
    let options = "--access write-only --shown-as /in";
    fs::write(place.root("theirs"), "theirs").unwrap();
    fs::write(place.here("mine"), noise(600_000)).unwrap();
    fs::create_dir_all(place.here("tree/sub")).unwrap();
    fs::write(place.here("tree/sub/f"), "f").unwrap();
    place.sftp_prints(options, "put -p mine\nput mine\nput -r tree\nmkdir d\nput mine d/\ncd d\nput mine again\n");
    for path in ["mine", "d/mine", "d/again"] {
        assert!(same(&place.here("mine"), &place.root(path)), "{path}");
    }
    assert!(place.root("tree/sub/f").exists());
    let scp = place.scp(options, &["-p", "mine", "server:by-scp"]);
    assert!(scp.status.success(), "{scp:?}");
    let scp = place.scp(options, &["-r", "tree", "server:/in/by-scp-too"]);
    assert!(scp.status.success(), "{scp:?}");
    assert!(same(&place.here("mine"), &place.root("by-scp")) && place.root("by-scp-too/sub/f").exists());
    for command in
        ["put mine theirs", "put mine", "get theirs", "get mine", "rm theirs", "rename mine x", "symlink mine l"]
    {
        let output = place.sftp(options, &format!("{command}\n"));
        assert_eq!(output.status.code(), Some(1), "{command}: {output:?}");
    }
    let listed = place.sftp(options, "ls\n");
    assert!(
        text(&listed.stderr).contains("Permission denied") && !text(&listed.stdout).contains("theirs"),
        "{listed:?}"
    );
    assert_eq!(fs::read(place.root("theirs")).unwrap(), b"theirs");
}

#[test]
fn shown_as_another_place() {
    let place = Place::new();
    fs::create_dir_all(place.root("sub/d")).unwrap();
    let printed = place.sftp_prints(
        "--shown-as /home/mle",
        "pwd\ncd sub\npwd\ncd /\nls\ncd home\nls\nls -l /home\ncd mle/sub/d\npwd\n",
    );
    for line in ["/home/mle", "/home/mle/sub", "/home/mle/sub/d"] {
        assert!(printed.contains(&format!("Remote working directory: {line}\n")), "{printed}");
    }
    assert!(printed.contains("\nhome ") && printed.contains("\nmle "), "{printed}");
    let refused = place.sftp("--shown-as home", "pwd\n");
    assert!(text(&refused.stderr).contains("give an absolute path"), "{refused:?}");
}
