//! Roles: what a login name may do. There are no accounts; the name that somebody logs in with *is* the role.

use serde::{Deserialize, Serialize};

use crate::control::message::Request;

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// Everything that the configuration allows.
    Root,
    /// `unlock`, `feed`, `peek`, `status`.
    Unlock,
    /// `peek`, `status`.
    Peek,
}

impl Role {
    /// The role that a login name stands for.
    pub fn from_login_name(name: &str) -> Option<Self> {
        match name {
            "root" => Some(Self::Root),
            "unlock" => Some(Self::Unlock),
            "peek" => Some(Self::Peek),
            _ => None,
        }
    }

    pub fn name(self) -> &'static str {
        match self {
            Self::Root => "root",
            Self::Unlock => "unlock",
            Self::Peek => "peek",
        }
    }

    /// Whether this role may ask that of the daemon. What is not named here is denied.
    pub fn may(self, request: &Request) -> bool {
        match request {
            Request::Status | Request::Watch { .. } | Request::Peek { .. } | Request::Cancel => true,
            Request::Submit(_) => matches!(self, Self::Root | Self::Unlock),
            Request::Power(_) => self == Self::Root,
            Request::Login(_) | Request::LoginFailed { .. } | Request::Stop | Request::Open(_) => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::control::message::{Open, Power, Submit};
    use crate::secret::Secret;

    #[test]
    fn what_each_role_may_do() {
        let submit =
            || Request::Submit(Submit { volumes: vec![], kind: None, secret: Secret::new(vec![]), wait_ms: 0 });
        let table = [
            (Request::Status, [true, true, true]),
            (Request::Peek { follow: true }, [true, true, true]),
            (submit(), [true, true, false]),
            (Request::Power(Power::Reboot), [true, false, false]),
            (Request::Stop, [false, false, false]),
            (Request::Open(Open { arguments: vec![], path: None }), [false, false, false]),
        ];
        for (request, expected) in table {
            assert_eq!([Role::Root, Role::Unlock, Role::Peek].map(|role| role.may(&request)), expected);
        }
    }

    #[test]
    fn unknown_names_are_no_role() {
        for name in ["", "Root", "admin", "root\0", " root"] {
            assert_eq!(Role::from_login_name(name), None, "{name:?}");
        }
    }
}
