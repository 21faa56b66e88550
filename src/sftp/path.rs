//! Paths as a client sees them, and where they lead below the root. Pure: what is there, the caller looks up.
//!
//! The client sees one tree. The root stands in it at `--shown-as`; above that are bare directories that lead there, and
//! nothing else. Links are followed here, name by name, in that same tree, so that an absolute one means the same to its
//! owner, to an account whose root is further up, and outside; the kernel never follows any. `..` takes a name away and
//! stops at /. So what is handed to the kernel is always a list of plain names.

use rustix::io::Errno;

/// A name in a directory: not empty, not `.` or `..`, without `/` and NUL.
pub type Name = Vec<u8>;

/// Links in one path, as the kernel allows (path_resolution(7)).
const MOST_LINKS: u32 = 40;
/// Names in one path, those of links included. Nobody has so many; each costs a look.
const MOST_NAMES: u32 = 4096;
/// Bytes of a path, as the kernel allows (`PATH_MAX`).
const LONGEST: usize = 4096;

/// Where the client sees the root: the names of `--shown-as`, none for /.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct View(Vec<Name>);

/// Where a path leads.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Place {
    /// A bare directory above the root, this many names below /.
    Above(usize),
    /// These names below the root. All but the last are directories, the last may be missing.
    Below(Vec<Name>),
}

/// What a list of names below the root is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Found {
    Missing,
    Directory,
    /// With its target.
    Link(Vec<u8>),
    Other,
}

/// What to do with a link that stands last.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Last {
    Follow,
    Keep,
}

impl View {
    /// Fails when `path` isn't absolute or has `..`.
    pub fn new(path: &[u8]) -> Result<Self, String> {
        let names = names(path);
        if !path.starts_with(b"/") || path.contains(&0) || names.iter().any(|name| name == b"..") {
            let path = String::from_utf8_lossy(path);
            return Err(format!("--shown-as {path}: give an absolute path without '..', such as /home/mle"));
        }
        Ok(Self(names))
    }

    /// Where `path` leads; a relative one begins at the root. `look` is asked for lists of names below the root, none of
    /// which is a link except perhaps the last.
    pub fn resolve(
        &self,
        path: &[u8],
        last: Last,
        look: &mut dyn FnMut(&[Name]) -> Result<Found, Errno>,
    ) -> Result<Place, Errno> {
        let mut todo = self.start(path)?;
        let keep = last == Last::Keep && !names_directory(path);
        // The common case with one look instead of one for each name: no `..` and no link on the way, and it is there, or
        // may be made there.
        if let Some(below) = todo.strip_prefix(&self.0[..])
            && !below.iter().any(|name| name == b"..")
            && match look(below) {
                Ok(Found::Directory) => true,
                Ok(Found::Link(_)) => keep,
                Ok(Found::Other) => !names_directory(path),
                Ok(Found::Missing) => look(&below[..below.len().saturating_sub(1)]) == Ok(Found::Directory),
                Err(_) => false,
            }
        {
            return Ok(Place::Below(below.to_vec()));
        }
        todo.reverse();
        let (mut at, mut links, mut steps) = (Vec::<Name>::new(), 0, 0);
        while let Some(name) = todo.pop() {
            steps += 1;
            if steps > MOST_NAMES {
                return Err(Errno::LOOP);
            }
            if name == b".." {
                at.pop();
                continue;
            }
            at.push(name);
            if at.len() <= self.0.len() {
                if at.last() != self.0.get(at.len() - 1) {
                    return Err(Errno::NOENT);
                }
                continue;
            }
            match look(&at[self.0.len()..])? {
                Found::Directory => {}
                Found::Missing if todo.is_empty() => {}
                Found::Missing => return Err(Errno::NOENT),
                Found::Other if todo.is_empty() && !names_directory(path) => {}
                Found::Other => return Err(Errno::NOTDIR),
                Found::Link(_) if todo.is_empty() && keep => {}
                Found::Link(target) => {
                    links += 1;
                    if links > MOST_LINKS {
                        return Err(Errno::LOOP);
                    }
                    at.pop();
                    if target.starts_with(b"/") {
                        at.clear();
                    }
                    todo.extend(names(&target).into_iter().rev());
                }
            }
        }
        Ok(self.place(at))
    }

    /// `path` without `.` and `..`, whatever is there.
    pub fn normalise(&self, path: &[u8]) -> Result<Vec<u8>, Errno> {
        let mut at = Vec::new();
        for name in self.start(path)? {
            match &name[..] {
                b".." => drop(at.pop()),
                _ => at.push(name),
            }
        }
        Ok(text(&at))
    }

    /// The path that the client knows a place by.
    pub fn show(&self, place: &Place) -> Vec<u8> {
        match place {
            Place::Above(depth) => text(&self.0[..*depth]),
            Place::Below(names) => text(&[&self.0[..], names].concat()),
        }
    }

