//! Call, reply and receive, signal, wait.

use super::serve;
use crate::arch::cpu::{self, Cpu};
use crate::object::endpoint::Endpoint;
use crate::object::notification::Notification;
use crate::object::thread::{State, Thread};
use crate::object::{engine, lookup};
use crate::schedule;
use bulkhead_abi::{Error, MESSAGE_WORDS, MessageInfo, Rights, SIGNAL_BADGE, Syscall};
use bulkhead_core::phys::Ref;

/// The part of a message info that the receiver sees when no capability came.
const LABEL: u64 = 0xffff_ffff;

/// `Call`: hand the message to the server that waits, or queue.
pub extern "C" fn call(slot: u64, info: u64, w0: u64, w1: u64, w2: u64, w3: u64) -> Ref<Thread> {
    serve(|cpu, thread| {
        let (endpoint, badge) = endpoint_here(cpu, thread, slot, Rights::CALL)?;
        let words = [w0, w1, w2, w3];
        if endpoint.worst_case.get() != 0 && postpone(thread, endpoint, slot, info, words) {
            return Ok(schedule::next(cpu));
        }
        let Some(server) = endpoint.receiver.get() else {
            return Ok(queue(thread, endpoint, badge, slot, info, words));
        };
        let info = passed(thread, server, info)?;
        // Nothing can fail from here.
        endpoint.receiver.set(None);
        server.endpoint.set(None);
        server.caller.set(Some(thread));
        server.payer.set(thread.payer.get());
        thread.server.set(Some(server));
        thread.state.set(State::AwaitingReply);
        server.set_message(badge, info, words);
        Ok(schedule::hand_over(cpu, server))
    })
}

/// The endpoint of this processor that a slot names, and the capability's badge.
#[inline(always)]
fn endpoint_here(cpu: &Cpu, thread: Ref<Thread>, slot: u64, right: Rights) -> Result<(Ref<Endpoint>, u64), Error> {
    let found = lookup::<Endpoint>(thread, slot, right)?;
    if found.0.cpu.get() == cpu.number.get() { Ok(found) } else { Err(Error::WrongCpu) }
}

/// Has a call happen again in the next slot of the caller's window, if it could take longer than this one lasts.
#[cold]
fn postpone(caller: Ref<Thread>, endpoint: Ref<Endpoint>, slot: u64, info: u64, words: [u64; MESSAGE_WORDS]) -> bool {
    let is_late = schedule::await_room(caller, endpoint.worst_case.get().into());
    if is_late {
        let [w0, w1, w2, w3] = words;
        caller.restart_syscall(Syscall::Call, [slot, info, w0, w1, w2, w3]);
    }
    is_late
}

#[cold]
fn queue(
    thread: Ref<Thread>,
    endpoint: Ref<Endpoint>,
    badge: u64,
    slot: u64,
    info: u64,
    words: [u64; MESSAGE_WORDS],
) -> Ref<Thread> {
    thread.set_message(slot, info, words);
    thread.badge.set(badge);
    thread.endpoint.set(Some(endpoint));
    thread.state.set(State::Calling);
    endpoint.callers.push_back(thread);
    schedule::next(cpu::this())
}

/// `ReplyReceive`.
pub extern "C" fn reply_receive(slot: u64, info: u64, w0: u64, w1: u64, w2: u64, w3: u64) -> Ref<Thread> {
    serve(|cpu, thread| {
        let (endpoint, _) = endpoint_here(cpu, thread, slot, Rights::RECEIVE)?;
        Error::WrongState.when(endpoint.receiver.get().is_some())?;
        let client = thread.caller.get();
        if let Some(client) = client {
            let info = passed(thread, client, info)?;
            // Nothing can fail from here.
            thread.caller.set(None);
            client.server.set(None);
            client.set_message(0, info, [w0, w1, w2, w3]);
        }
        let bound = thread.bound_notification();
        if endpoint.callers.is_empty() && bound.is_none_or(|notification| notification.bits.get() == 0) {
            thread.payer.set(Some(thread));
            receive_later(thread, endpoint);
            return Ok(client.map_or_else(|| schedule::next(cpu), |client| schedule::hand_over(cpu, client)));
        }
        if let Some(client) = client {
            client.state.set(State::Ready);
            schedule::make_ready(client);
        }
        Ok(receive_now(thread, endpoint, bound))
    })
}

