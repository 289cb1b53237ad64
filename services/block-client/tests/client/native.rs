//! A client that puts its data into the buffers itself.

use crate::drive::Machine;
use crate::{Server, Share};
use bulkhead_block_client::{BlockClient, DEPTH, Doorbell};
use bulkhead_driver::{Command, CommandError, Completion, SECTOR, SubmitError};
use proptest::prelude::*;

/// Sectors of each client's disk.
const SECTORS: u64 = 96;

fn ends<B: Doorbell>(client: &mut BlockClient<'_, B>) -> Vec<(u16, Completion)> {
    let mut ends = Vec::new();
    client.poll(&mut |tag, end| ends.push((tag, end)));
    ends
}

/// Brings a client to where it can do something.
fn start(client: &mut BlockClient<'_, impl Doorbell>, server: &mut Server) {
    for _ in 0..4 {
        server.work();
        assert!(ends(client).is_empty());
    }
    assert!(client.information().is_some() && !client.is_dead());
}

/// One command from beginning to end.
fn alone(client: &mut BlockClient<'_, impl Doorbell>, server: &mut Server, command: Command) -> Completion {
    client.submit(0, command).unwrap();
    server.finish();
    let ends = ends(client);
    assert_eq!(ends.len(), 1, "{ends:?}");
    assert_eq!(ends[0].0, 0);
    ends[0].1
}

#[test]
fn what_the_service_offers_is_what_the_client_has() {
    let machine = Machine::new();
    let share = Share::new(&machine, 8, SECTORS, false);
    let mut client = share.client();
    assert!(client.information().is_none());
    // Before the service is there, commands wait.
    client.submit(3, Command::Flush).unwrap();
    assert_eq!(client.submit(3, Command::Flush), Err(SubmitError::Busy));
    assert_eq!(client.submit(DEPTH, Command::Flush), Err(SubmitError::Busy));
    assert_eq!(client.submit(4, Command::Read { first_sector: 0, sectors: 129 }), Err(SubmitError::Length));
    let mut server = Server::new(&machine, &[share]);
    let mut all = Vec::new();
    for _ in 0..4 {
        server.finish();
        all.extend(ends(&mut client));
    }
    assert_eq!(all, [(3, Ok(()))]);
    let information = client.information().unwrap();
    assert_eq!((information.sectors, information.logical_block_size, information.physical_exponent), (SECTORS, 512, 3));
    assert_eq!((information.depth, information.queues, information.command_bytes), (DEPTH, 2, 65536));
    assert!(information.flush);
    assert_eq!(information.discard.map(|limits| (limits.sectors, limits.granularity)), Some((64, 8)));
    assert_eq!(information.write_zeroes.map(|limits| limits.sectors), Some(64));
}

#[test]
fn nothing_outside_the_range_is_reached() {
    let machine = Machine::new();
    machine.medium.borrow_mut().fill(0x77);
    let shares = [Share::new(&machine, 8, SECTORS, false), Share::new(&machine, 8 + SECTORS, SECTORS, true)];
    let mut server = Server::new(&machine, &shares);
    let [mut client, mut reader] = shares.map(|share| share.client());
    start(&mut client, &mut server);
    start(&mut reader, &mut server);
    for first_sector in [SECTORS, SECTORS - 1, u64::MAX, u64::MAX - 1, 1 << 55] {
        for command in [
            Command::Read { first_sector, sectors: 2 },
            Command::Write { first_sector, sectors: 2 },
            Command::WriteZeroes { first_sector, sectors: 2, unmap: true },
            Command::Discard { first_sector, sectors: 2 },
        ] {
            assert_eq!(alone(&mut client, &mut server, command), Err(CommandError::Drive), "{command:?}");
        }
    }
    let (read, write) = (Command::Read { first_sector: 0, sectors: 1 }, Command::Write { first_sector: 0, sectors: 1 });
    assert_eq!(alone(&mut reader, &mut server, write), Err(CommandError::Drive));
    assert_eq!(alone(&mut reader, &mut server, read), Ok(()));
    assert_eq!(alone(&mut client, &mut server, write), Ok(()));
    let expected: Vec<u8> =
        (0..machine.medium.borrow().len() as u64).map(|at| if at / SECTOR == 8 { 0 } else { 0x77 }).collect();
    assert!(*machine.medium.borrow() == expected);
}

#[test]
fn another_disk_in_the_next_life_is_refused_until_the_first_is_back() {
    let machine = Machine::new();
    let share = Share::new(&machine, 8, SECTORS, false);
    let mut server = Server::new(&machine, std::slice::from_ref(&share));
    let mut client = share.client();
    start(&mut client, &mut server);
    client.submit(1, Command::Flush).unwrap();
    server.shares[0].range.sectors -= 1;
    server.restart();
    let mut all = Vec::new();
    for _ in 0..3 {
        server.work();
        all.extend(ends(&mut client));
    }
    assert_eq!(all, [(1, Err(CommandError::Dead))]);
    assert!(client.is_dead());
    assert_eq!(client.submit(1, Command::Flush), Err(SubmitError::Busy));
    server.shares[0].range.sectors += 1;
    server.restart();
    start(&mut client, &mut server);
    assert_eq!(alone(&mut client, &mut server, Command::Flush), Ok(()));
}

