//! A server with people, projects and deployments in it.

use std::collections::BTreeMap;
use std::time::Duration;

use api::graphql::{Engine, GraphqlRequest};
use domain::account::Session;
use domain::delivery::{Delivery, DeliveryState, RULE_DELIVERIES, Target};
use domain::deployment::{DeploymentStatus, EventStep};
use domain::log::{LogKind, LogLine, LogSource, Severity};
use domain::volume::VolumeInstance;
use domain::{
    ApiKeyId, BackupId, DeliveryId, DeploymentId, DomainId, EnvironmentPatchId, InstanceId, NotificationRuleId, ReplicaId, Role, ServiceId,
    SessionId, TcpProxyId, Tenant, Timestamp, TriggerId, UserId, VolumeId, VolumeInstanceId, WorkspaceId,
};
use ops::app::TriggerInput;
use ops::auth::{Presented, Surface, authenticate};
use ops::deployment::{Blob, Upload};
use ops::notification_rule::NotificationRuleCreate;
use ops::plugin::PluginCreate;
use ops::service::ServiceCreate;
use ops::{OpCtx, Principal};
use secrecy::{ExposeSecret, SecretString};
use serde_json::{Map, Value, json};
use store::{AccountChange, Change};

use crate::server::{Person, Server};

pub(crate) struct World {
    pub(crate) server: Server,
    pub(crate) engine: Engine,
}

/// What one person has: one of everything.
pub(crate) struct Estate {
    pub(crate) person: Person,
    pub(crate) workspace: WorkspaceId,
    pub(crate) environment_patch: EnvironmentPatchId,
    pub(crate) service: ServiceId,
    pub(crate) service_instance: InstanceId,
    pub(crate) deployment: DeploymentId,
    pub(crate) service_domain: DomainId,
    pub(crate) custom_domain: DomainId,
    /// A database, its volume with a backup, and its port.
    pub(crate) plugin: ServiceId,
    pub(crate) volume: VolumeId,
    pub(crate) volume_instance: VolumeInstanceId,
    pub(crate) backup: BackupId,
    pub(crate) tcp_proxy: TcpProxyId,
    pub(crate) trigger: TriggerId,
    /// Of their project.
    pub(crate) notification_rule: NotificationRuleId,
    /// What that rule has sent, in vain.
    pub(crate) rule_message: DeliveryId,
    /// A browser in which the person is signed in.
    pub(crate) session: SessionId,
    pub(crate) account_key: ApiKeyId,
    pub(crate) project_key: ApiKeyId,
    /// A project token's secret.
    pub(crate) project_token: String,
}

impl World {
    pub(crate) async fn start() -> Self {
        Self { server: Server::start().await, engine: Engine::new(ops::auth::Surface::Railway) }
    }

    pub(crate) fn ctx(&self, principal: Principal) -> OpCtx {
        OpCtx { ops: self.server.ops.clone(), principal, request_id: "r-1".into(), address: None, now: Timestamp::now() }
    }

    pub(crate) async fn bearer(&self, token: &str) -> Principal {
        authenticate(&self.server.ops, Surface::Railway, Presented::Bearer(SecretString::from(token)), Timestamp::now(), None)
            .await
            .unwrap()
    }

    pub(crate) async fn project_token(&self, token: &str) -> Principal {
        authenticate(&self.server.ops, Surface::Railway, Presented::ProjectToken(SecretString::from(token)), Timestamp::now(), None)
            .await
            .unwrap()
    }

    /// Status and body.
    pub(crate) async fn send(&self, principal: &Principal, query: &str, variables: Value) -> (u16, Value) {
        let variables = match variables {
            Value::Object(map) => Some(map),
            _ => None::<Map<String, Value>>,
        };
        let request = GraphqlRequest { query: query.to_owned(), variables, operation_name: None, extensions: None };
        let response = self.engine.execute(self.ctx(principal.clone()), request).await;
        (response.status, serde_json::from_slice(&response.body).unwrap())
    }

    /// The data of an answer without errors.
    pub(crate) async fn data(&self, principal: &Principal, query: &str, variables: Value) -> Value {
        let (status, body) = self.send(principal, query, variables).await;
        assert_eq!(status, 200, "{body:#}");
        assert_eq!(body.get("errors"), None, "{body:#}");
        body["data"].clone()
    }

    /// The same at another moment.
    pub(crate) async fn data_at(&self, principal: &Principal, now: Timestamp, query: &str) -> Value {
        let request = GraphqlRequest { query: query.to_owned(), variables: None, operation_name: None, extensions: None };
        let response = self.engine.execute(OpCtx { now, ..self.ctx(principal.clone()) }, request).await;
        let body: Value = serde_json::from_slice(&response.body).unwrap();
        assert_eq!((response.status, body.get("errors")), (200, None), "{body:#}");
        body["data"].clone()
    }

