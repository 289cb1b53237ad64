//! Whose line the terminal shows, and who hears what is typed.
//!
//! The terminal has one line that is not ended yet, and it belongs to one client at most. The chosen client's bytes are shown at
//! once, whenever the line is its own or can be made its own; other clients' lines are shown when they are complete, or have
//! waited for [`PATIENCE`] milliseconds. A client whose turn it is may print [`QUOTA`] bytes before the next one's turn. What does not
//! fit into the output waits in the client's own ring.

use crate::line::{Effect, LINE_BYTES, Line, harmless};
use heapless::{Deque, Vec};

/// Most clients.
pub const MAX_CLIENTS: usize = 24;
/// Bytes typed to a client that are kept until it has room for them.
pub const INPUT_BYTES: usize = 64;
/// Bytes that a client prints in its turn.
const QUOTA: usize = 256;
/// Milliseconds that an incomplete line waits before it is shown.
const PATIENCE: u64 = 300;
/// Longest label, as far as it is shown.
const LABEL_BYTES: usize = 31;
/// Output that waits for the terminal.
const OUTPUT_BYTES: usize = 2048;
/// Most output for one byte of a client: another line's end, the prefix, a whole line and its end, then the chosen client's line again.
const STEP_BYTES: usize = 2 * (2 + LABEL_BYTES + 2 + LINE_BYTES + 2);
/// Bytes taken from a client's ring at once.
const CHUNK: usize = 64;
/// Ctrl-].
const ESCAPE: u8 = 0x1d;

/// A partition's channel.
pub trait Client {
    /// What its lines begin with.
    fn label(&self) -> &str;
    /// It shows what is typed by itself, as a guest's terminal driver does.
    fn echoes(&self) -> bool;
    /// Takes bytes that it printed; returns how many.
    fn receive(&mut self, buffer: &mut [u8]) -> usize;
    /// Gives it bytes that were typed; returns how many it took.
    fn send(&mut self, bytes: &[u8]) -> usize;
}

/// There are already [`MAX_CLIENTS`].
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct TooManyClients;

struct Seat<C> {
    client: C,
    line: Line,
    /// Its line, or the beginning of it, is on the terminal, though others' lines may have followed.
    shown: bool,
    chunk: Deque<u8, CHUNK>,
    typed: Deque<u8, INPUT_BYTES>,
}

/// What the next key means.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Keys {
    Typing,
    Escaped,
}

/// All clients, and the terminal.
pub struct Multiplexer<C> {
    seats: Vec<Seat<C>, MAX_CLIENTS>,
    chosen: usize,
    /// To whom the terminal's unfinished line belongs.
    open: Option<usize>,
    turn: usize,
    output: Deque<u8, OUTPUT_BYTES>,
    keys: Keys,
    now: u64,
}

impl<C: Client> Default for Multiplexer<C> {
    fn default() -> Self {
        Self::new()
    }
}

impl<C: Client> Multiplexer<C> {
    /// A terminal without clients.
    pub const fn new() -> Self {
        Self { seats: Vec::new(), chosen: 0, open: None, turn: 0, output: Deque::new(), keys: Keys::Typing, now: 0 }
    }

    /// Adds a client.
    pub fn add(&mut self, client: C) -> Result<(), TooManyClients> {
        let (line, chunk, typed) = (Line::default(), Deque::new(), Deque::new());
        self.seats.push(Seat { client, line, shown: false, chunk, typed }).map_err(|_| TooManyClients)
    }

    /// Chooses the client with this number, if there is one, to hear what is typed.
    pub fn choose(&mut self, index: usize) {
        if index < self.seats.len() {
            self.chosen = index;
        }
    }

    /// The next byte for the terminal.
    pub fn next_output(&mut self) -> Option<u8> {
        self.output.pop_front()
    }

    /// Nothing waits for the terminal.
    pub fn is_quiet(&self) -> bool {
        self.output.is_empty()
    }

    /// When, in milliseconds, [`Multiplexer::pump`] is to be called again though nothing happened.
    pub fn deadline(&self) -> Option<u64> {
        let waiting = self.seats.iter().filter(|seat| !seat.shown && !seat.line.bytes.is_empty());
        waiting.map(|seat| seat.line.since.saturating_add(PATIENCE)).min()
    }

