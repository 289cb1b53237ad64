//! Real mode.

use super::*;
use crate::emulate::registers::flags;

const TRAP: u64 = 1 << 8;
const INTERRUPTS: u64 = 1 << 9;

#[test]
fn words_do_not_wrap_at_64_kib() {
    // mov ax, [0xffff]
    let mut guest = Guest::real(&[0xa1, 0xff, 0xff]);
    guest.catch();
    assert_eq!(guest.caught(), 13);
    assert_eq!([guest.stacked_16(0), guest.stacked_16(1)], [CODE as u16, 0], "no error code");
    // mov ax, [bp], with the stack's segment
    let mut guest = Guest::real(&[0x8b, 0x46, 0x00]);
    guest.catch();
    guest.state.registers[register::RBP] = 0xffff;
    assert_eq!(guest.caught(), 12);
    // mov al, [bx + si]: the offset wraps, a byte fits anywhere
    let mut guest = Guest::real(&[0x8a, 0x00]);
    guest.memory.write(GuestPhysical(0x11), &[0x5a]).unwrap();
    guest.state.registers[RBX] = 0xfff0;
    guest.state.registers[RSI] = 0x21;
    guest.step(1);
    assert_eq!(guest.state.registers[RAX], 0x5a);
}

#[test]
fn address_line_20_is_on() {
    // mov ax, 0xffff; mov ds, ax; mov byte [0x10], 0x77
    let mut guest = Guest::real(&[0xb8, 0xff, 0xff, 0x8e, 0xd8, 0xc6, 0x06, 0x10, 0x00, 0x77]);
    guest.step(3);
    assert_eq!(guest.memory.bytes(0x10_0000, 1), [0x77]);
}

#[test]
fn code_ends_at_its_limit() {
    // jmp 0xffff, where a two-byte instruction does not fit
    let mut guest = Guest::real(&[0xe9, 0xfc, 0xed]);
    guest.memory.write(GuestPhysical(0xffff), &[0x89]).unwrap();
    guest.catch();
    guest.step(1);
    assert_eq!(guest.state.rip, 0xffff);
    assert_eq!(guest.caught(), 13);
    // A jump back to before 0: the target wraps.
    let mut guest = Guest::real(&[0xe9, 0xf9, 0xed]);
    guest.step(1);
    assert_eq!(guest.state.rip, 0xfffc);
    // A jump with 32-bit operands to beyond the limit.
    let mut guest = Guest::real(&[0x66, 0xe9, 0, 0, 1, 0]);
    guest.catch();
    assert_eq!(guest.caught(), 13);
    assert_eq!(guest.stacked_16(0), CODE as u16);
}

#[test]
fn pushes_at_the_edges_of_the_stack() {
    // push ax, with the stack pointer at 0: at the top of the segment
    let mut guest = Guest::real(&[0x50]);
    guest.state.rsp = 0xabcd_0000;
    guest.state.registers[RAX] = 0x1234;
    guest.step(1);
    assert_eq!((guest.state.rsp, guest.memory.bytes(0xfffe, 2)), (0xabcd_fffe, alloc::vec![0x34, 0x12]));
    // With the stack pointer at 1 the stack is broken, and no exception can be delivered either.
    let mut guest = Guest::real(&[0x50]);
    guest.catch();
    guest.state.rsp = 1;
    assert_eq!(guest.run(10), Stopped::Shutdown);
    assert_eq!(guest.state.rsp, 1);
}

#[test]
fn all_registers_are_pushed_and_popped() {
    // pusha; popa; pushad; popad
    let mut guest = Guest::real(&[0x60, 0x61, 0x66, 0x60, 0x66, 0x61]);
    for (index, value) in guest.state.registers.iter_mut().enumerate().take(8) {
        *value = 0x1_0001 * (index as u64 + 1);
    }
    let before = guest.state.registers;
    guest.step(1);
    let words: Vec<u16> = (0..8).map(|index| guest.stacked_16(index)).collect();
    assert_eq!(words, [8, 7, 6, STACK as u16, 4, 3, 2, 1]);
    guest.step(3);
    assert_eq!((guest.state.registers, guest.state.rsp), (before, STACK));
}

