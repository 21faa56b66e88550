//! Tells people at a plymouth screen where to log in, while something is asked.
//!
//! The protocol: `src/ply-boot-protocol.h`, and `ply_boot_connection_read_request` in `src/ply-boot-server.c`, of plymouth
//! 22.02 and 24.004. A message neither asks nor answers. But the themes that draw with letters clear the question for it,
//! and then the message (`start_animation` in `src/plugins/splash/text/plugin.c`), so those get none.

use std::io;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::{sleep, timeout};

use super::login;
use crate::control::message::Status;
use crate::root::Root;

/// In the abstract name space.
const SOCKET: &str = "\0/org/freedesktop/plymouthd";
/// How often it is tried to show a message: plymouth may start later than we do.
const RETRY: Duration = Duration::from_secs(2);
/// For one request. plymouth's daemon answers at once, unless it hangs.
const DEADLINE: Duration = Duration::from_secs(2);
/// The length of an argument is one byte, and counts the NUL at its end.
const MAX_TEXT: usize = 254;

const SHOW: u8 = b'M';
const HIDE: u8 = b'm';
const ACK: u8 = 0x06;

/// What draws with letters: the value of `ModuleName` in a theme's file.
const LETTERS: [&str; 3] = ["text", "tribar", "ubuntu-text"];
/// Where the theme is named, the first file that does counts.
const SETTINGS: [&str; 2] = ["/etc/plymouth/plymouthd.conf", "/usr/share/plymouth/plymouthd.defaults"];

/// Shows the message when there is one to show and hides it when not, until `stopping`. `port` is SSH's.
pub fn start(
    root: Root,
    statuses: watch::Receiver<Arc<Status>>,
    stopping: watch::Receiver<bool>,
    port: u16,
) -> JoinHandle<()> {
    crate::task::spawn(follow((root, SOCKET), statuses, stopping, port))
}

async fn follow(
    (root, socket): (Root, &str),
    mut statuses: watch::Receiver<Arc<Status>>,
    mut stopping: watch::Receiver<bool>,
    port: u16,
) {
    let mut shown: Option<String> = None;
    loop {
        let stop = *stopping.borrow_and_update();
        let wanted = if stop { None } else { message(&statuses.borrow_and_update(), port) };
        if shown != wanted
            && let Some(old) = shown.take()
        {
            // Whether it is still running or not: then it shows nothing any more.
            let _ = request(socket, HIDE, &old).await;
        }
        if shown.is_none()
            && let Some(text) = &wanted
            && draws_pictures(&root)
            && request(socket, SHOW, text).await.is_ok()
        {
            shown = wanted.clone();
        }
        if stop {
            return;
        }
        let again = shown != wanted;
        tokio::select! {
            Ok(()) = statuses.changed() => {}
            _ = stopping.changed() => {}
            () = sleep(RETRY), if again => {}
            else => return, // the daemon is gone
        }
    }
}

/// Whether plymouth can show pictures, and its theme does: without a graphics device it falls back to letters.
fn draws_pictures(root: &Root) -> bool {
    let cards = std::fs::read_dir(root.join("/dev/dri")).into_iter().flatten().flatten();
    let card = cards.into_iter().any(|entry| entry.file_name().to_string_lossy().starts_with("card"));
    let value = |path: &str, key: &str| value(&std::fs::read_to_string(root.join(path)).ok()?, key);
    let theme = SETTINGS.iter().find_map(|path| value(path, "Theme")).filter(|theme| !theme.contains('/'));
    let module =
        theme.and_then(|name| value(&format!("/usr/share/plymouth/themes/{name}/{name}.plymouth"), "ModuleName"));
    (card || root.join("/dev/fb0").exists()) && module.is_none_or(|module| !LETTERS.contains(&module.as_str()))
}

/// `Key=value` in a file of plymouth's.
fn value(text: &str, key: &str) -> Option<String> {
    let values = text.lines().filter_map(|line| line.split_once('='));
    values.into_iter().find(|(name, _)| name.trim() == key).map(|(_, value)| value.trim().to_owned())
}

