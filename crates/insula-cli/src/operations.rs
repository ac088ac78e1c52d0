//! Waiting for operations, one or many at a time.

use futures::StreamExt as _;
use insula_api::v1::{ListOperationsResponse, Operation, WatchOperationRequest, operation::State};
use insula_api::{ApiError, Reason};
use tonic::Status;

use crate::columns::OPERATION_COLUMNS;
use crate::context::Context;
use crate::failure::{Failure, Outcome};
use crate::global::Format;
use crate::output::print;
use crate::progress::Progress;
use crate::requests::{self, BackOff};
use crate::table::ColumnChoice;
use crate::text::{printable, printable_lines};

/// How many requests one command sends at a time.
const AT_ONCE: usize = 16;

/// What a command works on: one named object, or a list.
pub enum Subjects {
    /// One. The answer is one message.
    One(String),
    /// Any number. The answer is a list.
    Many(Vec<String>),
}

impl Subjects {
    /// Those named, each once.
    pub fn named(names: Vec<String>) -> Self {
        let mut unique = Vec::with_capacity(names.len());
        for name in names {
            if !unique.contains(&name) {
                unique.push(name);
            }
        }
        match <[String; 1]>::try_from(unique) {
            Ok([name]) => Self::One(name),
            Err(names) => Self::Many(names),
        }
    }
}

/// Begins an operation for each subject, waits for all of them, and shows how they ended. `begin` gets a subject and the
/// id for its request.
pub async fn run_operations(
    context: &Context,
    subjects: Subjects,
    begin: impl AsyncFn(String, String) -> Outcome<Option<Operation>>,
) -> Outcome {
    run_operations_and_tell(context, subjects, begin, async |_| None).await
}

/// Like [`run_operations`], and prints a further note about each operation that succeeded.
pub async fn run_operations_and_tell(
    context: &Context,
    subjects: Subjects,
    begin: impl AsyncFn(String, String) -> Outcome<Option<Operation>>,
    tell: impl AsyncFn(&Operation) -> Option<String>,
) -> Outcome {
    let run = async |subject: String| {
        let begun = requests::send(context, async |request_id| begin(subject.clone(), request_id).await);
        let mut operation = finish(context, begun.await?.ok_or_else(|| missing("operation"))?).await?;
        if context.says_what_is_done() {
            operation.notes.extend(tell(&operation).await);
        }
        Ok(operation)
    };
    match subjects {
        Subjects::One(subject) => print_operation(context, &run(subject).await?),
        Subjects::Many(subjects) => {
            let (operations, worst) = work_on_all(context, subjects, run).await;
            print_operations(context, operations)?;
            worst.map_or(Ok(()), |code| Err(Failure::Exit(code)))
        }
    }
}

/// Waits for an operation, and shows its result.
pub async fn conclude(context: &Context, begun: Option<Operation>) -> Outcome {
    let operation = finish(context, begun.ok_or_else(|| missing("operation"))?).await?;
    print_operation(context, &operation)
}

/// Does the work for all, several at a time, and reports errors at once. The answers are in the
/// subjects' order; beside them is the worst exit code, if one failed.
async fn work_on_all<T>(
    context: &Context,
    subjects: Vec<String>,
    work: impl AsyncFn(String) -> Outcome<T>,
) -> (Vec<T>, Option<u8>) {
    let (mut answers, mut worst) = (vec![], None);
    let mut results = futures::stream::iter(subjects).map(|subject| work(subject)).buffered(AT_ONCE);
    while let Some(result) = results.next().await {
        match result {
            Ok(answer) => answers.push(answer),
            Err(failure) => {
                context.report(&failure);
                worst = worst.max(Some(failure.exit_code()));
            }
        }
    }
    (answers, worst)
}

/// Waits for the operation, unless `--async` was given.
async fn finish(context: &Context, operation: Operation) -> Outcome<Operation> {
    match context.global.no_wait {
        true => Ok(operation),
        false => wait(context, operation).await,
    }
}

/// Waits for the end of an operation and shows its progress. The error is the operation's.
pub async fn wait(context: &Context, operation: Operation) -> Outcome<Operation> {
    let operation = wait_for_end(context, operation).await?;
    match operation.state() {
        State::Succeeded => Ok(operation),
        _ => Err(error_of(&operation).into()),
    }
}

/// Waits for the end of an operation, good or bad, and shows its progress.
pub async fn wait_for_end(context: &Context, mut operation: Operation) -> Outcome<Operation> {
    if is_final(&operation) {
        return Ok(operation);
    }
    let id = operation.id.clone();
    let description = format!("{} {}", operation.kind, printable(&operation.target_name));
    context.pending.borrow_mut().insert(id.clone(), description);
    let mut progress = Progress::new(context);
    progress.update(&operation);
    let mut back_off = BackOff::new(requests::TRIES);
    while !is_final(&operation) {
        match watch(context, &mut operation, &mut progress).await {
            Err(failure) if !failure.is_lost_connection() || !back_off.wait(context).await => {
                return Err(failure);
            }
            _ => {}
        }
    }
    context.pending.borrow_mut().remove(&id);
    Ok(operation)
}

