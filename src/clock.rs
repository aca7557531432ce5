//! What time it is.

use std::time::SystemTime;

use jiff::Timestamp;

/// The time of the machine's clock; of one that is set beyond the year 9999, the last that there is.
pub fn now() -> Timestamp {
    Timestamp::try_from(SystemTime::now()).unwrap_or(Timestamp::MAX)
}