    /// Moves bytes between clients and terminal, as far as there is room. `now` is in milliseconds.
    pub fn pump(&mut self, now: u64) {
        self.now = now;
        self.deliver_typed();
        let mut idle = 0;
        while idle < self.seats.len() && self.has_room() {
            if self.turn >= self.seats.len() {
                self.turn = 0;
            }
            if self.take_turn(self.turn) {
                idle = 0;
            } else {
                idle += 1;
            }
            // A turn that was cut short for want of room goes on first when there is room.
            if self.has_room() {
                self.turn += 1;
            }
        }
        self.show_what_waited();
    }

    /// Room for whatever one more byte of a client may show.
    fn has_room(&self) -> bool {
        self.output.capacity() - self.output.len() >= STEP_BYTES
    }

    /// Shows up to [`QUOTA`] bytes of a client. Returns whether there were any.
    fn take_turn(&mut self, index: usize) -> bool {
        let mut taken = 0;
        while taken < QUOTA && self.has_room() {
            let Some(byte) = self.next_byte(index) else {
                break;
            };
            self.take_byte(index, byte);
            taken += 1;
        }
        taken > 0
    }

    fn next_byte(&mut self, index: usize) -> Option<u8> {
        let seat = self.seats.get_mut(index)?;
        if seat.chunk.is_empty() {
            let mut buffer = [0; CHUNK];
            let length = seat.client.receive(&mut buffer);
            for byte in buffer.iter().take(length) {
                let _ = seat.chunk.push_back(*byte);
            }
        }
        seat.chunk.pop_front()
    }

    /// A client printed a byte.
    fn take_byte(&mut self, index: usize, byte: u8) {
        let (now, chosen) = (self.now, index == self.chosen);
        let Some(seat) = self.seats.get_mut(index) else {
            return;
        };
        let byte = if chosen || matches!(byte, b'\r' | b'\n') { byte } else { harmless(byte) };
        if seat.line.bytes.is_empty() {
            seat.line.since = now;
        }
        let full = !chosen && seat.line.is_full();
        match seat.line.take(byte) {
            Effect::None => {}
            Effect::End => self.end_line(index),
            Effect::Show(byte) if chosen || self.open == Some(index) => {
                if self.open == Some(index) {
                    self.put(byte)
                } else {
                    self.open_line(index)
                }
            }
            Effect::ReturnShow(byte) if self.open == Some(index) => {
                self.put(b'\r');
                self.put_prefix(index);
                self.put(byte);
            }
            Effect::ReturnShow(_) if chosen => self.open_line(index),
            Effect::Show(byte) if full => {
                self.end_line(index);
                if let Some(seat) = self.seats.get_mut(index) {
                    seat.line.since = now;
                    seat.line.take(byte);
                }
            }
            Effect::Show(_) | Effect::ReturnShow(_) => {}
        }
    }

    /// Makes the terminal's line the client's, and shows what the client's line holds.
    fn open_line(&mut self, index: usize) {
        self.close_line();
        self.put_prefix(index);
        self.open = Some(index);
        let Some(seat) = self.seats.get_mut(index) else {
            return;
        };
        seat.shown = true;
        for byte in &seat.line.bytes {
            let _ = self.output.push_back(*byte);
        }
    }

    /// Ends the terminal's line, whoever's it is.
    fn close_line(&mut self) {
        if self.open.take().is_some() {
            self.put(b'\r');
            self.put(b'\n');
        }
    }

    /// The client's line has ended: it is on the terminal, with its end, and nobody else's.
    fn end_line(&mut self, index: usize) {
        if self.open != Some(index) {
            self.open_line(index);
        }
        self.close_line();
        if let Some(seat) = self.seats.get_mut(index) {
            seat.line.clear();
            seat.shown = false;
        }
        // The chosen client's prompt comes back.
        if index != self.chosen && self.seats.get(self.chosen).is_some_and(|seat| seat.shown) {
            self.open_line(self.chosen);
        }
    }

