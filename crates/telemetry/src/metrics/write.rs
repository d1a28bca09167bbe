//! Writing measurements, and making coarse intervals of fine ones.

use std::collections::{BTreeMap, HashMap};
use std::fs::File;

use domain::metric::{MetricSource, TrafficSlot, Usage};
use rusqlite::Connection;

use super::resolution::{MetricFile, Resolution};
use super::rows::{self, Rows, SCHEMA, Select, SourceRows, UsageRow};
use super::{Reading, Shared};
use crate::TelemetryError;
use crate::file::open_for_writing;

/// Sources of a file that are remembered before they are looked up again.
const MAX_REMEMBERED: usize = 20_000;

/// The measurements of one moment.
#[derive(Clone, Debug)]
pub struct Measured {
    /// When the interval began, in seconds since the epoch: a multiple of [`domain::metric::INTERVAL`].
    pub at: i64,
    /// What replicas used in it.
    pub usage: Vec<(MetricSource, Usage)>,
    /// What the edge has counted since the last time, whole intervals.
    pub traffic: Vec<TrafficSlot>,
}

/// The state of writing.
#[derive(Default)]
pub(super) struct Writer {
    /// Held from the first write on.
    lock: Option<File>,
    open: BTreeMap<Resolution, OpenFile>,
    /// Up to where each resolution is made. Found out before the first use.
    made: BTreeMap<Resolution, i64>,
}

struct OpenFile {
    name: MetricFile,
    connection: Connection,
    sources: HashMap<MetricSource, i64>,
}

impl Writer {
    /// Makes sure that this is the only process that writes.
    pub(super) fn claim(&mut self, shared: &Shared) -> Result<(), TelemetryError> {
        if self.lock.is_none() {
            self.lock = Some(crate::file::claim(&shared.dir)?);
        }
        Ok(())
    }

    pub(super) fn record(&mut self, shared: &Shared, measured: Measured) -> Result<(), TelemetryError> {
        self.claim(shared)?;
        let end = measured.at + Resolution::FiveSeconds.seconds();
        let stored = self.store(shared, Resolution::FiveSeconds, rows_of(measured), None);
        if let Err(error) = &stored
            && error.is_damage()
        {
            self.open.clear();
        }
        stored?;
        for resolution in [Resolution::ThreeMinutes, Resolution::OneHour, Resolution::OneDay] {
            self.make(shared, resolution, end)?;
        }
        Ok(())
    }

    /// Makes all intervals of a resolution that are over by `end` and not made yet.
    fn make(&mut self, shared: &Shared, resolution: Resolution, end: i64) -> Result<(), TelemetryError> {
        let Some(finer) = resolution.finer() else { return Ok(()) };
        let ready = match self.made.get(&finer) {
            Some(made) => end.min(*made),
            None => end,
        };
        let ready = resolution.floor(ready);
        let mut made = match self.made.get(&resolution) {
            Some(made) => *made,
            None => match shared.made_upto(&shared.files()?, resolution)? {
                0 => shared.files()?.into_iter().find(|file| file.resolution == finer).map_or(ready, |oldest| oldest.begins),
                upto => upto,
            },
        };
        made = resolution.floor(made.max(end - finer.kept()));
        while made < ready {
            let upto = resolution.floor(made + finer.file_seconds().max(resolution.seconds())).min(ready);
            let mut fine = Rows::new();
            let mut reading = Reading { files: shared.files()?, asked: 0, most: i64::MAX };
            shared.load_stored(&mut reading, finer, &Select::Everything, (made, upto), &mut fine)?;
            if !fine.is_empty() {
                let coarse = fine.into_iter().map(|(source, rows)| (source, rows.folded(resolution.seconds()))).collect();
                self.store(shared, resolution, coarse, Some(upto))?;
            }
            made = upto;
        }
        self.made.insert(resolution, made);
        Ok(())
    }

