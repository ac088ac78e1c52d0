//! How much waits for the host's CPUs: the kernel's pressure stall information (Documentation/accounting/psi.rst).

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::time::Instant;

use rustix::fs::OFlags;
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

use crate::vps::link::watched_for_news;

/// Pressure of the whole host.
const CPU_PRESSURE: &str = "/proc/pressure/cpu";

/// From here on the host's CPUs are full: the share of the time in which something waited for one, in thousandths.
pub(crate) const FULL: u64 = 100;

/// Without `CAP_SYS_RESOURCE`, the kernel accepts only windows that are multiples of this, in µs.
const WINDOW_US: u64 = 2_000_000;

/// Rings when the CPUs are full, every two seconds at most. It costs nothing while they are not.
#[derive(Debug)]
pub(crate) struct Alarm(AsyncFd<File>);

impl Alarm {
    /// An error where the kernel was built without it, or booted with `psi=0`.
    pub(crate) fn set() -> io::Result<Self> {
        let mut options = OpenOptions::new();
        let nonblock = OFlags::NONBLOCK.bits().cast_signed();
        let mut file = options.read(true).write(true).custom_flags(nonblock).open(CPU_PRESSURE)?;
        let trigger = format!("some {} {WINDOW_US}\0", WINDOW_US * FULL / 1000);
        file.write_all(trigger.as_bytes())?; // in one write, or it is refused
        watched_for_news(file).map(Self)
    }

    /// Until it rings.
    pub(crate) async fn rung(&self) -> io::Result<()> {
        self.0.ready(Interest::PRIORITY).await?.clear_ready();
        Ok(())
    }
}

/// Measures the pressure between two looks.
#[derive(Debug)]
pub(crate) struct Gauge {
    seen: Option<(Instant, u64)>,
}

impl Gauge {
    pub(crate) fn new() -> Self {
        Self { seen: Self::look() }
    }

    fn look() -> Option<(Instant, u64)> {
        let text = std::fs::read_to_string(CPU_PRESSURE).ok()?;
        Some((Instant::now(), parse_pressure(&text)?))
    }

    /// The pressure since the last look: the share of the time in which something waited for a CPU, in thousandths. `None`
    /// where nothing tells.
    pub(crate) fn read(&mut self) -> Option<u64> {
        let before = std::mem::replace(&mut self.seen, Self::look())?;
        let now = self.seen?;
        let elapsed = u64::try_from(now.0.duration_since(before.0).as_micros()).ok()?.max(1);
        Some(now.1.saturating_sub(before.1).saturating_mul(1000) / elapsed)
    }
}

/// The total of the line `some`: microseconds in which something waited.
fn parse_pressure(text: &str) -> Option<u64> {
    let some = text.lines().find(|line| line.starts_with("some "))?;
    some.split(' ').find_map(|field| field.strip_prefix("total="))?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pressure_is_read_as_the_kernel_writes_it() {
        let text = "some avg10=95.47 avg60=94.67 avg300=95.48 total=1486388515\nfull avg10=0.00 avg60=0.00 avg300=0.00 total=7\n";
        assert_eq!(parse_pressure(text), Some(1_486_388_515));
        for other in ["", "full avg10=0.00 total=7\n", "some avg10=1\n", "some total=x\n"] {
            assert_eq!(parse_pressure(other), None, "{other:?}");
        }
    }
}
