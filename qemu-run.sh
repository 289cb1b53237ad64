#!/bin/sh
# From a fresh checkout on Debian, with Rust, to a booted system: installs what is missing, builds, and runs the default
# manifest. Arguments go to `bulkhead run`:
#
#     ./qemu-run.sh
#     ./qemu-run.sh --backend bochs --timeout 900 --serial out.log < /dev/null
#
# MANIFEST=FILE chooses another manifest. Exit status: that of `bulkhead run`; 2 if something is missing that this
# user cannot install.
set -eu
cd "$(dirname "$0")"
. ./.ci/packages.sh

install_packages
exec cargo run --quiet -- run "${MANIFEST:-partitions/default.toml}" "$@"