/// What happens next.
#[derive(Clone, Copy, Debug)]
enum Step {
    /// A client writes or reads sectors.
    Submit { client: usize, first: u64, sectors: u32, write: bool },
    /// The service works, and its drive does one of its commands.
    Work { which: usize, execute: bool, interrupt: bool },
    /// A client looks.
    Poll(usize),
    /// The service ends, and is started anew.
    Restart,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let submit = (0..2usize, 0..SECTORS, 1..=16u32, any::<bool>())
        .prop_map(|(client, first, sectors, write)| Step::Submit { client, first, sectors, write });
    let work = (0..6usize, any::<bool>(), any::<bool>()).prop_map(|(which, execute, interrupt)| Step::Work {
        which,
        execute,
        interrupt,
    });
    proptest::collection::vec(
        prop_oneof![4 => submit, 4 => work, 3 => (0..2usize).prop_map(Step::Poll), 1 => Just(Step::Restart)],
        1..120,
    )
}

/// A client, what its disk should hold, and what it waits for.
struct Side {
    client: BlockClient<'static, crate::Bell>,
    model: Vec<u8>,
    open: Vec<(u16, u64, u32, bool)>,
}

impl Side {
    fn submit(&mut self, number: u8, first: u64, sectors: u32, write: bool) {
        let sectors = sectors.min((SECTORS - first) as u32);
        let end = first + u64::from(sectors);
        // Sectors under way are left alone: their contents are open.
        let free = self.open.iter().all(|(_, other, count, _)| end <= *other || other + u64::from(*count) <= first);
        let Some(tag) = (0..DEPTH).find(|tag| self.client.is_free(*tag)).filter(|_| free) else { return };
        let buffer = self.client.buffer(tag).unwrap();
        let length = sectors as usize * SECTOR as usize;
        let data: Vec<u8> = (0..length).map(|at| (at / 3) as u8 ^ number).collect();
        assert!(buffer.write(0, &data));
        let command = if write {
            self.model[first as usize * 512..][..length].copy_from_slice(&data);
            Command::Write { first_sector: first, sectors }
        } else {
            Command::Read { first_sector: first, sectors }
        };
        self.client.submit(tag, command).unwrap();
        self.open.push((tag, first, sectors, write));
    }

    fn poll(&mut self) {
        for (tag, end) in ends(&mut self.client) {
            assert_eq!(end, Ok(()));
            let place = self.open.iter().position(|one| one.0 == tag).expect("an end of nothing, or the second one");
            let (_, first, sectors, write) = self.open.swap_remove(place);
            if !write {
                let mut data = vec![0; sectors as usize * 512];
                assert!(self.client.buffer(tag).unwrap().read(0, &mut data));
                assert!(data == self.model[first as usize * 512..][..data.len()], "sectors {first}, {sectors}");
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, ..ProptestConfig::default() })]

    /// Whenever the service ends, each command ends once, and reads give what was written last.
    #[test]
    fn no_command_is_lost_whenever_the_service_ends(steps in steps()) {
        let machine = Machine::new();
        let shares = [Share::new(&machine, 8, SECTORS, false), Share::new(&machine, 8 + SECTORS, SECTORS, false)];
        let mut server = Server::new(&machine, &shares);
        let mut sides = shares.map(|share| {
            let model = vec![0; (SECTORS * SECTOR) as usize];
            Side { client: share.client(), model, open: Vec::new() }
        });
        for (number, step) in steps.into_iter().enumerate() {
            match step {
                Step::Submit { client, first, sectors, write } => {
                    sides[client].submit(number as u8, first, sectors, write);
                }
                Step::Work { which, execute, interrupt } => {
                    let _ = server.service.work();
                    let pending = machine.pending.borrow().len();
                    if execute && pending != 0 {
                        machine.execute(which % pending);
                    }
                    if interrupt && machine.interrupts() {
                        server.service.on_interrupt();
                    }
                }
                Step::Poll(client) => sides[client].poll(),
                Step::Restart => server.restart(),
            }
        }
        for _ in 0..8 {
            server.finish();
            sides.iter_mut().for_each(Side::poll);
        }
        for (number, side) in sides.iter().enumerate() {
            prop_assert!(side.open.is_empty(), "{:?} lost", side.open);
            let start = (8 + number * SECTORS as usize) * 512;
            prop_assert!(machine.medium.borrow()[start..][..side.model.len()] == side.model);
        }
    }
}
