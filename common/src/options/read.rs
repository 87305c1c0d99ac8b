//! One option read: what a policy judges of it, and what it sets.

use serde_json::{Map, Value};

use super::engine_value::{self, Judged};
use super::key::{Effect, Key};
use super::{Asked, OptionError, Options, value};
use crate::types::environment::Variable;
use crate::types::names::Hostname;

/// The period in which a quota counts, in microseconds.
const PERIOD_US: i64 = 100_000;

/// An option that was read.
pub(super) struct Read {
    pub(super) judged: Judged,
    set: Box<dyn FnOnce(&mut Options)>,
}

impl Read {
    fn new(judged: Judged, set: impl FnOnce(&mut Options) + 'static) -> Self {
        Self {
            judged,
            set: Box::new(set),
        }
    }

    pub(super) fn put(self, options: &mut Options) {
        (self.set)(options);
    }
}

pub(super) fn read(asked: &Asked) -> Result<Read, OptionError> {
    let wrong = |problem: String| OptionError::Value {
        asked: asked.name.clone(),
        problem,
    };
    match asked.key.row().effect {
        Effect::Body(field) => engine(asked, field, |options| &mut options.engine.body),
        Effect::Host(field) => engine(asked, field, |options| &mut options.engine.host),
        _ => own(asked).map_err(wrong),
    }
}

fn engine(
    asked: &Asked,
    field: &'static str,
    place: fn(&mut Options) -> &mut Map<String, Value>,
) -> Result<Read, OptionError> {
    let read = engine_value::of(asked.key, &asked.value).map_err(|problem| OptionError::Value {
        asked: asked.name.clone(),
        problem,
    })?;
    Ok(match read {
        None => Read::new(Judged::Values(Vec::new()), |_| {}),
        Some((value, judged)) => Read::new(judged, move |options| {
            let fields = place(options);
            match (fields.get_mut(field), value) {
                (Some(Value::Array(there)), Value::Array(further)) => there.extend(further),
                (_, value) => {
                    fields.insert(field.to_owned(), value);
                }
            }
        }),
    })
}

fn own(asked: &Asked) -> Result<Read, String> {
    let written = &asked.value;
    let say = |error: &dyn std::fmt::Display| error.to_string();
    Ok(match asked.key {
        Key::Command => {
            let words = value::words(written)?;
            Read::new(Judged::Asked, |options| options.command = Some(words))
        }
        Key::Entrypoint => {
            let words = value::words(written)?;
            Read::new(Judged::Asked, |options| options.entrypoint = Some(words))
        }
        Key::KeepAlive => {
            let flag = value::boolean(written)?;
            Read::new(Judged::Asked, move |options| options.keep_alive = flag)
        }
        Key::Init => {
            let flag = value::boolean(written)?;
            Read::new(Judged::Asked, move |options| options.init = Some(flag))
        }
        Key::Terminal => {
            let flag = value::boolean(written)?;
            Read::new(Judged::Asked, move |options| options.terminal = Some(flag))
        }
        Key::Environment => {
            let variables = value::pairs(written)?
                .iter()
                .map(|(name, value)| Variable::new(name, value).map_err(|e| say(&e)))
                .collect::<Result<Vec<_>, _>>()?;
            Read::new(Judged::Asked, |options| {
                for variable in variables {
                    options
                        .environment
                        .retain(|other| other.name() != variable.name());
                    options.environment.push(variable);
                }
            })
        }
        Key::Hostname => {
            let text = value::text(written)?;
            let name: Hostname = text.parse().map_err(|e| say(&e))?;
            Read::new(Judged::Asked, |options| options.hostname = Some(name))
        }
        Key::DomainName => {
            let domain = value::text(written)?.parse().map_err(|e| say(&e))?;
            Read::new(Judged::Asked, |options| options.domain = Some(domain))
        }
        Key::Dns => {
            let servers = each(&value::list(written)?)?;
            Read::new(Judged::Asked, |options| options.dns = servers)
        }
        Key::DnsSearch => {
            let domains = each(&value::list(written)?)?;
            Read::new(Judged::Asked, |options| options.search = domains)
        }
        Key::DnsOptions => {
            let all = each(&value::list(written)?)?;
            Read::new(Judged::Asked, |options| options.dns_options = all)
        }
        Key::ExtraHosts => {
            let hosts = match value::unfolded(written)? {
                Value::Object(_) => value::pairs(written)?
                    .into_iter()
                    .map(|(name, address)| format!("{name}:{address}"))
                    .collect(),
                other => value::list(&other)?,
            };
            let hosts = each(&hosts)?;
            Read::new(Judged::Asked, |options| options.hosts = hosts)
        }
        Key::CpuShares => number(written, |options, n| options.limits.cpu_shares = Some(n))?,
        Key::CpuQuota => number(written, |options, n| options.limits.cpu_quota_us = Some(n))?,
        // Behind the quota, which counts in the drivers' own period from then on.
        Key::CpuPeriod => number(written, |options, n| {
            match &mut options.limits.cpu_quota_us {
                Some(quota) => *quota = quota.saturating_mul(PERIOD_US) / n.max(1),
                None => {
                    (options.notes).push("CPU_PERIOD has no effect without CPU_QUOTA".to_owned())
                }
            }
        })?,
        Key::NanoCpus => number(written, |options, n| {
            options.limits.cpu_quota_us = Some(n.saturating_mul(PERIOD_US) / 1_000_000_000);
        })?,
        Key::PidsLimit => number(written, |options, n| options.limits.pids = Some(n))?,
        Key::Memory => {
            let bytes = value::bytes(written)?;
            Read::new(Judged::Number(bytes), move |options| {
                options.limits.memory = Some(bytes)
            })
        }
        Key::MemorySwap => {
            let bytes = value::bytes(written)?;
            Read::new(Judged::Number(bytes), move |options| {
                options.limits.memory_and_swap = Some(bytes);
            })
        }
        _ => return Err("it is not an option of this driver".into()),
    })
}

fn number(written: &Value, set: impl FnOnce(&mut Options, i64) + 'static) -> Result<Read, String> {
    let number = value::integer(written)?;
    if number < 0 {
        return Err("it takes a number above 0".into());
    }
    Ok(Read::new(Judged::Number(number), move |options| {
        set(options, number)
    }))
}

fn each<T: std::str::FromStr<Err: std::fmt::Display>>(texts: &[String]) -> Result<Vec<T>, String> {
    texts
        .iter()
        .map(|text| text.parse().map_err(|e: T::Err| e.to_string()))
        .collect()
}

/// Refuses what a note would make little of: the host's own network, and another container's.
pub(super) fn ensure_notable(asked: &Asked) -> Result<(), OptionError> {
    if asked.key == Key::NetworkMode {
        let mode = value::text(&asked.value).unwrap_or_default();
        if !matches!(mode.as_str(), "bridge" | "default" | "none") {
            return Err(OptionError::Impossible {
                asked: asked.name.clone(),
                reason: "a VM has a network of its own, with the NICs that its template says",
            });
        }
    }
    Ok(())
}
