//! One order with an authority, by ACME (RFC 8555): the authority asks the domain over plain HTTP for a text that only we know, and the edge
//! answers.

use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use domain::Timestamp;
use domain::certificate::FailureKind;
use http_body_util::{BodyExt as _, Full};
use hyper::body::Bytes;
use hyper::{Request, Response};
use instant_acme::{
    Account, AccountCredentials, AuthorizationStatus, BodyWrapper, BytesResponse, ChallengeType, Error, HttpClient, Identifier, NewAccount,
    NewOrder, Order, OrderStatus, Problem, RetryPolicy,
};
use ops::certificate::OwnCertificate;

use super::{AcmeConfig, publish};
use crate::outgoing::{Ask, Outgoing};
use crate::{Shared, lock};

/// One question to an authority takes at most so long, and its answer has at most so many bytes.
const ANSWER: Duration = Duration::from_secs(30);
const ANSWER_BYTES: usize = 1 << 20;
/// How long an authority may take to ask the domain, and to sign.
const DECISION: RetryPolicy = RetryPolicy::new().timeout(Duration::from_secs(60));
/// A reason is not repeated at greater length.
const REASON: usize = 500;

/// Why there is no certificate.
#[derive(Debug)]
pub(super) struct Failed {
    pub(super) kind: FailureKind,
    /// For the domain's owner.
    pub(super) message: String,
}

impl Failed {
    pub(super) fn new(kind: FailureKind, message: String) -> Self {
        Self { kind, message: message.chars().take(REASON).collect() }
    }
}

impl From<Error> for Failed {
    fn from(error: Error) -> Self {
        match error {
            Error::Api(problem) => Self::from(&problem),
            Error::Timeout(_) => Self::new(FailureKind::Internal, "the authority did not decide in time".to_owned()),
            other => Self::new(FailureKind::Internal, format!("the authority could not be asked: {other}")),
        }
    }
}

impl From<&Problem> for Failed {
    /// The kinds of RFC 8555, 6.7.
    fn from(problem: &Problem) -> Self {
        let kind = match kind(problem) {
            Some("rateLimited") => FailureKind::RateLimit,
            Some("dns" | "caa") => FailureKind::Dns,
            Some("unauthorized" | "connection" | "incorrectResponse" | "tls") => FailureKind::Authorization,
            Some("malformed" | "rejectedIdentifier" | "unsupportedIdentifier" | "badCSR" | "orderNotReady" | "userActionRequired") => {
                FailureKind::Order
            }
            _ => FailureKind::Internal,
        };
        let details = problem.subproblems.iter().map(|one| one.detail.as_deref()).chain([problem.detail.as_deref()]);
        let details: Vec<&str> = details.flatten().collect();
        let said = if details.is_empty() { problem.to_string() } else { details.join("; ") };
        Self::new(kind, format!("the authority says: {said}"))
    }
}

/// The last part of the URN that a problem is called by.
fn kind(problem: &Problem) -> Option<&str> {
    problem.r#type.as_deref()?.rsplit(':').next()
}

/// An authority, and this server's account with it.
pub(super) struct Authority {
    config: AcmeConfig,
    client: Arc<Outgoing>,
    account: tokio::sync::Mutex<Option<Account>>,
}

/// Answers that the edge gives to the authority while an order is open.
struct Shown<'a> {
    shared: &'a Shared,
    tokens: Vec<String>,
}

impl Drop for Shown<'_> {
    fn drop(&mut self) {
        let mut challenges = lock(&self.shared.certificates.challenges);
        for token in &self.tokens {
            challenges.remove(token);
        }
    }
}

impl Authority {
    pub(super) fn new(config: AcmeConfig) -> Self {
        let client = Arc::new(Outgoing::trusting(crate::outgoing::everywhere(), config.root.clone()));
        Self { config, client, account: tokio::sync::Mutex::default() }
    }

    /// A certificate for a host with its key.
    pub(super) async fn order(&self, shared: &Shared, host: &str) -> Result<OwnCertificate, Failed> {
        let account = self.account(shared).await?;
        let identifiers = [Identifier::Dns(host.to_owned())];
        let mut order = match account.new_order(&NewOrder::new(&identifiers)).await {
            Ok(order) => order,
            Err(Error::Api(problem)) if kind(&problem) == Some("accountDoesNotExist") => {
                return Err(self.forgotten(shared, &account).await);
            }
            Err(error) => return Err(error.into()),
        };
        let mut shown = Shown { shared, tokens: vec![] };
        prove(&mut order, &mut shown).await?;
        match order.poll_ready(&DECISION).await {
            Ok(OrderStatus::Ready) => {}
            Ok(_) => return Err(reason(&mut order, None).await),
            Err(error) => return Err(reason(&mut order, Some(error)).await),
        }
        let key = order.finalize().await?;
        let chain = order.poll_certificate(&DECISION).await?;
        Ok(OwnCertificate { chain, key })
    }

