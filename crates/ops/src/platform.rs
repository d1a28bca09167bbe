//! Verbs of the platform by their names, with JSON in and out: what assistants call as tools and workflows as nodes. Each is one call of the
//! verb that people use, with the rights of whoever asks.

use std::collections::{BTreeMap, BTreeSet};

use domain::deployment::{Deployment, DeploymentStatus};
use domain::log::filter::Filter;
use domain::page::PageRequest;
use domain::{DeploymentId, EnvironmentId, ProjectId, ServiceId, Timestamp};
use serde_json::{Map, Value, json};
use telemetry::metrics::{MetricWindow, Point};
use telemetry::{LogQuery, LogScope};
use url::Url;
use uuid::Uuid;

use crate::deployment::{self, DeploymentFilter};
use crate::environment::{EnvironmentCreate, environment_create, environment_get};
use crate::metric::{MetricPlace, metrics};
use crate::service::{InstancePatch, service_instance_update};
use crate::variable::{Upsert, View, variable_collection_upsert, variables};
use crate::{Error, OpCtx};

/// Points of metrics at the most.
const POINTS: i64 = 120;
/// The shortest interval of metrics in seconds.
const STEP: i64 = 5;

fn text<'a>(given: &'a Map<String, Value>, name: &str) -> Option<&'a str> {
    given.get(name).and_then(Value::as_str).filter(|text| !text.is_empty())
}

fn maybe_id(given: &Map<String, Value>, name: &str) -> Result<Option<Uuid>, Error> {
    let bad = |_| Error::bad_input(format!("{name} is an id such as list_apps gives"));
    text(given, name).map(|text| Uuid::parse_str(text).map_err(bad)).transpose()
}

fn id(given: &Map<String, Value>, name: &str) -> Result<Uuid, Error> {
    maybe_id(given, name)?.ok_or_else(|| Error::bad_input(format!("{name} is an id such as list_apps gives")))
}

fn count(given: &Map<String, Value>, name: &str, default: u32, most: u32) -> Result<u32, Error> {
    let Some(value) = given.get(name).filter(|value| !value.is_null()) else { return Ok(default) };
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "whole and in range")]
    let number =
        value.as_f64().filter(|number| number.fract() == 0.0 && (0.0..=f64::from(most)).contains(number)).map(|number| number as u32);
    number.ok_or_else(|| Error::bad_input(format!("{name} is a whole number up to {most}")))
}

fn place(given: &Map<String, Value>) -> Result<(EnvironmentId, ServiceId), Error> {
    Ok((EnvironmentId(id(given, "environmentId")?), ServiceId(id(given, "serviceId")?)))
}

fn time(at: Timestamp) -> String {
    format!("{at:.3}")
}

/// Calls a verb.
///
/// # Errors
/// An unknown verb, an argument that it does not take, and whatever the verb itself refuses.
pub async fn platform_call(ctx: &OpCtx, verb: &str, given: &Map<String, Value>) -> Result<Value, Error> {
    match verb {
        "list_apps" => apps(ctx).await,
        "list_deployments" => {
            let limit = count(given, "limit", 20, 100)?;
            let found = of_service(ctx, place(given)?, vec![], limit).await?;
            let shape = |row: Deployment| json!({"id": row.id.to_string(), "status": row.status.as_str(), "reason": row.status_reason, "createdAt": time(row.created_at)});
            Ok(json!({"items": found.into_iter().map(shape).collect::<Vec<_>>()}))
        }
        "deploy" => {
            let (environment, service) = place(given)?;
            let made = deployment::service_instance_redeploy(ctx, environment, service).await?;
            let made = made.ok_or_else(|| Error::conflict("This service was never deployed: upload its source first"))?;
            Ok(json!({"deploymentId": made.to_string()}))
        }
        "redeploy" => {
            let made = deployment::deployment_redeploy(ctx, target(ctx, given, &SERVING).await?).await?;
            Ok(json!({"deploymentId": made.row.id.to_string()}))
        }
        "rollback" => {
            let made = deployment::deployment_rollback(ctx, DeploymentId(id(given, "deploymentId")?)).await?;
            Ok(json!({"deploymentId": made.row.id.to_string()}))
        }
        "restart" => {
            let id = target(ctx, given, &SERVING).await?;
            deployment::deployment_restart(ctx, id).await?;
            Ok(json!({"success": true, "deploymentId": id.to_string()}))
        }
        "scale" => {
            let (environment, service) = place(given)?;
            let replicas = count(given, "replicas", 1, 1000)?;
            let patch = InstancePatch { replicas: Some(replicas), ..InstancePatch::default() };
            service_instance_update(ctx, service, Some(environment), patch).await?;
            Ok(json!({"success": true, "replicas": replicas}))
        }
        "set_variable" => set_variable(ctx, given).await,
        "create_environment" => create_environment(ctx, given).await,
        "metrics" => measured(ctx, given).await,
        "logs" => logs(ctx, given).await,
        _ => Err(Error::not_found("Verb")),
    }
}

