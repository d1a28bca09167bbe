//! Where replicas can run: the one place that a single machine is.

use juniper::graphql_object;

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
