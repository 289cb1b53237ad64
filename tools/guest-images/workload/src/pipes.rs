//! Messages go through a chain of processes, two on each processor. Each of them changes every message in a way of its own;
//! what comes out is compared with the same changes made at once.

use crate::{
    linux::{Failure, Pipe, PipeEnd, Processors, start_process, wait_for},
    mix::mix,
};

const WORDS: usize = 8;
const MESSAGES: u64 = 192;
/// Messages that are under way at a time.
const IN_FLIGHT: u64 = 8;
/// Processes on a processor.
const PROCESSES: usize = 2;

type Message = [u64; WORDS];

fn message(number: u64) -> Message {
    core::array::from_fn(|word| mix(number, word as u64))
}

/// What a process makes of a message.
fn changed(message: Message, station: u64) -> Message {
    message.map(|word| mix(word, station + 1))
}

pub fn run(processors: &Processors) -> Result<u64, Failure> {
    let stations = processors.count() * PROCESSES;
    let Pipe { reader: mut input, writer: start } = Pipe::new()?;
    for station in 0..stations {
        let Pipe { reader, writer } = Pipe::new()?;
        start_process(processors.nth(station), || {
            // An end that stayed open would keep its reader from seeing the end of the messages.
            start.close();
            reader.close();
            u8::from(pass_on(&input, &writer, station as u64).is_err())
        })?;
        input.close();
        writer.close();
        input = reader;
    }
    for sent in 0..MESSAGES + IN_FLIGHT {
        if sent < MESSAGES {
            send(&start, &message(sent))?;
        }
        if let Some(number) = sent.checked_sub(IN_FLIGHT) {
            let expected = (0..stations).fold(message(number), |message, station| changed(message, station as u64));
            match receive(&input)? {
                Some(arrived) if arrived == expected => {}
                Some(_) => return Err(Failure::wrong("message", number)),
                None => return Err(Failure::wrong("end of the messages before message", number)),
            }
        }
    }
    start.close();
    if receive(&input)?.is_some() {
        return Err(Failure::wrong("one message more than", MESSAGES));
    }
    input.close();
    wait_for(stations)?;
    Ok(MESSAGES * stations as u64)
}

/// Changes every message, until there are no more.
fn pass_on(input: &PipeEnd, output: &PipeEnd, station: u64) -> Result<(), Failure> {
    while let Some(message) = receive(input)? {
        send(output, &changed(message, station))?;
    }
    Ok(())
}

fn send(pipe: &PipeEnd, message: &Message) -> Result<(), Failure> {
    let mut bytes = [0; WORDS * 8];
    for (place, word) in bytes.chunks_exact_mut(8).zip(message) {
        place.copy_from_slice(&word.to_le_bytes());
    }
    pipe.write(&bytes)
}

/// The next message; `None` when everybody who could send one has closed the pipe.
fn receive(pipe: &PipeEnd) -> Result<Option<Message>, Failure> {
    let mut bytes = [0; WORDS * 8];
    if !pipe.read(&mut bytes)? {
        return Ok(None);
    }
    let mut message = [0; WORDS];
    for (word, place) in message.iter_mut().zip(bytes.chunks_exact(8)) {
        let mut little_endian = [0; 8];
        little_endian.copy_from_slice(place);
        *word = u64::from_le_bytes(little_endian);
    }
    Ok(Some(message))
}
