//! TCP ports of the server that lead to an instance.

use std::collections::BTreeSet;

use domain::project::Instance;
use domain::tcp_proxy::{ProxyKind, TcpProxy};
use domain::{EnvironmentId, Permission, Place, ServiceId, TcpProxyId, Tenant};
use serde_json::json;
use store::{Change, Constraint, StoreError};

use crate::context::Opened;
use crate::{Error, OpCtx, environment, service};

/// Ports that are drawn for one TCP proxy, in case that somebody else takes each at the same moment.
const DRAWS: u32 = 5;

/// The public TCP proxies of a service in an environment, oldest first.
///
/// # Errors
/// Not found or not allowed.
pub async fn tcp_proxies(ctx: &OpCtx, environment: EnvironmentId, service: ServiceId) -> Result<Opened<Vec<TcpProxy>>, Error> {
    let opened = environment::environment_get(ctx, environment).await?;
    let mut rows = ctx.ops.store.tcp_proxies_of_environments(opened.tenant, &[environment]).await?;
    rows.retain(|row| row.service_id == service && row.kind == ProxyKind::Public);
    Ok(opened.with(rows))
}

/// Rows for an instance, each with a port that is free in the store.
pub(crate) async fn new_proxies(
    ctx: &OpCtx,
    instance: &Instance,
    kinds: &[ProxyKind],
    application_port: u16,
) -> Result<Vec<TcpProxy>, Error> {
    several(ctx, &[(instance, kinds, application_port)]).await
}

/// The same for several instances, which must not get the same ports.
pub(crate) async fn several(ctx: &OpCtx, wanted: &[(&Instance, &[ProxyKind], u16)]) -> Result<Vec<TcpProxy>, Error> {
    let mut taken: BTreeSet<u16> = ctx.ops.store.system_tcp_ports().await?.into_iter().collect();
    let range = ctx.ops.settings.tcp_ports.clone();
    let span = u32::from(*range.end()).saturating_sub(u32::from(*range.start())) + 1;
    let mut rows = vec![];
    for (instance, kinds, application_port) in wanted {
        for kind in *kinds {
            // From a random place on: a port that was just given back rests.
            let first = rand::random::<u32>() % span;
            let at = |offset: u32| range.start().saturating_add(u16::try_from((first + offset) % span).unwrap_or_default());
            let free = (0..span).map(at).find(|port| !taken.contains(port));
            let proxy_port = free.ok_or_else(|| {
                Error::conflict("Every TCP port of this server is taken: delete a TCP proxy, or widen the server's setting tcp_ports")
            })?;
            taken.insert(proxy_port);
            rows.push(TcpProxy {
                id: TcpProxyId::generate(),
                workspace_id: instance.workspace_id,
                project_id: instance.project_id,
                environment_id: instance.environment_id,
                service_id: instance.service_id,
                kind: *kind,
                application_port: *application_port,
                proxy_port,
                created_at: ctx.now,
                updated_at: ctx.now,
            });
        }
    }
    Ok(rows)
}

/// Gives a service a port of the server.
///
/// # Errors
/// It has one already, no port is free, not found, or not allowed.
pub async fn tcp_proxy_create(
    ctx: &OpCtx,
    environment: EnvironmentId,
    service: ServiceId,
    application_port: u16,
) -> Result<TcpProxy, Error> {
    let opened = service::instance_for(ctx, environment, service, Permission::Write).await?;
    for _ in 0..DRAWS {
        let mut made = new_proxies(ctx, &opened.row, &[ProxyKind::Public], application_port).await?;
        let Some(proxy) = made.pop() else { return Err(Error::not_found("ServiceInstance")) };
        let data = json!({"applicationPort": application_port, "proxyPort": proxy.proxy_port});
        let activity = ctx.activity(opened.tenant, Some(opened.row.project_id), "tcp_proxy_create", proxy.id, data);
        match ctx.ops.store.commit(opened.tenant, vec![Change::TcpProxyInsert(proxy.clone()), activity]).await {
            Ok(_) => {
                ctx.ops.signals.ring();
                return Ok(proxy);
            }
            // Somebody was faster with that port.
            Err(StoreError::Conflict { constraint: Constraint::TcpPort }) => {}
            Err(error) => {
                let taken = "The service already has a TCP proxy in this environment: delete that one first";
                return Err(Error::from(error).when_taken(taken));
            }
        }
    }
    Err(Error::conflict("Other services took each port that was found: try again"))
}

/// Takes a port from a service.
///
/// # Errors
/// Not found or not allowed.
pub async fn tcp_proxy_delete(ctx: &OpCtx, id: TcpProxyId) -> Result<(), Error> {
    let place = |row: &TcpProxy| Place::Environment(row.project_id, row.environment_id);
    let opened = ctx.open(ctx.ops.store.tcp_proxy(id).await?, "TCP proxy", place, Permission::Write)?;
    if opened.row.kind != ProxyKind::Public {
        return Err(Error::not_found("TCP proxy"));
    }
    let data = json!({"proxyPort": opened.row.proxy_port});
    let activity = ctx.activity(opened.tenant, Some(opened.row.project_id), "tcp_proxy_delete", id, data);
    ctx.commit(opened.tenant, vec![Change::TcpProxyDelete(id), activity]).await?;
    ctx.ops.signals.ring();
    Ok(())
}

/// Ports for the instances of an environment that is made after another one.
pub(crate) async fn copies(ctx: &OpCtx, tenant: Tenant, from: EnvironmentId, twins: &[Instance]) -> Result<Vec<TcpProxy>, Error> {
    let rows = ctx.ops.store.tcp_proxies_of_environments(tenant, &[from]).await?;
    let kinds: Vec<[ProxyKind; 1]> = rows.iter().map(|row| [row.kind]).collect();
    let twin = |row: &TcpProxy| twins.iter().find(|instance| instance.service_id == row.service_id);
    let pairs = rows.iter().zip(&kinds).filter_map(|(row, kind)| Some((twin(row)?, kind.as_slice(), row.application_port)));
    let wanted: Vec<_> = pairs.collect();
    several(ctx, &wanted).await
}