async fn of_service(
    ctx: &OpCtx,
    (environment, service): (EnvironmentId, ServiceId),
    statuses: Vec<DeploymentStatus>,
    limit: u32,
) -> Result<Vec<Deployment>, Error> {
    let filter =
        DeploymentFilter { environment: Some(environment), service: Some(service), statuses_in: statuses, ..DeploymentFilter::default() };
    let page = PageRequest { first: Some(limit), ..PageRequest::default() };
    Ok(deployment::deployments(ctx, filter, &page).await?.items.into_iter().map(|opened| opened.row).collect())
}

/// What serves, or is about to.
const SERVING: [DeploymentStatus; 4] =
    [DeploymentStatus::Success, DeploymentStatus::Crashed, DeploymentStatus::Sleeping, DeploymentStatus::Deploying];

/// The deployment that is named, or the newest of a service in one of these states; empty means any.
async fn target(ctx: &OpCtx, given: &Map<String, Value>, statuses: &[DeploymentStatus]) -> Result<DeploymentId, Error> {
    if let Some(id) = maybe_id(given, "deploymentId")? {
        return Ok(DeploymentId(id));
    }
    if text(given, "serviceId").is_none() {
        return Err(Error::bad_input("Name deploymentId, or environmentId and serviceId"));
    }
    let newest = of_service(ctx, place(given)?, statuses.to_vec(), 1).await?.into_iter().next();
    newest.map(|row| row.id).ok_or_else(|| Error::conflict("Nothing of this service is deployed: deploy it first"))
}

async fn set_variable(ctx: &OpCtx, given: &Map<String, Value>) -> Result<Value, Error> {
    let environment = environment_get(ctx, EnvironmentId(id(given, "environmentId")?)).await?.row;
    let service = maybe_id(given, "serviceId")?.map(ServiceId);
    let name = text(given, "name").ok_or_else(|| Error::bad_input("name: the variable needs one"))?;
    let value = match given.get("value") {
        None | Some(Value::Null) => String::new(),
        Some(Value::String(text)) => text.clone(),
        Some(value) => value.to_string(),
    };
    let how = Upsert { replace: false, skip_deploys: given.get("skipDeploys").and_then(Value::as_bool) == Some(true) };
    let values = BTreeMap::from([(name.to_owned(), value)]);
    variable_collection_upsert(ctx, environment.project_id, environment.id, service, values, how).await?;
    Ok(json!({"success": true}))
}

async fn create_environment(ctx: &OpCtx, given: &Map<String, Value>) -> Result<Value, Error> {
    let name = text(given, "name").ok_or_else(|| Error::bad_input("name: the environment needs one"))?;
    let made = environment_create(
        ctx,
        EnvironmentCreate {
            project: ProjectId(id(given, "projectId")?),
            name: name.to_owned(),
            source: maybe_id(given, "sourceEnvironmentId")?.map(EnvironmentId),
            ephemeral: false,
            skip_deploys: given.get("skipDeploys").and_then(Value::as_bool) == Some(true),
        },
    )
    .await?;
    Ok(json!({"environmentId": made.row.id.to_string(), "name": made.row.name}))
}