    /// Shows incomplete lines that have waited long enough.
    fn show_what_waited(&mut self) {
        for index in 0..self.seats.len() {
            let due = self.seats.get(index).is_some_and(|seat| {
                let waits = !seat.shown && !seat.line.bytes.is_empty();
                waits && self.now >= seat.line.since.saturating_add(PATIENCE)
            });
            if due && self.has_room() {
                self.open_line(index);
            }
        }
    }

    fn put_prefix(&mut self, index: usize) {
        if let Some(seat) = self.seats.get(index) {
            for byte in seat.client.label().bytes().take(LABEL_BYTES).chain(*b"| ") {
                let _ = self.output.push_back(byte);
            }
        }
    }

    fn put(&mut self, byte: u8) {
        // There is room: see `STEP_BYTES`.
        let _ = self.output.push_back(byte);
    }

    /// A line of the console's own, as far as there is room for it.
    #[inline(never)]
    pub fn announce(&mut self, parts: &[&str]) {
        self.close_line();
        for byte in parts.iter().flat_map(|part| part.bytes()).chain(*b"\r\n") {
            let _ = self.output.push_back(byte);
        }
    }

    /// A byte was typed.
    #[inline(never)]
    pub fn type_byte(&mut self, byte: u8) {
        match self.keys {
            Keys::Typing if byte == ESCAPE => self.keys = Keys::Escaped,
            Keys::Typing => self.type_to_chosen(byte),
            Keys::Escaped => {
                self.keys = Keys::Typing;
                if byte == ESCAPE {
                    self.type_to_chosen(byte);
                } else if let Some(index) = index_of(byte).filter(|index| *index < self.seats.len()) {
                    self.choose(index);
                    if let Some(label) = self.seats.get(index).map(|seat| Label::new(seat.client.label())) {
                        self.announce(&["console| input goes to ", label.as_str()]);
                    }
                } else {
                    self.list();
                }
            }
        }
    }

    fn type_to_chosen(&mut self, byte: u8) {
        let index = self.chosen;
        let Some(seat) = self.seats.get_mut(index) else {
            return;
        };
        let taken = seat.typed.push_back(byte).is_ok();
        let echo = taken && !seat.client.echoes() && self.has_room();
        if echo {
            self.take_byte(index, if byte == b'\r' { b'\n' } else { byte });
        }
        self.deliver_typed();
    }

    /// Hands what was typed to the clients, as far as they have room.
    fn deliver_typed(&mut self) {
        for seat in &mut self.seats {
            while !seat.typed.is_empty() {
                let sent = seat.client.send(seat.typed.as_slices().0);
                if sent == 0 {
                    break;
                }
                for _ in 0..sent {
                    seat.typed.pop_front();
                }
            }
        }
    }

    /// Lists the clients and their keys.
    fn list(&mut self) {
        self.announce(&["console| Ctrl-] and a key chooses who hears what is typed:"]);
        for index in 0..self.seats.len() {
            let Some(label) = self.seats.get(index).map(|seat| Label::new(seat.client.label())) else {
                return;
            };
            let mark = if index == self.chosen { " * " } else { "   " };
            let key = [key_of(index)];
            self.announce(&["console|", mark, core::str::from_utf8(&key).unwrap_or_default(), " ", label.as_str()]);
        }
    }
}

/// A copy of a label.
struct Label(heapless::String<LABEL_BYTES>);

impl Label {
    fn new(label: &str) -> Self {
        let mut copy = heapless::String::new();
        for character in label.chars() {
            if copy.push(character).is_err() {
                break;
            }
        }
        Self(copy)
    }

    fn as_str(&self) -> &str {
        &self.0
    }
}

/// The key that chooses a client: 1 to 9, then a to z.
fn key_of(index: usize) -> u8 {
    let keys = (b'1'..=b'9').chain(b'a'..=b'z');
    keys.into_iter().nth(index).unwrap_or(b'?')
}

/// The client that a key chooses.
fn index_of(key: u8) -> Option<usize> {
    let key = key.to_ascii_lowercase();
    (b'1'..=b'9').chain(b'a'..=b'z').position(|candidate| candidate == key)
}

#[cfg(test)]
mod tests;