    /// The authority has forgotten the account, as one inside a network may when it is set up again.
    async fn forgotten(&self, shared: &Shared, account: &Account) -> Failed {
        let mut held = self.account.lock().await;
        if held.as_ref().is_some_and(|one| one.id() == account.id()) {
            *held = None;
            if let Err(error) = shared.ops.store.acme_account_delete(&self.config.directory).await {
                tracing::warn!(%error, "an account that the authority does not know any more could not be forgotten");
            }
        }
        let message = "the authority does not know this server's account any more; another one is made when it is tried again";
        Failed::new(FailureKind::Internal, message.to_owned())
    }

    /// The account, made when there is none. Naming an authority in the settings agrees to its terms.
    async fn account(&self, shared: &Shared) -> Result<Account, Failed> {
        let mut held = self.account.lock().await;
        if let Some(account) = &*held {
            return Ok(account.clone());
        }
        let inside = |error: &dyn std::fmt::Display| {
            tracing::error!(%error, "this server's account with the authority cannot be read or kept");
            Failed::new(FailureKind::Internal, "this server's account with the authority cannot be used; its log says why".to_owned())
        };
        let builder = Account::builder_with_http(Box::new(Transport(Arc::clone(&self.client))));
        let directory = &self.config.directory;
        let account = match shared.ops.store.acme_account(directory).await.map_err(|error| inside(&error))? {
            Some(kept) => {
                let credentials: AccountCredentials = serde_json::from_slice(&kept).map_err(|error| inside(&error))?;
                builder.from_credentials(credentials).await?
            }
            None => {
                let mail = self.config.email.as_ref().map(|address| format!("mailto:{address}"));
                let contact: Vec<&str> = mail.iter().map(String::as_str).collect();
                let wanted = NewAccount { contact: &contact, terms_of_service_agreed: true, only_return_existing: false };
                let (account, credentials) = builder.create(&wanted, directory.clone(), None).await?;
                let text = serde_json::to_vec(&credentials).map_err(|error| inside(&error))?;
                shared.ops.store.acme_account_insert(directory, &text, Timestamp::now()).await.map_err(|error| inside(&error))?;
                account
            }
        };
        *held = Some(account.clone());
        Ok(account)
    }
}

/// Has the edge answer, and tells the authority that it does.
async fn prove(order: &mut Order, shown: &mut Shown<'_>) -> Result<(), Failed> {
    let mut authorizations = order.authorizations();
    while let Some(next) = authorizations.next().await {
        let mut authorization = next?;
        if authorization.status != AuthorizationStatus::Pending {
            // One that was proved a while ago still holds, and one that cannot be is found out when the order is looked at.
            continue;
        }
        let Some(mut challenge) = authorization.challenge(ChallengeType::Http01) else {
            return Err(Failed::new(FailureKind::Order, "the authority does not prove domains over HTTP".to_owned()));
        };
        let token = challenge.token.clone();
        shown.tokens.push(token.clone());
        lock(&shown.shared.certificates.challenges).insert(token, challenge.key_authorization().as_str().to_owned());
        publish(shown.shared).await.map_err(|error| {
            tracing::warn!(%error, "the edge does not answer for an order");
            Failed::new(FailureKind::Internal, "this server's edge does not answer; it is tried again".to_owned())
        })?;
        challenge.set_ready().await?;
    }
    Ok(())
}

/// What the authority found wrong with the domain, or else what it says of the order.
async fn reason(order: &mut Order, error: Option<Error>) -> Failed {
    let mut authorizations = order.authorizations();
    while let Some(Ok(mut authorization)) = authorizations.next().await {
        let Ok(state) = authorization.refresh().await else { continue };
        if let Some(problem) = state.challenges.iter().find_map(|challenge| challenge.error.as_ref()) {
            return Failed::from(problem);
        }
    }
    let refused = || Failed::new(FailureKind::Order, "the authority refused the order without a reason".to_owned());
    error.map_or_else(refused, Failed::from)
}

/// The way to the authority.
struct Transport(Arc<Outgoing>);

impl HttpClient for Transport {
    fn request(&self, request: Request<BodyWrapper<Bytes>>) -> Pin<Box<dyn Future<Output = Result<BytesResponse, Error>> + Send>> {
        let client = Arc::clone(&self.0);
        Box::pin(async move {
            let (head, body) = request.into_parts();
            let Ok(body) = body.collect().await;
            let (method, url, headers) = (head.method, head.uri.to_string(), head.headers);
            let ask = Ask { method, url, headers, body: body.to_bytes(), timeout: ANSWER, max_bytes: ANSWER_BYTES, redirects: 0 };
            let got = client.ask(ask).await.map_err(|error| Error::Other(Box::new(error)))?;
            let mut response = Response::new(Full::new(got.body));
            (*response.status_mut(), *response.headers_mut()) = (got.status, got.headers);
            Ok(BytesResponse::from(response))
        })
    }
}
