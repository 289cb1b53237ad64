//! The emulator as a child process: its own process group, killed whole.

use std::{
    fs::File,
    os::unix::process::CommandExt,
    path::Path,
    process::{Child, Command, ExitStatus, Stdio},
};

use rustix::process::{Pid, Signal, kill_process_group};

use crate::{End, HarnessError};

/// A command that starts an emulator.
pub(crate) struct Prepared {
    /// The command; `setpriv` in it makes the emulator die with the harness.
    pub(crate) command: Command,
    /// The emulator's name.
    pub(crate) program: &'static str,
}

/// What the emulator's log says about the end.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Ended {
    pub(crate) end: End,
    pub(crate) ticks: Option<u64>,
}

/// A running emulator. Dropping it kills it with everything that it started.
pub(crate) struct Emulator {
    child: Child,
    program: &'static str,
}

impl Emulator {
    /// Starts it; what it prints goes to `emulator.out` in `directory`.
    pub(crate) fn start(prepared: Prepared, directory: &Path) -> Result<Self, HarnessError> {
        let Prepared { mut command, program } = prepared;
        let path = directory.join("emulator.out");
        let output = File::create(&path).map_err(HarnessError::file(&path))?;
        let errors = output.try_clone().map_err(HarnessError::file(&path))?;
        let child = command
            .process_group(0)
            .stdin(Stdio::null())
            .stdout(output)
            .stderr(errors)
            .spawn()
            .map_err(|error| HarnessError::Process { program, error })?;
        Ok(Self { child, program })
    }

    /// Its exit status once it has ended.
    pub(crate) fn ended(&mut self) -> Result<Option<ExitStatus>, HarnessError> {
        self.child.try_wait().map_err(|error| HarnessError::Process { program: self.program, error })
    }
}

impl Drop for Emulator {
    fn drop(&mut self) {
        if let Ok(Some(_)) = self.child.try_wait() {
            return;
        }
        // The child leads its group and is not reaped yet, so the group's number is still its own.
        if let Some(group) = i32::try_from(self.child.id()).ok().and_then(Pid::from_raw) {
            let _ = kill_process_group(group, Signal::KILL);
        }
        let _ = self.child.wait();
    }
}
