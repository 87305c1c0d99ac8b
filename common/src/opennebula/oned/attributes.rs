//! Attributes of OpenNebula's templates, and the XML that `oned` makes of them.

/// What an attribute holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Value {
    /// Text as the user wrote it.
    Text(String),
    /// A vector's attributes.
    Vector(Attributes),
}

/// Attributes in the order in which they are written.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Attributes(pub(super) Vec<(String, Value)>);

impl Attributes {
    /// Adds an attribute with a text.
    pub fn text(&mut self, name: &str, value: impl Into<String>) {
        self.push(name, Value::Text(value.into()));
    }

    /// Adds an attribute.
    pub fn push(&mut self, name: &str, value: Value) {
        self.0.push((name.to_owned(), value));
    }

    /// The text of the first attribute of this name.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.0.iter().find_map(|(own, value)| match value {
            Value::Text(text) if own == name => Some(text.as_str()),
            _ => None,
        })
    }

    /// These, with `more` behind them; an attribute that is in `more` stands there alone.
    #[must_use]
    pub fn overridden_by(mut self, more: Self) -> Self {
        let given = |name: &str| more.0.iter().any(|(other, _)| other == name);
        self.0.retain(|(name, _)| !given(name));
        self.0.extend(more.0);
        self
    }

    /// As XML, without an element around them.
    pub fn xml(&self) -> String {
        let mut xml = Xml::default();
        xml.attributes(self);
        xml.0
    }
}

impl<N: Into<String>> FromIterator<(N, Value)> for Attributes {
    fn from_iter<I: IntoIterator<Item = (N, Value)>>(all: I) -> Self {
        Self(
            all.into_iter()
                .map(|(n, value)| (n.into(), value))
                .collect(),
        )
    }
}

impl<N: Into<String>> FromIterator<(N, String)> for Attributes {
    fn from_iter<I: IntoIterator<Item = (N, String)>>(all: I) -> Self {
        let all = all.into_iter();
        all.map(|(name, text)| (name, Value::Text(text))).collect()
    }
}

#[derive(Default)]
pub(super) struct Xml(pub(super) String);

impl Xml {
    pub(super) fn within(&mut self, name: &str, inside: impl FnOnce(&mut Self)) {
        self.0.push_str(&format!("<{name}>"));
        inside(self);
        self.0.push_str(&format!("</{name}>"));
    }

    /// Values are CDATA, as `oned` writes them; the end of one cannot stand within it.
    pub(super) fn text(&mut self, name: &str, value: &str) {
        if value.is_empty() {
            self.0.push_str(&format!("<{name}/>"));
            return;
        }
        let value = value.replace("]]>", "]]]]><![CDATA[>");
        self.0
            .push_str(&format!("<{name}><![CDATA[{value}]]></{name}>"));
    }

    pub(super) fn attributes(&mut self, attributes: &Attributes) {
        for (name, value) in &attributes.0 {
            match value {
                Value::Text(text) => self.text(name, text),
                Value::Vector(parts) => self.within(name, |xml| xml.attributes(parts)),
            }
        }
    }
}
