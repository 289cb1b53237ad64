//! The proleptic Gregorian calendar, as a real-time clock counts it.

/// Seconds of a day.
const DAY: i64 = 86_400;

/// A moment in civil time.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Calendar {
    /// Full year.
    pub year: u16,
    /// 1 to 12.
    pub month: u8,
    /// 1 to 31.
    pub day: u8,
    /// 0 to 23.
    pub hour: u8,
    /// 0 to 59.
    pub minute: u8,
    /// 0 to 59.
    pub second: u8,
    /// 1 (Sunday) to 7.
    pub weekday: u8,
}

impl Calendar {
    /// The moment `seconds` after 1970-01-01 00:00. Moments outside the years 0 to 9999 are moved to the nearest within.
    pub fn from_unix(seconds: i64) -> Self {
        let seconds = seconds.clamp(-62_167_219_200, 253_402_300_799);
        let days = seconds.div_euclid(DAY);
        let second = seconds.rem_euclid(DAY);
        // Years that begin in March put the leap day last; the era of 400 such years has 146,097 days.
        let shifted = days + 719_468;
        let era = shifted.div_euclid(146_097);
        let day_of_era = shifted.rem_euclid(146_097);
        let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
        let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
        let month_from_march = (5 * day_of_year + 2) / 153;
        let month = if month_from_march < 10 { month_from_march + 3 } else { month_from_march - 9 };
        Self {
            year: (year_of_era + era * 400 + i64::from(month <= 2)) as u16,
            month: month as u8,
            day: (day_of_year - (153 * month_from_march + 2) / 5 + 1) as u8,
            hour: (second / 3600) as u8,
            minute: (second / 60 % 60) as u8,
            second: (second % 60) as u8,
            weekday: ((days + 4).rem_euclid(7) + 1) as u8,
        }
    }

    /// Seconds since 1970-01-01 00:00. Fields beyond their range (a guest may have written them) carry over.
    pub fn to_unix(self) -> i64 {
        let month = i64::from(self.month.clamp(1, 12));
        let year = i64::from(self.year) - i64::from(month <= 2);
        let era = year.div_euclid(400);
        let year_of_era = year.rem_euclid(400);
        let month_from_march = (month + 9) % 12;
        let day_of_year = (153 * month_from_march + 2) / 5 + i64::from(self.day) - 1;
        let day_of_era = year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year;
        let days = era * 146_097 + day_of_era - 719_468;
        days * DAY + i64::from(self.hour) * 3600 + i64::from(self.minute) * 60 + i64::from(self.second)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn known_moments() {
        let epoch = Calendar::from_unix(0);
        assert_eq!((epoch.year, epoch.month, epoch.day, epoch.weekday), (1970, 1, 1, 5));
        let leap = Calendar::from_unix(951_782_400);
        assert_eq!((leap.year, leap.month, leap.day, leap.weekday), (2000, 2, 29, 3));
        let billion = Calendar::from_unix(1_000_000_000);
        assert_eq!((billion.hour, billion.minute, billion.second), (1, 46, 40));
    }

    proptest! {
        #[test]
        fn there_and_back(seconds in -62_167_219_200i64..253_402_300_799) {
            prop_assert_eq!(Calendar::from_unix(seconds).to_unix(), seconds);
        }

        #[test]
        fn any_fields_are_survived(year: u16, month: u8, day: u8, hour: u8, minute: u8, second: u8) {
            let calendar = Calendar { year, month, day, hour, minute, second, weekday: 0 };
            Calendar::from_unix(calendar.to_unix());
        }
    }
}
