//! A fuzzer in the test binary: inputs that reach new code are kept and changed further.
//!
//! How far an input gets is told by the counters that `-C instrument-coverage` puts into the code; the profiler's
//! runtime, which stable Rust brings along, says where they are. cargo-fuzz would need a nightly compiler, for nothing
//! but its own counters.
#![allow(unsafe_code)]

use std::{
    collections::VecDeque,
    fs,
    panic::{AssertUnwindSafe, catch_unwind, set_hook, take_hook},
    path::{Path, PathBuf},
    ptr,
    sync::{Arc, Mutex},
    thread,
    time::{Duration, Instant, SystemTime},
};

pub struct Target {
    /// Also that of its directory in `fuzz/corpus`.
    pub name: &'static str,
    /// What its language is made of.
    pub words: &'static [&'static str],
    /// Panics if something is wrong.
    pub run: fn(&[u8]),
}

/// Longer inputs reach nothing new and cost time.
const LONGEST: usize = 1024;
/// All that is fuzzed answers in microseconds; the machine may be busy.
const SLOW: Duration = Duration::from_secs(10);
/// Of the inputs found last, so many are tried more often.
const RECENT: usize = 16;

/// Feeds `target` for this long, the corpus first; with `keep`, what reaches new code is in the corpus then. Panics when
/// the target does, after it has written the input to a file.
pub fn explore(target: &Target, time: Duration, keep: bool) {
    let directory = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus").join(target.name);
    let seed = SystemTime::UNIX_EPOCH.elapsed().map_or(1, |time| time.as_nanos() as u64);
    let mut random = Random(seed);
    let mut reached = Reached::default();
    let current = watch(target.name);
    let mut inputs: Vec<Vec<u8>> = Vec::new();
    let mut runs = 0u64;
    let mut queue: VecDeque<Vec<u8>> = files(&directory).into_iter().map(|(_, input)| input).collect();
    assert!(!queue.is_empty(), "{} has no inputs to begin with", directory.display());
    let corpus = queue.len();
    let began = Instant::now();
    while !queue.is_empty() || began.elapsed() < time {
        let input = queue.pop_front().unwrap_or_else(|| mutated(&inputs, target.words, &mut random));
        *current.lock().unwrap() = Some((Instant::now(), input.clone()));
        runs += 1;
        if catch_unwind(AssertUnwindSafe(|| reached.run(target.run, &input))).is_err() {
            *current.lock().unwrap() = None;
            let shortest = shortest(target.run, input);
            let file = save(target.name, &shortest);
            panic!(
                "{}: {:?} fails (seed {seed}); see {}",
                target.name,
                String::from_utf8_lossy(&shortest),
                file.display()
            );
        }
        if reached.something_new() {
            inputs.push(input);
        }
    }
    *current.lock().unwrap() = None;
    let (places, found) = (reached.places(), inputs.len().saturating_sub(corpus));
    if keep {
        store(target.run, inputs, &directory);
    }
    println!("{}: {runs} inputs from {corpus}, {found} reached something new, {places} places reached", target.name);
}

/// What all inputs so far have reached: for each counter, a bit for each order of magnitude.
#[derive(Default)]
struct Reached {
    all: Vec<u8>,
    last: Vec<u64>,
}

unsafe extern "C" {
    fn __llvm_profile_begin_counters() -> *mut u64;
    fn __llvm_profile_end_counters() -> *mut u64;
}

impl Reached {
    fn run(&mut self, target: fn(&[u8]), input: &[u8]) {
        // SAFETY: the two functions return the bounds of one section of the program, an array of u64 that lives as long
        // as the program does.
        let (first, count) = unsafe {
            let (first, end) = (__llvm_profile_begin_counters(), __llvm_profile_end_counters());
            (first, end.offset_from_unsigned(first))
        };
        self.all.resize(count, 0);
        self.last.resize(count, 0);
        // SAFETY: within the section. Other threads may count at the same time, which only loses some of their counts.
        unsafe { ptr::write_bytes(first, 0, count) };
        target(input);
        // SAFETY: as above; `last` has room for `count`, and is not part of the section.
        unsafe { ptr::copy_nonoverlapping(first, self.last.as_mut_ptr(), count) };
    }

    /// Whether the last run reached a place, or reached it so often, as none before.
    fn something_new(&mut self) -> bool {
        let mut new = false;
        for (last, all) in self.last.chunks(16).zip(self.all.chunks_mut(16)) {
            if last.iter().fold(0, |any, count| any | count) == 0 {
                continue;
            }
            for (count, all) in last.iter().zip(all).filter(|(count, _)| **count > 0) {
                let bit = 1 << count.ilog2().min(7);
                new |= *all & bit == 0;
                *all |= bit;
            }
        }
        new
    }

    fn places(&self) -> usize {
        self.all.iter().filter(|bits| **bits != 0).count()
    }
}

