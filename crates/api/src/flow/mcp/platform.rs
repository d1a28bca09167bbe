//! Tools for apps: the platform's own verbs with the rights of the key.

use ops::OpCtx;
use ops::platform::platform_call;
use serde_json::{Map, Value};

use super::ToolSpec;
use crate::flow::answer::Refused;

const ENVIRONMENT: (&str, &str, bool, &str) = ("environmentId", "string", true, "The environment's id, as in list_apps");
const SERVICE: (&str, &str, bool, &str) = ("serviceId", "string", true, "The service's id, as in list_apps");
const DEPLOYMENT: (&str, &str, bool, &str) = ("deploymentId", "string", true, "The deployment's id, as in list_deployments");

/// A deployment, or a service whose newest one is meant.
const NAMED: (&str, &str, bool, &str) = ("deploymentId", "string", false, "The deployment's id, as in list_deployments");
const OR_ENVIRONMENT: (&str, &str, bool, &str) = ("environmentId", "string", false, "Without deploymentId: the newest of a service there");
const OR_SERVICE: (&str, &str, bool, &str) = ("serviceId", "string", false, "Without deploymentId: that service");

pub(super) static TOOLS: [ToolSpec; 11] = [
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
    ToolSpec { name: "redeploy", about: "Deploys a deployment's source again", takes: &[NAMED, OR_ENVIRONMENT, OR_SERVICE] },
    ToolSpec { name: "rollback", about: "Goes back to an earlier deployment", takes: &[DEPLOYMENT] },
    ToolSpec { name: "restart", about: "Restarts a deployment's replicas", takes: &[NAMED, OR_ENVIRONMENT, OR_SERVICE] },
    ToolSpec {
        name: "scale",
        about: "Sets how many replicas a service has",
        takes: &[ENVIRONMENT, SERVICE, ("replicas", "integer", true, "How many")],
    },
    ToolSpec {
        name: "set_variable",
        about: "Sets a variable of a service, or of a whole environment, and deploys what it concerns",
        takes: &[
            ENVIRONMENT,
            ("serviceId", "string", false, "The service's id; without it, all services of the environment can refer to it"),
            ("name", "string", true, "The variable's name"),
            ("value", "string", true, "Its value"),
            ("skipDeploys", "boolean", false, "Whether the change waits for the next deployment"),
        ],
    },
    ToolSpec {
        name: "create_environment",
        about: "Makes an environment, empty or as a copy of another",
        takes: &[
            ("projectId", "string", true, "The project's id, as in list_apps"),
            ("name", "string", true, "Unique in the project"),
            ("sourceEnvironmentId", "string", false, "Services, settings and variables are copied from there"),
            ("skipDeploys", "boolean", false, "Whether the copies are not started"),
        ],
    },
    ToolSpec {
        name: "metrics",
        about: "What a service has used lately: cores, bytes of memory, connections, traffic",
        takes: &[ENVIRONMENT, SERVICE, ("minutes", "integer", false, "How far back, 1 to 10080; 10 when absent")],
    },
    ToolSpec {
        name: "logs",
        about: "The newest lines of a deployment",
        takes: &[
            NAMED,
            OR_ENVIRONMENT,
            OR_SERVICE,
            ("filter", "string", false, "Words, or @level:error and the like"),
            ("limit", "integer", false, "1 to 500"),
        ],
    },
];

pub(super) async fn call(ctx: &OpCtx, name: &str, given: Map<String, Value>) -> Result<Value, Refused> {
    Ok(platform_call(ctx, name, &given).await?)
}
