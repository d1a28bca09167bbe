//! `railway.json` and `railway.toml` (`contracts/railway.md` 3.7): settings that travel with the source, for one deployment.

use std::collections::BTreeMap;
use std::fmt;
use std::marker::PhantomData;

use domain::schedule::Schedule;
use domain::spec::{DeploySpec, InSource, InstanceSpec, RestartPolicy};
use serde::Deserialize;
use serde::de::{self, Deserializer, Visitor};

use crate::failure::BuildFailure;

/// Where a file is looked for when the settings name none.
pub(crate) const NAMES: [&str; 2] = ["railway.json", "railway.toml"];

/// The block of a file for all environments that are copies for a while.
const EPHEMERAL: &str = "pr";

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct ConfigFile {
    build: Option<Build>,
    deploy: Option<Deploy>,
    environments: Option<BTreeMap<String, Option<Override>>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Override {
    build: Option<Build>,
    deploy: Option<Deploy>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct Build {
    builder: Option<String>,
    build_command: Option<String>,
    dockerfile_path: Option<String>,
    watch_patterns: Option<List>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct Deploy {
    start_command: Option<String>,
    pre_deploy_command: Option<List>,
    healthcheck_path: Option<String>,
    healthcheck_timeout: Option<Number>,
    restart_policy_type: Option<Policy>,
    restart_policy_max_retries: Option<Number>,
    num_replicas: Option<Number>,
    multi_region_config: Option<BTreeMap<String, Option<Region>>>,
    region: Option<String>,
    cron_schedule: Option<String>,
    sleep_application: Option<bool>,
    overlap_seconds: Option<Number>,
    draining_seconds: Option<Number>,
    required_mount_path: Option<String>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Region {
    num_replicas: Option<Number>,
}

#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
enum Policy {
    OnFailure,
    Always,
    Never,
}

/// A whole number, or one in quotes as the samples of the documentation have it.
#[derive(Debug)]
struct Number(u32);

/// A text or a list of texts.
#[derive(Debug)]
struct List(Vec<String>);

struct Flexible<T>(PhantomData<T>);

impl<'de> Deserialize<'de> for Number {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(Flexible(PhantomData::<Self>))
    }
}

impl<'de> Deserialize<'de> for List {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(Flexible(PhantomData::<Self>))
    }
}

impl Visitor<'_> for Flexible<Number> {
    type Value = Number;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a whole number that is not negative")
    }

    fn visit_u64<E: de::Error>(self, value: u64) -> Result<Number, E> {
        u32::try_from(value).map(Number).map_err(|_| E::invalid_value(de::Unexpected::Unsigned(value), &self))
    }

    fn visit_i64<E: de::Error>(self, value: i64) -> Result<Number, E> {
        u32::try_from(value).map(Number).map_err(|_| E::invalid_value(de::Unexpected::Signed(value), &self))
    }

    fn visit_f64<E: de::Error>(self, value: f64) -> Result<Number, E> {
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "checked to be whole and in range")]
        if value.fract() == 0.0 && (0.0..=f64::from(u32::MAX)).contains(&value) {
            return Ok(Number(value as u32));
        }
        Err(E::invalid_value(de::Unexpected::Float(value), &self))
    }

    fn visit_str<E: de::Error>(self, value: &str) -> Result<Number, E> {
        value.trim().parse().map(Number).map_err(|_| E::invalid_value(de::Unexpected::Str(value), &self))
    }
}

impl<'de> Visitor<'de> for Flexible<List> {
    type Value = List;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a text or a list of texts")
    }

    fn visit_str<E: de::Error>(self, value: &str) -> Result<List, E> {
        Ok(List(vec![value.to_owned()]))
    }

    fn visit_seq<A: de::SeqAccess<'de>>(self, mut seq: A) -> Result<List, A::Error> {
        let mut all = vec![];
        while let Some(one) = seq.next_element()? {
            all.push(one);
        }
        Ok(List(all))
    }
}

/// Where a deployment is made.
pub(crate) struct Place<'a> {
    /// The environment's name.
    pub environment: &'a str,
    /// As [`crate::BuildRequest::ephemeral`].
    pub ephemeral: bool,
    /// The server's own region.
    pub region: &'a str,
}

/// The settings with what the file says on top, and on top of that its block for this environment.
///
/// # Errors
/// `Source` that names the file and the line.
pub(crate) fn merge(spec: &InstanceSpec, path: &str, text: &[u8], place: &Place<'_>) -> Result<InstanceSpec, BuildFailure> {
    let file = parse(path, text)?;
    let mut merged = spec.clone();
    apply(&mut merged, file.build, file.deploy, place.region);
    let mut blocks = file.environments.unwrap_or_default();
    let own = blocks.remove(place.environment).flatten();
    if let Some(block) = own.or_else(|| blocks.remove(EPHEMERAL).flatten().filter(|_| place.ephemeral)) {
        apply(&mut merged, block.build, block.deploy, place.region);
    }
    if let Some(Err(bad)) = merged.deploy.cron_schedule.as_deref().map(Schedule::parse) {
        return Err(BuildFailure::Source(format!("{path} cannot be used: {bad}; correct the file and deploy again")));
    }
    Ok(merged)
}

