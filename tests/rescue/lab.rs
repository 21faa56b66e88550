//! A daemon, and a client of it that starts programs.

use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::OwnedFd;

use tokio::net::UnixStream;
use tokio::runtime::Runtime;
use tokio::time::timeout;
use vestibule::control::client::{Client, Events};
use vestibule::control::message::{Event, Exit, Request, Size, Start, Terminal, What};

use crate::common::{DEADLINE, Machine};

pub struct Lab {
    pub machine: Machine,
    pub runtime: Runtime,
    client: Option<Client>,
}

/// A program that runs for us.
pub struct Program<'lab> {
    lab: &'lab Lab,
    pub events: Events,
    /// As in `Event::Started`.
    pub files: Vec<File>,
}

impl Lab {
    pub fn new(name: &str) -> Self {
        Self::on(Machine::started(name))
    }

    pub fn on(machine: Machine) -> Self {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let mut lab = Self { machine, runtime, client: None };
        lab.client = Some(lab.connect());
        lab
    }

    pub fn connect(&self) -> Client {
        let path = self.machine.root.join("run/vestibule/control");
        // It is there a moment before it is listened on.
        self.machine.wait_for("the daemon to answer", || std::os::unix::net::UnixStream::connect(&path).is_ok());
        self.runtime.block_on(async { Client::start(UnixStream::connect(path).await.unwrap()) })
    }

    pub fn client(&self) -> &Client {
        self.client.as_ref().expect("connected")
    }

    /// The connection is lost.
    pub fn disconnect(&mut self) {
        self.client = None;
    }

    pub fn wait<T>(&self, future: impl Future<Output = T>) -> T {
        self.runtime.block_on(async { timeout(DEADLINE, future).await.expect("within the deadline") })
    }

    pub fn request(&self, request: Request) -> Events {
        self.runtime.block_on(async { self.client().request(request) })
    }

    pub fn try_start(&self, start: Start) -> Result<Program<'_>, String> {
        self.start_with(self.client(), start)
    }

    /// The same for another client.
    pub fn start_of(&self, client: &Client, line: &str) -> Result<Program<'_>, String> {
        self.start_with(client, Start { what: What::Exec(line.into()), terminal: None, environment: vec![] })
    }

    fn start_with(&self, client: &Client, start: Start) -> Result<Program<'_>, String> {
        let mut events = self.runtime.block_on(async { client.request(Request::Start(start)) });
        match self.wait(events.next_with_descriptors()).unwrap() {
            (Event::Started { .. }, fds) => Ok(Program { lab: self, events, files: files(fds) }),
            (Event::Refused(reason), _) => Err(reason),
            _ => panic!("another event"),
        }
    }

    pub fn exec(&self, line: &str) -> Program<'_> {
        self.try_start(Start { what: What::Exec(line.into()), terminal: None, environment: vec![] }).unwrap()
    }

    pub fn on_terminal(&self, what: What) -> Program<'_> {
        self.try_start(Start { what, terminal: Some(terminal()), environment: vec![] }).unwrap()
    }

    /// A shell that waits for a line, with a prompt that can be told from its echo.
    pub fn shell(&self) -> Program<'_> {
        let mut shell = self.on_terminal(What::Shell);
        shell.type_text("PS1='re''ady> '\n");
        shell.expect("ready> ");
        shell
    }

    /// What a command line writes, and how it ends.
    pub fn output(&self, line: &str) -> (String, String, Exit) {
        let mut program = self.exec(line);
        let mut text = [String::new(), String::new()];
        drop(program.files.remove(0));
        for (file, text) in program.files.iter_mut().zip(&mut text) {
            file.read_to_string(text).unwrap();
        }
        let [out, err] = text;
        let exit = program.exit();
        (out, err, exit)
    }
}

impl Program<'_> {
    pub fn exit(&mut self) -> Exit {
        match self.lab.wait(self.events.next()).unwrap() {
            Event::Exited(exit) => exit,
            _ => panic!("another event"),
        }
    }

    pub fn type_text(&mut self, text: &str) {
        self.files[0].write_all(text.as_bytes()).unwrap();
    }

    /// Reads its terminal until this is there; what came until then.
    pub fn expect(&mut self, wanted: &str) -> String {
        let mut master = self.files[0].try_clone().unwrap();
        let (sender, pieces) = std::sync::mpsc::channel();
        let wanted = wanted.to_owned();
        let looked_for = wanted.clone();
        std::thread::spawn(move || {
            let mut text = Vec::new();
            let mut byte = [0];
            while !String::from_utf8_lossy(&text).contains(&looked_for) {
                match master.read(&mut byte) {
                    Ok(1) => text.push(byte[0]),
                    _ => break, // hung up
                }
                let _ = sender.send(String::from_utf8_lossy(&text).into_owned());
            }
        });
        let mut seen = String::new();
        loop {
            match pieces.recv_timeout(DEADLINE) {
                Ok(text) => seen = text,
                Err(error) => {
                    assert!(seen.contains(&wanted), "{wanted:?} does not come ({error}): {seen:?}");
                    return seen;
                }
            }
        }
    }

    pub fn resize(&self, size: Size) {
        let request = Request::Window { start: self.events.number(), size };
        self.lab.wait(self.lab.client().granted(request)).unwrap();
    }

    pub fn signal(&self, name: &str) {
        let request = Request::Signal { start: self.events.number(), name: name.to_owned() };
        self.lab.wait(self.lab.client().granted(request)).unwrap();
    }
}

pub fn terminal() -> Terminal {
    let size = Size { columns: 97, rows: 31, width: 970, height: 620 };
    Terminal { name: "xterm-256color".to_owned(), size, modes: vec![] }
}

/// The living processes whose command line begins so.
pub fn processes(word: &str) -> Vec<i32> {
    let all = std::fs::read_dir("/proc").unwrap();
    let numbers = all.filter_map(|entry| entry.unwrap().file_name().to_str()?.parse::<i32>().ok());
    let runs = |pid: &i32| std::fs::read_to_string(format!("/proc/{pid}/cmdline")).is_ok_and(|it| it.starts_with(word));
    numbers.filter(|pid| *pid != std::process::id() as i32).filter(runs).collect()
}

fn files(fds: Vec<OwnedFd>) -> Vec<File> {
    fds.into_iter().map(File::from).collect()
}
