//! How many bytes a Huffman-coded string has (RFC 7541 appendix B), and whether `#` is one. The codes of one length follow
//! each other, and a longer code is a larger one: the length of a code is known by its bounds.

/// The value past the last code of each length, in the top bits of 32, and that length. A value that is not below any
/// of them is the end of the string (EOS).
const CODES: [(u32, u32); 21] = [
    (0x5000_0000, 5),
    (0xb800_0000, 6),
    (0xf800_0000, 7),
    (0xfe00_0000, 8),
    (0xff40_0000, 10),
    (0xffa0_0000, 11),
    (0xffc0_0000, 12),
    (0xfff0_0000, 13),
    (0xfff8_0000, 14),
    (0xfffe_0000, 15),
    (0xfffe_6000, 19),
    (0xfffe_e000, 20),
    (0xffff_4800, 21),
    (0xffff_b000, 22),
    (0xffff_ea00, 23),
    (0xffff_f600, 24),
    (0xffff_f800, 25),
    (0xffff_fbc0, 26),
    (0xffff_fe20, 27),
    (0xffff_fff0, 28),
    (0xffff_fffc, 30),
];
const LONGEST: u32 = 30;
/// `#`.
const FRAGMENT: (u32, u32) = (0xffa, 12);

/// Counts what passes.
#[derive(Debug, Default)]
pub(super) struct Lengths {
    pub(super) symbols: u32,
    pub(super) has_fragment: bool,
    /// The last `count` bits have not been decoded.
    bits: u64,
    count: u32,
}

impl Lengths {
    /// `false`: this is no code.
    pub(super) fn take(&mut self, bytes: &[u8]) -> bool {
        for byte in bytes {
            self.bits = self.bits << 8 | u64::from(*byte);
            self.count += 8;
            while self.count >= LONGEST {
                let Some(length) = self.next() else {
                    return false;
                };
                self.pass(length);
            }
        }
        true
    }

    /// The string ends here. `false`: it ends within a code, or with more padding than there may be.
    pub(super) fn end(&mut self) -> bool {
        while let Some(length) = self.next()
            && length <= self.count
        {
            self.pass(length);
        }
        let padding = (1 << self.count) - 1;
        self.count < 8 && self.bits & padding == padding
    }

    /// The length of the next code, if only ones follow the bits that are here.
    fn next(&self) -> Option<u32> {
        let window = match self.count.checked_sub(u32::BITS) {
            Some(behind) => self.bits >> behind,
            None => {
                let ones = u32::BITS - self.count;
                self.bits << ones | ((1 << ones) - 1)
            }
        };
        let code = CODES.iter().find(|(past, _)| window < u64::from(*past));
        code.map(|(_, length)| *length)
    }

    fn pass(&mut self, length: u32) {
        self.count -= length;
        let code = (self.bits >> self.count) & ((1 << length) - 1);
        self.has_fragment |= (u64::from(FRAGMENT.0), FRAGMENT.1) == (code, length);
        self.symbols += 1;
        self.bits &= (1 << self.count) - 1;
    }
}
