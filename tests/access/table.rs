//! The whole table of rights, over the wire: every method as every role, on the caller's own VPS and on another's.

use std::sync::LazyLock;

use insula_api::access::{METHODS, Method, Scope};
use insula_api::{ApiError, FILE_DESCRIPTOR_SET, Reason, v1};
use insula_testkit::{Image, ScratchHost};
use insula_types::Role;
use prost::Message;
use prost_reflect::{DescriptorPool, DynamicMessage, Kind, MessageDescriptor, Value};
use tonic::Code;

use super::client::{Raw, enroll, host};

/// The object of a call.
#[derive(Debug, Clone, Copy)]
struct Target {
    vps: &'static str,
    operation: &'static str,
}

/// The result of a call.
type Outcome = Result<Option<Vec<u8>>, ApiError>;

#[test]
fn every_role_has_its_rights_and_no_more() {
    let host =
        host().image(Image::Debian12).setting("access", serde_json::json!({ "requests_per_second": 10_000 }));
    let host = host.start();
    let create =
        |name: &'static str, tenant| Target { vps: name, operation: create_vps(&host, name, tenant) };
    let (own, foreign) = (create("own1", "acme"), create("foreign1", "other"));
    let nothing = Target { vps: "nothing1", operation: "0193a1b2-c3d4-7e5f-8a9b-0123456789ab" };
    let callers: Vec<(Role, Raw)> = Role::ALL
        .into_iter()
        .map(|role| {
            let tenant = if role == Role::Tenant { "acme" } else { "" };
            (role, Raw::new(&host, &enroll(&host, role.as_str(), role.into(), tenant)))
        })
        .collect();
    let mut wrong = vec![];
    for (role, caller) in &callers {
        for method in METHODS {
            let call = |target| call(&host, caller, method, target);
            let right = method.right(*role);
            let mut expect = |what: &str, holds: bool, outcome: &Outcome| {
                if !holds {
                    wrong.push(format!("{role} {}: {what} ({right:?}): {outcome:?}", method.path));
                }
            };
            let on_own = call(own);
            expect("on its own", is_allowed(&on_own) == right.is_some() && is_found(&on_own), &on_own);
            let on_foreign = call(foreign);
            match right {
                Some(Scope::Host) => {
                    expect("on a foreign one", is_allowed(&on_foreign) && is_found(&on_foreign), &on_foreign);
                }
                None => expect("on a foreign one", !is_allowed(&on_foreign), &on_foreign),
                Some(Scope::Own) => {
                    let hidden = heard(&on_foreign, foreign) == heard(&call(nothing), nothing);
                    expect(
                        "a foreign one is not there",
                        hidden && tells_nothing_of(&on_foreign, foreign),
                        &on_foreign,
                    );
                }
            }
        }
    }
    assert!(wrong.is_empty(), "{} of the table's entries are not so:\n{}", wrong.len(), wrong.join("\n"));
    assert_eq!(host.vpses().len(), 2, "only looked at");
}

/// Creates a VPS. Returns the id of the operation that created it.
fn create_vps(host: &ScratchHost, name: &str, tenant: &str) -> &'static str {
    let request = v1::CreateVpsRequest {
        name: name.into(),
        image: "debian-12".into(),
        tenant: tenant.into(),
        ..Default::default()
    };
    let client = host.client();
    host.block_on(async {
        let operation = client.vps().create_vps(request).await.unwrap().into_inner().operation.unwrap();
        let wait = v1::WaitOperationRequest { id: operation.id.clone(), timeout: None };
        client.operations().wait_operation(wait).await.unwrap();
        operation.id.leak()
    })
}

fn call(host: &ScratchHost, caller: &Raw, method: &Method, target: Target) -> Outcome {
    caller.call(host, method.path, message(method.path, target)).map_err(|status| ApiError::from(&status))
}

/// Whether the table gave the right to call. Refusals for other reasons don't count.
fn is_allowed(outcome: &Outcome) -> bool {
    let Err(error) = outcome else { return true };
    let refused = [Some(Reason::PermissionDenied), Some(Reason::Unauthenticated), Some(Reason::RateLimited)];
    assert!(!matches!(error.code, Code::Unknown | Code::Internal | Code::Unimplemented), "{error:?}");
    !refused.contains(&error.reason())
}

/// Whether the caller could see the object of the call.
fn is_found(outcome: &Outcome) -> bool {
    let missing = [Some(Reason::VpsNotFound), Some(Reason::OperationNotFound)];
    let in_use = |error: &ApiError| error.message().ends_with("is not in the trash");
    outcome.as_ref().err().is_none_or(|error| !missing.contains(&error.reason()) || in_use(error))
}

/// An answer without what the caller has sent itself, and without what grows with each call.
fn heard(outcome: &Outcome, target: Target) -> String {
    match outcome {
        Ok(_) => "answered".to_owned(),
        Err(error) => format!("{error:?}").replace(target.vps, "VPS").replace(target.operation, "OPERATION"),
    }
}

/// Whether an answer mentions neither the name nor the tenant of the VPS.
fn tells_nothing_of(outcome: &Outcome, target: Target) -> bool {
    let Ok(Some(answer)) = outcome else { return true };
    let holds = |text: &str| answer.windows(text.len()).any(|part| part == text.as_bytes());
    !holds(target.vps) && !holds(target.operation)
}

/// A plausible request. Where the method has `validate_only`, it changes nothing.
fn message(path: &str, target: Target) -> Vec<u8> {
    static POOL: LazyLock<DescriptorPool> =
        LazyLock::new(|| DescriptorPool::decode(FILE_DESCRIPTOR_SET).unwrap());
    let (service, method) = path.trim_start_matches('/').split_once('/').unwrap();
    match POOL.get_service_by_name(service) {
        Some(service) => {
            let method = service.methods().find(|known| known.name() == method).unwrap();
            filled(&method.input(), target).encode_to_vec()
        }
        None if service.contains("reflection") => vec![0x3a, 1, b'*'], // list_services
        None => vec![],
    }
}

fn filled(descriptor: &MessageDescriptor, target: Target) -> DynamicMessage {
    let mut message = DynamicMessage::new(descriptor.clone());
    if descriptor.get_field_by_name("command").is_some() {
        message.set_field_by_name("command", Value::List(vec![Value::String("true".into())]));
    }
    let is_harmless = descriptor.get_field_by_name("validate_only").is_some();
    for field in descriptor.fields().filter(|field| !field.is_list() && !field.is_map()) {
        let text = |text: &str| Some(Value::String(text.to_owned()));
        let value = match (field.name(), field.kind()) {
            ("vps", Kind::String) => text(target.vps),
            ("id", Kind::String) => text(target.operation),
            ("name" | "new_name", Kind::String) => text("new1"),
            ("image", Kind::String) => text(if is_harmless { "debian-12" } else { "nothing" }),
            ("snapshot" | "alias" | "client" | "pool" | "network", Kind::String) => text("nothing"),
            ("profile", Kind::String) => text("small"),
            ("reason" | "password" | "token" | "definition", Kind::String) => text("x"),
            ("validate_only", Kind::Bool) => Some(Value::Bool(true)),
            ("start", Kind::Message(start)) => Some(Value::Message(filled(&start, target))),
            ("profile", Kind::Message(profile)) => Some(Value::Message(filled(&profile, target))),
            _ => None,
        };
        if let Some(value) = value {
            message.set_field(&field, value);
        }
    }
    message
}
