//! The unlock screen: what is asked, what came of it, and a line to type into, below a live tail of the console.
//! Pure: keys, status and log lines go in; bytes for the terminal and actions come out.
//!
//! Lines scroll by above; the block at the bottom is erased and drawn again at each change. Only sequences that every
//! terminal knows are used (carriage return, cursor up, erase below), so that it works on a serial console as well.

use super::line::{Edit, Line};
use super::text;
use crate::control::message::{Kind, Outcome, Phase, Question, Stage, Status, Verdict};
use crate::secret::Secret;

/// Lines that are never shown again when a terminal says that it is narrower than this.
const MIN_COLUMNS: usize = 20;

/// What the screen wants done.
pub enum Action {
    Submit { volumes: Vec<String>, secret: Secret },
    Peek,
    Reboot,
    PowerOff,
    Quit,
}

pub struct Screen {
    columns: usize,
    status: Option<Status>,
    line: Line,
    mode: Mode,
    /// Which question the line is for: all passphrase questions, or one of the list.
    target: Option<usize>,
    /// Lines of the block that are on the screen now.
    drawn: usize,
    output: Vec<u8>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Mode {
    Entry,
    Checking,
    Menu,
}

impl Screen {
    pub fn new(columns: u32) -> Self {
        let mut screen = Self {
            columns: 80,
            status: None,
            line: Line::default(),
            mode: Mode::Entry,
            target: None,
            drawn: 0,
            output: Vec::new(),
        };
        screen.resize(columns);
        screen
    }

    /// The terminal's width in columns; 0 when it does not say.
    pub fn resize(&mut self, columns: u32) {
        self.erase_block();
        self.columns = if columns == 0 { 80 } else { (columns as usize).clamp(MIN_COLUMNS, 500) };
        self.draw_block();
    }

    pub fn status(&mut self, status: Status) {
        self.erase_block();
        let before = self.status.replace(status);
        let now = self.status.as_ref().expect("just set");
        let newly_open: Vec<String> = now
            .unlocked
            .iter()
            .filter(|volume| before.as_ref().is_some_and(|before| !before.unlocked.contains(volume)))
            .filter(|_| self.mode != Mode::Checking) // otherwise its verdict says so
            .map(|volume| format!("{}: unlocked", text::printable(&volume.name)))
            .collect();
        let asked = now.questions.len();
        for line in newly_open {
            self.print(&line);
        }
        if self.target.is_some_and(|at| at >= asked) {
            self.target = None;
        }
        self.draw_block();
    }

    pub fn log(&mut self, lines: &[String]) {
        self.erase_block();
        for line in lines {
            self.print(&text::printable(line));
        }
        self.draw_block();
    }

    /// Text of several lines, as it is.
    pub fn show(&mut self, shown: &str) {
        self.log(&shown.lines().map(str::to_owned).collect::<Vec<_>>());
    }

    pub fn outcome(&mut self, outcome: &Outcome) {
        self.show(&text::outcome(outcome));
        if !matches!(outcome.verdict, Verdict::Unlocked) {
            self.output.push(0x07);
        }
    }

    /// Every verdict of the last passphrase is in.
    pub fn checked(&mut self) {
        self.erase_block();
        self.mode = Mode::Entry;
        self.draw_block();
    }

    /// The farewell: takes the block away and leaves one last line.
    pub fn leave(&mut self, farewell: &str) {
        self.erase_block();
        self.print(farewell);
        self.drawn = 0;
    }

    pub fn key(&mut self, byte: u8) -> Option<Action> {
        if self.mode == Mode::Menu {
            return self.menu_key(byte);
        }
        match self.line.push(byte) {
            Edit::None => None,
            Edit::Enter => self.enter(),
            Edit::Interrupt => {
                self.line.clear();
                self.switch(Mode::Menu);
                None
            }
            Edit::End => Some(Action::Quit),
            Edit::Redraw => {
                self.output.extend(b"\x1b[H\x1b[2J");
                self.drawn = 0;
                self.draw_block();
                None
            }
            Edit::Tab => {
                self.next_target();
                None
            }
            Edit::Full => {
                self.output.push(0x07);
                None
            }
        }
    }

