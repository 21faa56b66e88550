//! Everything that may ask something, brought together.

use tokio::sync::watch;

use super::prompt::askpass::Askpass;
use super::prompt::broker::Broker;
use super::prompt::emergency::Hold;
use super::prompt::feed::Feed;
use super::prompt::hook::Hook;
use super::prompt::nixos::Nixos;
use super::prompt::proof::Proved;
use super::prompt::recipe::Recipes;
use super::prompt::recovery::Recovery;
use super::prompt::systemd::Systemd;
use super::prompt::tty::Tty;
use super::prompt::zfs::Zfs;
use super::prompt::{Source, volumes};
use crate::config::family::Family;
use crate::config::key::KeyPlace;
use crate::root::Root;

pub struct Sources {
    pub broker: Broker,
    /// Where questions of the initramfs's hooks come in.
    pub hook: Hook,
    /// Keys that can't be fed, one sentence each.
    pub problems: Vec<String>,
}

/// Starts every source, and the broker that collects what they see.
pub fn start(root: &Root, family: Option<Family>, keys: &[KeyPlace], hold: watch::Receiver<Option<Hold>>) -> Sources {
    let (recipes, proved) = (Recipes::default(), Proved::default());
    let hook = Hook::new(root.clone(), recipes.clone());
    let mut sources = vec![
        Systemd::new(root.clone()).noting(proved.clone()).spawn(),
        Askpass::new(root.clone(), recipes.clone()).spawn(),
        Tty::new(root.clone(), recipes.clone(), family).spawn(),
        Zfs::new(root.clone(), proved.clone()).spawn(),
        Nixos::new(root.clone()).spawn(),
        hook.clone().spawn(),
    ];
    let mut problems = Vec::new();
    if !keys.is_empty() {
        let (feed, unusable) = Feed::prepare(root, keys);
        problems = unusable;
        sources.push(feed.spawn());
    }
    let broker = Broker::spawn(sources, volumes::spawn_with(root.clone(), proved));
    broker.add(Recovery { root: root.clone(), recipes, broker: broker.clone(), hold }.spawn());
    Sources { broker, hook, problems }
}
