//! Custom domains: whether their owners have proved them, asked of DNS.
//!
//! Should be true after each pass: a custom domain whose owner has published its token is verified, and the edge routes it from then on.
//! One that is verified stays so until it is deleted, so that a name server that fails takes no app offline.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use domain::project::Domain;
use domain::{Tenant, Timestamp};
use futures::StreamExt as _;
use hickory_resolver::config::{ConnectionConfig, NameServerConfig, ResolverConfig};
use hickory_resolver::net::NetError;
use hickory_resolver::net::runtime::TokioRuntimeProvider;
use hickory_resolver::proto::rr::{RData, RecordType};
use hickory_resolver::{Resolver, TokioResolver};
use store::{Change, StoreError};

use crate::{Shared, rounds};

/// Who is asked.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum DnsConfig {
    /// The name servers of the machine.
    #[default]
    System,
    /// This one.
    Server(SocketAddr),
    /// Nobody: every custom domain counts as proved, for machines whose names are nobody else's.
    Off,
}

/// A domain may be due so often; a bell names no domain.
const PERIOD: Duration = Duration::from_secs(5);
/// Domains at the same time, and in one pass: name servers that are silent hold up a pass for ten seconds at most.
const AT_ONCE: usize = 16;
const AT_MOST: usize = 2 * AT_ONCE;
/// Both questions about a domain are answered within.
const ANSWER: Duration = Duration::from_secs(5);
/// Addresses of a name that are shown.
const SHOWN: usize = 8;

/// Runs until the engine stops.
pub(crate) async fn run(shared: Arc<Shared>) {
    let resolver = match resolver(shared.config.dns) {
        Ok(resolver) => resolver,
        Err(error) => {
            tracing::error!(%error, "custom domains cannot be verified: set dns_resolver to the address of a name server");
            return;
        }
    };
    let problem = "custom domains could not be looked after; it is tried again";
    rounds::on_bell(&shared, shared.ops.signals.work(), PERIOD, problem, || pass(&shared, resolver.as_ref())).await;
}

fn resolver(config: DnsConfig) -> Result<Option<TokioResolver>, NetError> {
    let mut builder = match config {
        DnsConfig::Off => return Ok(None),
        DnsConfig::System => Resolver::builder_tokio()?,
        DnsConfig::Server(address) => {
            let connections = [ConnectionConfig::udp(), ConnectionConfig::tcp()].map(|mut connection| {
                connection.port = address.port();
                connection
            });
            let server = NameServerConfig::new(address.ip(), true, connections.into());
            Resolver::builder_with_config(ResolverConfig::from_name_servers(vec![server]), TokioRuntimeProvider::default())
        }
    };
    let options = builder.options_mut();
    // What is remembered would hide what somebody has just set, and a name means the same with and without a dot at its end.
    (options.cache_size, options.ndots) = (0, 0);
    builder.build().map(Some)
}

async fn pass(shared: &Arc<Shared>, resolver: Option<&TokioResolver>) -> Result<(), StoreError> {
    let now = Timestamp::now();
    let due = due(shared.ops.store.system_domains_unverified().await?, now);
    let base = &shared.ops.settings.base_domain;
    let mut problem = None;
    let asked = futures::stream::iter(due).map(|domain| async move {
        let seen = match resolver {
            Some(resolver) => ask(resolver, &domain, base).await,
            None => Seen { leads_to: Ok(Some(base.clone())), proved: true },
        };
        (domain, seen)
    });
    let mut asked = std::pin::pin!(asked.buffer_unordered(AT_ONCE));
    while let Some((domain, seen)) = asked.next().await {
        let value = match seen.leads_to {
            Ok(value) => value,
            Err(error) => {
                tracing::debug!(%error, domain = domain.domain, "a custom domain could not be looked up");
                domain.dns_value.clone()
            }
        };
        let change = Change::DomainChecked { id: domain.id, value, verified: seen.proved, at: now };
        match shared.ops.store.commit(Tenant::system(domain.workspace_id), vec![change]).await {
            // Deleted meanwhile.
            Err(StoreError::Stale) => {}
            // The others are written down all the same.
            Err(error) => problem = Some(error),
            Ok(_) if seen.proved => {
                tracing::info!(domain = domain.domain, "a custom domain is verified");
                shared.ops.signals.ring();
            }
            Ok(_) => {}
        }
    }
    problem.map_or(Ok(()), Err)
}

/// What one pass asks about: those of which nothing is known first, then those that were asked about longest ago.
fn due(mut unproved: Vec<Domain>, now: Timestamp) -> Vec<Domain> {
    unproved.retain(|domain| domain.is_check_due(now));
    unproved.sort_by_key(|domain| (domain.dns_checked_at, domain.id));
    unproved.truncate(AT_MOST);
    unproved
}

