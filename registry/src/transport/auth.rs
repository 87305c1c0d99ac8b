//! What this client knows of its rights at one registry: the login, and the tokens that it was
//! given.

use std::collections::HashMap;
use std::fmt;
use std::sync::{Mutex, MutexGuard, PoisonError};

use reqwest::header::HeaderValue;

use super::credentials::Login;
use super::token::{Scopes, Token};

#[derive(Default)]
struct State {
    /// Whether the registry has asked for the login with each request.
    basic: bool,
    tokens: HashMap<Scopes, Token>,
}

/// The login for one registry and its tokens.
pub(super) struct Auth {
    pub(super) login: Option<Login>,
    /// Hosts other than its own that may see the login ([`Options::token_hosts`](crate::Options)).
    pub(super) token_hosts: Vec<String>,
    state: Mutex<State>,
}

impl fmt::Debug for Auth {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Auth")
            .field("login", &self.login)
            .finish_non_exhaustive()
    }
}

impl Auth {
    pub(super) fn new(login: Option<Login>, token_hosts: Vec<String>) -> Self {
        Self {
            login,
            token_hosts,
            state: Mutex::default(),
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The Authorization header for a request to the registry's own origin.
    pub(super) fn header(&self, scopes: &Scopes) -> Option<HeaderValue> {
        let state = self.state();
        let token = state.tokens.get(scopes).and_then(Token::header);
        let login = || self.login.as_ref().filter(|_| state.basic);
        token.or_else(|| login().and_then(Login::basic))
    }

    /// Sends the login with each request from now on.
    pub(super) fn use_login(&self) {
        self.state().basic = true;
    }

    /// Sends this token with each request of these scopes.
    pub(super) fn use_token(&self, scopes: &Scopes, token: Token) {
        self.state().tokens.insert(scopes.clone(), token);
    }
}
