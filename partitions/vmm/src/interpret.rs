//! Code that the hardware cannot run, on processors without unrestricted guests: real mode, and protected mode without paging.

use crate::exits::Devices;
use crate::guest::End;
use crate::monitor::{Activity, Monitor};
use alloc::boxed::Box;
use bulkhead_machine::interpret::{self, Environment, InstructionCache, Stopped};
use bulkhead_machine::policy::GeneralProtection;
use bulkhead_machine::policy::control::{ControlPolicy, cr4};
use bulkhead_machine::policy::msr::{MsrRead, MsrWrite};
use bulkhead_runtime::abi::{CpuFeatures, StateGroups, VcpuState};
use bulkhead_runtime::{events, println, time};

/// Instructions between two looks at time and mailbox.
const TURN: u32 = 1000;

impl Environment for Devices<'_> {
    fn control(&self) -> ControlPolicy {
        *self.machine.control()
    }

    fn cpuid(&mut self, state: &VcpuState, leaf: u32, subleaf: u32) -> [u32; 4] {
        self.by.set_extended_states(state.cr4 & cr4::OSXSAVE != 0, state.xcr0);
        self.by.cpuid(leaf, subleaf)
    }

    fn read_msr(&mut self, index: u32) -> Result<MsrRead, GeneralProtection> {
        self.by.read_msr(index, self.now)
    }

    fn write_msr(&mut self, index: u32, value: u64) -> Result<MsrWrite, GeneralProtection> {
        self.machine.write_msr(self.by, index, value, self.now)
    }

    fn time_stamp(&mut self) -> u64 {
        time::now()
    }

    fn attention(&self) -> bool {
        self.power.is_some()
    }
}

impl Monitor {
    /// What the processor does when it executes instructions.
    pub(crate) fn executing(&self) -> Activity {
        let hardware = self.guest.features.contains(CpuFeatures::UNRESTRICTED_GUEST);
        if !hardware && interpret::needed(self.processor.state()) { Activity::Interpreted } else { Activity::Running }
    }

    /// Executes instructions of the guest. Something if it ends the guest.
    #[cold]
    pub(crate) fn interpret(&mut self) -> Option<End> {
        // A processor that is interpreted for long is not interrupted by signals.
        events::live();
        self.require(StateGroups::all() - StateGroups::APIC - StateGroups::INTERRUPT_STATUS);
        let now = time::now();
        let mut devices = Devices { machine: &self.guest.machine, by: &mut self.model, now, power: None };
        let cache = self.instructions.get_or_insert_with(|| Box::new(InstructionCache::new()));
        let stopped = interpret::run(self.processor.state_mut(), &self.guest.ram, &mut devices, cache, TURN);
        let power = devices.power;
        self.driver_events();
        if now >= self.next_deadline() {
            self.timed();
        }
        self.activity = self.executing();
        match stopped {
            Stopped::Hardware | Stopped::Limit | Stopped::Attention | Stopped::Window => {}
            Stopped::Halted => self.activity = Activity::Halted,
            Stopped::Shutdown => {
                self.describe();
                return Some(End::Crashed("the guest crashed: triple fault"));
            }
            Stopped::Unsupported { bytes } => {
                println!("vmm: cannot interpret the instruction {bytes:02x?}");
                self.describe();
                return Some(End::Crashed("the guest used an instruction that is not interpreted"));
            }
        }
        power.map(End::from)
    }
}
