//! Pages of lists (AIP-158): the one way in which lists are returned in parts.
//!
//! A page ends where the next one begins, and the page token says where that is: by the last item's
//! name, id or number. The service reads one item more than the page holds, to learn whether there
//! is a next page.

use std::fmt::Display;
use std::str::FromStr;

use insula_api::ApiError;
use insula_api::convert::parse_optional;

/// How many items a page has.
#[derive(Debug, Clone, Copy)]
pub struct Size {
    /// The size if the client does not choose one.
    pub usual: u16,
    /// The largest size that a client can choose.
    pub most: u16,
}

/// The page that a client asks for.
#[derive(Debug, PartialEq, Eq)]
pub struct Page<C> {
    size: u16,
    /// The last item of the page before. `None` for the first page.
    pub after: Option<C>,
}

impl<C: FromStr<Err: Display> + Display> Page<C> {
    /// Parses the fields `page_size` and `page_token` of a request.
    pub fn read(asked: i32, token: &str, Size { usual, most }: Size) -> Result<Self, ApiError> {
        let size = match asked {
            ..0 => return Err(ApiError::invalid_field("page_size", "must not be negative")),
            0 => usual,
            _ => u16::try_from(asked).unwrap_or(most).min(most),
        };
        Ok(Self { size, after: parse_optional("page_token", token)? })
    }

    /// How many items to read, which is one more than the page shows.
    pub fn count(&self) -> u32 {
        u32::from(self.size) + 1
    }

    /// Cuts the items that were read to the page. Returns the token of the next page, which is
    /// empty after the last one.
    pub fn cut<T>(&self, items: &mut Vec<T>, place: impl Fn(&T) -> C) -> String {
        let has_more = items.len() > usize::from(self.size);
        items.truncate(self.size.into());
        let last = items.last().filter(|_| has_more);
        last.map(|last| place(last).to_string()).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SIZE: Size = Size { usual: 3, most: 5 };

    #[test]
    fn sizes_are_bounded() {
        for (asked, size) in [(0, 3), (1, 1), (5, 5), (6, 5), (65_536, 5), (i32::MAX, 5)] {
            assert_eq!(Page::<u64>::read(asked, "", SIZE).unwrap(), Page { size, after: None }, "{asked}");
        }
        let error = Page::<u64>::read(-1, "", SIZE).unwrap_err();
        assert_eq!(error.fields[0].field, "page_size");
        let error = Page::<u64>::read(0, "x", SIZE).unwrap_err();
        assert_eq!(error.fields[0].field, "page_token");
    }

    /// For all lengths and page sizes: pages contain all items once, in order, and only an empty
    /// list has an empty page.
    #[test]
    fn all_pages_together_are_the_list() {
        for (length, asked) in (0..12).flat_map(|length| (1..5).map(move |asked| (length, asked))) {
            let all: Vec<u64> = (1..=length).collect();
            let (mut seen, mut token) = (vec![], String::new());
            loop {
                let page = Page::<u64>::read(asked, &token, SIZE).unwrap();
                let begin = page.after.unwrap_or(0);
                let left = all.iter().copied().filter(|number| *number > begin);
                let mut items: Vec<u64> = left.take(page.count() as usize).collect();
                token = page.cut(&mut items, |number| *number);
                assert!(!items.is_empty() || length == 0, "{length} {asked}");
                seen.extend(items);
                if token.is_empty() {
                    break;
                }
            }
            assert_eq!(seen, all, "{length} {asked}");
        }
    }
}
