//! Templates: services that are made together, with their volumes, ports, generated variables and what they run
//! (`contracts/railway.md` 3.5). They are files; this is their shape.

use std::collections::BTreeMap;

use serde::Deserialize;

use crate::server::ServerPlan;

/// A template, as its file says.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Template {
    /// What clients call it.
    pub code: String,
    /// What they may call it besides.
    #[serde(default)]
    pub aliases: Vec<String>,
    /// What people call it.
    pub name: String,
    /// One sentence.
    pub description: String,
    /// Where a catalogue lists it.
    pub category: String,
    /// For searches.
    #[serde(default)]
    pub tags: Vec<String>,
    /// The engine's name as clients before 2024 knew databases.
    #[serde(default)]
    pub plugin: Option<String>,
    /// What it makes; the key is the service's place in the template.
    pub services: BTreeMap<String, TemplateService>,
}

/// A service of a template.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct TemplateService {
    /// The service's name, where it is free.
    pub name: String,
    /// A picture.
    #[serde(default)]
    pub icon: Option<String>,
    /// The container image that it stands for.
    #[serde(default)]
    pub image: Option<String>,
    /// Other images, without their tag, that mean the same server.
    #[serde(default)]
    pub images: Vec<String>,
    /// The machine's own program in place of the image.
    #[serde(default)]
    pub server: Option<ServerPlan>,
    /// The source that is built, by path.
    #[serde(default)]
    pub files: BTreeMap<String, String>,
    /// Where its volume is mounted, if it has one.
    #[serde(default)]
    pub mount_path: Option<String>,
    /// The port that a TCP proxy leads to.
    #[serde(default)]
    pub tcp_port: Option<u16>,
    /// Gets a domain.
    #[serde(default)]
    pub domain: bool,
    /// Asked until it answers 200.
    #[serde(default)]
    pub healthcheck_path: Option<String>,
    /// Seconds between SIGTERM and SIGKILL.
    #[serde(default)]
    pub draining_seconds: Option<u32>,
    /// Its variables.
    #[serde(default)]
    pub variables: BTreeMap<String, TemplateVariable>,
}

/// A variable of a template.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct TemplateVariable {
    /// With references and generators.
    pub default_value: String,
    /// What it is for.
    #[serde(default)]
    pub description: Option<String>,
}

/// The image without its tag and digest.
#[must_use]
pub fn image_name(image: &str) -> &str {
    let name = image.split('@').next().unwrap_or(image);
    match name.rsplit_once(':') {
        // A colon before the last slash belongs to a registry's port.
        Some((before, tag)) if !tag.contains('/') => before,
        _ => name,
    }
}

impl TemplateService {
    /// Whether an image stands for this service's server.
    #[must_use]
    pub fn is_image(&self, image: &str) -> bool {
        let name = image_name(image);
        let name = name.strip_prefix("docker.io/").unwrap_or(name);
        let name = name.strip_prefix("library/").unwrap_or(name);
        self.image.as_deref().map(image_name).into_iter().chain(self.images.iter().map(String::as_str)).any(|known| known == name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn images_are_known_by_name() {
        assert_eq!(image_name("ghcr.io/a/b:17"), "ghcr.io/a/b");
        assert_eq!(image_name("localhost:5000/b"), "localhost:5000/b");
        assert_eq!(image_name("redis@sha256:00"), "redis");
    }
}
