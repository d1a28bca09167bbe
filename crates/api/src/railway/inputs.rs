//! Inputs of mutations, and their way into the verbs' own types.

use std::collections::BTreeMap;

use domain::spec::{Limits, Source};
use juniper::GraphQLInputObject;
use ops::service::InstancePatch;
use serde_json::Value as Json;
use uuid::Uuid;

use super::enums::{Builder, DeploymentStatus, RestartPolicyType, VolumeState};
use crate::graphql::scalar::{EnvironmentVariables, JSON, SerializedTemplateConfig};
use crate::graphql::{Ctx, Fault, Scalar};

/// Reads an id; a text that is none belongs to nothing.
pub(crate) fn id<T>(what: &str, text: &str, make: impl Fn(Uuid) -> T) -> Result<T, Fault> {
    Uuid::parse_str(text).map(make).map_err(|_| Fault::not_found(what))
}

/// The same for an id that may be left out; an empty text counts as left out.
pub(crate) fn id_option<T>(what: &str, text: Option<&str>, make: impl Fn(Uuid) -> T) -> Result<Option<T>, Fault> {
    text.filter(|text| !text.is_empty()).map(|text| id(what, text, make)).transpose()
}

/// Reads a port.
pub(crate) fn port(value: Option<i32>) -> Result<Option<u16>, Fault> {
    value
        .map(|value| {
            u16::try_from(value).ok().filter(|port| *port > 0).ok_or_else(|| Fault::bad_input(format!("{value} is not a port: 1 to 65535")))
        })
        .transpose()
}

/// Reads variables with their values.
pub(crate) fn variables(given: &EnvironmentVariables) -> Result<BTreeMap<String, String>, Fault> {
    let Json::Object(fields) = &*given.0 else {
        return Err(Fault::bad_input("variables must be an object that maps names to texts"));
    };
    fields
        .iter()
        .map(|(name, value)| match value {
            Json::String(text) => Ok((name.clone(), text.clone())),
            Json::Number(_) | Json::Bool(_) => Ok((name.clone(), value.to_string())),
            Json::Null | Json::Array(_) | Json::Object(_) => Err(Fault::bad_input(format!(
                "the value of {name} is not a text: write it as one, or delete the variable with variableDelete"
            ))),
        })
        .collect()
}

