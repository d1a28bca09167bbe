//! Files of settings without what is not for builds, and addresses without who signs in.

use toml::{Table, Value};

/// What `.npmrc` may say, in lower case with dashes; `*` stands for any text. pnpm reads the same file.
const NPM: &[&str] = &[
    "registry",
    "*:registry",
    "proxy",
    "http-proxy",
    "https-proxy",
    "noproxy",
    "no-proxy",
    "ca",
    "cafile",
    "strict-ssl",
    "fetch-retries",
    "fetch-retry-factor",
    "fetch-retry-mintimeout",
    "fetch-retry-maxtimeout",
    "fetch-timeout",
    "maxsockets",
    "network-concurrency",
    "offline",
    "prefer-offline",
    "replace-registry-host",
    "omit-lockfile-registry-resolved",
    "nodedir",
    "disturl",
    "*-mirror",
    "*-binary-host",
    "*-binary-site",
    "fund",
    "audit",
    "update-notifier",
    "yes",
    "progress",
    "loglevel",
    "ignore-scripts",
    "min-release-age",
    "minimum-release-age",
];
/// What `pip.conf` may say.
const PIP: &[&str] = &[
    "index-url",
    "extra-index-url",
    "find-links",
    "no-index",
    "trusted-host",
    "cert",
    "proxy",
    "timeout",
    "default-timeout",
    "retries",
    "resume-retries",
    "prefer-binary",
    "only-binary",
    "no-binary",
    "use-feature",
    "use-deprecated",
    "disable-pip-version-check",
    "progress-bar",
];
/// What `uv.toml` may say, at its top and in its table `pip`.
const UV: &[&str] = &[
    "default-index",
    "index",
    "index-url",
    "extra-index-url",
    "find-links",
    "no-index",
    "index-strategy",
    "insecure-host",
    "allow-insecure-host",
    "trusted-host",
    "native-tls",
    "system-certs",
    "http-timeout",
    "http-connect-timeout",
    "http-retries",
    "request-timeout",
    "offline",
    "exclude-newer",
    "link-mode",
    "python-install-mirror",
    "pypy-install-mirror",
    "python-downloads",
    "python-preference",
    "concurrent-downloads",
    "concurrent-builds",
    "concurrent-installs",
    "no-progress",
];
/// Keys of an index in `uv.toml`.
const UV_INDEX: &[&str] = &["name", "url", "default", "explicit", "format"];
/// What `.yarnrc` of the first yarn may say.
const YARN_CLASSIC: &[&str] = &[
    "registry",
    "*:registry",
    "proxy",
    "https-proxy",
    "cafile",
    "ca",
    "strict-ssl",
    "network-timeout",
    "network-concurrency",
    "disable-self-update-check",
];
/// What `.yarnrc.yml` may say, also for one scope of packages.
const YARN: &[&str] = &[
    "npmRegistryServer",
    "httpProxy",
    "httpsProxy",
    "httpsCaFilePath",
    "caFilePath",
    "enableStrictSsl",
    "enableTelemetry",
    "httpTimeout",
    "httpRetry",
    "networkConcurrency",
    "unsafeHttpWhitelist",
    "nodeLinker",
];
/// What `go env -w` may have written.
const GO: &[&str] = &["goproxy", "gonoproxy", "gosumdb", "gonosumdb", "goprivate", "goinsecure", "govcs", "gotoolchain", "gotelemetry"];
/// Paths in the settings of cargo, with what is below them.
const CARGO: &[&str] = &[
    "source",
    "registries.*.index",
    "registries.*.protocol",
    "registry.default",
    "registry.index",
    "http",
    "net.retry",
    "net.git-fetch-with-cli",
    "net.offline",
    "net.ssh",
];
/// The same of poetry.
const POETRY: &[&str] = &["repositories.*.url", "certificates.*.cert", "installer", "requests", "solver"];

/// A file of settings and the tool that reads it.
#[derive(Clone, Copy)]
pub(super) enum Form {
    Npm,
    Pip,
    Uv,
    Yarn,
    YarnClassic,
    Go,
    Cargo,
    Poetry,
}

