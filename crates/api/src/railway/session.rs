//! The browsers and command lines in which a person is signed in, their password, and what they are called.

use std::cmp::Reverse;

use domain::account::ClientLogin;
use domain::{SessionId, Timestamp};
use juniper::{GraphQLInputObject, ID, graphql_object};
use ops::{Principal, Via};
use secrecy::SecretString;

use super::connection::connection;
use super::enums::SessionType;
use super::inputs::id;
use crate::graphql::scalar::DateTime;
use crate::graphql::{Ctx, Fault, Scalar};

/// Where the person is signed in.
#[derive(Clone)]
pub(crate) enum Session {
    /// A browser.
    Browser(domain::account::Session),
    /// A command-line client.
    Client(ClientLogin),
}

impl Session {
    fn session_id(&self) -> SessionId {
        match self {
            Self::Browser(session) => session.id,
            Self::Client(login) => login.id,
        }
    }

    fn began(&self) -> Timestamp {
        match self {
            Self::Browser(session) => session.created_at,
            Self::Client(login) => login.created_at,
        }
    }

    pub(crate) fn cursor(&self) -> String {
        self.session_id().to_string()
    }
}

#[graphql_object(context = Ctx, scalar = Scalar)]
impl Session {
    fn created_at(&self) -> DateTime {
        DateTime(self.began())
    }
    /// When it ends by itself; a command line's is put off whenever it gets new tokens.
    fn expired_at(&self) -> DateTime {
        DateTime(match self {
            Self::Browser(session) => session.expires_at,
            Self::Client(login) => login.expires_at,
        })
    }
    fn id(&self) -> ID {
        ID::from(self.session_id().to_string())
    }
    /// The request came from it.
    fn is_current(&self, ctx: &Ctx) -> bool {
        matches!(&ctx.op.principal, Principal::User(person) if person.via == Via::Session(self.session_id()))
    }
    /// What the browser calls itself, and the address at which it signed in; of a command line, the address that it was last used from.
    fn name(&self) -> String {
        let (what, address) = match self {
            Self::Browser(session) => (session.agent.as_deref().map_or("A browser".to_owned(), called), &session.address),
            Self::Client(login) => ("Command line".to_owned(), &login.address),
        };
        match address {
            Some(address) => format!("{what}, {address}"),
            None => what,
        }
    }
    #[graphql(name = "type")]
    fn kind(&self) -> SessionType {
        match self {
            Self::Browser(_) => SessionType::Browser,
            Self::Client(_) => SessionType::Cli,
        }
    }
    /// When a command line was last used, to about a minute; of a browser, when it signed in.
    fn updated_at(&self) -> DateTime {
        DateTime(match self {
            Self::Browser(session) => session.created_at,
            Self::Client(login) => login.used_at,
        })
    }
}

connection! {
    /// The person's sessions.
    QuerySessionsConnection, QuerySessionsConnectionEdge, Session;
}

/// `Firefox on Linux`, as far as it can be told. Browsers name those that they imitate, so that the rarer names come first.
fn called(agent: &str) -> String {
    let known = |list: &[(&str, &'static str)]| list.iter().find(|(mark, _)| agent.contains(mark)).map(|(_, name)| *name);
    let browser = known(&[
        ("Edg/", "Edge"),
        ("OPR/", "Opera"),
        ("Firefox/", "Firefox"),
        ("HeadlessChrome/", "Chrome"),
        ("Chrome/", "Chrome"),
        ("Safari/", "Safari"),
    ]);
    let system = known(&[
        ("iPhone", "iPhone"),
        ("iPad", "iPad"),
        ("Android", "Android"),
        ("Windows", "Windows"),
        ("Mac OS X", "macOS"),
        ("Linux", "Linux"),
    ]);
    match (browser, system) {
        (Some(browser), Some(system)) => format!("{browser} on {system}"),
        (Some(name), None) | (None, Some(name)) => name.to_owned(),
        (None, None) => agent.chars().take(40).collect(),
    }
}

/// Changes of the person.
#[derive(Clone, GraphQLInputObject)]
#[graphql(context = Ctx, scalar = Scalar)]
pub(crate) struct AccountUpdateInput {
    /// Another e-mail address: for operators of the server, who know everybody by theirs.
    email: Option<String>,
    /// Another name.
    name: Option<String>,
    /// The present password, which another address needs from a person who has one.
    password: Option<String>,
}

/// A new password.
#[derive(Clone, GraphQLInputObject)]
#[graphql(context = Ctx, scalar = Scalar)]
pub(crate) struct PasswordSetInput {
    /// The present password, for a person who has one.
    current: Option<String>,
    /// At least ten characters.
    password: String,
}

pub(crate) fn sessions(ctx: &Ctx) -> Result<Vec<Session>, Fault> {
    let mut all: Vec<_> = ctx.wait(ops::account::sessions(&ctx.op))?.into_iter().map(Session::Browser).collect();
    all.extend(ctx.wait(ops::account::client_logins(&ctx.op))?.into_iter().map(Session::Client));
    all.sort_by_key(|session| Reverse(session.began()));
    Ok(all)
}

pub(crate) fn session_delete(ctx: &Ctx, session: &str) -> Result<bool, Fault> {
    ctx.wait(ops::account::session_delete(&ctx.op, id("Session", session, SessionId)?))?;
    Ok(true)
}

pub(crate) fn account_update(ctx: &Ctx, input: AccountUpdateInput) -> Result<bool, Fault> {
    let AccountUpdateInput { email, name, password } = input;
    let patch = ops::account::AccountPatch { name, email, password: password.map(SecretString::from) };
    ctx.wait(ops::account::account_update(&ctx.op, patch))?;
    Ok(true)
}

pub(crate) fn password_set(ctx: &Ctx, input: PasswordSetInput) -> Result<bool, Fault> {
    let current = input.current.map(SecretString::from);
    ctx.wait(ops::account::password_set(&ctx.op, current, SecretString::from(input.password)))?;
    Ok(true)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn browsers_are_called_by_their_names() {
        let edge = "Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/120.0 Safari/537.36 Edg/120.0";
        let safari = "Mozilla/5.0 (iPhone; CPU iPhone OS 17_0 like Mac OS X) AppleWebKit/605.1.15 Version/17.0 Mobile/15E148 Safari/604.1";
        assert_eq!([called(edge), called(safari), called("curl/8.5.0")], ["Edge on Windows", "Safari on iPhone", "curl/8.5.0"]);
    }
}
