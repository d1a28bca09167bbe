//! Kinds of values that settings have.

use std::borrow::Cow;
use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::str::FromStr;

use domain::galaxy::ContainerType;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use secrecy::{ExposeSecret, SecretString};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// A number of bytes; written as a number or with a unit: `500MB` (powers of 1000), `512MiB` (powers of 1024).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct ByteSize(pub(crate) u64);

const UNITS: [(&str, u64); 9] = [
    ("kib", 1 << 10),
    ("mib", 1 << 20),
    ("gib", 1 << 30),
    ("tib", 1 << 40),
    ("kb", 1_000),
    ("mb", 1_000_000),
    ("gb", 1_000_000_000),
    ("tb", 1_000_000_000_000),
    ("b", 1),
];

impl ByteSize {
    /// What a build may use unless the operator says otherwise. Some of a small machine's memory is left for what runs there.
    pub(crate) fn for_builds() -> Self {
        let meminfo = std::fs::read_to_string("/proc/meminfo").unwrap_or_default();
        let line = meminfo.lines().find_map(|line| line.strip_prefix("MemTotal:")?.trim().strip_suffix(" kB"));
        let kilobytes: Option<u64> = line.and_then(|text| text.trim().parse().ok());
        let share = kilobytes.map_or(u64::MAX, |kilobytes| kilobytes * 1024 / 4_000_000 * 3);
        Self(share.max(1).saturating_mul(1_000_000).min(4_000_000_000))
    }
}

impl FromStr for ByteSize {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let lower = text.trim().to_ascii_lowercase();
        let (digits, unit) = UNITS
            .iter()
            .find_map(|(name, bytes)| lower.strip_suffix(name).map(|digits| (digits.trim_end(), *bytes)))
            .unwrap_or((lower.as_str(), 1));
        let count: Option<u64> = digits.parse().ok();
        count
            .and_then(|count| count.checked_mul(unit))
            .map(Self)
            .ok_or_else(|| "write a whole number of bytes, or one with a unit, like 500MB or 2GiB".to_owned())
    }
}

impl fmt::Display for ByteSize {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let fits = UNITS.iter().filter(|(_, bytes)| self.0 >= *bytes && self.0.is_multiple_of(*bytes)).max_by_key(|(_, bytes)| *bytes);
        match fits {
            Some((_, 1)) | None => write!(f, "{}", self.0),
            Some((name, bytes)) => write!(f, "{}{}", self.0 / bytes, name.to_ascii_uppercase().replace('I', "i")),
        }
    }
}

impl Serialize for ByteSize {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for ByteSize {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Visitor;
        impl serde::de::Visitor<'_> for Visitor {
            type Value = ByteSize;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a number of bytes, or a text like \"500MB\"")
            }

            fn visit_u64<E: serde::de::Error>(self, value: u64) -> Result<ByteSize, E> {
                Ok(ByteSize(value))
            }

            fn visit_i64<E: serde::de::Error>(self, value: i64) -> Result<ByteSize, E> {
                u64::try_from(value).map(ByteSize).map_err(|_| E::custom("a number of bytes cannot be negative"))
            }

            fn visit_str<E: serde::de::Error>(self, value: &str) -> Result<ByteSize, E> {
                value.parse().map_err(E::custom)
            }
        }
        deserializer.deserialize_any(Visitor)
    }
}

impl JsonSchema for ByteSize {
    fn schema_name() -> Cow<'static, str> {
        "ByteSize".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "description": "A number of bytes, or a text with a unit such as \"500MB\" or \"2GiB\".",
            "anyOf": [{ "type": "integer", "minimum": 0 }, { "type": "string", "pattern": "^[0-9]+ ?([kKmMgGtT][iI]?)?[bB]?$" }],
        })
    }
}

/// Ports from the first to the last, written `30000-32767`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct PortRange(pub(crate) std::ops::RangeInclusive<u16>);

