//! The settings of an instance as part of the environment's document, and patches of that document (`contracts/railway.md` 3.9).
//!
//! A patch is merged into the document as it is now, deeply, `null` taking a key back to its default; then the whole is read again. So
//! whatever a client can see it can change, and a document that is sent back unchanged changes nothing.

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};

use crate::name::BadName;
use crate::spec::{BuildSpec, DeploySpec, InstanceSpec, Limits, RestartPolicy, Source};

mod attached;

pub use attached::{MountPatch, VolumePatch, tcp_proxies, volume_mounts, volumes};

/// Why a document was refused, as a sentence that names the key.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct BadConfig(pub String);

impl From<BadName> for BadConfig {
    fn from(bad: BadName) -> Self {
        Self(bad.0)
    }
}

/// Replicas by region; one in the server's own region when nothing is said.
#[must_use]
pub fn multi_region(deploy: &DeploySpec, region: &str) -> Value {
    if deploy.regions.is_empty() {
        return json!({region: {"numReplicas": 1}});
    }
    Value::Object(deploy.regions.iter().map(|(name, replicas)| (name.clone(), json!({"numReplicas": replicas}))).collect())
}

/// The limits of a replica as `limitOverride` has them; absent when none is set.
#[must_use]
pub fn limit_override(limits: &Limits) -> Value {
    let containers =
        without_nulls(json!({"cpu": limits.cpu_millis.map(|millis| f64::from(millis) / 1000.0), "memoryBytes": limits.memory_bytes}));
    if containers == json!({}) { Value::Null } else { json!({"containers": containers}) }
}

/// `source`, `build`, `deploy` and `configFile` of an instance. Clients type the document strictly: what is unset is absent.
#[must_use]
pub fn document(spec: &InstanceSpec, region: &str) -> Map<String, Value> {
    let InstanceSpec { source, build, deploy } = spec;
    let BuildSpec { builder, build_command, root_directory, dockerfile_path, watch_patterns, config_file } = build;
    let (image, repo, branch) = match source {
        Some(Source::Image(image)) => (Some(image), None, None),
        Some(Source::Repo { repo, branch }) => (None, Some(repo), branch.as_ref()),
        None => (None, None, None),
    };
    let mut document = Map::new();
    document
        .insert("source".into(), without_nulls(json!({"image": image, "repo": repo, "branch": branch, "rootDirectory": root_directory})));
    document.insert(
        "build".into(),
        without_nulls(json!({
            "builder": builder.as_deref().unwrap_or(DEFAULT_BUILDER),
            "buildCommand": build_command,
            "dockerfilePath": dockerfile_path,
            "watchPatterns": watch_patterns,
        })),
    );
    document.insert(
        "deploy".into(),
        without_nulls(json!({
            "startCommand": deploy.start_command,
            "preDeployCommand": deploy.pre_deploy_command,
            "healthcheckPath": deploy.healthcheck_path,
            "healthcheckTimeout": deploy.healthcheck_timeout,
            "restartPolicyType": deploy.restart_policy_type,
            "restartPolicyMaxRetries": deploy.restart_policy_max_retries,
            "multiRegionConfig": multi_region(deploy, region),
            "cronSchedule": deploy.cron_schedule,
            "sleepApplication": deploy.sleep_application,
            "drainingSeconds": deploy.draining_seconds,
            "overlapSeconds": deploy.overlap_seconds,
            "requiredMountPath": deploy.required_mount_path,
            "limitOverride": limit_override(&deploy.limits),
            // These two are this server's own, and are told only where they differ from their defaults.
            "sticky": deploy.sticky.then_some(true),
            "unhealthyReplacement": (!deploy.unhealthy_replacement).then_some(false),
        })),
    );
    if let Some(path) = config_file {
        document.insert("configFile".into(), json!(path));
    }
    document
}

const DEFAULT_BUILDER: &str = "RAILPACK";

fn without_nulls(mut value: Value) -> Value {
    if let Value::Object(fields) = &mut value {
        fields.retain(|_, value| !value.is_null());
    }
    value
}

/// Merges a patch into a document. `null` takes a key away.
pub fn merge(into: &mut Value, patch: &Value) {
    let Value::Object(fields) = patch else {
        *into = patch.clone();
        return;
    };
    if !into.is_object() {
        *into = json!({});
    }
    let Value::Object(into) = into else { return };
    for (key, value) in fields {
        if value.is_null() {
            into.shift_remove(key);
        } else {
            merge(into.entry(key.clone()).or_insert(Value::Null), value);
        }
    }
}

