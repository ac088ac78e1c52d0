//! Sets the password of a user inside of a VPS.

use std::sync::Arc;

use insula_types::{OperationRecord, VpsId};
use serde::{Deserialize, Serialize};

use crate::jobs::create::hashed;
use crate::jobs::spec::{JobSpec, Target};
use crate::model::asked::Asked;
use crate::model::plan::Plan;
use crate::model::policy::Request;
use crate::model::step::Step;
use crate::{Engine, EngineError, VpsHandle};

/// Set a user's password.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct SetPasswordJob {
    pub vps: VpsId,
    pub user: String,
    /// Of the password; empty when it is over.
    pub hash: String,
}

impl Engine {
    /// Sets the password of a user inside a VPS.
    pub async fn set_password(
        &self,
        asked: &Asked,
        handle: &Arc<VpsHandle>,
        user: String,
        password: &str,
    ) -> Result<OperationRecord, EngineError> {
        self.once(asked, || async {
            let user = check_user(user)?;
            let job = SetPasswordJob { vps: handle.id, user, hash: hashed(password).await? };
            self.request_now(asked, handle, job).await
        })
        .await
    }
}

impl JobSpec for SetPasswordJob {
    fn target(&self) -> Target {
        Target::Vps(self.vps)
    }

    fn request(&self) -> Option<Request> {
        Some(Request::Change)
    }

    fn plan(&self) -> Plan {
        let (user, hash) = (self.user.clone(), self.hash.clone());
        Plan::lasting([Step::SetPassword { user, hash }])
    }

    fn forget_secrets(&mut self) {
        self.hash.clear();
    }
}

/// As useradd(8) has them by default.
fn check_user(user: String) -> Result<String, EngineError> {
    let is_plain =
        |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || matches!(b, b'-' | b'_' | b'.' | b'$');
    let first = user.bytes().next().is_some_and(|b| b.is_ascii_lowercase() || b == b'_');
    match first && user.len() <= 32 && user.bytes().all(is_plain) {
        true => Ok(user),
        false => {
            let shown: String = user.chars().take(80).collect();
            Err(EngineError::invalid("user", format!("invalid user name {shown:?}")))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn users_are_plain() {
        for (user, good) in [("root", true), ("www-data", true), ("", false), ("a:b", false), ("-a", false)] {
            assert_eq!(check_user(user.to_owned()).is_ok(), good, "{user}");
        }
    }
}
