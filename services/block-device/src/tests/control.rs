//! The control channel: every line gets its answer, whatever arrives, and whenever the service ends.

use super::hostile::Random;
use crate::{Answers, Control, DiskRange, Withheld};
use bulkhead_channel::{AtomicU64, Side, TextChannel};
use bulkhead_driver::{DriveInformation, IDENTIFY_BYTES, RangeLimits};
use std::sync::atomic::Ordering::Relaxed;

const INFORMATION: &str = "name=red/0\nmodel=A disk\nserial=12 34\nfirmware=1.0\nsectors=2048\nlogical_block_size=512\n\
    physical_block_size=4096\nwrite_cache=yes\nflush=yes\ndiscard=yes\nwrite_zeroes=no\nqueues=2\nread_only=no\n";

fn padded<const LENGTH: usize>(text: &[u8]) -> [u8; LENGTH] {
    std::array::from_fn(|index| text.get(index).copied().unwrap_or(b' '))
}

fn drive() -> DriveInformation {
    DriveInformation {
        sectors: 1 << 20,
        logical_block_size: 512,
        physical_exponent: 3,
        write_cache: true,
        flush: true,
        discard: Some(RangeLimits { sectors: 1 << 16, granularity: 1 }),
        write_zeroes: None,
        command_bytes: 1 << 20,
        depth: 32,
        queues: 2,
        model: padded(b"A disk"),
        // A device that would like to add a line.
        serial: padded(b"12\n34"),
        firmware: padded(b"1.0"),
        identify: std::array::from_fn(|index| index as u8),
    }
}

const RANGE: DiskRange<'static> =
    DiskRange { name: "red/0", first_sector: 64, sectors: 2048, read_only: false, withheld: WITHHELD };
const WITHHELD: Withheld = Withheld { discard: false, write_zeroes: false, flush: false, queues: false };

fn memory(words: usize) -> Vec<AtomicU64> {
    (0..words).map(|_| AtomicU64::new(0)).collect()
}

fn control(words: &[AtomicU64]) -> Control<'_> {
    Control::attach(TextChannel::attach(words, Side::First).unwrap(), Answers::new(&RANGE, &drive()))
}

fn guest(words: &[AtomicU64]) -> TextChannel<'_> {
    TextChannel::attach(words, Side::Second).unwrap()
}

fn counted(bytes: &[u8]) -> Vec<u8> {
    [format!("ok {}\n", bytes.len()).as_bytes(), bytes].concat()
}

/// What a line is answered with, if it came whole.
fn expected(line: &[u8]) -> Vec<u8> {
    match line {
        b"identify" => counted(&drive().identify),
        b"information" => counted(INFORMATION.as_bytes()),
        _ if line.len() > 64 => b"error too long\n".to_vec(),
        _ => b"error unknown request\n".to_vec(),
    }
}

fn received(guest: &mut TextChannel<'_>) -> Vec<u8> {
    let mut bytes = vec![0; guest.available()];
    let _ = guest.receive(&mut bytes);
    bytes
}

/// Serves until nothing more is to be done without the other end.
fn serve(control: &mut Control<'_>) {
    while control.serve().more {}
}

#[test]
fn requests_are_answered() {
    let words = memory(2048);
    let (mut control, mut guest) = (control(&words), guest(&words));
    let longest = [b'x'; 64];
    let too_long = [b'x'; 65];
    for line in [&b"identify"[..], b"information", b"", b"identify ", b"Identify", &longest, &too_long, &[0xff; 900]] {
        assert!(guest.send(&[line, b"\n"].concat()).signal);
        serve(&mut control);
        assert_eq!(received(&mut guest), expected(line));
    }
    // Nothing is answered to nothing, and to half a line.
    let _ = guest.send(b"ident");
    serve(&mut control);
    assert_eq!(received(&mut guest), b"");
    assert!(guest.send(b"ify\n").signal, "the service sleeps");
    serve(&mut control);
    assert_eq!(received(&mut guest), expected(b"identify"));
}

#[test]
fn what_is_withheld_is_not_told() {
    let range = DiskRange {
        first_sector: 1,
        read_only: true,
        withheld: Withheld { flush: true, queues: true, ..WITHHELD },
        ..RANGE
    };
    let words = memory(2048);
    let channel = TextChannel::attach(&words, Side::First).unwrap();
    let mut control = Control::attach(channel, Answers::new(&range, &drive()));
    let mut guest = guest(&words);
    let _ = guest.send(b"information\n");
    serve(&mut control);
    let changed = [
        ("physical_block_size=4096", "physical_block_size=512"),
        ("flush=yes", "flush=no"),
        ("discard=yes", "discard=no"),
        ("queues=2", "queues=1"),
        ("read_only=no", "read_only=yes"),
    ];
    let text = changed.iter().fold(INFORMATION.to_owned(), |text, (from, to)| text.replace(from, to));
    assert_eq!(received(&mut guest), counted(text.as_bytes()));
}

