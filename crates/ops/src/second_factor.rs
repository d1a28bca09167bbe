//! The second step of signing in by password: codes of an app that knows the time (RFC 6238), and recovery codes for its loss. A login link
//! needs none: whoever can print one is at the server's own shell.

use std::sync::Arc;

use domain::account::{Session, User};
use domain::{Code, SessionId, Timestamp, key};
use jiff::SignedDuration;
use secrecy::{ExposeSecret, SecretString};
use serde_json::json;
use store::{AccountChange, SecondFactor};
use totp_rs::{Builder, Totp};

use crate::account::{Browser, Guessed, commit_own, confirm, session_start, verify_password};
use crate::context::Via;
use crate::{Error, OpCtx, Ops, secret};

/// How long a right code counts for what needs one.
const CONFIRMED: SignedDuration = SignedDuration::from_mins(5);
/// How long a login whose password was right waits for its code.
const PATIENCE: SignedDuration = SignedDuration::from_mins(10);
const RECOVERY_CODES: usize = 10;
/// What apps call the server.
const ISSUER: &str = "Orrery";

/// How a person's second step stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TwoFactorInfo {
    /// Signing in by password asks for a code.
    pub verified: bool,
    /// There are recovery codes left.
    pub recovery_codes: bool,
}

/// A secret for an app that makes codes. It is shown this once.
#[derive(Debug)]
pub struct Proposed {
    /// The secret in base 32, for typing it in.
    pub secret: SecretString,
    /// The same as an `otpauth:` address, for a picture that a camera reads.
    pub uri: SecretString,
}

/// Whether the person's logins ask for a code.
///
/// # Errors
/// Not a person.
pub async fn two_factor_info(ctx: &OpCtx) -> Result<TwoFactorInfo, Error> {
    let user = ctx.user()?.user.id;
    let found = ctx.ops.store.second_factor(user).await?;
    let verified = found.is_some_and(|factor| factor.verified_at.is_some());
    Ok(TwoFactorInfo { verified, recovery_codes: ctx.ops.store.has_recovery_codes(user).await? })
}

/// Proposes a secret, to whoever knows the password; nothing is asked for before [`two_factor_info_create`] has seen a code of it.
///
/// # Errors
/// Not a session, no password that a code could follow, the second step is on, a wrong password, or too many of them.
pub async fn two_factor_info_secret(ctx: &OpCtx, password: Option<SecretString>) -> Result<Proposed, Error> {
    let (user, _) = in_session(ctx)?;
    if ctx.ops.store.user_password_hash(user.id).await?.is_none() {
        return Err(Error::conflict("the second step follows a password, and you have none: set one first"));
    }
    let on = || Error::conflict("two-factor authentication is on already: turn it off first to use another app");
    if ctx.ops.store.second_factor(user.id).await?.is_some_and(|factor| factor.verified_at.is_some()) {
        return Err(on());
    }
    // A browser that is found open must not become one that its person is locked out by.
    confirm(ctx, user.id, password).await?;
    let fresh = rand::random::<[u8; 20]>();
    if !ctx.ops.store.second_factor_propose(user.id, &fresh, ctx.now).await? {
        return Err(on());
    }
    let totp = totp(&fresh, user)?;
    let uri = totp.to_url().map_err(broken)?;
    Ok(Proposed { secret: totp.secret().to_base32().into(), uri: uri.into() })
}

/// Turns the second step on with a code of the secret that was proposed last. The answer is the recovery codes, which are shown this once.
///
/// # Errors
/// Not a session, nothing was proposed, it is on already, a wrong code, or too many of them.
pub async fn two_factor_info_create(ctx: &OpCtx, token: &str) -> Result<Vec<SecretString>, Error> {
    let (user, session) = in_session(ctx)?;
    let factor = ctx.ops.store.second_factor(user.id).await?;
    let factor = factor.filter(|factor| factor.verified_at.is_none());
    let factor = factor.ok_or_else(|| Error::conflict("no secret waits for its first code: begin with `twoFactorInfoSecret`"))?;
    ctx.ops.guesses.take(user.id, Guessed::Code, ctx.now)?;
    let step = step_of(user, &factor, &cleaned(token), ctx.now)?.ok_or_else(wrong)?;
    ctx.ops.guesses.was_right(user.id, Guessed::Code);
    let (codes, hashes) = fresh_codes();
    let verify = AccountChange::SecondFactorVerify { user: user.id, proposed: factor.created_at, step, hashes, at: ctx.now };
    commit_own(ctx, verify, "two_factor_info_create", user.id, json!({})).await?;
    ctx.ops.store.session_confirm(user.id, session, ctx.now).await?;
    Ok(codes)
}