    /// Stores rows, a transaction for each file; `upto` goes into the last one.
    fn store(&mut self, shared: &Shared, resolution: Resolution, rows: Rows, upto: Option<i64>) -> Result<(), TelemetryError> {
        let mut files: BTreeMap<MetricFile, Vec<(MetricSource, SourceRows)>> = BTreeMap::new();
        for (source, rows) in rows {
            let mut parts: BTreeMap<MetricFile, SourceRows> = BTreeMap::new();
            for row in rows.usage {
                parts.entry(MetricFile::of(resolution, row.at)).or_default().usage.push(row);
            }
            for (key, traffic) in rows.traffic {
                parts.entry(MetricFile::of(resolution, key.0)).or_default().traffic.insert(key, traffic);
            }
            for (file, part) in parts {
                files.entry(file).or_default().push((source, part));
            }
        }
        let last = files.keys().next_back().copied();
        for (name, rows) in files {
            let upto = upto.filter(|_| Some(name) == last);
            let inserted = insert(self.file(shared, name)?, &rows, upto);
            if let Err(source) = inserted {
                self.open.remove(&resolution);
                let error = TelemetryError::Database { path: shared.path(name), source };
                if error.is_damage() {
                    shared.set_aside(name)?;
                }
                return Err(error);
            }
        }
        Ok(())
    }

    fn file(&mut self, shared: &Shared, name: MetricFile) -> Result<&mut OpenFile, TelemetryError> {
        if self.open.get(&name.resolution).is_none_or(|open| open.name != name) {
            let path = shared.path(name);
            let connection = open_for_writing(&path, SCHEMA)?;
            rows::migrate(&connection).map_err(TelemetryError::database(&path))?;
            self.open.insert(name.resolution, OpenFile { name, connection, sources: HashMap::new() });
        }
        Ok(self.open.get_mut(&name.resolution).expect("an entry was inserted just now"))
    }

    /// Lets go of a file that is about to be deleted.
    pub(super) fn release(&mut self, name: MetricFile) {
        self.open.retain(|_, open| open.name != name);
    }
}

fn insert(file: &mut OpenFile, rows: &[(MetricSource, SourceRows)], upto: Option<i64>) -> rusqlite::Result<()> {
    if file.sources.len() >= MAX_REMEMBERED {
        file.sources.clear();
    }
    let mut fresh = vec![];
    let transaction = file.connection.transaction()?;
    for (source, rows) in rows {
        let id = match file.sources.get(source) {
            Some(id) => *id,
            None => {
                let id = rows::source_id(&transaction, source)?;
                fresh.push((*source, id));
                id
            }
        };
        for row in &rows.usage {
            rows::write_usage(&transaction, id, row)?;
        }
        for (key, traffic) in &rows.traffic {
            rows::write_traffic(&transaction, id, *key, traffic)?;
        }
    }
    if let Some(upto) = upto {
        rows::set_made_upto(&transaction, upto)?;
    }
    transaction.commit()?;
    // Not before: a number that was rolled back names nothing.
    file.sources.extend(fresh);
    Ok(())
}

/// One row for each replica, and one for its service with all its replicas.
fn rows_of(measured: Measured) -> Rows {
    let mut rows = Rows::new();
    for (source, usage) in measured.usage {
        let row = UsageRow { at: measured.at, weight: 1.0, usage };
        rows.entry(source).or_default().usage.push(row);
        let whole = &mut rows.entry(source.instance()).or_default().usage;
        match whole.first_mut() {
            Some(sum) => sum.usage = sum.usage.plus(usage),
            None => whole.push(row),
        }
    }
    for slot in measured.traffic {
        for entry in slot.entries {
            let key = (Resolution::FiveSeconds.floor(slot.at), entry.status);
            let mut add = |source| rows.entry(source).or_default().traffic.entry(key).or_default().merge(&entry.traffic);
            add(entry.source.instance());
            if entry.source.replica.is_some() {
                add(entry.source);
            }
        }
    }
    rows
}
