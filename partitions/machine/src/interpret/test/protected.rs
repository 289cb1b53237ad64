//! Protected mode without paging.

use super::*;

/// Free entries of the boot GDT begin here.
const EXTRA: u64 = 0x20;

/// `mov ax, selector; mov ds, ax`.
const LOAD_DS: u8 = 0xd8;
/// The same for SS.
const LOAD_SS: u8 = 0xd0;

/// A guest whose GDT has `descriptor` as selector [`EXTRA`], and whose code loads `selector`.
fn loading(descriptor: u64, selector: u16, target: u8) -> Guest {
    let [low, high] = selector.to_le_bytes();
    let mut guest = Guest::protected(&[0x66, 0xb8, low, high, 0x8e, target]);
    guest.memory.write_u64(guest.state.gdtr.base + EXTRA, descriptor);
    guest.state.gdtr.limit = 0x27;
    guest.catch();
    guest
}

#[test]
fn data_segments() {
    let mut guest = loading(0x0040_f200_1234_0fff, 0x23, LOAD_DS);
    guest.step(2);
    let data = guest.state.segments[segment::DS];
    assert_eq!((data.base, data.limit, data.access, data.selector), (0x1234, 0xfff, 0x40f3, 0x23));
    assert_eq!(guest.memory.u64(guest.state.gdtr.base + EXTRA), 0x0040_f300_1234_0fff, "accessed");
    let mut guest = loading(0, 3, LOAD_DS);
    guest.step(2);
    assert_eq!(guest.state.segments[segment::DS].access, 1 << 16);
    // mov al, [0], in what is not usable
    guest.memory.write(GuestPhysical(guest.state.rip), &[0xa0, 0, 0, 0, 0]).unwrap();
    assert_eq!(guest.caught(), 13);
    assert_eq!(guest.stacked_32(0), 0);
}

#[test]
fn loads_that_fault() {
    for (descriptor, selector, target, vector, code) in [
        (0x0040_9200_0000_0fff, 0x28, LOAD_DS, 13, 0x28), // beyond the table
        (0x0040_9200_0000_0fff, 0x24, LOAD_DS, 13, 0x24), // in the LDT, which is too short
        (0x0040_9200_0000_0fff, 0x23, LOAD_DS, 13, 0x20), // level 3 requests level 0
        (0x0040_1200_0000_0fff, 0x20, LOAD_DS, 11, 0x20), // not present
        (0x0040_9800_0000_0fff, 0x20, LOAD_DS, 13, 0x20), // code that cannot be read
        (0x0040_8200_0000_0fff, 0x20, LOAD_DS, 13, 0x20), // a system segment
        (0x0040_9200_0000_0fff, 0x00, LOAD_SS, 13, 0),    // null
        (0x0040_1200_0000_0fff, 0x20, LOAD_SS, 12, 0x20), // not present
        (0x0040_9000_0000_0fff, 0x20, LOAD_SS, 13, 0x20), // read-only
        (0x0040_f200_0000_0fff, 0x20, LOAD_SS, 13, 0x20), // of level 3
        (0x0040_9a00_0000_0fff, 0x20, LOAD_SS, 13, 0x20), // code
    ] {
        let mut guest = loading(descriptor, selector, target);
        guest.state.segments[segment::LDTR].limit = 0x1f;
        let before = guest.state.segments;
        assert_eq!(guest.caught(), vector, "{descriptor:#x} {selector:#x}");
        assert_eq!((guest.stacked_32(0), guest.stacked_32(1)), (code, CODE as u32 + 4), "{descriptor:#x}");
        assert_eq!(guest.state.segments, before);
    }
}

