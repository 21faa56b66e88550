//! Where a service is in its life.

use std::time::Instant;

use super::record::Condition;
use crate::chroot::processes::Running;

/// What comes before its first start (host keys). It does nothing where it was done already.
pub enum Preparation {
    Wanted,
    /// Once: it took too long.
    LeftOut,
    Done,
}

pub enum Phase {
    Waiting { until: Instant },
    Preparing { until: Instant },
    Running,
    Background,
    Ending { kill_at: Instant, told: Vec<Running>, killed: Vec<Running> },
    Ended,
}

impl Phase {
    pub fn condition(&self) -> Condition {
        match self {
            Self::Waiting { .. } => Condition::Waiting,
            Self::Preparing { .. } => Condition::Preparing,
            Self::Running => Condition::Running,
            Self::Background => Condition::Background,
            Self::Ending { .. } => Condition::Ending,
            Self::Ended => Condition::Ended,
        }
    }
}
