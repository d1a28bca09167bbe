//! The edge's table: made of every domain and of what each instance's plan routes.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::time::{Duration, Instant};

use domain::deployment::{Deployment, DeploymentStatus};
use domain::galaxy::container_id;
use domain::metric::MetricSource;
use domain::project::Domain;
use domain::routing::{Asleep, Route, RoutingTable, Target, TcpRoute};
use domain::tcp_proxy::{ProxyKind, TcpProxy};
use domain::{DeploymentId, InstanceId, ReplicaId};
use ops::Settings;
use ops::domain_name::forces_https;

use crate::{Shared, executions};

/// An edge that starts together with the engine listens within.
const EDGE_STARTS: Duration = Duration::from_secs(15);

/// What an instance offers.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Offer {
    pub(crate) serving: Option<DeploymentId>,
    pub(crate) targets: Vec<(ReplicaId, DeploymentId, u16)>,
    /// Visitors stay with a replica.
    pub(crate) sticky: bool,
    /// Why there are no targets.
    pub(crate) unavailable: Option<String>,
    /// There are none because it sleeps.
    pub(crate) asleep: Option<Asleep>,
}

/// The table as last written, and what it is made from. Belongs to the reconciler.
pub(crate) struct Routes {
    offers: HashMap<InstanceId, Offer>,
    /// Instances that could not be read since the start: their routes stay as they were.
    doubtful: HashSet<InstanceId>,
    table: RoutingTable,
    /// The edge has said that it uses the table as it is.
    acknowledged: bool,
    /// An offer is not in the table yet.
    changed: bool,
    begun: Instant,
}

impl Routes {
    /// Versions go on from the table that a running edge holds.
    pub(crate) fn new(edge_dir: &Path) -> Self {
        let last = std::fs::read(edge_dir.join("table.json")).ok().and_then(|text| serde_json::from_slice::<RoutingTable>(&text).ok());
        let table = last.unwrap_or_default();
        Self { offers: HashMap::new(), doubtful: HashSet::new(), table, acknowledged: false, changed: true, begun: Instant::now() }
    }

    pub(crate) fn offer(&mut self, instance: InstanceId, offer: Offer) {
        self.doubtful.remove(&instance);
        if self.offers.get(&instance) != Some(&offer) {
            self.changed = true;
            self.offers.insert(instance, offer);
        }
    }

    /// The instance has nothing that could be offered.
    pub(crate) fn withdraw(&mut self, instance: InstanceId) {
        self.doubtful.remove(&instance);
        self.changed |= self.offers.remove(&instance).is_some();
    }

    /// It is not known what the instance offers.
    pub(crate) fn doubt(&mut self, instance: InstanceId) {
        if !self.offers.contains_key(&instance) {
            self.doubtful.insert(instance);
        }
    }

    /// Forgets what instances without work have offered.
    pub(crate) fn keep_only(&mut self, working: impl Fn(InstanceId) -> bool) {
        let before = self.offers.len();
        self.offers.retain(|instance, _| working(*instance));
        self.changed |= self.offers.len() != before;
    }

    /// Requests go to where the app was told to listen, whatever port its owner names: see [`Routes::tcp_route`].
    fn route(&self, settings: &Settings, domain: &Domain, service_name: String, instance: InstanceId) -> Route {
        let force_https = forces_https(settings, domain);
        if self.doubtful.contains(&instance)
            && let Some(present) = self.table.hosts.get(&domain.domain)
            // A name that another service had before leads there no longer.
            && (present.workspace_id, present.environment_id, present.service_id)
                == (domain.workspace_id, domain.environment_id, domain.service_id)
        {
            return Route { force_https, ..present.clone() };
        }
        let offer = self.offers.get(&instance).cloned().unwrap_or_default();
        let targets = offer.targets.iter().map(|(replica_id, deployment_id, port)| Target {
            replica_id: *replica_id,
            deployment_id: *deployment_id,
            name: container_id(instance, *replica_id),
            address: SocketAddr::from((Ipv4Addr::LOCALHOST, *port)),
        });
        Route {
            workspace_id: domain.workspace_id,
            project_id: domain.project_id,
            environment_id: domain.environment_id,
            service_id: domain.service_id,
            service_name,
            deployment_id: offer.serving,
            unavailable: offer.unavailable.or_else(|| Some(explain(&[]))).filter(|_| offer.targets.is_empty()),
            targets: targets.collect(),
            sticky: offer.sticky,
            asleep: offer.asleep,
            force_https,
        }
    }

