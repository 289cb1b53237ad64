//! Whole programs: a boot sector, and the start-up code of an application processor.

use super::*;

/// Prints, counts three timer interrupts in HLT, fills memory above 1 MiB from "big real mode", and switches off.
#[rustfmt::skip]
const BOOT_SECTOR: &[u8] = &[
    0x31, 0xc0, // xor ax, ax
    0x8e, 0xd8, // mov ds, ax
    0x8e, 0xd0, // mov ss, ax
    0xbc, 0x00, 0x7c, // mov sp, 0x7c00
    0xc7, 0x06, 0x84, 0x00, 0x28, 0x7c, // mov word ptr [0x21 * 4], offset print
    0xa3, 0x86, 0x00, // mov [0x21 * 4 + 2], ax
    0xc7, 0x06, 0x20, 0x00, 0x2b, 0x7c, // mov word ptr [8 * 4], offset tick
    0xa3, 0x22, 0x00, // mov [8 * 4 + 2], ax
    0xbe, 0x8d, 0x7c, // mov si, offset text
    0xfc, // cld
    0xac, // next: lodsb
    0x84, 0xc0, // test al, al
    0x74, 0x0c, // jz printed
    0xcd, 0x21, // int 0x21
    0xeb, 0xf7, // jmp next
    0xe6, 0xe9, // print: out 0xe9, al
    0xcf, // iret
    0xff, 0x06, 0x75, 0x7c, // tick: inc word ptr [ticks]
    0xcf, // iret
    0xfb, // printed: sti
    0xf4, // halt: hlt
    0x83, 0x3e, 0x75, 0x7c, 0x03, // cmp word ptr [ticks], 3
    0x72, 0xf8, // jb halt
    0xfa, // cli
    0x0f, 0x01, 0x16, 0x77, 0x7c, // lgdt [gdt]
    0x0f, 0x20, 0xc0, // mov eax, cr0
    0x0c, 0x01, // or al, 1
    0x0f, 0x22, 0xc0, // mov cr0, eax
    0xeb, 0x00, // jmp protected
    0xbb, 0x08, 0x00, // protected: mov bx, 8
    0x8e, 0xc3, // mov es, bx
    0x24, 0xfe, // and al, 0xfe
    0x0f, 0x22, 0xc0, // mov cr0, eax
    0x31, 0xdb, // xor bx, bx
    0x8e, 0xc3, // mov es, bx
    0x66, 0xbf, 0x00, 0x00, 0x10, 0x00, // mov edi, 0x100000
    0x66, 0xb9, 0x00, 0x05, 0x00, 0x00, // mov ecx, 0x500
    0x66, 0xb8, 0x04, 0x03, 0x02, 0x01, // mov eax, 0x01020304
    0x67, 0x66, 0xf3, 0xab, // addr32 rep stosd
    0xba, 0x04, 0x06, // mov dx, 0x604
    0xb8, 0x00, 0x34, // mov ax, 0x3400
    0xef, // out dx, ax
    0xf4, // hlt
    0x00, 0x00, // ticks: .word 0
    0x0f, 0x00, // gdt: .word 15
    0x7d, 0x7c, 0x00, 0x00, // .long table
    0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, // table: .quad 0
    0xff, 0xff, 0x00, 0x00, 0x00, 0x92, 0x8f, 0x00, // .quad 0x008f92000000ffff
    0x48, 0x65, 0x6c, 0x6c, 0x6f, 0x00, // text: .asciz "Hello"
];