/// A call reads a line at most, and gives an answer at most.
#[test]
fn a_flood_is_served_in_turns() {
    let words = memory(2048);
    let (mut control, mut guest) = (control(&words), guest(&words));
    let flood = vec![b'\n'; guest.capacity()];
    assert_eq!(guest.send(&flood).bytes, flood.len());
    for turn in 1..100 {
        assert!(control.serve().more);
        assert_eq!(guest.available(), 22 * turn);
    }
    let _ = received(&mut guest);
    let words = memory(2048);
    let (mut control, mut guest) = (self::control(&words), self::guest(&words));
    let flood = vec![b'x'; guest.capacity()];
    let _ = guest.send(&flood);
    assert!(control.serve().more);
    assert_eq!(guest.space(), 64);
}

/// The service ends between the note of what it answers and the taking of the line.
#[test]
fn a_line_that_was_noted_is_answered_once() {
    let words = memory(64);
    let mut guest = guest(&words);
    let _ = guest.send(b"identify\n");
    assert!(!control(&words).serve().more);
    // The rings have 24 words each: the answer has not ended. The line is back in its ring.
    words[32 + 8].store(0, Relaxed);
    let mut control = control(&words);
    let mut answer = Vec::new();
    while answer.len() < 7 + IDENTIFY_BYTES {
        let part = received(&mut guest);
        assert!(!part.is_empty());
        answer.extend(part);
        serve(&mut control);
    }
    assert_eq!(answer, expected(b"identify"));
    serve(&mut control);
    assert_eq!(guest.available(), 0);
}

/// Random lines, in random parts, read in random parts, while the service is started anew again and again.
#[test]
fn every_line_gets_one_answer() {
    for seed in 1..=200u64 {
        let mut random = Random(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15));
        let words = memory(2 * (17 + random.within(0..40) as usize));
        let taken = || words[words.len() / 2 + 8].load(Relaxed) as usize;
        let mut guest = guest(&words);
        let mut control = control(&words);
        let mut lines: Vec<Vec<u8>> = (0..40)
            .map(|_| match random.within(0..4) {
                0 => b"identify".to_vec(),
                1 => b"information".to_vec(),
                2 => (0..random.within(0..150)).map(|_| random.next() as u8 | 0x10).collect(),
                _ => b"identify"[..random.within(0..8) as usize].to_vec(),
            })
            .collect();
        lines.iter_mut().for_each(|line| line.push(b'\n'));
        let input = lines.concat();
        let mut answers: Vec<_> = lines.iter().map(|line| expected(&line[..line.len() - 1])).collect();
        let (mut sent, mut output) = (0, Vec::<u8>::new());
        // Signals are all that wakes the service and the guest.
        let (mut wake_service, mut wake_guest) = (true, true);
        while wake_service || wake_guest {
            if random.within(0..8) == 0 {
                // A life that does something, and ends before it signals.
                let _ = control.serve();
                let (mut start, at) = (0, taken());
                for (line, answer) in lines.iter().zip(&mut answers) {
                    if start < at && at < start + line.len() {
                        *answer = b"error restarted\n".to_vec();
                    }
                    start += line.len();
                }
                control = self::control(&words);
                wake_service = true;
            }
            if wake_service {
                let served = control.serve();
                (wake_service, wake_guest) = (served.more, wake_guest || served.signal);
            }
            if wake_guest {
                let mut part = vec![0; 1 + random.within(0..300) as usize];
                let got = guest.receive(&mut part);
                output.extend(&part[..got.bytes]);
                let most = input.len().min(sent + 1 + random.within(0..100) as usize);
                let put = guest.send(&input[sent..most]);
                sent += put.bytes;
                wake_service |= got.signal || put.signal;
                wake_guest = got.bytes == part.len() || (put.bytes != 0 && sent < input.len());
            }
        }
        assert_eq!(sent, input.len(), "seed {seed}");
        assert!(output == answers.concat(), "seed {seed}");
    }
}

/// A monitor that writes anything anywhere hears anything, and no call lasts longer for it.
#[test]
fn counts_that_make_no_sense_harm_nobody() {
    for seed in 1..=100u64 {
        let mut random = Random(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15));
        let words = memory(100);
        let mut control = control(&words);
        for _ in 0..200 {
            let word = [0, 1, 8, 50, 51, 58, 16, 66][random.within(0..8) as usize];
            words[word].store(random.value(), Relaxed);
            if random.within(0..4) == 0 {
                control = self::control(&words);
            }
            let _ = control.serve();
        }
    }
}
