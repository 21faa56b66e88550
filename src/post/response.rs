//! What an HTTP server answers, as far as it matters: the status code (RFC 9112 section 4). Pure.
//!
//! The head is read to its end and checked, so that what isn't HTTP is not taken for success; the body is not looked at.

/// The longest head, together with the interim responses before it, in bytes; servers send some hundred.
pub const MAX_HEAD: usize = 16 << 10;

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Parsed {
    /// So far it is good; the head goes on.
    More,
    /// 200 to 599.
    Code(u16),
    /// Why it is no answer, for a person. Nothing of the answer is in it.
    Bad(&'static str),
}

/// All that has come so far.
pub fn parse(bytes: &[u8]) -> Parsed {
    let mut lines = Lines(bytes);
    loop {
        let code = match lines.next() {
            Some(line) => match status_line(line) {
                Some(code) => code,
                None => return Parsed::Bad("it does not begin as HTTP/1.1 does"),
            },
            // Whoever speaks something else may send no end of line, ever.
            None if lines.0.iter().zip(b"HTTP/1.").any(|(is, wanted)| is != wanted) => {
                return Parsed::Bad("it does not begin as HTTP/1.1 does");
            }
            None => return unfinished(bytes),
        };
        loop {
            match lines.next() {
                Some(b"") => break,
                Some(line) if is_header(line) => {}
                Some(_) => return Parsed::Bad("a header can't be read"),
                None => return unfinished(bytes),
            }
        }
        // Interim responses come before the one that counts (RFC 9110 section 15.2).
        match code {
            101 => return Parsed::Bad("it changes the protocol, which was not asked for"),
            100..200 => {}
            code => return Parsed::Code(code),
        }
    }
}

fn unfinished(bytes: &[u8]) -> Parsed {
    match bytes.len() {
        0..MAX_HEAD => Parsed::More,
        _ => Parsed::Bad("its headers don't end"),
    }
}

/// Lines that have ended, without CR LF, or LF alone (RFC 9112 section 2.2); what is left is the rest.
struct Lines<'a>(&'a [u8]);

impl<'a> Lines<'a> {
    fn next(&mut self) -> Option<&'a [u8]> {
        let end = self.0.iter().position(|byte| *byte == b'\n')?;
        let (line, rest) = self.0.split_at(end);
        self.0 = &rest[1..];
        Some(line.strip_suffix(b"\r").unwrap_or(line))
    }
}

/// `HTTP/1.1 200 OK`; the words at its end may be missing.
fn status_line(line: &[u8]) -> Option<u16> {
    let rest = line.strip_prefix(b"HTTP/1.")?;
    let [b'0' | b'1', b' ', code @ ..] = rest else { return None };
    let (digits, words) = code.split_at_checked(3)?;
    if !digits.iter().all(u8::is_ascii_digit) || words.first().is_some_and(|byte| *byte != b' ') {
        return None;
    }
    let code = digits.iter().fold(0, |code, digit| code * 10 + u16::from(*digit - b'0'));
    (100..600).contains(&code).then_some(code)
}

/// A name and a colon; or the obsolete continuation of the line before (RFC 9112 section 5.2).
fn is_header(line: &[u8]) -> bool {
    let name = line.split(|byte| *byte == b':').next().unwrap_or_default();
    let is_named = name.len() < line.len() && !name.is_empty() && name.iter().all(u8::is_ascii_graphic);
    is_named || line.starts_with(b" ") || line.starts_with(b"\t")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_made_of_answers() {
        let no_http = Parsed::Bad("it does not begin as HTTP/1.1 does");
        let no_header = Parsed::Bad("a header can't be read");
        let endless = format!("HTTP/1.1 200 OK\r\n{}", "A: b\r\n".repeat(MAX_HEAD / 6 - 3));
        for (text, expected) in [
            ("", Parsed::More),
            ("HTT", Parsed::More),
            ("HTTP/1.1 200 OK\r\n", Parsed::More),
            ("HTTP/1.1 200 OK\r\nA: b\r\n", Parsed::More),
            ("HTTP/1.1 200 OK\r\nA: b\r\n\r\n", Parsed::Code(200)),
            ("HTTP/1.1 200 OK\n\nbody\n", Parsed::Code(200)),
            ("HTTP/1.0 503\r\n\r\n", Parsed::Code(503)),
            ("HTTP/1.1 100 Continue\r\n\r\n", Parsed::More),
            ("HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 302 Found\r\nLocation: /\r\n\r\n", Parsed::Code(302)),
            (
                "HTTP/1.1 101 Switching Protocols\r\n\r\n",
                Parsed::Bad("it changes the protocol, which was not asked for"),
            ),
            ("HTTP/2 200\r\n\r\n", no_http.clone()),
            ("HTTP/1.1 99 x\r\n\r\n", no_http.clone()),
            ("HTTP/1.1 600 x\r\n\r\n", no_http.clone()),
            ("HTTP/1.1 2000\r\n\r\n", no_http.clone()),
            ("HTTP/1.1 +20\r\n\r\n", no_http.clone()),
            ("SSH-2.0", no_http.clone()),
            ("\r\n", no_http),
            ("HTTP/1.1 200 OK\r\nno header\r\n\r\n", no_header.clone()),
            ("HTTP/1.1 200 OK\r\n: b\r\n\r\n", no_header),
            (&endless, Parsed::More),
            (&(endless.clone() + "A: b\r\n"), Parsed::Bad("its headers don't end")),
        ] {
            assert_eq!(parse(text.as_bytes()), expected, "{text}");
        }
    }
}
