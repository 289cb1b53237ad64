//! The ACPI tables that describe the virtual PC to its guest.