/// What the start-up code of an operating system does: takes a lock, looks for long mode, goes to it by way of protected mode. It is at
/// [`TRAMPOLINE_BASE`], for a start-up IPI with vector 0x9a.
#[rustfmt::skip]
const TRAMPOLINE: &[u8] = &[
    0xfa, // cli
    0x0f, 0x09, // wbinvd
    0x8c, 0xc8, // mov ax, cs
    0x8e, 0xd8, // mov ds, ax
    0x8e, 0xc0, // mov es, ax
    0x8e, 0xd0, // mov ss, ax
    0x66, 0xf0, 0x0f, 0xba, 0x2e, 0xf3, 0x00, 0x00, // again: lock bts dword ptr [lock], 0
    0x73, 0x04, // jnc locked
    0xf3, 0x90, // pause
    0xeb, 0xf2, // jmp again
    0xbc, 0x00, 0x08, // locked: mov sp, 0x800
    0xe8, 0x25, 0x00, // call verify
    0x66, 0x85, 0xc0, // test eax, eax
    0x75, 0x1d, // jnz dead
    0x66, 0x0f, 0x01, 0x1e, 0xbd, 0x00, // lidtd [idt]
    0x66, 0x0f, 0x01, 0x16, 0xc3, 0x00, // lgdtd [gdt]
    0xba, 0x18, 0x00, // mov dx, 0x18
    0xb8, 0x01, 0x00, // mov ax, 1
    0x0f, 0x01, 0xf0, // lmsw ax
    0x66, 0xea, 0x78, 0xa0, 0x09, 0x00, 0x10, 0x00, // ljmpd 0x10, protected + 0x9a000
    0xf4, // dead: hlt
    0xeb, 0xfd, // jmp dead
    0x66, 0x9c, // verify: pushfd
    0x66, 0x58, // pop eax
    0x66, 0x89, 0xc1, // mov ecx, eax
    0x66, 0x35, 0x00, 0x00, 0x20, 0x00, // xor eax, 0x200000
    0x66, 0x50, // push eax
    0x66, 0x9d, // popfd
    0x66, 0x9c, // pushfd
    0x66, 0x58, // pop eax
    0x66, 0x39, 0xc8, // cmp eax, ecx
    0x74, 0x13, // je bad
    0x66, 0xb8, 0x01, 0x00, 0x00, 0x80, // mov eax, 0x80000001
    0x0f, 0xa2, // cpuid
    0x66, 0x0f, 0xba, 0xe2, 0x1d, // bt edx, 29
    0x73, 0x04, // jnc bad
    0x66, 0x31, 0xc0, // xor eax, eax
    0xc3, // ret
    0x66, 0xb8, 0x01, 0x00, 0x00, 0x00, // bad: mov eax, 1
    0xc3, // ret
    0x8e, 0xd2, // protected: mov ss, edx
    0x81, 0xc4, 0x00, 0xa0, 0x09, 0x00, // add esp, 0x9a000
    0x8e, 0xda, // mov ds, edx
    0x8e, 0xc2, // mov es, edx
    0x8e, 0xe2, // mov fs, edx
    0x8e, 0xea, // mov gs, edx
    0x0f, 0x00, 0x15, 0xc9, 0xa0, 0x09, 0x00, // lldt [null + 0x9a000]
    0xb8, 0x20, 0x00, 0x00, 0x00, // mov eax, 0x20
    0x0f, 0x22, 0xe0, // mov cr4, eax
    0xb8, 0x00, 0x10, 0x00, 0x00, // mov eax, 0x1000
    0x0f, 0x22, 0xd8, // mov cr3, eax
    0xb9, 0x80, 0x00, 0x00, 0xc0, // mov ecx, 0xc0000080
    0x0f, 0x32, // rdmsr
    0x0d, 0x00, 0x09, 0x00, 0x00, // or eax, 0x900
    0x0f, 0x30, // wrmsr
    0xb8, 0x33, 0x00, 0x01, 0x80, // mov eax, 0x80010033
    0x0f, 0x22, 0xc0, // mov cr0, eax
    0xea, 0xbc, 0xa0, 0x09, 0x00, 0x20, 0x00, // jmp 0x20, long + 0x9a000
    0xf4, // long: hlt
    0x00, 0x00, 0x00, 0x00, 0x00, 0x00, // idt: .word 0, 0, 0
    0x27, 0x00, // gdt: .word 39
    0xcb, 0xa0, 0x09, 0x00, // .long table + 0x9a000
    0x00, 0x00, // null: .word 0
    0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, // table: .quad 0
    0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, // .quad 0
    0xff, 0xff, 0x00, 0x00, 0x00, 0x9a, 0xcf, 0x00, // .quad 0x00cf9a000000ffff
    0xff, 0xff, 0x00, 0x00, 0x00, 0x92, 0xcf, 0x00, // .quad 0x00cf92000000ffff
    0xff, 0xff, 0x00, 0x00, 0x00, 0x9a, 0xaf, 0x00, // .quad 0x00af9a000000ffff
    0x00, 0x00, 0x00, 0x00, // lock: .long 0
];

const TRAMPOLINE_BASE: u64 = 0x9_a000;
/// Offset of the lock in the trampoline.
const LOCK: u64 = 0xf3;
/// Offset of the far jump to 64-bit code.
const JUMP_TO_LONG: u64 = 0xb5;

#[test]
fn a_boot_sector_runs() {
    let mut guest = Guest::new(&BootState::real_mode(0x7c00), &[]);
    guest.memory.write(GuestPhysical(0x7c00), BOOT_SECTOR).unwrap();
    for ticks in 0..3 {
        assert_eq!(guest.run(1000), Stopped::Halted, "tick {ticks}");
        guest.inject(Arbitration::external(8));
    }
    assert_eq!(guest.run(1000), Stopped::Attention);
    let text: Vec<u8> =
        guest.world.outputs.iter().filter(|output| output.0 == 0xe9).map(|output| output.2 as u8).collect();
    assert_eq!(text, b"Hello");
    assert_eq!(guest.world.outputs.last(), Some(&(0x604, 2, 0x3400)));
    assert_eq!(guest.memory.bytes(0x10_0000 - 1, 2), [0, 4]);
    assert_eq!(guest.memory.u32(0x10_0000 + 4 * 0x4ff), 0x0102_0304);
    assert_eq!(guest.memory.u32(0x10_0000 + 4 * 0x500), 0);
    let extra = guest.state.segments[segment::ES];
    assert_eq!((extra.selector, extra.base, extra.limit), (0, 0, 0xffff_ffff), "the limit stays behind");
}

fn trampoline() -> Guest {
    let mut guest = Guest::new(&BootState::startup(0x9a), &[]);
    guest.state.rsp = 0;
    guest.memory.write(GuestPhysical(TRAMPOLINE_BASE), TRAMPOLINE).unwrap();
    guest
}