/// `vestibule: unlock with  ssh -p 2222 root@192.0.2.7`, and further addresses as far as they fit; `None` when nothing is
/// asked or nobody could come in.
fn message(status: &Status, port: u16) -> Option<String> {
    if status.questions.is_empty() {
        return None;
    }
    let mut addresses = login::addresses(status);
    let mut text = format!("vestibule: unlock with  {}", login::command(port, addresses.next()?));
    for address in addresses {
        let more = format!("  or root@{address}");
        if text.len() + more.len() > MAX_TEXT {
            break;
        }
        text += &more;
    }
    Some(text)
}

async fn request(socket: &str, command: u8, text: &str) -> io::Result<()> {
    let exchange = async {
        let mut stream = UnixStream::connect(Path::new(socket)).await?;
        stream.write_all(&frame(command, text)).await?;
        match stream.read_u8().await? {
            ACK => Ok(()),
            other => Err(io::Error::other(format!("plymouth answers {other}"))),
        }
    };
    timeout(DEADLINE, exchange).await?
}

/// Command, 2 for "an argument follows", its length, its bytes, NUL.
fn frame(command: u8, text: &str) -> Vec<u8> {
    let text = &text.as_bytes()[..text.len().min(MAX_TEXT)];
    let mut frame = vec![command, 2, text.len() as u8 + 1];
    frame.extend(text);
    frame.push(0);
    frame
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::control::message::{Kind, Link, PromptId, Question, Stage};
    use crate::root::tests::Fixture;
    use tokio::net::UnixListener;

    fn status(asked: bool, addresses: &[&str]) -> Status {
        let question = Question {
            id: PromptId(1),
            kind: Kind::Passphrase,
            stage: Stage::Asking,
            volume: None,
            device: None,
            message: String::new(),
            tries_used: 0,
            tries_left: None,
            source: String::new(),
        };
        let link = Link {
            name: "eth0".into(),
            mac: None,
            carrier: true,
            addresses: addresses.iter().map(|address| (*address).to_owned()).collect(),
            gateway: None,
            nameservers: Vec::new(),
            configured_by: None,
            note: None,
        };
        Status {
            questions: Vec::from_iter(asked.then_some(question)),
            network: vec![link],
            ..crate::daemon::empty_status("")
        }
    }

    #[test]
    fn tells_where_to_log_in() {
        let many: Vec<String> = (0..50).map(|n| format!("2001:db8::{n:x}/64")).collect();
        let many: Vec<&str> = many.iter().map(String::as_str).collect();
        for (asked, addresses, port, expected) in [
            (true, &["192.0.2.7/24"][..], 2222, Some("vestibule: unlock with  ssh -p 2222 root@192.0.2.7")),
            (true, &["192.0.2.7/24"], 22, Some("vestibule: unlock with  ssh root@192.0.2.7")),
            (
                true,
                &["127.0.0.1/8", "::1/128", "fe80::1/64", "192.0.2.7/24", "2001:db8::7/64"],
                2222,
                Some("vestibule: unlock with  ssh -p 2222 root@192.0.2.7  or root@2001:db8::7"),
            ),
            (false, &["192.0.2.7/24"], 2222, None),
            (true, &[], 2222, None),
            (true, &["fe80::1/64", "169.254.1.2/16"], 2222, None),
        ] {
            assert_eq!(message(&status(asked, addresses), port).as_deref(), expected);
        }
        let long = message(&status(true, &many), 2222).unwrap();
        assert!(long.len() <= MAX_TEXT && frame(SHOW, &long).len() <= 3 + 255, "{long}");
    }

    #[test]
    fn letters_are_left_alone() {
        let spinner =
            ("usr/share/plymouth/themes/spinner/spinner.plymouth", &b"[Plymouth Theme]\nModuleName=two-step\n"[..]);
        let text = ("usr/share/plymouth/themes/text/text.plymouth", &b"[Plymouth Theme]\nModuleName=text\n"[..]);
        let default = ("usr/share/plymouth/plymouthd.defaults", &b"[Daemon]\nTheme=spinner\nShowDelay=0\n"[..]);
        let chosen = ("etc/plymouth/plymouthd.conf", &b"[Daemon]\nTheme = text\n"[..]);
        let nothing = ("etc/plymouth/plymouthd.conf", &b"#[Daemon]\n#Theme=fade-in\n"[..]);
        let (card, frame_buffer) = (("dev/dri/card0", &b""[..]), ("dev/fb0", &b""[..]));
        for (files, expected) in [
            (&[spinner, default][..], false),
            (&[spinner, default, card], true),
            (&[spinner, text, default, chosen, card], false),
            (&[spinner, text, default, nothing, frame_buffer], true),
            (&[frame_buffer], true),
        ] {
            assert_eq!(draws_pictures(&Fixture::new(files)), expected, "{files:?}");
        }
    }

    #[test]
    fn frames() {
        assert_eq!(frame(SHOW, "ab"), b"M\x02\x03ab\0");
        assert_eq!(frame(HIDE, &"x".repeat(999)).len(), 3 + 255);
    }

    /// What a stand-in for plymouth's daemon is told next.
    async fn told(listener: &UnixListener) -> String {
        let (mut stream, _) = timeout(DEADLINE * 5, listener.accept()).await.expect("a request").unwrap();
        let mut head = [0; 3];
        stream.read_exact(&mut head).await.unwrap();
        let mut text = vec![0; usize::from(head[2])];
        stream.read_exact(&mut text).await.unwrap();
        stream.write_all(&[ACK]).await.unwrap();
        assert_eq!((head[1], text.pop()), (2, Some(0)));
        format!("{} {}", char::from(head[0]), String::from_utf8(text).unwrap())
    }

    #[tokio::test]
    async fn the_message_comes_and_goes() {
        let socket: &'static str = format!("\0vestibule-test-plymouthd-{}", std::process::id()).leak();
        let (status_sender, statuses) = watch::channel(Arc::new(status(true, &["192.0.2.7/24"])));
        let (stop, stopping) = watch::channel(false);
        let root = Fixture::new(&[("dev/fb0", b"")]);
        let task = crate::task::spawn(follow((root.clone(), socket), statuses, stopping, 22));
        tokio::task::yield_now().await; // plymouth is not there yet
        let listener = UnixListener::bind(socket).unwrap();
        assert_eq!(told(&listener).await, "M vestibule: unlock with  ssh root@192.0.2.7");
        // Another address: the old text goes first.
        status_sender.send_replace(Arc::new(status(true, &["192.0.2.8/24"])));
        assert_eq!(told(&listener).await, "m vestibule: unlock with  ssh root@192.0.2.7");
        assert_eq!(told(&listener).await, "M vestibule: unlock with  ssh root@192.0.2.8");
        // Answered, and asked again.
        status_sender.send_replace(Arc::new(status(false, &["192.0.2.8/24"])));
        assert_eq!(told(&listener).await, "m vestibule: unlock with  ssh root@192.0.2.8");
        status_sender.send_replace(Arc::new(status(true, &["192.0.2.8/24"])));
        assert_eq!(told(&listener).await, "M vestibule: unlock with  ssh root@192.0.2.8");
        // The end, though something is still asked.
        stop.send_replace(true);
        assert_eq!(told(&listener).await, "m vestibule: unlock with  ssh root@192.0.2.8");
        timeout(DEADLINE, task).await.unwrap().unwrap();
    }

    #[tokio::test]
    async fn a_daemon_that_hangs_does_not_hold_up_the_end() {
        let socket: &'static str = format!("\0vestibule-test-hanging-{}", std::process::id()).leak();
        let _listener = UnixListener::bind(socket).unwrap(); // accepts nothing
        let (_status, statuses) = watch::channel(Arc::new(status(true, &["192.0.2.7/24"])));
        let (stop, stopping) = watch::channel(false);
        let root = Fixture::new(&[("dev/fb0", b"")]);
        let task = crate::task::spawn(follow((root.clone(), socket), statuses, stopping, 22));
        tokio::task::yield_now().await;
        stop.send_replace(true);
        timeout(DEADLINE * 2, task).await.unwrap().unwrap();
    }
}
