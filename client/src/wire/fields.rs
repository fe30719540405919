//! One declaration per command: the struct, its field list and, through [`Writer`] and [`Reader`], both
//! encodings in every version.
//!
//! `command Name = 3 { … }` declares a command (it starts with `commandId` and `responseRequired`),
//! `data Name = 120 { … }` a structure without that header, `message Name { … }` the one struct behind
//! the seven message types. A field reads `name: kind`, `name: kind<Type>`, `name: kind @ since` or
//! `name: kind @ since ..= until`. A `secret` is a string that no log shows.

use super::error::WireError;
use super::read::{ReadEncoding, Reader};
use super::write::{WriteEncoding, Writer};

/// Something with a data-structure type id.
pub(crate) trait Structure: Sized {
    /// The type id that stands before the fields.
    fn type_id(&self) -> u8;
    /// Writes the fields in wire order.
    fn write<E: WriteEncoding>(&self, writer: &mut Writer<'_, E>) -> Result<(), WireError>;
    /// Reads the fields of the type `id`, refusing ids that do not fit this place.
    fn read<E: ReadEncoding>(id: u8, reader: &mut Reader<'_, E>) -> Result<Self, WireError>;
}

/// True for the types that may carry a separately encoded form of themselves when nested (messages and
/// `WireFormatInfo`): in the tight encoding these have one more bit.
pub(crate) fn is_marshal_aware(type_id: u8) -> bool {
    matches!(type_id, 1 | 23..=29)
}

macro_rules! field_type {
    (bool) => { bool };
    (byte) => { i8 };
    (int) => { i32 };
    (long) => { i64 };
    (string) => { Option<std::sync::Arc<str>> };
    (secret) => { Option<std::sync::Arc<str>> };
    (bytes) => { Option<bytes::Bytes> };
    (const8) => { [u8; 8] };
    (throwable) => { Option<$crate::wire::Throwable> };
    (nested<$ty:ty>) => { Option<$ty> };
    (cached<$ty:ty>) => { Option<$ty> };
    (array<$ty:ty>) => { Option<Vec<Option<$ty>>> };
}

macro_rules! write_field {
    ($w:ident, $field:expr, bool) => {
        $w.boolean($field)
    };
    ($w:ident, $field:expr, byte) => {
        $w.byte($field)
    };
    ($w:ident, $field:expr, int) => {
        $w.int($field)
    };
    ($w:ident, $field:expr, long) => {
        $w.long($field)
    };
    ($w:ident, $field:expr, string) => {
        $w.string($field.as_deref())?
    };
    ($w:ident, $field:expr, secret) => {
        $w.string($field.as_deref())?
    };
    ($w:ident, $field:expr, bytes) => {
        $w.bytes($field.as_ref())?
    };
    ($w:ident, $field:expr, const8) => {
        $w.const8(&$field)
    };
    ($w:ident, $field:expr, throwable) => {
        $w.throwable($field.as_ref())?
    };
    ($w:ident, $field:expr, nested<$ty:ty>) => {
        $w.nested($field.as_ref())?
    };
    ($w:ident, $field:expr, cached<$ty:ty>) => {
        $w.cached($field.as_ref())?
    };
    ($w:ident, $field:expr, array<$ty:ty>) => {
        $w.array($field.as_deref())?
    };
}

macro_rules! read_field {
    ($r:ident, $field:expr, bool) => {
        $field = $r.boolean()?
    };
    ($r:ident, $field:expr, byte) => {
        $field = $r.byte()?
    };
    ($r:ident, $field:expr, int) => {
        $field = $r.int()?
    };
    ($r:ident, $field:expr, long) => {
        $field = $r.long()?
    };
    ($r:ident, $field:expr, string) => {
        $r.string(&mut $field)?
    };
    ($r:ident, $field:expr, secret) => {
        $r.string(&mut $field)?
    };
    ($r:ident, $field:expr, bytes) => {
        $r.bytes(&mut $field)?
    };
    ($r:ident, $field:expr, const8) => {
        $field = $r.const8()?
    };
    ($r:ident, $field:expr, throwable) => {
        $r.throwable(&mut $field)?
    };
    ($r:ident, $field:expr, nested<$ty:ty>) => {
        $r.nested(&mut $field)?
    };
    ($r:ident, $field:expr, cached<$ty:ty>) => {
        $r.cached(&mut $field)?
    };
    ($r:ident, $field:expr, array<$ty:ty>) => {
        $r.array(&mut $field)?
    };
}

macro_rules! debug_field {
    ($field:expr, secret) => {
        &$field.as_ref().map(|_| "***")
    };
    ($field:expr, $kind:ident $(<$ty:ty>)?) => {
        &$field
    };
}

macro_rules! in_version {
    ($v:expr) => {
        true
    };
    ($v:expr, $since:literal) => {
        $v >= $since
    };
    ($v:expr, $since:literal, $until:literal) => {
        ($since..=$until).contains(&$v)
    };
}

macro_rules! openwire {
    () => {};
    (
        $(#[$meta:meta])*
        command $name:ident = $id:literal { $($body:tt)* }
        $($rest:tt)*
    ) => {
        openwire! { @structure
            $(#[$meta])*
            $name = $id {
                /// Number of this command on its connection; a [`Response`](crate::wire::Response) names it.
                command_id: int,
                /// The sender waits for a response.
                response_required: bool,
                $($body)*
            }
        }
        openwire! { $($rest)* }
    };
    (
        $(#[$meta:meta])*
        data $name:ident = $id:literal { $($body:tt)* }
        $($rest:tt)*
    ) => {
        openwire! { @structure $(#[$meta])* $name = $id { $($body)* } }
        openwire! { $($rest)* }
    };
    (
        $(#[$meta:meta])*
        message $name:ident {
            $( $(#[$fmeta:meta])* $field:ident : $kind:ident $(<$ty:ty>)? $(@ $since:literal $(..= $until:literal)?)? ),* $(,)?
        }
    ) => {
        $(#[$meta])*
        #[derive(Debug, Clone, PartialEq, Eq, Default)]
        pub struct $name {
            /// Which of the seven message types this is.
            pub kind: MessageKind,
            /// Number of this command on its connection; a [`Response`](crate::wire::Response) names it.
            pub command_id: i32,
            /// The sender waits for a response. Means nothing in a dispatched message.
            pub response_required: bool,
            $( $(#[$fmeta])* pub $field: field_type!($kind $(<$ty>)?), )*
            /// Where the body of a blob message lies. Since version 3.
            pub blob: Option<Box<BlobReference>>,
        }

        impl $crate::wire::fields::Structure for $name {
            fn type_id(&self) -> u8 {
                self.kind.type_id()
            }

            fn write<E: $crate::wire::write::WriteEncoding>(
                &self,
                w: &mut $crate::wire::write::Writer<'_, E>,
            ) -> Result<(), $crate::wire::WireError> {
                w.int(self.command_id);
                w.boolean(self.response_required);
                $( if in_version!(w.version() $(, $since $(, $until)?)?) {
                    write_field!(w, self.$field, $kind $(<$ty>)?);
                } )*
                if self.kind == MessageKind::Blob {
                    self.blob.as_deref().unwrap_or(&BlobReference::default()).write(w)?;
                }
                Ok(())
            }

            fn read<E: $crate::wire::read::ReadEncoding>(
                id: u8,
                r: &mut $crate::wire::read::Reader<'_, E>,
            ) -> Result<Self, $crate::wire::WireError> {
                let kind = MessageKind::from_type_id(id)
                    .ok_or_else(|| $crate::wire::WireError::unexpected_type(id, "a message"))?;
                let mut value = Self {
                    kind,
                    command_id: r.int()?,
                    response_required: r.boolean()?,
                    ..Self::default()
                };
                $( if in_version!(r.version() $(, $since $(, $until)?)?) {
                    read_field!(r, value.$field, $kind $(<$ty>)?);
                } )*
                if kind == MessageKind::Blob {
                    value.blob = Some(Box::new(BlobReference::read(r)?));
                }
                Ok(value)
            }
        }

        #[cfg(test)]
        impl $crate::wire::tests::sample::Sample for $name {
            fn sample(source: &mut $crate::wire::tests::sample::Source<'_>) -> Self {
                Self {
                    kind: MessageKind::from_type_id(23 + source.below(7) as u8).expect("one of seven"),
                    command_id: source.sample(),
                    response_required: source.sample(),
                    $( $field: source.sample(), )*
                    blob: source.sample(),
                }
            }

            fn seen(self, format: &$crate::wire::WireFormat) -> Self {
                Self {
                    kind: self.kind,
                    command_id: self.command_id,
                    response_required: self.response_required,
                    $( $field: if in_version!(format.version $(, $since $(, $until)?)?) {
                        self.$field.seen(format)
                    } else {
                        Default::default()
                    }, )*
                    blob: (self.kind == MessageKind::Blob).then(|| self.blob.unwrap_or_default()),
                }
            }
        }
    };
    (@structure
        $(#[$meta:meta])*
        $name:ident = $id:literal {
            $( $(#[$fmeta:meta])* $field:ident : $kind:ident $(<$ty:ty>)? $(@ $since:literal $(..= $until:literal)?)? ),* $(,)?
        }
    ) => {
        $(#[$meta])*
        #[derive(Clone, PartialEq, Eq, Default)]
        pub struct $name {
            $( $(#[$fmeta])* pub $field: field_type!($kind $(<$ty>)?), )*
        }

        impl std::fmt::Debug for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.debug_struct(stringify!($name))
                    $( .field(stringify!($field), debug_field!(self.$field, $kind $(<$ty>)?)) )*
                    .finish()
            }
        }

        impl $name {
            /// The data-structure type id of this type.
            pub const TYPE: u8 = $id;
        }

        impl $crate::wire::fields::Structure for $name {
            fn type_id(&self) -> u8 {
                Self::TYPE
            }

            fn write<E: $crate::wire::write::WriteEncoding>(
                &self,
                _w: &mut $crate::wire::write::Writer<'_, E>,
            ) -> Result<(), $crate::wire::WireError> {
                $( if in_version!(_w.version() $(, $since $(, $until)?)?) {
                    write_field!(_w, self.$field, $kind $(<$ty>)?);
                } )*
                Ok(())
            }

            fn read<E: $crate::wire::read::ReadEncoding>(
                id: u8,
                _r: &mut $crate::wire::read::Reader<'_, E>,
            ) -> Result<Self, $crate::wire::WireError> {
                if id != Self::TYPE {
                    return Err($crate::wire::WireError::unexpected_type(id, stringify!($name)));
                }
                #[allow(unused_mut, reason = "some have no fields")]
                let mut value = Self::default();
                $( if in_version!(_r.version() $(, $since $(, $until)?)?) {
                    read_field!(_r, value.$field, $kind $(<$ty>)?);
                } )*
                Ok(value)
            }
        }

        #[cfg(test)]
        impl $crate::wire::tests::sample::Sample for $name {
            fn sample(_source: &mut $crate::wire::tests::sample::Source<'_>) -> Self {
                Self { $( $field: _source.sample(), )* }
            }

            fn seen(self, _format: &$crate::wire::WireFormat) -> Self {
                Self {
                    $( $field: if in_version!(_format.version $(, $since $(, $until)?)?) {
                        self.$field.seen(_format)
                    } else {
                        Default::default()
                    }, )*
                }
            }
        }
    };
}
