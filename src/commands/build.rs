//! `bulkhead build`.

use crate::{
    arguments::BuildArguments,
    system::{self, System},
};

/// Builds the image and says where it is.
pub fn run(arguments: &BuildArguments) -> miette::Result<u8> {
    let Some(system) = System::compile(&arguments.manifest)? else {
        return Ok(crate::SETUP_ERROR);
    };
    let output = match &arguments.output {
        Some(output) => output.clone(),
        None => system::directory(&arguments.manifest)?.join("image.iso"),
    };
    system.build_image(&output)?;
    println!("{}", output.display());
    Ok(0)
}