    /// What a bare directory above the root has in it.
    pub fn only_entry(&self, depth: usize) -> Option<&Name> {
        self.0.get(depth)
    }

    /// The names of `path` from / on.
    fn start(&self, path: &[u8]) -> Result<Vec<Name>, Errno> {
        if path.len() > LONGEST {
            return Err(Errno::NAMETOOLONG);
        }
        if path.contains(&0) {
            return Err(Errno::INVAL);
        }
        let before = if path.starts_with(b"/") { &[] } else { &self.0[..] };
        Ok([before, &names(path)].concat())
    }

    fn place(&self, at: Vec<Name>) -> Place {
        match at.len().checked_sub(self.0.len()) {
            Some(_) => Place::Below(at[self.0.len()..].to_vec()),
            None => Place::Above(at.len()),
        }
    }
}

/// `~` and `~/…` are the start, `~name` is nobody's. As `expand-path@openssh.com` in OpenSSH's PROTOCOL section 4.9 says.
pub fn expand(path: &[u8]) -> Result<&[u8], Errno> {
    match path {
        b"~" => Ok(b"."),
        [b'~', b'/', rest @ ..] => Ok(&rest[rest.iter().take_while(|byte| **byte == b'/').count()..]),
        [b'~', ..] => Err(Errno::NOENT),
        _ => Ok(path),
    }
}

/// Whether it ends in a way that only a directory may be named.
fn names_directory(path: &[u8]) -> bool {
    path.ends_with(b"/") || path.ends_with(b"/.")
}

/// Names and `..`.
fn names(path: &[u8]) -> Vec<Name> {
    let parts = path.split(|byte| *byte == b'/');
    parts.filter(|part| !part.is_empty() && *part != b".").map(<[u8]>::to_vec).collect()
}

