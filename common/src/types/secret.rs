//! Secrets: their `Debug` is dots, they are never part of an argument, a label or a log.

use std::fmt;

use serde::{Deserialize, Serialize};

/// A user and password for one registry.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Credential {
    /// The user.
    pub user: String,
    /// The password.
    pub password: String,
}

impl fmt::Debug for Credential {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Credential")
            .field("user", &self.user)
            .field("password", &"…")
            .finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn attack_42_a_password_is_not_printed() {
        let c = Credential {
            user: "puller".into(),
            password: "hunter2".into(),
        };
        assert_eq!(
            format!("{c:?}"),
            "Credential { user: \"puller\", password: \"…\" }"
        );
    }
}
