//! A table of `config.toml`, read key by key; what is wrong is told with its line. Pure.

use toml::{
    Spanned,
    de::{DeTable, DeValue},
};

use super::field;

pub struct Entry<'a> {
    /// As it stands in brackets.
    kind: String,
    text: &'a str,
    /// Where it begins in `text`.
    at: usize,
    table: &'a DeTable<'a>,
    /// The keys that have been asked for.
    known: Vec<&'static str>,
    problems: Vec<String>,
    skipped: bool,
}

/// The whole file, if it is TOML.
pub fn parse(text: &str) -> Option<Spanned<DeTable<'_>>> {
    DeTable::parse(text).ok()
}

impl<'a> Entry<'a> {
    /// The table `[kind]`, if there is one.
    pub fn section(file: &'a Spanned<DeTable<'a>>, kind: &str, text: &'a str) -> Option<Self> {
        let (key, value) = file.get_ref().get_key_value(kind)?;
        let table = value.get_ref().as_table()?;
        Some(Self::new(kind.to_owned(), text, key.span().start, table))
    }

    /// The tables of a list `[[kind]]`, and what is there in place of one.
    pub fn sections(file: &'a Spanned<DeTable<'a>>, kind: &str, text: &'a str) -> Vec<Result<Self, String>> {
        let Some((key, value)) = file.get_ref().get_key_value(kind) else { return Vec::new() };
        let wrong = |at| format!("line {}: {kind}: this is a list of tables; write [[{kind}]]", line(text, at));
        let Some(list) = value.get_ref().as_array() else { return vec![Err(wrong(key.span().start))] };
        list.iter()
            .map(|item| match item.get_ref().as_table() {
                Some(table) => Ok(Self::new(kind.to_owned(), text, item.span().start, table)),
                None => Err(wrong(item.span().start)),
            })
            .collect()
    }

    fn new(kind: String, text: &'a str, at: usize, table: &'a DeTable<'a>) -> Self {
        Self { kind, text, at, table, known: Vec::new(), problems: Vec::new(), skipped: false }
    }

    /// Where it stands, for a person.
    pub fn place(&self) -> String {
        format!("line {}: [{}]", line(self.text, self.at), self.kind)
    }

    pub fn has(&self, key: &str) -> bool {
        self.table.contains_key(key)
    }

    pub fn problem(&mut self, key: &str, what: &str) {
        let at = self.table.get_key_value(key).map_or(self.at, |(key, _)| key.span().start);
        self.problems.push(format!("line {}: [{}] {key}: {what}", line(self.text, at), self.kind));
    }

    /// A mistake in a part of it, which is told with its place already.
    pub fn pass_on(&mut self, problem: String) {
        self.problems.push(problem);
    }

    /// The good values of a key that may have one or several.
    pub fn list<T>(&mut self, key: &'static str, read: impl Fn(&str) -> Result<T, String>) -> Vec<T> {
        let mut good = Vec::new();
        for value in self.values(key) {
            match value.and_then(|text| read(&text)) {
                Ok(value) => good.push(value),
                Err(reason) => self.problem(key, &reason),
            }
        }
        good
    }

    /// The value of a key that may have one.
    pub fn one<T>(&mut self, key: &'static str, read: impl Fn(&str) -> Result<T, String>) -> Option<T> {
        let mut values = self.values(key);
        if values.len() > 1 {
            self.problem(key, "there can be only one; remove the others");
            return None;
        }
        let read = values.pop()?.and_then(|text| read(&text));
        read.map_err(|reason| self.problem(key, &reason)).ok()
    }

    /// The value of a key that must be there.
    pub fn required<T>(&mut self, key: &'static str, read: impl Fn(&str) -> Result<T, String>) -> Option<T> {
        if !self.has(key) {
            self.problem(key, "this is missing");
        }
        self.one(key, read)
    }

    pub fn switch(&mut self, key: &'static str) -> Option<bool> {
        self.one(key, |text| text.parse().map_err(|_| format!("“{text}” is neither true nor false")))
    }