#[test]
fn a_trampoline_reaches_long_mode() {
    let mut guest = trampoline();
    assert_eq!(guest.run(1000), Stopped::Hardware);
    let state = &guest.state;
    assert_eq!((state.cr0, state.cr3, state.cr4, state.efer), (0x8001_0033, 0x1000, 0x20, 0xd00));
    assert_eq!(state.rip, TRAMPOLINE_BASE + JUMP_TO_LONG, "the hardware executes the far jump");
    assert_eq!(state.rsp, TRAMPOLINE_BASE + 0x800);
    let code = state.segments[segment::CS];
    assert_eq!((code.selector, code.base, code.limit, code.access), (0x10, 0, u32::MAX, 0xc09b));
    for index in [segment::DS, segment::ES, segment::SS, segment::FS, segment::GS] {
        let data = state.segments[index];
        assert_eq!((data.selector, data.base, data.limit, data.access), (0x18, 0, u32::MAX, 0xc093));
    }
    assert_eq!(state.segments[segment::LDTR].access, 1 << 16);
    assert_eq!(state.segments[segment::TR].access, 0x8b);
    assert_eq!((state.gdtr.base, state.gdtr.limit), (TRAMPOLINE_BASE + 0xcb, 39));
    assert_eq!(guest.memory.u32(TRAMPOLINE_BASE + LOCK), 1);
    let wanted = StateGroups::RIP | StateGroups::SEGMENTS | StateGroups::CONTROL_REGISTERS | StateGroups::RSP;
    assert!(StateGroups::from_bits_truncate(state.dirty).contains(wanted));
}

#[test]
fn a_trampoline_waits_for_its_lock() {
    let mut guest = trampoline();
    guest.memory.write_u32(TRAMPOLINE_BASE + LOCK, 1);
    assert_eq!(guest.run(1000), Stopped::Limit);
    guest.memory.write_u32(TRAMPOLINE_BASE + LOCK, 0);
    assert_eq!(guest.run(1000), Stopped::Hardware);
}

#[test]
fn paging_with_the_segments_of_real_mode_is_acceptable() {
    // mov eax, cr0; or eax, 0x80000001; mov cr0, eax
    let mut guest = Guest::real(&[0x0f, 0x20, 0xc0, 0x66, 0x0d, 1, 0, 0, 0x80, 0x0f, 0x22, 0xc0]);
    guest.state.segments[segment::CS].selector = 3;
    guest.state.segments[segment::DS].selector = 0x123;
    guest.state.segments[segment::SS].selector = 2;
    assert_eq!(guest.run(10), Stopped::Hardware);
    let segments = &guest.state.segments;
    assert_eq!((segments[segment::CS].selector, segments[segment::CS].access), (0, 0x9b));
    assert_eq!((segments[segment::SS].selector, segments[segment::SS].access), (0, 0x93));
    assert_eq!((segments[segment::DS].selector, segments[segment::DS].access), (0x123, 0xf3));
    assert_eq!(guest.run(10), Stopped::Hardware, "nothing more is done");
}

#[test]
fn page_directory_pointers_are_loaded_and_checked() {
    // mov eax, cr0; bts eax, 31; mov cr0, eax
    let code = [0x0f, 0x20, 0xc0, 0x0f, 0xba, 0xe8, 31, 0x0f, 0x22, 0xc0];
    let mut guest = Guest::protected(&code);
    guest.state.cr4 = 0x20;
    guest.state.cr3 = 0x6000;
    guest.memory.write_u64(0x6008, 0x7001);
    guest.memory.write_u64(0x6010, 0x1e6);
    assert_eq!(guest.run(10), Stopped::Hardware, "what is not present is not checked");
    assert_eq!(guest.state.pdptes, [0, 0x7001, 0x1e6, 0]);
    assert_ne!(guest.state.dirty & StateGroups::PDPTES.bits(), 0);

    let mut guest = Guest::protected(&code);
    guest.catch();
    guest.state.cr4 = 0x20;
    guest.state.cr3 = 0x6000;
    guest.memory.write_u64(0x6000, 0x7003);
    assert_eq!(guest.caught(), 13);
    assert_eq!(guest.state.cr0 >> 31, 0);
}

#[test]
fn protected_mode_is_left_again() {
    // mov eax, cr0; and al, 0xfe; mov cr0, eax; jmp 0:0x1210
    let code = [0x0f, 0x20, 0xc0, 0x24, 0xfe, 0x0f, 0x22, 0xc0, 0xea, 0x10, 0x12, 0, 0];
    let mut guest = Guest::protected(&code);
    guest.memory.write(GuestPhysical(0x1210), &[0xf4]).unwrap();
    // A 16-bit code segment, as before every way back.
    guest.state.segments[segment::CS].access = 0x9b;
    guest.state.segments[segment::CS].limit = 0xffff;
    assert_eq!(guest.run(10), Stopped::Halted);
    assert_eq!((guest.state.rip, guest.state.segments[segment::CS].selector, guest.state.cr0 & 1), (0x1211, 0, 0));
}