#[test]
fn interrupts_by_software() {
    // int 0x21; (handler) iret
    let mut guest = Guest::real(&[0xcd, 0x21]);
    guest.memory.write_u32(4 * 0x21, 0x0010_0020);
    guest.memory.write(GuestPhysical(0x120), &[0xcf]).unwrap();
    guest.state.rflags = 2 | INTERRUPTS | flags::CF | flags::AC;
    guest.step(1);
    let code = guest.state.segments[segment::CS];
    assert_eq!((code.selector, code.base, guest.state.rip), (0x10, 0x100, 0x20));
    assert_eq!(guest.state.rflags, 2 | flags::CF);
    assert_eq!([0, 1, 2].map(|index| guest.stacked_16(index)), [CODE as u16 + 2, 0, 0x203]);
    guest.step(1);
    assert_eq!((guest.state.rip, guest.state.segments[segment::CS].base), (CODE + 2, 0));
    assert_eq!(guest.state.rflags, 2 | INTERRUPTS | flags::CF);
    assert_eq!(guest.state.rsp, STACK);
}

#[test]
fn exceptions_point_at_their_instruction() {
    for (code, vector) in [
        (&[0xf7, 0xf1][..], 0),         // div cx, with 0
        (&[0x0f, 0x0b], 6),             // ud2
        (&[0x0f, 0x00, 0xd0], 6),       // lldt ax
        (&[0x0f, 0x02, 0xc0], 6),       // lar ax, ax
        (&[0x8e, 0xc8], 6),             // mov cs, ax
        (&[0xf0, 0x01, 0xc0], 6),       // lock add ax, ax
        (&[0xd4, 0x00], 0),             // aam 0
        (&[0x62, 0x06, 0x00, 0x20], 5), // bound ax, [0x2000]
        (&[0x0f, 0x33], 13),            // rdpmc
        (&[0x0f, 0x32], 13),            // rdmsr of an unknown register
        (&[0x0f, 0x01, 0xd0], 6),       // xgetbv without OSXSAVE
        (&[0x0f, 0x22, 0xe0], 13),      // mov cr4, eax with a reserved bit
    ] {
        let mut guest = Guest::real(code);
        guest.catch();
        guest.state.registers[RAX] = 1 << 30 | 7;
        assert_eq!(guest.caught(), vector, "{code:02x?}");
        assert_eq!(guest.stacked_16(0), CODE as u16, "{code:02x?}");
    }
}

#[test]
fn an_instruction_of_16_bytes_is_too_long() {
    let mut guest = Guest::real(&[0x2e; 16]);
    guest.catch();
    assert_eq!(guest.caught(), 13);
}

#[test]
fn interrupts_of_the_machine() {
    // sti; nop; nop
    let mut guest = Guest::real(&[0xfb, 0x90, 0x90]);
    guest.catch();
    guest.state.interrupt_window = 1;
    assert_eq!(guest.run(1), Stopped::Limit);
    assert_eq!(guest.state.interruptibility, 1, "not before the instruction behind STI");
    assert_eq!(guest.run(10), Stopped::Window);
    assert_eq!((guest.state.rip, guest.state.interruptibility), (CODE + 2, 0));
    guest.state.interrupt_window = 0;
    guest.inject(Arbitration::external(0x20));
    assert_eq!(guest.caught(), 0x20);
    assert_eq!([guest.stacked_16(0), guest.stacked_16(2)], [CODE as u16 + 2, 0x202]);
    assert_eq!(guest.state.dirty & StateGroups::INJECTION.bits(), 0);
}

#[test]
fn nmis_are_blocked_until_iret() {
    // nop; (handler) iret
    let mut guest = Guest::real(&[0x90, 0x90, 0x90]);
    guest.memory.write_u32(8, 0x2000);
    guest.memory.write(GuestPhysical(0x2000), &[0xcf]).unwrap();
    guest.inject(Arbitration::nmi());
    assert_eq!(guest.run(0), Stopped::Limit, "delivered, and nothing executed");
    assert_eq!((guest.state.rip, guest.state.interruptibility), (0x2000, 8));
    guest.state.nmi_window = 1;
    assert_eq!(guest.run(10), Stopped::Window);
    assert_eq!((guest.state.rip, guest.state.interruptibility), (CODE, 0));
}

