//! Arbitrary commands: every field of every structure is made from a string of arbitrary bytes, so that
//! proptest can shrink them. Where the bytes end there are only zeros, which make absent values.

use std::sync::Arc;

use bytes::Bytes;

use super::super::write::clip;
use super::super::*;

pub(in crate::wire) struct Source<'a> {
    bytes: &'a [u8],
    depth: u32,
}

impl<'a> Source<'a> {
    pub(in crate::wire) fn new(bytes: &'a [u8]) -> Self {
        Self { bytes, depth: 0 }
    }

    fn byte(&mut self) -> u8 {
        match self.bytes.split_first() {
            Some((first, rest)) => {
                self.bytes = rest;
                *first
            }
            None => 0,
        }
    }

    fn array<const N: usize>(&mut self) -> [u8; N] {
        std::array::from_fn(|_| self.byte())
    }

    /// A number below a small limit.
    pub(in crate::wire) fn below(&mut self, limit: usize) -> usize {
        usize::from(self.byte()) % limit
    }

    pub(in crate::wire) fn sample<T: Sample>(&mut self) -> T {
        T::sample(self)
    }
}

/// A type with arbitrary values.
pub(in crate::wire) trait Sample: Sized {
    fn sample(source: &mut Source<'_>) -> Self;

    /// The value as it arrives at the other end with these settings.
    fn seen(self, _: &WireFormat) -> Self {
        self
    }
}

impl Sample for bool {
    fn sample(source: &mut Source<'_>) -> Self {
        source.byte() & 1 == 1
    }
}

impl Sample for i8 {
    fn sample(source: &mut Source<'_>) -> Self {
        source.byte() as Self
    }
}

impl Sample for i32 {
    fn sample(source: &mut Source<'_>) -> Self {
        match source.below(4) {
            0 => 0,
            1 => source.byte().into(),
            2 => -1,
            _ => Self::from_be_bytes(source.array()),
        }
    }
}

impl Sample for i64 {
    /// Round the places where the tight encoding changes its form.
    fn sample(source: &mut Source<'_>) -> Self {
        let near = |edge: Self, source: &mut Source<'_>| edge.wrapping_add(source.below(5) as Self - 2);
        match source.below(7) {
            0 => 0,
            1 => near(0, source),
            2 => near(0x1_0000, source),
            3 => near(0x1_0000_0000, source),
            4 => near(Self::MIN, source),
            5 => source.byte().into(),
            _ => Self::from_be_bytes(source.array()),
        }
    }
}

impl Sample for [u8; 8] {
    fn sample(source: &mut Source<'_>) -> Self {
        source.array()
    }
}

impl Sample for Arc<str> {
    fn sample(source: &mut Source<'_>) -> Self {
        let odd = [
            '\0',
            '\u{7F}',
            '\u{80}',
            'é',
            '\u{7FF}',
            '\u{800}',
            '漢',
            '\u{FFFF}',
            '😀',
            '\u{10FFFF}',
        ];
        let shape = source.below(4);
        (0..source.below(12))
            .map(|_| match (shape, source.byte()) {
                (0, byte) => odd[usize::from(byte) % odd.len()],
                (1, byte) if byte < 64 => odd[usize::from(byte) % odd.len()],
                (_, byte) => char::from(b' ' + byte % 95),
            })
            .collect::<String>()
            .into()
    }
}

impl Sample for Bytes {
    /// A few bytes, or enough to be copied late.
    fn sample(source: &mut Source<'_>) -> Self {
        match source.below(16) {
            15 => vec![source.byte(); 1000 + source.below(50)].into(),
            length => (0..length).map(|_| source.byte()).collect(),
        }
    }
}

impl<T: Sample> Sample for Option<T> {
    fn sample(source: &mut Source<'_>) -> Self {
        match source.below(3) {
            0 => None,
            _ => Some(source.sample()),
        }
    }

    fn seen(self, format: &WireFormat) -> Self {
        self.map(|value| value.seen(format))
    }
}

impl<T: Sample> Sample for Vec<T> {
    fn sample(source: &mut Source<'_>) -> Self {
        (0..source.below(4)).map(|_| source.sample()).collect()
    }

