extern crate std;
use super::*;
use std::borrow::ToOwned;
use std::cell::RefCell;
use std::collections::VecDeque;
use std::format;
use std::rc::Rc;
use std::string::String;

#[derive(Default)]
struct Shared {
    printed: VecDeque<u8>,
    heard: std::vec::Vec<u8>,
    room: usize,
}

#[derive(Clone)]
struct Partition {
    label: String,
    echoes: bool,
    shared: Rc<RefCell<Shared>>,
}

impl Partition {
    fn new(label: &str, echoes: bool) -> Self {
        let shared = Rc::new(RefCell::new(Shared { room: usize::MAX, ..Default::default() }));
        Self { label: label.to_owned(), echoes, shared }
    }

    fn print(&self, text: &str) {
        self.shared.borrow_mut().printed.extend(text.bytes());
    }
}

impl Client for Partition {
    fn label(&self) -> &str {
        &self.label
    }

    fn echoes(&self) -> bool {
        self.echoes
    }

    fn receive(&mut self, buffer: &mut [u8]) -> usize {
        let mut shared = self.shared.borrow_mut();
        let length = buffer.len().min(shared.printed.len());
        for (to, from) in buffer.iter_mut().zip(shared.printed.drain(..length)) {
            *to = from;
        }
        length
    }

    fn send(&mut self, bytes: &[u8]) -> usize {
        let mut shared = self.shared.borrow_mut();
        let length = bytes.len().min(shared.room);
        shared.room -= length;
        shared.heard.extend(&bytes[..length]);
        length
    }
}

struct Terminal {
    multiplexer: Multiplexer<Partition>,
    partitions: std::vec::Vec<Partition>,
}

/// A guest `linux`, chosen, and a program `hello`.
fn terminal() -> Terminal {
    let partitions = std::vec![Partition::new("linux", true), Partition::new("hello", false)];
    let mut multiplexer = Multiplexer::new();
    for partition in &partitions {
        multiplexer.add(partition.clone()).unwrap();
    }
    Terminal { multiplexer, partitions }
}

impl Terminal {
    fn print(&self, index: usize, text: &str) {
        self.partitions[index].print(text);
    }

    fn shown(&mut self, now: u64) -> String {
        let mut shown = std::vec::Vec::new();
        loop {
            self.multiplexer.pump(now);
            let before = shown.len();
            shown.extend(std::iter::from_fn(|| self.multiplexer.next_output()));
            if shown.len() == before {
                return String::from_utf8(shown).unwrap();
            }
        }
    }

    fn type_text(&mut self, text: &str) {
        for byte in text.bytes() {
            self.multiplexer.type_byte(byte);
        }
    }

    fn heard(&self, index: usize) -> String {
        String::from_utf8(self.partitions[index].shared.borrow().heard.clone()).unwrap()
    }
}

#[test]
fn lines_have_their_partition_before_them() {
    let mut terminal = terminal();
    terminal.print(0, "one\r\ntwo\r\n");
    terminal.print(1, "three\nfour\n\n");
    assert_eq!(terminal.shown(0), "linux| one\r\nlinux| two\r\nhello| three\r\nhello| four\r\nhello| \r\n");
}

#[test]
fn the_chosen_ones_prompt_appears_at_once_and_comes_back() {
    let mut terminal = terminal();
    terminal.print(0, "/ # ");
    assert_eq!(terminal.shown(0), "linux| / # ");
    terminal.print(0, "ls");
    assert_eq!(terminal.shown(0), "ls");
    terminal.print(1, "tick\n");
    assert_eq!(terminal.shown(0), "\r\nhello| tick\r\nlinux| / # ls");
    terminal.print(0, "\r\nbin\r\n");
    assert_eq!(terminal.shown(0), "\r\nlinux| bin\r\n");
}

#[test]
fn incomplete_lines_of_others_wait() {
    let mut terminal = terminal();
    terminal.print(1, "password: ");
    assert_eq!(terminal.shown(10), "");
    assert_eq!(terminal.multiplexer.deadline(), Some(310));
    assert_eq!(terminal.shown(309), "");
    assert_eq!(terminal.shown(310), "hello| password: ");
    assert_eq!(terminal.multiplexer.deadline(), None);
    terminal.print(1, "?");
    assert_eq!(terminal.shown(311), "?");
    terminal.print(0, "x\n");
    assert_eq!(terminal.shown(312), "\r\nlinux| x\r\n");
    terminal.print(1, "!\n");
    assert_eq!(terminal.shown(313), "hello| password: ?!\r\n");
}

#[test]
fn returns_within_a_line_keep_the_prefix() {
    let mut terminal = terminal();
    terminal.print(0, "10%\r20%\r\n");
    assert_eq!(terminal.shown(0), "linux| 10%\rlinux| 20%\r\n");
    terminal.print(1, "10%\r20%\n");
    assert_eq!(terminal.shown(0), "hello| 20%\r\n");
}

