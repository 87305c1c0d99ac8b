//! A row of the table, and the attributes that it is about.

/// Where an attribute stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Section {
    /// Directly in TEMPLATE.
    Template,
    /// TEMPLATE/DISK.
    Disk,
    /// TEMPLATE/NIC.
    Nic,
    /// TEMPLATE/NIC_ALIAS.
    Alias,
    /// TEMPLATE/CONTEXT.
    Context,
    /// TEMPLATE/OS.
    Os,
    /// TEMPLATE/TOPOLOGY.
    Topology,
    /// USER_TEMPLATE: attributes that `oned` itself gives no meaning.
    User,
}

impl Section {
    /// Its name in a template; none for those that stand in no section.
    pub(super) fn name(self) -> Option<&'static str> {
        match self {
            Self::Template | Self::User => None,
            Self::Disk => Some("DISK"),
            Self::Nic => Some("NIC"),
            Self::Alias => Some("NIC_ALIAS"),
            Self::Context => Some("CONTEXT"),
            Self::Os => Some("OS"),
            Self::Topology => Some("TOPOLOGY"),
        }
    }

    /// The attribute that tells one section from another of the same name.
    pub(super) fn id(self) -> Option<&'static str> {
        match self {
            Self::Disk => Some("DISK_ID"),
            Self::Nic | Self::Alias => Some("NIC_ID"),
            _ => None,
        }
    }
}

/// What becomes of an attribute.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Verdict {
    /// The VM is not started.
    Refused,
    /// The VM's log has a line.
    Logged,
    /// Nothing is logged.
    WithoutMeaning,
    /// It is done: by these drivers, or by OpenNebula itself.
    Supported,
}

/// A row of the table: attributes that share what becomes of them.
#[derive(Debug)]
pub struct Row {
    /// Where they stand.
    pub section: Section,
    /// Their names; one `*` stands for any text.
    pub names: &'static [&'static str],
    /// What becomes of them.
    pub verdict: Verdict,
    /// What a VM that asks for them has to do without, or why they mean nothing.
    pub effect: &'static str,
    /// The values that ask for something.
    pub(super) asks: fn(&str) -> bool,
}

/// Attributes that ask for something whatever their value is.
pub(super) const fn row(
    section: Section,
    verdict: Verdict,
    names: &'static [&'static str],
    effect: &'static str,
) -> Row {
    Row {
        section,
        names,
        verdict,
        effect,
        asks: any,
    }
}

/// Attributes that ask for something with some values only.
pub(super) const fn row_if(
    section: Section,
    verdict: Verdict,
    names: &'static [&'static str],
    effect: &'static str,
    asks: fn(&str) -> bool,
) -> Row {
    Row {
        section,
        names,
        verdict,
        effect,
        asks,
    }
}

fn any(_: &str) -> bool {
    true
}

impl Row {
    /// Whether it is about this attribute.
    pub(super) fn is_about(&self, section: Section, name: &str) -> bool {
        let is_named = |pattern: &&str| matches(pattern, name);
        self.section == section && self.names.iter().any(is_named)
    }
}

/// Whether a name has this form; one `*` stands for any text.
pub(super) fn matches(pattern: &str, name: &str) -> bool {
    match pattern.split_once('*') {
        None => pattern == name,
        Some((before, after)) => name
            .strip_prefix(before)
            .is_some_and(|rest| rest.len() >= after.len() && rest.ends_with(after)),
    }
}
