//! How PID 1 runs; other than the defaults only in tests and user instances.

use std::ffi::CString;
use std::time::Duration;

use super::POWER_PATIENCE;
use crate::protocol::GREETING_SECONDS;

/// The values that tests and user instances change.
#[derive(Debug)]
pub(crate) struct Options {
    /// The manager's path.
    pub(crate) manager: CString,
    /// cairn-exec's path.
    pub(crate) exec: CString,
    /// The program that loads modules, if there is one.
    pub(crate) loader: Option<CString>,
    /// Whether the machine is ours: mounts, cgroups, kernel settings, devices, reboot(2).
    pub(crate) mounts: bool,
    /// Nanoseconds that the manager has after a power request.
    pub(crate) power_patience: u64,
    /// Nanoseconds that a manager which replaced another has until it says hello.
    pub(crate) greeting: u64,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            manager: c"/usr/lib/cairn/cairn-manager".to_owned(),
            exec: c"/usr/lib/cairn/cairn-exec".to_owned(),
            loader: Some(c"/proc/self/exe".to_owned()),
            mounts: true,
            power_patience: POWER_PATIENCE,
            greeting: Duration::from_secs(GREETING_SECONDS).as_nanos() as u64,
        }
    }
}

impl Options {
    /// Reads the arguments of a test or a user instance.
    ///
    /// # Errors
    /// A sentence for the console.
    pub(crate) fn parse(mut args: impl Iterator<Item = String>) -> Result<Self, String> {
        let mut options = Self::default();
        while let Some(arg) = args.next() {
            let mut value = || args.next().ok_or_else(|| format!("{arg} needs a value"));
            match arg.as_str() {
                "--manager" => options.manager = path(&arg, value()?)?,
                "--exec" => options.exec = path(&arg, value()?)?,
                "--loader" => options.loader = Some(path(&arg, value()?)?),
                "--no-mounts" => (options.mounts, options.loader) = (false, None),
                "--power-patience-ms" => options.power_patience = milliseconds(&arg, &value()?)?,
                "--greeting-ms" => options.greeting = milliseconds(&arg, &value()?)?,
                other => return Err(format!("unknown argument {other}")),
            }
        }
        Ok(options)
    }
}

fn path(arg: &str, value: String) -> Result<CString, String> {
    CString::new(value).map_err(|_| format!("{arg}: a value with a zero byte"))
}

fn milliseconds(arg: &str, value: &str) -> Result<u64, String> {
    let ms = value.parse().map_err(|_| format!("{arg} needs a number"))?;
    Ok(Duration::from_millis(ms).as_nanos() as u64)
}