/// What DNS says of a domain.
struct Seen {
    /// The name or the addresses that it leads to.
    leads_to: Result<Option<String>, NetError>,
    /// Its owner has published the token.
    proved: bool,
}

async fn ask(resolver: &TokioResolver, domain: &Domain, base: &str) -> Seen {
    let host = domain.verification_host();
    let (texts, leads_to) = tokio::join!(in_time(texts(resolver, &host)), in_time(leads_to(resolver, &domain.domain, base)));
    let proved = match (&domain.verification_token, texts) {
        (Some(token), Ok(texts)) => texts.iter().any(|text| text.trim() == token),
        _ => false,
    };
    Seen { leads_to, proved }
}

async fn in_time<T>(answer: impl Future<Output = Result<T, NetError>>) -> Result<T, NetError> {
    tokio::time::timeout(ANSWER, answer).await.unwrap_or(Err(NetError::Timeout))
}

/// The records of a kind; none when there is no such name.
async fn records(resolver: &TokioResolver, name: &str, kind: RecordType) -> Result<Vec<RData>, NetError> {
    match resolver.lookup(format!("{name}."), kind).await {
        Ok(found) => Ok(found.answers().iter().map(|record| record.data.clone()).collect()),
        Err(error) if error.is_no_records_found() => Ok(vec![]),
        Err(error) => Err(error),
    }
}

async fn texts(resolver: &TokioResolver, name: &str) -> Result<Vec<String>, NetError> {
    let joined = |data: RData| match data {
        // A text is split into parts of at most 255 bytes.
        RData::TXT(text) => Some(String::from_utf8_lossy(&text.txt_data.concat()).into_owned()),
        _ => None,
    };
    Ok(records(resolver, name, RecordType::TXT).await?.into_iter().filter_map(joined).collect())
}

async fn addresses(resolver: &TokioResolver, name: &str) -> Result<BTreeSet<String>, NetError> {
    let (v4, v6) = tokio::join!(records(resolver, name, RecordType::A), records(resolver, name, RecordType::AAAA));
    let text = |data: RData| match data {
        RData::A(address) => Some(address.0.to_string()),
        RData::AAAA(address) => Some(address.0.to_string()),
        _ => None,
    };
    Ok(v4?.into_iter().chain(v6?).filter_map(text).collect())
}

/// The server's own name when the domain leads there: by a CNAME, or by the same addresses where a zone's top can have none.
async fn leads_to(resolver: &TokioResolver, name: &str, base: &str) -> Result<Option<String>, NetError> {
    let target = records(resolver, name, RecordType::CNAME).await?.into_iter().find_map(|data| match data {
        RData::CNAME(target) => Some(target.0.to_utf8().trim_end_matches('.').to_ascii_lowercase()),
        _ => None,
    });
    if target.is_some() {
        return Ok(target);
    }
    let own = addresses(resolver, name).await?;
    if own.is_empty() {
        return Ok(None);
    }
    let ours = addresses(resolver, base).await.unwrap_or_default();
    Ok(Some(if own.is_subset(&ours) { base.to_owned() } else { own.into_iter().take(SHOWN).collect::<Vec<_>>().join(", ") }))
}

#[cfg(test)]
pub(crate) mod tests {
    use domain::project::DomainKind;
    use domain::{DomainId, EnvironmentId, ProjectId, ServiceId, WorkspaceId};

    use super::*;

    /// A custom domain that nobody has proved, made at second 0 and asked about at another one.
    pub(crate) fn domain(checked: Option<i64>) -> Domain {
        let created_at = Timestamp::UNIX_EPOCH;
        Domain {
            id: DomainId::generate(),
            workspace_id: WorkspaceId::generate(),
            project_id: ProjectId::generate(),
            environment_id: EnvironmentId::generate(),
            service_id: ServiceId::generate(),
            kind: DomainKind::Custom,
            domain: "www.example.com".into(),
            target_port: None,
            verification_token: None,
            verified_at: None,
            dns_value: None,
            dns_checked_at: checked.map(|at| created_at + Duration::from_secs(at.unsigned_abs())),
            force_https: false,
            certificate: Default::default(),
            created_at,
            updated_at: created_at,
        }
    }

    #[test]
    fn a_new_domain_does_not_wait_for_many_old_ones() {
        let old = (0..100).map(|at| domain(Some(1_000 - at)));
        let mut all: Vec<Domain> = old.collect();
        let new = domain(None);
        all.push(new.clone());
        let asked = due(all, Timestamp::UNIX_EPOCH + Duration::from_secs(100_000));
        assert_eq!((asked.len(), asked[0].id), (AT_MOST, new.id));
        let seconds: Vec<_> = asked[1..].iter().filter_map(|domain| domain.dns_checked_at).map(|at| at.as_second()).collect();
        assert_eq!(seconds[0], 901, "the one that was asked about longest ago comes next");
        assert!(seconds.is_sorted());
    }
}
