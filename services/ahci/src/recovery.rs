//! What is done about interrupts, errors, and drives that do not answer (AHCI, 6.2).
//!
//! After an error the port is stopped and the link reset: that ends all commands in the drive, queued ones too (Serial ATA 3.0,
//! 13.6.4.2), whatever state it was in. A command that was alone has failed. Of several queued ones it is not known which has:
//! all are tried again, one at a time, so that the next error tells. Reads and writes can be repeated without harm, since nobody was
//! told of their end. Only when the port does not reach memory any more are commands told to have failed.

use crate::drive::{AhciDrive, State};
use crate::start::{HOST_LIMIT, LINK_LIMIT, READY_LIMIT, STOP_LIMIT};
use bulkhead_driver::{Clock, CommandError, Completions, Registers};

/// How long the reset of the link is held, in milliseconds (AHCI, 10.4.2: at least 1).
const HOLD: u64 = 2;
/// How often the port is looked at during a reset.
const LOOK: u64 = 1;

impl<R: Registers, C: Clock> AhciDrive<'_, R, C> {
    /// Looks at what an interrupt is for.
    pub(crate) fn interrupt(&mut self, completions: Completions<'_>) {
        let events = self.port().take_events();
        if events.is_gone() || events.is_replaced() {
            // Nothing is known of a drive that was connected in its place.
            return self.die(completions);
        }
        if events.is_drive_error() || events.is_transfer_error() || events.is_link_change() {
            // What ended before the error has ended well; without native queuing the port tells only once it is stopped.
            let error = if events.is_drive_error() { CommandError::Drive } else { CommandError::Transfer };
            if !events.is_drive_error() || self.issued.count_ones() > 1 {
                self.take(completions);
            }
            let known = if self.issued.count_ones() == 1 { self.issued } else { 0 };
            self.recover(known, error);
        } else {
            self.take(completions);
            self.issue();
        }
    }

    /// Resets the port. Of the commands that it has, `failed` fail, and the others are tried again, alone.
    pub(crate) fn recover(&mut self, failed: u32, failure: CommandError) {
        (self.failed, self.failure) = (self.issued & failed, failure);
        let again = self.issued & !failed;
        self.alone |= again;
        self.waiting |= again;
        self.issued = 0;
        self.port().enable_interrupts(false);
        self.port().stop();
        self.state = State::Stopping { deadline: self.after(STOP_LIMIT) };
        self.look = self.after(LOOK);
    }

    /// Goes on with a reset.
    pub(crate) fn advance(&mut self, completions: Completions<'_>) {
        let now = self.clock.milliseconds();
        self.look = now.saturating_add(LOOK);
        if self.host.is_gone() {
            return self.die(completions);
        }
        match self.state {
            State::Stopping { .. } if self.port().is_stopped() => self.reset_link(completions),
            State::Stopping { deadline } if now >= deadline => {
                self.host.reset();
                self.state = State::HostReset { deadline: self.after(HOST_LIMIT) };
            }
            State::HostReset { .. } if self.host.is_reset() => {
                self.host.enable(true);
                self.port().receive(self.memory.list(), self.memory.received.physical());
                self.reset_link(completions);
            }
            State::Holding { until } if now >= until => {
                self.port().hold_reset(false);
                self.state = State::Linking { deadline: self.after(LINK_LIMIT) };
            }
            State::Linking { .. } if self.port().is_linked() => {
                // The drive's first frame is received when the error is forgotten (AHCI, 10.4.2).
                self.port().forget_errors();
                self.state = State::Readying { deadline: self.after(READY_LIMIT) };
            }
            State::Readying { .. } if self.port().is_ready() => {
                self.port().forget_errors();
                self.port().take_events();
                self.port().start();
                self.port().enable_interrupts(true);
                self.state = State::Running;
                self.issue();
            }
            State::HostReset { deadline } | State::Linking { deadline } | State::Readying { deadline }
                if now >= deadline =>
            {
                self.die(completions);
            }
            _ => {}
        }
    }

    /// The port does not reach memory: tells who has failed, and begins to reset the link.
    fn reset_link(&mut self, completions: Completions<'_>) {
        self.end(self.failed, Err(self.failure), completions);
        self.port().hold_reset(true);
        self.state = State::Holding { until: self.after(HOLD) };
    }

    fn die(&mut self, completions: Completions<'_>) {
        self.port().enable_interrupts(false);
        self.port().stop();
        self.state = State::Dead;
        let all = self.waiting | self.issued | self.failed;
        self.end(all, Err(CommandError::Dead), completions);
    }
}