#[test]
fn rights_and_limits_of_segments() {
    for (descriptor, code, vector) in [
        (0x0040_9000_0000_0fff, &[0xa2, 0, 0, 0, 0][..], Some(13)), // a write to read-only data
        (0x0040_9200_0000_0fff, &[0xa1, 0xfc, 0x0f, 0, 0], None),   // the last double word
        (0x0040_9200_0000_0fff, &[0xa1, 0xfd, 0x0f, 0, 0], Some(13)),
        (0x0040_9600_0000_0fff, &[0xa0, 0xff, 0x0f, 0, 0], Some(13)), // expand-down
        (0x0040_9600_0000_0fff, &[0xa0, 0x00, 0x10, 0, 0], None),
        (0x0000_9600_0000_0fff, &[0xa0, 0x00, 0x00, 1, 0], Some(13)), // expand-down, 64 KiB
        (0x0040_9a00_0000_0fff, &[0xa0, 0, 0, 0, 0], None),           // code that can be read
        (0x0040_9a00_0000_0fff, &[0xa2, 0, 0, 0, 0], Some(13)),
    ] {
        let mut guest = loading(descriptor, 0x20, LOAD_DS);
        guest.step(2);
        guest.memory.write(GuestPhysical(guest.state.rip), code).unwrap();
        guest.memory.write(GuestPhysical(guest.state.rip + code.len() as u64), &[0xf4]).unwrap();
        match vector {
            Some(vector) => assert_eq!(guest.caught(), vector, "{descriptor:#x} {code:02x?}"),
            None => assert_eq!(guest.run(2), Stopped::Halted, "{descriptor:#x} {code:02x?}"),
        }
    }
}

#[test]
fn far_jumps() {
    // jmp 0x20:0x100, of 16-bit code at 0x2000
    let code = [0xea, 0, 1, 0, 0, 0x20, 0];
    let with = |descriptor: u64| {
        let mut guest = Guest::protected(&code);
        guest.memory.write_u64(guest.state.gdtr.base + EXTRA, descriptor);
        guest.state.gdtr.limit = 0x27;
        guest.catch();
        guest
    };
    let mut guest = with(0x0000_9a00_2000_0fff);
    guest.step(1);
    let target = guest.state.segments[segment::CS];
    assert_eq!((target.base, target.limit, target.access, guest.state.rip), (0x2000, 0xfff, 0x9b, 0x100));
    for (descriptor, vector, error) in [
        (0x0000_1a00_2000_0fff, 11, 0x20), // not present
        (0x0000_9200_2000_0fff, 13, 0x20), // data
        (0x0000_fa00_2000_0fff, 13, 0x20), // of level 3
        (0x0000_9a00_2000_00ff, 13, 0),    // too short
    ] {
        let mut guest = with(descriptor);
        assert_eq!((guest.caught(), guest.stacked_32(0)), (vector, error), "{descriptor:#x}");
    }
    // A conforming segment keeps level 0; gates and tasks are not interpreted.
    let mut guest = with(0x0000_9e00_2000_0fff);
    guest.step(1);
    for gate in [0x0000_8c00_0010_1000, 0x0000_8500_0010_0000, 0x0000_8900_2000_0067] {
        let mut guest = with(gate);
        assert!(matches!(guest.run(5), Stopped::Unsupported { .. }), "{gate:#x}");
        assert_eq!(guest.state.rip, CODE);
    }
}

#[test]
fn interrupt_and_trap_gates() {
    // int 0x30; (handler) iretd
    for (kind, width, interrupts) in [(0x8e, 4, false), (0x8f, 4, true), (0x86, 2, false), (0x87, 2, true)] {
        let mut guest = Guest::protected(&[0xcd, 0x30]);
        guest.catch();
        guest.memory.write_u64(guest.state.idtr.base + 8 * 0x30, 0x2000 | 0x10 << 16 | kind << 40);
        guest.memory.write(GuestPhysical(0x2000), if width == 4 { &[0xcf] } else { &[0x66, 0xcf] }).unwrap();
        guest.state.rflags = 0x4246;
        guest.step(1);
        assert_eq!((guest.state.rip, guest.state.rsp), (0x2000, STACK - 3 * width));
        assert_eq!(guest.state.rflags, if interrupts { 0x246 } else { 0x46 });
        let frame = if width == 4 {
            [0, 1, 2].map(|index| guest.stacked_32(index))
        } else {
            [0, 1, 2].map(|index| guest.stacked_16(index).into())
        };
        assert_eq!(frame, [CODE as u32 + 2, 0x10, 0x4246]);
        guest.step(1);
        assert_eq!((guest.state.rip, guest.state.rsp, guest.state.rflags), (CODE + 2, STACK, 0x4246));
    }
}

