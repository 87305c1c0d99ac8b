//! Dates as text.

use std::time::Duration;

const DAY: u64 = 24 * 60 * 60;

/// A time since 1970 as RFC 3339 in UTC: `2026-01-31T12:00:00Z`, with nanoseconds where it has a
/// fraction of a second.
pub fn rfc3339(since_1970: Duration) -> String {
    let (days, second) = (since_1970.as_secs() / DAY, since_1970.as_secs() % DAY);
    let (year, month, day) = civil(days);
    let fraction = match since_1970.subsec_nanos() {
        0 => String::new(),
        nanoseconds => format!(".{nanoseconds:09}"),
    };
    format!(
        "{year:04}-{month:02}-{day:02}T{:02}:{:02}:{:02}{fraction}Z",
        second / 3600,
        second / 60 % 60,
        second % 60,
    )
}

/// The date of a day since 1970 (Howard Hinnant's `civil_from_days`), counted in years that begin in
/// March: a leap day is then a year's last, and months have their usual pattern of lengths.
fn civil(days: u64) -> (u64, u64, u64) {
    let day = days + 719_468;
    let (era, of_era) = (day / 146_097, day % 146_097);
    let year = (of_era - of_era / 1_460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year + year / 4 - year / 100);
    let month = (5 * of_year + 2) / 153;
    let of_month = of_year - (153 * month + 2) / 5 + 1;
    let month = if month < 10 { month + 3 } else { month - 9 };
    (era * 400 + year + u64::from(month <= 2), month, of_month)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_of_leap_years_and_centuries_are_right() {
        for (seconds, text) in [
            (0, "1970-01-01T00:00:00Z"),
            (951_782_399, "2000-02-28T23:59:59Z"),
            (951_782_400, "2000-02-29T00:00:00Z"),
            (1_709_164_800, "2024-02-29T00:00:00Z"),
            (1_735_689_599, "2024-12-31T23:59:59Z"),
            (1_795_257_599, "2026-11-21T10:39:59Z"),
            (4_107_542_399, "2100-02-28T23:59:59Z"),
            (4_107_542_400, "2100-03-01T00:00:00Z"),
        ] {
            assert_eq!(rfc3339(Duration::from_secs(seconds)), text);
        }
        let part = Duration::new(0, 5_000_000);
        assert_eq!(rfc3339(part), "1970-01-01T00:00:00.005000000Z");
    }
}
