//! `railway connect`: the command-line client of a database, on a machine without Railway's domain names.
//!
//! The CLI takes an address for reachable only if its host is `proxy.rlwy.net` or lies below it (`contracts/railway-cli.md` 1, finding 9), and then
//! starts `psql`, `redis-cli`, `mysql` or `mongosh` with it. So the address that it reads gets that name as an ending, and the client that it
//! finds on its PATH is this program, which takes the ending off, gives the user's environment back and becomes the real client.

use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::Context as _;
use serde_json::{Value, json};

use super::child;

/// What the CLI believes to be reachable.
const ENDING: &str = ".proxy.rlwy.net";

/// Clients that the CLI starts.
const CLIENTS: [&str; 4] = ["psql", "redis-cli", "mysql", "mongosh"];

/// The variables that it looks at: the public address, and the private one.
const ADDRESSES: [(&str, &str); 4] = [
    ("DATABASE_PUBLIC_URL", "DATABASE_URL"),
    ("REDIS_PUBLIC_URL", "REDIS_URL"),
    ("MYSQL_PUBLIC_URL", "MYSQL_URL"),
    ("MONGO_PUBLIC_URL", "MONGO_URL"),
];

/// The end of the host in a URL whose host and port are given, or `None`.
fn end_of_host(url: &str) -> Option<usize> {
    let start = url.find("://")? + 3;
    let end = url[start..].find(['/', '?', '#']).map_or(url.len(), |at| start + at);
    let place = url[start..end].rfind('@').map_or(start, |at| start + at + 1);
    let colon = place + url[place..end].rfind(':')?;
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_');
    let host = &url[place..colon];
    (!host.is_empty() && host.chars().all(plain) && url[colon + 1..end].parse::<u16>().is_ok()).then_some(colon)
}

fn disguised(url: &str) -> Option<String> {
    let end = end_of_host(url)?;
    Some(format!("{}{ENDING}{}", &url[..end], &url[end..]))
}

/// The server's answer as `railway connect` needs it. A private address leads to a database of this machine only.
pub(super) fn disguise(answer: &[u8], is_local: bool) -> Option<Vec<u8>> {
    let mut answer: Value = serde_json::from_slice(answer).ok()?;
    let variables = answer.pointer_mut("/data/variablesForServiceDeployment")?.as_object_mut()?;
    let (public, private) =
        ADDRESSES.into_iter().find(|(public, private)| variables.contains_key(*public) || variables.contains_key(*private))?;
    let read = |name: &str| variables.get(name).and_then(Value::as_str).and_then(disguised);
    match read(public).or_else(|| read(private).filter(|_| is_local)) {
        Some(url) => drop(variables.insert(public.to_owned(), url.into())),
        None => {
            let told = "this database has no public address: make one with `railway tcp-proxy create --port PORT --service NAME`, \
                        and deploy the database again";
            answer = json!({"errors": [{"message": told}]});
        }
    }
    serde_json::to_vec(&answer).ok()
}

/// A folder with this program under the names of the clients that the user has, to stand first on the CLI's PATH.
pub(super) fn folder(home: &Path, orrery: &Path) -> anyhow::Result<PathBuf> {
    let folder = home.join("clients");
    std::fs::create_dir_all(&folder).with_context(|| format!("cannot create {}", folder.display()))?;
    let path = std::env::var_os("PATH").unwrap_or_default();
    for name in CLIENTS {
        let exists = std::env::split_paths(&path).any(|place| place.join(name).is_file());
        let link = folder.join(name);
        if exists {
            child::link(&link, orrery)?;
        } else if let Err(error) = std::fs::remove_file(&link)
            && error.kind() != std::io::ErrorKind::NotFound
        {
            // The CLI says itself what must be installed.
            return Err(error).with_context(|| format!("cannot remove {}", link.display()));
        }
    }
    Ok(folder)
}