fn parse(path: &str, text: &[u8]) -> Result<ConfigFile, BuildFailure> {
    let wrong = |why: String| BuildFailure::Source(format!("{path} cannot be read: {why}; correct the file and deploy again"));
    let text = std::str::from_utf8(text).map_err(|_| wrong("it is not UTF-8".into()))?;
    let text = text.trim_start_matches('\u{feff}');
    if path.ends_with(".toml") {
        return toml::from_str(text).map_err(|error| {
            let line = error.span().map_or(1, |span| text[..span.start.min(text.len())].matches('\n').count() + 1);
            wrong(format!("line {line}: {}", error.message().trim().replace('\n', "; ")))
        });
    }
    serde_json::from_str(text).map_err(|error| {
        let full = error.to_string();
        let what = full.split(" at line ").next().unwrap_or_default();
        wrong(format!("line {}: {what}", error.line()))
    })
}

/// An empty text takes a setting back.
fn text(into: &mut Option<String>, value: Option<String>) {
    if let Some(value) = value {
        *into = Some(value.trim().to_owned()).filter(|value| !value.is_empty());
    }
}

fn apply(spec: &mut InstanceSpec, build: Option<Build>, deploy: Option<Deploy>, region: &str) {
    if let Some(Build { builder, build_command, dockerfile_path, watch_patterns }) = build {
        text(&mut spec.build.builder, builder);
        text(&mut spec.build.build_command, build_command);
        text(&mut spec.build.dockerfile_path, dockerfile_path);
        if let Some(List(patterns)) = watch_patterns {
            spec.build.watch_patterns = patterns;
        }
    }
    if let Some(deploy) = deploy {
        apply_deploy(&mut spec.deploy, deploy, region);
    }
}

fn apply_deploy(spec: &mut DeploySpec, deploy: Deploy, region: &str) {
    let number = |value: Option<Number>| value.map(|Number(value)| value);
    if deploy.cron_schedule.is_some() {
        text(&mut spec.cron_schedule, deploy.cron_schedule);
        spec.cron_in_source = spec.cron_schedule.is_some();
    }
    let regions = if let Some(regions) = deploy.multi_region_config {
        let replicas = |region: Option<Region>| region.map(|region| number(region.num_replicas).unwrap_or(1));
        Some(regions.into_iter().filter_map(|(name, region)| Some((name, replicas(region)?))).collect())
    } else {
        let region = deploy.region.or_else(|| spec.regions.keys().next().cloned()).unwrap_or_else(|| region.to_owned());
        number(deploy.num_replicas).map(|replicas| BTreeMap::from([(region, replicas)]))
    };
    let commands = |List(all): List| all.into_iter().filter(|command| !command.trim().is_empty()).collect();
    let said = InSource {
        start_command: deploy.start_command,
        pre_deploy_command: deploy.pre_deploy_command.map(commands),
        healthcheck_path: deploy.healthcheck_path,
        healthcheck_timeout: number(deploy.healthcheck_timeout),
        restart_policy_type: deploy.restart_policy_type.map(|policy| match policy {
            Policy::OnFailure => RestartPolicy::OnFailure,
            Policy::Always => RestartPolicy::Always,
            Policy::Never => RestartPolicy::Never,
        }),
        restart_policy_max_retries: number(deploy.restart_policy_max_retries),
        regions,
        sleep_application: deploy.sleep_application,
        overlap_seconds: number(deploy.overlap_seconds),
        draining_seconds: number(deploy.draining_seconds),
        required_mount_path: deploy.required_mount_path,
    };
    said.apply(spec);
}

/// Variables of the user that the platform reads as settings (`contracts/railway.md` 3.6). The file, which is merged later, wins.
#[must_use]
pub(crate) fn from_variables(spec: &InstanceSpec, env: &BTreeMap<String, String>) -> InstanceSpec {
    let mut spec = spec.clone();
    let value = |names: &[&str]| names.iter().find_map(|name| env.get(*name)).cloned();
    text(&mut spec.build.build_command, value(&["RAILPACK_BUILD_CMD", "NIXPACKS_BUILD_CMD"]));
    text(&mut spec.build.dockerfile_path, value(&["RAILWAY_DOCKERFILE_PATH"]));
    // Noted from scratch: what an earlier build of this source was told may have been taken back.
    spec.deploy.in_source = None;
    InSource { start_command: value(&["RAILPACK_START_CMD", "NIXPACKS_START_CMD"]), ..InSource::default() }.apply(&mut spec.deploy);
    spec.obey(env);
    spec
}

#[cfg(test)]
mod tests {
    use super::*;

