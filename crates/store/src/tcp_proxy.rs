//! TCP ports of the server. They go with their instance or by hand.

use domain::tcp_proxy::{ProxyKind, TcpProxy};
use domain::{EnvironmentId, InstanceId, ProjectId, Sealed, ServiceId, TcpProxyId, Tenant, WorkspaceId};

use crate::executor::{BadCell, Record, Statement};
use crate::{Store, StoreError};

macro_rules! columns {
    () => {
        "tcp_proxies.id, tcp_proxies.workspace_id, tcp_proxies.project_id, tcp_proxies.environment_id, tcp_proxies.service_id, \
         tcp_proxies.kind, tcp_proxies.application_port, tcp_proxies.proxy_port, tcp_proxies.created_at, tcp_proxies.updated_at"
    };
}

statements! {
    TCP_PROXY = concat!("SELECT ", columns!(), " FROM tcp_proxies WHERE id = $id");
    TCP_PROXIES_OF_ENVIRONMENTS = concat!(
        "SELECT ", columns!(), " FROM tcp_proxies WHERE environment_id IN ($environments) AND workspace_id = $workspace"
    );
    SYSTEM_TCP_ROUTES = concat!(
        "SELECT instances.id, ", columns!(), " FROM tcp_proxies \
         JOIN instances ON instances.environment_id = tcp_proxies.environment_id AND instances.service_id = tcp_proxies.service_id"
    );
    SYSTEM_TCP_PORTS = "SELECT proxy_port FROM tcp_proxies";
    TCP_PROXY_INSERT =
        "INSERT INTO tcp_proxies (id, workspace_id, project_id, environment_id, service_id, kind, application_port, proxy_port, \
         created_at, updated_at) VALUES ($id, $workspace, $project, $environment, $service, $kind, $application_port, $proxy_port, \
         $created, $updated)";
    TCP_PROXY_DELETE = "DELETE FROM tcp_proxies WHERE id = $id AND workspace_id = $workspace";
}

fn row(r: &mut Record) -> Result<TcpProxy, BadCell> {
    Ok(TcpProxy {
        id: r.id(TcpProxyId)?,
        workspace_id: r.id(WorkspaceId)?,
        project_id: r.id(ProjectId)?,
        environment_id: r.id(EnvironmentId)?,
        service_id: r.id(ServiceId)?,
        kind: r.word(ProxyKind::parse)?,
        application_port: r.number()?,
        proxy_port: r.number()?,
        created_at: r.time()?,
        updated_at: r.time()?,
    })
}

impl Store {
    /// A TCP proxy.
    ///
    /// # Errors
    /// The database does not answer.
    pub async fn tcp_proxy(&self, id: TcpProxyId) -> Result<Option<Sealed<TcpProxy>>, StoreError> {
        self.sealed(&TCP_PROXY, &params![id = id], row, |row| row.workspace_id).await
    }

    /// The TCP proxies in the environments, oldest first.
    ///
    /// # Errors
    /// The database does not answer.
    pub async fn tcp_proxies_of_environments(&self, tenant: Tenant, environments: &[EnvironmentId]) -> Result<Vec<TcpProxy>, StoreError> {
        self.batch(&TCP_PROXIES_OF_ENVIRONMENTS, &params![workspace = tenant, environments = environments], row, |row| row.id).await
    }

    /// Every TCP proxy of the server with the instance that it leads to, for the edge's table.
    ///
    /// # Errors
    /// The database does not answer.
    pub async fn system_tcp_routes(&self) -> Result<Vec<(InstanceId, TcpProxy)>, StoreError> {
        self.list(&SYSTEM_TCP_ROUTES, &[], |r| Ok((r.id(InstanceId)?, row(r)?))).await
    }

    /// Every port that is taken.
    ///
    /// # Errors
    /// The database does not answer.
    pub async fn system_tcp_ports(&self) -> Result<Vec<u16>, StoreError> {
        self.list(&SYSTEM_TCP_PORTS, &[], Record::number).await
    }
}

pub(crate) fn tcp_proxy_insert(proxy: &TcpProxy) -> Statement {
    let TcpProxy { id, workspace_id, project_id, environment_id, service_id, kind, .. } = proxy;
    let TcpProxy { application_port, proxy_port, created_at, updated_at, .. } = proxy;
    let params = params![
        id = *id,
        workspace = *workspace_id,
        project = *project_id,
        environment = *environment_id,
        service = *service_id,
        kind = kind.as_str(),
        application_port = *application_port,
        proxy_port = *proxy_port,
        created = *created_at,
        updated = *updated_at
    ];
    Statement::touch(&TCP_PROXY_INSERT, params)
}

pub(crate) fn tcp_proxy_delete(tenant: Tenant, id: TcpProxyId) -> Statement {
    Statement::touch(&TCP_PROXY_DELETE, params![id = id, workspace = tenant])
}