    /// A port leads to where the app was told to listen, whatever it calls its port: on a machine that replicas share, a port that users
    /// name could be somebody else's.
    fn tcp_route(&self, proxy: &TcpProxy, instance: InstanceId) -> TcpRoute {
        let source = MetricSource {
            workspace_id: proxy.workspace_id,
            project_id: proxy.project_id,
            environment_id: proxy.environment_id,
            service_id: proxy.service_id,
            replica: None,
        };
        // A port may have been somebody else's before.
        if self.doubtful.contains(&instance)
            && let Some(present) = self.table.tcp.get(&proxy.proxy_port).filter(|present| present.source.as_ref() == Some(&source))
        {
            return present.clone();
        }
        let offer = self.offers.get(&instance).cloned().unwrap_or_default();
        let targets = offer.targets.iter().map(|(replica_id, deployment_id, port)| Target {
            replica_id: *replica_id,
            deployment_id: *deployment_id,
            name: replica_id.to_string(),
            address: SocketAddr::from((Ipv4Addr::LOCALHOST, *port)),
        });
        TcpRoute { public: proxy.kind == ProxyKind::Public, source: Some(source), targets: targets.collect() }
    }

    /// Brings the table up to date. Returns whether the edge is known to use it, so that replicas which left it may be stopped. Domains
    /// are read only when something may have changed, which the caller says for what it alone knows of.
    pub(crate) async fn publish(&mut self, shared: &Shared, domains_may_differ: bool) -> bool {
        if self.acknowledged && !self.changed && !domains_may_differ {
            return true;
        }
        let read = async { Ok((shared.ops.store.system_routes().await?, shared.ops.store.system_tcp_routes().await?)) };
        let (rows, proxies) = match read.await {
            Ok(rows) => rows,
            Err::<_, store::StoreError>(error) => {
                tracing::error!(%error, "the routes cannot be read; the edge keeps its table");
                return false;
            }
        };
        let routes = rows
            .into_iter()
            .map(|(domain, name, instance)| (domain.domain.clone(), self.route(&shared.ops.settings, &domain, name, instance)));
        let hosts: BTreeMap<String, Route> = routes.collect();
        let tcp: BTreeMap<u16, TcpRoute> =
            proxies.iter().map(|(instance, proxy)| (proxy.proxy_port, self.tcp_route(proxy, *instance))).collect();
        self.changed = false;
        if self.table.hosts != hosts || self.table.tcp != tcp {
            self.table = RoutingTable { version: self.table.version + 1, hosts, tcp };
            self.acknowledged = false;
        }
        if !self.acknowledged {
            match shared.edge.publish(&self.table).await {
                Ok(()) => self.acknowledged = true,
                Err(error) if self.begun.elapsed() < EDGE_STARTS => {
                    tracing::debug!(%error, "the edge does not listen yet; it is tried again");
                }
                Err(error) => tracing::warn!(%error, "the edge did not take the new table; it is tried again"),
            }
        }
        self.acknowledged
    }
}

