use domain::key::{self, ApiKey, KeyKind, KeyLimits};
use domain::{ApiKeyId, Timestamp, UserId};
use secrecy::SecretString;

/// A fresh key of a kind: the secret, its hash and what is shown of it afterwards.
pub fn new_secret(kind: KeyKind) -> (SecretString, [u8; 32], String) {
    let text = key::encode(kind, &rand::random::<[u8; 32]>());
    let hash = key::hash(&text);
    let display = key::display(&text);
    (SecretString::from(text), hash, display)
}

/// A fresh key with its secret and the secret's hash. It is tied to its user alone, has the limits of the plan and no end.
pub fn new_key(kind: KeyKind, user_id: UserId, label: String, now: Timestamp) -> (ApiKey, SecretString, [u8; 32]) {
    let (secret, hash, display) = new_secret(kind);
    let key = ApiKey {
        id: ApiKeyId::generate(),
        kind,
        user_id,
        workspace_id: None,
        project: None,
        label,
        display,
        limits: KeyLimits::OF_PLAN,
        expires_at: None,
        revoked_at: None,
        last_used_at: None,
        last_used_address: None,
        created_at: now,
    };
    (key, secret, hash)
}

/// A fresh opaque secret for links, sessions and codes.
pub(crate) fn new_opaque() -> (SecretString, [u8; 32]) {
    let text = key::encode_opaque(&rand::random::<[u8; 32]>());
    let hash = key::hash(&text);
    (SecretString::from(text), hash)
}

/// Two words and nothing else: a name for what the user did not name.
pub(crate) fn friendly_name() -> String {
    const FIRST: [&str; 24] = [
        "amber", "brisk", "calm", "clear", "copper", "daring", "early", "gentle", "golden", "hidden", "honest", "keen", "lively", "lucid",
        "mellow", "nimble", "patient", "quiet", "rapid", "silver", "steady", "sunny", "vivid", "wise",
    ];
    const SECOND: [&str; 24] = [
        "apogee", "aurora", "beacon", "comet", "corona", "delta", "dial", "eclipse", "ember", "gear", "harbor", "horizon", "lantern",
        "meridian", "meteor", "moon", "nebula", "orbit", "planet", "pulsar", "ring", "star", "transit", "zenith",
    ];
    let [a, b] = rand::random::<[u8; 2]>();
    format!("{}-{}", FIRST[usize::from(a) % FIRST.len()], SECOND[usize::from(b) % SECOND.len()])
}

/// A few lower-case characters that make a name unique.
pub(crate) fn suffix() -> String {
    const ALPHABET: &[u8] = b"abcdefghijkmnpqrstuvwxyz23456789";
    rand::random::<[u8; 4]>().iter().map(|byte| char::from(ALPHABET[usize::from(*byte) % ALPHABET.len()])).collect()
}
