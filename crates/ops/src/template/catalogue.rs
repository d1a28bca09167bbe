//! What templates there are.

use std::sync::LazyLock;

use domain::server::ServerPlan;
use domain::template::{Template, TemplateService};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

/// The files: a template is one in the folder and its line here. Each is checked against its shape when the program starts, and by a test.
const FILES: [&str; 8] = [
    include_str!("../../templates/postgres.json"),
    include_str!("../../templates/redis.json"),
    include_str!("../../templates/mysql.json"),
    include_str!("../../templates/mongo.json"),
    include_str!("../../templates/valkey.json"),
    include_str!("../../templates/visitor-counter.json"),
    include_str!("../../templates/python-app.json"),
    include_str!("../../templates/static-site.json"),
];

static CATALOGUE: LazyLock<Vec<Entry>> = LazyLock::new(|| {
    let read = |text: &&str| serde_json::from_str(text).map(|template| Entry { template });
    // A file that does not fit its shape does not pass the test below.
    FILES.iter().map(read).collect::<Result<_, _>>().unwrap_or_default()
});

/// A template of the catalogue.
#[derive(Clone, Debug)]
pub struct Entry {
    /// What its file says.
    pub template: Template,
}

/// An id that stays the same for a name.
fn stable_id(name: &str) -> String {
    let mut bytes = [0; 16];
    bytes.copy_from_slice(&Sha256::digest(name.as_bytes())[..16]);
    uuid::Builder::from_custom_bytes(bytes).into_uuid().to_string()
}

impl Entry {
    /// Its id.
    #[must_use]
    pub fn id(&self) -> String {
        stable_id(&format!("template/{}", self.template.code))
    }

    fn service_id(&self, key: &str) -> String {
        stable_id(&format!("template/{}/{key}", self.template.code))
    }

    /// A service by its key in the configuration.
    pub(crate) fn service(&self, id: &str) -> Option<&TemplateService> {
        self.template.services.iter().find(|(key, _)| self.service_id(key) == id).map(|(_, service)| service)
    }

    /// What clients complete and send back (`contracts/railway.md` 3.5).
    #[must_use]
    pub fn serialized_config(&self) -> Value {
        let services = self.template.services.iter().map(|(key, service)| (self.service_id(key), self.config_of(key, service)));
        json!({"services": services.collect::<serde_json::Map<_, _>>()})
    }

    fn config_of(&self, key: &str, service: &TemplateService) -> Value {
        let variables = service.variables.iter().map(|(name, variable)| {
            let mut entry = json!({"defaultValue": variable.default_value, "isOptional": false});
            if let Some(description) = &variable.description {
                entry["description"] = json!(description);
            }
            (name.clone(), entry)
        });
        let proxies: serde_json::Map<_, _> = service.tcp_port.iter().map(|port| (port.to_string(), json!({}))).collect();
        let domains: serde_json::Map<_, _> = service.domain.then(|| ("<hasDomain>".to_owned(), json!({}))).into_iter().collect();
        let mounts: serde_json::Map<_, _> =
            service.mount_path.iter().map(|path| (self.service_id(key), json!({"mountPath": path}))).collect();
        json!({
            "name": service.name,
            "icon": service.icon,
            "source": service.image.as_ref().map_or_else(|| json!({}), |image| json!({"image": image})),
            "build": {},
            "deploy": {
                "startCommand": null,
                "requiredMountPath": service.mount_path,
                "healthcheckPath": service.healthcheck_path,
            },
            "networking": {"tcpProxies": proxies, "serviceDomains": domains},
            "volumeMounts": mounts,
            "variables": variables.collect::<serde_json::Map<_, _>>(),
        })
    }
}

/// All templates, databases first.
#[must_use]
pub fn catalogue() -> &'static [Entry] {
    &CATALOGUE
}