impl Form {
    /// Whether builds may know the setting `key` of this tool.
    pub(super) fn allows(self, key: &str) -> bool {
        let keys: &[&str] = match self {
            Self::Npm => NPM,
            Self::Pip => PIP,
            Self::Uv => UV,
            Self::YarnClassic => YARN_CLASSIC,
            Self::Go => GO,
            Self::Yarn => return YARN.contains(&key),
            Self::Cargo | Self::Poetry => &[],
        };
        let key = key.to_ascii_lowercase().replace('_', "-");
        keys.iter().any(|pattern| fits(pattern, &key))
    }

    /// The file without what is not for builds. What cannot be read as its format says nothing.
    pub(super) fn sift(self, text: &str) -> String {
        match self {
            Self::Npm | Self::Go | Self::YarnClassic => self.lines(text),
            Self::Pip => self.sections(text),
            Self::Yarn => self.blocks(text),
            Self::Uv => tables(text, |path| match path {
                [index, key] if index == "index" => UV_INDEX.contains(&key.as_str()),
                [pip, key] if pip == "pip" => self.allows(key),
                [key] => self.allows(key),
                _ => false,
            }),
            Self::Cargo => tables(text, |path| CARGO.iter().any(|pattern| begins(pattern, path))),
            Self::Poetry => tables(text, |path| POETRY.iter().any(|pattern| begins(pattern, path))),
        }
    }

    /// One setting in each line.
    fn lines(self, text: &str) -> String {
        let separates = |c: char| if matches!(self, Self::YarnClassic) { c.is_whitespace() } else { c == '=' };
        let allowed = |line: &&str| {
            let key = line.trim().split(separates).next().unwrap_or_default().trim();
            self.allows(key.trim_end_matches("[]").trim_matches('"'))
        };
        text.lines().filter(allowed).map(|line| format!("{line}\n")).collect()
    }

    /// Sections, and values that go on in lines further in.
    fn sections(self, text: &str) -> String {
        let (mut kept, mut depth) = (false, usize::MAX);
        let mut all = String::new();
        for line in text.lines() {
            let bare = line.trim();
            let inset = line.len() - line.trim_start().len();
            if bare.is_empty() || bare.starts_with(['#', ';']) {
                continue;
            }
            let goes_on = inset > depth;
            if !goes_on {
                let header = bare.starts_with('[');
                depth = if header { usize::MAX } else { inset };
                kept = header || self.allows(bare.split(['=', ':']).next().unwrap_or_default().trim());
            }
            if kept {
                all.push_str(line);
                all.push('\n');
            }
        }
        all
    }

    /// The part of YAML that people write settings in: keys with a text, and blocks of them.
    fn blocks(self, text: &str) -> String {
        let mut all = String::new();
        // Blocks around the line, with how far in they begin; they are written with the first line in them that passes.
        let mut around: Vec<(usize, &str, bool)> = vec![];
        for line in text.lines().filter(|line| !line.trim().is_empty() && !line.trim_start().starts_with('#')) {
            let inset = line.len() - line.trim_start().len();
            let bare = line.trim();
            let item = bare.starts_with("- ");
            while around.last().is_some_and(|(outer, ..)| *outer > inset || (*outer == inset && !item)) {
                around.pop();
            }
            let (key, value) = bare.split_once(':').unwrap_or((bare, ""));
            let key_of = |line: &str| line.trim().trim_end_matches(':').trim_matches(['"', '\'']).to_owned();
            if !item && value.trim().is_empty() {
                around.push((inset, line, false));
                continue;
            }
            let known = around.iter().enumerate().all(|(at, (_, block, _))| at > 0 || key_of(block) == "npmScopes");
            let passes = if item {
                around.len() == 1 && key_of(around[0].1) == "unsafeHttpWhitelist" && !bare.contains(": ")
            } else {
                known && self.allows(key.trim().trim_matches(['"', '\''])) && !value.trim_start().starts_with(['{', '|', '>', '&', '*'])
            };
            if passes {
                for (_, block, written) in around.iter_mut().filter(|(.., written)| !written) {
                    all.push_str(block);
                    all.push('\n');
                    *written = true;
                }
                all.push_str(line);
                all.push('\n');
            }
        }
        all
    }
}

/// Whether `pattern`, in which one `*` stands for any text, describes the whole of `text`.
pub(super) fn fits(pattern: &str, text: &str) -> bool {
    match pattern.split_once('*') {
        Some((before, after)) => text.len() >= before.len() + after.len() && text.starts_with(before) && text.ends_with(after),
        None => pattern == text,
    }
}

