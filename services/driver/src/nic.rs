//! A network card, as its driver offers it.

/// Most bytes of a frame, with a VLAN tag and without the check sequence (IEEE 802.3, 3.2.7).
pub const MAX_FRAME: usize = 1518;
/// Fewest bytes of a frame: the header.
pub const MIN_FRAME: usize = 14;

/// A network card as it describes itself. What it does not have is `false`: it is then not offered to anybody.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct NicInformation {
    /// Its own address.
    pub mac: [u8; 6],
    /// Most bytes behind the Ethernet header.
    pub mtu: u16,
    /// Pairs of hardware queues, at least 1.
    pub queues: u16,
    /// It fills in the checksum of TCP and UDP when it sends, see [`Offload::checksum`].
    pub transmit_checksum: bool,
    /// It checks the checksum of TCP and UDP when it receives, see [`Received::checksum_valid`].
    pub receive_checksum: bool,
    /// It cuts TCP over IPv4 into segments, see [`Offload::segment`]. Frames may then be up to 65,549 bytes long.
    pub segmentation: bool,
}

/// The state of the link.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Link {
    /// Whether there is one.
    pub up: bool,
    /// Megabits a second; 0 if unknown.
    pub speed: u32,
    /// Both directions at once.
    pub full_duplex: bool,
}

/// Where a checksum is to be filled in (virtio 1.2, 5.1.6.2).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Checksum {
    /// Byte from which on the frame is summed.
    pub start: u16,
    /// Byte, counted from `start`, where the sum goes. The field holds the sum of the pseudo-header.
    pub offset: u16,
}

/// What the card is to do with a frame while it sends it. All offsets lie in the frame.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Offload {
    /// Fill in a checksum; only if [`NicInformation::transmit_checksum`].
    pub checksum: Option<Checksum>,
    /// Cut into TCP segments of so many bytes of payload; only with a checksum, and if [`NicInformation::segmentation`].
    pub segment: Option<u16>,
    /// Bytes of Ethernet, IP and TCP headers, with `segment`.
    pub header: u16,
}

/// What the card says of a frame that it received.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Received {
    /// The checksum of TCP or UDP was looked at, and was right.
    pub checksum_valid: bool,
}

/// Counts since the start of the driver.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct NicStatistics {
    /// Frames sent.
    pub sent: u64,
    /// Bytes sent.
    pub sent_bytes: u64,
    /// Frames received.
    pub received: u64,
    /// Bytes received.
    pub received_bytes: u64,
    /// Frames lost on receipt for want of buffers.
    pub missed: u64,
    /// Frames received with an error.
    pub errors: u64,
}

/// Why a frame was not taken.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum TransmitError {
    /// All buffers are in use: later, after an interrupt.
    Full,
    /// The frame is shorter than [`MIN_FRAME`] or longer than the card sends.
    Size,
    /// The card cannot do what the offload asks for.
    Unsupported,
    /// The card is lost.
    Dead,
}

/// A network card. All calls return at once.
pub trait Nic {
    /// What the card says of itself. It does not change.
    fn information(&self) -> &NicInformation;

    /// The link now.
    fn link(&self) -> Link;

    /// Sends a frame, without its check sequence. It is copied before the call returns.
    fn transmit(&mut self, frame: &[u8], offload: Offload) -> Result<(), TransmitError>;

    /// Hands over the next frame that was received, without its check sequence; false if there is none.
    fn receive(&mut self, take: &mut dyn FnMut(&[u8], Received)) -> bool;

    /// Whether the card hands over all frames, or only those to its own address and to everybody (broadcast), as after its start. A
    /// switch has other addresses behind its card, and groups that it does not know.
    fn set_promiscuous(&mut self, promiscuous: bool);

    /// To be called at every interrupt of the card, before frames are received or sent. Returns whether the link may have changed.
    fn on_interrupt(&mut self) -> bool;

    /// Counts.
    fn statistics(&self) -> NicStatistics;

    /// Whether the card is lost for good.
    fn is_dead(&self) -> bool;
}