#[test]
fn control_characters_pass_for_the_chosen_one_only() {
    let mut terminal = terminal();
    terminal.print(0, "\x1b[1mbold\n");
    assert_eq!(terminal.shown(0), "linux| \x1b[1mbold\r\n");
    terminal.print(1, "\x1b[2Alinux| fake\n");
    assert_eq!(terminal.shown(0), "hello| ?[2Alinux| fake\r\n");
}

#[test]
fn long_lines_are_broken() {
    let mut terminal = terminal();
    let text = "x".repeat(LINE_BYTES + 3);
    terminal.print(1, &format!("{text}\n"));
    let shown = terminal.shown(0);
    assert_eq!(shown.matches("hello| ").count(), 2);
    assert_eq!(shown.matches('x').count(), LINE_BYTES + 4 - 1);
    terminal.print(0, &format!("{text}\n"));
    assert_eq!(terminal.shown(0), format!("linux| {text}\r\n"));
}

#[test]
fn typing_reaches_the_chosen_one() {
    let mut terminal = terminal();
    terminal.type_text("ls\r");
    assert_eq!(terminal.heard(0), "ls\r");
    assert_eq!(terminal.shown(0), "");
    terminal.type_text("\x1d2");
    assert_eq!(terminal.shown(0), "console| input goes to hello\r\n");
    terminal.type_text("hi\r");
    assert_eq!(terminal.heard(1), "hi\r");
    assert_eq!(terminal.shown(0), "hello| hi\r\n");
    terminal.type_text("\x1d\x1d");
    assert_eq!(terminal.heard(1), "hi\r\x1d");
    terminal.shown(0);
    terminal.type_text("\x1d?");
    let list = terminal.shown(0);
    assert!(list.contains("console|   1 linux\r\nconsole| * 2 hello\r\n"), "{list}");
    terminal.type_text("\x1dz");
    assert!(terminal.shown(0).contains("1 linux"));
    terminal.type_text("\x1d1x");
    assert_eq!(terminal.heard(0), "ls\rx");
}

#[test]
fn what_is_typed_waits_for_room() {
    let mut terminal = terminal();
    terminal.partitions[0].shared.borrow_mut().room = 2;
    terminal.type_text("abcd");
    assert_eq!(terminal.heard(0), "ab");
    terminal.partitions[0].shared.borrow_mut().room = 100;
    terminal.shown(0);
    assert_eq!(terminal.heard(0), "abcd");
    terminal.partitions[0].shared.borrow_mut().room = 0;
    terminal.type_text(&"y".repeat(1000));
    terminal.partitions[0].shared.borrow_mut().room = 2000;
    terminal.shown(0);
    assert_eq!(terminal.heard(0).matches('y').count(), INPUT_BYTES);
}

#[test]
fn a_flood_starves_nobody_and_loses_nothing() {
    let mut terminal = terminal();
    let flood = "flood\n".repeat(5000);
    terminal.print(1, &flood);
    terminal.print(0, "quiet\n");
    // The first output, long before the flood is over, holds the quiet one's line.
    terminal.multiplexer.pump(0);
    let first: String = std::iter::from_fn(|| terminal.multiplexer.next_output()).map(char::from).collect();
    assert!(first.contains("linux| quiet\r\n"), "{first}");
    let mut all = first;
    terminal.print(0, "again\n");
    terminal.multiplexer.pump(0);
    let second: String = std::iter::from_fn(|| terminal.multiplexer.next_output()).map(char::from).collect();
    assert!(second.contains("linux| again\r\n"), "{second}");
    all += &second;
    all += &terminal.shown(0);
    assert_eq!(all.matches("hello| flood\r\n").count(), 5000);
}

#[test]
fn a_terminal_that_takes_nothing_loses_nothing() {
    let mut terminal = terminal();
    for index in 0..2 {
        terminal.print(index, &"\n".repeat(3000));
    }
    for _ in 0..100 {
        terminal.multiplexer.pump(0);
    }
    assert!(!terminal.multiplexer.is_quiet());
    let waiting = |index: usize| terminal.partitions[index].shared.borrow().printed.len();
    assert!(waiting(0) > 2000 && waiting(1) > 2000);
    let shown = terminal.shown(0);
    assert_eq!(shown.matches("linux| \r\n").count(), 3000);
    assert_eq!(shown.matches("hello| \r\n").count(), 3000);
}

#[test]
fn nobody_to_type_to_is_no_harm() {
    let mut multiplexer = Multiplexer::<Partition>::new();
    multiplexer.type_byte(b'x');
    multiplexer.type_byte(ESCAPE);
    multiplexer.type_byte(b'1');
    multiplexer.pump(0);
    assert!(std::iter::from_fn(|| multiplexer.next_output()).count() > 0);
}
