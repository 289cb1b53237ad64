//! The machine's serial line: a pseudo-terminal, whose slave side the emulator opens.
//!
//! A socket would do for both emulators too, but loses what the machine printed last if input is still unread when the
//! emulator exits.

use std::{
    fs::{File, OpenOptions},
    io::{self, Read, Write},
    os::{fd::OwnedFd, unix::fs::OpenOptionsExt},
    sync::mpsc::{self, Receiver, Sender},
    thread,
};

use rustix::{
    fs::OFlags,
    pty::{self, OpenptFlags},
    termios::{self, OptionalActions},
};

/// What the run's loop waits for.
#[derive(Debug)]
pub(crate) enum Event {
    /// Bytes from the machine.
    Serial(Vec<u8>),
    /// Nobody has the machine's side of the line open any more.
    SerialClosed,
    /// Bytes for the machine.
    Input(Vec<u8>),
    /// The user wants the run to end.
    Stop,
}

/// Both sides of the line. Dropping it closes the harness' hold on the machine's side.
pub(crate) struct SerialLine {
    path: String,
    /// Keeps the line from closing before the emulator has opened it.
    _slave: File,
}

impl SerialLine {
    /// Makes a line and sends what it carries as events. Returns it with the keyboard: what is sent there, the machine
    /// reads. A machine that does not read blocks nobody.
    pub(crate) fn open(events: Sender<Event>) -> io::Result<(Self, Sender<Vec<u8>>)> {
        let master: OwnedFd = pty::openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY)?;
        pty::grantpt(&master)?;
        pty::unlockpt(&master)?;
        let name = pty::ptsname(&master, Vec::new())?;
        let path = name.into_string().map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))?;
        let slave =
            OpenOptions::new().read(true).write(true).custom_flags(OFlags::NOCTTY.bits().cast_signed()).open(&path)?;
        let mut mode = termios::tcgetattr(&slave)?;
        mode.make_raw();
        termios::tcsetattr(&slave, OptionalActions::Now, &mode)?;

        let master = File::from(master);
        let reader = master.try_clone()?;
        thread::spawn(move || forward(reader, &events));
        let (keyboard, typed) = mpsc::channel();
        thread::spawn(move || type_in(master, &typed));
        let line = Self { path, _slave: slave };
        Ok((line, keyboard))
    }

    /// The device that the emulator opens.
    pub(crate) fn path(&self) -> &str {
        &self.path
    }
}

/// Writes what is typed, at the pace at which the machine reads it, until the line closes.
fn type_in(mut master: File, typed: &Receiver<Vec<u8>>) {
    for bytes in typed {
        if master.write_all(&bytes).is_err() {
            return;
        }
    }
}

/// Sends what the machine prints until the last holder of its side closes it (`EIO`).
fn forward(mut reader: File, events: &Sender<Event>) {
    let mut buffer = [0; 4096];
    while let Ok(count @ 1..) = reader.read(&mut buffer) {
        if events.send(Event::Serial(buffer[..count].to_vec())).is_err() {
            return;
        }
    }
    // The loop may be gone by now.
    let _ = events.send(Event::SerialClosed);
}

#[cfg(test)]
mod tests {
    use std::{io::Write, sync::mpsc};

    use super::*;

    #[test]
    fn what_was_written_before_the_close_arrives_in_spite_of_unread_input() {
        let (sender, events) = mpsc::channel();
        let (line, keyboard) = SerialLine::open(sender).unwrap();
        keyboard.send(vec![b'x'; 100_000]).unwrap();
        let mut machine = OpenOptions::new().write(true).open(line.path()).unwrap();
        machine.write_all(b"last\nwords\r\n").unwrap();
        drop(machine);
        drop(line);
        let mut text = Vec::new();
        for event in events {
            match event {
                Event::Serial(bytes) => text.extend(bytes),
                Event::SerialClosed => break,
                other => panic!("{other:?}"),
            }
        }
        assert_eq!(text, b"last\nwords\r\n");
    }
}