#[test]
fn faults_come_with_their_codes() {
    // ud2
    let mut guest = Guest::protected(&[0x0f, 0x0b]);
    guest.catch();
    assert_eq!(guest.caught(), 6);
    assert_eq!([0, 1, 2].map(|index| guest.stacked_32(index)), [CODE as u32, 0x10, 0x1_0002], "RF is set");
    // int 0x3f, of which there is no gate: #GP with the vector, not external
    let mut guest = Guest::protected(&[0xcd, 0x3f]);
    guest.catch();
    guest.state.idtr.limit = 0x1f7;
    assert_eq!((guest.caught(), guest.stacked_32(0), guest.stacked_32(1)), (13, 0x3f * 8 + 2, CODE as u32));
    // An interrupt of the machine without a gate that is present: external.
    let mut guest = Guest::protected(&[0x90]);
    guest.catch();
    guest.memory.write_u64(guest.state.idtr.base + 8 * 0x30, 0x0e00_0010_0000);
    guest.inject(Arbitration::external(0x30));
    assert_eq!((guest.caught(), guest.stacked_32(0)), (11, 0x30 * 8 + 3));
}

#[test]
fn double_and_triple_faults() {
    // div by 0 without a gate for it: #GP while delivering #DE
    let mut guest = Guest::protected(&[0xf7, 0xf1]);
    guest.catch();
    guest.memory.write_u64(guest.state.idtr.base, 0);
    assert_eq!((guest.caught(), guest.stacked_32(0), guest.stacked_32(1)), (8, 0, CODE as u32));
    let mut guest = Guest::protected(&[0xf7, 0xf1]);
    guest.catch();
    guest.memory.write_u64(guest.state.idtr.base, 0);
    guest.memory.write_u64(guest.state.idtr.base + 8 * 8, 0);
    assert_eq!(guest.run(10), Stopped::Shutdown);
    assert_eq!((guest.state.rip, guest.state.rsp), (CODE, STACK));
    // #UD is no contributory exception: its #GP is delivered as such.
    let mut guest = Guest::protected(&[0x0f, 0x0b]);
    guest.catch();
    guest.memory.write_u64(guest.state.idtr.base + 8 * 6, 0);
    assert_eq!((guest.caught(), guest.stacked_32(0)), (13, 6 * 8 + 3));
    // Without any table, the first fault is the last.
    let mut guest = Guest::protected(&[0x0f, 0x0b]);
    assert_eq!(guest.run(10), Stopped::Shutdown);
}

#[test]
fn what_needs_other_levels_is_refused() {
    // iretd to level 3, to a nested task, to virtual-8086 mode; retf to level 3
    for (code, frame, rflags) in [
        (0xcf, [0x2000, 0x1b, 2], 2),
        (0xcf, [0x2000, 0x10, 2], 0x4002),
        (0xcf, [0x2000, 0x10, 0x2_0002], 2),
        (0xcb, [0x2000, 0x13, 0], 2),
    ] {
        let mut guest = Guest::protected(&[code]);
        guest.state.rflags = rflags;
        for (index, value) in (0..).zip(frame) {
            guest.memory.write_u32(STACK + 4 * index, value);
        }
        assert!(matches!(guest.run(5), Stopped::Unsupported { .. }));
        assert_eq!((guest.state.rip, guest.state.rsp), (CODE, STACK));
    }
}