/// Whether `path` is what `pattern` names, or is below it.
fn begins(pattern: &str, path: &[String]) -> bool {
    let mut parts = path.iter();
    pattern.split('.').all(|wanted| parts.next().is_some_and(|part| wanted == "*" || wanted == part))
}

/// A TOML file with the values at those paths alone.
fn tables(text: &str, allowed: impl Fn(&[String]) -> bool) -> String {
    let table: Table = toml::from_str(text).unwrap_or_default();
    let left = sifted(Value::Table(table), &mut vec![], &allowed);
    left.and_then(|value| toml::to_string(&value).ok()).unwrap_or_default()
}

fn sifted(value: Value, path: &mut Vec<String>, allowed: &impl Fn(&[String]) -> bool) -> Option<Value> {
    match value {
        Value::Table(table) => {
            let mut left = Table::new();
            for (key, value) in table {
                path.push(key.clone());
                if let Some(value) = sifted(value, path, allowed) {
                    left.insert(key, value);
                }
                path.pop();
            }
            (!left.is_empty()).then_some(Value::Table(left))
        }
        Value::Array(values) => {
            let left: Vec<Value> = values.into_iter().filter_map(|value| sifted(value, path, allowed)).collect();
            (!left.is_empty()).then_some(Value::Array(left))
        }
        value => allowed(path).then_some(value),
    }
}

