//! One-time tokens, with which a new client finds an agent, recognises it, and is let in.

use std::fmt;
use std::str::FromStr;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use uuid::Uuid;

use crate::ClientId;

/// The prefix of a token's text. The digit is the version of the format.
const PREFIX: &str = "insula1-";

/// The maximum length of a token's text: more than one with addresses can have.
const MAX_LENGTH: usize = 2048;

/// A one-time token, with which a client enrolls.
///
/// Its text is `insula1-` and then, in base64url without padding: 16 bytes of the client's id, 32
/// bytes of the CA's hash, 32 bytes of the secret, and the addresses, separated by commas. `Debug`
/// hides the secret, `Display` does not.
#[derive(Clone, PartialEq, Eq)]
pub struct EnrollmentToken {
    /// The id of the client that its holder becomes.
    pub client: ClientId,
    /// SHA-256, in DER, of the certificate of the agent's CA. An agent that can't show that
    /// certificate is not the right one.
    pub ca: [u8; 32],
    /// The secret, which the agent compares.
    pub secret: [u8; 32],
    /// The addresses of the agent, as `HOST:PORT`, the most likely one first. May be empty.
    pub addresses: Vec<String>,
}

/// The text is not a token. The error does not show it, because it may be a token with a typing
/// error.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not a token: it begins with `{PREFIX}` and must be copied completely")]
pub struct TokenParseError;

impl fmt::Display for EnrollmentToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut bytes = self.client.as_bytes().to_vec();
        bytes.extend(self.ca);
        bytes.extend(self.secret);
        bytes.extend(self.addresses.join(",").as_bytes());
        write!(f, "{PREFIX}{}", URL_SAFE_NO_PAD.encode(bytes))
    }
}

impl FromStr for EnrollmentToken {
    type Err = TokenParseError;

    fn from_str(text: &str) -> Result<Self, TokenParseError> {
        let encoded =
            text.strip_prefix(PREFIX).filter(|_| text.len() <= MAX_LENGTH).ok_or(TokenParseError)?;
        let bytes = URL_SAFE_NO_PAD.decode(encoded).map_err(|_| TokenParseError)?;
        let (client, rest) = bytes.split_first_chunk::<16>().ok_or(TokenParseError)?;
        let (ca, rest) = rest.split_first_chunk::<32>().ok_or(TokenParseError)?;
        let (secret, addresses) = rest.split_first_chunk::<32>().ok_or(TokenParseError)?;
        let addresses = std::str::from_utf8(addresses).map_err(|_| TokenParseError)?;
        if !addresses.bytes().all(|byte| byte.is_ascii_graphic()) {
            return Err(TokenParseError);
        }
        Ok(Self {
            client: Uuid::from_bytes(*client).into(),
            ca: *ca,
            secret: *secret,
            addresses: addresses
                .split(',')
                .filter(|address| !address.is_empty())
                .map(str::to_owned)
                .collect(),
        })
    }
}

impl fmt::Debug for EnrollmentToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("EnrollmentToken")
            .field("client", &self.client)
            .field("addresses", &self.addresses)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn token() -> EnrollmentToken {
        EnrollmentToken {
            client: "0193a1b2-c3d4-7e5f-8a9b-0123456789ab".parse().unwrap(),
            ca: [1; 32],
            secret: [0xab; 32],
            addresses: vec!["vps1.example.net:8443".into(), "[2001:db8::1]:8443".into()],
        }
    }

    #[test]
    fn a_token_reads_what_it_writes() {
        let bare = EnrollmentToken { addresses: vec![], ..token() };
        for token in [token(), bare] {
            assert_eq!(token.to_string().parse(), Ok(token));
        }
    }

    #[test]
    fn a_token_that_is_not_whole_is_none() {
        let text = token().to_string();
        for bad in ["", "insula1-", &text[..60], &text[8..], &format!("{text}=="), &format!("{text}\n")] {
            assert_eq!(bad.parse::<EnrollmentToken>(), Err(TokenParseError), "{bad:?}");
        }
    }

    #[test]
    fn the_secret_is_not_shown_by_accident() {
        let shown = format!("{:?}", token());
        assert!(!shown.contains("171") && !shown.to_lowercase().contains("ab, ab"), "{shown}");
    }

    proptest! {
        #[test]
        fn no_text_makes_the_parser_panic(text in ".{0,300}", bytes: Vec<u8>) {
            let _ = text.parse::<EnrollmentToken>();
            if let Ok(token) = format!("{PREFIX}{}", URL_SAFE_NO_PAD.encode(bytes)).parse::<EnrollmentToken>() {
                prop_assert_eq!(token.to_string().parse(), Ok(token));
            }
        }
    }
}
