//! What can be done.

use std::sync::Arc;

use juniper::graphql_object;

use super::app::{App, Domain};
use super::container::Container;
use super::inputs::{AppSettingsInput, DomainInput, NotificationSettingsInput, TriggerInput};
use super::notification::NotificationSettings;
use super::trigger::Trigger;
use crate::graphql::{Ctx, Fault, Scalar};

/// The root of mutations.
pub struct Mutation;

/// A hostname after a change. The oldest one of a service names its app.
fn saved(ctx: &Ctx, row: domain::project::Domain) -> Result<Domain, Fault> {
    let all = ctx.wait(ops::domain_name::domains(&ctx.op, row.project_id, row.environment_id, row.service_id))?;
    let primary = all.row.first().is_some_and(|first| first.id == row.id);
    Ok(Domain { row: Arc::new(row), primary })
}

#[graphql_object(context = Ctx, scalar = Scalar)]
impl Mutation {
    /// Replaces a container by a fresh one. The only container of an app is seen to be gone before.
    fn kill_container(ctx: &Ctx, app_id: String, container_id: String) -> Result<Option<Container>, Fault> {
        let killed = ctx.wait(ops::app::container_kill(&ctx.op, &app_id, &container_id))?;
        let (app, replica) = killed.row;
        Ok(Some(Container { tenant: killed.tenant, instance: app.instance.id, row: Arc::new(replica), of: None }))
    }
    /// Takes a hostname from its app. The one that names the app stays.
    fn remove_domain(ctx: &Ctx, domain_id: String) -> Result<Option<bool>, Fault> {
        ctx.wait(ops::app::domain_remove(&ctx.op, &domain_id))?;
        Ok(Some(true))
    }
    /// Takes a hostname's certificate away, with its private key.
    fn remove_domain_certificate(ctx: &Ctx, domain_id: String) -> Result<Option<Domain>, Fault> {
        let id = domain_id.trim().parse::<domain::DomainId>().map_err(|_| Fault::not_found("Domain"))?;
        let row = ctx.wait(ops::certificate::domain_certificate_remove(&ctx.op, id))?;
        Ok(Some(saved(ctx, row)?))
    }
    /// Makes an app follow its account's settings of notifications again.
    fn remove_notification_settings(ctx: &Ctx, app_id: String) -> Result<Option<bool>, Fault> {
        ctx.wait(ops::app::notification_settings_set(&ctx.op, None, Some(&app_id), None))?;
        Ok(Some(true))
    }
    /// Removes a trigger with the log of its runs.
    fn remove_trigger(ctx: &Ctx, trigger_id: String) -> Result<Option<bool>, Fault> {
        ctx.wait(ops::app::trigger_remove(&ctx.op, &trigger_id))?;
        Ok(Some(true))
    }
    /// Deploys one of the last ten versions again, without a build.
    fn restore_version(ctx: &Ctx, app_id: String, version_id: String) -> Result<Option<App>, Fault> {
        Ok(Some(App::new(ctx, ctx.wait(ops::app::version_restore(&ctx.op, &app_id, &version_id))?)))
    }
    /// Gives an app another hostname, or changes how one of its hostnames deals with TLS. Where certificates are ordered, it gets one.
    fn save_domain(ctx: &Ctx, domain: DomainInput) -> Result<Option<Domain>, Fault> {
        let row = ctx.wait(ops::app::domain_save(&ctx.op, domain.save()?))?;
        Ok(Some(saved(ctx, row)?))
    }
    /// Says whom an account or an app tells of what.
    fn save_notification_settings(
        ctx: &Ctx,
        notification_settings: NotificationSettingsInput,
    ) -> Result<Option<NotificationSettings>, Fault> {
        let input = notification_settings;
        let settings = input.settings();
        let saved =
            ops::app::notification_settings_set(&ctx.op, input.username.as_deref(), input.app_id.as_deref(), Some(settings.clone()));
        ctx.wait(saved)?;
        Ok(Some(NotificationSettings(settings)))
    }
    /// Makes a trigger or changes one; it runs in the next round.
    fn save_trigger(ctx: &Ctx, trigger: TriggerInput) -> Result<Option<Trigger>, Fault> {
        let saved = ctx.wait(ops::app::trigger_save(&ctx.op, trigger.into()))?;
        Ok(Some(Trigger(Arc::new(saved.row))))
    }
    /// Changes settings of an app; they hold at once, without a restart.
    fn set_app_settings(ctx: &Ctx, app_id: String, settings: AppSettingsInput) -> Result<Option<App>, Fault> {
        Ok(Some(App::new(ctx, ctx.wait(ops::app::app_settings_set(&ctx.op, &app_id, settings.into()))?)))
    }
    /// Sets the number of containers; those that run go on.
    fn set_container_count_for_app(ctx: &Ctx, app_id: String, container_count: i32) -> Result<Option<App>, Fault> {
        Ok(Some(App::new(ctx, ctx.wait(ops::app::container_count_set(&ctx.op, &app_id, container_count))?)))
    }
    /// Gives all containers another size, by replacing each of them.
    fn set_container_type(ctx: &Ctx, app_id: String, container_type: String) -> Result<Option<App>, Fault> {
        Ok(Some(App::new(ctx, ctx.wait(ops::app::container_type_set(&ctx.op, &app_id, &container_type))?)))
    }
    /// Sets `METEOR_SETTINGS`, a JSON object of at most 32 KB, and deploys it.
    fn set_meteor_settings(ctx: &Ctx, app_id: String, settings: String) -> Result<Option<App>, Fault> {
        Ok(Some(App::new(ctx, ctx.wait(ops::app::meteor_settings_set(&ctx.op, &app_id, &settings))?)))
    }
    /// Starts a stopped app.
    fn start_app(ctx: &Ctx, app_id: String) -> Result<Option<App>, Fault> {
        Ok(Some(App::new(ctx, ctx.wait(ops::app::app_start(&ctx.op, &app_id))?)))
    }
    /// Ends all containers; settings, logs and versions stay.
    fn stop_app(ctx: &Ctx, app_id: String) -> Result<Option<App>, Fault> {
        Ok(Some(App::new(ctx, ctx.wait(ops::app::app_stop(&ctx.op, &app_id))?)))
    }
    /// Moves an app to another account, where it starts anew under the same hostnames and another id. One with a volume stays.
    fn transfer_app(ctx: &Ctx, app_id: String, username: String) -> Result<Option<App>, Fault> {
        Ok(Some(App::new(ctx, ctx.wait(ops::app::app_transfer(&ctx.op, &app_id, &username))?)))
    }
}
