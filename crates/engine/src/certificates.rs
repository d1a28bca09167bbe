//! Certificates: the edge has those that there are, and there is one for every routed domain, where the operator has named an authority.
//!
//! Should be true after each pass: the edge uses the certificates of the store, and whatever is due has been ordered. Orders are few at a time
//! and few an hour, because an authority shuts out who asks too often; one that fails is tried again ever later, and says why.

mod order;

use std::collections::{BTreeMap, VecDeque};
use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use domain::certificate::{Certificate, CertificateFailure, CertificateSource, FailureKind, retry};
use domain::project::{Domain, DomainKind};
use domain::routing::EdgeCertificates;
use domain::{DomainId, Tenant, Timestamp, WorkspaceId};
use jiff::SignedDuration;
use ops::certificate::{OwnCertificate, certificate_check};
use serde_json::json;
use store::{CertificateChange, Change, StoreError};
use tokio::task::JoinSet;

use crate::{Shared, lock, record, rounds};

/// Who is asked for certificates.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AcmeConfig {
    /// The address of the authority's directory.
    pub directory: String,
    /// Whom the authority writes to when something is wrong.
    pub email: Option<String>,
    /// A file with a root certificate that vouches for the authority's own server, in PEM, for an authority inside a network.
    pub root: Option<PathBuf>,
}

/// The clock's own look, for a bell that was lost.
const PERIOD: Duration = Duration::from_secs(5);
/// Domains that one pass looks at.
const BATCH: u32 = 1_000;
/// Orders at the same time.
const AT_ONCE: usize = 8;
/// Orders in an hour: of the server, of it but for renewals, which must not wait until a certificate has run out, and of one workspace. Let's
/// Encrypt takes 300 in three hours.
const HOURLY: usize = 100;
const HOURLY_NEW: usize = 60;
const HOURLY_OF_ONE: usize = 20;
const HOUR: SignedDuration = SignedDuration::from_hours(1);
/// An order takes at most so long.
const PATIENCE: Duration = Duration::from_secs(150);
/// After so long an order counts as lost, with whoever made it.
const LOST: SignedDuration = SignedDuration::from_mins(5);

/// What the edge is given besides the store's certificates, and what it was given last.
#[derive(Default)]
pub(crate) struct Desk {
    /// Answers to authorities, by token.
    challenges: std::sync::Mutex<BTreeMap<String, String>>,
    given: tokio::sync::Mutex<Option<Given>>,
}

#[derive(PartialEq)]
struct Given {
    stamps: Vec<(DomainId, String, Timestamp)>,
    challenges: BTreeMap<String, String>,
}

#[derive(Debug, thiserror::Error)]
enum PublishError {
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error("the edge does not take them: {0}")]
    Edge(#[from] io::Error),
}

/// Gives the edge what has changed, until the engine stops.
pub(crate) async fn run(shared: Arc<Shared>) {
    let problem = "certificates could not be given to the edge; it is tried again";
    rounds::on_bell(&shared, shared.ops.signals.work(), PERIOD, problem, || publish(&shared)).await;
}

/// Brings the edge's certificates and its answers to authorities up to date.
async fn publish(shared: &Shared) -> Result<(), PublishError> {
    let mut given = shared.certificates.given.lock().await;
    let now = Timestamp::now();
    let stamps = shared.ops.store.system_certificate_stamps(now).await?;
    let wanted = Given { stamps, challenges: lock(&shared.certificates.challenges).clone() };
    let nothing = wanted.stamps.is_empty() && wanted.challenges.is_empty() && !shared.edge.has_certificates();
    if nothing || given.as_ref() == Some(&wanted) {
        return Ok(());
    }
    let (certificates, unreadable) = shared.ops.store.system_certificates(now).await?;
    for error in unreadable {
        tracing::error!(%error, "the key of a certificate cannot be read: its domain is left without");
    }
    // Until the edge has said that it uses them, they are given again.
    *given = None;
    shared.edge.certify(&EdgeCertificates { certificates, challenges: wanted.challenges.clone() }).await?;
    *given = Some(wanted);
    Ok(())
}

