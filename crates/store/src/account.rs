//! People.

use domain::account::{Session, User, Workspace};
use domain::key::KeyKind;
use domain::{SessionId, Tenant, Timestamp, UserId};

use crate::executor::{BadCell, Record, Statement};
use crate::workspace::workspace_insert;
use crate::{OAuthCode, Store, StoreError, api_key, invite, oauth, second_factor, session};

statements! {
    ANY_USER = "SELECT id FROM users LIMIT 1";
    USER = concat!("SELECT ", user_columns!(), " FROM users WHERE id = $id");
    USER_BY_EMAIL = concat!("SELECT ", user_columns!(), " FROM users WHERE email = $email");
    USERS = concat!("SELECT ", user_columns!(), " FROM users ORDER BY users.id");
    USER_PASSWORD_HASH = "SELECT password_hash FROM users WHERE id = $id";
    USER_INSERT =
        "INSERT INTO users (id, email, name, operator, password_hash, created_at) \
         VALUES ($id, $email, $name, $operator, $password_hash, $created)";
    USER_PASSWORD_SET = "UPDATE users SET password_hash = $password_hash WHERE id = $id";
    USER_PROFILE_SET = "UPDATE users SET name = $name, email = $email WHERE id = $id";
}

/// A new account with its personal workspace.
#[derive(Clone)]
pub struct NewUser {
    /// The person.
    pub user: User,
    /// The password's hash in PHC form; `None` for someone who signs in by link.
    pub password_hash: Option<String>,
    /// Their personal workspace, of which they become the owner.
    pub workspace: Workspace,
}

impl std::fmt::Debug for NewUser {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("NewUser").field("user", &self.user.id).finish_non_exhaustive()
    }
}

/// A change of a person that is recorded in a workspace of theirs.
#[derive(Clone)]
pub enum AccountChange {
    /// A session begins, kept by the hash of its cookie.
    SessionInsert {
        /// The session.
        session: Session,
        /// Of its cookie.
        hash: [u8; 32],
    },
    /// A device login is approved, if it has no answer yet.
    DeviceApprove {
        /// Whose it becomes.
        user: UserId,
        /// What the client shows.
        user_code: String,
        /// When.
        at: Timestamp,
    },
    /// A browser login of the command-line client is approved.
    CodeInsert {
        /// What its code stands for.
        code: OAuthCode,
        /// Of the code.
        hash: [u8; 32],
        /// When it ends.
        expires_at: Timestamp,
    },
    /// A session of a person ends.
    SessionDelete {
        /// Whose.
        user: UserId,
        /// Which.
        id: SessionId,
    },
    /// A login of a person's command-line client ends, with all of its tokens.
    ClientLoginEnd {
        /// Whose.
        user: UserId,
        /// Which.
        id: SessionId,
        /// When.
        at: Timestamp,
    },
    /// A new password, with which every session but one ends, and every login of a command-line client.
    PasswordSet {
        /// Whose.
        user: UserId,
        /// In PHC form.
        hash: String,
        /// The session that stays.
        stays: SessionId,
        /// When.
        at: Timestamp,
    },
    /// Another name, or another e-mail address, which may be taken.
    ProfileSet {
        /// Whose.
        user: UserId,
        /// The name.
        name: String,
        /// The address, in lower case.
        email: String,
    },
    /// The secret that was proposed at a time becomes the one that codes are asked of. No other was proposed or verified meanwhile.
    SecondFactorVerify {
        /// Whose.
        user: UserId,
        /// When it was proposed.
        proposed: Timestamp,
        /// That of the code that showed it.
        step: i64,
        /// Of its recovery codes.
        hashes: Vec<[u8; 32]>,
        /// When.
        at: Timestamp,
    },
    /// A second factor goes, with all that belongs to it. There is one.
    SecondFactorDelete {
        /// Whose.
        user: UserId,
    },
    /// New recovery codes take the place of all earlier ones.
    RecoveryCodesSet {
        /// Whose.
        user: UserId,
        /// Of the codes.
        hashes: Vec<[u8; 32]>,
    },
    /// The links into the workspace that a person made end. There may be none.
    InvitesDelete {
        /// Who made them.
        user: UserId,
    },
    /// The keys that a person made for the workspace stop working. There may be none.
    KeysRevoke {
        /// Who made them.
        user: UserId,
        /// Of these kinds.
        kinds: Vec<KeyKind>,
        /// When.
        at: Timestamp,
    },
}

