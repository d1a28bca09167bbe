//! The edge's table: made of every domain and of what each instance's plan routes.

use std::collections::{BTreeMap, HashMap};
use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::sync::Arc;

use domain::deployment::{Deployment, DeploymentStatus};
use domain::routing::{Route, RoutingTable, Target};
use domain::{DeploymentId, InstanceId, ReplicaId};

use crate::Shared;
use crate::edge_client::EdgeClient;

/// What an instance offers.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Offer {
    pub(crate) serving: Option<DeploymentId>,
    pub(crate) targets: Vec<(ReplicaId, DeploymentId, u16)>,
    pub(crate) unavailable: Option<String>,
}

/// The table as last published, and what it is made from.
pub(crate) struct Routes {
    pub(crate) edge: EdgeClient,
    offers: HashMap<InstanceId, Offer>,
    published: Option<RoutingTable>,
    version: u64,
}

impl Routes {
    pub(crate) fn new(edge_dir: &Path) -> Self {
        // Versions go on from the table that a running edge holds.
        let last = std::fs::read(edge_dir.join("table.json")).ok().and_then(|text| serde_json::from_slice::<RoutingTable>(&text).ok());
        let version = last.map_or(0, |table| table.version);
        Self { edge: EdgeClient::new(edge_dir), offers: HashMap::new(), published: None, version }
    }

    pub(crate) fn offer(&mut self, instance: InstanceId, offer: Offer) {
        self.offers.insert(instance, offer);
    }
}

/// Why an instance has no replica that takes requests, for the edge's pages.
pub(crate) fn explain(deployments: &[Deployment]) -> String {
    let Some(newest) = deployments.last() else {
        return "Nothing is deployed here yet: run `railway up`.".into();
    };
    match newest.status {
        DeploymentStatus::Initializing | DeploymentStatus::Queued | DeploymentStatus::Building => {
            "The first deployment is being built.".into()
        }
        DeploymentStatus::Deploying => "The deployment is starting; it does not answer yet.".into(),
        DeploymentStatus::Crashed => {
            format!("The deployment has crashed: {}.", newest.status_reason.as_deref().unwrap_or("see its log"))
        }
        DeploymentStatus::Success if newest.stopped => "The deployment was stopped or has completed.".into(),
        _ => "No replica of the deployment is healthy at the moment.".into(),
    }
}

/// Publishes the table if it has changed. Returns whether the edge is known to use it, so that replicas which left it may be stopped.
pub(crate) async fn publish(shared: &Arc<Shared>) -> bool {
    let rows = match shared.ops.store.system_routes().await {
        Ok(rows) => rows,
        Err(error) => {
            tracing::error!(%error, "the routes cannot be read; the edge keeps its table");
            return false;
        }
    };
    let mut routes = shared.routes.lock().await;
    let mut hosts = BTreeMap::new();
    for (domain, service_name, instance) in rows {
        let offer = routes.offers.get(&instance).cloned().unwrap_or_default();
        let targets = offer
            .targets
            .iter()
            .map(|(replica_id, deployment_id, port)| Target {
                replica_id: *replica_id,
                deployment_id: *deployment_id,
                address: SocketAddr::from((Ipv4Addr::LOCALHOST, domain.target_port.unwrap_or(*port))),
            })
            .collect();
        let route = Route {
            workspace_id: domain.workspace_id,
            project_id: domain.project_id,
            environment_id: domain.environment_id,
            service_id: domain.service_id,
            service_name,
            deployment_id: offer.serving,
            unavailable: offer.unavailable.or_else(|| Some(explain(&[]))).filter(|_| offer.targets.is_empty()),
            targets,
            sticky: false,
        };
        hosts.insert(domain.domain, route);
    }
    if routes.published.as_ref().is_some_and(|table| table.hosts == hosts) {
        return true;
    }
    routes.version += 1;
    let table = RoutingTable { version: routes.version, hosts };
    match routes.edge.publish(&table).await {
        Ok(()) => {
            routes.published = Some(table);
            true
        }
        Err(error) => {
            tracing::warn!(%error, "the edge did not take the new table; it is tried again");
            false
        }
    }
}
