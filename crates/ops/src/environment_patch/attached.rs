//! Volumes and TCP ports of an environment's document.

use std::collections::BTreeMap;

use domain::VolumeId;
use domain::config::{self, MountPatch, VolumePatch};
use domain::project::{Instance, Service};
use domain::spec::Source;
use domain::tcp_proxy::{ProxyKind, TcpProxy};
use domain::volume::{BackupKind, Volume, VolumeInstance};
use serde_json::{Map, Value};
use store::Change;

use super::Plan;
use crate::{Error, backup, tcp_proxy, template, volume};

/// A volume of the project as it is here.
struct Held {
    volume: Volume,
    before: Option<VolumeInstance>,
    after: Option<VolumeInstance>,
    /// Where services find it elsewhere.
    elsewhere: Option<String>,
    schedules: Option<Vec<BackupKind>>,
}

impl Plan<'_> {
    /// Ports of the server: `{"5432": {}}` gives the service one for its own port, `null` takes it back.
    pub(super) fn tcp_proxies(&mut self, service: &Service, value: &Value) -> Result<(), Error> {
        let (given, taken): (Vec<_>, Vec<_>) = config::tcp_proxies(value)?.into_iter().partition(|(_, wanted)| *wanted);
        let public = |row: &TcpProxy| row.service_id == service.id && row.kind == ProxyKind::Public;
        for (port, _) in taken {
            let proxies = &mut self.after.surroundings.proxies;
            if let Some(at) = proxies.iter().position(|row| public(row) && row.application_port == port) {
                self.changes.push(Change::TcpProxyDelete(proxies.remove(at).id));
            }
        }
        for (port, _) in given {
            let there = self.after.surroundings.proxies.iter().find(|row| public(row)).map(|row| row.application_port);
            let asked = self.ports.iter().find(|(at, kinds, _)| at.service_id == service.id && kinds.contains(&ProxyKind::Public));
            match there.or(asked.map(|(.., port)| *port)) {
                Some(same) if same == port => {}
                Some(other) => {
                    return Err(Error::conflict(format!(
                        "The service {} already has a TCP proxy in this environment, for its port {other}: set that one to null first",
                        service.name
                    )));
                }
                None => self.ports.extend(self.instance(service).map(|instance| (instance, vec![ProxyKind::Public], port))),
            }
        }
        Ok(())
    }

    fn instance(&self, service: &Service) -> Option<Instance> {
        self.after.instances.iter().find(|row| row.service_id == service.id).cloned()
    }

    /// A database that comes to this environment gets the lasting address that apps reach it by, as where it was made.
    pub(super) fn private_port(&mut self, instance: &Instance) {
        let Some(Source::Image(image)) = &instance.spec.source else { return };
        let port = template::service_for_image(image).and_then(|service| service.tcp_port);
        self.ports.extend(port.map(|port| (instance.clone(), vec![ProxyKind::Private], port)));
    }

    /// Finds all ports at once, so that no two get the same.
    pub(super) async fn find_ports(&mut self) -> Result<(), Error> {
        if self.ports.is_empty() {
            return Ok(());
        }
        let wanted: Vec<_> = self.ports.iter().map(|(instance, kinds, port)| (instance, kinds.as_slice(), *port)).collect();
        let rows = tcp_proxy::several(self.ctx, &wanted).await?;
        self.after.surroundings.add_proxies(&rows);
        self.changes.extend(rows.into_iter().map(Change::TcpProxyInsert));
        Ok(())
    }

    /// Volumes that come, go, move and change their place, with those of the services that this patch takes out.
    pub(super) async fn volumes(&mut self, patch: &Map<String, Value>) -> Result<(), Error> {
        let declared = patch.get("volumes").filter(|value| !value.is_null()).map(config::volumes).transpose()?.unwrap_or_default();
        let mut mounts = vec![];
        for (service, value) in patch.get("services").and_then(Value::as_object).into_iter().flatten() {
            let service = self.after.surroundings.services.iter().find(|row| row.id.to_string() == *service).cloned();
            let Some(service) = service.filter(|row| !self.removed.contains(&row.id)) else { continue };
            if let Some(value) = value.get("volumeMounts").filter(|value| !value.is_null()) {
                mounts.push((service, config::volume_mounts(value)?));
            }
        }
        if declared.is_empty() && mounts.is_empty() && self.removed.is_empty() {
            return Ok(());
        }
        let mut held = self.held().await?;
        for row in held.values_mut() {
            if row.before.as_ref().and_then(|instance| instance.service_id).is_some_and(|service| self.removed.contains(&service)) {
                row.after = None;
            }
        }
        for (id, wanted) in declared {
            self.declare(&mut held, &id, wanted)?;
        }
        // What is taken away makes room for what comes.
        for detach in [true, false] {
            for (service, mounts) in &mounts {
                for (id, wanted) in mounts.iter().filter(|(_, wanted)| (**wanted == MountPatch::Detach) == detach) {
                    self.mount(&mut held, service, id, wanted)?;
                }
            }
        }
        self.settle(held.into_values().collect()).await
    }

    /// The living volumes of the project, by the text of their id.
    async fn held(&self) -> Result<BTreeMap<String, Held>, Error> {
        let store = &self.ctx.ops.store;
        let mut volumes = store.volumes_of_projects(self.tenant, &[self.environment.project_id]).await?;
        volumes.retain(|volume| volume.deleted_at.is_none());
        let ids: Vec<VolumeId> = volumes.iter().map(|volume| volume.id).collect();
        let instances = store.volume_instances_of_volumes(self.tenant, &ids).await?;
        let row = |volume: Volume| {
            let is_here = |instance: &&&VolumeInstance| instance.environment_id == self.environment.id;
            let its: Vec<&VolumeInstance> = instances.iter().filter(|instance| instance.volume_id == volume.id).collect();
            let before = its.iter().find(is_here).map(|instance| (*instance).clone());
            let elsewhere = its.first().map(|other| other.mount_path.clone());
            (volume.id.to_string(), Held { after: before.clone(), before, volume, elsewhere, schedules: None })
        };
        Ok(volumes.into_iter().map(row).collect())
    }

    fn declare(&self, held: &mut BTreeMap<String, Held>, id: &str, wanted: VolumePatch) -> Result<(), Error> {
        let row = held.get_mut(id);
        match wanted {
            // It may have gone with its service.
            VolumePatch::Remove => row.into_iter().for_each(|row| row.after = None),
            VolumePatch::Keep { is_created, size_mb } => {
                let row = row.ok_or_else(|| unknown_volume(id))?;
                if row.after.is_none() && !is_created {
                    let name = &row.volume.name;
                    return Err(Error::bad_input(format!("the volume {name} is not in this environment: send isCreated true to add it")));
                }
                if row.after.is_none() {
                    row.after = Some(self.twin(row));
                }
                let Some(after) = &mut row.after else { return Ok(()) };
                match size_mb {
                    Some(size) if row.before.is_none() => after.size_mb = size,
                    Some(size) if size != after.size_mb => {
                        return Err(Error::bad_input(format!(
                            "volumes.{id}.sizeMB is {}: a volume keeps the size that it was made with on this server",
                            after.size_mb
                        )));
                    }
                    _ => {}
                }
            }
        }
        Ok(())
    }

    /// An empty instance of a volume here, for the place that it has elsewhere.
    fn twin(&self, row: &Held) -> VolumeInstance {
        volume::new_volume_instance(self.ctx, self.environment, row.volume.id, None, row.elsewhere.clone().unwrap_or_default())
    }

    fn mount(&self, held: &mut BTreeMap<String, Held>, service: &Service, id: &str, wanted: &MountPatch) -> Result<(), Error> {
        let MountPatch::Attach { mount_path, backup_schedules } = wanted else {
            let row = held.get_mut(id).and_then(|row| row.after.as_mut()).filter(|row| row.service_id == Some(service.id));
            row.into_iter().for_each(|row| row.service_id = None);
            return Ok(());
        };
        let other = |(key, row): (&String, &Held)| key != id && row.after.as_ref().is_some_and(|row| row.service_id == Some(service.id));
        if held.iter().any(other) {
            return Err(Error::conflict(format!(
                "the service {} already has a volume in this environment: set that one to null in its volumeMounts first",
                service.name
            )));
        }
        let row = held.get_mut(id).ok_or_else(|| unknown_volume(id))?;
        if row.after.is_none() {
            // A service that is copied here comes with its volume.
            if !self.added.contains(&service.id) {
                let name = &row.volume.name;
                return Err(Error::bad_input(format!(
                    "the volume {name} is not in this environment: set isCreated of volumes.{id} to true"
                )));
            }
            row.after = Some(self.twin(row));
        }
        let Some(after) = &mut row.after else { return Ok(()) };
        if let Some(path) = mount_path {
            after.mount_path.clone_from(path);
        }
        if after.mount_path.is_empty() {
            return Err(Error::bad_input(format!("volumeMounts.{id}.mountPath is missing: write an absolute path such as /data")));
        }
        after.service_id = Some(service.id);
        row.schedules.clone_from(backup_schedules);
        Ok(())
    }

    /// The changes that lead from how volumes are to how they shall be, in an order in which no service has two at a time.
    async fn settle(&mut self, held: Vec<Held>) -> Result<(), Error> {
        let place = |row: &Option<VolumeInstance>| row.as_ref().and_then(|row| row.service_id);
        let taken = |row: &Held| {
            let service = place(&row.before).filter(|service| !self.removed.contains(service));
            service.is_some() && service != place(&row.after)
        };
        self.interrupts |= held.iter().any(taken);
        let gone: Vec<VolumeInstance> = held.iter().filter(|row| row.after.is_none()).filter_map(|row| row.before.clone()).collect();
        // What lies in another environment stays there.
        let removals = volume::removals(self.ctx, self.tenant, &gone, |_| false).await?;
        self.changes.extend(removals);
        for row in held.iter().filter(|row| row.after.is_some() && place(&row.before) != place(&row.after)) {
            self.changes.extend(row.before.iter().filter(|row| row.service_id.is_some()).map(|row| Change::VolumeDetach(row.id)));
        }
        self.after.surroundings.mounts.clear();
        let scheduled: Vec<_> = held.iter().filter(|row| row.schedules.is_some()).filter_map(|row| Some(row.after.as_ref()?.id)).collect();
        let earlier = match scheduled.as_slice() {
            [] => vec![],
            ids => self.ctx.ops.store.backup_schedules(self.tenant, ids).await?,
        };
        for Held { volume, before, after, schedules, .. } in held {
            let Some(after) = after else { continue };
            match before {
                None => self.changes.push(Change::VolumeInstanceInsert(after.clone())),
                Some(before) => {
                    let (id, mount_path) = (after.id, after.mount_path.clone());
                    if before.mount_path != after.mount_path {
                        self.changes.push(Change::VolumeInstanceMountPath { id, mount_path, at: self.ctx.now });
                    }
                    let service = after.service_id.filter(|service| before.service_id != Some(*service));
                    self.changes.extend(service.map(|service| Change::VolumeAttach { id, service }));
                }
            }
            if let Some(kinds) = schedules {
                self.changes.push(backup::schedules_set(self.ctx, &after, &earlier, kinds));
            }
            if after.service_id.is_some() {
                self.after.surroundings.mounts.push((after, volume.name));
            }
        }
        Ok(())
    }
}

fn unknown_volume(id: &str) -> Error {
    Error::new(domain::Code::NotFound, format!("Volume {id} not found in this project: make it with volumeCreate"))
}