impl FromStr for PortRange {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let port = |text: &str| text.trim().parse::<u16>().ok().filter(|port| *port > 0);
        let ports = text.split_once('-').and_then(|(first, last)| Some((port(first)?, port(last)?)));
        let ports = ports.filter(|(first, last)| first <= last);
        ports.map(|(first, last)| Self(first..=last)).ok_or_else(|| "write the first and the last port, like 30000-32767".to_owned())
    }
}

impl fmt::Display for PortRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.0.start(), self.0.end())
    }
}

impl Serialize for PortRange {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for PortRange {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

impl JsonSchema for PortRange {
    fn schema_name() -> Cow<'static, str> {
        "PortRange".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({"description": "The first and the last port, such as \"30000-32767\".", "type": "string", "pattern": "^[0-9]+-[0-9]+$"})
    }
}

/// Who is asked who owns a custom domain: `system`, `off`, or an address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct NameServer(pub(crate) engine::DnsConfig);

impl NameServer {
    /// Names below `localhost` are this machine's alone, and no name server knows of them.
    pub(crate) fn default_for(base_domain: &str) -> Self {
        let local = base_domain.trim_matches('.').eq_ignore_ascii_case("localhost");
        Self(if local { engine::DnsConfig::Off } else { engine::DnsConfig::System })
    }
}

impl FromStr for NameServer {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let address = |text: &str| text.parse::<SocketAddr>().or_else(|_| text.parse::<IpAddr>().map(|ip| SocketAddr::from((ip, 53))));
        match text.trim() {
            "system" => Ok(Self(engine::DnsConfig::System)),
            "off" => Ok(Self(engine::DnsConfig::Off)),
            text => address(text).map(|address| Self(engine::DnsConfig::Server(address))).map_err(|_| NAME_SERVER_RULE.to_owned()),
        }
    }
}

const NAME_SERVER_RULE: &str = "write system, off, or the address of a name server, like 127.0.0.1:53";

impl fmt::Display for NameServer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            engine::DnsConfig::System => f.write_str("system"),
            engine::DnsConfig::Off => f.write_str("off"),
            engine::DnsConfig::Server(address) => address.fmt(f),
        }
    }
}

impl Serialize for NameServer {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for NameServer {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

impl JsonSchema for NameServer {
    fn schema_name() -> Cow<'static, str> {
        "NameServer".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({"description": "system, off, or the address of a name server such as \"127.0.0.1:53\".", "type": "string"})
    }
}

/// A size of containers as it is written: `tiny:256MiB:0.3`. `None` for what is none.
pub(crate) fn container_type(text: &str) -> Option<ContainerType> {
    let mut parts = text.trim().split(':');
    let (name, memory, cores) = (parts.next()?, parts.next()?, parts.next()?);
    let memory: ByteSize = memory.parse().ok()?;
    let cores: f64 = cores.trim().parse().ok()?;
    let plain = !name.is_empty() && name.len() <= 40 && name.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit());
    let sized = (1 << 20..=1 << 50).contains(&memory.0) && (0.01..=10_000.0).contains(&cores);
    if parts.next().is_some() || !plain || !sized {
        return None;
    }
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "checked to be within ten thousand cores")]
    let cpu_millis = (cores * 1_000.0).round() as u32;
    Some(ContainerType { name: name.to_owned(), memory_bytes: memory.0, cpu_millis })
}

/// Galaxy's sizes.
pub(crate) fn container_types_default() -> Vec<String> {
    let written = |one: ContainerType| {
        let ContainerType { name, memory_bytes, cpu_millis } = one;
        format!("{name}:{}:{}", ByteSize(memory_bytes), f64::from(cpu_millis) / 1_000.0)
    };
    ContainerType::galaxy().into_iter().map(written).collect()
}

/// A database's URL. It can hold a password, so its text is shown without it.
#[derive(Clone)]
pub(crate) struct DatabaseUrl(SecretString);

