//! The client: calls again and again, checks answers, and notices when the server is another one.

use crate::talk::Talk;
use crate::{LATE, SOON, answer, number};
use bulkhead_runtime::abi::Error;
use bulkhead_runtime::calls::{CallError, Client};
use bulkhead_runtime::peer::{PeerError, TextLink};
use bulkhead_runtime::syscall::Words;
use bulkhead_runtime::{Program, events, println, time};

/// Seconds after which the client has done its work, unless its environment says otherwise.
const SECONDS: u64 = 3;
/// Name of the text channel.
const TALK: &str = "talk";
/// Answers and echoes that the last life of the server must have given.
const ENOUGH: u64 = 20;
/// One call in so many is answered late, unless the text `late-every` says otherwise.
const LATE_EVERY: u64 = 8;
/// Time between two calls, in milliseconds, unless the text `between` says otherwise.
const BETWEEN: u64 = 1;

/// Time between two lines that say how it goes, in milliseconds.
const PROGRESS: u64 = 250;

/// What was counted.
#[derive(Default)]
struct Tally {
    answers: u64,
    since_news: u64,
    news: u64,
    longest: u64,
    last: Option<u64>,
}

impl Tally {
    fn answered(&mut self) {
        let now = time::now();
        if let Some(last) = self.last.replace(now) {
            self.longest = self.longest.max(now.saturating_sub(last));
        }
        self.answers += 1;
        self.since_news += 1;
    }

    fn server_is_new(&mut self) {
        self.news += 1;
        self.since_news = 0;
        self.last = None;
    }
}

/// Calls until the time is over, and then until the server's last life has answered enough.
pub fn run(program: &Program, mut client: Client) -> Result<(), &'static str> {
    let start = time::now();
    let seconds = number(program, "seconds").unwrap_or(SECONDS);
    let end = start.saturating_add(time::milliseconds(1000 * seconds));
    let generation = program.environment().header().generation;
    let link = program.channel(TALK).and_then(|channel| TextLink::new(program, channel));
    let mut talk = link.map(|link| Talk::new(link, generation));
    let late_every = number(program, "late-every").unwrap_or(LATE_EVERY);
    let between = number(program, "between").unwrap_or(BETWEEN);
    let (mut tally, mut call, mut shown) = (Tally::default(), 0, 0);
    loop {
        let is_enough = tally.since_news >= ENOUGH && talk.as_ref().is_none_or(|talk| talk.since_news >= ENOUGH);
        if time::now() >= end {
            if is_enough {
                break;
            }
            if time::now() >= end.saturating_add(time::milliseconds(1000 * seconds)) {
                return Err("the server answers too little");
            }
        }
        call += 1;
        let label = if call % late_every.max(1) == 0 { LATE } else { SOON };
        one_call(&mut client, &mut tally, label, [call, generation, time::now(), !call])?;
        if let Some(talk) = &mut talk {
            talk.pump();
        }
        if time::now() >= start.saturating_add(time::milliseconds(shown + PROGRESS)) {
            shown += PROGRESS;
            println!("{shown} ms: {} answers", tally.answers);
        }
        events::wait(time::now().saturating_add(time::milliseconds(between)));
    }
    let echoes = talk.map_or(0, |talk| talk.returned);
    let longest = time::to_microseconds(tally.longest) / 1000;
    println!("{} answers, {echoes} echoes, {} new servers, longest pause {longest} ms", tally.answers, tally.news);
    Ok(())
}

fn one_call(client: &mut Client, tally: &mut Tally, label: u16, words: Words) -> Result<(), &'static str> {
    let [call, ..] = words;
    let end = if client.check().is_ok() { "had no answer" } else { "was not made" };
    match client.call(label, words) {
        Ok(answered) if answered == (label, answer(words)) => tally.answered(),
        Ok(_) => return Err("an answer is wrong"),
        Err(CallError::Peer(PeerError::PeerRestarted { generation })) => {
            println!("call {call} {end}: the server was started anew: generation {generation}");
            // Until that is acknowledged nothing reaches the new one.
            let refused = CallError::Peer(PeerError::PeerRestarted { generation });
            match client.call(label, words) {
                Err(CallError::Peer(PeerError::PeerFailed)) => return Err("the server has failed"),
                // It may be another generation already.
                Err(CallError::Peer(_)) => {}
                other => {
                    println!("expected {refused:?}, got {other:?}");
                    return Err("a call reached a server that was not acknowledged");
                }
            }
            tally.server_is_new();
            client.acknowledge(generation);
        }
        Err(CallError::Peer(PeerError::PeerFailed)) => return Err("the server has failed"),
        // Init has stopped the server, but not started it anew: it is made to commit a fault.
        Err(CallError::Refused(Error::Gone)) => {
            println!("call {call} had no answer: the server has gone");
            tally.server_is_new();
        }
        Err(CallError::Refused(error)) => {
            println!("call {call} is refused: {error:?}");
            return Err("a call is refused");
        }
    }
    Ok(())
}
