//! Where replicas can run: the one place that a single machine is.

use juniper::{GraphQLObject, graphql_object};

use super::absent::RegionDeprecationInfo;
use crate::graphql::{Ctx, Fault, Scalar};

/// A place.
pub(crate) struct Region(String);

/// All places.
pub(crate) fn regions(ctx: &Ctx) -> Result<Vec<Region>, Fault> {
    ctx.signed_in()?;
    Ok(vec![Region(ctx.op.ops.settings.region.clone())])
}

#[graphql_object(context = Ctx, scalar = Scalar)]
impl Region {
    /// Two letters of a country; a server does not know where it stands.
    fn country(&self) -> &str {
        "ZZ"
    }
    fn deployment_constraints(&self) -> Option<RegionDeploymentConstraints> {
        None
    }
    fn id(&self) -> Option<&str> {
        Some(&self.0)
    }
    fn location(&self) -> &str {
        &self.0
    }
    fn name(&self) -> &str {
        &self.0
    }
    fn region(&self) -> Option<&str> {
        Some(&self.0)
    }
    fn workspace_id(&self) -> Option<String> {
        None
    }
}

/// What speaks against deploying to a place.
pub(crate) struct RegionDeploymentConstraints;

#[graphql_object(context = Ctx, scalar = Scalar)]
impl RegionDeploymentConstraints {
    fn deprecation_info(&self) -> Option<RegionDeprecationInfo> {
        None
    }
}

/// A server that a dashboard leads to. Each keeps its own accounts and apps.
#[derive(GraphQLObject)]
#[graphql(context = Ctx, scalar = Scalar)]
pub(crate) struct RegionEndpoint {
    /// It is the one that answers.
    current: bool,
    name: String,
    /// Where its dashboard and its API are, without a slash at the end.
    url: String,
}

/// `regionEndpoints`
pub(crate) fn region_endpoints(ctx: &Ctx) -> Result<Vec<RegionEndpoint>, Fault> {
    ctx.signed_in()?;
    let settings = &ctx.op.ops.settings;
    let own = RegionEndpoint { current: true, name: settings.region.clone(), url: settings.dashboard_url.clone() };
    let others = settings.regions.iter().filter(|(name, _)| *name != settings.region);
    let others = others.map(|(name, url)| RegionEndpoint { current: false, name: name.clone(), url: url.clone() });
    Ok(std::iter::once(own).chain(others).collect())
}
