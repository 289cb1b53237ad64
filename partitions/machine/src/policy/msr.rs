//! What RDMSR and WRMSR do, for the registers that are not passed through.

use super::GeneralProtection;
use super::cpuid::CpuidTable;
use super::features::{basic_ecx, extended, structured_edx};
use super::listed::{MsrRules, ReadRule, WriteRule};
use super::mtrr::MemoryTypes;
use super::state::StateRegister;
use crate::devices::lapic::{LapicEffect, LocalApic};
use crate::memory::LOW_LIMIT;

/// Numbers of the registers (SDM vol. 4, table 2-2).
mod number {
    pub const P5_MC_ADDRESS: u32 = 0x000;
    pub const P5_MC_TYPE: u32 = 0x001;
    pub const TSC: u32 = 0x010;
    pub const PLATFORM_ID: u32 = 0x017;
    pub const APIC_BASE: u32 = 0x01b;
    pub const EBL_CR_POWERON: u32 = 0x02a;
    pub const SMI_COUNT: u32 = 0x034;
    pub const FEATURE_CONTROL: u32 = 0x03a;
    pub const TSC_ADJUST: u32 = 0x03b;
    pub const SPEC_CTRL: u32 = 0x048;
    pub const PRED_CMD: u32 = 0x049;
    pub const BIOS_UPDATE_TRIGGER: u32 = 0x079;
    pub const BIOS_SIGNATURE: u32 = 0x08b;
    pub const PLATFORM_INFO: u32 = 0x0ce;
    pub const SYSENTER_CS: u32 = 0x174;
    pub const SYSENTER_ESP: u32 = 0x175;
    pub const SYSENTER_EIP: u32 = 0x176;
    pub const MCG_CAP: u32 = 0x179;
    pub const MCG_STATUS: u32 = 0x17a;
    pub const PERF_STATUS: u32 = 0x198;
    pub const MISC_ENABLE: u32 = 0x1a0;
    pub const DEBUG_CONTROL: u32 = 0x1d9;
    pub const LAST_BRANCH_FROM: u32 = 0x1db;
    pub const LAST_INTERRUPT_TO: u32 = 0x1de;
    pub const PAT: u32 = 0x277;
    pub const TSC_DEADLINE: u32 = 0x6e0;
    pub const X2APIC: u32 = 0x800;
    pub const X2APIC_LAST: u32 = 0x8ff;
    pub const EFER: u32 = 0xc000_0080;
    pub const STAR: u32 = 0xc000_0081;
    pub const LSTAR: u32 = 0xc000_0082;
    pub const CSTAR: u32 = 0xc000_0083;
    pub const FMASK: u32 = 0xc000_0084;
    pub const FS_BASE: u32 = 0xc000_0100;
    pub const GS_BASE: u32 = 0xc000_0101;
    pub const KERNEL_GS_BASE: u32 = 0xc000_0102;
    pub const TSC_AUX: u32 = 0xc000_0103;
}

/// IA32_MISC_ENABLE: fast strings, and neither branch trace store nor PEBS.
const MISC_ENABLE: u64 = 1 << 0 | 1 << 11 | 1 << 12;
/// IA32_FEATURE_CONTROL: locked, VMX off.
const FEATURE_CONTROL: u64 = 1;

/// The answer to RDMSR.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum MsrRead {
    /// This value.
    Value(u64),
    /// The value that the guest's `VcpuState` holds.
    State(StateRegister),
}

/// What WRMSR leads to outside this module.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum MsrWrite {
    /// Nothing.
    Done,
    /// This checked value goes into the guest's `VcpuState`.
    State(StateRegister, u64),
    /// IA32_EFER, to be checked with the control registers.
    Efer(u64),
    /// The local APIC acts.
    Apic(LapicEffect),
    /// IA32_APIC_BASE was written: the register page may be elsewhere, enabled or not.
    ApicBase,
    /// The guest's TSC is now this far (modulo 2^64) ahead of the machine's clock.
    TscOffset(u64),
    /// IA32_SPEC_CTRL changed: the kernel is to load it for the guest.
    SpeculationControl(u64),
    /// IA32_PRED_CMD: predictors are to be flushed.
    PredictionBarrier,
    /// IA32_TSC_AUX changed: the kernel is to load it for the guest.
    TscAux(u64),
}