    /// The first error of an answer without data.
    pub(crate) async fn error(&self, principal: &Principal, query: &str, variables: Value) -> Value {
        let (_, body) = self.send(principal, query, variables).await;
        let error = body["errors"][0].clone();
        assert!(error.is_object(), "no error: {body:#}");
        assert_eq!(error["extensions"]["requestId"], json!("r-1"));
        error
    }

    pub(crate) async fn estate(&self, email: &str) -> Estate {
        let person = self.server.person(email, None).await;
        let ctx = self.server.ctx(&person.token).await;
        let service = ops::service::service_create(
            &ctx,
            ServiceCreate {
                project: person.project,
                environment: None,
                name: Some("web".into()),
                icon: None,
                source: None,
                variables: [("SECRET".to_owned(), "canary-7f3a".to_owned())].into(),
            },
        )
        .await
        .unwrap();
        let deployment = self.deploy(&ctx, &person, Some(service.row.id)).await;
        let instance = ops::service::service_instance_get(&ctx, person.environment, service.row.id).await.unwrap();
        let domains = ops::domain_name::domains(&ctx, person.project, person.environment, service.row.id).await.unwrap();
        let custom = ops::domain_name::custom_domain_create(
            &ctx,
            ops::domain_name::CustomDomainCreate {
                project: person.project,
                environment: person.environment,
                service: service.row.id,
                domain: format!("www.{}.test", email.split('@').next().unwrap()),
                target_port: None,
            },
        )
        .await
        .unwrap();
        let (plugin, mounted, backup, tcp_proxy) = self.database(&ctx, &person).await;
        let (account_key, _) = ops::token::api_token_create(&ctx, "ci", None).await.unwrap();
        let (project_key, secret) = ops::token::project_token_create(&ctx, person.project, person.environment, "deploy").await.unwrap();
        let patch = json!({"services": {service.row.id.to_string(): {"variables": {"SECRET": {"value": "canary-7f3a"}}}}});
        let how = ops::environment_patch::Commit { message: None, skip_deploys: true };
        let patch = ops::environment_patch::environment_patch_commit(&ctx, person.environment, patch, how).await.unwrap();
        let notification_rule = self.notification_rule(&ctx, service.tenant.workspace(), &person).await;
        Estate {
            environment_patch: patch.id,
            workspace: service.tenant.workspace(),
            service: service.row.id,
            service_instance: instance.row.id,
            deployment,
            service_domain: domains.row[0].id,
            custom_domain: custom.id,
            plugin,
            volume: mounted.volume_id,
            volume_instance: mounted.id,
            backup,
            tcp_proxy,
            trigger: self.trigger(&ctx, &person, plugin).await,
            notification_rule,
            rule_message: self.rule_message(service.tenant.workspace(), notification_rule).await,
            session: self.session(service.tenant.workspace(), person.user.id).await,
            account_key: account_key.id,
            project_key: project_key.id,
            project_token: secret.expose_secret().to_owned(),
            person,
        }
    }

    async fn trigger(&self, ctx: &OpCtx, person: &Person, service: ServiceId) -> TriggerId {
        let rules = vec![("cpu".to_owned(), "above".to_owned(), 80.0)];
        let wanted = TriggerInput { name: "grow".into(), action: "add containers".into(), rules, ..TriggerInput::default() };
        ops::app::service_trigger_save(ctx, person.environment, service, wanted).await.unwrap().row.id
    }

    async fn notification_rule(&self, ctx: &OpCtx, workspace: WorkspaceId, person: &Person) -> NotificationRuleId {
        let wanted = NotificationRuleCreate {
            workspace,
            project: Some(person.project),
            channels: vec![json!({"type": "WEBHOOK", "url": "https://hooks.test/canary-7f3a", "secret": "canary-7f3a-long-enough"})],
            event_types: vec!["Deployment.failed".into()],
            severities: vec![],
            ephemeral_environments: None,
        };
        ops::notification_rule::notification_rule_create(ctx, wanted).await.unwrap().id
    }

    async fn rule_message(&self, workspace_id: WorkspaceId, rule: NotificationRuleId) -> DeliveryId {
        let now = Timestamp::now();
        let message = Delivery {
            id: DeliveryId::generate(),
            workspace_id,
            kind: RULE_DELIVERIES.into(),
            subject: rule.to_string(),
            target: Target::Webhook { url: "https://hooks.test/canary-7f3a".into(), headers: BTreeMap::new(), secret: None },
            body: "{}".into(),
            state: DeliveryState::Failed,
            attempts: 8,
            tries: 8,
            next_at: now,
            created_at: now,
            updated_at: now,
        };
        let id = message.id;
        self.server.ops.store.commit(Tenant::system(workspace_id), vec![Change::DeliveryInsert(message)]).await.unwrap();
        id
    }

    async fn session(&self, workspace: WorkspaceId, user_id: UserId) -> SessionId {
        let (id, created_at) = (SessionId::generate(), Timestamp::now());
        let session = Session { id, user_id, created_at, expires_at: created_at + Duration::from_secs(3_600), address: None, agent: None };
        let begins = AccountChange::SessionInsert { session, hash: domain::key::hash(&id.to_string()) };
        self.server.ops.store.commit(Tenant::system(workspace), vec![Change::Account(begins)]).await.unwrap();
        id
    }

