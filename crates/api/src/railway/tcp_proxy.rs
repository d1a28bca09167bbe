//! TCP ports of the server that lead to an instance.

use domain::{EnvironmentId, ServiceId, TcpProxyId};
use juniper::{ID, graphql_object};

use super::enums::TCPProxySyncStatus;
use super::inputs::{TCPProxyCreateInput, id, port};
use crate::graphql::scalar::DateTime;
use crate::graphql::{Ctx, Fault, Scalar};

/// A TCP port of the server that leads to an instance.
pub(crate) struct TCPProxy(domain::tcp_proxy::TcpProxy);

#[graphql_object(context = Ctx, scalar = Scalar)]
impl TCPProxy {
    fn application_port(&self) -> i32 {
        self.0.application_port.into()
    }
    fn created_at(&self) -> Option<DateTime> {
        Some(DateTime(self.0.created_at))
    }
    fn deleted_at(&self) -> Option<DateTime> {
        None
    }
    fn domain(&self, ctx: &Ctx) -> String {
        ctx.op.ops.settings.tcp_domain.clone()
    }
    fn environment_id(&self) -> String {
        self.0.environment_id.to_string()
    }
    fn id(&self) -> ID {
        ID::from(self.0.id.to_string())
    }
    fn proxy_port(&self) -> i32 {
        self.0.proxy_port.into()
    }
    fn service_id(&self) -> String {
        self.0.service_id.to_string()
    }
    fn sync_status(&self) -> TCPProxySyncStatus {
        TCPProxySyncStatus::Active
    }
    fn updated_at(&self) -> Option<DateTime> {
        Some(DateTime(self.0.updated_at))
    }
}

pub(crate) fn list(ctx: &Ctx, environment: &str, service: &str) -> Result<Vec<TCPProxy>, Fault> {
    let (environment, service) = (id("Environment", environment, EnvironmentId)?, id("Service", service, ServiceId)?);
    let rows = ctx.wait(ops::tcp_proxy::tcp_proxies(&ctx.op, environment, service))?.row;
    Ok(rows.into_iter().map(TCPProxy).collect())
}

pub(crate) fn create(ctx: &Ctx, input: TCPProxyCreateInput) -> Result<TCPProxy, Fault> {
    let environment = id("Environment", &input.environment_id, EnvironmentId)?;
    let service = id("Service", &input.service_id, ServiceId)?;
    let port = port(Some(input.application_port))?.ok_or_else(|| Fault::bad_input("applicationPort is missing: 1 to 65535"))?;
    Ok(TCPProxy(ctx.wait(ops::tcp_proxy::tcp_proxy_create(&ctx.op, environment, service, port))?))
}

pub(crate) fn delete(ctx: &Ctx, proxy: &str) -> Result<bool, Fault> {
    ctx.wait(ops::tcp_proxy::tcp_proxy_delete(&ctx.op, id("TCP proxy", proxy, TcpProxyId)?))?;
    Ok(true)
}
