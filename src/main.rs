//! The `etcd-ark` command.

use std::process::ExitCode;

fn main() -> ExitCode {
    ExitCode::from(etcd_ark::cli::main())
}
