//! Hashing of keys that nobody can choose: ids that are drawn here, and digests. What the standard library does by itself protects maps
//! from strangers who choose their keys, at a price that every request would pay several times.

use std::hash::{BuildHasherDefault, Hasher};

/// For maps by ids or digests.
pub(crate) type Drawn = BuildHasherDefault<DrawnHasher>;

/// Multiplies the words of a key into each other. All its bits reach the upper half of the result, and from there the lower one.
#[derive(Default)]
pub(crate) struct DrawnHasher(u64);

impl Hasher for DrawnHasher {
    fn write(&mut self, bytes: &[u8]) {
        for part in bytes.chunks(8) {
            let word = part.iter().fold(0, |word, byte| (word << 8) | u64::from(*byte));
            self.0 = (self.0.rotate_left(29) ^ word).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        }
    }

    /// Comes before the bytes of a digest, and is the same for each.
    fn write_usize(&mut self, _length: usize) {}

    fn finish(&self) -> u64 {
        self.0 ^ (self.0 >> 32)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;
    use std::hash::{BuildHasher as _, Hash};

    use domain::ApiKeyId;
    use domain::key::hash;

    use super::*;

    /// Of 4,096 places ten thousand keys that fall at random reach nine tenths.
    fn spread<T: Hash>(keys: impl Iterator<Item = T>) {
        let hashes: Vec<u64> = keys.map(|key| Drawn::default().hash_one(key)).collect();
        for shift in [0, 40, 52] {
            let reached: HashSet<u64> = hashes.iter().map(|hash| (hash >> shift) & 0xfff).collect();
            assert!(reached.len() > 3_300, "{} places by the bits from {shift} on", reached.len());
        }
    }

    #[test]
    fn ids_that_are_drawn_one_after_the_other_and_digests_are_spread() {
        spread((0..10_000).map(|_| ApiKeyId::generate().0));
        spread((0..10_000).map(|number| hash(&format!("key {number}"))));
    }
}