/// Puts a later patch on top of an earlier one, so that both together do what one after the other would.
pub fn stack(earlier: &mut Value, later: &Value) {
    match (earlier, later) {
        (Value::Object(earlier), Value::Object(later)) => {
            for (key, value) in later {
                stack(earlier.entry(key.clone()).or_insert(Value::Null), value);
            }
        }
        (earlier, later) => *earlier = later.clone(),
    }
}

/// How many settings a patch names.
#[must_use]
pub fn count(patch: &Value) -> u32 {
    match patch {
        Value::Object(fields) => fields.values().map(count).fold(0, u32::saturating_add),
        _ => 1,
    }
}

/// An instance's settings after a patch, whose other keys (variables, networking and the like) are left alone here.
///
/// # Errors
/// A key that this server does not have, or a value of the wrong kind or out of range.
pub fn patched(spec: &InstanceSpec, patch: &Map<String, Value>, region: &str) -> Result<InstanceSpec, BadConfig> {
    let mut whole = document(spec, region);
    for key in ["source", "build", "deploy", "configFile"] {
        match patch.get(key) {
            None => {}
            Some(Value::Null) => drop(whole.shift_remove(key)),
            Some(value) => merge(whole.entry(key.to_owned()).or_insert(Value::Null), value),
        }
    }
    let named = |key: &str| patch.get("deploy").and_then(|deploy| deploy.get(key)).is_some_and(|value| !value.is_null());
    let mut next = read(whole, named("multiRegionConfig"), region)?;
    if spec.deploy.regions.is_empty() && next.deploy.regions == BTreeMap::from([(region.to_owned(), 1)]) {
        next.deploy.regions = BTreeMap::new();
    }
    next.check()?;
    Ok(next)
}

fn read(mut whole: Map<String, Value>, regions_are_named: bool, region: &str) -> Result<InstanceSpec, BadConfig> {
    let mut section = |key: &'static str| Section::of(key, whole.shift_remove(key));
    let (mut source, mut build, mut deploy) = (section("source")?, section("build")?, section("deploy")?);
    let config_file = Section { path: "", fields: whole }.text("configFile")?;
    let build_spec = BuildSpec {
        builder: build.text("builder")?.filter(|builder| builder != DEFAULT_BUILDER),
        build_command: build.text("buildCommand")?,
        root_directory: source.text("rootDirectory")?,
        dockerfile_path: build.text("dockerfilePath")?,
        watch_patterns: build.texts("watchPatterns")?,
        config_file,
    };
    build.finish(&["buildEnvironment"])?;
    let (image, repo, branch) = (source.text("image")?, source.text("repo")?, source.text("branch")?);
    source.finish(&[])?;
    let source = match (image, repo) {
        (Some(_), Some(_)) => return Err(BadConfig("source has an image and a repo: set one of them to null".into())),
        (Some(image), None) => Some(Source::Image(image)),
        (None, Some(repo)) => Some(Source::Repo { repo, branch }),
        (None, None) => None,
    };
    let deploy_spec = read_deploy(&mut deploy, regions_are_named, region)?;
    deploy.finish(&["runtime"])?;
    Ok(InstanceSpec { source, build: build_spec, deploy: deploy_spec })
}