    fn seen(self, format: &WireFormat) -> Self {
        self.into_iter().map(|value| value.seen(format)).collect()
    }
}

/// Whatever can hold itself does so in a box.
impl<T: Sample> Sample for Box<T> {
    fn sample(source: &mut Source<'_>) -> Self {
        source.depth += 1;
        if source.depth > 12 {
            source.bytes = &[];
        }
        let value = source.sample();
        source.depth -= 1;
        Self::new(value)
    }

    fn seen(self, format: &WireFormat) -> Self {
        Self::new((*self).seen(format))
    }
}

impl Sample for Arc<Message> {
    fn sample(source: &mut Source<'_>) -> Self {
        Self::new(source.sample())
    }

    fn seen(self, format: &WireFormat) -> Self {
        Self::new(Self::unwrap_or_clone(self).seen(format))
    }
}

impl Sample for BlobReference {
    fn sample(source: &mut Source<'_>) -> Self {
        Self {
            remote_blob_url: source.sample(),
            mime_type: source.sample(),
            deleted_by_broker: source.sample(),
        }
    }
}

impl Sample for Destination {
    fn sample(source: &mut Source<'_>) -> Self {
        use DestinationKind::{Queue, TempQueue, TempTopic, Topic};
        let kind = [Queue, Topic, TempQueue, TempTopic][source.below(4)];
        Self::new(kind, &source.sample::<Arc<str>>())
    }
}

impl Sample for MessageId {
    fn sample(source: &mut Source<'_>) -> Self {
        Self {
            text_view: source.sample(),
            producer_id: source.sample(),
            producer_sequence_id: source.sample(),
            broker_sequence_id: source.sample(),
        }
    }

    fn seen(self, format: &WireFormat) -> Self {
        Self {
            text_view: self.text_view.filter(|_| format.version >= 10),
            ..self
        }
    }
}

impl Sample for TransactionId {
    fn sample(source: &mut Source<'_>) -> Self {
        if source.sample() {
            return Self::Local(source.sample());
        }
        let part = |source: &mut Source<'_>| {
            let length = source.below(70);
            (length < 65).then(|| vec![source.byte(); length].into())
        };
        Self::Xa(XaTransactionId {
            format_id: source.sample(),
            global_transaction_id: part(source),
            branch_qualifier: part(source),
        })
    }
}

impl Sample for EntityId {
    fn sample(source: &mut Source<'_>) -> Self {
        match source.below(4) {
            0 => Self::Connection(source.sample()),
            1 => Self::Session(source.sample()),
            2 => Self::Consumer(source.sample()),
            _ => Self::Producer(source.sample()),
        }
    }
}

impl Sample for Throwable {
    fn sample(source: &mut Source<'_>) -> Self {
        Self {
            class: source.sample(),
            message: source.sample(),
            stack_trace: source.sample(),
            cause: source.sample(),
        }
    }

    fn seen(self, format: &WireFormat) -> Self {
        Self {
            class: self.class,
            message: clip(self.message.as_deref(), format.version).map(|message| message.into()),
            stack_trace: if format.stack_trace {
                self.stack_trace
            } else {
                Vec::new()
            },
            cause: self.cause.filter(|_| format.stack_trace).seen(format),
        }
    }
}

impl Sample for StackTraceElement {
    fn sample(source: &mut Source<'_>) -> Self {
        Self {
            class: source.sample(),
            method: source.sample(),
            file: source.sample(),
            line: source.sample(),
        }
    }
}

impl Sample for Value {
    fn sample(source: &mut Source<'_>) -> Self {
        match source.below(13) {
            0 => Self::Null,
            1 => Self::Bool(source.sample()),
            2 => Self::Byte(source.sample()),
            3 => Self::Char(u16::from_be_bytes(source.array())),
            4 => Self::Short(i16::from_be_bytes(source.array())),
            5 => Self::Int(source.sample()),
            6 => Self::Long(source.sample()),
            7 => Self::Double(f64::from_be_bytes(source.array())),
            8 => Self::Float(f32::from_be_bytes(source.array())),
            9 => Self::String(source.sample()),
            10 => Self::Bytes(source.sample()),
            11 => Self::Map(*source.sample::<Box<ValueMap>>()),
            _ => Self::List(*source.sample::<Box<Vec<Self>>>()),
        }
    }
}

impl Sample for ValueMap {
    fn sample(source: &mut Source<'_>) -> Self {
        (0..source.below(5))
            .map(|_| (source.sample::<Arc<str>>(), source.sample::<Value>()))
            .collect()
    }
}
