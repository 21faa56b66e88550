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
    Submit { aim: Aim, secret: Secret },
    Peek,
    Reboot,
    PowerOff,
    Shell,
    Quit,
}

/// What the line being typed is for. It holds names and not places in a list, because questions come and go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Aim {
    /// Every passphrase question.
    All,
    /// One question, by volume, device, or where neither is known its text.
    One(Kind, String),
    /// Nothing can take an answer.
    Nothing,
}

pub struct Screen {
    columns: usize,
    status: Option<Status>,
    line: Line,
    mode: Mode,
    /// The menu has a shell.
    shell: bool,
    /// An answer is on its way; its verdicts will come.
    checking: bool,
    /// The question that was chosen by Tab.
    chosen: Option<Aim>,
    /// Lines of the block that are on the screen now.
    drawn: usize,
    output: Vec<u8>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Mode {
    Entry,
    Menu,
}

impl Screen {
    pub fn new(columns: u32) -> Self {
        let mut screen = Self {
            columns: 80,
            status: None,
            line: Line::default(),
            mode: Mode::Entry,
            shell: false,
            checking: false,
            chosen: None,
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

    /// Whether the menu has a shell.
    pub fn offer_shell(&mut self, shell: bool) {
        self.shell = shell;
    }

    pub fn status(&mut self, status: Status) {
        self.erase_block();
        let aim = self.aim();
        let before = self.status.replace(status);
        let now = self.status.as_ref().expect("just set");
        let newly_open: Vec<String> = now
            .unlocked
            .iter()
            .filter(|volume| before.as_ref().is_some_and(|before| !before.unlocked.contains(volume)))
            .filter(|_| !self.checking) // otherwise its verdict says so
            .map(|volume| format!("{}: unlocked", text::printable(&volume.name)))
            .collect();
        for line in newly_open {
            self.print(&line);
        }
        if self.chosen.as_ref().is_some_and(|chosen| !self.questions().iter().any(|question| one(question) == *chosen))
        {
            self.chosen = None;
        }
        self.keep_or_drop_line(&aim);
        self.draw_block();
    }

    /// What was typed for one thing is never used for another: a PIN is no passphrase, and a chosen volume no other.
    fn keep_or_drop_line(&mut self, before: &Aim) {
        let (pin, chosen) =
            (|aim: &Aim| matches!(aim, Aim::One(Kind::Pin, _)), |aim: &Aim| matches!(aim, Aim::One(..)));
        let now = self.aim();
        let other = *before != now && (pin(before) || pin(&now) || (chosen(before) && chosen(&now)));
        if other && !self.line.is_empty() {
            self.line.clear();
            self.print("The question has changed; what you typed was dropped.");
        }
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
        self.checking = false;
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
        if self.checking {
            self.line.clear();
            self.show("Still checking; what you typed was not used.");
            return None;
        }
        let aim = self.aim();
        if aim == Aim::Nothing {
            self.line.clear();
            self.show("Nothing is asking; what you typed was not used.");
            return None;
        }
        let secret = self.line.take();
        self.erase_block();
        self.checking = true;
        self.draw_block();
        Some(Action::Submit { aim, secret })
    }

    fn menu_key(&mut self, byte: u8) -> Option<Action> {
        self.switch(Mode::Entry);
        match byte {
            b'q' => Some(Action::Quit),
            b'p' => Some(Action::Peek),
            b's' if self.shell => Some(Action::Shell),
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
        let before = self.aim();
        let all: Vec<Aim> = self.questions().iter().filter(|question| can_be_typed(question)).map(one).collect();
        let next = match &self.chosen {
            None => 0,
            Some(chosen) => all.iter().position(|aim| aim == chosen).map_or(all.len(), |at| at + 1),
        };
        self.chosen = if all.len() > 1 { all.into_iter().nth(next) } else { None };
        self.keep_or_drop_line(&before);
        self.draw_block();
    }

    /// A PIN must be chosen, or be the only question: it is never tried as a passphrase.
    fn aim(&self) -> Aim {
        let questions: Vec<_> = self.questions().iter().filter(|question| can_be_typed(question)).collect();
        match (&self.chosen, &questions[..]) {
            (Some(chosen), _) => chosen.clone(),
            (None, [only]) => one(only),
            (None, questions) if questions.iter().any(|question| question.kind == Kind::Passphrase) => Aim::All,
            (None, _) => Aim::Nothing,
        }
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
        let held = [status.emergency.as_deref(), status.hold.as_deref()];
        lines.extend(held.into_iter().flatten().map(|why| format!("! {}", text::printable(why))));
        lines.extend(status.hubs.iter().map(|hub| format!("  hub {}", text::printable(&text::hub(hub)))));
        for question in &status.questions {
            let mark = if self.chosen == Some(one(question)) { '▸' } else { ' ' };
            lines.push(format!("{mark} {}", text::question(question)));
        }
        lines.push(self.entry_line(status));
        let lines: Vec<String> = lines.iter().flat_map(|line| wrap(line, self.columns - 1)).collect();
        self.drawn = lines.len();
        self.output.extend(lines.join("\r\n").as_bytes());
    }

    fn entry_line(&self, status: &Status) -> String {
        if self.mode == Mode::Menu {
            let shell = if self.shell { "[s] shell  " } else { "" };
            return format!("[Enter] back  [p] peek  {shell}[R] reboot  [O] power off  [q] disconnect ");
        }
        if self.checking
            || (status.questions.iter().all(|question| question.stage == Stage::Checking)
                && status.phase == Phase::Asking)
        {
            return "checking… ".to_owned();
        }
        match (self.aim(), status.phase) {
            (Aim::One(kind, name), _) => {
                format!("{} for {}: ", capital(text::secret_name(kind)), text::printable(&name))
            }
            (Aim::All, _) => "Passphrase for all of these (Tab: for one): ".to_owned(),
            (Aim::Nothing, Phase::Unlocked | Phase::HandOver) => "All unlocked, the boot continues. ".to_owned(),
            (Aim::Nothing, Phase::Asking) if !status.questions.iter().any(can_be_typed) => {
                "Nothing to type here; ^C for a menu. ".to_owned()
            }
            (Aim::Nothing, Phase::Asking) => "Tab chooses what to answer; ^C for a menu. ".to_owned(),
            (Aim::Nothing, _) => "Nothing to answer now; ^C for a menu. ".to_owned(),
        }
    }
}

fn one(question: &Question) -> Aim {
    let name = question.volume.as_ref().or(question.device.as_ref()).unwrap_or(&question.message);
    Aim::One(question.kind, name.clone())
}

/// A key file is fed, not typed.
fn can_be_typed(question: &Question) -> bool {
    question.kind != Kind::Key
}

/// A line in pieces that fit; nothing of it is lost.
fn wrap(line: &str, room: usize) -> Vec<String> {
    let characters: Vec<char> = line.chars().collect();
    characters.chunks(room).map(|piece| piece.iter().collect()).collect()
}

fn capital(word: &str) -> String {
    word[..1].to_uppercase() + &word[1..]
}

#[cfg(test)]
mod tests;
