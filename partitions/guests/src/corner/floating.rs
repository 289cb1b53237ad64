//! #NM, #MF and #XM (SDM vol. 3, 2.5 and table 2-2; vol. 1, 8.7 and 11.5).

use super::bits::{CR0_EM, CR0_MP, CR0_NE, CR0_TS, CR4_OSFXSR, CR4_OSXMMEXCPT, MF, NM, UD, XM};
use super::checks::Checks;
use super::memory;
use super::registers;
use super::run::Run;
use super::run::register::RDI;
use crate::code;

pub fn run(checks: &mut Checks) {
    let (cr0, cr4) = (registers::cr0(), registers::cr4());
    let plain = cr0 & !(CR0_EM | CR0_TS) | CR0_MP | CR0_NE;
    registers::set_cr4(cr4 | CR4_OSFXSR | CR4_OSXMMEXCPT);

    registers::set_cr0(plain | CR0_TS);
    checks.raises("x87 with TS", Run::new(code!("nop"; "fninit")), NM, 0);
    checks.raises("SSE with TS", Run::new(code!("nop"; "xorps xmm0, xmm0")), NM, 0);
    checks.raises("FWAIT with TS and MP", Run::new(code!("nop"; "fwait")), NM, 0);
    checks.passes("CLTS, then x87", Run::new(code!("clts", "fninit")));
    registers::set_cr0(plain & !CR0_MP | CR0_TS);
    checks.passes("FWAIT with TS without MP", Run::new(code!("fwait")));
    registers::set_cr0(plain | CR0_EM);
    checks.raises("x87 with EM", Run::new(code!("nop"; "fninit")), NM, 0);
    checks.raises("SSE with EM", Run::new(code!("nop"; "xorps xmm0, xmm0")), UD, 0);
    registers::set_cr0(plain);
    checks.passes("x87", Run::new(code!("fninit")));

    // Control word: all exceptions masked but division by zero. The exception comes with the next x87 instruction that waits.
    let scratch = memory::frame(0);
    memory::write_u64(scratch, 0x037b);
    let division =
        Run::new(code!("fninit", "fldcw [rdi]", "fld1", "fldz", "fdivp st(1), st"; "fwait")).with(RDI, scratch);
    checks.raises("x87 division by zero", division, MF, 0);
    checks.passes("after FNINIT", Run::new(code!("fninit", "fwait")));

    // MXCSR: the same.
    memory::write_u64(scratch, 0x1d80);
    memory::write_u64(scratch + 8, 0x3f80_0000);
    let division = Run::new(code!("ldmxcsr [rdi]", "xorps xmm1, xmm1", "movss xmm0, [rdi + 8]"; "divss xmm0, xmm1"));
    checks.raises("SSE division by zero", division.with(RDI, scratch), XM, 0);
    registers::set_cr4(cr4 & !CR4_OSXMMEXCPT | CR4_OSFXSR);
    checks.raises("the same without OSXMMEXCPT", division.with(RDI, scratch), UD, 0);
    memory::write_u64(scratch, 0x1f80);
    checks.passes("MXCSR as after reset", Run::new(code!("ldmxcsr [rdi]")).with(RDI, scratch));
    memory::write_u64(scratch, 0xffff_ffff);
    checks.raises("reserved bits of MXCSR", Run::new(code!("nop"; "ldmxcsr [rdi]")).with(RDI, scratch), 13, 0);
    registers::set_cr4(cr4 & !CR4_OSFXSR);
    checks.raises("SSE without OSFXSR", Run::new(code!("nop"; "xorps xmm0, xmm0")), UD, 0);
    registers::set_cr0(cr0);
    registers::set_cr4(cr4);
}
