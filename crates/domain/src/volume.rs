//! Volumes: disks that outlive deployments, and backups of them (`contracts/railway.md` 3.8).

use jiff::{SignedDuration, Timestamp};

use crate::name::BadName;
use crate::{BackupId, EnvironmentId, ProjectId, ServiceId, UserId, VolumeId, VolumeInstanceId, WorkspaceId};

/// The size that a volume is said to have, in MB; the disk below sets the true limit.
pub const DEFAULT_SIZE_MB: u32 = 50_000;

/// How long a deleted volume is kept before its files go.
pub const GRACE: SignedDuration = SignedDuration::from_hours(48);

/// A volume of a project.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Volume {
    /// Identity.
    pub id: VolumeId,
    /// The tenant.
    pub workspace_id: WorkspaceId,
    /// The project.
    pub project_id: ProjectId,
    /// Unique among the project's volumes that are not deleted.
    pub name: String,
    /// When it was made.
    pub created_at: Timestamp,
    /// Last change.
    pub updated_at: Timestamp,
    /// Set while the grace after a deletion runs.
    pub deleted_at: Option<Timestamp>,
}

/// A volume in an environment: one folder of files.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VolumeInstance {
    /// Identity, and the folder's name.
    pub id: VolumeInstanceId,
    /// The tenant.
    pub workspace_id: WorkspaceId,
    /// The project.
    pub project_id: ProjectId,
    /// The environment.
    pub environment_id: EnvironmentId,
    /// The volume.
    pub volume_id: VolumeId,
    /// The service that it is attached to. One service has at most one volume, and then one replica.
    pub service_id: Option<ServiceId>,
    /// Where the service finds it.
    pub mount_path: String,
    /// What it may hold, in MB.
    pub size_mb: u32,
    /// What it held when it was last measured.
    pub used_bytes: i64,
    /// What is being done with it.
    pub state: VolumeState,
    /// The backup that takes its place, while [`VolumeState::Restoring`].
    pub restoring: Option<BackupId>,
    /// When it was made.
    pub created_at: Timestamp,
    /// Last change.
    pub updated_at: Timestamp,
}

/// How much of its size a volume holds, as far as people are told of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Fill {
    /// Four fifths.
    Nearly,
    /// All of it, or more.
    Full,
}

impl VolumeInstance {
    /// How full it is with so many bytes; `None` while there is room.
    #[must_use]
    pub fn fill(&self, used_bytes: i64) -> Option<Fill> {
        let size = i64::from(self.size_mb) * 1_000_000;
        match used_bytes {
            used if used >= size => Some(Fill::Full),
            used if used >= size / 5 * 4 => Some(Fill::Nearly),
            _ => None,
        }
    }
}

/// What is being done with a volume.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum VolumeState {
    /// Nothing: it can be used.
    Ready,
    /// A backup takes its place; its service waits.
    Restoring,
}

impl VolumeState {
    /// As stored.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Ready => "READY",
            Self::Restoring => "RESTORING",
        }
    }

    /// Reads a stored state.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        [Self::Ready, Self::Restoring].into_iter().find(|state| state.as_str() == text)
    }
}

/// A copy of a volume instance's files at one moment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Backup {
    /// Identity, and the copy's name.
    pub id: BackupId,
    /// The tenant.
    pub workspace_id: WorkspaceId,
    /// The project.
    pub project_id: ProjectId,
    /// The environment.
    pub environment_id: EnvironmentId,
    /// Whose copy.
    pub volume_instance_id: VolumeInstanceId,
    /// What a person calls it.
    pub name: Option<String>,
    /// The person who asked for it; `None` for a schedule or a key.
    pub creator_id: Option<UserId>,
    /// The schedule that asked for it.
    pub kind: Option<BackupKind>,
    /// Where it stands.
    pub state: BackupState,
    /// Why it failed, or why a whole one could not be restored the last time, in words for the user.
    pub reason: Option<String>,
    /// It does not expire and cannot be deleted.
    pub locked: bool,
    /// Bytes of files in it.
    pub used_bytes: i64,
    /// When it goes away by itself.
    pub expires_at: Option<Timestamp>,
    /// When it was asked for.
    pub created_at: Timestamp,
}

/// Where a backup stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum BackupState {
    /// Asked for.
    Creating,
    /// Whole.
    Ready,
    /// There is none.
    Failed,
}

impl BackupState {
    /// As stored.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Creating => "CREATING",
            Self::Ready => "READY",
            Self::Failed => "FAILED",
        }
    }

    /// Reads a stored state.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        [Self::Creating, Self::Ready, Self::Failed].into_iter().find(|state| state.as_str() == text)
    }
}

/// How often a schedule makes backups.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum BackupKind {
    /// Kept for 6 days.
    Daily,
    /// Kept for a month.
    Weekly,
    /// Kept for three months.
    Monthly,
}

