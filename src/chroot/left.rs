//! What others have mounted in a chroot that is down: for messages only.

use std::collections::HashSet;
use std::path::Path;

use super::mounts;
use super::place::Place;
use super::state::State;

/// As many as fit into a line.
const MOST_NAMED: usize = 5;

/// Tells of mounts below the chroot's directory that aren't ours: whoever removes that would remove what is mounted there.
pub fn still_below(place: &Place, state: &State) -> anyhow::Result<Option<String>> {
    let (journal, table) = (mounts::journal(state)?, mounts::table()?);
    let own: HashSet<u64> = journal.to_undo(&table, place.path(), &[]).iter().map(|step| step.mounted.id).collect();
    let is_below = |target: &Path| target != place.path() && target.starts_with(place.path());
    let others = table.all().filter(|mounted| is_below(&mounted.target) && !own.contains(&mounted.id));
    // Later ones may stand on those before.
    let targets: Vec<String> = others.map(|mounted| mounted.target.display().to_string()).rev().collect();
    let (shown, more) = targets.split_at(targets.len().min(MOST_NAMED));
    let and_more = if more.is_empty() { String::new() } else { format!(" and {} more", more.len()) };
    Ok((!targets.is_empty()).then(|| {
        format!(
            "still mounted below {}, and not by vestibule: {}{and_more}; before anything in it is removed: umount {}",
            place.path().display(),
            shown.join(", "),
            shown.join(" ")
        )
    }))
}