/// The model-specific registers of one processor.
#[derive(Clone, Debug)]
pub struct ModelSpecificRegisters {
    tsc_offset: u64,
    tsc_adjust: u64,
    memory_types: MemoryTypes,
    misc_enable: u64,
    machine_check_status: u64,
    debug_control: u64,
    speculation_control: u64,
    tsc_aux: u64,
    /// TSC frequency in units of 100 MHz, where PLATFORM_INFO has it.
    platform_info: u64,
    microcode: u64,
    x2apic: bool,
    tsc_deadline: bool,
    rdtscp: bool,
    speculation_bits: u64,
    prediction_barrier: bool,
    /// What the guest's manifest says of single registers.
    rules: MsrRules,
}

impl ModelSpecificRegisters {
    /// The registers after reset, for a processor with the features in `table`. `microcode`: the revision that the guest is
    /// shown. `rules` count before everything else.
    pub fn new(table: &CpuidTable, tsc_hertz: u64, microcode: u32, rules: MsrRules) -> Self {
        let edx = table.structured_edx();
        let bit = |feature: u32, bit: u32| if edx & feature != 0 { 1 << bit } else { 0 };
        Self {
            tsc_offset: 0,
            tsc_adjust: 0,
            memory_types: MemoryTypes::new(LOW_LIMIT, table.physical_address_bits()),
            misc_enable: MISC_ENABLE,
            machine_check_status: 0,
            debug_control: 0,
            speculation_control: 0,
            tsc_aux: 0,
            platform_info: (tsc_hertz / 100_000_000).min(0xff) << 8,
            microcode: u64::from(microcode) << 32,
            x2apic: table.basic_ecx() & basic_ecx::X2APIC != 0,
            tsc_deadline: table.basic_ecx() & basic_ecx::TSC_DEADLINE != 0,
            rdtscp: table.extended_edx() & extended::RDTSCP != 0,
            speculation_bits: bit(structured_edx::IBRS, 0)
                | bit(structured_edx::STIBP, 1)
                | bit(structured_edx::SSBD, 2),
            prediction_barrier: edx & structured_edx::IBRS != 0,
            rules,
        }
    }

    /// What the guest's TSC is ahead of the machine's clock, modulo 2^64.
    pub const fn tsc_offset(&self) -> u64 {
        self.tsc_offset
    }

    /// RDMSR.
    pub fn read(&self, index: u32, apic: &mut LocalApic, now: u64) -> Result<MsrRead, GeneralProtection> {
        match self.rules.read(index) {
            ReadRule::Emulate => {}
            ReadRule::Deny => return Err(GeneralProtection),
            ReadRule::Constant(value) => return Ok(MsrRead::Value(value)),
        }
        let value = match index {
            number::TSC_DEADLINE if self.tsc_deadline => apic.tsc_deadline(),
            number::X2APIC..=number::X2APIC_LAST => {
                apic.read_x2apic(index - number::X2APIC, now).map_err(|_| GeneralProtection)?
            }
            number::TSC => now.wrapping_add(self.tsc_offset),
            number::TSC_ADJUST => self.tsc_adjust,
            number::APIC_BASE => apic.base(),
            number::FEATURE_CONTROL => FEATURE_CONTROL,
            number::SPEC_CTRL if self.speculation_bits != 0 => self.speculation_control,
            number::BIOS_SIGNATURE => self.microcode,
            number::PLATFORM_INFO => self.platform_info,
            number::MCG_STATUS => self.machine_check_status,
            number::MISC_ENABLE => self.misc_enable,
            number::DEBUG_CONTROL => self.debug_control,
            number::TSC_AUX if self.rdtscp => self.tsc_aux,
            // Nothing is behind these here: no machine-check bank, no SMI, no branch record, no frequency steps.
            number::P5_MC_ADDRESS
            | number::P5_MC_TYPE
            | number::PLATFORM_ID
            | number::EBL_CR_POWERON
            | number::SMI_COUNT
            | number::MCG_CAP
            | number::PERF_STATUS
            | number::LAST_BRANCH_FROM..=number::LAST_INTERRUPT_TO => 0,
            _ => match state_register(index) {
                Some(register) => return Ok(MsrRead::State(register)),
                None => self.memory_types.read(index).ok_or(GeneralProtection)?,
            },
        };
        Ok(MsrRead::Value(value))
    }

