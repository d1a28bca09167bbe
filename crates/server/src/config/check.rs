//! What settings have to be like, each by itself and together.

use std::net::IpAddr;

use domain::rate::Limits;

use super::{Config, ConfigError, flow, value};

/// Refuses what cannot be meant, before anything is opened.
pub(super) fn check(config: &Config) -> Result<(), ConfigError> {
    let refused = |key, value: String, rule| Err(ConfigError::Refused { key, value, rule });
    if !config.public_url.starts_with("http://") && !config.public_url.starts_with("https://") {
        return refused("public_url", config.public_url.clone(), "write it with http:// or https:// in front");
    }
    if !config.database.is_known() {
        // Not repeated: it may be a URL with a password and a typing error in the scheme.
        return refused("database", "…".to_owned(), value::DATABASE_RULE);
    }
    if !config.limits.is_known() {
        return refused("limits", "…".to_owned(), value::COUNTS_RULE);
    }
    let plans = [
        ("limits_free", &config.limits_free),
        ("limits_hobby", &config.limits_hobby),
        ("limits_professional", &config.limits_professional),
        ("limits_operator", &config.limits_operator),
    ];
    for (key, text) in plans {
        if text.parse::<Limits>().is_err() {
            return refused(key, text.clone(), "write something like 50/second,10000/hour (second, minute, hour, day), or none");
        }
    }
    if config.edge_listen.is_empty() {
        return refused("edge_listen", String::new(), "give at least one address, like 127.0.0.1:8081");
    }
    if config.build_concurrency == 0 {
        return refused("build_concurrency", "0".to_owned(), "at least one build must be able to run");
    }
    if config.sleep_after_seconds == 0 {
        return refused("sleep_after_seconds", "0".to_owned(), "at least one second must go by without a request");
    }
    if config.build_seconds == 0 {
        return refused("build_seconds", "0".to_owned(), "a build needs at least one second");
    }
    let cpus = [("replica_cpus", config.replica_cpus), ("build_cpus", config.build_cpus)];
    if let Some((key, bad)) = cpus.into_iter().find(|(_, count)| !count.is_finite() || *count < 0.0) {
        return refused(key, bad.to_string(), "write a number of processors such as 0.5, or 0 for no limit");
    }
    check_tls(config)?;
    check_apps(config)?;
    flow::check(config)?;
    if domain::name::slug(&config.region, "") != config.region || config.region.is_empty() {
        return refused("region", config.region.clone(), "use lower case letters, digits and dashes");
    }
    if let Some(bad) = config.regions.iter().find(|text| value::region(text).is_none()) {
        return refused("regions", bad.clone(), "write names and addresses like paris=https://paris.example.com");
    }
    if config.public || config.base_domain != "localhost" {
        return Ok(());
    }
    let edge = config.edge_listen.iter().map(|address| ("edge_listen", *address));
    let tls = config.edge_tls_listen.iter().map(|address| ("edge_tls_listen", *address));
    for (key, address) in std::iter::once(("listen", config.listen)).chain(edge).chain(tls) {
        if !is_loopback(address.ip()) {
            return Err(ConfigError::NotLoopback { key, address });
        }
    }
    Ok(())
}

/// What holds for certificates.
fn check_tls(config: &Config) -> Result<(), ConfigError> {
    let refused = |key, value: &str, rule| Err(ConfigError::Refused { key, value: value.to_owned(), rule });
    if !config.edge_tls_certificate.as_os_str().is_empty() && config.edge_tls_listen.is_empty() {
        let file = config.edge_tls_certificate.display().to_string();
        return refused("edge_tls_certificate", &file, "say in edge_tls_listen where certificates are used, like 0.0.0.0:443");
    }
    if config.acme_directory.is_empty() {
        return Ok(());
    }
    if !config.acme_directory.starts_with("https://") {
        return refused("acme_directory", &config.acme_directory, "write the https:// address of an authority's ACME directory");
    }
    if config.edge_tls_listen.is_empty() {
        return refused("acme_directory", &config.acme_directory, "say in edge_tls_listen where certificates are used, like 0.0.0.0:443");
    }
    if !config.acme_email.is_empty() && !config.acme_email.contains('@') {
        return refused("acme_email", &config.acme_email, "write a mail address, like operator@example.com");
    }
    Ok(())
}

/// What holds for Galaxy's apps.
fn check_apps(config: &Config) -> Result<(), ConfigError> {
    let refused = |key, value: String, rule| Err(ConfigError::Refused { key, value, rule });
    if let Some(text) = config.container_types.iter().find(|text| value::container_type(text).is_none()) {
        return refused(
            "container_types",
            text.clone(),
            "write sizes like tiny:256MiB:0.3, a name of lower case letters, memory and cores",
        );
    }
    if config.container_types.is_empty() {
        return refused("container_types", String::new(), "at least one size must exist");
    }
    if config.trigger_seconds == 0 {
        return refused("trigger_seconds", "0".to_owned(), "at least one second must lie between two runs");
    }
    Ok(())
}

fn is_loopback(ip: IpAddr) -> bool {
    ip.to_canonical().is_loopback()
}