    async fn database(&self, ctx: &OpCtx, person: &Person) -> (ServiceId, VolumeInstance, BackupId, TcpProxyId) {
        let wanted =
            PluginCreate { name: "redis".into(), project: person.project, environment: Some(person.environment), friendly_name: None };
        let (plugin, _) = ops::plugin::plugin_create(ctx, wanted).await.unwrap();
        let (tenant, id) = (plugin.tenant, plugin.row.id);
        let mounted = ctx.ops.store.volume_instance_of_service(tenant, person.environment, id).await.unwrap().unwrap();
        let backup = ops::backup::volume_instance_backup_create(ctx, mounted.id, None).await.unwrap();
        let proxies = ops::tcp_proxy::tcp_proxies(ctx, person.environment, id).await.unwrap();
        (id, mounted, backup.id, proxies.row[0].id)
    }

    pub(crate) async fn deploy(&self, ctx: &OpCtx, person: &Person, service: Option<ServiceId>) -> DeploymentId {
        let upload = Upload {
            project: person.project,
            environment: person.environment,
            service,
            blob: Blob { sha256: "0".repeat(64), bytes: 1 },
            message: Some("first".into()),
        };
        ops::deployment::deployment_create(ctx, upload).await.unwrap().row.deployment.id
    }

    /// What the engine would do.
    pub(crate) async fn moved(
        &self,
        workspace: WorkspaceId,
        id: DeploymentId,
        from: DeploymentStatus,
        to: DeploymentStatus,
        why: Option<&str>,
    ) {
        let change = Change::DeploymentMove { id, from, to, reason: why.map(str::to_owned), at: Timestamp::now() };
        self.server.ops.store.commit(Tenant::system(workspace), vec![change]).await.unwrap();
        self.server.ops.signals.deployment_changed(id);
    }

    pub(crate) async fn failed_step(&self, workspace: WorkspaceId, deployment: DeploymentId, step: EventStep, why: &str) {
        let change = Change::EventComplete { deployment, step, at: Timestamp::now(), error: Some(why.into()), detail: None };
        self.server.ops.store.commit(Tenant::system(workspace), vec![change]).await.unwrap();
        self.server.ops.signals.deployment_changed(deployment);
    }

    pub(crate) async fn member(&self, workspace: WorkspaceId, user: UserId, role: Role) {
        let change = Change::MemberSet { user, role };
        self.server.ops.store.commit(Tenant::system(workspace), vec![change]).await.unwrap();
    }

    /// Appends lines to a deployment's log, one nanosecond apart.
    pub(crate) async fn log(&self, estate: &Estate, kind: LogKind, lines: &[(Severity, &str)]) {
        let store = &self.server.ops.store;
        let row = store.deployment(estate.deployment).await.unwrap().unwrap().open(Tenant::system(estate.workspace)).unwrap();
        let source = LogSource {
            workspace_id: row.workspace_id,
            project_id: row.project_id,
            environment_id: row.environment_id,
            service_id: row.service_id,
            deployment_id: row.id,
            snapshot_id: row.snapshot_id,
            replica_id: (kind == LogKind::Deploy).then(ReplicaId::generate),
            kind,
        };
        let now = i64::try_from(Timestamp::now().as_nanosecond()).unwrap();
        let line = |(at, (severity, message)): (usize, &(Severity, &str))| LogLine {
            nanos: now + at as i64,
            source: source.clone(),
            severity: *severity,
            message: (*message).to_owned(),
            attributes: vec![("ms".into(), "12".into())],
        };
        self.server.ops.telemetry.append(lines.iter().enumerate().map(line).collect()).await.unwrap();
    }
}

/// The ids that a stranger must never see.
pub(crate) fn ids(estate: &Estate) -> Vec<String> {
    let Estate {
        person,
        workspace,
        environment_patch,
        service,
        deployment,
        service_domain,
        custom_domain,
        account_key,
        project_key,
        project_token,
        ..
    } = estate;
    vec![
        person.project.to_string(),
        person.environment.to_string(),
        person.user.id.to_string(),
        workspace.to_string(),
        environment_patch.to_string(),
        service.to_string(),
        estate.service_instance.to_string(),
        deployment.to_string(),
        service_domain.to_string(),
        custom_domain.to_string(),
        estate.plugin.to_string(),
        estate.volume.to_string(),
        estate.volume_instance.to_string(),
        estate.backup.to_string(),
        estate.tcp_proxy.to_string(),
        estate.trigger.to_string(),
        estate.notification_rule.to_string(),
        estate.rule_message.to_string(),
        estate.session.to_string(),
        account_key.to_string(),
        project_key.to_string(),
        project_token.clone(),
        "canary-7f3a".to_owned(),
    ]
}
