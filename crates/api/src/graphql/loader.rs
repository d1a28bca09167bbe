//! Children of many rows in one statement, without looking ahead.
//!
//! Whoever hands rows to the library announces their ids first ([`Known::announce`]). The first access to a child of any of them loads
//! the children of all ([`Relation::get`]), so the number of statements depends on the shape of the query and never on the number of
//! rows.

use std::collections::{HashMap, HashSet};
use std::future::Future;
use std::hash::Hash;
use std::sync::{Arc, Mutex};

use domain::{Tenant, WorkspaceId};
use store::StoreError;

use super::{Ctx, Fault, lock};

/// Ids that have been handed out, by tenant.
pub(crate) struct Known<K>(Mutex<HashMap<WorkspaceId, Vec<K>>>);

impl<K> Default for Known<K> {
    fn default() -> Self {
        Self(Mutex::default())
    }
}

impl<K: Copy> Known<K> {
    /// Remembers ids whose children may be asked for.
    pub(crate) fn announce(&self, tenant: Tenant, ids: impl IntoIterator<Item = K>) {
        lock(&self.0).entry(tenant.workspace()).or_default().extend(ids);
    }

    fn siblings(&self, tenant: Tenant) -> Vec<K> {
        lock(&self.0).get(&tenant.workspace()).cloned().unwrap_or_default()
    }
}

/// What each workspace has one of. Workspaces are tenants of their own, which no other relation reads of together.
pub(crate) struct Across<V>(Mutex<HashMap<WorkspaceId, Arc<V>>>);

impl<V> Default for Across<V> {
    fn default() -> Self {
        Self(Mutex::default())
    }
}

impl<V: Default> Across<V> {
    /// What the tenant has; on a miss what all that are known have is loaded by one call of `load`, which leaves out who has nothing.
    pub(crate) fn get<F>(&self, ctx: &Ctx, tenant: Tenant, known: &[Tenant], load: impl FnOnce(Vec<Tenant>) -> F) -> Result<Arc<V>, Fault>
    where
        F: Future<Output = Result<HashMap<WorkspaceId, V>, StoreError>>,
    {
        let workspace = tenant.workspace();
        if let Some(found) = lock(&self.0).get(&workspace) {
            return Ok(Arc::clone(found));
        }
        let mut wanted: HashSet<Tenant> = known.iter().copied().chain([tenant]).collect();
        wanted.retain(|one| !lock(&self.0).contains_key(&one.workspace()));
        let mut loaded = ctx.read(load(wanted.iter().copied().collect()))?;
        let mut cells = lock(&self.0);
        for one in wanted {
            cells.insert(one.workspace(), Arc::new(loaded.remove(&one.workspace()).unwrap_or_default()));
        }
        Ok(cells.get(&workspace).map(Arc::clone).unwrap_or_default())
    }
}

/// The children of one row.
pub(crate) type Children<V> = Arc<Vec<Arc<V>>>;

/// What has been loaded of one kind of child, by tenant and parent.
pub(crate) struct Relation<K, V>(Mutex<HashMap<(WorkspaceId, K), Children<V>>>);

impl<K, V> Default for Relation<K, V> {
    fn default() -> Self {
        Self(Mutex::default())
    }
}

impl<K: Copy + Eq + Hash, V> Relation<K, V> {
    /// The children of `key`; on a miss those of all its siblings are loaded by one call of `load`. `fresh` sees every row that is loaded:
    /// it announces them for the next level, before the first of them is looked into.
    #[expect(clippy::too_many_arguments, reason = "each is another thing, and the callers are all in one file")]
    pub(crate) fn get<F>(
        &self,
        ctx: &Ctx,
        tenant: Tenant,
        key: K,
        known: &Known<K>,
        load: impl FnOnce(Vec<K>) -> F,
        parent: impl Fn(&V) -> K,
        fresh: impl FnOnce(&[Arc<V>]),
    ) -> Result<Children<V>, Fault>
    where
        F: Future<Output = Result<Vec<V>, StoreError>>,
    {
        let workspace = tenant.workspace();
        if let Some(found) = lock(&self.0).get(&(workspace, key)) {
            return Ok(Arc::clone(found));
        }
        let mut wanted: HashSet<K> = known.siblings(tenant).into_iter().chain([key]).collect();
        wanted.retain(|id| !lock(&self.0).contains_key(&(workspace, *id)));
        let wanted: Vec<K> = wanted.into_iter().collect();
        let rows: Vec<Arc<V>> = ctx.read(load(wanted.clone()))?.into_iter().map(Arc::new).collect();
        ctx.charge(rows.len())?;
        fresh(&rows);
        let mut groups: HashMap<K, Vec<Arc<V>>> = wanted.into_iter().map(|id| (id, vec![])).collect();
        for row in rows {
            groups.entry(parent(&row)).or_default().push(row);
        }
        let mut cells = lock(&self.0);
        for (id, rows) in groups {
            cells.insert((workspace, id), Arc::new(rows));
        }
        Ok(cells.get(&(workspace, key)).map(Arc::clone).unwrap_or_default())
    }

    /// Files rows that came by another way.
    pub(crate) fn seed(&self, tenant: Tenant, key: K, row: Arc<V>) {
        lock(&self.0).entry((tenant.workspace(), key)).or_insert_with(|| Arc::new(vec![row]));
    }
}