/// One of the inputs, changed a few times.
fn mutated(inputs: &[Vec<u8>], words: &[&str], random: &mut Random) -> Vec<u8> {
    let recent = inputs.len().saturating_sub(RECENT);
    let from = if random.below(2) == 0 { recent } else { 0 };
    let mut input = inputs[from + random.below(inputs.len() - from)].clone();
    for _ in 0..1 + random.below(6) {
        let at = random.below(input.len() + 1);
        let end = at + random.below((input.len() - at).min(16) + 1);
        match random.below(9) {
            0 => drop(input.drain(at..end)),
            1 => {
                let copy = input[at..end].to_vec();
                let to = random.below(input.len() + 1);
                input.splice(to..to, copy);
            }
            2 => {
                let other = &inputs[random.below(inputs.len())];
                let cut = random.below(other.len() + 1);
                input.truncate(at);
                input.extend(&other[cut..]);
            }
            3 if at < input.len() => input[at] ^= 1 << random.below(8),
            4 if at < input.len() => input[at] = [0, 1, 0x7f, 0x80, 0xff, b'0', b'9', b' '][random.below(8)],
            5 => input.insert(at, random.below(256) as u8),
            6 => number(&mut input, at, random),
            7 => drop(input.splice(at..end, words[random.below(words.len())].bytes())),
            _ => drop(input.splice(at..at, words[random.below(words.len())].bytes())),
        }
    }
    input.truncate(LONGEST);
    input
}

/// Another number in place of the first one after `at`.
fn number(input: &mut Vec<u8>, at: usize, random: &mut Random) {
    const SPECIAL: [u32; 11] = [0, 1, 32, 33, 128, 129, 255, 4095, 65535, 65536, u32::MAX];
    let Some(first) = input[at..].iter().position(u8::is_ascii_digit) else { return };
    let length = input[at + first..].iter().take_while(|byte| byte.is_ascii_digit()).count();
    let number = match random.below(2) {
        0 => SPECIAL[random.below(SPECIAL.len())],
        _ => random.below(5000) as u32,
    };
    input.splice(at + first..at + first + length, number.to_string().bytes());
}

/// Takes away what the failure does not need.
fn shortest(target: fn(&[u8]), mut input: Vec<u8>) -> Vec<u8> {
    let hook = take_hook();
    set_hook(Box::new(|_| {}));
    let mut size = input.len();
    while size > 0 {
        let mut at = 0;
        while at < input.len() {
            let mut shorter = input.clone();
            shorter.drain(at..(at + size).min(input.len()));
            match catch_unwind(AssertUnwindSafe(|| target(&shorter))) {
                Err(_) => input = shorter,
                Ok(()) => at += size,
            }
        }
        size /= 2;
    }
    set_hook(hook);
    input
}

/// Ends the program if an input takes too long.
fn watch(name: &'static str) -> Arc<Mutex<Option<(Instant, Vec<u8>)>>> {
    let current = Arc::new(Mutex::new(None::<(Instant, Vec<u8>)>));
    let watched = Arc::downgrade(&current);
    thread::spawn(move || {
        while let Some(current) = watched.upgrade() {
            if let Some((since, input)) = &*current.lock().unwrap()
                && since.elapsed() > SLOW
            {
                eprintln!("{name}: an input takes more than {SLOW:?}; see {}", save(name, input).display());
                std::process::abort();
            }
            drop(current);
            thread::sleep(Duration::from_secs(1));
        }
    });
    current
}

fn save(name: &str, input: &[u8]) -> PathBuf {
    let directory = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("target/fuzz");
    let file = directory.join(format!("{name}-{:016x}", hash(input)));
    fs::create_dir_all(&directory).and_then(|()| fs::write(&file, input)).expect("the input can be saved");
    file
}

fn files(directory: &Path) -> Vec<(PathBuf, Vec<u8>)> {
    let entries = fs::read_dir(directory).expect("the corpus can be read");
    let mut paths: Vec<PathBuf> = entries.map(|entry| entry.expect("the corpus can be read").path()).collect();
    paths.sort();
    let read = |path: PathBuf| (fs::read(&path).expect("the corpus can be read"), path);
    paths.into_iter().map(read).map(|(input, path)| (path, input)).collect()
}

/// Leaves what somebody has given a name, and of all else the shortest that together reach every place.
fn store(target: fn(&[u8]), mut inputs: Vec<Vec<u8>>, directory: &Path) {
    let mut reached = Reached::default();
    for (path, input) in files(directory) {
        match path.file_name().and_then(|name| name.to_str()).is_some_and(is_hash) {
            true => fs::remove_file(path).expect("the corpus can be written"),
            false => {
                reached.run(target, &input);
                reached.something_new();
            }
        }
    }
    inputs.sort_by_key(Vec::len);
    for input in inputs {
        let before = reached.places();
        reached.run(target, &input);
        reached.something_new();
        if reached.places() > before {
            fs::write(directory.join(format!("{:016x}", hash(&input))), input).expect("the corpus can be written");
        }
    }
}

fn is_hash(name: &str) -> bool {
    name.len() == 16 && name.bytes().all(|byte| byte.is_ascii_hexdigit())
}

/// FNV-1a
fn hash(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3))
}

/// SplitMix64
struct Random(u64);

impl Random {
    fn below(&mut self, bound: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ z >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ z >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((z ^ z >> 31) % bound as u64) as usize
    }
}