    /// Bytes for the terminal since the last call.
    pub fn take_output(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.output)
    }

    fn enter(&mut self) -> Option<Action> {
        if self.line.is_empty() {
            return None;
        }
        let Some(volumes) = self.targets() else {
            self.line.clear();
            self.show("Nothing is asking; what you typed was not used.");
            return None;
        };
        if self.mode == Mode::Checking {
            self.line.clear();
            self.show("Still checking; what you typed was not used.");
            return None;
        }
        let secret = self.line.take();
        self.switch(Mode::Checking);
        Some(Action::Submit { volumes, secret })
    }

    fn menu_key(&mut self, byte: u8) -> Option<Action> {
        self.switch(Mode::Entry);
        match byte {
            b'q' => Some(Action::Quit),
            b'p' => Some(Action::Peek),
            b'R' => Some(Action::Reboot),
            b'O' => Some(Action::PowerOff),
            _ => None,
        }
    }

    fn switch(&mut self, mode: Mode) {
        self.erase_block();
        self.mode = mode;
        self.draw_block();
    }

    fn questions(&self) -> &[Question] {
        self.status.as_ref().map_or(&[], |status| &status.questions)
    }

    fn next_target(&mut self) {
        self.erase_block();
        let count = self.questions().len();
        self.target = match self.target {
            None if count > 1 => Some(0),
            Some(at) if at + 1 < count => Some(at + 1),
            _ => None,
        };
        self.draw_block();
    }

    /// The one question that is meant: chosen by Tab, or the only one. A PIN must be chosen or be alone (it is never
    /// tried as a passphrase).
    fn single(&self) -> Option<&Question> {
        match (self.target, self.questions()) {
            (Some(at), questions) => questions.get(at),
            (None, [only]) => Some(only),
            (None, _) => None,
        }
    }

    /// Names for the answer: empty for all passphrase questions; `None` when nothing can take one.
    fn targets(&self) -> Option<Vec<String>> {
        if let Some(question) = self.single() {
            let name = question.volume.clone().or_else(|| question.device.clone());
            return Some(name.into_iter().collect());
        }
        self.questions().iter().any(|question| question.kind == Kind::Passphrase).then(Vec::new)
    }

    fn print(&mut self, line: &str) {
        self.output.extend(line.as_bytes());
        self.output.extend(b"\r\n");
    }

    fn erase_block(&mut self) {
        if self.drawn > 0 {
            self.output.push(b'\r');
            if self.drawn > 1 {
                self.output.extend(format!("\x1b[{}A", self.drawn - 1).as_bytes());
            }
            self.output.extend(b"\x1b[J");
            self.drawn = 0;
        }
    }

    fn draw_block(&mut self) {
        let Some(status) = &self.status else { return };
        let mut lines = vec![format!("── {} ── {} ", text::printable(&status.host), text::phase(status.phase))];
        let fill = self.columns.saturating_sub(1 + lines[0].chars().count());
        lines[0].extend(std::iter::repeat_n('─', fill));
        for (at, question) in status.questions.iter().enumerate() {
            let mark = if self.target == Some(at) { '▸' } else { ' ' };
            lines.push(format!("{mark} {}", text::question(question)));
        }
        lines.push(self.entry_line(status));
        self.drawn = lines.len();
        let room = self.columns - 1;
        let lines: Vec<String> = lines.iter().map(|line| line.chars().take(room).collect()).collect();
        self.output.extend(lines.join("\r\n").as_bytes());
    }

    fn entry_line(&self, status: &Status) -> String {
        if self.mode == Mode::Menu {
            return "[Enter] back  [p] peek  [R] reboot  [O] power off  [q] disconnect ".to_owned();
        }
        if self.mode == Mode::Checking || status.questions.iter().any(|question| question.stage == Stage::Checking) {
            return "checking… ".to_owned();
        }
        match (self.single(), status.phase) {
            (Some(question), _) => {
                let name = question.volume.as_deref().map(|name| format!(" for {}", text::printable(name)));
                format!("{}{}: ", capital(text::secret_name(question.kind)), name.unwrap_or_default())
            }
            (None, _) if status.questions.len() > 1 => "Passphrase for all of these (Tab: for one): ".to_owned(),
            (None, Phase::Unlocked | Phase::HandOver) => "All unlocked, the boot continues. ".to_owned(),
            (None, _) => "Nothing to answer now; ^C for a menu. ".to_owned(),
        }
    }
}

