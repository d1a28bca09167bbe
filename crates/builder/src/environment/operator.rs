//! What builds get of the operator's own settings: how registries are reached, and nothing that signs in anywhere.
//!
//! The commands of a build are its tenant's and can read all of it. So each format has a list of what passes, not of what does not.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Once;

use super::sift::{self, Form};
use crate::failure::BuildFailure;

/// Variables of the server that builds see, in capitals; `*` stands for any text.
const VARIABLES: &[&str] = &[
    "HTTP_PROXY",
    "HTTPS_PROXY",
    "ALL_PROXY",
    "NO_PROXY",
    "SSL_CERT_FILE",
    "SSL_CERT_DIR",
    "NODE_EXTRA_CA_CERTS",
    "REQUESTS_CA_BUNDLE",
    "CURL_CA_BUNDLE",
    "GIT_SSL_CAINFO",
    "LANG",
    "LC_ALL",
    "TZ",
    "YARN_REGISTRY",
    "YARN_NPM_REGISTRY_SERVER",
    "YARN_HTTP_PROXY",
    "YARN_HTTPS_PROXY",
    "YARN_HTTPS_CA_FILE_PATH",
    "YARN_HTTP_TIMEOUT",
    "YARN_HTTP_RETRY",
    "YARN_ENABLE_STRICT_SSL",
    "YARN_UNSAFE_HTTP_WHITELIST",
    "POETRY_REPOSITORIES_*_URL",
    "POETRY_CERTIFICATES_*_CERT",
    "CARGO_SOURCE_*",
    "CARGO_REGISTRIES_*_INDEX",
    "CARGO_REGISTRIES_*_PROTOCOL",
    "CARGO_REGISTRY_INDEX",
    "CARGO_REGISTRY_DEFAULT",
    "CARGO_HTTP_*",
    "CARGO_NET_*",
    "GOPROXY",
    "GONOPROXY",
    "GOSUMDB",
    "GONOSUMDB",
    "GOPRIVATE",
    "GOINSECURE",
    "GOTOOLCHAIN",
    // Of these, what the files of the same tool may say.
    "PIP_*",
    "NPM_CONFIG_*",
    "UV_*",
];
/// Variables that name a file of settings instead of the one in the home.
const POINTERS: [(&str, &str); 3] =
    [("NPM_CONFIG_USERCONFIG", ".npmrc"), ("PIP_CONFIG_FILE", ".config/pip/pip.conf"), ("UV_CONFIG_FILE", ".config/uv/uv.toml")];
/// Settings in the server's home that the build gets what it may know of, because its user cannot read that home.
const FILES: [(&str, Form); 8] = [
    (".npmrc", Form::Npm),
    (".yarnrc", Form::YarnClassic),
    (".yarnrc.yml", Form::Yarn),
    (".config/pip/pip.conf", Form::Pip),
    (".pip/pip.conf", Form::Pip),
    (".config/uv/uv.toml", Form::Uv),
    (".config/pypoetry/config.toml", Form::Poetry),
    (".config/go/env", Form::Go),
];
/// The same in the home of cargo.
const CARGO_FILES: [&str; 2] = ["config.toml", "config"];