impl AccountChange {
    /// The variant's name.
    pub(crate) fn kind(&self) -> &'static str {
        match self {
            Self::SessionInsert { .. } => "SessionInsert",
            Self::DeviceApprove { .. } => "DeviceApprove",
            Self::CodeInsert { .. } => "CodeInsert",
            Self::SessionDelete { .. } => "SessionDelete",
            Self::ClientLoginEnd { .. } => "ClientLoginEnd",
            Self::PasswordSet { .. } => "PasswordSet",
            Self::ProfileSet { .. } => "ProfileSet",
            Self::SecondFactorVerify { .. } => "SecondFactorVerify",
            Self::SecondFactorDelete { .. } => "SecondFactorDelete",
            Self::RecoveryCodesSet { .. } => "RecoveryCodesSet",
            Self::InvitesDelete { .. } => "InvitesDelete",
            Self::KeysRevoke { .. } => "KeysRevoke",
        }
    }
}

pub(crate) fn statements(tenant: Tenant, change: &AccountChange) -> Vec<Statement> {
    match change {
        AccountChange::SessionInsert { session, hash } => session::session_insert(session, *hash),
        AccountChange::DeviceApprove { user, user_code, at } => vec![oauth::device_approve(user_code, *user, *at)],
        AccountChange::CodeInsert { code, hash, expires_at } => oauth::code_insert(code, *hash, *expires_at),
        AccountChange::SessionDelete { user, id } => vec![session::session_delete(*user, *id)],
        AccountChange::ClientLoginEnd { user, id, at } => vec![oauth::client_login_end(*user, *id, *at)],
        AccountChange::PasswordSet { user, hash, stays, at } => {
            let set = Statement::touch(&USER_PASSWORD_SET, params![id = *user, password_hash = hash]);
            let mut statements = vec![set, session::sessions_delete_others(*user, *stays)];
            statements.extend(oauth::client_logins_end(*user, *at));
            statements
        }
        AccountChange::ProfileSet { user, name, email } => {
            vec![Statement::touch(&USER_PROFILE_SET, params![id = *user, name = name, email = email])]
        }
        AccountChange::SecondFactorVerify { user, proposed, step, hashes, at } => {
            second_factor::second_factor_verify(*user, *proposed, *step, hashes, *at)
        }
        AccountChange::SecondFactorDelete { user } => second_factor::second_factor_delete(*user),
        AccountChange::RecoveryCodesSet { user, hashes } => second_factor::recovery_codes_set(*user, hashes),
        AccountChange::InvitesDelete { user } => vec![invite::invites_delete(tenant, *user)],
        AccountChange::KeysRevoke { user, kinds, at } => vec![api_key::api_keys_revoke(tenant, *user, kinds, *at)],
    }
}

pub(crate) fn user_row(r: &mut Record) -> Result<User, BadCell> {
    Ok(User { id: r.id(UserId)?, email: r.text()?, name: r.text()?, operator: r.flag()?, created_at: r.time()? })
}

impl Store {
    /// Whether there is no account yet.
    ///
    /// # Errors
    /// The database does not answer.
    pub async fn is_empty(&self) -> Result<bool, StoreError> {
        Ok(self.one(&ANY_USER, &[], |r| r.id(UserId)).await?.is_none())
    }

    /// A person.
    ///
    /// # Errors
    /// The database does not answer.
    pub async fn user(&self, id: UserId) -> Result<Option<User>, StoreError> {
        self.one(&USER, &params![id = id], user_row).await
    }

    /// A person by e-mail address, which is stored in lower case.
    ///
    /// # Errors
    /// The database does not answer.
    pub async fn user_by_email(&self, email: &str) -> Result<Option<User>, StoreError> {
        self.one(&USER_BY_EMAIL, &params![email = email], user_row).await
    }

    /// The hash of a person's password, if they have one.
    ///
    /// # Errors
    /// The database does not answer.
    pub async fn user_password_hash(&self, id: UserId) -> Result<Option<String>, StoreError> {
        Ok(self.one(&USER_PASSWORD_HASH, &params![id = id], Record::maybe_text).await?.flatten())
    }

    /// Everyone, oldest account first: for the operator.
    ///
    /// # Errors
    /// The database does not answer.
    pub async fn users(&self) -> Result<Vec<User>, StoreError> {
        self.list(&USERS, &[], user_row).await
    }

    /// Makes an account with its personal workspace and the ownership of it.
    ///
    /// # Errors
    /// The e-mail address or the username is taken.
    pub async fn user_create(&self, new: NewUser) -> Result<(), StoreError> {
        let NewUser { user: User { id, email, name, operator, created_at }, password_hash, workspace } = new;
        let params = params![id = id, email = email, name = name, operator = operator, password_hash = password_hash, created = created_at];
        let mut statements = vec![Statement::touch(&USER_INSERT, params)];
        statements.extend(workspace_insert(&workspace, id));
        self.write(statements).await.map(|_| ())
    }
}

/// When rows of a kind that live at most two days have certainly ended, seen from the end of a fresh one: what creates such a row also
/// clears out the old ones, so that nothing piles up and no sweeper is needed.
pub(crate) fn long_over(fresh_end: Timestamp) -> Timestamp {
    fresh_end.checked_sub(jiff::SignedDuration::from_hours(48)).unwrap_or(Timestamp::UNIX_EPOCH)
}
