//! The user's terminal as the machine's keyboard.

use std::{
    io::{self, IsTerminal, Read},
    sync::mpsc::Sender,
    thread,
};

use rustix::termios::{self, InputModes, LocalModes, OptionalActions, Termios};

use crate::serial::Event;

/// Control-A, which begins a command to the harness as it does in QEMU.
const ESCAPE: u8 = 1;

/// Standard input in raw mode; dropping it brings the former mode back.
pub(crate) struct Terminal {
    former: Termios,
}

impl Terminal {
    /// Takes the terminal and sends what is typed as events. `None` if standard input is no terminal.
    pub(crate) fn take(events: &Sender<Event>) -> io::Result<Option<Self>> {
        let stdin = io::stdin();
        if !stdin.is_terminal() {
            return Ok(None);
        }
        let former = termios::tcgetattr(&stdin)?;
        let mut raw = former.clone();
        // Output processing stays, so that a bare line feed still begins at the left margin.
        raw.local_modes -= LocalModes::ICANON | LocalModes::ECHO | LocalModes::ISIG | LocalModes::IEXTEN;
        raw.input_modes -= InputModes::ICRNL | InputModes::INLCR | InputModes::IGNCR | InputModes::IXON;
        termios::tcsetattr(&stdin, OptionalActions::Now, &raw)?;
        let events = events.clone();
        thread::spawn(move || {
            let mut buffer = [0; 256];
            let mut keys = Keys::default();
            while let Ok(count @ 1..) = io::stdin().lock().read(&mut buffer) {
                for event in keys.interpret(&buffer[..count]) {
                    if events.send(event).is_err() {
                        return;
                    }
                }
            }
        });
        Ok(Some(Self { former }))
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        // A terminal that is gone needs no mode.
        let _ = termios::tcsetattr(io::stdin(), OptionalActions::Now, &self.former);
    }
}

/// Keys as they come, with the harness' own commands taken out: Control-A X ends the run, Control-A Control-A sends one.
#[derive(Default)]
struct Keys {
    escaped: bool,
}

impl Keys {
    fn interpret(&mut self, typed: &[u8]) -> Vec<Event> {
        let mut events = Vec::new();
        let mut text = Vec::new();
        for &key in typed {
            match (std::mem::take(&mut self.escaped), key) {
                (false, ESCAPE) => self.escaped = true,
                (true, b'x' | b'X') => events.push(Event::Stop),
                (true, ESCAPE) | (false, _) => text.push(key),
                (true, _) => {}
            }
        }
        if !text.is_empty() {
            events.insert(0, Event::Input(text));
        }
        events
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn interpret(typed: &[&[u8]]) -> (Vec<u8>, bool) {
        let mut keys = Keys::default();
        let (mut text, mut stop) = (Vec::new(), false);
        for event in typed.iter().flat_map(|part| keys.interpret(part)) {
            match event {
                Event::Input(bytes) => text.extend(bytes),
                Event::Stop => stop = true,
                Event::Serial(_) | Event::SerialClosed => unreachable!("keys make no such event"),
            }
        }
        (text, stop)
    }

    #[test]
    fn control_a_is_a_prefix() {
        assert_eq!(interpret(&[b"ls\r"]), (b"ls\r".to_vec(), false));
        assert_eq!(interpret(&[b"a\x01\x01b"]), (b"a\x01b".to_vec(), false));
        assert_eq!(interpret(&[b"a\x01x"]), (b"a".to_vec(), true));
        assert_eq!(interpret(&[b"\x01", b"x"]), (Vec::new(), true));
        assert_eq!(interpret(&[b"\x01q", b"x"]), (b"x".to_vec(), false));
    }
}
