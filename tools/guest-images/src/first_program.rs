//! The guest's first program: tells when the kernel has started it, then becomes the script.
//!
//! A shell cannot read the processor's time-stamp counter, and starting one takes a million instructions; so the
//! kernel's `/init` is this program of its own. It prints `check: init tsc=N`, and executes `/etc/start` with the
//! arguments and the environment that the kernel gave.

use crate::{
    architecture::Architecture,
    elf::{Class, Segment},
};

/// Where the file is mapped, headers and all.
const BASE: u64 = 0x40_0000;

/// The machine code for x86-64; its comments are its source. Relative addresses count from the next instruction.
#[rustfmt::skip]
const AMD64: [u8; 126] = [
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

/// The same for i386, whose code has no relative addresses: [`TEXT`] is at 0x40_00c3, [`SCRIPT`] behind it.
#[rustfmt::skip]
const I386: [u8; 111] = [
    0x0f, 0x31,                               // rdtsc                edx:eax: the time
    0x89, 0xe5,                               // mov ebp, esp         argc, argv, 0, envp, 0
    0x89, 0xd6,                               // mov esi, edx
    0x89, 0xc7,                               // mov edi, eax
    0xbb, 0x0a, 0x00, 0x00, 0x00,             // mov ebx, 10
    0x4c,                                     // dec esp
    0x88, 0x1c, 0x24,                         // mov [esp], bl
    // esi:edi is divided by ten in two steps.
    0x31, 0xd2,                               // digit: xor edx, edx
    0x89, 0xf0,                               // mov eax, esi
    0xf7, 0xf3,                               // div ebx
    0x89, 0xc6,                               // mov esi, eax
    0x89, 0xf8,                               // mov eax, edi
    0xf7, 0xf3,                               // div ebx
    0x89, 0xc7,                               // mov edi, eax
    0x80, 0xc2, 0x30,                         // add dl, '0'
    0x4c,                                     // dec esp
    0x88, 0x14, 0x24,                         // mov [esp], dl
    0x89, 0xf0,                               // mov eax, esi
    0x09, 0xf8,                               // or eax, edi
    0x75, 0xe5,                               // jnz digit
    0x83, 0xec, 0x10,                         // sub esp, 16
    0xbe, 0xc3, 0x00, 0x40, 0x00,             // mov esi, TEXT
    0x89, 0xe7,                               // mov edi, esp
    0x8d, 0x4b, 0xfa,                         // lea ecx, [ebx - 6]
    0xf3, 0xa5,                               // rep movsd
    // write(1, esp, ebp - esp)
    0x89, 0xea,                               // mov edx, ebp
    0x29, 0xe2,                               // sub edx, esp
    0x89, 0xe1,                               // mov ecx, esp
    0xbb, 0x01, 0x00, 0x00, 0x00,             // mov ebx, 1
    0xb8, 0x04, 0x00, 0x00, 0x00,             // mov eax, 4
    0xcd, 0x80,                               // int 0x80
    // execve(SCRIPT, argv, envp)
    0xbb, 0xd3, 0x00, 0x40, 0x00,             // mov ebx, SCRIPT
    0x8d, 0x4d, 0x04,                         // lea ecx, [ebp + 4]
    0x8b, 0x45, 0x00,                         // mov eax, [ebp]
    0x8d, 0x54, 0x85, 0x08,                   // lea edx, [ebp + eax * 4 + 8]
    0xb8, 0x0b, 0x00, 0x00, 0x00,             // mov eax, 11
    0xcd, 0x80,                               // int 0x80
    // It returned, so it failed: exit(1)
    0xbb, 0x01, 0x00, 0x00, 0x00,             // mov ebx, 1
    0xb8, 0x01, 0x00, 0x00, 0x00,             // mov eax, 1
    0xcd, 0x80,                               // int 0x80
];

/// Printed before the time; the code copies its 16 bytes in whole words.
const TEXT: &[u8; 16] = b"check: init tsc=";
/// What it becomes; without a slash the archive's name for it.
const SCRIPT: &[u8] = b"/etc/start\0";

/// The program, a static ELF executable.
pub(crate) fn elf(architecture: Architecture) -> Vec<u8> {
    let (class, code): (_, &[u8]) = match architecture {
        Architecture::Amd64 => (Class::Elf64, &AMD64),
        Architecture::I386 => (Class::Elf32, &I386),
    };
    let headers = class.headers_size(1);
    let length = (headers + code.len() + TEXT.len() + SCRIPT.len()) as u64;
    // PT_LOAD, readable and executable: the whole file.
    let segment = Segment {
        kind: 1,
        flags: 5,
        offset: 0,
        virtual_address: BASE,
        physical_address: BASE,
        file_size: length,
        memory_size: length,
        alignment: 0x1000,
    };
    let mut file = class.headers(BASE + headers as u64, &[segment]);
    file.extend(code);
    file.extend(TEXT);
    file.extend(SCRIPT);
    file
}

#[cfg(all(test, target_arch = "x86_64", target_os = "linux"))]
mod tests {
    use super::*;
    use std::{fs, os::unix::fs::PermissionsExt as _, path::Path, process::Command};

    /// The time that it prints; nothing on a host that runs no such programs.
    fn time(architecture: Architecture) -> Option<u64> {
        let place = tempfile::TempDir::new().unwrap();
        let path = place.path().join("init");
        fs::write(&path, elf(architecture)).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
        let output = match Command::new(&path).output() {
            Ok(output) => output,
            Err(error) => {
                eprintln!("skipped: a program for {architecture:?}: {error}");
                return None;
            }
        };
        assert_eq!(output.status.code(), Some(1));
        let text = String::from_utf8(output.stdout).unwrap();
        let number = text.strip_prefix("check: init tsc=").unwrap();
        Some(number.strip_suffix('\n').unwrap().parse().unwrap())
    }

    /// Here, where there is no `/etc/start`, it prints its line and fails.
    #[test]
    fn prints_the_time_and_becomes_the_script() {
        if Path::new("/etc/start").exists() {
            return;
        }
        let first = time(Architecture::Amd64).unwrap();
        let times = [Architecture::Amd64, Architecture::I386].map(time);
        assert!(times.into_iter().flatten().all(|time| first < time), "{first} {times:?}");
    }

    #[test]
    fn absolute_addresses_are_those_of_the_texts() {
        let program = elf(Architecture::I386);
        assert_eq!(program[0xc3..0xd3], *TEXT);
        assert_eq!(program[0xd3..], *SCRIPT);
    }
}