#[test]
fn tasks_and_local_tables() {
    // ltr ax; str ebx; lldt cx; sldt dx
    let mut guest = Guest::protected(&[0x0f, 0x00, 0xd8, 0x0f, 0x00, 0xcb, 0x0f, 0x00, 0xd1, 0x0f, 0x00, 0xc2]);
    let table = guest.state.gdtr.base;
    guest.catch();
    guest.memory.write_u64(table + 0x20, 0x0000_8900_3000_0067);
    guest.memory.write_u64(table + 0x28, 0x0000_8200_4000_000f);
    guest.state.gdtr.limit = 0x2f;
    guest.state.registers[RAX] = 0x20;
    guest.state.registers[RCX] = 0x28;
    guest.step(4);
    let (task, local) = (guest.state.segments[segment::TR], guest.state.segments[segment::LDTR]);
    assert_eq!((task.selector, task.base, task.limit, task.access), (0x20, 0x3000, 0x67, 0x8b));
    assert_eq!((local.selector, local.base, local.limit, local.access), (0x28, 0x4000, 0xf, 0x82));
    assert_eq!((guest.state.registers[RBX], guest.state.registers[RDX]), (0x20, 0x28));
    assert_eq!(guest.memory.u64(table + 0x20), 0x0000_8b00_3000_0067, "busy");
    // Again: a busy task cannot be loaded.
    guest.state.rip = CODE;
    assert_eq!((guest.caught(), guest.stacked_32(0)), (13, 0x20));
}

#[test]
fn questions_about_descriptors() {
    // lar ebx, ax; lsl edx, ax; verr ax; verw ax
    let code = [0x0f, 0x02, 0xd8, 0x0f, 0x03, 0xd0, 0x0f, 0x00, 0xe0, 0x0f, 0x00, 0xe8];
    for (selector, answers) in
        [(0x10, [true, true, true, false]), (0x18, [true; 4]), (0x28, [false; 4]), (0, [false; 4])]
    {
        let mut guest = Guest::protected(&code);
        guest.state.registers[RAX] = selector;
        for answer in answers {
            guest.step(1);
            assert_eq!(guest.state.rflags >> 6 & 1 != 0, answer, "{selector:#x} at {:#x}", guest.state.rip);
        }
        if selector == 0x10 {
            assert_eq!((guest.state.registers[RBX], guest.state.registers[RDX]), (0xcf_9b00, 0xffff_ffff));
        }
    }
}

#[test]
fn small_stacks_wrap_at_64_kib() {
    // push eax, with a 16-bit stack in 32-bit code
    let mut guest = Guest::protected(&[0x50]);
    guest.state.segments[segment::SS].access = 0x93;
    guest.state.segments[segment::SS].limit = 0xffff;
    guest.state.rsp = 0x1_0000;
    guest.state.registers[RAX] = 0x1234_5678;
    guest.step(1);
    assert_eq!((guest.state.rsp, guest.memory.u32(0xfffc)), (0x1_fffc, 0x1234_5678));
}

#[test]
fn long_mode_registers_are_checked() {
    // wrmsr, of EFER
    let mut guest = Guest::protected(&[0x0f, 0x30]);
    guest.catch();
    guest.state.registers[RCX] = 0xc000_0080;
    guest.state.registers[RAX] = 2;
    assert_eq!(guest.caught(), 13);
    let mut guest = Guest::protected(&[0x0f, 0x30]);
    guest.state.registers[RCX] = 0x174;
    guest.state.registers[RAX] = 0x10;
    guest.step(1);
    assert_eq!(guest.state.sysenter_cs, 0x10);
    assert_ne!(guest.state.dirty & StateGroups::SYSTEM_REGISTERS.bits(), 0);
    // mov cr0, eax: paging with long mode enabled but without PAE
    let mut guest = Guest::protected(&[0x0f, 0x22, 0xc0]);
    guest.catch();
    guest.state.efer = 1 << 8;
    guest.state.registers[RAX] = 0x8000_0011;
    assert_eq!(guest.caught(), 13);
}