impl DatabaseUrl {
    /// A SQLite database in a file; `path` is absolute.
    pub(crate) fn sqlite(path: &Path) -> Self {
        Self(format!("sqlite://{}", path.display()).into())
    }

    /// Any text, for [`is_known`](Self::is_known) to judge: the command line's own errors would repeat it, password and all.
    #[expect(clippy::unnecessary_wraps, reason = "the shape of a parser of the command line")]
    pub(crate) fn unchecked(text: &str) -> Result<Self, std::convert::Infallible> {
        Ok(Self(text.into()))
    }

    /// Whether this is a database that Orrery can use.
    pub(crate) fn is_known(&self) -> bool {
        ["sqlite://", "postgres://", "postgresql://"].iter().any(|scheme| self.expose().starts_with(scheme))
    }

    /// The whole URL, with the password.
    pub(crate) fn expose(&self) -> &str {
        self.0.expose_secret()
    }

    /// Whether the database is a PostgreSQL server.
    pub(crate) fn is_postgres(&self) -> bool {
        self.expose().starts_with("postgres")
    }

    /// Whether the URL holds a password.
    pub(crate) fn has_password(&self) -> bool {
        let rest = self.expose().split_once("://").map_or("", |(_, rest)| rest);
        rest.contains("password=") || rest.rsplit_once('@').is_some_and(|(user, _)| user.contains(':'))
    }

    /// Host and port of the server, as one text that can be resolved.
    pub(crate) fn place(&self) -> String {
        let rest = self.expose().split_once("://").map_or("", |(_, rest)| rest);
        let rest = rest.split(['/', '?']).next().unwrap_or("");
        let place = rest.rsplit('@').next().unwrap_or("");
        let host = if place.is_empty() { "localhost" } else { place };
        let has_port = host.rsplit_once(':').is_some_and(|(_, port)| port.parse::<u16>().is_ok());
        if has_port { host.to_owned() } else { format!("{host}:5432") }
    }

    /// The socket file of the server, when the URL names its folder (`?host=/run/postgresql`).
    pub(crate) fn socket(&self) -> Option<PathBuf> {
        let parameters = self.expose().split_once('?')?.1;
        let value = |key: &str| parameters.split('&').find_map(|pair| pair.strip_prefix(key)?.strip_prefix('='));
        let folder = value("host")?.replace("%2F", "/").replace("%2f", "/");
        folder.starts_with('/').then(|| Path::new(&folder).join(format!(".s.PGSQL.{}", value("port").unwrap_or("5432"))))
    }
}

/// What a database's URL may be.
pub(super) const DATABASE_RULE: &str = "write sqlite:///PATH or postgres://USER:PASSWORD@HOST:PORT/NAME";

impl fmt::Display for DatabaseUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let url = self.expose();
        // Parameters can hold a password too (`?password=…`), so only their presence is shown.
        let (url, parameters) = url.split_once('?').map_or((url, ""), |(url, _)| (url, "?…"));
        let (scheme, rest) = url.split_once("://").unwrap_or(("", url));
        let shown = match rest.rsplit_once('@') {
            Some((user, place)) if user.contains(':') => format!("{}:…@{place}", user.split(':').next().unwrap_or("")),
            _ => rest.to_owned(),
        };
        write!(f, "{scheme}://{shown}{parameters}")
    }
}

impl fmt::Debug for DatabaseUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "DatabaseUrl({self})")
    }
}

impl Serialize for DatabaseUrl {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for DatabaseUrl {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let url = Self(String::deserialize(deserializer)?.into());
        if url.is_known() { Ok(url) } else { Err(serde::de::Error::custom(DATABASE_RULE)) }
    }
}

impl JsonSchema for DatabaseUrl {
    fn schema_name() -> Cow<'static, str> {
        "DatabaseUrl".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "string", "pattern": "^(sqlite|postgres|postgresql)://" })
    }
}