impl BackupKind {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Daily, Self::Weekly, Self::Monthly];

    /// As stored and on the wire.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Daily => "DAILY",
            Self::Weekly => "WEEKLY",
            Self::Monthly => "MONTHLY",
        }
    }

    /// Reads a stored kind.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.as_str() == text)
    }

    /// The schedule in five cron fields, UTC.
    #[must_use]
    pub fn cron(self) -> &'static str {
        match self {
            Self::Daily => "0 0 * * *",
            Self::Weekly => "0 0 * * 0",
            Self::Monthly => "0 0 1 * *",
        }
    }

    /// Seconds that its backups are kept.
    #[must_use]
    pub fn retention_seconds(self) -> i64 {
        const DAY: i64 = 86_400;
        match self {
            Self::Daily => 6 * DAY,
            Self::Weekly => 30 * DAY,
            Self::Monthly => 90 * DAY,
        }
    }

    /// The last moment not after `now` at which this schedule makes a backup.
    #[must_use]
    pub fn last_before(self, now: Timestamp) -> Timestamp {
        let date = now.to_zoned(jiff::tz::TimeZone::UTC).date();
        let date = match self {
            Self::Daily => date,
            Self::Weekly => date.saturating_sub(jiff::Span::new().days(i64::from(date.weekday().to_sunday_zero_offset()))),
            Self::Monthly => date.first_of_month(),
        };
        date.to_zoned(jiff::tz::TimeZone::UTC).map_or(now, |zoned| zoned.timestamp())
    }

    /// Whether a backup is due: the schedule's last moment came after it was set up and after its newest backup.
    #[must_use]
    pub fn is_due(self, set_up: Timestamp, newest: Option<Timestamp>, now: Timestamp) -> bool {
        let moment = self.last_before(now);
        moment > set_up && newest.is_none_or(|newest| newest < moment)
    }
}

/// A schedule of backups.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BackupSchedule {
    /// Whose backups.
    pub volume_instance_id: VolumeInstanceId,
    /// How often.
    pub kind: BackupKind,
    /// When it was set up.
    pub created_at: Timestamp,
}

/// Folders that make up the machine: nothing may be mounted over them or below them.
const RESERVED: [&str; 13] =
    ["/bin", "/boot", "/dev", "/etc", "/lib", "/lib32", "/lib64", "/libx32", "/proc", "/run", "/sbin", "/sys", "/usr"];

/// The path at which a volume is mounted: absolute, plain, and not a folder of the machine's own.
///
/// # Errors
/// A sentence that says what is wrong with it.
pub fn mount_path(text: &str) -> Result<String, BadName> {
    let shown: String = text.chars().take(80).collect();
    let path = text.trim().trim_end_matches('/');
    let plain = |part: &str| !part.is_empty() && part != "." && part != ".." && !part.chars().any(|c| c.is_control() || c == ':');
    if !path.starts_with('/') || path.len() > 255 || !path[1..].split('/').all(plain) {
        return Err(BadName(format!("mount path {shown:?} is not valid: write an absolute path such as /data")));
    }
    if RESERVED.iter().any(|reserved| path == *reserved || path.starts_with(&format!("{reserved}/"))) || path == "/tmp" {
        return Err(BadName(format!("mount path {shown:?} belongs to the machine: choose another one such as /data")));
    }
    if ["/var", "/home", "/root", "/opt", "/srv", "/mnt", "/media", "/var/lib", "/var/tmp"].contains(&path) {
        return Err(BadName(format!("mount path {shown:?} would cover a folder of the machine: choose one below it")));
    }
    Ok(path.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mount_paths_are_checked() {
        assert_eq!(mount_path("/data/").unwrap(), "/data");
        assert_eq!(mount_path("/var/lib/postgresql/data").unwrap(), "/var/lib/postgresql/data");
        for bad in ["", "/", "data", "/a/../b", "/a//b", "/usr/lib", "/proc", "/etc", "/var", "/a:b", "/a\0"] {
            assert!(mount_path(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn schedules_are_due_once_in_their_time() {
        let at = |text: &str| text.parse::<Timestamp>().unwrap();
        // A Wednesday.
        let now = at("2026-11-18T10:00:00Z");
        assert_eq!(BackupKind::Daily.last_before(now), at("2026-11-18T00:00:00Z"));
        assert_eq!(BackupKind::Weekly.last_before(now), at("2026-11-15T00:00:00Z"));
        assert_eq!(BackupKind::Monthly.last_before(now), at("2026-11-01T00:00:00Z"));
        let set_up = at("2026-11-16T12:00:00Z");
        assert!(BackupKind::Daily.is_due(set_up, None, now));
        assert!(BackupKind::Daily.is_due(set_up, Some(at("2026-11-17T00:01:00Z")), now));
        assert!(!BackupKind::Daily.is_due(set_up, Some(at("2026-11-18T00:00:01Z")), now));
        assert!(!BackupKind::Weekly.is_due(set_up, None, now), "its first moment is still to come");
    }
}
