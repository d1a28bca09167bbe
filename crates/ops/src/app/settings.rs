//! Settings of an app.

use domain::Permission;
use domain::galaxy::{SETTINGS, settings_check};
use domain::spec::DeploySpec;
use serde_json::{Value, json};
use store::Change;

use super::{App, app_for, commit};
use crate::context::{Opened, anew};
use crate::variable::{Upsert, variable_collection_upsert};
use crate::{Error, OpCtx};

/// Settings to change; what is absent stays.
#[derive(Clone, Copy, Debug, Default)]
pub struct AppPatch {
    /// Seconds between SIGTERM and SIGKILL, 10 to 600.
    pub stop_grace_seconds: Option<i32>,
    /// Containers that stop answering are replaced.
    pub unhealthy_replacement: Option<bool>,
    /// Visitors stay on the same container by cookie.
    pub sticky: Option<bool>,
    /// It stops for lack of connections, and the next request starts it.
    pub cold_start: Option<bool>,
}

/// Changes settings of an app. They hold at once, without a restart.
///
/// # Errors
/// Out of range, not found, or not allowed.
pub async fn app_settings_set(ctx: &OpCtx, app_id: &str, patch: AppPatch) -> Result<Opened<App>, Error> {
    anew(|| set(ctx, app_id, patch)).await
}

async fn set(ctx: &OpCtx, app_id: &str, patch: AppPatch) -> Result<Opened<App>, Error> {
    let mut app = app_for(ctx, app_id, Permission::Write).await?;
    let before = app.row.instance.spec.clone();
    let deploy = &mut app.row.instance.spec.deploy;
    if let Some(seconds) = patch.stop_grace_seconds {
        let taken = u32::try_from(seconds).ok().filter(|seconds| (10..=600).contains(seconds));
        deploy.draining_seconds =
            taken.ok_or_else(|| Error::bad_input(format!("the stop grace period is {seconds} seconds: it may be 10 to 600")))?;
    }
    deploy.unhealthy_replacement = patch.unhealthy_replacement.unwrap_or(deploy.unhealthy_replacement);
    deploy.sticky = patch.sticky.unwrap_or(deploy.sticky);
    deploy.sleep_application = patch.cold_start.unwrap_or(deploy.sleep_application);
    if app.row.instance.spec == before {
        return Ok(app);
    }
    let seen = std::mem::replace(&mut app.row.instance.updated_at, ctx.now);
    let instance = app.row.instance.clone();
    let data = difference(&before.deploy, &instance.spec.deploy);
    let activity = ctx.activity_of(app.tenant, &instance, "app_settings_set", instance.id, data);
    commit(ctx, app.tenant, instance.id, vec![Change::InstanceUpdate { row: instance, seen }, activity]).await?;
    Ok(app)
}

/// What is another setting now.
fn difference(before: &DeploySpec, after: &DeploySpec) -> Value {
    let settings = |deploy: &DeploySpec| {
        [
            ("stopGraceSeconds", json!(deploy.draining_seconds)),
            ("unhealthyReplacement", json!(deploy.unhealthy_replacement)),
            ("sticky", json!(deploy.sticky)),
            ("coldStart", json!(deploy.sleep_application)),
        ]
    };
    let changed = settings(before).into_iter().zip(settings(after)).filter(|(before, after)| before != after);
    changed.map(|(_, (name, value))| (name.to_owned(), value)).collect()
}

/// Sets `METEOR_SETTINGS`, which is deployed at once.
///
/// # Errors
/// Not JSON, too large, not found, or not allowed.
pub async fn meteor_settings_set(ctx: &OpCtx, app_id: &str, settings: &str) -> Result<Opened<App>, Error> {
    let app = app_for(ctx, app_id, Permission::Write).await?;
    settings_check(settings).map_err(Error::bad_input)?;
    let instance = &app.row.instance;
    let values = [(SETTINGS.to_owned(), settings.to_owned())].into();
    let how = Upsert { replace: false, skip_deploys: false };
    variable_collection_upsert(ctx, instance.project_id, instance.environment_id, Some(instance.service_id), values, how).await?;
    let activity = ctx.activity_of(app.tenant, instance, "meteor_settings_set", instance.id, json!({"bytes": settings.len()}));
    ctx.commit(app.tenant, vec![activity]).await?;
    Ok(app)
}
