//! Templates and what deploying them answers.

use domain::{EnvironmentId, ProjectId};
use juniper::{GraphQLObject, ID, graphql_object};
use ops::template::{Entry, TemplateDeploy, Workflow, catalogue};

use super::connection::connection;
use super::enums::{TemplateStatus, WorkflowStatus};
use super::inputs::{TemplateDeployV2Input, id_option, off};
use crate::graphql::scalar::SerializedTemplateConfig;
use crate::graphql::{Ctx, Fault, Scalar};

/// Services that are made together.
#[derive(Clone, Copy)]
pub(crate) struct Template(pub(crate) &'static Entry);

impl Template {
    /// By code or id; nobody needs a credential for what every installation has.
    pub(crate) fn find(code: Option<String>, id: Option<String>) -> Result<Self, Fault> {
        let wanted = code.or(id).ok_or_else(|| Fault::bad_input("name a template by its code or id"))?;
        ops::template::find(&wanted).map(Self).ok_or_else(|| Fault::not_found("Template"))
    }

    pub(crate) fn all() -> Vec<Self> {
        catalogue().iter().map(Self).collect()
    }

    pub(crate) fn cursor(&self) -> String {
        self.0.id()
    }
}

#[graphql_object(context = Ctx, scalar = Scalar)]
impl Template {
    fn category(&self) -> Option<&str> {
        Some(&self.0.template.category)
    }
    fn code(&self) -> &str {
        &self.0.template.code
    }
    /// Nothing of it runs to be looked at.
    fn demo_project_id(&self) -> Option<&str> {
        None
    }
    fn description(&self) -> Option<&str> {
        Some(&self.0.template.description)
    }
    fn id(&self) -> ID {
        ID::from(self.0.id())
    }
    /// The picture of its first service that has one.
    fn image(&self) -> Option<&str> {
        self.0.template.services.values().find_map(|service| service.icon.as_deref())
    }
    fn is_approved(&self) -> bool {
        true
    }
    fn is_v2_template(&self) -> bool {
        true
    }
    fn is_verified(&self) -> bool {
        true
    }
    fn name(&self) -> &str {
        &self.0.template.name
    }
    /// Its file has one sentence, which is the description.
    fn readme(&self) -> Option<&str> {
        None
    }
    fn serialized_config(&self) -> Option<SerializedTemplateConfig> {
        Some(self.0.serialized_config().into())
    }
    fn status(&self) -> TemplateStatus {
        TemplateStatus::Published
    }
    fn tags(&self) -> Option<&[String]> {
        Some(&self.0.template.tags)
    }
    /// Every installation has it.
    fn workspace_id(&self) -> Option<&str> {
        None
    }
}

/// A template as a search shows it.
#[derive(Clone, Copy)]
pub(crate) struct TemplateSearchResult(&'static Entry);

impl TemplateSearchResult {
    pub(crate) fn cursor(&self) -> String {
        self.0.id()
    }

    /// Those whose name, code, description or tags hold every word.
    pub(crate) fn search(query: &str, category: Option<&str>) -> Vec<Self> {
        let words: Vec<String> = query.split_whitespace().map(str::to_lowercase).collect();
        let holds = |entry: &&Entry| {
            let template = &entry.template;
            let all = [&template.code, &template.name, &template.description].into_iter().chain(&template.aliases).chain(&template.tags);
            let text = all.map(|text| text.to_lowercase()).collect::<Vec<_>>().join(" ");
            let here = category.is_none_or(|category| template.category.eq_ignore_ascii_case(category));
            here && words.iter().all(|word| text.contains(word))
        };
        catalogue().iter().filter(holds).map(Self).collect()
    }
}

#[graphql_object(context = Ctx, scalar = Scalar)]
impl TemplateSearchResult {
    fn code(&self) -> &str {
        &self.0.template.code
    }
    fn creator_name(&self) -> Option<&str> {
        Some("Orrery")
    }
    /// Nobody counts.
    fn deployment_count(&self) -> i32 {
        0
    }
    fn description(&self) -> Option<&str> {
        Some(&self.0.template.description)
    }
    fn health_score(&self) -> Option<f64> {
        None
    }
    fn id(&self) -> String {
        self.0.id()
    }
    fn image(&self) -> Option<&str> {
        None
    }
    fn is_verified(&self) -> bool {
        true
    }
    fn name(&self) -> &str {
        &self.0.template.name
    }
}

connection! {
    /// Templates.
    QueryTemplatesConnection, QueryTemplatesConnectionEdge, Template;
    /// Templates that a search found.
    QueryTemplateSearchConnection, QueryTemplateSearchConnectionEdge, TemplateSearchResult;
}

/// What deploying a template answers.
#[derive(GraphQLObject)]
#[graphql(context = Ctx, scalar = Scalar)]
pub(crate) struct TemplateDeployPayload {
    project_id: String,
    workflow_id: Option<String>,
}

/// Where a workflow stands.
#[derive(GraphQLObject)]
#[graphql(context = Ctx, scalar = Scalar)]
pub(crate) struct WorkflowResult {
    error: Option<String>,
    status: WorkflowStatus,
}

pub(crate) fn deploy(ctx: &Ctx, input: TemplateDeployV2Input) -> Result<TemplateDeployPayload, Fault> {
    off("stageOnly", input.stage_only)?;
    if input.existing_root_service_id.is_some() {
        return Err(Fault::bad_input("existingRootServiceId is for clusters, which this server does not make: leave it out"));
    }
    let wanted = TemplateDeploy {
        project: id_option("Project", input.project_id.as_deref(), ProjectId)?,
        environment: id_option("Environment", input.environment_id.as_deref(), EnvironmentId)?,
        template: input.template_id,
        config: Some((*input.serialized_config.0).clone()),
    };
    let made = ctx.wait(ops::template::template_deploy(&ctx.op, wanted))?;
    Ok(TemplateDeployPayload { project_id: made.project.to_string(), workflow_id: Some(made.workflow) })
}

pub(crate) fn workflow(ctx: &Ctx, workflow: &str) -> Result<WorkflowResult, Fault> {
    let (status, error) = match ctx.wait(ops::template::workflow_status(&ctx.op, workflow))? {
        Workflow::Running => (WorkflowStatus::Running, None),
        Workflow::Complete => (WorkflowStatus::Complete, None),
        Workflow::Failed(reason) => (WorkflowStatus::Broken, Some(reason)),
        Workflow::NotFound => (WorkflowStatus::NotFound, None),
    };
    Ok(WorkflowResult { error, status })
}
