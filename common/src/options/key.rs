//! What an option is: its key, what it takes, what becomes of it, and the rule for it. All of them stand in
//! [`super::table`].

/// An option.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[expect(missing_docs, reason = "each is what its row in TABLE says")]
pub enum Key {
    Command,
    Entrypoint,
    KeepAlive,
    Init,
    Terminal,
    Environment,
    Hostname,
    DomainName,
    Dns,
    DnsSearch,
    DnsOptions,
    ExtraHosts,
    CpuShares,
    CpuQuota,
    CpuPeriod,
    NanoCpus,
    Memory,
    MemorySwap,
    PidsLimit,
    User,
    WorkingDir,
    Labels,
    StopSignal,
    CapAdd,
    CapDrop,
    SecurityOpt,
    Privileged,
    ReadOnly,
    Tmpfs,
    Ulimits,
    Sysctls,
    ShmSize,
    Binds,
    VolumesFrom,
    Devices,
    DeviceCgroupRules,
    DeviceRequests,
    GroupAdd,
    IpcMode,
    PidMode,
    UtsMode,
    UsernsMode,
    CgroupnsMode,
    CgroupParent,
    LogConfig,
    OomScoreAdj,
    OomKillDisable,
    RestartPolicy,
    CpusetCpus,
    CpusetMems,
    MemoryReservation,
    MemorySwappiness,
    BlkioWeight,
    Runtime,
    StorageOpt,
    HealthCheck,
    StopTimeout,
    NetworkMode,
    Ports,
    PortBindings,
    Links,
    MacAddress,
    Image,
    Name,
    LxcConf,
    Silent,
}

/// What an option takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A program and its arguments: a list, or text that is split as a shell would.
    Words,
    /// `NAME=value` each: a list, a mapping, or words.
    Variables,
    Text,
    /// An absolute path.
    Path,
    Bool,
    Integer,
    /// Bytes, with b, k, m or g behind the number.
    Bytes,
    /// A list, or words.
    List,
    /// A mapping, `key=value` each, or words of these.
    Mapping,
    /// `name=soft:hard` each, or the Engine API's form.
    Ulimits,
    /// `host:container[:ro]` each, or a mapping from host to container.
    Binds,
    /// `/dev/x[:/dev/y[:rwm]]` each, or the Engine API's form.
    Devices,
    /// `path[:options]` each, or a mapping.
    Tmpfs,
    /// `no`, `on-failure[:n]`, or the Engine API's form.
    Restart,
    /// The Engine API's own form, which only a document has.
    Json,
}

/// What becomes of an option.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Effect {
    /// The drivers do it, at each start.
    Own,
    /// A field of the engine's request to make a container.
    Body(&'static str),
    /// A field of its HostConfig.
    Host(&'static str),
    /// It means nothing for a VM, and nobody misses it.
    Silent,
    /// It means nothing for a VM, for this reason.
    Noted(&'static str),
    /// It cannot be had, for this reason.
    Impossible(&'static str),
}

/// Who may ask for it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Rule {
    /// Everybody.
    Allow,
    /// Nobody.
    Deny,
    /// Only these values: of a list each one of it, of a bind or device its path on the host. A `*` at
    /// the end stands for any text.
    Values(Vec<String>),
    /// Only a number from the first to the second.
    Range(i64, i64),
}

/// An option's row.
#[derive(Debug)]
pub struct Row {
    pub key: Key,
    /// In small letters without `_`: so are all of its spellings ([`find`]). The first is the usual one.
    pub names: &'static [&'static str],
    pub kind: Kind,
    pub effect: Effect,
    /// The rule when no policy has one.
    pub rule: BuiltIn,
}

/// A rule in a constant.
#[derive(Debug, Clone, Copy)]
#[expect(missing_docs, reason = "as those of Rule")]
pub enum BuiltIn {
    Allow,
    Deny,
    Values(&'static [&'static str]),
    Range(i64, i64),
}

impl From<BuiltIn> for Rule {
    fn from(rule: BuiltIn) -> Self {
        match rule {
            BuiltIn::Allow => Self::Allow,
            BuiltIn::Deny => Self::Deny,
            BuiltIn::Values(values) => {
                Self::Values(values.iter().map(|v| (*v).to_owned()).collect())
            }
            BuiltIn::Range(least, most) => Self::Range(least, most),
        }
    }
}
