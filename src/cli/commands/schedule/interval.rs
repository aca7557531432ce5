//! Times of regular runs, as both systemd's calendar and crontab can express them.

use jiff::SignedDuration;

/// Minutes of a day.
const DAY: u16 = 24 * 60;
/// The longest random delay, in seconds.
const LONGEST_DELAY: u32 = 30 * 60;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum When {
    Daily {
        hour: u8,
        minute: u8,
    },
    /// This number of minutes apart; it divides an hour, or is hours that divide a day at least twice.
    Every {
        minutes: u16,
    },
}

impl When {
    /// At this hour clocks are hardly ever changed for summer time.
    pub(crate) const NIGHTLY: Self = Self::Daily {
        hour: 3,
        minute: 30,
    };

    pub(crate) fn at(text: &str) -> Result<Self, String> {
        let wrong = || "a time of day is written like `03:30`".to_owned();
        let (hour, minute) = text.split_once(':').ok_or_else(wrong)?;
        let number = |text: &str, end: u8| {
            let digits = matches!(text.len(), 1 | 2) && text.bytes().all(|b| b.is_ascii_digit());
            let number = text.parse::<u8>().ok().filter(|_| digits);
            number.filter(|number| *number < end).ok_or_else(wrong)
        };
        Ok(Self::Daily {
            hour: number(hour, 24)?,
            minute: number(minute, 60)?,
        })
    }

    pub(crate) fn every(length: SignedDuration) -> Result<Self, String> {
        let minutes = u16::try_from(length.as_secs() / 60).unwrap_or(0);
        let whole = minutes > 0 && length == SignedDuration::from_mins(minutes.into());
        let divides_hour = minutes < 60 && 60_u16.is_multiple_of(minutes);
        let divides_day = minutes.is_multiple_of(60) && DAY.is_multiple_of(minutes);
        if whole && minutes == DAY {
            // systemd has no step of that length.
            Ok(Self::Daily { hour: 0, minute: 0 })
        } else if whole && (divides_hour || divides_day) {
            Ok(Self::Every { minutes })
        } else {
            Err("it must divide an hour or a day into equal parts, such as `15m`, `1h` or `6h`; `--at` is for once a day".to_owned())
        }
    }

    /// For `OnCalendar=`.
    pub(crate) fn calendar(self) -> String {
        match self {
            Self::Daily { hour, minute } => format!("*-*-* {hour:02}:{minute:02}:00"),
            Self::Every { minutes } if minutes < 60 => format!("*-*-* *:00/{minutes}:00"),
            Self::Every { minutes } => format!("*-*-* 00/{}:00:00", minutes / 60),
        }
    }

    /// The first five fields of a cron line.
    pub(crate) fn crontab(self) -> String {
        match self {
            Self::Daily { hour, minute } => format!("{minute} {hour} * * *"),
            Self::Every { minutes } if minutes < 60 => format!("*/{minutes} * * * *"),
            Self::Every { minutes } => format!("0 */{} * * *", minutes / 60),
        }
    }

    /// The random delay of a run: a tenth of the interval, at most half an hour.
    pub(crate) fn random_delay(self) -> String {
        let seconds = match self {
            Self::Daily { .. } => LONGEST_DELAY,
            Self::Every { minutes } => (u32::from(minutes) * 6).min(LONGEST_DELAY),
        };
        if seconds.is_multiple_of(60) {
            format!("{}min", seconds / 60)
        } else {
            format!("{seconds}s")
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn every(minutes: i64) -> Result<When, String> {
        When::every(SignedDuration::from_mins(minutes))
    }

    #[test]
    fn only_what_comes_back_at_the_same_minutes_is_a_time_for_both_schedulers() {
        for minutes in [1_u16, 15, 20, 60, 120, 360, 12 * 60] {
            assert_eq!(every(minutes.into()), Ok(When::Every { minutes }));
        }
        assert_eq!(every(24 * 60), Ok(When::Daily { hour: 0, minute: 0 }));
        for minutes in [0, 7, 40, 90, 300, 48 * 60, 65536 + 15] {
            assert!(every(minutes).is_err(), "{minutes}");
        }
        assert!(When::every(SignedDuration::from_secs(90)).is_err());
        assert!(When::every(SignedDuration::from_millis(60_500)).is_err());
    }

    #[test]
    fn a_time_of_day_is_two_numbers() {
        assert_eq!(When::at("03:30"), Ok(When::NIGHTLY));
        assert_eq!(When::at("3:30"), Ok(When::NIGHTLY));
        let wrong = [
            "", "3", "24:00", "03:60", "+3:30", "03:30:00", "003:30", "3:",
        ];
        for wrong in wrong {
            assert!(When::at(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn both_schedulers_say_the_same_time() {
        let said = |when: When| (when.calendar(), when.crontab(), when.random_delay());
        let texts = |a: &str, b: &str, c: &str| (a.to_owned(), b.to_owned(), c.to_owned());
        let nightly = texts("*-*-* 03:30:00", "30 3 * * *", "30min");
        assert_eq!(said(When::NIGHTLY), nightly);
        let quarter = texts("*-*-* *:00/15:00", "*/15 * * * *", "90s");
        assert_eq!(said(When::Every { minutes: 15 }), quarter);
        let six_hours = texts("*-*-* 00/6:00:00", "0 */6 * * *", "30min");
        assert_eq!(said(When::Every { minutes: 360 }), six_hours);
    }
}
