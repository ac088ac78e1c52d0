//! Conversions of limits. The table of limits is in `insula-types`; this file says which field of
//! the message each one has.

use insula_types::{Limit, Limits, LimitsError};

use crate::ApiError;
use crate::v1;

macro_rules! fields {
    ($($limit:ident $field:ident;)*) => {
        /// The amount of a limit in a message.
        pub fn amount(message: &v1::Limits, limit: Limit) -> Option<u64> {
            match limit {
                $(Limit::$limit => message.$field.map(Into::into),)*
            }
        }

        /// Sets the amount of a limit in a message, or clears it. An amount that does not fit the
        /// field clears it, too.
        pub fn set_amount(message: &mut v1::Limits, limit: Limit, amount: Option<u64>) {
            match limit {
                $(Limit::$limit => message.$field = amount.and_then(|amount| amount.try_into().ok()),)*
            }
        }
    };
}

fields! {
    Cpus cpu_milli;
    CpuWeight cpu_weight;
    Memory memory_bytes;
    Swap swap_bytes;
    Processes processes;
    Disk disk_bytes;
}

/// Converts and checks the limits of a request. `field` is the path of the message, `limits`.
pub fn limits(field: &str, message: v1::Limits) -> Result<Limits, ApiError> {
    let mut limits = Limits::default();
    Limit::ALL.iter().for_each(|limit| limits.set(*limit, amount(&message, *limit)));
    limits.check().map(|()| limits).map_err(|error| limits_error(field, &error))
}

fn limits_error(field: &str, error: &LimitsError) -> ApiError {
    ApiError::invalid_field(format!("{field}.{}", error.limit.row().field), error.to_string())
}

impl From<&Limits> for v1::Limits {
    fn from(limits: &Limits) -> Self {
        let mut message = Self::default();
        limits.all().for_each(|(limit, amount)| set_amount(&mut message, limit, Some(amount)));
        message
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use insula_types::Reason;
    use prost::Message;
    use prost_reflect::{DescriptorPool, DynamicMessage, MessageDescriptor};

    fn descriptor() -> MessageDescriptor {
        let pool = DescriptorPool::decode(crate::FILE_DESCRIPTOR_SET).unwrap();
        pool.get_message_by_name("insula.v1.Limits").unwrap()
    }

    #[test]
    fn the_message_has_the_limits_of_the_table() {
        let mut fields: Vec<_> = descriptor().fields().map(|field| field.name().to_owned()).collect();
        let mut table: Vec<_> = Limit::ALL.iter().map(|limit| limit.row().field.to_owned()).collect();
        fields.sort();
        table.sort();
        assert_eq!(fields, table, "left: the proto, right: the table");
    }

    #[test]
    fn limits_go_both_ways_one_by_one() {
        for limit in Limit::ALL.iter().copied() {
            let mut types = Limits::default();
            types.set(limit, Some(limit.row().most));
            let message = v1::Limits::from(&types);
            assert_eq!(amount(&message, limit), Some(limit.row().most), "{limit:?}");
            assert_eq!(limits("limits", message).unwrap(), types, "{limit:?}");
            // The field must be the one that the table names.
            let dynamic = DynamicMessage::decode(descriptor(), &*message.encode_to_vec()).unwrap();
            let named: Vec<_> = dynamic.fields().map(|(field, _)| field.name().to_owned()).collect();
            assert_eq!(named, [limit.row().field]);
        }
    }

    #[test]
    fn absurd_limits_name_their_field() {
        for limit in Limit::ALL.iter().copied() {
            let mut message = v1::Limits::default();
            set_amount(&mut message, limit, Some(limit.row().most + 1));
            let error = limits("limits", message).unwrap_err();
            assert_eq!(error.fields[0].field, limit.row().path);
            assert_eq!(error.reason(), Some(Reason::InvalidArgument));
        }
    }
}