/// Uses a code of the person's app up; for five minutes this session may do what needs one. Whether it was right.
///
/// # Errors
/// Not a session, the second step is off, or too many wrong codes.
pub async fn two_factor_info_validate(ctx: &OpCtx, token: &str) -> Result<bool, Error> {
    let (user, session) = in_session(ctx)?;
    let factor = verified(ctx.ops.store.second_factor(user.id).await?)?;
    ctx.ops.guesses.take(user.id, Guessed::Code, ctx.now)?;
    let right = token_use(&ctx.ops, user, &factor, &cleaned(token), ctx.now).await?;
    noted(ctx, user, session, right).await
}

/// The same with a recovery code.
///
/// # Errors
/// As for [`two_factor_info_validate`].
pub async fn recovery_code_validate(ctx: &OpCtx, code: &str) -> Result<bool, Error> {
    let (user, session) = in_session(ctx)?;
    verified(ctx.ops.store.second_factor(user.id).await?)?;
    ctx.ops.guesses.take(user.id, Guessed::Code, ctx.now)?;
    let right = ctx.ops.store.recovery_code_use(user.id, key::hash(&cleaned(code))).await?;
    noted(ctx, user, session, right).await
}

/// New recovery codes in the place of all earlier ones. They are shown this once.
///
/// # Errors
/// Not a session, the second step is off, or no right code in the last five minutes.
pub async fn recovery_code_generate(ctx: &OpCtx) -> Result<Vec<SecretString>, Error> {
    let user = confirmed(ctx).await?;
    let (codes, hashes) = fresh_codes();
    let change = AccountChange::RecoveryCodesSet { user: user.id, hashes };
    commit_own(ctx, change, "recovery_code_generate", user.id, json!({})).await?;
    Ok(codes)
}

/// Turns the second step off: with the password, after a right code.
///
/// # Errors
/// Not a session, the second step is off, no right code in the last five minutes, or a wrong password.
pub async fn two_factor_info_delete(ctx: &OpCtx, password: Option<SecretString>) -> Result<(), Error> {
    let user = confirmed(ctx).await?;
    let password = password.ok_or_else(|| Error::bad_input("type your password, too (`password`)"))?;
    ctx.ops.guesses.take(user.id, Guessed::Password, ctx.now)?;
    let stored = ctx.ops.store.user_password_hash(user.id).await?;
    if !verify_password(password, stored).await? {
        return Err(Error::bad_input("your password is another one: type it again"));
    }
    ctx.ops.guesses.was_right(user.id, Guessed::Password);
    end(ctx, user, "two_factor_info_delete").await.map(drop)
}

/// Lets a person who has lost their app and their codes sign in by password alone again: for a command on the server, whose user could
/// print a login link anyway. Whether there was anything to turn off.
///
/// # Errors
/// Not a command on the server.
pub async fn two_factor_reset(ctx: &OpCtx) -> Result<bool, Error> {
    let person = ctx.user()?;
    if person.via != Via::Server {
        return Err(Error::new(Code::Forbidden, "Not Authorized: ask the operator to run `orrery user reset-two-factor` on the server"));
    }
    end(ctx, &person.user, "two_factor_reset").await
}

/// Whether there was one to end.
async fn end(ctx: &OpCtx, user: &User, verb: &str) -> Result<bool, Error> {
    match commit_own(ctx, AccountChange::SecondFactorDelete { user: user.id }, verb, user.id, json!({})).await {
        // Somebody was faster, or it was never there.
        Err(error) if error.is_stale() => Ok(false),
        done => done.map(|()| true),
    }
}

/// Begins the wait for a code when the person's logins need one. The answer is the secret under which [`code_login`] goes on.
pub(crate) async fn wait_for_code(ops: &Ops, user: &User, now: Timestamp) -> Result<Option<SecretString>, Error> {
    if ops.store.second_factor(user.id).await?.is_none_or(|factor| factor.verified_at.is_none()) {
        return Ok(None);
    }
    let (waiting, hash) = secret::new_opaque();
    ops.store.pending_login_create(hash, user.id, now, now + PATIENCE).await?;
    Ok(Some(waiting))
}

