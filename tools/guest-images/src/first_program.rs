//! The guest's first program: tells when the kernel has started it, then becomes the script.
//!
//! A shell cannot read the processor's time-stamp counter, and starting one takes a million instructions; so the
//! kernel's `/init` is this program of its own. It prints `check: init tsc=N`, and executes `/etc/start` with the
//! arguments and the environment that the kernel gave.

/// Where the file is mapped, headers and all.
const BASE: u64 = 0x40_0000;
/// Size of the ELF header and of the one program header.
const HEADERS: u64 = 64 + 56;

/// The machine code; its comments are its source. Relative addresses count from the next instruction.
#[rustfmt::skip]
const CODE: [u8; 126] = [
    0x0f, 0x31,                               // rdtsc
    0x48, 0xc1, 0xe2, 0x20,                   // shl rdx, 32
    0x48, 0x09, 0xd0,                         // or rax, rdx          the time
    0x48, 0x89, 0xe3,                         // mov rbx, rsp         argc, argv, 0, envp, 0
    // The text grows down the stack: a line feed, the digits from the last to the first, the text before them.
    0xbf, 0x0a, 0x00, 0x00, 0x00,             // mov edi, 10
    0x48, 0xff, 0xcc,                         // dec rsp
    0x40, 0x88, 0x3c, 0x24,                   // mov [rsp], dil
    0x31, 0xd2,                               // digit: xor edx, edx
    0x48, 0xf7, 0xf7,                         // div rdi
    0x80, 0xc2, 0x30,                         // add dl, '0'
    0x48, 0xff, 0xcc,                         // dec rsp
    0x88, 0x14, 0x24,                         // mov [rsp], dl
    0x48, 0x85, 0xc0,                         // test rax, rax
    0x75, 0xed,                               // jnz digit
    0x48, 0x8d, 0x35, 0x4c, 0x00, 0x00, 0x00, // lea rsi, [TEXT]
    0x48, 0x83, 0xec, 0x10,                   // sub rsp, 16
    0x48, 0x8b, 0x06,                         // mov rax, [rsi]
    0x48, 0x89, 0x04, 0x24,                   // mov [rsp], rax
    0x48, 0x8b, 0x46, 0x08,                   // mov rax, [rsi + 8]
    0x48, 0x89, 0x44, 0x24, 0x08,             // mov [rsp + 8], rax
    // write(1, rsp, rbx - rsp)
    0x48, 0x89, 0xda,                         // mov rdx, rbx
    0x48, 0x29, 0xe2,                         // sub rdx, rsp
    0x48, 0x89, 0xe6,                         // mov rsi, rsp
    0xb8, 0x01, 0x00, 0x00, 0x00,             // mov eax, 1
    0x89, 0xc7,                               // mov edi, eax
    0x0f, 0x05,                               // syscall
    // execve(SCRIPT, argv, envp)
    0x48, 0x8d, 0x3d, 0x2f, 0x00, 0x00, 0x00, // lea rdi, [SCRIPT]
    0x48, 0x8d, 0x73, 0x08,                   // lea rsi, [rbx + 8]
    0x48, 0x8b, 0x03,                         // mov rax, [rbx]
    0x48, 0x8d, 0x54, 0xc3, 0x10,             // lea rdx, [rbx + rax * 8 + 16]
    0xb8, 0x3b, 0x00, 0x00, 0x00,             // mov eax, 59
    0x0f, 0x05,                               // syscall
    // It returned, so it failed: exit(1)
    0xbf, 0x01, 0x00, 0x00, 0x00,             // mov edi, 1
    0xb8, 0x3c, 0x00, 0x00, 0x00,             // mov eax, 60
    0x0f, 0x05,                               // syscall
];

/// Printed before the time; the code copies its 16 bytes in two words.
const TEXT: &[u8; 16] = b"check: init tsc=";
/// What it becomes; without a slash the archive's name for it.
const SCRIPT: &[u8] = b"/etc/start\0";

/// The program, a static x86-64 ELF executable.
pub(crate) fn elf() -> Vec<u8> {
    let length = HEADERS + (CODE.len() + TEXT.len() + SCRIPT.len()) as u64;
    let mut file = Vec::new();
    // The ELF header: 64 bits, little endian, executable, x86-64.
    file.extend(b"\x7fELF\x02\x01\x01\0\0\0\0\0\0\0\0\0");
    halves(&mut file, &[2, 62, 1, 0]);
    words(&mut file, &[BASE + HEADERS, 64, 0]);
    halves(&mut file, &[0, 0, 64, 56, 1, 0, 0, 0]);
    // The program header: PT_LOAD, readable and executable, the whole file.
    halves(&mut file, &[1, 0, 5, 0]);
    words(&mut file, &[0, BASE, BASE, length, length, 0x1000]);
    file.extend(CODE);
    file.extend(TEXT);
    file.extend(SCRIPT);
    file
}

fn halves(file: &mut Vec<u8>, values: &[u16]) {
    file.extend(values.iter().flat_map(|value| value.to_le_bytes()));
}

fn words(file: &mut Vec<u8>, values: &[u64]) {
    file.extend(values.iter().flat_map(|value| value.to_le_bytes()));
}

#[cfg(all(test, target_arch = "x86_64", target_os = "linux"))]
mod tests {
    use std::{fs, os::unix::fs::PermissionsExt as _, path::Path, process::Command};

    /// Here, where there is no `/etc/start`, it prints its line and fails.
    #[test]
    fn prints_the_time_and_becomes_the_script() {
        if Path::new("/etc/start").exists() {
            return;
        }
        let place = tempfile::TempDir::new().unwrap();
        let path = place.path().join("init");
        fs::write(&path, super::elf()).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
        let time = || {
            let output = Command::new(&path).output().unwrap();
            assert_eq!(output.status.code(), Some(1));
            let text = String::from_utf8(output.stdout).unwrap();
            let number = text.strip_prefix("check: init tsc=").unwrap();
            number.strip_suffix('\n').unwrap().parse::<u64>().unwrap()
        };
        let first = time();
        assert!(first < time());
    }
}
