//! Registers that a guest reaches by MSR number but that live in its `VcpuState`.

use bulkhead_abi::{StateGroups, VcpuState, segment};

/// A model-specific register that the hardware switches between guest and host.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum StateRegister {
    /// IA32_EFER: written by way of [`control`](super::control) alone.
    Efer,
    /// IA32_STAR.
    Star,
    /// IA32_LSTAR.
    Lstar,
    /// IA32_CSTAR.
    Cstar,
    /// IA32_FMASK.
    Fmask,
    /// IA32_FS_BASE.
    FsBase,
    /// IA32_GS_BASE.
    GsBase,
    /// IA32_KERNEL_GS_BASE.
    KernelGsBase,
    /// IA32_SYSENTER_CS.
    SysenterCs,
    /// IA32_SYSENTER_ESP.
    SysenterEsp,
    /// IA32_SYSENTER_EIP.
    SysenterEip,
    /// IA32_PAT.
    Pat,
}

impl StateRegister {
    /// The group that must be valid to read the register, and is dirty after a write.
    pub const fn group(self) -> StateGroups {
        match self {
            Self::Efer => StateGroups::CONTROL_REGISTERS,
            Self::FsBase | Self::GsBase => StateGroups::SEGMENTS,
            _ => StateGroups::SYSTEM_REGISTERS,
        }
    }

    /// The register's value in `state`.
    pub const fn read(self, state: &VcpuState) -> u64 {
        match self {
            Self::Efer => state.efer,
            Self::Star => state.star,
            Self::Lstar => state.lstar,
            Self::Cstar => state.cstar,
            Self::Fmask => state.fmask,
            Self::FsBase => state.segments[segment::FS].base,
            Self::GsBase => state.segments[segment::GS].base,
            Self::KernelGsBase => state.kernel_gs_base,
            Self::SysenterCs => state.sysenter_cs,
            Self::SysenterEsp => state.sysenter_esp,
            Self::SysenterEip => state.sysenter_eip,
            Self::Pat => state.pat,
        }
    }

    /// Sets the register's value in `state`, whose group must be valid, and marks the group dirty.
    pub fn write(self, state: &mut VcpuState, value: u64) {
        let register = match self {
            Self::Efer => &mut state.efer,
            Self::Star => &mut state.star,
            Self::Lstar => &mut state.lstar,
            Self::Cstar => &mut state.cstar,
            Self::Fmask => &mut state.fmask,
            Self::FsBase => &mut state.segments[segment::FS].base,
            Self::GsBase => &mut state.segments[segment::GS].base,
            Self::KernelGsBase => &mut state.kernel_gs_base,
            Self::SysenterCs => &mut state.sysenter_cs,
            Self::SysenterEsp => &mut state.sysenter_esp,
            Self::SysenterEip => &mut state.sysenter_eip,
            Self::Pat => &mut state.pat,
        };
        *register = value;
        state.dirty |= self.group().bits();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use zerocopy::FromZeros;

    #[test]
    fn write_marks_the_group() {
        let mut state = VcpuState::new_zeroed();
        StateRegister::GsBase.write(&mut state, 0xffff_8000_0000_0000);
        assert_eq!(state.segments[segment::GS].base, 0xffff_8000_0000_0000);
        assert_eq!(state.dirty, StateGroups::SEGMENTS.bits());
        assert_eq!(StateRegister::GsBase.read(&state), 0xffff_8000_0000_0000);
    }
}
