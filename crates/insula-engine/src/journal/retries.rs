//! What makes a retry safe.
//!
//! A client that does not know whether its request arrived sends it again with the same request id (AIP-155), and gets
//! the same operation. Requests with one id are dealt with one after the other; a keyed hash of the body tells a
//! retry from another request. [`Retries`] owns the turns of these requests, and must not keep their bodies: a body may
//! hold a password.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use hmac::{Hmac, Mac};
use insula_types::RequestId;
use sha2::Sha256;

use crate::model::asked::Asked;

/// The requests that are being handled, by requester and id: one at a time.
#[derive(Debug)]
pub(crate) struct Retries {
    /// Of this host: what the hashes of requests are made with.
    secret: [u8; 32],
    turns: Mutex<HashMap<(String, RequestId), Turn>>,
}

/// Held by the request that is being dealt with.
type Turn = Arc<tokio::sync::Mutex<()>>;

impl Retries {
    pub(crate) fn new(secret: [u8; 32]) -> Self {
        Self { secret, turns: Mutex::default() }
    }

    /// Waits for the turn of a request.
    pub(crate) async fn turn(&self, asked: &Asked, id: &RequestId) -> tokio::sync::OwnedMutexGuard<()> {
        let key = (asked.requester.name.clone(), id.clone());
        let turn = {
            let mut turns = self.turns.lock().unwrap_or_else(PoisonError::into_inner);
            turns.retain(|_, turn| Arc::strong_count(turn) > 1); // nobody waits for them
            turns.entry(key).or_default().clone()
        };
        turn.lock_owned().await
    }

    /// What tells a retry from another request: keyed, because a body may hold a password.
    pub(crate) fn digest(&self, asked: &Asked) -> String {
        if asked.request_id.is_none() {
            return String::new();
        }
        let mut mac = Hmac::<Sha256>::new_from_slice(&self.secret).expect("a key of any length will do");
        mac.update(&asked.body);
        format!("{:x}", mac.finalize().into_bytes())
    }
}