    /// What a bond or bridge is made of; empty if that has a mistake.
    pub fn members(&mut self) -> Vec<String> {
        const KEY: &str = "interfaces";
        if !self.has(KEY) {
            self.problem(KEY, "this is missing");
        }
        let text = self.list(KEY, |text| Ok(text.to_owned())).join(",");
        match field::names(&text) {
            Ok(names) => names,
            Err(_) if text.is_empty() => Vec::new(),
            Err(reason) => {
                self.problem(KEY, &reason);
                Vec::new()
            }
        }
    }

    /// The tables of a list `[[kind.key]]`.
    pub fn tables(&mut self, key: &'static str) -> Vec<Entry<'a>> {
        self.known.push(key);
        let Some(value) = self.table.get(key) else { return Vec::new() };
        let mut tables = Vec::new();
        for item in value.get_ref().as_array().into_iter().flat_map(|list| list.iter()) {
            let kind = format!("{}.{key}", self.kind);
            tables.extend(item.get_ref().as_table().map(|table| Entry::new(kind, self.text, item.span().start, table)));
        }
        if tables.is_empty() {
            self.problem(key, &format!("this is a list of tables; write [[{}.{key}]]", self.kind));
        }
        tables
    }

    /// The table `key = { … }`, if there is one.
    pub fn table(&mut self, key: &'static str) -> Option<Entry<'a>> {
        self.known.push(key);
        let value = self.table.get(key)?;
        let Some(table) = value.get_ref().as_table() else {
            self.problem(key, "this is a table; write { … }");
            return None;
        };
        Some(Entry::new(format!("{}.{key}", self.kind), self.text, value.span().start, table))
    }

    /// Whether a key is switched off in place of a table.
    pub fn is_off(&self, key: &str) -> bool {
        matches!(self.table.get(key).map(Spanned::get_ref), Some(DeValue::Boolean(false)))
    }

    /// All keys, whatever they are called, with their texts.
    pub fn texts(self) -> (Vec<(String, String)>, Vec<String>) {
        let (mut texts, mut problems) = (Vec::new(), self.problems);
        for (key, value) in self.table {
            match value.get_ref().as_str() {
                Some(text) => texts.push((key.get_ref().to_string(), text.to_owned())),
                None => problems.push(format!(
                    "line {}: [{}] {}: this is a text; write it in quotes",
                    line(self.text, key.span().start),
                    self.kind,
                    key.get_ref()
                )),
            }
        }
        (texts, problems)
    }

    /// Nothing more is read: no word about the other keys.
    pub fn skip(&mut self) {
        self.skipped = true;
    }

    /// What is wrong, keys that nobody knows among it.
    pub fn finish(mut self) -> Vec<String> {
        let known = self.known.join(", ");
        let keys = self.table.keys().map(|key| key.get_ref().as_ref());
        let strange: Vec<&str> = keys.filter(|key| !self.skipped && !self.known.contains(key)).collect();
        for key in strange {
            self.problem(key, &format!("there is no such setting ({known})"));
        }
        self.problems
    }

    /// One value or a list, numbers and switches as they are written.
    fn values(&mut self, key: &'static str) -> Vec<Result<String, String>> {
        self.known.push(key);
        match self.table.get(key).map(Spanned::get_ref) {
            None => Vec::new(),
            Some(DeValue::Array(list)) => list.iter().map(|value| scalar(value.get_ref())).collect(),
            Some(value) => vec![scalar(value)],
        }
    }
}

fn scalar(value: &DeValue) -> Result<String, String> {
    match value {
        DeValue::String(text) => Ok(text.to_string()),
        DeValue::Integer(number) => Ok(number.as_str().to_owned()),
        DeValue::Boolean(switch) => Ok(switch.to_string()),
        other => Err(format!("this is of the type {}; write a text in quotes", other.type_str())),
    }
}

fn line(text: &str, at: usize) -> usize {
    1 + text.bytes().take(at).filter(|byte| *byte == b'\n').count()
}