#[test]
fn a_new_stack_is_loaded_in_peace() {
    // mov ss, ax; mov sp, 0x6000; nop
    let mut guest = Guest::real(&[0x8e, 0xd0, 0xbc, 0x00, 0x60, 0x90]);
    guest.catch();
    guest.state.rflags |= TRAP;
    guest.step(1);
    assert_eq!((guest.state.rip, guest.state.interruptibility), (CODE + 2, 2), "no trap either");
    assert_eq!(guest.caught(), 1);
    assert_eq!((guest.stacked_16(0), guest.state.rsp), (CODE as u16 + 5, 0x6000 - 6));
    assert_eq!(guest.state.rflags & TRAP, 0);
}

#[test]
fn a_fault_ends_the_shadow() {
    // sti; ud2
    let mut guest = Guest::real(&[0xfb, 0x0f, 0x0b]);
    guest.catch();
    assert_eq!(guest.run(2), Stopped::Limit);
    assert_eq!((guest.state.rip, guest.state.interruptibility), (HANDLERS + 16 * 6, 0));
    assert_eq!(guest.stacked_16(2), 0x202);
}

#[test]
fn single_steps() {
    // popf; nop; int 0x21
    let mut guest = Guest::real(&[0x9d, 0x90, 0xcd, 0x21]);
    guest.catch();
    guest.memory.write(GuestPhysical(STACK), &0x102u16.to_le_bytes()).unwrap();
    guest.step(1);
    assert_eq!(guest.state.rip, CODE + 1, "the instruction that sets TF is not trapped");
    assert_eq!(guest.caught(), 1);
    assert_eq!(guest.stacked_16(0), CODE as u16 + 2);
    guest.state.rip = CODE + 2;
    guest.state.rflags |= TRAP;
    assert_eq!(guest.caught(), 0x21, "the handler of INT runs on");
}

#[test]
fn big_real_mode_keeps_its_limits() {
    // mov eax, [ebx]; mov ds, cx; mov al, [ebx]
    let mut guest = Guest::real(&[0x67, 0x66, 0x8b, 0x03, 0x8e, 0xd9, 0x67, 0x8a, 0x03]);
    guest.state.segments[segment::DS].limit = u32::MAX;
    guest.state.segments[segment::DS].access = 0x8093;
    guest.state.registers[RBX] = 0x20_0000;
    guest.state.registers[RCX] = 0x1000;
    guest.memory.write_u32(0x20_0000, 0xdead_beef);
    guest.memory.write_u32(0x21_0000, 0x55);
    guest.step(3);
    assert_eq!(guest.state.registers[RAX], 0xdead_be55);
}

#[test]
fn far_transfers() {
    // call 0x20:0x30; (there) retf 2
    let mut guest = Guest::real(&[0x9a, 0x30, 0, 0x20, 0]);
    guest.memory.write(GuestPhysical(0x230), &[0xca, 2, 0]).unwrap();
    guest.step(1);
    assert_eq!((guest.state.segments[segment::CS].base, guest.state.rip), (0x200, 0x30));
    assert_eq!([guest.stacked_16(0), guest.stacked_16(1)], [CODE as u16 + 5, 0]);
    guest.step(1);
    assert_eq!((guest.state.rip, guest.state.rsp), (CODE + 5, STACK + 2));
    // jmp far [0x2000]; lds si, [0x2000]
    let mut guest = Guest::real(&[0xc5, 0x36, 0, 0x20, 0xff, 0x2e, 0, 0x20]);
    guest.memory.write_u32(0x2000, 0x0123_0045);
    guest.step(1);
    assert_eq!((guest.state.registers[RSI], guest.state.segments[segment::DS].base), (0x45, 0x1230));
    guest.state.segments[segment::DS].base = 0;
    guest.step(1);
    assert_eq!((guest.state.segments[segment::CS].selector, guest.state.rip), (0x123, 0x45));
}

#[test]
fn near_transfers_by_memory() {
    // call [0x2000]; (there) o32 jmp [0x2004]; (there) ret
    let mut guest = Guest::real(&[0xff, 0x16, 0, 0x20]);
    guest.memory.write_u64(0x2000, 0x3100_0000_3000);
    guest.memory.write(GuestPhysical(0x3000), &[0x66, 0xff, 0x26, 4, 0x20]).unwrap();
    guest.memory.write(GuestPhysical(0x3100), &[0xc3]).unwrap();
    guest.step(2);
    assert_eq!((guest.state.rip, guest.stacked_16(0)), (0x3100, CODE as u16 + 4));
    guest.step(1);
    assert_eq!(guest.state.rip, CODE + 4);
}