/// Orders what is due, until the engine stops.
pub(crate) async fn run_orders(shared: Arc<Shared>) {
    let Some(config) = shared.config.acme.clone() else { return };
    let authority = Arc::new(order::Authority::new(config));
    let (mut begun, mut running) = (Begun::default(), JoinSet::new());
    let mut bell = shared.ops.signals.work();
    let mut tick = tokio::time::interval(PERIOD);
    loop {
        tokio::select! {
            () = shared.shutdown.cancelled() => break,
            Some(_) = running.join_next() => {}
            _ = bell.changed() => {}
            _ = tick.tick() => {}
        }
        tokio::select! {
            () = shared.shutdown.cancelled() => break,
            done = pass(&shared, &authority, &mut begun, &mut running) => if let Err(error) = done {
                tracing::warn!(%error, "certificates could not be looked after; it is tried again");
            }
        }
    }
    running.shutdown().await;
}

/// The orders of the last hour.
#[derive(Default)]
struct Begun(VecDeque<Order>);

struct Order {
    workspace: WorkspaceId,
    renewal: bool,
    at: Timestamp,
}

impl Begun {
    /// Whether one more may be made for a workspace; then it counts.
    fn admit(&mut self, workspace: WorkspaceId, renewal: bool, now: Timestamp) -> bool {
        self.0.retain(|order| now.duration_since(order.at) < HOUR);
        let of_one = self.0.iter().filter(|order| order.workspace == workspace).count();
        let new = self.0.iter().filter(|order| !order.renewal).count();
        let admitted = self.0.len() < HOURLY && of_one < HOURLY_OF_ONE && (renewal || new < HOURLY_NEW);
        if admitted {
            self.0.push_back(Order { workspace, renewal, at: now });
        }
        admitted
    }
}

/// Whether a certificate of an authority's is to be replaced because of its age, and not because somebody asked for it.
fn is_renewal(domain: &Domain, now: Timestamp) -> bool {
    domain.certificate.used.as_ref().is_some_and(|used| used.source == CertificateSource::Acme && used.renewal() <= now)
}

/// Begins as many orders as there is room for. They are not waited for: a domain that does not answer holds up no other.
async fn pass(
    shared: &Arc<Shared>,
    authority: &Arc<order::Authority>,
    begun: &mut Begun,
    running: &mut JoinSet<()>,
) -> Result<(), PublishError> {
    while running.try_join_next().is_some() {}
    if running.len() >= AT_ONCE {
        return Ok(());
    }
    let now = Timestamp::now();
    let services = ops::domain_name::orders(&shared.ops.settings, DomainKind::Service);
    let due = shared.ops.store.system_certificates_due(now, services, BATCH).await?;
    if due.is_empty() {
        return Ok(());
    }
    // An edge that is only just starting answers no authority, and that would count as a failure of the domain's.
    publish(shared).await?;
    for (domain, since) in due {
        if running.len() >= AT_ONCE {
            break;
        }
        if begun.admit(domain.workspace_id, is_renewal(&domain, now), now)
            && let Some(until) = claim(shared, &domain, since).await
        {
            running.spawn(look_after(Arc::clone(shared), Arc::clone(authority), domain, until));
        }
    }
    Ok(())
}

/// Begins an order, unless somebody else has. Returns when it counts as lost.
async fn claim(shared: &Shared, domain: &Domain, since: Timestamp) -> Option<Timestamp> {
    let tenant = Tenant::system(domain.workspace_id);
    let until = Timestamp::now().checked_add(LOST).unwrap_or(Timestamp::MAX);
    let state = Certificate { ordering_until: Some(until), ..domain.certificate.clone() };
    let claim = CertificateChange::Claim { domain: domain.id, name: domain.domain.clone(), state, seen: since, until };
    match shared.ops.store.commit(tenant, vec![Change::Certificate(claim)]).await {
        Ok(_) => Some(until),
        // Another engine was first, or the domain is gone or renamed.
        Err(StoreError::Stale) => None,
        Err(error) => {
            tracing::warn!(%error, domain = domain.domain, "a certificate could not be ordered");
            None
        }
    }
}

