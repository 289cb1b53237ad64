//! A function whose results tell who applied it, and how often.

/// Mixes a number into a value. Odd multipliers and shifts lose nothing: different values stay different.
pub fn mix(value: u64, number: u64) -> u64 {
    let value = (value ^ number).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    value ^ (value >> 29)
}

/// The values of a sequence, mixed in their order.
pub fn digest(values: impl Iterator<Item = u64>) -> u64 {
    values.fold(1, mix)
}