#[test]
fn memory_is_changed_in_place() {
    // add [bx], ax; xchg [bx], cl; lock xadd [bx], dx; lock dec word [bx]; bts [bx], si; cmpxchg8b [bx]
    let code = [0x01, 0x07, 0x86, 0x0f, 0xf0, 0x0f, 0xc1, 0x17, 0xf0, 0xff, 0x0f, 0x0f, 0xab, 0x37, 0x0f, 0xc7, 0x0f];
    let mut guest = Guest::real(&code);
    guest.memory.write_u64(0x1ffc, 0x1111_2222_3333_4444);
    guest.state.registers[RBX] = 0x2001;
    guest.state.registers[RAX] = 0x0101;
    guest.state.registers[RCX] = 0x99;
    guest.state.registers[RDX] = 0x0001;
    guest.state.registers[RSI] = 0xffef;
    guest.step(1);
    assert_eq!(guest.memory.u64(0x1ffc), 0x1112_2322_3333_4444);
    guest.step(1);
    assert_eq!((guest.memory.u64(0x1ffc), guest.state.registers[RCX]), (0x1112_9922_3333_4444, 0x23));
    guest.step(2);
    assert_eq!((guest.memory.u64(0x1ffc), guest.state.registers[RDX]), (0x1112_9922_3333_4444, 0x1299));
    guest.step(1);
    assert_eq!(guest.memory.u64(0x1ffc), 0x1112_9922_33b3_4444, "17 bits before the operand");
    guest.step(1);
    assert_eq!((guest.state.registers[RAX], guest.state.registers[RDX]), (0x0011_1299, 0));
    assert_eq!(guest.state.rflags >> 6 & 1, 0);
}

#[test]
fn loops_and_frames() {
    // again: add ax, cx; loop again; jcxz +1; hlt; enter 16, 2; leave
    let code = [0x01, 0xc8, 0xe2, 0xfc, 0xe3, 0x01, 0xf4, 0xc8, 16, 0, 2, 0xc9];
    let mut guest = Guest::real(&code);
    guest.state.registers[RCX] = 0x5_0004;
    guest.state.registers[register::RBP] = 0x7000;
    guest.memory.write(GuestPhysical(0x6ffe), &[0xcd, 0xab]).unwrap();
    guest.step(9);
    assert_eq!((guest.state.registers[RAX], guest.state.registers[RCX]), (10, 0x5_0000));
    guest.step(1);
    assert_eq!([8, 9, 10].map(|index| guest.stacked_16(index)), [STACK as u16 - 2, 0xabcd, 0x7000]);
    assert_eq!((guest.state.rsp, guest.state.registers[register::RBP]), (STACK - 22, STACK - 2));
    guest.step(1);
    assert_eq!((guest.state.rsp, guest.state.registers[register::RBP]), (STACK, 0x7000));
}

#[test]
fn strings_and_ports() {
    // rep insb; rep outsw; xlat
    let mut guest = Guest::real(&[0xf3, 0x6c, 0xf3, 0x2e, 0x6f, 0xd7]);
    guest.state.registers[RCX] = 3;
    guest.state.registers[RDX] = 0x1f0;
    guest.state.registers[RDI] = 0x2000;
    guest.step(1);
    assert_eq!(guest.memory.bytes(0x2000, 4), [1, 2, 3, 0]);
    guest.state.registers[RCX] = 2;
    guest.state.registers[RSI] = 0x2000;
    guest.step(1);
    assert_eq!(guest.world.outputs, [(0x1f0, 2, 0x201), (0x1f0, 2, 3)]);
    guest.state.registers[RBX] = 0x2000;
    guest.state.registers[RAX] = 0xff02;
    guest.step(1);
    assert_eq!(guest.state.registers[RAX], 0xff03);
    // A faulting iteration leaves those before it done: rep stosw up to the end of the segment.
    let mut guest = Guest::real(&[0xf3, 0xab]);
    guest.catch();
    guest.state.registers[RCX] = 9;
    guest.state.registers[RDI] = 0xfffb;
    assert_eq!(guest.caught(), 13);
    assert_eq!((guest.state.registers[RCX], guest.state.registers[RDI]), (7, 0xffff));
}

