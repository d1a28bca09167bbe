//! Retention: whole files go, the oldest first.

use jiff::Timestamp;

use crate::file::{FileKey, day_of_name};
use crate::write::Writer;
use crate::{Shared, TelemetryError};

/// What retention has deleted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Purged {
    /// Database files.
    pub files: usize,
    /// Their size.
    pub bytes: u64,
}

impl Writer {
    /// Deletes files of days that are too old, then the oldest ones until the rest fits or only one is left.
    pub(crate) fn purge(&mut self, shared: &Shared, now: Timestamp) -> Result<Purged, TelemetryError> {
        let today = now.as_second().div_euclid(86_400);
        let oldest = today.saturating_sub(i64::from(shared.retain_days));
        let purged = self.shrink(shared, oldest, today, shared.retain_bytes)?;
        remove_leftovers(shared, oldest)?;
        if let Some(positions) = &mut self.positions {
            positions.retain(|_, position| position.dir.try_exists().unwrap_or(true));
        }
        Ok(purged)
    }

    /// Makes room when a further file has been begun: who writes fast does not wait for the clock.
    pub(crate) fn make_room(&mut self, shared: &Shared) {
        if !std::mem::take(&mut self.grown) {
            return;
        }
        // What was begun grows until the next one is: there is room for that, too.
        let most = shared.retain_bytes.saturating_sub(shared.part_bytes());
        // The newest file stays whatever its day is, so that none has to be made for what goes on from the others.
        if let Err(error) = self.shrink(shared, i64::MIN, 0, most) {
            tracing::warn!(%error, "old log lines could not be deleted; it is tried again");
        }
    }

    /// Deletes files of days before `oldest`, then the oldest ones until the rest is `most` bytes or only one is left.
    fn shrink(&mut self, shared: &Shared, oldest: i64, today: i64, most: u64) -> Result<Purged, TelemetryError> {
        self.claim(shared)?;
        let mut sizes: Vec<(FileKey, u64)> = shared.files().into_keys().map(|key| (key, shared.size_of(key))).collect();
        let mut total: u64 = sizes.iter().map(|(_, size)| size).sum();
        let mut purged = Purged::default();
        sizes.reverse();
        while let Some((key, size)) = sizes.pop() {
            let too_much = total > most && !sizes.is_empty();
            if key.day >= oldest && !too_much {
                break;
            }
            self.delete(shared, key, today)?;
            total -= size;
            purged = Purged { files: purged.files + 1, bytes: purged.bytes + size };
        }
        Ok(purged)
    }

    fn delete(&mut self, shared: &Shared, key: FileKey, today: i64) -> Result<(), TelemetryError> {
        let mut positions = shared.positions_in(key)?;
        let latest = self.positions(shared)?;
        // A spool that is quiet for long may have its position here only.
        positions.retain(|(replica, position)| latest.get(replica).is_some_and(|latest| latest.seq == position.seq));
        if !positions.is_empty() {
            let newest = shared.files().into_keys().rfind(|other| *other != key);
            self.carry(shared, newest.unwrap_or(FileKey { day: today, part: 0 }), &positions)?;
        }
        self.release(key);
        shared.remove_file(key);
        crate::file::delete(&shared.path(key))
    }
}

/// Files that were set aside, and remains of an interrupted deletion.
fn remove_leftovers(shared: &Shared, oldest: i64) -> Result<(), TelemetryError> {
    let entries = std::fs::read_dir(&shared.dir).map_err(TelemetryError::io(&shared.dir))?;
    for entry in entries {
        let entry = entry.map_err(TelemetryError::io(&shared.dir))?;
        let too_old = entry.file_name().to_str().and_then(day_of_name).is_some_and(|day| day < oldest);
        if too_old {
            std::fs::remove_file(entry.path()).map_err(TelemetryError::io(&entry.path()))?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::file::day_of;

    #[test]
    fn days_of_clock_and_of_lines_agree() {
        let now: Timestamp = "2026-11-21T23:59:59.999999999Z".parse().unwrap();
        let nanos = i64::try_from(now.as_nanosecond()).unwrap();
        assert_eq!(day_of(nanos), now.as_second().div_euclid(86_400));
        assert_eq!(day_of(nanos + 1), day_of(nanos) + 1);
        assert_eq!(day_of_name("2026-11-21.db-wal"), Some(day_of(nanos)));
    }
}