/// The text with addresses that sign nobody in, and what was taken from them: a password, or the name alone where there is none, since
/// tokens are written so.
pub(super) fn without_credentials(text: &str) -> (String, Vec<String>) {
    let ends = |c: char| c.is_whitespace() || matches!(c, '/' | '?' | '#' | '"' | '\'');
    let (mut clean, mut secrets) = (String::new(), vec![]);
    let mut rest = text;
    while let Some(at) = rest.find('@') {
        let end = rest[at..].find(ends).map_or(rest.len(), |length| at + length);
        let last = rest[..end].rfind('@').unwrap_or(at);
        let word = rest[..at].rsplit(ends).next().unwrap_or_default();
        let (before, user) = rest[..last].split_at(at - word.len());
        // Without a scheme only a name with a password is one, perhaps behind the key of its line.
        let key = user.split_once(':').and_then(|(name, _)| name.rfind('=')).map_or(0, |at| at + 1);
        let (key, user) = if before.ends_with("//") { ("", user) } else { user.split_at(key) };
        // Who logs in by SSH is a name that everybody knows; their key is elsewhere.
        let named = before.ends_with("//") && !before.ends_with("ssh://");
        clean.push_str(before);
        if named || user.contains(':') && (before.ends_with("//") || !before.ends_with('/')) {
            clean.push_str(key);
            clean.push_str(&rest[last + 1..end]);
            secrets.push(user.split_once(':').map_or(user, |(_, password)| password).to_owned());
        } else {
            clean.push_str(&rest[before.len()..end]);
        }
        rest = &rest[end..];
    }
    clean.push_str(rest);
    secrets.retain(|secret| !secret.is_empty());
    (clean, secrets)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_keep_where_registries_are_and_lose_who_signs_in() {
        let table = [
            (
                Form::Npm,
                "registry=https://mirror.test/npm/\n//mirror.test/npm/:_authToken=canary\n@own:registry = https://own.test/\n\
                 _auth=canary\nca[]=\"PEM\"\nemail=canary@own.test\nnodedir=/usr\n  _password=canary\n",
                "registry=https://mirror.test/npm/\n@own:registry = https://own.test/\nca[]=\"PEM\"\nnodedir=/usr\n",
            ),
            (
                Form::YarnClassic,
                "registry \"https://mirror.test/npm/\"\n\"//mirror.test/:_authToken\" canary\nstrict-ssl false\nlastUpdateCheck 1\n",
                "registry \"https://mirror.test/npm/\"\nstrict-ssl false\n",
            ),
            (
                Form::Yarn,
                "npmRegistryServer: \"https://mirror.test\"\nnpmAuthToken: canary\nunsafeHttpWhitelist:\n  - \"*.test\"\nnpmScopes:\n  \
                 own:\n    npmAuthToken: canary\n    npmRegistryServer: https://own.test\n  other:\n    npmAuthIdent: canary\n\
                 npmRegistries:\n  \"//mirror.test\":\n    npmAuthToken: canary\nhttpTimeout: 1\n",
                "npmRegistryServer: \"https://mirror.test\"\nunsafeHttpWhitelist:\n  - \"*.test\"\nnpmScopes:\n  own:\n    \
                 npmRegistryServer: https://own.test\nhttpTimeout: 1\n",
            ),
            (
                Form::Pip,
                "[global]\nindex-url = https://mirror.test/simple\nextra-index-url =\n    https://a.test\n    https://b.test\n\
                 client_cert = /canary\n  canary\n[install]\ntrusted-host: mirror.test\n",
                "[global]\nindex-url = https://mirror.test/simple\nextra-index-url =\n    https://a.test\n    https://b.test\n[install]\n\
                 trusted-host: mirror.test\n",
            ),
            (Form::Go, "GOPROXY=https://mirror.test,direct\nGOAUTH=canary\n", "GOPROXY=https://mirror.test,direct\n"),
            (
                Form::Cargo,
                "[source.crates-io]\nreplace-with = \"mirror\"\n[source.mirror]\nregistry = \"sparse+https://mirror.test/\"\n\
                 [registry]\ntoken = \"canary\"\n[registries.own]\ntoken = \"canary\"\n[env]\nSECRET = \"canary\"\n[http]\ncainfo = \"/ca\"\n",
                "[http]\ncainfo = \"/ca\"\n\n[source.crates-io]\nreplace-with = \"mirror\"\n\n[source.mirror]\n\
                 registry = \"sparse+https://mirror.test/\"\n",
            ),
            (
                Form::Uv,
                "publish-url = \"https://canary.test\"\nnative-tls = true\n[[index]]\nurl = \"https://mirror.test\"\nkey = \"canary\"\n",
                "native-tls = true\n\n[[index]]\nurl = \"https://mirror.test\"\n",
            ),
            (
                Form::Poetry,
                "[repositories.own]\nurl = \"https://own.test\"\n[http-basic.own]\npassword = \"canary\"\n",
                "[repositories.own]\nurl = \"https://own.test\"\n",
            ),
            (Form::Cargo, "[registries.own]\ntoken = \"canary\"\n", ""),
            (Form::Cargo, "not = [toml canary", ""),
        ];
        for (form, text, expected) in table {
            let left = form.sift(text);
            if matches!(form, Form::Cargo | Form::Uv | Form::Poetry) {
                assert_eq!(toml::from_str::<Table>(&left).unwrap(), toml::from_str::<Table>(expected).unwrap());
            } else {
                assert_eq!(left, expected);
            }
        }
    }

    #[test]
    fn addresses_lose_names_and_passwords() {
        for (text, clean, secrets) in [
            ("https://mirror.test/@scope/a@1", "https://mirror.test/@scope/a@1", &[][..]),
            ("https://user:canary-1@mirror.test/x", "https://mirror.test/x", &["canary-1"]),
            ("https://u:p@ss,word@mirror.test", "https://mirror.test", &["p@ss,word"]),
            ("https://canary-2@mirror.test https://a.test", "https://mirror.test https://a.test", &["canary-2"]),
            ("https://a.test,https://u:canary-3@b.test|direct", "https://a.test,https://b.test|direct", &["canary-3"]),
            ("registry = \"sparse+https://u:canary-4@m.test/i/\"\n", "registry = \"sparse+https://m.test/i/\"\n", &["canary-4"]),
            ("user:canary-5@proxy.test:3128", "proxy.test:3128", &["canary-5"]),
            ("proxy=u:canary-7@proxy.test:80\nca=x\n", "proxy=proxy.test:80\nca=x\n", &["canary-7"]),
            ("@own:registry=https://u:canary-8@own.test/\n", "@own:registry=https://own.test/\n", &["canary-8"]),
            ("//u:canary-6@mirror.test/", "//mirror.test/", &["canary-6"]),
            ("ssh://git@host.test/x", "ssh://git@host.test/x", &[]),
            ("/opt/node@18/lib", "/opt/node@18/lib", &[]),
            ("localhost,127.0.0.1,::1", "localhost,127.0.0.1,::1", &[]),
        ] {
            assert_eq!(without_credentials(text), (clean.to_owned(), secrets.iter().map(|&secret| secret.to_owned()).collect()), "{text}");
        }
    }
}
