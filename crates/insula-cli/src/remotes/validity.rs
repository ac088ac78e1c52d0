//! How long a certificate is valid.

use std::error::Error;

use insula_sys::clock::now_ms;
use x509_parser::pem::parse_x509_pem;

/// The period of validity, in seconds since 1970, UTC.
#[derive(Debug, Clone, Copy)]
pub struct Validity {
    /// The first second.
    pub not_before: i64,
    /// The last second.
    pub not_after: i64,
}

impl Validity {
    /// Reads the validity of a certificate in PEM.
    pub fn of(pem: &str) -> Result<Self, Box<dyn Error>> {
        let (_, pem) = parse_x509_pem(pem.as_bytes())?;
        let validity = pem.parse_x509()?.validity().clone();
        Ok(Self { not_before: validity.not_before.timestamp(), not_after: validity.not_after.timestamp() })
    }

    /// Whether the certificate has expired.
    pub fn is_over(self) -> bool {
        self.not_after < now()
    }

    /// Whether less than a third of its life is left.
    pub fn is_old(self) -> bool {
        self.left_at(now()) < self.not_after.saturating_sub(self.not_before) / 3
    }

    fn left_at(self, now: i64) -> i64 {
        self.not_after.saturating_sub(now)
    }
}

fn now() -> i64 {
    now_ms() / 1000
}

#[cfg(test)]
mod tests {
    use super::*;
    use rcgen::{CertificateParams, KeyPair};
    use std::time::Duration;

    #[test]
    fn it_is_read_out_of_the_certificate() {
        let mut params = CertificateParams::default();
        params.not_before = rcgen::date_time_ymd(2026, 1, 1);
        params.not_after = params.not_before + Duration::from_secs(90 * 86_400);
        let pem = params.self_signed(&KeyPair::generate().unwrap()).unwrap().pem();
        let validity = Validity::of(&pem).unwrap();
        assert_eq!(validity.not_after - validity.not_before, 90 * 86_400);
        assert!(Validity::of("").is_err() && Validity::of(&pem[..100]).is_err());
    }

    #[test]
    fn a_third_before_its_end_it_is_old() {
        let validity = |from, to| Validity { not_before: now() + from, not_after: now() + to };
        for (from, to, is_old, is_over) in
            [(0, 90, false, false), (-59, 31, false, false), (-65, 25, true, false), (-91, -1, true, true)]
        {
            let validity = validity(from * 1000, to * 1000);
            assert_eq!((validity.is_old(), validity.is_over()), (is_old, is_over), "{from} {to}");
        }
    }
}
