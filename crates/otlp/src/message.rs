//! Protobuf's encoding, as far as messages need it that the gateway writes to others: here, and
//! where it asks them about requests.

/// A message under construction (protobuf's encoding: <https://protobuf.dev/programming-guides/encoding>).
#[derive(Debug, Default)]
pub struct Message(pub Vec<u8>);

impl Message {
    fn varint(&mut self, mut number: u64) {
        while number >= 0x80 {
            self.0.push(number as u8 | 0x80);
            number >>= 7;
        }
        self.0.push(number as u8);
    }

    fn tag(&mut self, field: u64, wire: u64) {
        self.varint(field << 3 | wire);
    }

    pub fn number(&mut self, field: u64, number: u64) {
        self.tag(field, 0);
        self.varint(number);
    }

    pub fn fixed64(&mut self, field: u64, number: u64) {
        self.tag(field, 1);
        self.0.extend_from_slice(&number.to_le_bytes());
    }

    pub fn bytes(&mut self, field: u64, bytes: &[u8]) {
        self.tag(field, 2);
        self.varint(bytes.len() as u64);
        self.0.extend_from_slice(bytes);
    }

    /// Nothing if it is empty, which is what protobuf's default means.
    pub fn text(&mut self, field: u64, text: &str) {
        if !text.is_empty() {
            self.bytes(field, text.as_bytes());
        }
    }

    pub fn message(&mut self, field: u64, fill: impl FnOnce(&mut Self)) {
        let mut inner = Self::default();
        fill(&mut inner);
        self.bytes(field, &inner.0);
    }

    /// A message with nothing in it is left out.
    pub fn some(&mut self, field: u64, fill: impl FnOnce(&mut Self)) {
        let mut inner = Self::default();
        fill(&mut inner);
        if !inner.0.is_empty() {
            self.bytes(field, &inner.0);
        }
    }

    /// Nothing if it is zero, which is what protobuf's default means.
    pub fn count(&mut self, field: u64, number: u64) {
        if number != 0 {
            self.number(field, number);
        }
    }

    /// An entry of a map from text to text.
    pub fn entry(&mut self, field: u64, key: &str, value: &str) {
        self.message(field, |entry| {
            entry.text(1, key);
            entry.text(2, value);
        });
    }
}
