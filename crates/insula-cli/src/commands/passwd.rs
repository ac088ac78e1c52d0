//! `insula passwd`

use insula_api::v1::SetVpsPasswordRequest;

use crate::context::Context;
use crate::failure::Outcome;
use crate::operations::{Subjects, run_operations};
use crate::prompt::read_new_password;

/// The arguments of `insula passwd`. The password is none of them: everybody on the machine sees arguments.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  insula passwd web1
  insula passwd web1 --user alice < password

At a terminal, the command asks twice, without echo. Otherwise it reads the whole of standard input, without the final \
newline.")]
pub struct Passwd {
    /// VPS, by name or id
    name: String,
    /// User whose password to set
    #[arg(short, long, default_value = "root")]
    user: String,
}

impl Passwd {
    /// Sets the password.
    pub async fn run(self, context: &Context) -> Outcome {
        let password = read_new_password(context).await?;
        run_operations(context, Subjects::One(self.name), async |vps, request_id| {
            let (user, password) = (self.user.clone(), password.clone());
            let request = SetVpsPasswordRequest { vps, user, password, request_id, validate_only: false };
            Ok(context.client().await?.vps().set_vps_password(request).await?.into_inner().operation)
        })
        .await
    }
}
