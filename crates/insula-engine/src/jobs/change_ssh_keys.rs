//! Changes which keys may log in as root of a VPS.

use std::sync::Arc;

use insula_types::{OperationRecord, VpsId};
use serde::{Deserialize, Serialize};

use crate::jobs::spec::{Admission, Context, JobSpec, Target};
use crate::model::asked::Asked;
use crate::model::checks::check_ssh_key;
use crate::model::plan::Plan;
use crate::model::policy::Request;
use crate::model::step::{Change, Step, Swap};
use crate::{Engine, EngineError, VpsHandle};

/// The most keys in one request.
const MAX_SSH_KEYS: usize = 100;

/// Change which keys may log in as root.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct ChangeSshKeysJob {
    pub vps: VpsId,
    pub add: Vec<String>,
    pub remove: Vec<String>,
    /// Those that the VPS was given, as it is written down.
    pub keys: Swap<Vec<String>>,
}

impl Engine {
    /// Changes which keys may log in as root of a VPS.
    pub async fn change_ssh_keys(
        &self,
        asked: &Asked,
        handle: &Arc<VpsHandle>,
        add: &[String],
        remove: &[String],
    ) -> Result<OperationRecord, EngineError> {
        let checked = |field, keys: &[String]| {
            let keys = keys.iter().map(|key| check_ssh_key(key)).collect::<Result<Vec<_>, _>>();
            keys.map_err(|error| EngineError::invalid(field, error))
        };
        let (add, remove) = (checked("add", add)?, checked("remove", remove)?);
        if add.is_empty() && remove.is_empty() {
            return Err(EngineError::invalid("add", "there is no key to add or to remove"));
        }
        if add.len() + remove.len() > MAX_SSH_KEYS {
            return Err(EngineError::invalid("add", format!("more than {MAX_SSH_KEYS} keys at once")));
        }
        let keys = Swap { from: vec![], to: vec![] }; // known when it is checked
        self.request(asked, handle, ChangeSshKeysJob { vps: handle.id, add, remove, keys }).await
    }
}

impl JobSpec for ChangeSshKeysJob {
    fn target(&self) -> Target {
        Target::Vps(self.vps)
    }

    fn request(&self) -> Option<Request> {
        Some(Request::Change)
    }

    fn check(&mut self, context: &Context<'_>) -> Result<Admission, EngineError> {
        let from = context.spec().ssh_keys.clone();
        let to = change_keys(&from, &self.add, &self.remove);
        self.keys = Swap { from, to };
        context.admit(self.request())
    }

    /// Noted last: what could not be written was not given.
    fn plan(&self) -> Plan {
        let (add, remove) = (self.add.clone(), self.remove.clone());
        let noted = Step::Change(self.keys.clone().map(Change::SshKeys));
        Plan::lasting([Step::WriteSshKeys { add, remove }, noted])
    }
}

/// The keys with others at their end, and without some. Comments don't count.
fn change_keys(keys: &[String], add: &[String], remove: &[String]) -> Vec<String> {
    fn same(one: &str, other: &str) -> bool {
        one.split(' ').take(2).eq(other.split(' ').take(2))
    }
    let is_in = |keys: &[String], key: &str| keys.iter().any(|known| same(known, key));
    let mut changed: Vec<String> = keys.iter().filter(|key| !is_in(remove, key)).cloned().collect();
    for key in add {
        if !is_in(&changed, key) {
            changed.push(key.clone());
        }
    }
    changed
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_one_whatever_its_comment() {
        let keys = |keys: &[&str]| keys.iter().map(ToString::to_string).collect::<Vec<_>>();
        let known = keys(&["ssh-rsa AAAA me", "ssh-rsa BBBB"]);
        let changed = |add: &[&str], remove: &[&str]| change_keys(&known, &keys(add), &keys(remove));
        assert_eq!(changed(&["ssh-rsa AAAA you", "ssh-rsa CCCC", "ssh-rsa CCCC x"], &[]).len(), 3);
        assert_eq!(changed(&[], &["ssh-rsa AAAA other"]), ["ssh-rsa BBBB"]);
        assert_eq!(changed(&["ssh-rsa AAAA new"], &["ssh-rsa AAAA"]), ["ssh-rsa BBBB", "ssh-rsa AAAA new"]);
    }
}