/// Follows an operation to its end, or until the connection breaks.
async fn watch(context: &Context, operation: &mut Operation, progress: &mut Progress<'_>) -> Outcome {
    let request = WatchOperationRequest { id: operation.id.clone() };
    let mut changes = context.client().await?.operations().watch_operation(request).await?.into_inner();
    while !is_final(operation) {
        let change = changes.message().await?.and_then(|change| change.operation);
        *operation = change.ok_or_else(|| Status::unavailable("the agent ended the stream"))?;
        progress.update(operation);
    }
    Ok(())
}

fn is_final(operation: &Operation) -> bool {
    matches!(operation.state(), State::Succeeded | State::Failed)
}

/// Why an operation failed.
pub fn error_of(operation: &Operation) -> ApiError {
    let unknown = || ApiError::new(Reason::Internal, format!("operation {} failed", operation.id));
    operation.error.as_ref().map_or_else(unknown, ApiError::from)
}

/// The error about an agent whose answer lacks its main field.
pub fn missing(what: &str) -> Failure {
    ApiError::new(Reason::Internal, format!("the agent's answer has no {what}")).into()
}

/// Shows how an operation has ended, or that it was begun.
pub fn print_operation(context: &Context, operation: &Operation) -> Outcome {
    match context.global.output {
        Format::Table => print_done(context, operation),
        _ => context.print_item(operation, OPERATION_COLUMNS),
    }
}

fn print_operations(context: &Context, operations: Vec<Operation>) -> Outcome {
    match context.global.output {
        Format::Table => operations.iter().try_for_each(|operation| print_done(context, operation)),
        _ => {
            let message = ListOperationsResponse { operations, next_page_token: String::new() };
            let choice = ColumnChoice::default();
            context.print_list(&message, &message.operations, OPERATION_COLUMNS, &choice, "")
        }
    }
}

/// The id of an unfinished operation, or the result of a finished one.
fn print_done(context: &Context, operation: &Operation) -> Outcome {
    match is_final(operation) {
        _ if context.global.no_wait => print(format!("{}\n", operation.id).as_bytes()),
        true if !context.global.quiet => print(render_done(operation).as_bytes()),
        _ => Ok(()),
    }
}

fn render_done(operation: &Operation) -> String {
    let done = match &*operation.kind {
        "create-vps" => "created",
        "start-vps" => "started",
        "stop-vps" => "stopped",
        "restart-vps" => "restarted",
        "delete-vps" => "deleted",
        "trash-vps" => "moved to the trash",
        "undelete-vps" => "restored from the trash",
        "update-vps" | "update-profile" => "changed",
        "rename-vps" => "renamed",
        "clone-vps" => "cloned",
        "rebuild-vps" => "rebuilt",
        "pause-vps" => "paused",
        "resume-vps" => "resumed",
        "suspend-vps" => "suspended",
        "unsuspend-vps" => "unsuspended",
        "set-vps-password" => "password set",
        "change-vps-ssh-keys" => "SSH keys changed",
        "create-snapshot" => "snapshot taken",
        "restore-snapshot" => "restored from the snapshot",
        "delete-snapshot" => "snapshot deleted",
        "build-image" => "image built",
        "delete-image" => "image deleted",
        "set-image-alias" => "alias set",
        "delete-image-alias" => "alias deleted",
        "create-profile" => "profile created",
        "delete-profile" => "profile deleted",
        "create-access-token" => "token made",
        "revoke-client" => "access revoked",
        newer => &format!("{newer} done"),
    };
    let done = match operation.state() {
        State::Failed => &format!("{} was cancelled", operation.kind), // another failure is an error
        _ => done,
    };
    let mut rendered = format!("{}: {}\n", printable(&operation.target_name), printable(done));
    for note in operation.notes.iter().flat_map(|note| printable_lines(note)) {
        rendered += &format!("  {note}\n");
    }
    rendered
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_given_twice_is_worked_on_once() {
        let named = |names: &[&str]| Subjects::named(names.iter().map(ToString::to_string).collect());
        assert!(matches!(named(&["a", "a"]), Subjects::One(name) if name == "a"));
        assert!(matches!(named(&["b", "a", "b"]), Subjects::Many(names) if names == ["b", "a"]));
    }

    #[test]
    fn every_kind_of_operation_has_a_word_for_its_end() {
        use insula_types::OperationKind::*;
        for kind in [
            CreateVps,
            StartVps,
            StopVps,
            RestartVps,
            DeleteVps,
            UpdateVps,
            RenameVps,
            TrashVps,
            UndeleteVps,
            CloneVps,
            RebuildVps,
            PauseVps,
            ResumeVps,
            SuspendVps,
            UnsuspendVps,
            SetVpsPassword,
            ChangeVpsSshKeys,
            CreateSnapshot,
            RestoreSnapshot,
            DeleteSnapshot,
            BuildImage,
            DeleteImage,
            SetImageAlias,
            DeleteImageAlias,
            CreateProfile,
            UpdateProfile,
            DeleteProfile,
            CreateAccessToken,
            RevokeClient,
        ] {
            let operation = Operation { kind: kind.to_string(), ..Default::default() };
            assert!(!render_done(&operation).contains(kind.as_str()), "{kind}");
        }
    }

    #[test]
    fn what_the_requester_should_know_is_said() {
        let (kind, target_name) = ("update-vps".into(), "web1".into());
        let notes = vec!["hostname: from the next start on\x1b[2J".into()];
        let operation = Operation { kind, target_name, notes, ..Default::default() };
        let said = "web1: changed\n  hostname: from the next start on\u{fffd}[2J\n";
        assert_eq!(render_done(&operation), said);
    }
}
