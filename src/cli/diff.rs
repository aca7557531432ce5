//! `diff`: what differs between two archives or data dirs.
use super::args::Diff;
use super::out::Out;
use anyhow::Result;
use etcd_ark::ground::interrupt::Interrupt;
pub(crate) fn run(_args: &Diff, _out: &Out, _interrupt: &Interrupt) -> Result<u8> {
    anyhow::bail!("not yet")
}