/// The arguments for the real client.
fn real(client: &str, args: Vec<OsString>) -> Vec<OsString> {
    let mut made = vec![];
    for arg in args {
        let Some(text) = arg.to_str() else {
            made.push(arg);
            continue;
        };
        let text = text.replacen(ENDING, "", 1);
        // redis-cli takes a name without a password for the password, which the CLI has put into the environment.
        let user = text
            .strip_prefix("redis://")
            .and_then(|rest| rest.split_once('@'))
            .filter(|(user, _)| client == "redis-cli" && !user.contains(':'));
        match user {
            Some((user, place)) => made.extend([format!("redis://{place}").into(), "--user".into(), user.into()]),
            None => made.push(text.into()),
        }
    }
    made
}

/// Becomes a client of a database if this program was started as one by `railway connect`.
pub(crate) fn run_as_client() -> Option<ExitCode> {
    let mut args = std::env::args_os();
    let name = PathBuf::from(args.next()?);
    let client = CLIENTS.into_iter().find(|client| name.file_name() == Some(OsStr::new(client)))?;
    child::become_or_tell(|| Ok((client.into(), real(client, args.collect()))))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(variables: Value, is_local: bool) -> Value {
        let answer = json!({"data": {"variablesForServiceDeployment": variables}}).to_string();
        serde_json::from_slice(&disguise(answer.as_bytes(), is_local).unwrap()).unwrap()
    }

    #[test]
    fn an_address_gets_the_ending_and_loses_it_again() {
        let url = "postgresql://u:p%40ss@127.0.0.1:30001/db?x=@y:1";
        let hidden = disguised(url).unwrap();
        assert_eq!(hidden, "postgresql://u:p%40ss@127.0.0.1.proxy.rlwy.net:30001/db?x=@y:1");
        assert_eq!(real("psql", vec![hidden.into()]), [OsString::from(url)]);
        assert_eq!(
            real("mysql", ["-h", "db.example.com.proxy.rlwy.net", "-P", "1"].map(Into::into).into()),
            ["-h", "db.example.com", "-P", "1"]
        );
        let redis = real("redis-cli", ["-u", "redis://default@127.0.0.1.proxy.rlwy.net:6379/"].map(Into::into).into());
        assert_eq!(redis, ["-u", "redis://127.0.0.1:6379/", "--user", "default"]);
        for bad in ["postgresql://u:p@:/db", "x", "redis://[::1]:1", "redis://host", "redis://h:p/"] {
            assert_eq!(disguised(bad), None, "{bad}");
        }
    }

    #[test]
    fn the_public_address_is_preferred_and_one_that_leads_nowhere_is_explained() {
        let both = json!({"DATABASE_PUBLIC_URL": "postgresql://a@h:1/x", "DATABASE_URL": "postgresql://a@127.0.0.1:2/x", "OTHER": "1"});
        let read = told(both, true)["data"]["variablesForServiceDeployment"].clone();
        assert_eq!(read["DATABASE_PUBLIC_URL"], "postgresql://a@h.proxy.rlwy.net:1/x");
        assert_eq!((&read["DATABASE_URL"], &read["OTHER"]), (&json!("postgresql://a@127.0.0.1:2/x"), &json!("1")));
        let private = json!({"REDIS_PUBLIC_URL": "redis://d:p@:", "REDIS_URL": "redis://d:p@127.0.0.1:2"});
        let read = told(private.clone(), true)["data"]["variablesForServiceDeployment"].clone();
        assert_eq!(read["REDIS_PUBLIC_URL"], "redis://d:p@127.0.0.1.proxy.rlwy.net:2");
        assert!(told(private, false)["errors"][0]["message"].as_str().unwrap().contains("railway tcp-proxy create"));
        assert!(disguise(br#"{"data":{"variablesForServiceDeployment":{"PORT":"1"}}}"#, true).is_none());
        assert!(disguise(br#"{"data":{"project":{}}}"#, true).is_none() && disguise(b"", true).is_none());
    }
}