fn read_deploy(deploy: &mut Section, regions_are_named: bool, region: &str) -> Result<DeploySpec, BadConfig> {
    let default = DeploySpec::default();
    let mut regions = deploy.regions()?;
    let (replicas, named) = (deploy.number("numReplicas")?, deploy.text("region")?);
    if !regions_are_named && (replicas.is_some() || named.is_some()) {
        let before = regions.values().sum::<u32>().max(1);
        regions = BTreeMap::from([(named.unwrap_or_else(|| region.to_owned()), replicas.unwrap_or(before))]);
    }
    regions.retain(|_, replicas| *replicas > 0);
    let policy = match deploy.text("restartPolicyType")?.as_deref() {
        None => default.restart_policy_type,
        Some("ON_FAILURE") => RestartPolicy::OnFailure,
        Some("ALWAYS") => RestartPolicy::Always,
        Some("NEVER") => RestartPolicy::Never,
        Some(other) => return Err(BadConfig(format!("deploy.restartPolicyType is {other:?}: it is ON_FAILURE, ALWAYS or NEVER"))),
    };
    Ok(DeploySpec {
        start_command: deploy.text("startCommand")?,
        pre_deploy_command: deploy.texts("preDeployCommand")?,
        healthcheck_path: deploy.text("healthcheckPath")?,
        healthcheck_timeout: deploy.number("healthcheckTimeout")?.filter(|seconds| *seconds > 0),
        restart_policy_type: policy,
        restart_policy_max_retries: deploy.number("restartPolicyMaxRetries")?.unwrap_or(default.restart_policy_max_retries),
        regions,
        cron_schedule: deploy.text("cronSchedule")?,
        cron_in_source: false,
        in_source: None,
        sleep_application: deploy.flag("sleepApplication")?.unwrap_or(default.sleep_application),
        overlap_seconds: deploy.number("overlapSeconds")?.unwrap_or(default.overlap_seconds),
        draining_seconds: deploy.number("drainingSeconds")?.unwrap_or(default.draining_seconds),
        required_mount_path: deploy.text("requiredMountPath")?,
        draining_in_variable: false,
        limits: deploy.limits()?,
        sticky: deploy.flag("sticky")?.unwrap_or(default.sticky),
        unhealthy_replacement: deploy.flag("unhealthyReplacement")?.unwrap_or(default.unhealthy_replacement),
    })
}

/// An object of which keys are taken one by one.
struct Section {
    path: &'static str,
    fields: Map<String, Value>,
}

impl Section {
    fn of(path: &'static str, value: Option<Value>) -> Result<Self, BadConfig> {
        match value {
            None => Ok(Self { path, fields: Map::new() }),
            Some(Value::Object(fields)) => Ok(Self { path, fields }),
            Some(_) => Err(BadConfig(format!("{path} must be an object"))),
        }
    }

    fn wrong(&self, key: &str, wanted: &str) -> BadConfig {
        BadConfig(format!("{} must be {wanted}, or null for its default", self.name(key)))
    }

    fn name(&self, key: &str) -> String {
        if self.path.is_empty() { key.to_owned() } else { format!("{}.{key}", self.path) }
    }

    fn take(&mut self, key: &str) -> Option<Value> {
        self.fields.shift_remove(key)
    }

    /// A text; an empty one is none.
    fn text(&mut self, key: &str) -> Result<Option<String>, BadConfig> {
        match self.take(key) {
            None => Ok(None),
            Some(Value::String(text)) => Ok(Some(text).filter(|text| !text.trim().is_empty())),
            Some(_) => Err(self.wrong(key, "a text")),
        }
    }

    /// A whole number, which may be quoted as the samples of configuration files quote them.
    fn number(&mut self, key: &str) -> Result<Option<u32>, BadConfig> {
        let number = match self.take(key) {
            None => return Ok(None),
            Some(Value::Number(number)) => number.as_u64().and_then(|number| u32::try_from(number).ok()),
            Some(Value::String(text)) => text.trim().parse().ok(),
            Some(_) => None,
        };
        number.map(Some).ok_or_else(|| self.wrong(key, "a whole number"))
    }

    fn flag(&mut self, key: &str) -> Result<Option<bool>, BadConfig> {
        match self.take(key) {
            None => Ok(None),
            Some(Value::Bool(flag)) => Ok(Some(flag)),
            Some(_) => Err(self.wrong(key, "true or false")),
        }
    }

    /// A list of texts, or one text.
    fn texts(&mut self, key: &str) -> Result<Vec<String>, BadConfig> {
        let text = |value: Value| if let Value::String(text) = value { Some(text) } else { None };
        match self.take(key) {
            None => Ok(vec![]),
            Some(Value::String(one)) => Ok(Some(one).filter(|text| !text.trim().is_empty()).into_iter().collect()),
            Some(Value::Array(all)) => all.into_iter().map(text).collect::<Option<_>>().ok_or_else(|| self.wrong(key, "a list of texts")),
            Some(_) => Err(self.wrong(key, "a list of texts")),
        }
    }

