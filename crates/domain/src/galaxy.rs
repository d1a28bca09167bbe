//! Galaxy's view of an instance with a domain: an *app*, its *containers*, *versions* and *activities* (`contracts/galaxy.md`).
//!
//! Nothing of it is stored by itself. Its ids are made of ours, its states are read from deployments and replicas, its activities from
//! the audit log.

mod activity;
mod environment;
mod ids;
mod status;

pub use activity::{APP_ENDED, APP_PLAN, APP_REMOVED, APP_SILENT, APP_SLEPT, APP_TRANSFERRED, APP_WOKEN, ActivityKind, Told};
pub use environment::{APP_VERSION, CONTAINER, LARGEST_SETTINGS, SETTINGS, environment, settings_check};
pub use ids::{account_id, app_id, app_range, container_id, version_id};
pub use status::{AppStatus, BuildStatus, ContainerStatus, RolloutStatus, app_status, container_status, version_status};

/// Kills a container on request: the reason in the replica's row, which the log tells (`contracts/galaxy.md` 3.5).
pub const KILLED: &str = "The container is being stopped according to user kill request.";
/// Replaces a container that does not answer.
pub const UNHEALTHY: &str = "The container is unhealthy. A new container will be started to replace it.";

/// A size of containers (`contracts/galaxy.md` 3.1); which there are is configuration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ContainerType {
    /// `tiny`, `compact`, …
    pub name: String,
    /// Memory of a container in bytes.
    pub memory_bytes: u64,
    /// Thousandths of an ECU, which is a core here.
    pub cpu_millis: u32,
}

impl ContainerType {
    /// Galaxy's sizes.
    #[must_use]
    pub fn galaxy() -> Vec<Self> {
        let sizes = [
            ("tiny", 256, 300),
            ("compact", 512, 500),
            ("standard", 1_024, 1_000),
            ("double", 2_048, 2_000),
            ("quad", 4_096, 4_100),
            ("octa", 8_192, 8_200),
            ("dozen", 12_288, 12_200),
        ];
        let of =
            |(name, megabytes, cpu_millis): (&str, u64, u32)| Self { name: name.to_owned(), memory_bytes: megabytes << 20, cpu_millis };
        sizes.into_iter().map(of).collect()
    }

    /// The id on the wire; a professional account has types of its own, such as `double-pro-v2`.
    #[must_use]
    pub fn id(&self, professional: bool) -> String {
        if professional { format!("{}-pro-v2", self.name) } else { self.name.clone() }
    }

    /// The name that people see: `Tiny`, or `Tiny (Pro)`.
    #[must_use]
    pub fn display(&self, professional: bool) -> String {
        let mut letters = self.name.chars();
        let first: String = letters.next().into_iter().flat_map(char::to_uppercase).collect();
        format!("{first}{}{}", letters.as_str(), if professional { " (Pro)" } else { "" })
    }

    /// Whether a client means this type: by id of either plan, by name, in any case.
    #[must_use]
    pub fn is_meant_by(&self, text: &str) -> bool {
        let text = text.trim().to_ascii_lowercase();
        let text = text.strip_suffix("-pro-v2").or_else(|| text.strip_suffix(" (pro)")).unwrap_or(&text);
        text == self.name.to_ascii_lowercase()
    }
}
