//! How often keys were used, by day. What is older than [`KEEP_DAYS`] goes with the first count of a new day.

use domain::rate::{Day, DayUsage, Kept, Subject};
use domain::{ApiKeyId, Tenant, WorkspaceId};

use crate::executor::{BadCell, Record, Statement};
use crate::{Store, StoreError};

statements! {
    USAGE_KEPT = "SELECT day, allowed, hour, in_hour, minute, in_minute FROM api_key_usage WHERE subject = $subject AND day = $day";
    USAGE_OF =
        "SELECT day, allowed, refused FROM api_key_usage WHERE subject = $subject AND day >= $first AND day <= $last ORDER BY day";
    /// From the workspaces' few keys to their counts, and not through everybody's counts of the day.
    USAGE_OF_WORKSPACES =
        "SELECT api_keys.workspace_id, CAST(SUM(api_key_usage.allowed) AS BIGINT), CAST(SUM(api_key_usage.refused) AS BIGINT) \
         FROM api_keys CROSS JOIN api_key_usage \
         WHERE api_keys.workspace_id IN ($workspaces) AND api_key_usage.subject = api_keys.id AND api_key_usage.day = $day \
         GROUP BY api_keys.workspace_id";
    /// Counts of an hour or a minute that others have left behind begin anew; those of one that others have gone on from are dropped.
    USAGE_ADD =
        "INSERT INTO api_key_usage (subject, day, allowed, refused, hour, in_hour, minute, in_minute) \
         VALUES ($subject, $day, $allowed, $refused, $hour, $in_hour, $minute, $in_minute) \
         ON CONFLICT (subject, day) DO UPDATE SET \
         allowed = api_key_usage.allowed + excluded.allowed, \
         refused = api_key_usage.refused + excluded.refused, \
         in_hour = CASE WHEN api_key_usage.hour = excluded.hour THEN api_key_usage.in_hour + excluded.in_hour \
             WHEN api_key_usage.hour < excluded.hour THEN excluded.in_hour ELSE api_key_usage.in_hour END, \
         hour = CASE WHEN api_key_usage.hour < excluded.hour THEN excluded.hour ELSE api_key_usage.hour END, \
         in_minute = CASE WHEN api_key_usage.minute = excluded.minute THEN api_key_usage.in_minute + excluded.in_minute \
             WHEN api_key_usage.minute < excluded.minute THEN excluded.in_minute ELSE api_key_usage.in_minute END, \
         minute = CASE WHEN api_key_usage.minute < excluded.minute THEN excluded.minute ELSE api_key_usage.minute END \
         RETURNING day, allowed, hour, in_hour, minute, in_minute";
    USAGE_PURGE = "DELETE FROM api_key_usage WHERE day < $over";
}

/// Days that counts are kept.
pub const KEEP_DAYS: u32 = 400;

/// Requests to add to a subject's counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct UsageAdd {
    /// Whose.
    pub subject: Subject,
    /// The day, and how many were let through on it and in the present hour and minute since the last time.
    pub allowed: Kept,
    /// How many were refused.
    pub refused: u32,
}

fn kept(r: &mut Record) -> Result<Kept, BadCell> {
    Ok(Kept {
        day: Day(r.number()?),
        in_day: r.number()?,
        hour: r.number()?,
        in_hour: r.number()?,
        minute: r.number()?,
        in_minute: r.number()?,
    })
}

impl Store {
    /// A key's requests per day, from the first day to the last, both included; days without any are left out.
    ///
    /// # Errors
    /// The database does not answer.
    pub async fn api_key_usage(&self, key: ApiKeyId, first: Day, last: Day) -> Result<Vec<DayUsage>, StoreError> {
        self.list(&USAGE_OF, &params![subject = key, first = first.0, last = last.0], |r| {
            Ok(DayUsage { day: Day(r.number()?), allowed: r.number()?, refused: r.number()? })
        })
        .await
    }

    /// The requests that all keys of each workspace made on a day; workspaces without any are left out. Those of command-line logins belong
    /// to a person and are not among them.
    ///
    /// # Errors
    /// The database does not answer.
    pub async fn usage_of_workspaces(&self, tenants: &[Tenant], day: Day) -> Result<Vec<(WorkspaceId, DayUsage)>, StoreError> {
        let read = |r: &mut Record| Ok((r.id(WorkspaceId)?, r.number()?, r.number()?));
        let rows: Vec<(WorkspaceId, u64, u64)> =
            self.batch(&USAGE_OF_WORKSPACES, &params![workspaces = tenants, day = day.0], read, |row| row.0).await?;
        Ok(rows.into_iter().map(|(workspace, allowed, refused)| (workspace, DayUsage { day, allowed, refused })).collect())
    }

    /// What is known of a subject's day.
    ///
    /// # Errors
    /// The database does not answer.
    pub async fn usage_kept(&self, subject: Subject, day: Day) -> Result<Option<Kept>, StoreError> {
        self.one(&USAGE_KEPT, &params![subject = subject.0, day = day.0], kept).await
    }

    /// Adds to the counts of many subjects, all or none. The answer has the new counts in the same order, those of other control planes included.
    ///
    /// # Errors
    /// The database does not answer.
    pub async fn usage_add(&self, additions: &[UsageAdd]) -> Result<Vec<Kept>, StoreError> {
        let outcomes = self.write(additions.iter().map(usage_add).collect()).await?;
        let rows = outcomes.into_iter().flat_map(|outcome| outcome.rows);
        rows.map(|mut row| kept(&mut row).map_err(|bad| bad.in_statement(USAGE_ADD.name))).collect()
    }

    /// Forgets what is older than [`KEEP_DAYS`].
    ///
    /// # Errors
    /// The database does not answer.
    pub async fn usage_purge(&self, today: Day) -> Result<u64, StoreError> {
        self.write_one(&USAGE_PURGE, params![over = today.0.saturating_sub(KEEP_DAYS)]).await
    }
}

fn usage_add(addition: &UsageAdd) -> Statement {
    let UsageAdd { subject, allowed: Kept { day, in_day, hour, in_hour, minute, in_minute }, refused } = *addition;
    let params = params![
        subject = subject.0,
        day = day.0,
        allowed = in_day,
        refused = refused,
        hour = hour,
        in_hour = in_hour,
        minute = minute,
        in_minute = in_minute
    ];
    Statement::any(&USAGE_ADD, params)
}
