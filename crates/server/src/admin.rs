//! Commands of the operator that work on the store directly.

use std::process::ExitCode;

use crate::config::Config;

/// Creates an account token and prints it.
pub(crate) fn token_create(_config: Config, _name: &str, _user: Option<&str>) -> anyhow::Result<ExitCode> {
    anyhow::bail!("`token create` is not wired yet")
}

/// Lists tokens.
pub(crate) fn token_list(_config: Config, _user: Option<&str>) -> anyhow::Result<ExitCode> {
    anyhow::bail!("`token list` is not wired yet")
}

/// Revokes a token.
pub(crate) fn token_revoke(_config: Config, _id: &str) -> anyhow::Result<ExitCode> {
    anyhow::bail!("`token revoke` is not wired yet")
}

/// Creates a user.
pub(crate) fn user_create(_config: Config, _email: &str, _name: Option<&str>) -> anyhow::Result<ExitCode> {
    anyhow::bail!("`user create` is not wired yet")
}

/// Sets the plan of a workspace.
pub(crate) fn plan_set(_config: Config, _workspace: &str, _plan: &str) -> anyhow::Result<ExitCode> {
    anyhow::bail!("`plan set` is not wired yet")
}

/// Prints a one-time login link.
pub(crate) fn login_link(_config: Config, _user: Option<&str>) -> anyhow::Result<ExitCode> {
    anyhow::bail!("`login-link` is not wired yet")
}
