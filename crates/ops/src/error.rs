use domain::Code;
use store::{Constraint, StoreError};

/// Why a verb refused or failed.
///
/// `public` goes to the client and says what to do next. `context` and the source go to the log under the request id and nowhere else.
#[derive(Debug, thiserror::Error)]
#[error("{public}")]
pub struct Error {
    /// The closed reason.
    pub code: Code,
    /// For the client.
    pub public: String,
    /// For the log.
    pub context: Option<String>,
    /// For the log.
    #[source]
    pub source: Option<Box<dyn std::error::Error + Send + Sync>>,
}

impl Error {
    /// An error with a public text only.
    pub fn new(code: Code, public: impl Into<String>) -> Self {
        Self { code, public: public.into(), context: None, source: None }
    }

    /// Absent, or invisible to the principal.
    pub fn not_found(what: &str) -> Self {
        Self::new(Code::NotFound, format!("{what} not found"))
    }

    /// A field that breaks a rule.
    pub fn bad_input(public: impl Into<String>) -> Self {
        Self::new(Code::BadUserInput, public)
    }

    /// The thing's present state does not allow it.
    pub fn conflict(public: impl Into<String>) -> Self {
        Self::new(Code::Conflict, public)
    }

    /// A fault of ours; the cause is for the log.
    pub fn internal(context: impl Into<String>, source: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Self {
        Self {
            code: Code::Internal,
            public: "Problem processing request. Try again; if it stays, tell the operator the request id.".into(),
            context: Some(context.into()),
            source: Some(source.into()),
        }
    }

    /// The same error with words of the caller when a uniqueness rule was broken.
    #[must_use]
    pub fn when_taken(self, public: impl Into<String>) -> Self {
        if self.code == Code::AlreadyExists { Self { public: public.into(), ..self } } else { self }
    }

    /// Whether it is this rule of uniqueness that was broken.
    pub(crate) fn breaks(&self, rule: Constraint) -> bool {
        matches!(self.in_store(), Some(StoreError::Conflict { constraint }) if *constraint == rule)
    }

    /// What was read is not as it was any more.
    pub(crate) fn is_stale(&self) -> bool {
        matches!(self.in_store(), Some(StoreError::Stale))
    }

    fn in_store(&self) -> Option<&StoreError> {
        self.source.as_deref().and_then(|source| source.downcast_ref())
    }

    /// Whether the same may go well another time: the fault is neither the caller's nor that of a stored row, which stays as it is.
    #[must_use]
    pub fn is_passing(&self) -> bool {
        matches!(self.code, Code::Internal | Code::Unavailable | Code::Timeout) && !matches!(self.in_store(), Some(StoreError::Corrupt(_)))
    }

    /// Writes context and the chain of causes to the log. Called once, by the protocol encoder.
    pub fn log(&self, request_id: &str) {
        if self.context.is_none() && self.source.is_none() {
            return;
        }
        let mut chain = String::new();
        let mut cause: Option<&(dyn std::error::Error + 'static)> = self.source.as_deref().map(|source| source as _);
        while let Some(error) = cause {
            chain.push_str(": ");
            chain.push_str(&error.to_string());
            cause = error.source();
        }
        let context = self.context.as_deref().unwrap_or("");
        if self.code == Code::Internal {
            tracing::error!(request_id, code = self.code.as_str(), "{context}{chain}");
        } else {
            tracing::info!(request_id, code = self.code.as_str(), "{}: {context}{chain}", self.public);
        }
    }
}

impl From<StoreError> for Error {
    fn from(error: StoreError) -> Self {
        match &error {
            StoreError::Conflict { .. } => Self {
                code: Code::AlreadyExists,
                public: "That name is already taken: choose another one.".into(),
                context: None,
                source: Some(Box::new(error)),
            },
            StoreError::Stale => Self {
                source: Some(Box::new(error)),
                ..Self::conflict("It was changed or removed by someone else in the meantime: read it again and repeat the request.")
            },
            StoreError::Unavailable { .. } => Self {
                code: Code::Unavailable,
                public: "The database does not answer. Try again in a moment.".into(),
                context: Some("store".into()),
                source: Some(Box::new(error)),
            },
            StoreError::BadCursor(_) | StoreError::BadText => Self::bad_input(error.to_string()),
            _ => Self::internal("store", error),
        }
    }
}

impl From<domain::name::BadName> for Error {
    fn from(error: domain::name::BadName) -> Self {
        Self::bad_input(error.0)
    }
}
