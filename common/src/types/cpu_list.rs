//! Lists of processors and of memory nodes, as cpuset(7) takes them.

use std::str::FromStr;

use serde::{Deserialize, Serialize};
use thiserror::Error;

/// The most bytes of a list.
const LONGEST: usize = 4096;

/// A text that is no such list.
#[derive(Debug, Error, PartialEq, Eq)]
#[error("\"{0}\" is not a list of numbers and ranges (0,2-3)")]
pub struct BadCpuList(String);

/// Numbers and ranges of them: `0,2-3`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct CpuList(String);

impl CpuList {
    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for CpuList {
    type Err = BadCpuList;
    fn from_str(text: &str) -> Result<Self, BadCpuList> {
        let is_number =
            |text: &str| (1..=5).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_digit());
        let is_part = |part: &str| match part.split_once('-') {
            Some((first, last)) => is_number(first) && is_number(last),
            None => is_number(part),
        };
        if text.len() <= LONGEST && text.split(',').all(is_part) {
            Ok(Self(text.to_owned()))
        } else {
            Err(BadCpuList(text.chars().take(40).collect()))
        }
    }
}

impl TryFrom<String> for CpuList {
    type Error = BadCpuList;
    fn try_from(text: String) -> Result<Self, BadCpuList> {
        text.parse()
    }
}

impl From<CpuList> for String {
    fn from(list: CpuList) -> Self {
        list.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_has_numbers_and_ranges_and_nothing_else() {
        for good in ["0", "0,2-3", "12345"] {
            assert_eq!(good.parse::<CpuList>().unwrap().as_str(), good);
        }
        for bad in [
            "",
            "a",
            "1-",
            "-1",
            "1,",
            "1 2",
            "1\n2",
            "123456",
            &"1,".repeat(4096),
        ] {
            assert!(bad.parse::<CpuList>().is_err(), "{bad}");
        }
    }
}
