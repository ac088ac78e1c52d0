//! Sends every method requests that no client should send. Each is answered, none breaks the agent,
//! and none counts as a fault of the agent.

use std::time::{Duration, Instant};

use insula_api::{ApiError, FILE_DESCRIPTOR_SET, v1};
use insula_testkit::Image;
use prost_reflect::prost::Message;
use prost_reflect::{
    Cardinality, DescriptorPool, DynamicMessage, FieldDescriptor, Kind, MapKey, MessageDescriptor,
    MethodDescriptor, Value,
};
use serde_json::json;
use tonic::Code;

use crate::access::client::{Raw, enroll, host};
use crate::dice::Dice;

/// How long the test goes on.
const TIME: Duration = Duration::from_secs(25);

/// The most memory that the agent may use afterwards, in KiB.
const MOST_MEMORY_KIB: u64 = 400 << 10;

/// The longest message that the agent reads.
const MOST_BYTES: usize = 4 << 20;

/// Texts that look valid, or lead elsewhere.
const TEXTS: [&str; 24] = [
    "",
    "web1",
    "Web1",
    "wеb1",
    "web1\0",
    "../../etc/passwd",
    "/",
    "a/b",
    ".",
    "..",
    "-rf",
    "web1\n",
    "\u{202e}1bew",
    "😀",
    "0",
    "-1",
    "99999999999999999999",
    "debian-12",
    "root",
    "small",
    "*",
    "state=ready AND",
    "%s%n",
    "r1",
];

#[test]
fn no_request_breaks_the_agent() {
    let mut dice = Dice::new();
    let host = host()
        .setting("access", json!({ "requests_per_second": 100_000, "certificate_days": 90 }))
        .image(Image::Debian12)
        .start();
    let admin = enroll(&host, "admin", v1::Role::SuperAdmin, "");
    let raw = Raw::new(&host, &admin);
    host.insula_ok(&["create", "web1", "--image", "debian-12"]);
    let ids = [host.vps("web1").id, "0193a1b2-c3d4-7e5f-8a9b-0123456789ab".to_owned()];
    let pool = DescriptorPool::decode(FILE_DESCRIPTOR_SET).unwrap();
    let methods: Vec<MethodDescriptor> =
        pool.services().flat_map(|service| service.methods().collect::<Vec<_>>()).collect();
    let (began, mut count) = (Instant::now(), 0);
    while began.elapsed() < TIME || count < methods.len() {
        let method = &methods[count % methods.len()];
        let path = format!("/{}/{}", method.parent_service().full_name(), method.name());
        let message = bytes(&mut dice, &method.input(), &ids);
        // Calls that only end with the caller are abandoned after a moment.
        let answer = raw.call_within(&host, &path, message.clone(), Duration::from_millis(500));
        if let Err(status) = answer {
            let shown = &message[..message.len().min(500)];
            let is_fault = matches!(status.code(), Code::Internal | Code::Unknown | Code::DataLoss);
            let is_explained = ApiError::from(&status).reason().is_some();
            // The transport refuses what is no message, or too long for one, and calls that
            // internal.
            let is_readable =
                message.len() <= MOST_BYTES && DynamicMessage::decode(method.input(), &*message).is_ok();
            assert!(!is_readable || (!is_fault && is_explained), "{path}: {status:?} for {shown:?}");
        }
        count += 1;
    }
    eprintln!("{count} requests");
    host.insula_ok(&["version"]);
    let log = std::fs::read_to_string(host.agent().log()).unwrap();
    assert!(!log.contains("panicked"), "{log}");
    let memory_kib = memory_kib(host.agent().process().id().as_raw_nonzero().get());
    assert!(memory_kib < MOST_MEMORY_KIB, "{memory_kib} KiB");
}

/// The memory of a process: proc_pid_status(5).
fn memory_kib(pid: i32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    line.split_whitespace().next().unwrap().parse().unwrap()
}

