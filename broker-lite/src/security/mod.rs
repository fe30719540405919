//! Who may connect.

use std::collections::HashMap;
use std::fmt;

use subtle::ConstantTimeEq;

/// The users a broker knows. Without any, everybody may connect.
#[derive(Debug, Clone, Default)]
pub(crate) struct Users(HashMap<String, Password>);

#[derive(Clone)]
struct Password(String);

impl fmt::Debug for Password {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

/// A user name or password was wrong.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct AuthenticationFailed {
    user: Option<String>,
}

impl fmt::Display for AuthenticationFailed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let user = self.user.as_deref().unwrap_or("null");
        write!(f, "User name [{user}] or password is invalid.")
    }
}

impl Users {
    /// Adds a user, or gives one another password.
    pub(crate) fn add(&mut self, name: impl Into<String>, password: impl Into<String>) {
        self.0.insert(name.into(), Password(password.into()));
    }

    /// Nobody has to say who they are.
    pub(crate) fn anonymous(&self) -> bool {
        self.0.is_empty()
    }

    /// Checks a user name and a password. How long it takes says nothing about how much of them is right,
    /// but for their lengths.
    pub(crate) fn authenticate(
        &self,
        name: Option<&str>,
        password: Option<&str>,
    ) -> Result<(), AuthenticationFailed> {
        if self.anonymous() {
            return Ok(());
        }
        let known = name.and_then(|name| self.0.get(name));
        let expected = known.map_or("", |password| password.0.as_str());
        let given = password.unwrap_or_default();
        let same: bool = expected.as_bytes().ct_eq(given.as_bytes()).into();
        // An unknown user fails after the comparison, whatever it said.
        if same && known.is_some() && password.is_some() {
            return Ok(());
        }
        Err(AuthenticationFailed {
            user: name.map(str::to_owned),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_right_password_of_a_known_user_is_let_in() {
        let mut users = Users::default();
        assert!(users.anonymous());
        assert_eq!(users.authenticate(None, None), Ok(()));
        users.add("system", "manager");
        users.add("empty", "");
        assert_eq!(users.authenticate(Some("system"), Some("manager")), Ok(()));
        assert_eq!(users.authenticate(Some("empty"), Some("")), Ok(()));
        for (name, password) in [
            (None, None),
            (None, Some("manager")),
            (Some("system"), None),
            (Some("system"), Some("")),
            (Some("system"), Some("manage")),
            (Some("system"), Some("managers")),
            (Some("nobody"), Some("")),
            (Some("nobody"), Some("manager")),
            (Some("empty"), None),
        ] {
            let refused = users.authenticate(name, password).unwrap_err();
            assert_eq!(
                refused.to_string(),
                format!("User name [{}] or password is invalid.", name.unwrap_or("null"))
            );
        }
    }

    #[test]
    fn passwords_are_not_shown() {
        let mut users = Users::default();
        users.add("system", "manager");
        assert!(!format!("{users:?}").contains("manager"));
    }
}
