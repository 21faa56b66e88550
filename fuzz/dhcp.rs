//! What servers say.

use std::time::Duration;

use crate::daemon::net::dhcp::{Action, Client, message::Message};

/// The fixed part of a message and its cookie (RFC 2131 section 2).
const HEADER: usize = 240;

/// A conversation. Each message is a byte that says how it is made, a length, and so many bytes: the whole message (0),
/// the options of an answer to the question before (1), or of one to another question (2). After a message of even length,
/// nothing comes until the client does something by itself.
pub fn version4(input: &[u8]) {
    const MAC: [u8; 6] = [2, 0, 0, 0, 0, 1];
    let mut now = Duration::ZERO;
    let (mut client, actions) = Client::start(now, MAC, None, 1);
    let mut xid = question(&actions, 0);
    let mut rest = input;
    while let [made, length, after @ ..] = rest {
        let (bytes, next) = after.split_at(after.len().min(usize::from(*length)));
        rest = next;
        let message = match made % 3 {
            0 => Message::decode(bytes),
            made => {
                let mut whole = [0; HEADER].to_vec();
                whole[..3].copy_from_slice(&[2, 1, 6]);
                whole[4..8].copy_from_slice(&(xid ^ u32::from(made - 1)).to_be_bytes());
                whole[16..20].copy_from_slice(&[10, 0, 0, 7]);
                whole[28..34].copy_from_slice(&MAC);
                whole[236..].copy_from_slice(&[99, 130, 83, 99]);
                whole.extend(bytes);
                Message::decode(&whole)
            }
        };
        if let Some(message) = message {
            assert!(Message::decode(&message.encode()).is_some(), "what we write can be read");
            xid = question(&client.message(now, &message), xid);
        }
        if length % 2 == 0 {
            now = client.deadline().unwrap_or(now).max(now);
            xid = question(&client.timer(now), xid);
        }
    }
}

/// The number of the last question that was asked.
fn question(actions: &[Action], before: u32) -> u32 {
    actions.iter().fold(before, |before, action| match action {
        Action::Broadcast(message) | Action::Send { message, .. } => message.xid,
        _ => before,
    })
}