/// A message of this type: plausible, absurd, truncated, or no message at all.
fn bytes(dice: &mut Dice, kind: &MessageDescriptor, ids: &[String]) -> Vec<u8> {
    let mut bytes = message(dice, kind, ids, 0).encode_to_vec();
    match dice.below(16) {
        0 => bytes.truncate(dice.below(bytes.len() + 1)),
        1 => (0..dice.below(64)).for_each(|_| bytes.push(u8::try_from(dice.below(256)).unwrap())),
        2 if !bytes.is_empty() => {
            let at = dice.below(bytes.len());
            bytes[at] ^= 1 << dice.below(8);
        }
        3 => {
            // One more field, of any wire type, which is not UTF-8 where it is text.
            let key = u8::try_from((1 + dice.below(15)) << 3 | dice.below(8)).unwrap();
            bytes.extend([key, 2, 0xff, 0xfe]);
        }
        // An unknown field that is longer than what is read of a message: 5 MiB.
        4 if dice.once_in(16) => {
            bytes.extend([0xfa, 0x7f, 0x80, 0x80, 0xc0, 0x02]);
            bytes.resize(bytes.len() + (5 << 20), 0);
        }
        _ => {}
    }
    bytes
}

fn message(dice: &mut Dice, kind: &MessageDescriptor, ids: &[String], depth: usize) -> DynamicMessage {
    let mut message = DynamicMessage::new(kind.clone());
    for field in kind.fields() {
        if depth > 3 || dice.once_in(4) {
            continue;
        }
        let value = value(dice, &field, ids, depth);
        message.set_field(&field, value);
    }
    // The VPS should exist to the end, in most cases.
    if let Some(field) = kind.get_field_by_name("validate_only") {
        message.set_field(&field, Value::Bool(!dice.once_in(8)));
    }
    // Leaves out what would end the test's own access, or keep the host busy for minutes.
    if kind.full_name().ends_with("RevokeClientRequest") || kind.full_name().ends_with("BuildImageRequest") {
        message.clear_field_by_name("client");
        message.clear_field_by_name("definition");
    }
    message
}

fn value(dice: &mut Dice, field: &FieldDescriptor, ids: &[String], depth: usize) -> Value {
    if field.is_map() {
        let entries =
            (0..dice.below(4)).map(|_| (MapKey::String(text(dice, ids)), Value::String(text(dice, ids))));
        return Value::Map(entries.collect());
    }
    match field.cardinality() {
        Cardinality::Repeated => {
            let count = if dice.once_in(20) { 5000 } else { dice.below(4) };
            Value::List((0..count).map(|_| scalar(dice, field, ids, depth)).collect())
        }
        _ => scalar(dice, field, ids, depth),
    }
}

fn scalar(dice: &mut Dice, field: &FieldDescriptor, ids: &[String], depth: usize) -> Value {
    let number = match dice.below(4) {
        0 => u64::MAX - dice.next() % 3,
        1 => u64::try_from(dice.below(4)).unwrap(),
        2 => 1 << dice.below(64),
        _ => dice.next(),
    };
    match field.kind() {
        Kind::Bool => Value::Bool(dice.once_in(2)),
        Kind::String => Value::String(text(dice, ids)),
        Kind::Bytes => Value::Bytes(text(dice, ids).into_bytes().into()),
        Kind::Message(kind) => Value::Message(message(dice, &kind, ids, depth + 1)),
        Kind::Enum(_) => Value::EnumNumber(truncated(number)),
        Kind::Int32 | Kind::Sint32 | Kind::Sfixed32 => Value::I32(truncated(number)),
        Kind::Int64 | Kind::Sint64 | Kind::Sfixed64 => Value::I64(number.cast_signed()),
        Kind::Uint32 | Kind::Fixed32 => Value::U32(truncated(number).cast_unsigned()),
        Kind::Uint64 | Kind::Fixed64 => Value::U64(number),
        Kind::Float => Value::F32(f32::NAN),
        Kind::Double => Value::F64(f64::INFINITY),
    }
}

fn text(dice: &mut Dice, ids: &[String]) -> String {
    match dice.below(40) {
        0 => "x".repeat(1 << 20),
        1 => "é".repeat(300),
        2..8 => dice.pick(ids).clone(),
        _ => (*dice.pick(&TEXTS)).to_owned(),
    }
}

/// The lower half.
#[allow(clippy::cast_possible_truncation)] // which is what it is for
fn truncated(number: u64) -> i32 {
    number as i32
}
