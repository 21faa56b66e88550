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
    /// The kernel was told, when this interface was there for it.
    Asked(u32),
    /// Made by us, with this index.
    There(u32),
    /// There was one of this name.
    Theirs,
    /// Why, for a person; with this interface.
    Failed(String, u32),
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
            (State::Failed(why, _), _) => why.clone(),
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
            while let Some(next) = self.next(at) {
                self.enter(now, at, next);
            }
        }
    }

    /// How far it is now, if that has changed. It comes to an end: to ask the kernel is the last that can be done.
    fn next(&self, at: usize) -> Option<State> {
        let Making { made, state } = &self.making[at];
        let there = self.links.values().find(|link| link.seen.name == made.name).map(|link| link.seen.index);
        match (state, there) {
            (State::Asked(_), Some(index)) => Some(State::There(index)),
            // The kernel removes a VLAN before what it is on, so it may have been asked for in vain.
            (State::Asked(of) | State::Failed(_, of), _) => (!self.links.contains_key(of)).then_some(State::Waiting),
            // By index, as it may have another name now.
            (State::There(index), _) => (!self.links.contains_key(index)).then_some(State::Waiting),
            (State::Waiting, Some(_)) => Some(State::Theirs),
            (State::Theirs, None) => Some(State::Waiting),
            (State::Waiting, None) => self.new_link(&made.kind).map(|(of, _)| State::Asked(of)),
            (State::Theirs, Some(_)) => None,
        }
    }

    fn enter(&mut self, now: Duration, at: usize, next: State) {
        let Made { name, kind } = self.making[at].made.clone();
        match next {
            State::Asked(_) => {
                self.steps.extend(self.new_link(&kind).map(|(_, link)| Step::Make { name: name.clone(), link }));
            }
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
        let making = self.making.iter_mut().find(|it| it.made.name == name);
        if let Some(Making { state, .. }) = making
            && let State::Asked(of) = *state
        {
            *state = State::Failed(why, of);
        }
    }

    /// What to tell the kernel, if what it is made of is there; and the first interface of these.
    fn new_link(&self, kind: &MadeKind) -> Option<(u32, NewLink)> {
        let find = |name: &String| self.links.values().find(|link| self.name_of(link) == name);
        let part = |name: &String| {
            let part = find(name).filter(|link| matches!(link.phase, Phase::Part(_)));
            part.map(|link| link.seen.index)
        };
        match kind {
            MadeKind::Vlan { parent, id } => {
                // It can't be set up before what it is on.
                let parent = find(parent).filter(|link| link.is_held() && link.seen.up)?.seen.index;
                Some((parent, NewLink::Vlan { parent, id: *id }))
            }
            MadeKind::Bond { slaves, options, mtu } => {
                let link = || NewLink::Bond { options: options.clone(), mtu: *mtu };
                slaves.iter().find_map(part).map(|first| (first, link()))
            }
            MadeKind::Bridge { ports } => ports.iter().find_map(part).map(|first| (first, NewLink::Bridge)),
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