fn capital(word: &str) -> String {
    word[..1].to_uppercase() + &word[1..]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::session::text::tests::{asked, with};

    fn typed(screen: &mut Screen, keys: &[u8]) -> Option<Action> {
        keys.iter().filter_map(|key| screen.key(*key)).last()
    }

    fn shown(screen: &mut Screen) -> String {
        String::from_utf8(screen.take_output()).unwrap()
    }

    #[test]
    fn a_passphrase_goes_out_and_is_never_shown() {
        let mut screen = Screen::new(80);
        screen.status(with(vec![asked("root")], Phase::Asking));
        assert!(
            shown(&mut screen).ends_with("root (/dev/vda2) wants a passphrase (3 tries left)\r\nPassphrase for root: ")
        );
        let Some(Action::Submit { volumes, secret }) = typed(&mut screen, b"hunterx\x7f2\r") else { panic!() };
        assert_eq!((volumes, secret.expose()), (vec!["root".to_owned()], &b"hunter2"[..]));
        let after = shown(&mut screen);
        assert!(after.contains("checking…") && !after.contains("hunter"), "{after}");
    }

    #[test]
    fn wrong_then_right() {
        let mut screen = Screen::new(80);
        screen.status(with(vec![asked("root")], Phase::Asking));
        typed(&mut screen, b"x\r");
        screen.outcome(&Outcome { question: asked("root"), verdict: Verdict::Wrong { tries_left: Some(2) } });
        screen.checked();
        let output = shown(&mut screen);
        assert!(output.contains("root (/dev/vda2): wrong passphrase, 2 tries left\r\n"), "{output}");
        assert!(output.ends_with("Passphrase for root: "), "{output}");
    }

    #[test]
    fn nothing_is_submitted_when_nothing_asks() {
        let mut screen = Screen::new(80);
        assert!(typed(&mut screen, b"early\r").is_none());
        screen.status(with(vec![], Phase::Booting));
        assert!(typed(&mut screen, b"early\r").is_none());
        screen.status(with(vec![asked("root")], Phase::Asking));
        assert!(typed(&mut screen, b"\r").is_none(), "an empty line is no answer");
    }

    #[test]
    fn a_pin_is_not_among_all_of_these() {
        let pin = Question { kind: Kind::Pin, ..asked("token") };
        let mut screen = Screen::new(80);
        screen.status(with(vec![pin.clone(), Question { kind: Kind::Pin, ..asked("other") }], Phase::Asking));
        assert!(typed(&mut screen, b"1234\r").is_none(), "two PINs: one must be chosen");
        let Some(Action::Submit { volumes, .. }) = typed(&mut screen, b"\t1234\r") else { panic!() };
        assert_eq!(volumes, ["token"]);
    }

    #[test]
    fn the_menu_acts_only_on_its_own_keys() {
        let mut screen = Screen::new(80);
        screen.status(with(vec![asked("root")], Phase::Asking));
        assert!(typed(&mut screen, b"half\x03r").is_none(), "a small r is no reboot");
        assert!(matches!(typed(&mut screen, b"\x03R"), Some(Action::Reboot)));
        assert!(matches!(typed(&mut screen, b"\x03q"), Some(Action::Quit)));
        let Some(Action::Submit { secret, .. }) = typed(&mut screen, b"whole\r") else { panic!() };
        assert_eq!(secret.expose(), b"whole", "what was typed before ^C is gone");
    }

    #[test]
    fn log_lines_scroll_above_the_block() {
        let mut screen = Screen::new(40);
        screen.status(with(vec![asked("root")], Phase::Asking));
        shown(&mut screen);
        screen.log(&["[ 1.0] usb\x1b[2J".to_owned()]);
        let output = shown(&mut screen);
        assert!(output.starts_with("\r\x1b[2A\x1b[J[ 1.0] usb\u{fffd}[2J\r\n── web1"), "{output:?}");
        assert!(output.split("\r\n").all(|line| line.chars().count() <= 50), "{output:?}");
    }
}