/// Why an instance has no replica that takes requests, for the edge's pages.
pub(crate) fn explain(deployments: &[Deployment]) -> String {
    // What waits for an approval says nothing of why the one before it does not answer.
    let carried_out = deployments.iter().rev().find(|deployment| deployment.status != DeploymentStatus::NeedsApproval);
    let Some(newest) = carried_out.or(deployments.last()) else {
        return "Nothing is deployed here yet: run `railway up`.".into();
    };
    match newest.status {
        DeploymentStatus::Initializing | DeploymentStatus::Queued | DeploymentStatus::Building => {
            "The first deployment is being built.".into()
        }
        DeploymentStatus::NeedsApproval => "The first deployment waits for the approval of an admin of the workspace.".into(),
        DeploymentStatus::Deploying => "The deployment is starting; it does not answer yet.".into(),
        DeploymentStatus::Crashed => {
            format!("The deployment has crashed: {}.", newest.status_reason.as_deref().unwrap_or("see its log"))
        }
        DeploymentStatus::Sleeping => "The app sleeps; it did not wake in time.".into(),
        DeploymentStatus::Success if newest.stopped => "The deployment was stopped or has completed.".into(),
        DeploymentStatus::Success if executions::is_scheduled(newest) => {
            let schedule = newest.spec.deploy.cron_schedule.as_deref().unwrap_or_default();
            format!("This service runs by its schedule ({schedule}, UTC) and takes no requests.")
        }
        _ => "No replica of the deployment is healthy at the moment.".into(),
    }
}

#[cfg(test)]
mod tests {
    use domain::{EnvironmentId, ProjectId, ServiceId, TcpProxyId, Timestamp, WorkspaceId};

    use super::*;
    use crate::domain_names::tests as domains;

    #[test]
    fn a_port_does_not_lead_to_the_service_that_had_it_before_while_its_own_is_in_doubt() {
        let proxy = TcpProxy {
            id: TcpProxyId::generate(),
            workspace_id: WorkspaceId::generate(),
            project_id: ProjectId::generate(),
            environment_id: EnvironmentId::generate(),
            service_id: ServiceId::generate(),
            kind: ProxyKind::Public,
            application_port: 5_432,
            proxy_port: 30_000,
            created_at: Timestamp::UNIX_EPOCH,
            updated_at: Timestamp::UNIX_EPOCH,
        };
        let mut routes = Routes::new(Path::new("/nowhere"));
        let (old, new) = (InstanceId::generate(), InstanceId::generate());
        let offer = Offer { targets: vec![(ReplicaId::generate(), DeploymentId::generate(), 4_000)], ..Offer::default() };
        routes.offer(old, offer);
        let held = routes.tcp_route(&proxy, old);
        routes.table.tcp.insert(proxy.proxy_port, held.clone());
        routes.offers.clear();
        routes.doubt(old);
        routes.doubt(new);
        assert_eq!(routes.tcp_route(&proxy, old), held, "its own replicas may well be there");
        let after = TcpProxy { workspace_id: WorkspaceId::generate(), service_id: ServiceId::generate(), ..proxy };
        assert!(routes.tcp_route(&after, new).targets.is_empty());
    }

    #[test]
    fn a_name_does_not_lead_to_the_service_that_had_it_before_while_its_own_is_in_doubt() {
        let before = Domain { verified_at: Some(Timestamp::UNIX_EPOCH), ..domains::domain(None) };
        let settings = Settings::local(Path::new("/"));
        let mut routes = Routes::new(Path::new("/nowhere"));
        let (old, new) = (InstanceId::generate(), InstanceId::generate());
        let offer = Offer { targets: vec![(ReplicaId::generate(), DeploymentId::generate(), 4_000)], ..Offer::default() };
        routes.offer(old, offer);
        let held = routes.route(&settings, &before, "web".into(), old);
        routes.table.hosts.insert(before.domain.clone(), held.clone());
        routes.offers.clear();
        routes.doubt(old);
        routes.doubt(new);
        assert_eq!(routes.route(&settings, &before, "web".into(), old), held, "its own replicas may well be there");

        let (workspace_id, service_id) = (WorkspaceId::generate(), ServiceId::generate());
        let after = Domain { workspace_id, service_id, ..before };
        let route = routes.route(&settings, &after, "api".into(), new);
        assert!(route.targets.is_empty() && route.workspace_id == workspace_id, "{route:?}");
    }
}