/// Where requests are counted. It can hold a password, which is not shown.
#[derive(Clone, Debug)]
pub(crate) struct CountsAt(DatabaseUrl);

const MEMORY: &str = "memory";

/// Where requests may be counted.
pub(super) const COUNTS_RULE: &str = "write memory, or redis://HOST:PORT/NUMBER with :PASSWORD@ in front of the host when it needs one";

impl CountsAt {
    /// In this process.
    pub(crate) fn memory() -> Self {
        Self(DatabaseUrl(MEMORY.into()))
    }

    /// As [`DatabaseUrl::unchecked`].
    #[expect(clippy::unnecessary_wraps, reason = "the shape of a parser of the command line")]
    pub(crate) fn unchecked(text: &str) -> Result<Self, std::convert::Infallible> {
        Ok(Self(DatabaseUrl(text.into())))
    }

    /// Whether requests can be counted there.
    pub(crate) fn is_known(&self) -> bool {
        self.0.expose() == MEMORY || self.redis().is_some()
    }

    /// The address of the Redis server, with its password.
    pub(crate) fn redis(&self) -> Option<&str> {
        Some(self.0.expose()).filter(|url| url.starts_with("redis://"))
    }
}

impl fmt::Display for CountsAt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.redis().is_some() { self.0.fmt(f) } else { f.write_str(MEMORY) }
    }
}

impl Serialize for CountsAt {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for CountsAt {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let place = Self(DatabaseUrl(String::deserialize(deserializer)?.into()));
        if place.is_known() { Ok(place) } else { Err(serde::de::Error::custom(COUNTS_RULE)) }
    }
}

impl JsonSchema for CountsAt {
    fn schema_name() -> Cow<'static, str> {
        "CountsAt".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "string", "pattern": "^(memory$|redis://)" })
    }
}

/// What happens to requests with a key while Redis does not answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Fallback {
    /// Each control plane counts by itself.
    Local,
    /// They are refused.
    Refuse,
}

/// Which parts of Orrery a `serve` process is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Role {
    /// The API and the engine.
    All,
    /// Only the API.
    Api,
    /// Only the engine.
    Engine,
}

/// `TYPE=VALUE`, where the type is one of a node.
pub(crate) fn pair(text: &str) -> Option<(&str, &str)> {
    let (kind, value) = text.split_once('=')?;
    let (kind, value) = (kind.trim(), value.trim());
    let plain = kind.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_');
    (plain && !kind.is_empty() && !value.is_empty()).then_some((kind, value))
}

/// `NAME=URL` of another server, without a slash at its end.
pub(crate) fn region(text: &str) -> Option<(&str, &str)> {
    let (name, url) = text.split_once('=')?;
    let (name, url) = (name.trim(), url.trim().trim_end_matches('/'));
    let host = url.strip_prefix("https://").or_else(|| url.strip_prefix("http://"))?;
    let named = !name.is_empty() && domain::name::slug(name, "") == name;
    (named && !host.is_empty() && url.bytes().all(|byte| byte.is_ascii_graphic())).then_some((name, url))
}

/// The form of a log line.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub(crate) enum LogFormat {
    /// For people.
    Text,
    /// One object per line.
    Json,
}

/// The path from the root, as processes in other folders find it.
pub(super) fn absolute(path: PathBuf) -> PathBuf {
    std::path::absolute(&path).unwrap_or(path)
}

/// What has no flag and no place in the file.
#[derive(Debug)]
pub(crate) struct Secrets {
    /// The master key itself when `ORRERY_MASTER_KEY` holds it; then the file is not read.
    pub(crate) master_key: Option<SecretString>,
    /// `smtps://user:password@host`, of `ORRERY_MAIL_SERVER`.
    pub(crate) mail_server: Option<SecretString>,
    /// `ORRERY_LLM_KEY`
    pub(crate) llm_key: Option<SecretString>,
}