    fn place(environment: &str) -> Place<'_> {
        Place { environment, ephemeral: false, region: "paris" }
    }

    const JSON: &str = r#"{
  "$schema": "https://railway.com/railway.schema.json",
  "build": {"builder": "NIXPACKS", "buildCommand": "make", "watchPatterns": ["src/**"], "nixpacksPlan": {"x": 1}},
  "deploy": {"startCommand": "run", "preDeployCommand": "migrate", "healthcheckTimeout": "120", "drainingSeconds": 7,
             "restartPolicyType": "ALWAYS", "numReplicas": 3, "sleepApplication": null, "requiredMountPath": "/data"},
  "environments": {"staging": {"deploy": {"startCommand": "run --staging", "preDeployCommand": ["a", "b"]}}, "pr": null}
}"#;

    #[test]
    fn both_formats_say_the_same() {
        let value: serde_json::Value = serde_json::from_str(&JSON.replace("null", "false")).unwrap();
        let toml = toml::to_string(&value).unwrap().replace("pr = false", "").replace("sleepApplication = false", "");
        let spec = InstanceSpec::default();
        let one = merge(&spec, "railway.json", JSON.as_bytes(), &place("staging")).unwrap();
        let two = merge(&spec, "x/railway.toml", toml.as_bytes(), &place("staging")).unwrap();
        assert_eq!(one, two);
        assert_eq!(one.deploy.start_command.as_deref(), Some("run --staging"));
        assert_eq!(one.deploy.pre_deploy_command, ["a", "b"]);
        assert_eq!((one.deploy.healthcheck_timeout, one.deploy.draining_seconds, one.deploy.replicas()), (Some(120), 7, 3));
        assert_eq!((one.deploy.restart_policy_type, one.deploy.required_mount_path.as_deref()), (RestartPolicy::Always, Some("/data")));
        let other = merge(&spec, "railway.json", JSON.as_bytes(), &place("production")).unwrap();
        assert_eq!((other.deploy.start_command.as_deref(), other.build.build_command.as_deref()), (Some("run"), Some("make")));
        assert_eq!(other.deploy.pre_deploy_command, ["migrate"]);
        assert_eq!(other.deploy.regions, BTreeMap::from([("paris".to_owned(), 3)]), "the region that this server is");
    }

    #[test]
    fn the_block_for_copies_holds_where_there_is_none_of_the_environments_name() {
        let text = r#"{"deploy": {"startCommand": "run"}, "environments": {"pr": {"deploy": {"startCommand": "run --pr"}},
            "pr-7": {"deploy": {"startCommand": "run --seven"}}, "pr-8": null}}"#;
        let started = |environment, ephemeral| {
            let place = Place { ephemeral, ..place(environment) };
            merge(&InstanceSpec::default(), "railway.json", text.as_bytes(), &place).unwrap().deploy.start_command.unwrap()
        };
        let all = [started("app-pr-3", true), started("app-pr-3", false), started("pr-7", true), started("pr-8", true)];
        assert_eq!(all, ["run --pr", "run", "run --seven", "run --pr"]);
    }

    #[test]
    fn a_schedule_in_the_source_is_known_as_such() {
        let deploy = DeploySpec { cron_schedule: Some("0 1 * * *".into()), ..DeploySpec::default() };
        let settings = InstanceSpec { deploy, ..InstanceSpec::default() };
        let merged = |text: &str| merge(&settings, "railway.toml", text.as_bytes(), &place("production")).unwrap().deploy;
        let own = merged("[deploy]\nstartCommand = \"run\"\n");
        assert_eq!((own.cron_schedule.as_deref(), own.cron_in_source), (Some("0 1 * * *"), false));
        let other = merged("[deploy]\ncronSchedule = \"0 4 * * *\"\n");
        assert_eq!((other.cron_schedule.as_deref(), other.cron_in_source), (Some("0 4 * * *"), true));
        let none = merged("[deploy]\ncronSchedule = \"\"\n");
        assert_eq!((none.cron_schedule, none.cron_in_source), (None, false));
    }

    #[test]
    fn a_mistake_is_named_with_its_line() {
        let table = [
            ("railway.json", "{\n \"deploy\": {\n  \"numReplicas\": \"many\"\n }\n}", "line 3"),
            ("railway.json", "{\n \"build\": }", "line 2"),
            ("railway.toml", "[deploy]\n\nrestartPolicyType = \"SOMETIMES\"\n", "line 3"),
            ("railway.toml", "[deploy\n", "line 1"),
            ("railway.toml", "[build]\nwatchPatterns = 5", "a text or a list of texts"),
            ("railway.toml", "[deploy]\ncronSchedule = \"* * * * *\"\n", "every 5 minutes"),
        ];
        for (path, text, expected) in table {
            let failure = merge(&InstanceSpec::default(), path, text.as_bytes(), &place("x")).unwrap_err().to_string();
            assert!(failure.starts_with(path) && failure.contains(expected), "{failure}");
        }
    }
}
