//! Messages as JSON, in the mapping of proto3.

use prost::{Message, Name};
use prost_reflect::{DescriptorPool, DynamicMessage, SerializeOptions};
use prost_types::FileDescriptorSet;
use std::sync::LazyLock;

use crate::FILE_DESCRIPTOR_SET;

/// The descriptors of our messages, and of the details that errors carry.
static DESCRIPTORS: LazyLock<DescriptorPool> = LazyLock::new(|| {
    let mut pool = DescriptorPool::decode(FILE_DESCRIPTOR_SET).expect("compiled by the build script");
    let mut google = FileDescriptorSet::decode(tonic_types::pb::FILE_DESCRIPTOR_SET).expect("tested there");
    google.file.retain(|file| file.name() == "error_details.proto"); // the rest is in our set
    pool.add_file_descriptor_set(google).expect("the details need nothing but well-known types");
    pool
});

/// Converts a message to JSON: <https://protobuf.dev/programming-guides/json/>.
///
/// Enums are written by name, 64-bit integers as text, and field names in lowerCamelCase. Fields
/// without presence are always written, so that a script needs no special case for an empty list.
pub fn to_json<M: Message + Name>(message: &M) -> serde_json::Value {
    let descriptor = DESCRIPTORS.get_message_by_name(&M::full_name()).expect("a message of our protos");
    let mut dynamic = DynamicMessage::new(descriptor);
    dynamic.transcode_from(message).expect("the generated code and the descriptors are of one source");
    let options = SerializeOptions::new().skip_default_fields(false);
    dynamic
        .serialize_with_options(serde_json::value::Serializer, &options)
        .unwrap_or_else(|error| serde_json::json!({ "unprintable": error.to_string() }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{ApiError, Reason, v1};

    #[test]
    fn messages_follow_the_mapping() {
        let vps = v1::Vps {
            name: "web1".into(),
            state: v1::VpsState::Ready.into(),
            limits: Some(v1::Limits { memory_bytes: Some(1 << 30), ..Default::default() }),
            create_time: Some(prost_types::Timestamp { seconds: 1_795_000_000, nanos: 0 }),
            ..Default::default()
        };
        let json = to_json(&vps);
        assert_eq!(json["state"], "VPS_STATE_READY");
        assert_eq!(json["limits"], serde_json::json!({ "memoryBytes": "1073741824" }));
        assert_eq!(json["createTime"], "2026-11-18T11:06:40Z");
        assert_eq!(json["interfaces"], serde_json::json!([]));
        assert_eq!(json["initPid"], 0);
        assert!(json.get("lastExit").is_none(), "{json}");
    }

    #[test]
    fn the_details_of_an_error_are_unpacked() {
        let error = ApiError::new(Reason::VpsNotFound, "there is no VPS web1").with_hint("insula list");
        let operation = v1::Operation { error: Some((&error).into()), ..Default::default() };
        let details = &to_json(&operation)["error"]["details"];
        assert_eq!(details[0]["@type"], "type.googleapis.com/google.rpc.ErrorInfo", "{details}");
        assert_eq!(details[0]["reason"], "VPS_NOT_FOUND");
    }
}