/// Makes the server wait for a message.
#[inline(always)]
fn receive_later(thread: Ref<Thread>, endpoint: Ref<Endpoint>) {
    endpoint.receiver.set(Some(thread));
    thread.endpoint.set(Some(endpoint));
    thread.state.set(State::Receiving);
}

/// Gives the server what waits already: signals first, since they are the ones with deadlines.
#[cold]
fn receive_now(thread: Ref<Thread>, endpoint: Ref<Endpoint>, bound: Option<Ref<Notification>>) -> Ref<Thread> {
    let cpu = cpu::this();
    schedule::set_payer(thread, Some(thread));
    if let Some(notification) = bound.filter(|notification| notification.bits.get() != 0) {
        thread.set_message(SIGNAL_BADGE, 0, [notification.bits.take(), 0, 0, 0]);
        return schedule::next(cpu);
    }
    while let Some(client) = endpoint.callers.pop_front() {
        client.endpoint.set(None);
        let (slot, info, words) = client.message();
        if endpoint.worst_case.get() != 0 && postpone(client, endpoint, slot, info, words) {
            continue;
        }
        let info = match passed(client, thread, info) {
            Ok(info) => info,
            Err(error) => {
                client.set_status(Err(error));
                schedule::wake(client);
                continue;
            }
        };
        client.state.set(State::AwaitingReply);
        client.server.set(Some(thread));
        thread.caller.set(Some(client));
        schedule::set_payer(thread, client.payer.get());
        thread.set_message(client.badge.get(), info, words);
        return schedule::next(cpu);
    }
    // All callers were refused, or have to wait: receive as if there had been none.
    receive_later(thread, endpoint);
    schedule::next(cpu)
}

/// The message info that the receiver sees: a label, and the slot of the capability that goes with it, if one does.
#[inline(always)]
fn passed(from: Ref<Thread>, to: Ref<Thread>, info: u64) -> Result<u64, Error> {
    if info <= LABEL { Ok(info) } else { transfer(from, to, info) }
}

/// Derives the capability that goes with a message into the receiver's slot. Returns the info that the receiver sees.
#[cold]
fn transfer(from: Ref<Thread>, to: Ref<Thread>, info: u64) -> Result<u64, Error> {
    let slot = MessageInfo(info).capability().ok_or(Error::BadArgument)?;
    let source = from.table.get().ok_or(Error::Gone)?.lookup(u64::from(slot))?;
    let receive_slot = to.receive_slot.get().checked_sub(1).ok_or(Error::SlotOccupied)?;
    let table = to.table.get().ok_or(Error::Gone)?;
    engine().derive(source, Rights::all(), 0, table, receive_slot)?;
    Ok(MessageInfo(info & LABEL).with_capability(receive_slot as u16).0)
}

/// A caller goes away before the reply: its server goes on on its own account.
pub fn forget_caller(server: Ref<Thread>, caller: Ref<Thread>) {
    if server.caller.get() != Some(caller) {
        return;
    }
    server.caller.set(None);
    let mut serving = Some(server);
    while let Some(thread) = serving {
        schedule::set_payer(thread, Some(server));
        serving = thread.server.get();
    }
}

/// A server goes away, or starts anew, before its reply: its caller is told.
pub fn dismiss_caller(server: Ref<Thread>) {
    if let Some(client) = server.caller.get() {
        forget_caller(server, client);
        client.server.set(None);
        client.set_status(Err(Error::Gone));
        schedule::wake(client);
    }
}

/// `Signal`.
pub extern "C" fn signal(slot: u64, bits: u64, _: u64, _: u64, _: u64, _: u64) -> Ref<Thread> {
    serve(|cpu, thread| {
        let (notification, badge) = lookup::<Notification>(thread, slot, Rights::SIGNAL)?;
        thread.set_status(Ok(()));
        let allowed = if badge == 0 { bits } else { bits & badge };
        notification.signal(if allowed == 0 { badge } else { allowed });
        Ok(schedule::next(cpu))
    })
}

/// `Wait`.
pub extern "C" fn wait(slot: u64, deadline: u64, _: u64, _: u64, _: u64, _: u64) -> Ref<Thread> {
    serve(|cpu, thread| {
        let (notification, _) = lookup::<Notification>(thread, slot, Rights::WAIT)?;
        Notification::wait(notification, thread, deadline)?;
        Ok(schedule::next(cpu))
    })
}
