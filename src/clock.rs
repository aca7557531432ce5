//! The present time.

use std::time::SystemTime;

use jiff::Timestamp;

/// The machine's time; if the clock is set beyond the year 9999, the last possible time.
pub fn now() -> Timestamp {
    Timestamp::try_from(SystemTime::now()).unwrap_or(Timestamp::MAX)
}