macro_rules! inputs {
    ($($(#[$doc:meta])* $name:ident { $($(#[$attribute:meta])* $field:ident: $kind:ty),+ $(,)? })+) => {$(
        $(#[$doc])*
        #[derive(Clone, Debug, GraphQLInputObject)]
        #[graphql(context = Ctx, scalar = Scalar)]
        pub(crate) struct $name { $($(#[$attribute])* pub(crate) $field: $kind),+ }
    )+};
}

inputs! {
    /// Which deployments are wanted.
    DeploymentListInput {
        environment_id: Option<String>, project_id: Option<String>, service_id: Option<String>, status: Option<DeploymentStatusInput>,
    }
    /// The service in an environment that is to run once.
    DeploymentInstanceExecutionCreateInput { service_instance_id: String }
    /// The deployment whose runs are watched.
    DeploymentInstanceExecutionInput { deployment_id: String }
    /// The service in an environment whose runs are wanted.
    DeploymentInstanceExecutionListInput { environment_id: String, service_id: String }
    /// Statuses that are wanted and that are not.
    DeploymentStatusInput { #[graphql(name = "in")] within: Option<Vec<DeploymentStatus>>, not_in: Option<Vec<DeploymentStatus>> }
    /// A new project. `teamId` is how clients before 2026 name the workspace.
    ProjectCreateInput {
        default_environment_name: Option<String>, description: Option<String>, is_public: Option<bool>, name: Option<String>,
        pr_deploys: Option<bool>, workspace_id: Option<String>, team_id: Option<String>,
    }
    /// Changes of a project.
    ProjectUpdateInput { description: Option<String>, is_public: Option<bool>, name: Option<String>, pr_deploys: Option<bool> }
    /// A new environment.
    EnvironmentCreateInput {
        apply_changes_in_background: Option<bool>, ephemeral: Option<bool>, name: String, project_id: String,
        skip_initial_deploys: Option<bool>, source_environment_id: Option<String>,
    }
    /// A new name for an environment.
    EnvironmentRenameInput { name: String }
    /// Which service is deployed again.
    EnvironmentTriggersDeployInput { environment_id: String, project_id: String, service_id: String }
    /// Where a service's code is to come from.
    ServiceConnectInput { branch: Option<String>, image: Option<String>, repo: Option<String> }
    /// The limits of each running copy; what is left out stays.
    ServiceInstanceLimitsUpdateInput {
        environment_id: String, #[graphql(name = "memoryGB")] memory_gb: Option<f64>, service_id: String,
        #[graphql(name = "vCPUs")] v_cpus: Option<f64>,
    }
    /// Where the code comes from.
    ServiceSourceInput { image: Option<String>, repo: Option<String> }
    /// A new service.
    ServiceCreateInput {
        branch: Option<String>, environment_id: Option<String>, icon: Option<String>, name: Option<String>, project_id: String,
        source: Option<ServiceSourceInput>, variables: Option<EnvironmentVariables>,
    }
    /// Changes of a service.
    ServiceUpdateInput { icon: Option<String>, name: Option<String> }
    /// Changes of a service's settings in an environment. A schedule that is null is taken away.
    ServiceInstanceUpdateInput {
        build_command: Option<String>, builder: Option<Builder>, cron_schedule: juniper::Nullable<String>, dockerfile_path: Option<String>,
        draining_seconds: Option<i32>, healthcheck_path: Option<String>, healthcheck_timeout: Option<i32>,
        multi_region_config: Option<JSON>, num_replicas: Option<i32>, overlap_seconds: Option<i32>,
        pre_deploy_command: Option<Vec<String>>, railway_config_file: Option<String>, region: Option<String>,
        restart_policy_max_retries: Option<i32>, restart_policy_type: Option<RestartPolicyType>, root_directory: Option<String>,
        sleep_application: Option<bool>, source: Option<ServiceSourceInput>, start_command: Option<String>,
        sticky_sessions: Option<bool>, unhealthy_container_replacement: Option<bool>, watch_patterns: Option<Vec<String>>,
    }
    /// A new volume. Without an environment, it gets an instance in every one; with null, in none.
    VolumeCreateInput {
        environment_id: juniper::Nullable<String>, mount_path: String, project_id: String, region: Option<String>, service_id: Option<String>,
    }
    /// Changes of a volume.
    VolumeUpdateInput { name: Option<String> }
    /// Changes of a volume in an environment. A service that is null detaches it; the state DELETED, by itself, takes it out of there.
    VolumeInstanceUpdateInput {
        mount_path: Option<String>, service_id: juniper::Nullable<String>, state: Option<VolumeState>,
    }
    /// A TCP port for a service.
    TCPProxyCreateInput { application_port: i32, environment_id: String, service_id: String }
    /// A template that is to be deployed.
    TemplateDeployV2Input {
        environment_id: Option<String>, existing_root_service_id: Option<String>, project_id: Option<String>,
        serialized_config: SerializedTemplateConfig, stage_only: Option<bool>, template_id: String, workspace_id: Option<String>,
        team_id: Option<String>,
    }
    /// A new database: `name` and `projectId`, or `data` with both as clients of 2022 send them.
    PluginCreateInput {
        data: Option<PluginCreateDataInput>, environment_id: Option<String>, friendly_name: Option<String>, name: Option<String>,
        project_id: Option<String>,
    }
    /// A new database, in the shape of 2022.
    PluginCreateDataInput { name: String, project_id: String }
    /// Where a database is restarted.
    PluginRestartInput { environment_id: Option<String> }
    /// Changes of a database.
    PluginUpdateInput { friendly_name: String }
    /// Where a database is emptied.
    ResetPluginInput { environment_id: String }
    /// Where a database gets new credentials.
    ResetPluginCredentialsInput { environment_id: String }
    /// A domain under the server's own.
    ServiceDomainCreateInput { environment_id: String, service_id: String, target_port: Option<i32> }
    /// Changes of a service domain.
    ServiceDomainUpdateInput {
        domain: String, environment_id: String, service_domain_id: String, service_id: String, target_port: Option<i32>,
    }
    /// A domain of the user's own.
    CustomDomainCreateInput {
        domain: String, environment_id: String, project_id: String, service_id: String, target_port: Option<i32>,
    }
    /// A variable.
    VariableUpsertInput {
        environment_id: String, name: String, project_id: String, service_id: Option<String>,
        #[graphql(default = Some(false))] skip_deploys: Option<bool>, value: String,
    }
    /// Variables.
    VariableCollectionUpsertInput {
        environment_id: String, project_id: String, #[graphql(default = Some(false))] replace: Option<bool>, service_id: Option<String>,
        #[graphql(default = Some(false))] skip_deploys: Option<bool>, variables: EnvironmentVariables,
    }
    /// Which variable goes.
    VariableDeleteInput { environment_id: String, name: String, project_id: String, service_id: Option<String> }
    /// A new account or workspace token.
    ApiTokenCreateInput { name: String, workspace_id: Option<String> }
    /// A new token of an environment.
    ProjectTokenCreateInput { environment_id: String, name: String, project_id: String }
    /// A command-line client's report on a command; dropped.
    CliEventTrackInput {
        agent_session_id: Option<String>, arch: String, caller: Option<String>, cli_version: String, command: String, duration_ms: i32,
        environment_id: Option<String>, error_class: Option<String>, error_message: Option<String>, install_request_id: Option<String>,
        is_ci: bool, os: String, project_id: Option<String>, service_id: Option<String>, session_id: Option<String>,
        sub_command: Option<String>, success: bool, workspace_id: Option<String>,
    }
    /// A command-line client's report on a login; dropped.
    CliAuthEventTrackInput {
        agent_session_id: Option<String>, arch: Option<String>, caller: Option<String>, cli_version: Option<String>,
        error_message: Option<String>, install_request_id: Option<String>, is_ci: Option<bool>, os: Option<String>, outcome: String,
        session_id: Option<String>, success: bool, transport: String, transport_reason: Option<String>,
    }
    /// A command-line client's report on setting up an agent; dropped.
    SetupAgentEventTrackInput {
        agent_session_id: Option<String>, arch: Option<String>, caller: Option<String>, cli_version: Option<String>,
        configured_clients: Option<Vec<String>>, error_message: Option<String>, install_request_id: Option<String>, is_ci: Option<bool>,
        os: Option<String>, phase: String, session_id: Option<String>, success: Option<bool>,
    }
}

/// Features of projects that this server does not have can be named, and be off.
pub(crate) fn off(name: &str, value: Option<bool>) -> Result<(), Fault> {
    if value == Some(true) {
        return Err(Fault::bad_input(format!("{name} is not available on this server: leave it out or send false")));
    }
    Ok(())
}

impl ServiceSourceInput {
    /// Clients write "no source" as an empty object.
    pub(crate) fn source(self, branch: Option<String>) -> Result<Option<Source>, Fault> {
        let filled = |text: Option<String>| text.filter(|text| !text.is_empty());
        match (filled(self.image), filled(self.repo)) {
            (Some(_), Some(_)) => Err(Fault::bad_input("a source is either an image or a repository: send one of them")),
            (Some(image), None) => Ok(Some(Source::Image(image))),
            (None, Some(repo)) => Ok(Some(Source::Repo { repo, branch: filled(branch) })),
            (None, None) => Ok(None),
        }
    }
}

impl ServiceConnectInput {
    pub(crate) fn source(self) -> Result<Option<Source>, Fault> {
        ServiceSourceInput { image: self.image, repo: self.repo }.source(self.branch)
    }
}

impl ServiceInstanceLimitsUpdateInput {
    pub(crate) fn limits(&self) -> Result<Limits, Fault> {
        Limits::of(self.v_cpus, self.memory_gb.map(|gigabytes| gigabytes * 1e9)).map_err(|bad| Fault::bad_input(bad.0))
    }
}

fn count(name: &str, value: Option<i32>) -> Result<Option<u32>, Fault> {
    value.map(|value| u32::try_from(value).map_err(|_| Fault::bad_input(format!("{name} is {value}: it cannot be negative")))).transpose()
}

/// `{"<region>": {"numReplicas": n} | null}`.
fn multi_region(given: &JSON) -> Result<BTreeMap<String, u32>, Fault> {
    let wrong = || Fault::bad_input("multiRegionConfig must look like {\"<region>\": {\"numReplicas\": 1}}");
    let Json::Object(fields) = &*given.0 else { return Err(wrong()) };
    fields
        .iter()
        .filter(|(_, value)| !value.is_null())
        .map(|(region, value)| {
            let replicas = value.get("numReplicas").and_then(Json::as_u64).and_then(|count| u32::try_from(count).ok());
            Ok((region.clone(), replicas.ok_or_else(wrong)?))
        })
        .collect()
}

impl ServiceInstanceUpdateInput {
    pub(crate) fn patch(self) -> Result<InstancePatch, Fault> {
        let replicas = count("numReplicas", self.num_replicas)?;
        let (regions, replicas) = match (self.multi_region_config, self.region.filter(|region| !region.is_empty())) {
            (Some(config), _) => (Some(multi_region(&config)?), None),
            (None, Some(region)) => (Some(BTreeMap::from([(region, replicas.unwrap_or(1))])), None),
            (None, None) => (None, replicas),
        };
        Ok(InstancePatch {
            build_command: self.build_command,
            builder: self.builder.map(|builder| builder.as_str().to_owned()),
            // An empty text takes a setting back.
            cron_schedule: match self.cron_schedule {
                juniper::Nullable::ImplicitNull => None,
                juniper::Nullable::ExplicitNull => Some(String::new()),
                juniper::Nullable::Some(text) => Some(text),
            },
            dockerfile_path: self.dockerfile_path,
            draining_seconds: count("drainingSeconds", self.draining_seconds)?,
            healthcheck_path: self.healthcheck_path,
            healthcheck_timeout: count("healthcheckTimeout", self.healthcheck_timeout)?,
            regions,
            replicas,
            overlap_seconds: count("overlapSeconds", self.overlap_seconds)?,
            pre_deploy_command: self.pre_deploy_command,
            config_file: self.railway_config_file,
            restart_policy_max_retries: count("restartPolicyMaxRetries", self.restart_policy_max_retries)?,
            restart_policy_type: self.restart_policy_type.map(Into::into),
            root_directory: self.root_directory,
            sleep_application: self.sleep_application,
            source: self.source.map(|source| source.source(None)).transpose()?.flatten(),
            start_command: self.start_command,
            sticky: self.sticky_sessions,
            unhealthy_replacement: self.unhealthy_container_replacement,
            watch_patterns: self.watch_patterns,
        })
    }
}
