//! Galaxy's ids, made of ours.
//!
//! Galaxy names apps by 17 characters that are hard to confuse. Ours are UUIDs of version 7: 48 bits of time and 74 random or counted
//! ones. Seventeen characters hold the first 98 of those 122 bits, which no two rows share in practice, and lead back to a range of ids of
//! which the index finds the one that exists.

use sha2::{Digest as _, Sha256};
use uuid::Uuid;

use crate::{InstanceId, ReplicaId, SnapshotId, WorkspaceId};

const LETTERS: &[u8; 55] = b"23456789ABCDEFGHJKLMNPQRSTWXYZabcdefghijkmnopqrstuvwxyz";
const LENGTH: usize = 17;
/// Bits of a UUID that are not in its short form.
const REST: u32 = 24;

fn short(id: Uuid) -> String {
    let bits = id.as_u128();
    let time = bits >> 80;
    let random_a = bits >> 64 & 0xfff;
    let random_b = (bits & ((1 << 62) - 1)) >> REST;
    let mut number = time << 50 | random_a << 38 | random_b;
    // The fast-changing end comes first, so that neighbours look different at once.
    let digits = (0..LENGTH).map(|_| {
        let digit = (number % 55) as usize;
        number /= 55;
        char::from(LETTERS[digit])
    });
    digits.collect()
}

fn range(text: &str) -> Option<(Uuid, Uuid)> {
    if text.len() != LENGTH {
        return None;
    }
    let mut number: u128 = 0;
    for byte in text.bytes().rev() {
        let digit = LETTERS.iter().position(|letter| *letter == byte)?;
        number = number * 55 + digit as u128;
    }
    if number >> 98 != 0 {
        return None;
    }
    let (time, random_a, random_b) = (number >> 50, number >> 38 & 0xfff, number & ((1 << 38) - 1));
    let first = time << 80 | 7 << 76 | random_a << 64 | 0b10 << 62 | random_b << REST;
    Some((Uuid::from_u128(first), Uuid::from_u128(first | ((1 << REST) - 1))))
}

/// The app's `_id`.
#[must_use]
pub fn app_id(instance: InstanceId) -> String {
    short(instance.0)
}

/// The instances that an app's `_id` can mean: the first and the last of a range in which one exists. `None` for what is no such id.
#[must_use]
pub fn app_range(text: &str) -> Option<(InstanceId, InstanceId)> {
    range(text).map(|(first, last)| (InstanceId(first), InstanceId(last)))
}

/// The account's `_id`.
#[must_use]
pub fn account_id(workspace: WorkspaceId) -> String {
    short(workspace.0)
}

/// The version's `_id`: that of its source.
#[must_use]
pub fn version_id(snapshot: SnapshotId) -> String {
    short(snapshot.0)
}

/// The container's `_id`, `<appId>-<short>`; equals `GALAXY_CONTAINER_ID` inside of it.
#[must_use]
pub fn container_id(instance: InstanceId, replica: ReplicaId) -> String {
    let digest = Sha256::digest(replica.0.as_bytes());
    let mut number = u64::from_be_bytes([0, 0, digest[0], digest[1], digest[2], digest[3], digest[4], digest[5]]);
    let digits = (0..5).map(|_| {
        let digit = u32::try_from(number % 36).unwrap_or(0);
        number /= 36;
        char::from_digit(digit, 36).unwrap_or('0')
    });
    let short: String = digits.collect();
    format!("{}-{short}", app_id(instance))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn ids_look_as_clients_know_them() {
        let id = app_id(InstanceId::generate());
        assert_eq!(id.len(), 17);
        let container = container_id(InstanceId::generate(), ReplicaId::generate());
        let (app, short) = container.split_once('-').unwrap();
        assert_eq!((app.len(), short.len()), (17, 5));
        assert!(short.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit()));
        for bad in ["", "x", "23456789ABCDEFGH1", "zzzzzzzzzzzzzzzzz", "../../etc/passwd!"] {
            assert_eq!(app_range(bad), None, "{bad}");
        }
    }

    #[test]
    fn apps_made_at_once_have_different_ids() {
        let ids: std::collections::BTreeSet<String> = (0..20_000).map(|_| app_id(InstanceId::generate())).collect();
        assert_eq!(ids.len(), 20_000);
    }

    proptest! {
        #[test]
        fn an_id_leads_back_to_its_instance(time in 0u64..1 << 48, a in 0u16..1 << 12, b in 0u64..1 << 62) {
            let bits = u128::from(time) << 80 | 7 << 76 | u128::from(a) << 64 | 0b10 << 62 | u128::from(b);
            let id = InstanceId(Uuid::from_u128(bits));
            let (first, last) = app_range(&app_id(id)).unwrap();
            prop_assert!(first <= id && id <= last);
            prop_assert_eq!(last.0.as_u128() - first.0.as_u128(), (1 << REST) - 1);
        }
    }
}
