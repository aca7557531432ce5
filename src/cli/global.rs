//! The flags of every command.

use std::ffi::OsString;
use std::path::PathBuf;

use clap::builder::BoolishValueParser;
use clap::{ArgAction, ValueEnum};

pub(crate) const CONFIG_FLAG: &str = "config";
/// The default configuration file, which is read if it exists.
pub(crate) const DEFAULT_CONFIG: &str = "/etc/etcd-ark.toml";

#[derive(Debug, clap::Args)]
#[expect(clippy::struct_excessive_bools, reason = "each is a flag of its own")]
pub(crate) struct Global {
    /// Write JSON to stdout and nothing else; errors become a JSON object on stderr
    #[arg(long, global = true, env = "ETCD_ARK_JSON", value_parser = BoolishValueParser::new())]
    pub(crate) json: bool,
    /// Print no progress, notes or reports of success; warnings and errors remain
    #[arg(short, long, global = true, env = "ETCD_ARK_QUIET", value_parser = BoolishValueParser::new())]
    pub(crate) quiet: bool,
    /// Print more about what is done
    #[arg(short, long, global = true, env = "ETCD_ARK_VERBOSE", value_parser = BoolishValueParser::new())]
    pub(crate) verbose: bool,
    /// File of age identities for encrypted archives (repeatable)
    #[arg(short, long, global = true, value_name = "FILE", action = ArgAction::Append, env = "ETCD_ARK_IDENTITY")]
    pub(crate) identity: Vec<PathBuf>,
    /// When to use colours; `NO_COLOR` is honoured
    #[arg(
        long,
        global = true,
        value_name = "WHEN",
        default_value = "auto",
        env = "ETCD_ARK_COLOR"
    )]
    pub(crate) color: Color,
    /// Show no progress bar
    #[arg(long, global = true, env = "ETCD_ARK_NO_PROGRESS", value_parser = BoolishValueParser::new())]
    pub(crate) no_progress: bool,
    /// Exit with 5 if there were warnings
    #[arg(long, global = true, env = "ETCD_ARK_STRICT", value_parser = BoolishValueParser::new())]
    pub(crate) strict: bool,
    /// Configuration file; an empty name means none
    #[arg(long, global = true, value_name = "FILE", value_hint = clap::ValueHint::FilePath, default_value = DEFAULT_CONFIG, env = "ETCD_ARK_CONFIG")]
    pub(crate) config: OsString,
}

impl Global {
    /// The configuration file to read: `None` if it is disabled, or if the default one does not exist.
    pub(crate) fn config_file(&self) -> Option<PathBuf> {
        let path = PathBuf::from(&self.config);
        path.is_file().then_some(path)
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Color {
    Auto,
    Always,
    Never,
}
