//! How a volume was going to be opened, remembered from the first sight of its asker, so that it can still be opened
//! when that asker has given up.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};

use super::VERDICT_DEADLINE;
use super::cryptsetup::{Opened, Opening};
use crate::secret::Secret;

/// One `cryptsetup` command, to be run again with a passphrase on a pipe.
pub struct Recipe {
    pub opening: Opening,
    pub program: PathBuf,
    /// The `PATH` of the asker.
    pub path: Option<OsString>,
}

impl Recipe {
    /// Runs it. An error by name where this format takes no passphrase from a pipe.
    pub async fn open(&self, secret: &Secret) -> Opened {
        if !self.opening.takes_a_pipe() {
            let format = self.opening.format();
            return Opened::Failed(format!("a {format} volume takes its passphrase only at the console"));
        }
        self.opening.open(&self.program, self.path.clone(), secret, VERDICT_DEADLINE).await
    }
}

/// The recipes of all volumes that were asked for, by the volume's name. Sources write it, recovery reads it.
#[derive(Clone, Default)]
pub struct Recipes(Arc<Mutex<BTreeMap<String, Arc<Recipe>>>>);

impl Recipes {
    /// The latest counts.
    pub fn note(&self, recipe: Arc<Recipe>) {
        self.0.lock().expect("no panic while held").insert(recipe.opening.volume.clone(), recipe);
    }

    pub fn find(&self, volume: &str) -> Option<Arc<Recipe>> {
        self.0.lock().expect("no panic while held").get(volume).cloned()
    }
}