/// The operator's settings as builds get them.
pub(crate) struct Operator {
    pub(super) variables: BTreeMap<String, String>,
    /// By the path below the build's home.
    pub(super) files: Vec<(&'static str, String)>,
    /// The same below the home of cargo.
    pub(super) cargo_files: Vec<(&'static str, String)>,
    /// Names and passwords in the addresses: no log shows them, whether or not builds get them.
    pub(crate) secrets: Vec<String>,
}

impl Operator {
    /// Reads them, anew for each build. `credentials`: addresses keep the names and passwords in them.
    ///
    /// # Errors
    /// `Internal` for a file that is there and cannot be read.
    pub(crate) fn read(credentials: bool) -> Result<Self, BuildFailure> {
        let own = std::env::vars_os().filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)));
        let own: Vec<(String, String)> = own.collect();
        let mut found = Self { variables: BTreeMap::new(), files: vec![], cargo_files: vec![], secrets: vec![] };
        let passed: Vec<_> = own.iter().filter(|(name, _)| passes(name)).collect();
        for (name, value) in passed {
            let value = found.without_credentials(value, credentials);
            found.variables.insert(name.clone(), value);
        }
        let home = std::env::home_dir();
        if let Some(home) = &home {
            for (file, form) in FILES {
                let text = found.file(&home.join(file), form, credentials)?;
                found.files.extend(text.map(|text| (file, text)));
            }
            let cargo = std::env::var_os("CARGO_HOME").map_or_else(|| home.join(".cargo"), PathBuf::from);
            for file in CARGO_FILES {
                let text = found.file(&cargo.join(file), Form::Cargo, credentials)?;
                found.cargo_files.extend(text.map(|text| (file, text)));
            }
        }
        for (variable, file) in POINTERS {
            let Some((_, path)) = own.iter().find(|(name, _)| name.eq_ignore_ascii_case(variable)) else { continue };
            let Some((_, form)) = FILES.into_iter().find(|(known, _)| *known == file) else { continue };
            if let Some(text) = found.file(Path::new(path), form, credentials)? {
                found.files.push((file, text));
            }
        }
        if !found.secrets.is_empty() && !credentials {
            tell();
        }
        Ok(found)
    }

    fn file(&mut self, path: &Path, form: Form, credentials: bool) -> Result<Option<String>, BuildFailure> {
        if !path.is_file() {
            return Ok(None);
        }
        let bytes = fs::read(path).map_err(|error| BuildFailure::io("reading the settings in", path, &error))?;
        let text = form.sift(&String::from_utf8_lossy(&bytes));
        Ok(Some(self.without_credentials(&text, credentials)).filter(|text| !text.trim().is_empty()))
    }

    /// Notes the secrets in `text` and, unless they may stay, takes them away.
    fn without_credentials(&mut self, text: &str, stay: bool) -> String {
        let (clean, secrets) = sift::without_credentials(text);
        self.secrets.extend(secrets);
        if stay { text.to_owned() } else { clean }
    }
}

/// Once is enough: the operator looks when the first build fails.
fn tell() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        tracing::warn!(
            "builds get the addresses of package mirrors and proxies without the names and passwords in them: what needs those fails \
             unless build_credentials is set, with which every user's build can read them"
        );
    });
}

fn passes(name: &str) -> bool {
    let upper = name.to_ascii_uppercase();
    let listed = VARIABLES.iter().any(|pattern| sift::fits(pattern, &upper));
    let key_of = |prefix: &str, form: Form| upper.strip_prefix(prefix).is_none_or(|key| form.allows(key));
    listed && key_of("PIP_", Form::Pip) && key_of("NPM_CONFIG_", Form::Npm) && key_of("UV_", Form::Uv)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn variables_pass_that_say_where_registries_are() {
        for name in [
            "https_proxy",
            "PIP_INDEX_URL",
            "PIP_DEFAULT_TIMEOUT",
            "PIP_FIND_LINKS",
            "npm_config_registry",
            "npm_config_@own:registry",
            "NPM_CONFIG_STRICT_SSL",
            "NPM_CONFIG_ELECTRON_MIRROR",
            "UV_DEFAULT_INDEX",
            "UV_HTTP_TIMEOUT",
            "CARGO_REGISTRIES_OWN_INDEX",
            "CARGO_HTTP_CAINFO",
            "CARGO_SOURCE_CRATES_IO_REPLACE_WITH",
            "POETRY_REPOSITORIES_OWN_URL",
            "GOPROXY",
        ] {
            assert!(passes(name), "{name}");
        }
        for name in [
            "PATH",
            "PIP_CACHE_DIR",
            "PIP_CLIENT_CERT",
            "PIP_CONFIG_FILE",
            "NPM_CONFIG_USERCONFIG",
            "NPM_CONFIG__AUTH",
            "NPM_CONFIG__AUTHTOKEN",
            "npm_config_//registry.npmjs.org/:_authToken",
            "NPM_CONFIG_PREFIX",
            "NPM_CONFIG_KEY",
            "YARN_NPM_AUTH_TOKEN",
            "YARN_NPM_PUBLISH_REGISTRY",
            "UV_PUBLISH_TOKEN",
            "UV_INDEX_OWN_PASSWORD",
            "UV_CACHE_DIR",
            "CARGO_REGISTRY_TOKEN",
            "CARGO_REGISTRIES_OWN_TOKEN",
            "CARGO_REGISTRIES_OWN_CREDENTIAL_PROVIDER",
            "POETRY_PYPI_TOKEN_OWN",
            "POETRY_HTTP_BASIC_OWN_PASSWORD",
            "GOAUTH",
        ] {
            assert!(!passes(name), "{name}");
        }
    }
}