/// A template by its id, its code, or another name of it.
#[must_use]
pub fn find(wanted: &str) -> Option<&'static Entry> {
    let wanted = wanted.trim().to_lowercase();
    let is = |entry: &&Entry| entry.template.code == wanted || entry.template.aliases.contains(&wanted) || entry.id() == wanted;
    CATALOGUE.iter().find(is)
}

/// The template's service that an image stands for.
#[must_use]
pub fn service_for_image(image: &str) -> Option<&'static TemplateService> {
    template_of_image(image)?.template.services.values().find(|service| service.server.is_some() && service.is_image(image))
}

/// The template of the server that an image stands for.
#[must_use]
pub fn template_of_image(image: &str) -> Option<&'static Entry> {
    let serves = |entry: &&Entry| entry.template.services.values().any(|service| service.server.is_some() && service.is_image(image));
    CATALOGUE.iter().find(serves)
}

/// The machine's own server in place of an image.
#[must_use]
pub fn server_for(image: &str) -> Option<&'static ServerPlan> {
    service_for_image(image)?.server.as_ref()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_file_is_a_template() {
        for text in FILES {
            let template: Template = serde_json::from_str(text).unwrap();
            assert!(!template.services.is_empty(), "{}", template.code);
            for (key, service) in &template.services {
                let runs = service.image.as_deref().and_then(server_for).is_some() || !service.files.is_empty();
                assert!(runs, "{}/{key} runs nothing that this server has", template.code);
                if let Some(path) = &service.mount_path {
                    assert_eq!(domain::volume::mount_path(path).unwrap(), *path);
                }
                for name in service.variables.keys() {
                    domain::name::variable(name).unwrap();
                }
            }
        }
        assert_eq!(catalogue().len(), FILES.len());
        let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/templates");
        assert_eq!(std::fs::read_dir(folder).unwrap().count(), FILES.len(), "a file that FILES leaves out is no template");
    }

    #[test]
    fn codes_and_aliases_are_unique() {
        let mut names: Vec<&str> = vec![];
        for entry in catalogue() {
            names.push(&entry.template.code);
            names.extend(entry.template.aliases.iter().map(String::as_str));
        }
        let count = names.len();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), count);
    }

    #[test]
    fn a_database_is_found_by_what_clients_call_it() {
        for (name, code) in [("postgresql", "postgres"), ("Mongodb", "mongo"), ("redis", "redis"), ("mysql", "mysql")] {
            assert_eq!(find(name).unwrap().template.code, code);
        }
        assert_eq!(find(&find("redis").unwrap().id()).unwrap().template.code, "redis");
        for (image, code) in [("postgres:16", "postgres"), ("docker.io/library/redis", "redis"), ("mariadb:11", "mysql")] {
            assert_eq!(template_of_image(image).unwrap().template.code, code);
        }
        assert!(template_of_image("nginx:latest").is_none());
    }

    #[test]
    fn the_connection_variables_of_the_contract_are_there() {
        let has = |code: &str, names: &[&str]| {
            let entry = find(code).unwrap();
            let service = entry.template.services.values().next().unwrap();
            names.iter().for_each(|name| assert!(service.variables.contains_key(*name), "{code}: {name}"));
        };
        has("postgres", &["PGHOST", "PGPORT", "PGUSER", "PGPASSWORD", "PGDATABASE", "DATABASE_URL", "DATABASE_PUBLIC_URL"]);
        has("mysql", &["MYSQLHOST", "MYSQLPORT", "MYSQLUSER", "MYSQLPASSWORD", "MYSQLDATABASE", "MYSQL_URL", "MYSQL_PUBLIC_URL"]);
        has("redis", &["REDISHOST", "REDISPORT", "REDISUSER", "REDISPASSWORD", "REDIS_URL", "REDIS_PUBLIC_URL"]);
        has("mongo", &["MONGOHOST", "MONGOPORT", "MONGOUSER", "MONGOPASSWORD", "MONGO_URL", "MONGO_PUBLIC_URL"]);
    }
}