    /// WRMSR.
    pub fn write(
        &mut self,
        index: u32,
        value: u64,
        apic: &mut LocalApic,
        now: u64,
    ) -> Result<MsrWrite, GeneralProtection> {
        match self.rules.write(index) {
            WriteRule::Emulate => {}
            WriteRule::Deny => return Err(GeneralProtection),
            WriteRule::Ignore => return Ok(MsrWrite::Done),
        }
        match index {
            number::TSC_DEADLINE if self.tsc_deadline => apic.set_tsc_deadline(value, now),
            number::X2APIC..=number::X2APIC_LAST => {
                let effect = apic.write_x2apic(index - number::X2APIC, value, now).map_err(|_| GeneralProtection)?;
                return Ok(MsrWrite::Apic(effect));
            }
            number::TSC => {
                let delta = value.wrapping_sub(now.wrapping_add(self.tsc_offset));
                return Ok(self.move_tsc(delta, apic, now));
            }
            number::TSC_ADJUST => {
                let delta = value.wrapping_sub(self.tsc_adjust);
                return Ok(self.move_tsc(delta, apic, now));
            }
            number::APIC_BASE => {
                apic.write_base(value, self.x2apic).map_err(|_| GeneralProtection)?;
                return Ok(MsrWrite::ApicBase);
            }
            number::SPEC_CTRL if self.speculation_bits != 0 && value & !self.speculation_bits == 0 => {
                self.speculation_control = value;
                return Ok(MsrWrite::SpeculationControl(value));
            }
            number::PRED_CMD if self.prediction_barrier && value & !1 == 0 => {
                return Ok(if value == 1 { MsrWrite::PredictionBarrier } else { MsrWrite::Done });
            }
            number::TSC_AUX if self.rdtscp && value >> 32 == 0 => {
                self.tsc_aux = value;
                return Ok(MsrWrite::TscAux(value));
            }
            // Only the fast-string enable is the guest's; the rest tells what this processor lacks.
            number::MISC_ENABLE => self.misc_enable = self.misc_enable & !1 | value & 1,
            number::MCG_STATUS if value == 0 => self.machine_check_status = 0,
            // Branch stepping is accepted, since kernels set it together with the trap flag, and does nothing.
            number::DEBUG_CONTROL if value & !3 == 0 => self.debug_control = value,
            // A microcode update that is not for this processor is ignored by real ones, too.
            number::BIOS_UPDATE_TRIGGER | number::BIOS_SIGNATURE => {}
            number::P5_MC_ADDRESS | number::P5_MC_TYPE if value == 0 => {}
            number::EFER => return Ok(MsrWrite::Efer(value)),
            _ => match state_register(index) {
                Some(register) if is_valid(register, value) => {
                    return Ok(MsrWrite::State(register, value));
                }
                Some(_) => return Err(GeneralProtection),
                None => self.memory_types.write(index, value).unwrap_or(Err(GeneralProtection))?,
            },
        }
        Ok(MsrWrite::Done)
    }

    fn move_tsc(&mut self, delta: u64, apic: &mut LocalApic, now: u64) -> MsrWrite {
        self.tsc_adjust = self.tsc_adjust.wrapping_add(delta);
        self.tsc_offset = self.tsc_offset.wrapping_add(delta);
        apic.set_tsc_offset(self.tsc_offset, now);
        MsrWrite::TscOffset(self.tsc_offset)
    }
}

