//! Protobuf's encoding, as far as guards need it to read what the services answer that they ask.
//! [`otlp::Message`] writes it.
//!
//! Unknown fields are skipped; what is cut or longer than it says is an error.

/// A field of a message that is read.
#[derive(Clone, Copy, Debug)]
pub(super) enum Value<'a> {
    Number(u64),
    Bytes(&'a [u8]),
}

/// The fields of a message, one after another.
pub(super) struct Fields<'a>(pub(super) &'a [u8]);

pub(super) type Field<'a> = (u32, Value<'a>);

impl<'a> Fields<'a> {
    fn varint(&mut self) -> Option<u64> {
        let mut value = 0;
        for at in 0..10 {
            let (byte, rest) = self.0.split_first()?;
            self.0 = rest;
            value |= u64::from(byte & 0x7f).checked_shl(at * 7).unwrap_or(0);
            if byte & 0x80 == 0 {
                return Some(value);
            }
        }
        None
    }

    fn take(&mut self, length: u64) -> Option<&'a [u8]> {
        let length = usize::try_from(length).ok()?;
        let (taken, rest) = self.0.split_at_checked(length)?;
        self.0 = rest;
        Some(taken)
    }

    /// `Ok(None)` at the end.
    pub(super) fn next(&mut self) -> Result<Option<Field<'a>>, String> {
        if self.0.is_empty() {
            return Ok(None);
        }
        let mut read = || {
            let key = self.varint()?;
            let field = u32::try_from(key >> 3).ok()?;
            let value = match key & 7 {
                0 => Value::Number(self.varint()?),
                1 => Value::Bytes(self.take(8)?),
                2 => {
                    let length = self.varint()?;
                    Value::Bytes(self.take(length)?)
                }
                5 => Value::Bytes(self.take(4)?),
                _ => return None,
            };
            Some((field, value))
        };
        read()
            .map(Some)
            .ok_or_else(|| "the answer is not valid protobuf".to_owned())
    }
}

/// The last value of a number in a message.
pub(super) fn number(bytes: &[u8], wanted: u32) -> Result<Option<u64>, String> {
    let (mut fields, mut found) = (Fields(bytes), None);
    while let Some(field) = fields.next()? {
        if let (at, Value::Number(value)) = field
            && at == wanted
        {
            found = Some(value);
        }
    }
    Ok(found)
}

pub(super) fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}