    fn regions(&mut self) -> Result<BTreeMap<String, u32>, BadConfig> {
        const KEY: &str = "multiRegionConfig";
        let wrong = |this: &Self| this.wrong(KEY, "an object like {\"<region>\": {\"numReplicas\": 1}}");
        let fields = match self.take(KEY) {
            None => return Ok(BTreeMap::new()),
            Some(Value::Object(fields)) => fields,
            Some(_) => return Err(wrong(self)),
        };
        let replicas = |value: &Value| match value {
            Value::Object(fields) if fields.is_empty() => Some(1),
            value => value.get("numReplicas").and_then(Value::as_u64).and_then(|count| u32::try_from(count).ok()),
        };
        fields.iter().map(|(region, value)| Ok((region.clone(), replicas(value).ok_or_else(|| wrong(self))?))).collect()
    }

    fn limits(&mut self) -> Result<Limits, BadConfig> {
        const KEY: &str = "limitOverride";
        let Some(value) = self.take(KEY) else { return Ok(Limits::default()) };
        let containers = value.get("containers").cloned().unwrap_or(json!({}));
        let number = |key: &str| match containers.get(key) {
            None | Some(Value::Null) => Ok(None),
            Some(value) => {
                value.as_f64().map(Some).ok_or_else(|| self.wrong(KEY, "like {\"containers\": {\"cpu\": 1, \"memoryBytes\": 1000000000}}"))
            }
        };
        Limits::of(number("cpu")?, number("memoryBytes")?).map_err(BadConfig::from)
    }

    /// What is left is not known here. Nothing is lost with what is empty, off, or in `harmless`.
    fn finish(&self, harmless: &[&str]) -> Result<(), BadConfig> {
        let unknown = self.fields.iter().find(|(key, value)| !is_nothing(value) && !harmless.contains(&key.as_str()));
        match unknown {
            None => Ok(()),
            Some((key, _)) => Err(BadConfig(format!("{} is not available on this server: leave it out or set it to null", self.name(key)))),
        }
    }
}

/// Whether a value says no more than its absence.
#[must_use]
pub fn is_nothing(value: &Value) -> bool {
    match value {
        Value::Null | Value::Bool(false) => true,
        Value::String(text) => text.is_empty(),
        Value::Array(all) => all.is_empty(),
        Value::Object(fields) => fields.values().all(is_nothing),
        _ => false,
    }
}

/// A change of one variable.
#[derive(Clone, PartialEq, Eq)]
pub enum VariablePatch {
    /// It goes away.
    Remove,
    /// It is made or changed.
    Set {
        /// As written; `None` keeps the value that is there.
        value: Option<String>,
        /// `secret(…)` or `randomInt(…)`, evaluated now; used when there is no value.
        generator: Option<String>,
        /// Never readable again; `None` keeps what is there.
        is_sealed: Option<bool>,
    },
}

/// Reads the variables of a patch.
///
/// # Errors
/// An entry that is neither `null`, a text, nor an object with a text as its value.
pub fn variables(patch: &Value) -> Result<BTreeMap<String, VariablePatch>, BadConfig> {
    let Value::Object(fields) = patch else {
        return Err(BadConfig("variables must be an object that maps names to {\"value\": …}".into()));
    };
    fields.iter().map(|(name, value)| Ok((name.clone(), variable(name, value)?))).collect()
}

fn variable(name: &str, value: &Value) -> Result<VariablePatch, BadConfig> {
    let fields = match value {
        Value::Null => return Ok(VariablePatch::Remove),
        Value::String(text) => return Ok(VariablePatch::Set { value: Some(text.clone()), generator: None, is_sealed: None }),
        Value::Object(fields) => fields,
        _ => return Err(BadConfig(format!("the variable {name} must be {{\"value\": \"…\"}}, or null to delete it"))),
    };
    let text = |key: &str| match fields.get(key) {
        None | Some(Value::Null) => Ok(None),
        Some(Value::String(text)) => Ok(Some(text.clone())),
        Some(value @ (Value::Number(_) | Value::Bool(_))) => Ok(Some(value.to_string())),
        Some(_) => Err(BadConfig(format!("{key} of the variable {name} must be a text"))),
    };
    let value = text("value")?;
    let value = if value.is_none() { text("defaultValue")? } else { value };
    Ok(VariablePatch::Set { value, generator: text("generator")?, is_sealed: fields.get("isSealed").and_then(Value::as_bool) })
}

#[cfg(test)]
mod tests;