const fn state_register(index: u32) -> Option<StateRegister> {
    Some(match index {
        number::EFER => StateRegister::Efer,
        number::STAR => StateRegister::Star,
        number::LSTAR => StateRegister::Lstar,
        number::CSTAR => StateRegister::Cstar,
        number::FMASK => StateRegister::Fmask,
        number::FS_BASE => StateRegister::FsBase,
        number::GS_BASE => StateRegister::GsBase,
        number::KERNEL_GS_BASE => StateRegister::KernelGsBase,
        number::SYSENTER_CS => StateRegister::SysenterCs,
        number::SYSENTER_ESP => StateRegister::SysenterEsp,
        number::SYSENTER_EIP => StateRegister::SysenterEip,
        number::PAT => StateRegister::Pat,
        _ => return None,
    })
}

fn is_valid(register: StateRegister, value: u64) -> bool {
    match register {
        StateRegister::Star | StateRegister::SysenterCs | StateRegister::Efer => true,
        StateRegister::Fmask => value >> 32 == 0,
        StateRegister::Pat => value.to_le_bytes().iter().all(|byte| matches!(byte, 0 | 1 | 4..=7)),
        _ => is_canonical(value),
    }
}

/// Whether bits 63 to 47 are all alike.
const fn is_canonical(address: u64) -> bool {
    (address as i64) << 16 >> 16 == address as i64
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::cpuid::CpuidParameters;
    use crate::policy::listed::MsrRule;
    use crate::policy::withheld::Withheld;
    use proptest::prelude::*;

    fn registers(x2apic: bool, speculation_control: bool) -> (ModelSpecificRegisters, LocalApic) {
        registers_without(Withheld::default(), x2apic, speculation_control)
    }

    /// Registers are what the rules say, whether the model knows them or not, and as they were where they say nothing.
    #[test]
    fn rules_count_before_the_model() {
        let table = CpuidTable::new(&parameters(Withheld::default(), false, false), 0, |_, _| [u32::MAX; 4]);
        let reads = [ReadRule::Emulate, ReadRule::Deny, ReadRule::Constant(0x1234_5678_9abc_def0)];
        let writes = [WriteRule::Emulate, WriteRule::Deny, WriteRule::Ignore];
        // Known to the model: MISC_ENABLE, a variable memory type; unknown: ENERGY_PERF_BIAS.
        for index in [number::MISC_ENABLE, 0x200, 0x1b0] {
            for (read, write) in reads.iter().flat_map(|read| writes.map(|write| (*read, write))) {
                let rules = [MsrRule { number: index, read, write }].into_iter().collect();
                let mut msrs = ModelSpecificRegisters::new(&table, 2_000_000_000, 0x21, rules);
                let mut plain = ModelSpecificRegisters::new(&table, 2_000_000_000, 0x21, MsrRules::default());
                let mut apic = LocalApic::new(0, 0);
                let wrote = msrs.write(index, 6, &mut apic, 0);
                match write {
                    WriteRule::Emulate => assert_eq!(wrote, plain.write(index, 6, &mut apic, 0)),
                    WriteRule::Deny => assert_eq!(wrote, Err(GeneralProtection)),
                    WriteRule::Ignore => assert_eq!(wrote, Ok(MsrWrite::Done)),
                }
                let expected = match read {
                    ReadRule::Emulate => plain.read(index, &mut apic, 0),
                    ReadRule::Deny => Err(GeneralProtection),
                    ReadRule::Constant(value) => Ok(MsrRead::Value(value)),
                };
                assert_eq!(msrs.read(index, &mut apic, 0), expected);
                assert_eq!(msrs.read(0x2ff, &mut apic, 0), plain.read(0x2ff, &mut apic, 0), "what is not listed");
            }
        }
    }

    fn registers_without(
        withheld: Withheld,
        x2apic: bool,
        speculation_control: bool,
    ) -> (ModelSpecificRegisters, LocalApic) {
        let table = CpuidTable::new(&parameters(withheld, x2apic, speculation_control), 0, |_, _| [u32::MAX; 4]);
        let registers = ModelSpecificRegisters::new(&table, 2_000_000_000, 0x21, MsrRules::default());
        (registers, LocalApic::new(0, 0))
    }

    fn parameters(withheld: Withheld, x2apic: bool, speculation_control: bool) -> CpuidParameters {
        CpuidParameters {
            processors: 1,
            tsc_hertz: 2_000_000_000,
            xcr0_mask: 7,
            physical_address_bits: 40,
            x2apic,
            pcid: false,
            rdtscp: speculation_control,
            speculation_control,
            kvm_leaves: false,
            withheld,
        }
    }

    /// What CPUID does not show has no registers either.
    #[test]
    fn registers_of_withheld_features_fault() {
        const X2APIC_ENABLE: u64 = 0xfee0_0d00;
        let (mut msrs, mut apic) = registers(true, false);
        assert!(msrs.read(number::TSC_DEADLINE, &mut apic, 0).is_ok());
        assert!(msrs.write(number::APIC_BASE, X2APIC_ENABLE, &mut apic, 0).is_ok());
        let named = |name| Withheld::named(name).unwrap();
        let (mut msrs, mut apic) = registers_without(named("tsc-deadline"), true, false);
        assert_eq!(msrs.read(number::TSC_DEADLINE, &mut apic, 0), Err(GeneralProtection));
        assert_eq!(msrs.write(number::TSC_DEADLINE, 1, &mut apic, 0), Err(GeneralProtection));
        let (mut msrs, mut apic) = registers_without(named("x2apic"), true, false);
        assert_eq!(msrs.write(number::APIC_BASE, X2APIC_ENABLE, &mut apic, 0), Err(GeneralProtection));
    }

    #[test]
    fn unknown_registers_fault() {
        let (mut msrs, mut apic) = registers(false, false);
        for index in [0x3, 0x10a, 0x140, 0x17b, 0x345, 0x480, 0x48, 0x49, 0x80b, 0xda0, 0xc000_0103, 0xc001_0010] {
            assert_eq!(msrs.read(index, &mut apic, 0), Err(GeneralProtection), "{index:#x}");
            assert_eq!(msrs.write(index, 0, &mut apic, 0), Err(GeneralProtection), "{index:#x}");
        }
    }

    #[test]
    fn tsc_moves_and_the_deadline_with_it() {
        let (mut msrs, mut apic) = registers(false, false);
        apic.write_memory(0xf0, 0x1ff, 0);
        apic.write_memory(0x320, 0x400ec, 0);
        assert_eq!(msrs.write(0x10, 5000, &mut apic, 1000), Ok(MsrWrite::TscOffset(4000)));
        assert_eq!(msrs.read(0x3b, &mut apic, 1000), Ok(MsrRead::Value(4000)));
        assert_eq!(msrs.read(0x10, &mut apic, 1500), Ok(MsrRead::Value(5500)));
        assert_eq!(msrs.write(0x6e0, 6000, &mut apic, 1500), Ok(MsrWrite::Done));
        assert_eq!(apic.deadline(), 2000);
        assert_eq!(msrs.write(0x3b, 0, &mut apic, 1500), Ok(MsrWrite::TscOffset(0)));
        assert_eq!(apic.deadline(), 6000);
        assert_eq!(msrs.read(0x6e0, &mut apic, 1500), Ok(MsrRead::Value(6000)));
    }

    #[test]
    fn state_registers_are_checked() {
        let (mut msrs, mut apic) = registers(false, false);
        assert_eq!(msrs.read(0xc000_0082, &mut apic, 0), Ok(MsrRead::State(StateRegister::Lstar)));
        assert_eq!(
            msrs.write(0xc000_0082, 0xffff_ffff_8100_0000, &mut apic, 0),
            Ok(MsrWrite::State(StateRegister::Lstar, 0xffff_ffff_8100_0000))
        );
        assert_eq!(msrs.write(0xc000_0082, 1 << 47, &mut apic, 0), Err(GeneralProtection));
        assert_eq!(msrs.write(0x277, 0x0007_0406_0007_0402, &mut apic, 0), Err(GeneralProtection));
        assert!(msrs.write(0x277, 0x0007_0406_0007_0406, &mut apic, 0).is_ok());
        assert_eq!(msrs.write(0xc000_0080, 0x500, &mut apic, 0), Ok(MsrWrite::Efer(0x500)));
        assert_eq!(msrs.write(0xc000_0084, 1 << 32, &mut apic, 0), Err(GeneralProtection));
    }

    #[test]
    fn what_linux_touches_at_boot() {
        let (mut msrs, mut apic) = registers(false, false);
        assert_eq!(msrs.read(0x8b, &mut apic, 0), Ok(MsrRead::Value(0x21 << 32)));
        assert_eq!(msrs.write(0x8b, 0, &mut apic, 0), Ok(MsrWrite::Done));
        assert_eq!(msrs.read(0x1a0, &mut apic, 0), Ok(MsrRead::Value(0x1801)));
        assert_eq!(msrs.read(0x3a, &mut apic, 0), Ok(MsrRead::Value(1)));
        assert_eq!(msrs.read(0xce, &mut apic, 0), Ok(MsrRead::Value(20 << 8)));
        assert_eq!(msrs.read(0x179, &mut apic, 0), Ok(MsrRead::Value(0)));
        assert_eq!(msrs.read(0xfe, &mut apic, 0), Ok(MsrRead::Value(0x508)));
        assert_eq!(msrs.write(0x2ff, 0xc06, &mut apic, 0), Ok(MsrWrite::Done));
        assert_eq!(msrs.read(0x1b, &mut apic, 0), Ok(MsrRead::Value(0xfee0_0900)));
        assert_eq!(msrs.write(0x1b, 0xfee0_0d00, &mut apic, 0), Err(GeneralProtection));
    }

    #[test]
    fn x2apic_and_speculation_follow_cpuid() {
        let (mut msrs, mut apic) = registers(true, true);
        assert_eq!(msrs.write(0x1b, 0xfee0_0d00, &mut apic, 0), Ok(MsrWrite::ApicBase));
        assert_eq!(msrs.read(0x802, &mut apic, 0), Ok(MsrRead::Value(0)));
        assert!(matches!(msrs.write(0x830, 0x0c00_00fb, &mut apic, 0), Err(GeneralProtection)));
        assert!(matches!(msrs.write(0x830, 0x0008_00fb, &mut apic, 0), Ok(MsrWrite::Apic(LapicEffect::Send(_)))));
        assert_eq!(msrs.write(0x48, 1, &mut apic, 0), Ok(MsrWrite::SpeculationControl(1)));
        assert_eq!(msrs.write(0x48, 8, &mut apic, 0), Err(GeneralProtection));
        assert_eq!(msrs.write(0x49, 1, &mut apic, 0), Ok(MsrWrite::PredictionBarrier));
        assert_eq!(msrs.write(0xc000_0103, 7, &mut apic, 0), Ok(MsrWrite::TscAux(7)));
    }

    proptest! {
        #[test]
        fn any_access_is_survived(steps in proptest::collection::vec((any::<bool>(), 0u32..0xa00, any::<bool>(), any::<u64>()), 0..300)) {
            let (mut msrs, mut apic) = registers(true, true);
            for (write, index, high, value) in steps {
                let index = if high { 0xc000_0000 | index } else { index };
                if write {
                    let _ = msrs.write(index, value, &mut apic, value >> 8);
                } else {
                    let _ = msrs.read(index, &mut apic, value >> 8);
                }
            }
        }
    }
}