/// Signs in by the code that follows a right password, of the person's app or a recovery code.
///
/// # Errors
/// Unauthenticated when the login has waited too long, bad input for a wrong code or one that was used, too many wrong codes.
pub async fn code_login(
    ops: &Arc<Ops>,
    waiting: &SecretString,
    code: &str,
    now: Timestamp,
    browser: Browser,
) -> Result<(Session, SecretString, User), Error> {
    let over = || Error::new(Code::Unauthenticated, "That took too long: begin again with your password");
    let hash = key::hash(waiting.expose_secret());
    let user = match ops.store.pending_login(hash, now).await? {
        Some(id) => ops.store.user(id).await?,
        None => None,
    };
    let user = user.ok_or_else(over)?;
    let factor = verified(ops.store.second_factor(user.id).await?).map_err(|_| over())?;
    ops.guesses.take(user.id, Guessed::Code, now)?;
    let code = cleaned(code);
    let (right, method) = if code.len() == 6 {
        (token_use(ops, &user, &factor, &code, now).await?, "password and code")
    } else {
        (ops.store.recovery_code_use(user.id, key::hash(&code)).await?, "password and recovery code")
    };
    if !right {
        return Err(wrong());
    }
    ops.guesses.was_right(user.id, Guessed::Code);
    if !ops.store.pending_login_use(hash, now).await? {
        return Err(over());
    }
    let (session, cookie) = session_start(ops, &user, method, now, browser).await?;
    ops.store.session_confirm(user.id, session.id, now).await?;
    Ok((session, cookie, user))
}

fn in_session(ctx: &OpCtx) -> Result<(&User, SessionId), Error> {
    let person = ctx.user()?;
    match person.via {
        Via::Session(id) => Ok((&person.user, id)),
        _ => Err(Error::new(
            Code::Forbidden,
            "Not Authorized: two-factor authentication is set up in the dashboard, by somebody who is signed in there",
        )),
    }
}

async fn confirmed(ctx: &OpCtx) -> Result<&User, Error> {
    let (user, session) = in_session(ctx)?;
    verified(ctx.ops.store.second_factor(user.id).await?)?;
    let at = ctx.ops.store.session_confirmed_at(user.id, session).await?;
    if at.is_some_and(|at| ctx.now.duration_since(at) <= CONFIRMED) {
        return Ok(user);
    }
    Err(Error::new(Code::Forbidden, "Not Authorized: type a code of your app first (`twoFactorInfoValidate`), or a recovery code"))
}

async fn noted(ctx: &OpCtx, user: &User, session: SessionId, right: bool) -> Result<bool, Error> {
    if right {
        ctx.ops.guesses.was_right(user.id, Guessed::Code);
        ctx.ops.store.session_confirm(user.id, session, ctx.now).await?;
    }
    Ok(right)
}

fn verified(factor: Option<SecondFactor>) -> Result<SecondFactor, Error> {
    let factor = factor.filter(|factor| factor.verified_at.is_some());
    factor.ok_or_else(|| Error::conflict("two-factor authentication is off: turn it on first"))
}

fn wrong() -> Error {
    Error::bad_input("That code is wrong or was used already: wait for the next one, and look whether the clock of your device is right")
}

fn broken(error: totp_rs::TotpError) -> Error {
    Error::internal("second factor", error.to_string())
}

fn totp(secret: &[u8], user: &User) -> Result<Totp, Error> {
    // A colon ends the issuer in the address that apps read.
    let account = user.email.replace(':', " ");
    Builder::new().with_secret(secret).with_account_name(account).with_issuer(Some(ISSUER)).build().map_err(broken)
}

/// The step whose code this is: the present one, or one beside it for clocks that differ.
fn step_of(user: &User, factor: &SecondFactor, token: &str, now: Timestamp) -> Result<Option<i64>, Error> {
    let seconds = u64::try_from(now.as_second()).unwrap_or(0);
    let step = totp(&factor.secret, user)?.check(token, seconds);
    Ok(step.and_then(|step| i64::try_from(step).ok()))
}

/// Uses up a code of the app. One that was used, or that is older than one that was, is wrong.
async fn token_use(ops: &Ops, user: &User, factor: &SecondFactor, token: &str, now: Timestamp) -> Result<bool, Error> {
    match step_of(user, factor, token, now)? {
        Some(step) => Ok(ops.store.second_factor_step(user.id, step).await?),
        None => Ok(false),
    }
}

/// A code as people type it: with spaces, hyphens and capitals.
fn cleaned(code: &str) -> String {
    code.chars().filter(char::is_ascii_alphanumeric).map(|c| c.to_ascii_lowercase()).collect()
}

/// Recovery codes, as they are shown, and the hashes of what is left of them by [`cleaned`].
fn fresh_codes() -> (Vec<SecretString>, Vec<[u8; 32]>) {
    (0..RECOVERY_CODES)
        .map(|_| {
            let groups: [String; 4] = std::array::from_fn(|_| secret::suffix());
            (SecretString::from(groups.join("-")), key::hash(&groups.concat()))
        })
        .unzip()
}