impl Secrets {
    /// As they are there; in the environment they are in no list of processes.
    pub(super) fn of_environment() -> Self {
        let [master_key, mail_server, llm_key] = ["ORRERY_MASTER_KEY", "ORRERY_MAIL_SERVER", "ORRERY_LLM_KEY"].map(secret);
        Self { master_key, mail_server, llm_key }
    }
}

fn secret(variable: &str) -> Option<SecretString> {
    std::env::var(variable).ok().filter(|text| !text.is_empty()).map(SecretString::from)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_read_and_print() {
        for (text, bytes, shown) in [("500MB", 500_000_000, "500MB"), ("2 GiB", 2 << 30, "2GiB"), ("1023", 1023, "1023"), ("0", 0, "0")] {
            let size: ByteSize = text.parse().unwrap();
            assert_eq!((size.0, size.to_string().as_str()), (bytes, shown));
        }
        for bad in ["", "MB", "-1", "1.5GB", "99999999999TB"] {
            assert!(bad.parse::<ByteSize>().is_err(), "{bad}");
        }
    }

    #[test]
    fn container_types_are_read_as_they_are_written() {
        let default = container_types_default();
        assert_eq!((default[0].as_str(), default[6].as_str()), ("tiny:256MiB:0.3", "dozen:12GiB:12.2"));
        let read: Option<Vec<ContainerType>> = default.iter().map(|text| container_type(text)).collect();
        assert_eq!(read, Some(ContainerType::galaxy()));
        for bad in ["", "tiny", "tiny:256MiB", "tiny:256MiB:0", "Tiny:256MiB:1", "tiny:0:1", "tiny:1GiB:1:1", "a b:1GiB:1", "x:1GiB:NaN"] {
            assert_eq!(container_type(bad), None, "{bad}");
        }
    }

    #[test]
    fn pairs_have_a_type_and_a_value() {
        assert_eq!(pair("gpt_5 = gpt-5=mini"), Some(("gpt_5", "gpt-5=mini")));
        for bad in ["", "gpt_5", "gpt_5=", "=x", "GPT=x", "gpt-5=x"] {
            assert_eq!(pair(bad), None, "{bad}");
        }
    }

    #[test]
    fn regions_have_a_name_and_an_address() {
        assert_eq!(region(" paris = https://paris.example.com/ "), Some(("paris", "https://paris.example.com")));
        for bad in [
            "",
            "paris",
            "paris=",
            "=https://x.test",
            "Paris=https://x.test",
            "paris=ftp://x.test",
            "paris=javascript:alert(1)",
            "p=http:// x",
        ] {
            assert_eq!(region(bad), None, "{bad}");
        }
    }

    #[test]
    fn database_urls_hide_their_password() {
        let url = |text: &str| DatabaseUrl::unchecked(text).unwrap();
        let shown = |text: &str| format!("{0} {0:?}", url(text));
        for text in ["postgres://u:canary@h:5432/db", "postgres://u:can@ary@h/db?sslmode=require", "postgres://u@h/db?password=canary"] {
            let shown = shown(text);
            assert!(!shown.contains("ary") && shown.contains("h"), "{shown}");
        }
        assert!(shown("sqlite:///var/lib/x.db").starts_with("sqlite:///var/lib/x.db "));
        let server = url("postgres://u:canary@h/db");
        assert_eq!((server.place().as_str(), server.has_password(), server.socket()), ("h:5432", true, None));
        let counts = CountsAt::unchecked("redis://u:canary@h:6379/0").unwrap();
        assert!(counts.is_known() && !format!("{counts} {counts:?}").contains("canary"));
        assert!(!CountsAt::unchecked("http://h").unwrap().is_known() && CountsAt::memory().is_known());
        let server = url("postgres:///db?host=%2Frun%2Fpg&port=7");
        assert_eq!((server.has_password(), server.socket()), (false, Some("/run/pg/.s.PGSQL.7".into())));
    }
}
