//! Variables of a process's environment.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use thiserror::Error;

/// The longest variable with its value, in bytes: what the kernel takes as one argument (MAX_ARG_STRLEN).
const LONGEST: usize = 128 * 1024;

/// Why a text is no variable.
#[derive(Debug, Error, PartialEq, Eq)]
pub enum BadVariable {
    /// No name before a `=`. The value is not repeated: it may be a password.
    #[error(
        "\"{0}\" is not the name of a variable (letters, digits and underscores, not beginning with a digit)"
    )]
    Name(String),
    /// No `=`.
    #[error("a variable is written NAME=value, and one has no \"=\"")]
    NoValue,
    /// Too long, or with a zero byte.
    #[error("the value of {0} has a zero byte, or more than {LONGEST} bytes")]
    Value(String),
}

/// `NAME=value`.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Variable {
    name: String,
    value: String,
}

impl Variable {
    /// A variable of this name.
    ///
    /// # Errors
    ///
    /// The name is none, or the value cannot stand in an environment.
    pub fn new(name: &str, value: &str) -> Result<Self, BadVariable> {
        let mut bytes = name.bytes();
        let is_name = bytes
            .next()
            .is_some_and(|b| b.is_ascii_alphabetic() || b == b'_')
            && bytes.all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'.' | b'-'));
        if !is_name {
            return Err(BadVariable::Name(name.chars().take(40).collect()));
        }
        if value.contains('\0') || name.len() + value.len() >= LONGEST {
            return Err(BadVariable::Value(name.to_owned()));
        }
        Ok(Self {
            name: name.to_owned(),
            value: value.to_owned(),
        })
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Its value.
    pub fn value(&self) -> &str {
        &self.value
    }
}

/// Without the value, which may be a password.
impl fmt::Debug for Variable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Variable({})", self.name)
    }
}

impl FromStr for Variable {
    type Err = BadVariable;
    fn from_str(text: &str) -> Result<Self, BadVariable> {
        let (name, value) = text.split_once('=').ok_or(BadVariable::NoValue)?;
        Self::new(name, value)
    }
}

impl TryFrom<String> for Variable {
    type Error = BadVariable;
    fn try_from(text: String) -> Result<Self, BadVariable> {
        text.parse()
    }
}

impl From<Variable> for String {
    fn from(variable: Variable) -> Self {
        format!("{}={}", variable.name, variable.value)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_variable_is_a_name_and_any_value() {
        let variable: Variable = "_A1=x=y \n".parse().unwrap();
        assert_eq!((variable.name(), variable.value()), ("_A1", "x=y \n"));
        assert_eq!(String::from(variable.clone()), "_A1=x=y \n");
        assert!(!format!("{variable:?}").contains('x'));
        for bad in ["", "A", "1A=x", "=x", "A B=x", "A=\0"] {
            assert!(bad.parse::<Variable>().is_err(), "{bad}");
        }
        let value = "v".repeat(LONGEST - 2);
        assert!(Variable::new("A", &value).is_ok());
        assert!(Variable::new("A", &format!("{value}v")).is_err());
        let error = "1A=secret".parse::<Variable>().unwrap_err().to_string();
        assert!(!error.contains("secret"));
    }
}
