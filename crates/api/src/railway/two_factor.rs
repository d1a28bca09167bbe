//! The second step of signing in by password. A login itself is answered by the pages at `/login`.

use juniper::{GraphQLInputObject, graphql_object};
use secrecy::{ExposeSecret, SecretString};

use crate::graphql::{Ctx, Fault, Scalar};

/// How the person's second step stands.
pub(crate) struct TwoFactorInfo(ops::second_factor::TwoFactorInfo);

#[graphql_object(context = Ctx, scalar = Scalar)]
impl TwoFactorInfo {
    fn has_recovery_codes(&self) -> bool {
        self.0.recovery_codes
    }
    /// Logins by password ask for a code.
    fn is_verified(&self) -> bool {
        self.0.verified
    }
}

/// A secret for an app that makes codes.
pub(crate) struct TwoFactorInfoSecret(ops::second_factor::Proposed);

#[graphql_object(context = Ctx, scalar = Scalar)]
impl TwoFactorInfoSecret {
    /// In base 32, for typing it in.
    fn secret(&self) -> &str {
        self.0.secret.expose_secret()
    }
    /// The same as an `otpauth:` address, for a picture that a camera reads.
    fn uri(&self) -> &str {
        self.0.uri.expose_secret()
    }
}

/// Codes for the loss of the app. Each works once.
pub(crate) struct RecoveryCodes(Vec<SecretString>);

#[graphql_object(context = Ctx, scalar = Scalar)]
impl RecoveryCodes {
    fn recovery_codes(&self) -> Vec<String> {
        self.0.iter().map(|code| code.expose_secret().to_owned()).collect()
    }
}

/// The first code of a new secret.
#[derive(Clone, GraphQLInputObject)]
#[graphql(context = Ctx, scalar = Scalar)]
pub(crate) struct TwoFactorInfoCreateInput {
    /// What the app shows now.
    token: String,
}

/// A code of the app.
#[derive(Clone, GraphQLInputObject)]
#[graphql(context = Ctx, scalar = Scalar)]
pub(crate) struct TwoFactorInfoValidateInput {
    /// What the app shows now.
    token: String,
    /// Names a login elsewhere; this server's logins are answered at `/login`.
    two_factor_linking_key: Option<String>,
}

/// A recovery code.
#[derive(Clone, GraphQLInputObject)]
#[graphql(context = Ctx, scalar = Scalar)]
pub(crate) struct RecoveryCodeValidateInput {
    /// As it was shown.
    code: String,
    /// Names a login elsewhere; this server's logins are answered at `/login`.
    two_factor_linking_key: Option<String>,
}

fn not_a_login(linking_key: Option<&str>) -> Result<(), Fault> {
    match linking_key {
        Some(_) => Err(Fault::bad_input("twoFactorLinkingKey is not available on this server: sign in at /login, which asks for the code")),
        None => Ok(()),
    }
}

pub(crate) fn two_factor_info(ctx: &Ctx) -> Result<TwoFactorInfo, Fault> {
    Ok(TwoFactorInfo(ctx.wait(ops::second_factor::two_factor_info(&ctx.op))?))
}

pub(crate) fn two_factor_info_secret(ctx: &Ctx, password: Option<String>) -> Result<TwoFactorInfoSecret, Fault> {
    Ok(TwoFactorInfoSecret(ctx.wait(ops::second_factor::two_factor_info_secret(&ctx.op, password.map(SecretString::from)))?))
}

pub(crate) fn two_factor_info_create(ctx: &Ctx, input: &TwoFactorInfoCreateInput) -> Result<RecoveryCodes, Fault> {
    Ok(RecoveryCodes(ctx.wait(ops::second_factor::two_factor_info_create(&ctx.op, &input.token))?))
}

pub(crate) fn two_factor_info_validate(ctx: &Ctx, input: &TwoFactorInfoValidateInput) -> Result<bool, Fault> {
    not_a_login(input.two_factor_linking_key.as_deref())?;
    ctx.wait(ops::second_factor::two_factor_info_validate(&ctx.op, &input.token))
}

pub(crate) fn two_factor_info_delete(ctx: &Ctx, password: Option<String>) -> Result<bool, Fault> {
    ctx.wait(ops::second_factor::two_factor_info_delete(&ctx.op, password.map(SecretString::from)))?;
    Ok(true)
}

pub(crate) fn recovery_code_generate(ctx: &Ctx) -> Result<RecoveryCodes, Fault> {
    Ok(RecoveryCodes(ctx.wait(ops::second_factor::recovery_code_generate(&ctx.op))?))
}

pub(crate) fn recovery_code_validate(ctx: &Ctx, input: &RecoveryCodeValidateInput) -> Result<bool, Fault> {
    not_a_login(input.two_factor_linking_key.as_deref())?;
    ctx.wait(ops::second_factor::recovery_code_validate(&ctx.op, &input.code))
}
