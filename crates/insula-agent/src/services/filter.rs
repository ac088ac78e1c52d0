//! Filters of lists: the part of AIP-160 that lists of VPSes need.
//!
//! ```text
//! filter     = [ comparison { "AND" comparison } ]
//! comparison = field ("=" | "!=") value
//! field      = "state" | "tenant" | "profile" | "name" | "image" | "labels." key
//! value      = word | '"' text '"'
//! ```

use insula_api::ApiError;
use insula_engine::VpsView;
use insula_types::VpsState;

/// What a list should show: the VPSes that match all comparisons.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Filter {
    comparisons: Vec<Comparison>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Comparison {
    field: Field,
    is_equal: bool,
    value: String,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Field {
    State,
    Tenant,
    Profile,
    Name,
    Image,
    Label(String),
}

/// The maximum length of a filter, in bytes.
const MOST_BYTES: usize = 4096;

impl Filter {
    /// Parses a filter. An empty text matches everything.
    pub fn parse(text: &str) -> Result<Self, ApiError> {
        if text.len() > MOST_BYTES {
            return Err(wrong(format!("it is longer than {MOST_BYTES} bytes")));
        }
        let mut comparisons = vec![];
        let mut rest = text.trim_start();
        while !rest.is_empty() {
            if !comparisons.is_empty() {
                rest = rest
                    .strip_prefix("AND")
                    .filter(|rest| rest.starts_with(char::is_whitespace))
                    .ok_or_else(|| wrong(format!("expected AND before {:?}", shown(rest))))?
                    .trim_start();
            }
            let (comparison, left) = Comparison::read(rest)?;
            comparisons.push(comparison);
            rest = left.trim_start();
        }
        Ok(Self { comparisons })
    }

    /// Whether the filter matches a VPS.
    pub fn fits(&self, view: &VpsView) -> bool {
        self.comparisons.iter().all(|comparison| comparison.fits(view))
    }
}

impl Comparison {
    /// Parses one comparison at the beginning of a text, and returns the rest.
    fn read(text: &str) -> Result<(Self, &str), ApiError> {
        let at = text.find('=').ok_or_else(|| {
            wrong(format!("expected a comparison such as state=ready, not {:?}", shown(text)))
        })?;
        let (field, is_equal) = match text[..at].strip_suffix('!') {
            Some(field) => (field, false),
            None => (&text[..at], true),
        };
        let field = Field::parse(field.trim())?;
        let (value, rest) = read_value(text[at + 1..].trim_start())?;
        if field == Field::State && !VpsState::ALL.iter().any(|state| state.as_str() == value) {
            let known = VpsState::ALL.map(VpsState::as_str).join(", ");
            return Err(wrong(format!("unknown state {:?}: expected {known}", shown(&value))));
        }
        Ok((Self { field, is_equal, value }, rest))
    }

    fn fits(&self, view: &VpsView) -> bool {
        let spec = &view.spec;
        let image = spec.image.to_string();
        let found = match &self.field {
            Field::State => view.state.as_str(),
            Field::Tenant => spec.tenant.as_ref().map_or("", |tenant| tenant.as_str()),
            Field::Profile => spec.profile.as_str(),
            Field::Name => spec.name.as_str(),
            Field::Image => &image,
            Field::Label(key) => spec.labels.get(key).unwrap_or(""),
        };
        (found == self.value) == self.is_equal
    }
}

impl Field {
    fn parse(text: &str) -> Result<Self, ApiError> {
        Ok(match text {
            "state" => Self::State,
            "tenant" => Self::Tenant,
            "profile" => Self::Profile,
            "name" => Self::Name,
            "image" => Self::Image,
            _ => match text.strip_prefix("labels.").filter(|key| !key.is_empty()) {
                Some(key) => Self::Label(key.to_owned()),
                None => {
                    return Err(wrong(format!(
                        "unknown field {:?}: expected state, tenant, profile, name, image or labels.KEY",
                        shown(text)
                    )));
                }
            },
        })
    }
}

/// Parses a word up to the next space, or a text in quotes, and returns the rest.
fn read_value(text: &str) -> Result<(String, &str), ApiError> {
    match text.strip_prefix('"') {
        Some(quoted) => quoted
            .split_once('"')
            .map(|(value, rest)| (value.to_owned(), rest))
            .ok_or_else(|| wrong("a quotation mark is missing".to_owned())),
        None => {
            let end = text.find(char::is_whitespace).unwrap_or(text.len());
            match &text[..end] {
                "" => Err(wrong("a value is missing".to_owned())),
                value if value.contains(['=', '"', '(', ')']) => {
                    Err(wrong(format!("put {:?} in quotation marks", shown(value))))
                }
                value => Ok((value.to_owned(), &text[end..])),
            }
        }
    }
}

fn shown(text: &str) -> String {
    text.chars().take(40).collect()
}

fn wrong(what: String) -> ApiError {
    ApiError::invalid_field("filter", format!("the filter can't be read: {what}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn filters_are_comparisons_joined_by_and() {
        let filter = Filter::parse(r#"state=ready AND  tenant != acme AND labels.env="a b""#).unwrap();
        let comparison =
            |field, is_equal, value: &str| Comparison { field, is_equal, value: value.to_owned() };
        assert_eq!(
            filter.comparisons,
            [
                comparison(Field::State, true, "ready"),
                comparison(Field::Tenant, false, "acme"),
                comparison(Field::Label("env".to_owned()), true, "a b"),
            ]
        );
        assert_eq!(Filter::parse("  ").unwrap(), Filter::default());
        assert_eq!(Filter::parse(r#"tenant="""#).unwrap().comparisons, [comparison(Field::Tenant, true, "")]);
    }

    #[test]
    fn what_is_not_understood_is_refused() {
        for text in [
            "state",
            "state=",
            "=x",
            "colour=red",
            "state=ready OR state=paused",
            "name=a name=b",
            "state=redy",
            "labels.=x",
            r#"tenant="acme"#,
            "name=a AND",
            "name=a ANDname=b",
            "name==a",
            "(name=a)",
            "\u{0}=x",
        ] {
            let error = Filter::parse(text).unwrap_err();
            assert_eq!(error.fields[0].field, "filter", "{text:?}");
        }
        assert!(Filter::parse(&"x".repeat(5000)).is_err());
    }
}
