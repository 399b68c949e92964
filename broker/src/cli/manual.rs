//! `ringlog completions` and `ringlog man`: what the command line knows of itself, for shells and for `man`.

use super::Failure;
use clap::{Args, Command};
use clap_complete::Shell;
use std::io::Write;
use std::path::PathBuf;

#[derive(Args)]
pub(super) struct Completions {
    /// The shell that is to complete
    shell: Shell,
}

#[derive(Args)]
pub(super) struct Man {
    /// Directory to write the pages to; it is made
    directory: PathBuf,
}

pub(super) fn completions(arguments: Completions, mut command: Command) -> Result<(), Failure> {
    let mut script = Vec::new();
    clap_complete::generate(arguments.shell, &mut command, "ringlog", &mut script);
    std::io::stdout().write_all(&script)?;
    Ok(())
}

pub(super) fn man(arguments: Man, command: Command) -> Result<(), Failure> {
    std::fs::create_dir_all(&arguments.directory)?;
    clap_mangen::generate_to(command, &arguments.directory)?;
    Ok(())
}