async fn apps(ctx: &OpCtx) -> Result<Value, Error> {
    // Of one workspace: what is below the projects is read with its tenant.
    let own = ctx.user().ok().and_then(|_| crate::project::default_workspace(ctx));
    let projects = crate::project::projects(ctx, own, &PageRequest::default(), false).await?.items;
    let Some(tenant) = projects.first().map(|project| project.tenant) else { return Ok(json!({"items": []})) };
    let ids: Vec<ProjectId> = projects.iter().map(|project| project.row.id).collect();
    let environments = ctx.ops.store.environments_of(tenant, &ids).await?;
    let services = ctx.ops.store.services_of(tenant, &ids).await?;
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

/// What a service has used lately: averages over the window, and points.
async fn measured(ctx: &OpCtx, given: &Map<String, Value>) -> Result<Value, Error> {
    let (environment, service) = place(given)?;
    let minutes = i64::from(count(given, "minutes", 10, 10_080)?.max(1));
    let place = MetricPlace { environment: Some(environment), service: Some(service), ..MetricPlace::default() };
    let to = ctx.now.as_second();
    let window = MetricWindow { from: to - minutes * 60, to, step: (minutes * 60 / POINTS).max(STEP) };
    let found = metrics(ctx, place, window, &BTreeSet::new()).await?;
    let points: Vec<Point> = found.into_iter().flat_map(|(_, points)| points).filter(|point| point.measured).collect();
    #[expect(clippy::cast_precision_loss, reason = "far fewer than 2^52 points")]
    let average = |of: fn(&Point) -> f64| points.iter().map(of).sum::<f64>() / points.len().max(1) as f64;
    let shape = |point: &Point| {
        json!({
            "at": Timestamp::from_second(point.at).map(time).unwrap_or_default(),
            "cpu": point.usage.cpu,
            "memoryBytes": point.usage.memory,
            "connections": point.usage.connections,
            "receivedBytes": point.network_rx,
            "sentBytes": point.network_tx,
        })
    };
    Ok(json!({
        "cpu": average(|point| point.usage.cpu),
        "memoryBytes": average(|point| point.usage.memory),
        "connections": average(|point| point.usage.connections),
        "items": points.iter().map(shape).collect::<Vec<_>>(),
    }))
}

async fn logs(ctx: &OpCtx, given: &Map<String, Value>) -> Result<Value, Error> {
    let scope: LogScope = crate::logs::deployment_logs(ctx, target(ctx, given, &[]).await?).await?;
    let filter = Filter::parse(text(given, "filter").unwrap_or_default()).map_err(|error| Error::bad_input(error.to_string()))?;
    let limit = count(given, "limit", 100, 500)? as usize;
    let query = LogQuery { scope, filter, after: None, before: None, limit, newest: true };
    let lines = ctx.ops.telemetry.query(&query).map_err(|error| Error::internal("logs", error))?;
    let lines = lines
        .into_iter()
        .map(|line| json!({"timestamp": telemetry::timestamp(line.nanos), "severity": line.severity.as_str(), "message": line.message}));
    Ok(json!({"items": lines.collect::<Vec<_>>()}))
}

/// Where a database of a project is asked, in the order in which they are looked for.
const DATABASE_VARIABLES: [&str; 2] = ["DATABASE_URL", "MYSQL_URL"];

/// The address of the database that a service is or refers to, with its password. It leads to a service of the same environment: what else
/// listens on this machine is nobody's to ask.
///
/// # Errors
/// Not found, a role that may not read secrets, no such variable, or an address that leads elsewhere.
pub async fn database_url(ctx: &OpCtx, environment: &str, service: &str) -> Result<Url, Error> {
    let bad = |name: &'static str| move |_| Error::bad_input(format!("{name} is an id such as list_apps gives"));
    let environment = EnvironmentId(Uuid::parse_str(environment).map_err(bad("environment_id"))?);
    let service = ServiceId(Uuid::parse_str(service).map_err(bad("service_id"))?);
    let opened = environment_get(ctx, environment).await?;
    let variables = variables(ctx, opened.row.project_id, environment, Some(service), View::Rendered).await?;
    let named = DATABASE_VARIABLES.into_iter().find_map(|name| Some((name, variables.get(name)?.as_deref()?)));
    let absent =
        || Error::conflict("This service has neither DATABASE_URL nor MYSQL_URL: name a database, or a service that refers to one");
    let (name, text) = named.ok_or_else(absent)?;
    // The text holds a password, and is not repeated.
    let url = Url::parse(text).map_err(|_| Error::conflict(format!("{name} of this service is no address of a database")))?;
    let local = matches!(url.host_str(), Some("127.0.0.1" | "localhost"));
    let proxies = ctx.ops.store.tcp_proxies_of_environments(opened.tenant, &[environment]).await?;
    let ours = url.port().is_some_and(|port| proxies.iter().any(|proxy| proxy.proxy_port == port));
    if local && ours {
        return Ok(url);
    }
    Err(Error::conflict(format!("{name} of this service does not lead to a database of its environment: only those can be asked")))
}
