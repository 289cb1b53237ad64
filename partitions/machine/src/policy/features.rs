//! The feature bits that this machine stands behind, by the register of CPUID that shows them (SDM vol. 2, CPUID).
//!
//! Everything that is not named here is hidden: VMX, SMX, MONITOR/MWAIT, thermal and frequency control, performance counters,
//! debug store, transactional memory, SGX, processor trace, MPX, protection keys, CET, UMIP, RDPID.

/// Leaf 1, ECX.
pub mod basic_ecx {
    /// SSE3, PCLMULQDQ, SSSE3, CMPXCHG16B, SSE4.1, SSE4.2, MOVBE, POPCNT, AES, RDRAND: instructions without state of their own.
    pub const INSTRUCTIONS: u32 =
        1 << 0 | 1 << 1 | 1 << 9 | 1 << 13 | 1 << 19 | 1 << 20 | 1 << 22 | 1 << 23 | 1 << 25 | 1 << 30;
    /// Process-context identifiers.
    pub const PCID: u32 = 1 << 17;
    /// x2APIC.
    pub const X2APIC: u32 = 1 << 21;
    /// The local APIC's timer has TSC-deadline mode.
    pub const TSC_DEADLINE: u32 = 1 << 24;
    /// XSAVE and XCR0.
    pub const XSAVE: u32 = 1 << 26;
    /// The operating system has enabled XSAVE (CR4.OSXSAVE).
    pub const OSXSAVE: u32 = 1 << 27;
    /// FMA, AVX, F16C: instructions of the AVX state.
    pub const AVX: u32 = 1 << 12 | 1 << 28 | 1 << 29;
    /// A hypervisor is present.
    pub const HYPERVISOR: u32 = 1 << 31;
}

/// Leaf 1, EDX.
pub mod basic_edx {
    /// The local APIC is enabled.
    pub const APIC: u32 = 1 << 9;
    /// More than one logical processor in the package.
    pub const HTT: u32 = 1 << 28;
    /// FPU, VME, DE, PSE, TSC, MSR, PAE, MCE, CX8, SEP, MTRR, PGE, MCA, CMOV, PAT, PSE-36, CLFSH, MMX, FXSR, SSE, SSE2, SS.
    pub const PASSED: u32 = 0x1ff
        | 1 << 11
        | 1 << 12
        | 1 << 13
        | 1 << 14
        | 1 << 15
        | 1 << 16
        | 1 << 17
        | 1 << 19
        | 1 << 23
        | 1 << 24
        | 1 << 25
        | 1 << 26
        | 1 << 27;
}

/// Leaf 7, subleaf 0, EBX.
pub mod structured_ebx {
    /// IA32_TSC_ADJUST.
    pub const TSC_ADJUST: u32 = 1 << 1;
    /// FSGSBASE, BMI1, FDP_EXCPTN_ONLY, SMEP, BMI2, ERMS, no FPU CS/DS, RDSEED, ADX, SMAP, CLFLUSHOPT, CLWB, SHA.
    pub const PASSED: u32 = 1 << 0
        | 1 << 3
        | 1 << 6
        | 1 << 7
        | 1 << 8
        | 1 << 9
        | 1 << 13
        | 1 << 18
        | 1 << 19
        | 1 << 20
        | 1 << 23
        | 1 << 24
        | 1 << 29;
    /// INVPCID.
    pub const INVPCID: u32 = 1 << 10;
    /// AVX2.
    pub const AVX: u32 = 1 << 5;
    /// AVX-512 F, DQ, IFMA, PF, ER, CD, BW, VL.
    pub const AVX512: u32 = 1 << 16 | 1 << 17 | 1 << 21 | 1 << 26 | 1 << 27 | 1 << 28 | 1 << 30 | 1 << 31;
}

/// Leaf 7, subleaf 0, ECX.
pub mod structured_ecx {
    /// GFNI.
    pub const PASSED: u32 = 1 << 8;
    /// VAES, VPCLMULQDQ.
    pub const AVX: u32 = 1 << 9 | 1 << 10;
    /// AVX-512 VBMI, VBMI2, VNNI, BITALG, VPOPCNTDQ.
    pub const AVX512: u32 = 1 << 1 | 1 << 6 | 1 << 11 | 1 << 12 | 1 << 14;
}

/// Leaf 7, subleaf 0, EDX.
pub mod structured_edx {
    /// Fast short REP MOV; VERW clears buffers.
    pub const PASSED: u32 = 1 << 4 | 1 << 10;
    /// AVX-512 4VNNIW, 4FMAPS, VP2INTERSECT.
    pub const AVX512: u32 = 1 << 2 | 1 << 3 | 1 << 8;
    /// IBRS and IBPB.
    pub const IBRS: u32 = 1 << 26;
    /// Single-thread indirect branch predictors.
    pub const STIBP: u32 = 1 << 27;
    /// Speculative store bypass disable.
    pub const SSBD: u32 = 1 << 31;
}

/// Leaf 0x8000_0001.
pub mod extended {
    /// ECX: LAHF in 64-bit mode, LZCNT, PREFETCHW.
    pub const PASSED_ECX: u32 = 1 << 0 | 1 << 5 | 1 << 8;
    /// EDX: SYSCALL, NX, 1-GiB pages, long mode.
    pub const PASSED_EDX: u32 = SYSCALL | NO_EXECUTE | 1 << 26 | LONG_MODE;
    /// EDX: SYSCALL and SYSRET.
    pub const SYSCALL: u32 = 1 << 11;
    /// EDX: no-execute pages.
    pub const NO_EXECUTE: u32 = 1 << 20;
    /// EDX: RDTSCP.
    pub const RDTSCP: u32 = 1 << 27;
    /// EDX: long mode.
    pub const LONG_MODE: u32 = 1 << 29;
}

/// Leaf 0x8000_0007, EDX: the TSC runs at a constant rate in every state.
pub const INVARIANT_TSC: u32 = 1 << 8;
