//! What an environment's document says of volumes and TCP ports (`contracts/railway.md` 3.9).

use std::collections::BTreeMap;

use serde_json::Value;

use super::BadConfig;
use crate::volume::{BackupKind, mount_path};

/// A change of a volume in the environment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum VolumePatch {
    /// It goes away.
    Remove,
    /// It is there.
    Keep {
        /// It is added, if it is not there.
        is_created: bool,
        /// What it may hold, in MB.
        size_mb: Option<u32>,
    },
}

/// A change of where a service finds a volume.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum MountPatch {
    /// The service has it no longer.
    Detach,
    /// The service has it.
    Attach {
        /// Where; `None` keeps the path that it has.
        mount_path: Option<String>,
        /// The schedules of its backups; `None` keeps those that it has.
        backup_schedules: Option<Vec<BackupKind>>,
    },
}

fn fields<'a>(path: &str, value: &'a Value) -> Result<&'a serde_json::Map<String, Value>, BadConfig> {
    value.as_object().ok_or_else(|| BadConfig(format!("{path} must be an object")))
}

/// Reads `volumes`, by the volume's id.
///
/// # Errors
/// No object, or a size that is no whole number.
pub fn volumes(patch: &Value) -> Result<BTreeMap<String, VolumePatch>, BadConfig> {
    let read = |(id, value): (&String, &Value)| {
        if value.is_null() {
            return Ok((id.clone(), VolumePatch::Remove));
        }
        let entry = fields(&format!("volumes.{id}"), value)?;
        let says = |key: &str| entry.get(key) == Some(&Value::Bool(true));
        if says("isDeleted") {
            return Ok((id.clone(), VolumePatch::Remove));
        }
        let size_mb = match entry.get("sizeMB") {
            None | Some(Value::Null) => None,
            Some(size) => {
                let size = size.as_u64().and_then(|size| u32::try_from(size).ok()).filter(|size| *size > 0);
                Some(size.ok_or_else(|| BadConfig(format!("volumes.{id}.sizeMB must be a whole number of megabytes")))?)
            }
        };
        Ok((id.clone(), VolumePatch::Keep { is_created: says("isCreated"), size_mb }))
    };
    fields("volumes", patch)?.iter().map(read).collect()
}

/// Reads the `volumeMounts` of a service, by the volume's id.
///
/// # Errors
/// No object, a path that is none, or a schedule that does not exist.
pub fn volume_mounts(patch: &Value) -> Result<BTreeMap<String, MountPatch>, BadConfig> {
    let kind = |value: &Value| {
        let kind = value.as_str().and_then(BackupKind::parse);
        kind.ok_or_else(|| BadConfig(format!("{value} is no schedule of backups: DAILY, WEEKLY or MONTHLY")))
    };
    let read = |(id, value): (&String, &Value)| {
        if value.is_null() {
            return Ok((id.clone(), MountPatch::Detach));
        }
        let entry = fields(&format!("volumeMounts.{id}"), value)?;
        let path = match entry.get("mountPath") {
            None | Some(Value::Null) => None,
            Some(Value::String(text)) => Some(mount_path(text)?),
            Some(_) => return Err(BadConfig(format!("volumeMounts.{id}.mountPath must be a text"))),
        };
        let backup_schedules = match entry.get("backupSchedules") {
            None | Some(Value::Null) => None,
            Some(Value::Array(all)) => Some(all.iter().map(kind).collect::<Result<_, _>>()?),
            Some(_) => return Err(BadConfig(format!("volumeMounts.{id}.backupSchedules must be a list"))),
        };
        Ok((id.clone(), MountPatch::Attach { mount_path: path, backup_schedules }))
    };
    fields("volumeMounts", patch)?.iter().map(read).collect()
}

/// Reads `networking.tcpProxies`: the app's ports, and whether each is to have one of the server's.
///
/// # Errors
/// No object, or a key that is no port.
pub fn tcp_proxies(patch: &Value) -> Result<BTreeMap<u16, bool>, BadConfig> {
    let read = |(key, value): (&String, &Value)| {
        let port = key.parse::<u16>().ok().filter(|port| *port > 0);
        let port = port.ok_or_else(|| BadConfig(format!("networking.tcpProxies: {key:?} is not a port, 1 to 65535")))?;
        if !value.is_null() {
            fields(&format!("networking.tcpProxies.{key}"), value)?;
        }
        Ok((port, !value.is_null()))
    };
    fields("networking.tcpProxies", patch)?.iter().map(read).collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn volumes_and_mounts_are_read_in_all_their_forms() {
        let read = volumes(&json!({"a": null, "b": {"isDeleted": true}, "c": {"isCreated": true, "sizeMB": 500}, "d": {}})).unwrap();
        let keep = |is_created, size_mb| VolumePatch::Keep { is_created, size_mb };
        assert_eq!(
            read.into_values().collect::<Vec<_>>(),
            [VolumePatch::Remove, VolumePatch::Remove, keep(true, Some(500)), keep(false, None)]
        );
        let read = volume_mounts(&json!({"a": null, "b": {"mountPath": "/data", "backupSchedules": ["DAILY"]}, "c": {}})).unwrap();
        let attach =
            |mount_path: Option<&str>, backup_schedules| MountPatch::Attach { mount_path: mount_path.map(Into::into), backup_schedules };
        let wanted = [MountPatch::Detach, attach(Some("/data"), Some(vec![BackupKind::Daily])), attach(None, None)];
        assert_eq!(read.into_values().collect::<Vec<_>>(), wanted);
        assert_eq!(tcp_proxies(&json!({"5432": {}, "80": null})).unwrap(), [(80, false), (5432, true)].into());
    }

    #[test]
    fn what_is_none_of_them_is_named() {
        for (bad, word) in [
            (volumes(&json!([])).unwrap_err(), "volumes must be"),
            (volumes(&json!({"a": {"sizeMB": "big"}})).unwrap_err(), "volumes.a.sizeMB"),
            (volume_mounts(&json!({"a": {"mountPath": 1}})).unwrap_err(), "volumeMounts.a.mountPath"),
            (volume_mounts(&json!({"a": {"backupSchedules": ["HOURLY"]}})).unwrap_err(), "HOURLY"),
            (tcp_proxies(&json!({"redis": {}})).unwrap_err(), "redis"),
            (tcp_proxies(&json!({"0": {}})).unwrap_err(), "65535"),
        ] {
            assert!(bad.0.contains(word), "{bad}");
        }
    }
}