#[test]
fn long_strings_leave_room_for_interrupts() {
    // sti; nop; rep stosd, of 64 KiB - 4
    let mut guest = Guest::real(&[0xfb, 0x90, 0x66, 0xf3, 0xab]);
    guest.catch();
    guest.state.segments[segment::ES].base = 0x1_0000;
    guest.state.registers[RCX] = 0x3fff;
    guest.step(2);
    assert_eq!(guest.run(1024), Stopped::Limit);
    assert_eq!((guest.state.rip, guest.state.registers[RCX]), (CODE + 2, 0x2fff));
    guest.inject(Arbitration::external(0x20));
    assert_eq!(guest.caught(), 0x20);
    assert_eq!(guest.stacked_16(0), CODE as u16 + 2);
}

#[test]
fn devices_and_roms_are_outside_of_ram() {
    // mov [ebx], ax; jmp 0xf000:0xfff0 of a segment at 4 GiB - 64 KiB
    let mut guest = Guest::real(&[0x67, 0x89, 0x03]);
    guest.state.segments[segment::DS].limit = u32::MAX;
    guest.state.registers[RBX] = 0xfee0_0300;
    guest.state.registers[RAX] = 0x4500;
    guest.step(1);
    assert_eq!(guest.world.device, [(0xfee0_0300, 2, Some(0x4500))]);
    guest.state.segments[segment::CS].base = 0xffff_0000;
    guest.state.rip = 0xfff0;
    guest.step(2);
    assert_eq!(guest.state.rip, 0xfff2, "the ROM is full of NOPs");
}

#[test]
fn system_instructions() {
    // cpuid; rdtsc; mov ecx, 0x10 (from CX); rdmsr; smsw bx
    let mut guest = Guest::real(&[0x0f, 0xa2, 0x0f, 0x31, 0x66, 0xb9, 0x10, 0, 0, 0, 0x0f, 0x32, 0x0f, 0x01, 0xe3]);
    guest.state.registers[RAX] = 0x8000_0001;
    guest.state.registers[RCX] = 5;
    guest.state.tsc_offset = 24;
    guest.step(1);
    let registers = &guest.state.registers;
    assert_eq!([RAX, RBX, RCX, RDX].map(|index| registers[index]), [0x8000_0001, 5, 3, 1 << 29]);
    guest.step(1);
    assert_eq!((guest.state.registers[RAX], guest.state.registers[RDX]), (1024, 0));
    guest.step(3);
    assert_eq!((guest.state.registers[RAX], guest.state.registers[RDX]), (7, 5));
    assert_eq!(guest.state.registers[RBX], 0x10);
    // fninit; fnstsw ax; fnstcw [0x2000]; with CR0.EM: #NM
    let mut guest = Guest::real(&[0xdb, 0xe3, 0xdf, 0xe0, 0xd9, 0x3e, 0, 0x20]);
    guest.state.registers[RAX] = 0x5a5a;
    guest.step(3);
    assert_eq!((guest.state.registers[RAX], guest.memory.u32(0x2000)), (0, 0x37f));
    guest.catch();
    guest.state.rip = CODE;
    guest.state.cr0 |= 4;
    assert_eq!(guest.caught(), 7);
}

#[test]
fn tables_are_loaded_and_stored() {
    // lgdt [0x2000]; o32 lidt [0x2000]; sgdt [0x3000]; sidt [0x3008]
    let code = [
        0x0f, 0x01, 0x16, 0, 0x20, 0x66, 0x0f, 0x01, 0x1e, 0, 0x20, 0x0f, 0x01, 0x06, 0, 0x30, 0x0f, 0x01, 0x0e, 8,
        0x30,
    ];
    let mut guest = Guest::real(&code);
    guest.memory.write_u64(0x2000, 0x1234_5678_03ff);
    guest.step(4);
    assert_eq!((guest.state.gdtr.base, guest.state.gdtr.limit), (0x34_5678, 0x3ff), "24 bits of base");
    assert_eq!((guest.state.idtr.base, guest.state.idtr.limit), (0x1234_5678, 0x3ff));
    assert_eq!([guest.memory.u64(0x3000), guest.memory.u64(0x3008)], [0x34_5678_03ff, 0x1234_5678_03ff]);
}

#[test]
fn what_is_not_interpreted_is_reported() {
    // movaps xmm0, xmm1
    let mut guest = Guest::real(&[0x0f, 0x28, 0xc1]);
    let Stopped::Unsupported { bytes } = guest.run(10) else { panic!() };
    assert_eq!((bytes[..3].to_vec(), guest.state.rip), (alloc::vec![0x0f, 0x28, 0xc1], CODE));
}
