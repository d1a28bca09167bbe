//! Tools for apps: the platform's own verbs with the rights of the key.

use domain::log::filter::Filter;
use domain::page::PageRequest;
use domain::{DeploymentId, EnvironmentId, ProjectId, ServiceId};
use ops::deployment::{self, DeploymentFilter};
use ops::service::{InstancePatch, service_instance_update};
use ops::{Error, OpCtx};
use serde_json::{Map, Value, json};
use telemetry::LogQuery;
use uuid::Uuid;

use super::ToolSpec;
use crate::flow::answer::Refused;
use crate::flow::runs::time;

const ENVIRONMENT: (&str, &str, bool, &str) = ("environmentId", "string", true, "The environment's id, as in list_apps");
const SERVICE: (&str, &str, bool, &str) = ("serviceId", "string", true, "The service's id, as in list_apps");
const DEPLOYMENT: (&str, &str, bool, &str) = ("deploymentId", "string", true, "The deployment's id, as in list_deployments");

pub(super) static TOOLS: [ToolSpec; 7] = [
    ToolSpec { name: "list_apps", about: "Projects with their environments and services", takes: &[] },
    ToolSpec {
        name: "list_deployments",
        about: "Deployments of a service, newest first",
        takes: &[ENVIRONMENT, SERVICE, ("limit", "integer", false, "1 to 100")],
    },
    ToolSpec {
        name: "deploy",
        about: "Deploys the newest source of a service again, with today's settings",
        takes: &[ENVIRONMENT, SERVICE],
    },
    ToolSpec { name: "rollback", about: "Goes back to an earlier deployment", takes: &[DEPLOYMENT] },
    ToolSpec { name: "restart", about: "Restarts a deployment's replicas", takes: &[DEPLOYMENT] },
    ToolSpec {
        name: "scale",
        about: "Sets how many replicas a service has",
        takes: &[ENVIRONMENT, SERVICE, ("replicas", "integer", true, "How many")],
    },
    ToolSpec {
        name: "logs",
        about: "The newest lines of a deployment",
        takes: &[DEPLOYMENT, ("filter", "string", false, "Words, or @level:error and the like"), ("limit", "integer", false, "1 to 500")],
    },
];

fn id(given: &Map<String, Value>, name: &str) -> Result<Uuid, Error> {
    let text = given.get(name).and_then(Value::as_str).unwrap_or_default();
    Uuid::parse_str(text).map_err(|_| Error::bad_input(format!("{name} is an id such as list_apps gives")))
}

fn count(given: &Map<String, Value>, name: &str, default: u32, most: u32) -> Result<u32, Error> {
    match given.get(name) {
        None | Some(Value::Null) => Ok(default),
        Some(value) => {
            let number = value.as_u64().and_then(|number| u32::try_from(number).ok()).filter(|number| *number <= most);
            number.ok_or_else(|| Error::bad_input(format!("{name} is a number up to {most}")))
        }
    }
}

fn place(given: &Map<String, Value>) -> Result<(EnvironmentId, ServiceId), Error> {
    Ok((EnvironmentId(id(given, "environmentId")?), ServiceId(id(given, "serviceId")?)))
}

pub(super) async fn call(ctx: &OpCtx, name: &str, given: Map<String, Value>) -> Result<Value, Refused> {
    match name {
        "list_apps" => apps(ctx).await,
        "list_deployments" => {
            let (environment, service) = place(&given)?;
            let filter = DeploymentFilter { environment: Some(environment), service: Some(service), ..DeploymentFilter::default() };
            let page = PageRequest { first: Some(count(&given, "limit", 20, 100)?), ..PageRequest::default() };
            let found = deployment::deployments(ctx, filter, &page).await?.items.into_iter().map(|opened| opened.row);
            let shape = |row: domain::deployment::Deployment| json!({"id": row.id.to_string(), "status": row.status.as_str(), "reason": row.status_reason, "createdAt": time(row.created_at)});
            Ok(json!({"items": found.map(shape).collect::<Vec<_>>()}))
        }
        "deploy" => {
            let (environment, service) = place(&given)?;
            let made = deployment::service_instance_redeploy(ctx, environment, service).await?;
            let made = made.ok_or_else(|| Error::conflict("This service was never deployed: upload its source first"))?;
            Ok(json!({"deploymentId": made.to_string()}))
        }
        "rollback" => {
            let made = deployment::deployment_rollback(ctx, DeploymentId(id(&given, "deploymentId")?)).await?;
            Ok(json!({"deploymentId": made.row.id.to_string()}))
        }
        "restart" => {
            deployment::deployment_restart(ctx, DeploymentId(id(&given, "deploymentId")?)).await?;
            Ok(json!({"success": true}))
        }
        "scale" => {
            let (environment, service) = place(&given)?;
            let patch = InstancePatch { replicas: Some(count(&given, "replicas", 1, 1000)?), ..InstancePatch::default() };
            service_instance_update(ctx, service, Some(environment), patch).await?;
            Ok(json!({"success": true}))
        }
        _ => logs(ctx, &given).await,
    }
}

async fn apps(ctx: &OpCtx) -> Result<Value, Refused> {
    let projects = ops::project::projects(ctx, None, &PageRequest::default(), false).await?.items;
    let Some(tenant) = projects.first().map(|project| project.tenant) else { return Ok(json!({"items": []})) };
    let ids: Vec<ProjectId> = projects.iter().map(|project| project.row.id).collect();
    let environments = ctx.ops.store.environments_of(tenant, &ids).await.map_err(Error::from)?;
    let services = ctx.ops.store.services_of(tenant, &ids).await.map_err(Error::from)?;
    let items = projects.iter().map(|project| {
        let of = project.row.id;
        let environments =
            environments.iter().filter(|one| one.project_id == of).map(|one| json!({"id": one.id.to_string(), "name": one.name}));
        let services = services.iter().filter(|one| one.project_id == of).map(|one| json!({"id": one.id.to_string(), "name": one.name}));
        json!({
            "id": of.to_string(),
            "name": project.row.name,
            "environments": environments.collect::<Vec<_>>(),
            "services": services.collect::<Vec<_>>(),
        })
    });
    Ok(json!({"items": items.collect::<Vec<_>>()}))
}

async fn logs(ctx: &OpCtx, given: &Map<String, Value>) -> Result<Value, Refused> {
    let scope = ops::logs::deployment_logs(ctx, DeploymentId(id(given, "deploymentId")?)).await?;
    let text = given.get("filter").and_then(Value::as_str).unwrap_or_default();
    let filter = Filter::parse(text).map_err(|error| Error::bad_input(error.to_string()))?;
    let limit = count(given, "limit", 100, 500)? as usize;
    let query = LogQuery { scope, filter, after: None, before: None, limit, newest: true };
    let lines = ctx.ops.telemetry.query(&query).map_err(|error| Error::internal("logs", error))?;
    let lines = lines
        .into_iter()
        .map(|line| json!({"timestamp": telemetry::timestamp(line.nanos), "severity": line.severity.as_str(), "message": line.message}));
    Ok(json!({"items": lines.collect::<Vec<_>>()}))
}
