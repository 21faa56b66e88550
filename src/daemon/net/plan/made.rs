//! VLANs, bonds and bridges: made as soon as there is something to make them of, and made again after it went and came
//! back. Pure.

use std::time::Duration;

use super::{
    super::{
        link::{Link, Phase},
        step::{NewLink, Step},
    },
    Plan,
};
use crate::{
    config::network::{Made, MadeKind},
    control::message,
};

/// An interface to make, and how far that is.
pub struct Making {
    made: Made,
    state: State,
}

enum State {
    /// For what it is made of.
    Waiting,
    /// The kernel was told.
    Asked,
    /// Made by us, with this index.
    There(u32),
    /// There was one of this name.
    Theirs,
    /// Why, for a person.
    Failed(String),
}

impl Making {
    pub fn new(made: Made) -> Self {
        Self { made, state: State::Waiting }
    }

    /// As long as it is there.
    pub fn index(&self) -> Option<u32> {
        match self.state {
            State::There(index) => Some(index),
            _ => None,
        }
    }

    /// For `status`, as long as it is not there.
    pub fn show(&self) -> Option<message::Link> {
        let note = match (&self.state, &self.made.kind) {
            (State::There(_) | State::Theirs, _) => return None,
            (State::Failed(why), _) => why.clone(),
            (_, MadeKind::Vlan { parent, .. }) => format!("not made yet: waiting for {parent}"),
            (_, MadeKind::Bond { slaves: parts, .. } | MadeKind::Bridge { ports: parts }) => {
                format!("not made yet: waiting for {}", parts.join(" or "))
            }
        };
        Some(message::Link {
            name: self.made.name.clone(),
            mac: None,
            carrier: false,
            addresses: Vec::new(),
            gateway: None,
            nameservers: Vec::new(),
            configured_by: None,
            note: Some(note),
        })
    }
}

impl Plan {
    /// Makes what can be made now.
    pub(super) fn make(&mut self, now: Duration) {
        for at in 0..self.making.len() {
            let Making { made, state } = &self.making[at];
            let there = self.links.values().find(|link| link.seen.name == made.name).map(|link| link.seen.index);
            let next = match (state, there) {
                (State::Asked, Some(index)) => State::There(index),
                // It may have another name now.
                (State::There(index), _) if self.links.contains_key(index) => continue,
                (State::There(_), _) => State::Waiting,
                (State::Waiting, Some(_)) => State::Theirs,
                (State::Theirs, None) => State::Waiting,
                (State::Waiting, None) => match self.new_link(&made.kind) {
                    Some(link) => {
                        self.steps.push(Step::Make { name: made.name.clone(), link });
                        State::Asked
                    }
                    None => continue,
                },
                _ => continue,
            };
            self.enter(now, at, next);
        }
    }

    fn enter(&mut self, now: Duration, at: usize, next: State) {
        let name = self.making[at].made.name.clone();
        match next {
            State::There(_) => self.steps.push(Step::Log(format!("{name}: made"))),
            State::Theirs => {
                self.steps.push(Step::Log(format!("{name}: is there already; vestibule does not change what it is")));
            }
            _ => {}
        }
        let is_there = matches!(next, State::There(_));
        let gone = matches!((&self.making[at].state, &next), (State::There(_), State::Waiting));
        self.making[at].state = next;
        if gone {
            let part = |link: &&mut Link| matches!(&link.phase, Phase::Part(of) if *of == name);
            self.links.values_mut().filter(part).for_each(|link| link.joined = false);
        }
        if is_there || gone {
            self.each(|plan, index| plan.look(now, index)); // arguments are about it now, and parts can join it
        }
    }

    pub(super) fn not_made(&mut self, name: &str, why: String) {
        self.steps.push(Step::Log(format!("{name}: {why}")));
        if let Some(making) = self.making.iter_mut().find(|it| it.made.name == name) {
            making.state = State::Failed(why);
        }
    }

    /// What to tell the kernel, if what it is made of is there.
    fn new_link(&self, kind: &MadeKind) -> Option<NewLink> {
        let find = |name: &String| self.links.values().find(|link| self.name_of(link) == name);
        let part = |name: &String| find(name).is_some_and(|link| matches!(link.phase, Phase::Part(_)));
        match kind {
            MadeKind::Vlan { parent, id } => {
                // It can't be set up before what it is on.
                let parent = find(parent).filter(|link| link.is_held() && link.seen.up)?;
                Some(NewLink::Vlan { parent: parent.seen.index, id: *id })
            }
            MadeKind::Bond { slaves, options, mtu } => {
                slaves.iter().any(part).then(|| NewLink::Bond { options: options.clone(), mtu: *mtu })
            }
            MadeKind::Bridge { ports } => ports.iter().any(part).then_some(NewLink::Bridge),
        }
    }

    /// An interface that is ours becomes part of a bond or bridge, if that is there.
    pub(super) fn take_part(&mut self, index: u32, of: String) {
        let whole = self.making.iter().find(|it| it.made.name == of);
        let Some(link) = self.links.get(&index) else { return };
        let (up, joined, name) = (link.seen.up, link.joined, self.name_of(link).to_owned());
        let whole = whole.and_then(|it| Some((it.index()?, it.made.kind.clone())));
        self.set(index, |link| link.phase = Phase::Part(of));
        let (false, Some((master, kind))) = (joined, whole) else { return };
        self.set(index, |link| link.joined = true);
        match kind {
            // The kernel takes only what is down, and sets it up.
            MadeKind::Bond { options, .. } => {
                self.steps.extend(up.then_some(Step::SetDown(index)));
                self.steps.push(Step::Join { index, master });
                if options.primary.is_some_and(|primary| primary == name) {
                    self.steps.push(Step::Prefer { bond: master, slave: index });
                }
            }
            MadeKind::Bridge { .. } => {
                self.steps.push(Step::Join { index, master });
                self.steps.extend((!up).then_some(Step::SetUp(index)));
            }
            MadeKind::Vlan { .. } => {}
        }
    }
}