fn text(names: &[Name]) -> Vec<u8> {
    [b"/", &names.join(&b'/')[..]].concat()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    /// Paths below a root, with what is there.
    struct Model(BTreeMap<String, Found>);

    impl Model {
        fn new(entries: &[(&str, &str)]) -> Self {
            let found = |what: &str| match what {
                "directory" => Found::Directory,
                "file" => Found::Other,
                target => Found::Link(target.strip_prefix("-> ").unwrap().into()),
            };
            Self(entries.iter().map(|(path, what)| ((*path).to_owned(), found(what))).collect())
        }

        /// As a kernel that follows no links. Fails the test when it is asked for what is no plain name.
        fn look(&self, names: &[Name]) -> Result<Found, Errno> {
            let names: Vec<&str> = names.iter().map(|name| std::str::from_utf8(name).unwrap()).collect();
            assert!(names.iter().all(|name| !["", ".", ".."].contains(name) && !name.contains('/')), "{names:?}");
            for length in 1..names.len() {
                match self.0.get(&names[..length].join("/")) {
                    Some(Found::Directory) => {}
                    Some(Found::Link(_)) => return Err(Errno::LOOP),
                    Some(_) => return Err(Errno::NOTDIR),
                    None => return Err(Errno::NOENT),
                }
            }
            let there = || self.0.get(&names.join("/")).cloned().unwrap_or(Found::Missing);
            Ok(if names.is_empty() { Found::Directory } else { there() })
        }

        fn resolve(&self, view: &View, path: &str, last: Last) -> Result<String, Errno> {
            let place = view.resolve(path.as_bytes(), last, &mut |names| self.look(names))?;
            Ok(String::from_utf8(view.show(&place)).unwrap())
        }
    }

    fn model() -> Model {
        Model::new(&[
            ("d", "directory"),
            ("d/e", "directory"),
            ("d/e/f", "file"),
            ("passwd", "-> /etc/passwd"),
            ("up", "-> ../../../../etc/passwd"),
            ("to-d", "-> d"),
            ("d/to-top", "-> .."),
            ("absolute", "-> /d/e/f"),
            ("own", "-> /home/mle/sub/d/e"),
            ("chain", "-> chain2"),
            ("chain2", "-> to-d/e"),
            ("loop", "-> loop"),
            ("new", "-> d/missing"),
        ])
    }

    #[test]
    fn at_the_top() {
        let view = View::new(b"/").unwrap();
        for (path, expected) in [
            ("", Ok("/")),
            (".", Ok("/")),
            ("/", Ok("/")),
            ("..", Ok("/")),
            ("../../etc/passwd", Err(Errno::NOENT)),
            ("/../d", Ok("/d")),
            ("d//e/./f", Ok("/d/e/f")),
            ("d/missing", Ok("/d/missing")),
            ("d/missing/x", Err(Errno::NOENT)),
            ("d/missing/..", Err(Errno::NOENT)),
            ("d/e/f/", Err(Errno::NOTDIR)),
            ("d/e/f/.", Err(Errno::NOTDIR)),
            ("d/e/f/..", Err(Errno::NOTDIR)),
            ("d/e/..", Ok("/d")),
            ("passwd", Err(Errno::NOENT)),
            ("up", Err(Errno::NOENT)),
            ("to-d/e", Ok("/d/e")),
            ("to-d/..", Ok("/")),
            ("d/to-top/d/to-top", Ok("/")),
            ("absolute", Ok("/d/e/f")),
            ("chain", Ok("/d/e")),
            ("chain/f", Ok("/d/e/f")),
            ("loop", Err(Errno::LOOP)),
            ("new", Ok("/d/missing")),
            ("own", Err(Errno::NOENT)),
            ("d\0e", Err(Errno::INVAL)),
        ] {
            assert_eq!(model().resolve(&view, path, Last::Follow), expected.map(str::to_owned), "{path}");
        }
        for (path, expected) in [("loop", "/loop"), ("passwd", "/passwd"), ("to-d/", "/d"), ("d/to-top", "/d/to-top")] {
            assert_eq!(model().resolve(&view, path, Last::Keep), Ok(expected.to_owned()), "{path}");
        }
        assert_eq!(model().resolve(&view, &"x/".repeat(LONGEST), Last::Keep), Err(Errno::NAMETOOLONG));
    }

    #[test]
    fn shown_as_something_else() {
        let view = View::new(b"/home/mle/sub/").unwrap();
        for (path, expected) in [
            (".", Ok("/home/mle/sub")),
            ("d", Ok("/home/mle/sub/d")),
            ("/home/mle/sub/d/e/f", Ok("/home/mle/sub/d/e/f")),
            ("..", Ok("/home/mle")),
            ("../sub/d", Ok("/home/mle/sub/d")),
            ("../other", Err(Errno::NOENT)),
            ("/", Ok("/")),
            ("/home", Ok("/home")),
            ("/d", Err(Errno::NOENT)),
            ("/etc/passwd", Err(Errno::NOENT)),
            ("own", Ok("/home/mle/sub/d/e")),
            ("absolute", Err(Errno::NOENT)),
            ("passwd", Err(Errno::NOENT)),
            ("d/to-top/to-d", Ok("/home/mle/sub/d")),
        ] {
            assert_eq!(model().resolve(&view, path, Last::Follow), expected.map(str::to_owned), "{path}");
        }
        let place = |path: &[u8]| view.resolve(path, Last::Follow, &mut |names| model().look(names));
        assert_eq!(place(b"/home"), Ok(Place::Above(1)));
        assert_eq!(view.only_entry(1), Some(&b"mle".to_vec()));
        assert_eq!(place(b"/home/mle/sub"), Ok(Place::Below(vec![])));
    }

    #[test]
    fn what_can_be_shown() {
        for bad in ["", "home", "/home/../etc", "/a\0b"] {
            assert!(View::new(bad.as_bytes()).is_err(), "{bad}");
        }
        assert_eq!(View::new(b"//a/./b/"), View::new(b"/a/b"));
    }

    #[test]
    fn tilde() {
        for (path, expected) in
            [("~", Ok(".")), ("~/", Ok("")), ("~//etc", Ok("etc")), ("~root/x", Err(Errno::NOENT)), ("a~", Ok("a~"))]
        {
            assert_eq!(expand(path.as_bytes()), expected.map(str::as_bytes), "{path}");
        }
    }

    proptest! {
        /// However many links there are: nobody asks the kernel for more than plain names (see `look`), the answer is at
        /// or below the root or a bare directory, and what it says is there without a link on the way.
        #[test]
        fn never_outside(
            links in prop::collection::vec(("[abc](/[abc]){0,2}", "/?(\\.\\.|[abc]|s)(/(\\.\\.|\\.|[abc]|s)){0,4}"), 0..8),
            path in "/?(\\.\\.|[abc]|s)?(/(\\.\\.|\\.|[abc]|s)){0,5}/?",
            shown in prop::sample::select(vec!["/", "/s", "/s/a"]),
            keep: bool,
        ) {
            let mut model = Model::new(&[("a", "directory"), ("a/b", "directory"), ("a/b/c", "file"), ("b", "directory")]);
            for (at, target) in links {
                model.0.insert(at, Found::Link(target.into()));
            }
            let view = View::new(shown.as_bytes()).unwrap();
            let last = if keep { Last::Keep } else { Last::Follow };
            if let Ok(Place::Below(names)) = view.resolve(path.as_bytes(), last, &mut |names| model.look(names)) {
                let found = model.look(&names);
                prop_assert!(matches!(found, Ok(Found::Directory | Found::Other | Found::Missing)) || keep && found.is_ok());
            }
            let normal = view.normalise(path.as_bytes()).unwrap();
            prop_assert!(!normal.ends_with(b"/..") && normal.starts_with(b"/"));
        }
    }
}