/// Orders a certificate for one domain and writes down how that ended.
async fn look_after(shared: Arc<Shared>, authority: Arc<order::Authority>, domain: Domain, until: Timestamp) {
    let tenant = Tenant::system(domain.workspace_id);
    let ordered = tokio::time::timeout(PATIENCE, authority.order(&shared, &domain.domain)).await;
    let late = || Err(order::Failed::new(FailureKind::Internal, "the authority did not decide in time".to_owned()));
    let now = Timestamp::now();
    let checked = ordered.unwrap_or_else(|_| late()).and_then(|own| {
        let facts = certificate_check(&domain.domain, &own, CertificateSource::Acme, now);
        let facts =
            facts.map_err(|error| order::Failed::new(FailureKind::Internal, format!("the authority gave what cannot be used: {error}")))?;
        Ok((own, facts))
    });
    let changes = match checked {
        Ok((own, facts)) => {
            tracing::info!(domain = domain.domain, expires = %facts.expires_at, "a certificate was issued");
            let OwnCertificate { chain, key } = own;
            let due = facts.renewal();
            let data = json!({"domain": domain.domain, "fingerprint": facts.fingerprint, "expiresAt": facts.expires_at});
            let state = Certificate { used: Some(facts), ..Certificate::default() };
            let set = CertificateChange::Set { domain: domain.id, chain, key, state, due, seen: Some(until), at: now };
            (set, told(&shared, &domain, "certificate_issued", data).await)
        }
        Err(failed) => {
            tracing::warn!(domain = domain.domain, reason = failed.message, "a certificate could not be had");
            let (noted, news) = failure(&domain, failed, until, now);
            let entry = match news {
                Some(reason) => told(&shared, &domain, "certificate_failed", json!({"domain": domain.domain, "reason": reason})).await,
                None => None,
            };
            (noted, entry)
        }
    };
    let (change, entry) = changes;
    let all = std::iter::once(Change::Certificate(change)).chain(entry).collect();
    match shared.ops.store.commit(tenant, all).await {
        Ok(_) => {
            shared.tell();
            shared.ops.signals.ring();
        }
        // Its owner has brought one meanwhile, or the domain is gone.
        Err(StoreError::Stale) => {}
        Err(error) => tracing::warn!(%error, domain = domain.domain, "what became of a certificate could not be written down"),
    }
}

/// What is known after an order has failed, and the reason if it is news: the same one again and again would be no help.
fn failure(domain: &Domain, failed: order::Failed, until: Timestamp, now: Timestamp) -> (CertificateChange, Option<String>) {
    let mut state = domain.certificate.clone();
    let news = state.failure.as_ref().is_none_or(|before| before.kind != failed.kind).then(|| failed.message.clone());
    state.ordering_until = None;
    state.failures = state.failures.saturating_add(1);
    state.failure = Some(CertificateFailure { kind: failed.kind, message: failed.message, at: now });
    let due = now.checked_add(retry(state.failures, failed.kind)).unwrap_or(Timestamp::MAX);
    (CertificateChange::Note { domain: domain.id, state, due, seen: Some(until) }, news)
}

/// An entry of the audit log about a domain's app.
async fn told(shared: &Shared, domain: &Domain, verb: &str, data: serde_json::Value) -> Option<Change> {
    let found = shared.ops.store.instance_of(domain.environment_id, domain.service_id).await.ok().flatten();
    let instance = found?.open(Tenant::system(domain.workspace_id))?;
    Some(record::about_instance(&instance, verb, domain.id, data))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_workspace_does_not_use_up_the_orders_of_the_others() {
        let (mut begun, now) = (Begun::default(), Timestamp::UNIX_EPOCH);
        let (greedy, modest) = (WorkspaceId::generate(), WorkspaceId::generate());
        assert_eq!((0..1_000).filter(|_| begun.admit(greedy, false, now)).count(), HOURLY_OF_ONE);
        assert!(begun.admit(modest, false, now));
        let mut others = |renewal| (0..1_000).filter(|_| begun.admit(WorkspaceId::generate(), renewal, now)).count();
        assert_eq!(others(false), HOURLY_NEW - HOURLY_OF_ONE - 1);
        assert_eq!(others(true), HOURLY - HOURLY_NEW, "renewals find room when all have asked for new ones");
        assert!(!begun.admit(modest, true, now + SignedDuration::from_mins(59)));
        assert!(begun.admit(greedy, false, now + HOUR));
    }
}
