//! `bulkhead doctor`: what this machine has, and what is missing.

use bulkhead_harness::{Backend, NestedVmx};
use bulkhead_image::Tool;

use crate::programs;

/// The guests' files that the manifests of this checkout name.
const GUEST_IMAGES: [&str; 2] = ["debian:linux-image-cloud-amd64", "builtin:checks"];

/// How much an item matters.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Need {
    /// Nothing runs without it.
    Required,
    /// Something is slower, or cannot be done, without it.
    Optional,
}

/// One line of the table.
struct Item {
    name: String,
    state: Result<String, String>,
    need: Need,
}

/// Prints the table. Status 2 if something that is needed is missing, with the line that installs it.
pub fn run() -> miette::Result<u8> {
    let nested = NestedVmx::detect();
    let mut items = vec![Item {
        name: "nested VMX for KVM".to_owned(),
        state: match nested {
            NestedVmx::Available => Ok(nested.explanation().to_owned()),
            _ => Err(nested.explanation().to_owned()),
        },
        need: Need::Optional,
    }];
    let mut missing = Vec::new();
    // One backend that runs guests is enough; QEMU's emulation is for what needs no guest.
    let bochs_need = if nested == NestedVmx::Available { Need::Optional } else { Need::Required };
    let qemu_need = if nested == NestedVmx::Available { Need::Required } else { Need::Optional };
    let groups: [(&str, &[Tool], Need); 3] = [
        ("Bochs", Backend::Bochs.tools(), bochs_need),
        ("QEMU", Backend::Qemu.tools(), qemu_need),
        ("image", &bulkhead_image::TOOLS, Need::Required),
    ];
    for (group, tools, need) in groups {
        for tool in tools {
            let state = found(tool);
            if state.is_err() && need == Need::Required {
                missing.push(*tool);
            }
            items.push(Item { name: format!("{group}: {}", short(tool.file)), state, need });
        }
    }

    if Backend::Bochs.missing_tools().is_empty() {
        let has_card = bulkhead_harness::has_network_card();
        items.push(Item {
            name: "Bochs: network card e1000".to_owned(),
            state: match has_card {
                Ok(true) => Ok("for manifests with `model = \"e1000\"`".to_owned()),
                Ok(false) => Err("Bochs was built without; QEMU has one".to_owned()),
                Err(error) => Err(error.to_string()),
            },
            need: Need::Optional,
        });
    }
    for reference in GUEST_IMAGES {
        items.push(Item {
            name: format!("guest image: {reference}"),
            state: match programs::find_guest_image(reference) {
                Ok(Some(path)) => Ok(path.display().to_string()),
                Ok(None) => Err("fetched when it is needed".to_owned()),
                Err(error) => Err(error),
            },
            need: Need::Optional,
        });
    }

    print(&items);
    if missing.is_empty() {
        return Ok(0);
    }
    println!("\nmissing: {}", bulkhead_image::install_line(&missing));
    Ok(crate::SETUP_ERROR)
}

fn found(tool: &Tool) -> Result<String, String> {
    match tool.find() {
        Some(path) => Ok(path.display().to_string()),
        None => Err(format!("in the package {}", tool.package)),
    }
}

/// The last component of a file's path.
fn short(file: &str) -> &str {
    file.rsplit('/').next().unwrap_or(file)
}

fn print(items: &[Item]) {
    let width = items.iter().map(|item| item.name.chars().count()).max().unwrap_or(0);
    for Item { name, state, need } in items {
        let (mark, text) = match (state, need) {
            (Ok(text), _) => ("ok     ", text),
            (Err(text), Need::Required) => ("MISSING", text),
            (Err(text), Need::Optional) => ("absent ", text),
        };
        println!("{mark}  {name:width$}  {text}");
    }
}
