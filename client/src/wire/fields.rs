//! One declaration per command: the struct, its field list and, through [`Writer`] and [`Reader`], both
//! encodings in every version.
//!
//! `command Name = 3 { … }` declares a command (it starts with `commandId` and `responseRequired`),
//! `data Name = 120 { … }` a structure without that header, `message Name { … }` the one struct behind
//! the seven message types. A field reads `name: kind`, `name: kind<Type>`, `name: kind @ since` or
//! `name: kind @ since ..= until`.

use std::sync::Arc;

use bytes::Bytes;

use super::cache::Cacheable;
use super::error::WireError;
use super::throwable::Throwable;

/// Where fields are written to: the loose or the tight encoding.
pub(crate) trait Writer: Sized {
    /// The agreed version, which decides what fields exist.
    fn version(&self) -> i32;
    fn boolean(&mut self, value: bool) -> Result<(), WireError>;
    fn byte(&mut self, value: i8) -> Result<(), WireError>;
    fn int(&mut self, value: i32) -> Result<(), WireError>;
    fn long(&mut self, value: i64) -> Result<(), WireError>;
    fn string(&mut self, value: Option<&str>) -> Result<(), WireError>;
    fn bytes(&mut self, value: Option<&[u8]>) -> Result<(), WireError>;
    fn const8(&mut self, value: &[u8; 8]) -> Result<(), WireError>;
    fn nested<T: Structure>(&mut self, value: Option<&T>) -> Result<(), WireError>;
    fn cached<T: Cacheable>(&mut self, value: Option<&T>) -> Result<(), WireError>;
    fn array<T: Structure>(&mut self, value: Option<&[Option<T>]>) -> Result<(), WireError>;
    fn throwable(&mut self, value: Option<&Throwable>) -> Result<(), WireError>;
}

/// Where fields are read from.
pub(crate) trait Reader: Sized {
    /// The agreed version, which decides what fields exist.
    fn version(&self) -> i32;
    fn boolean(&mut self) -> Result<bool, WireError>;
    fn byte(&mut self) -> Result<i8, WireError>;
    fn int(&mut self) -> Result<i32, WireError>;
    fn long(&mut self) -> Result<i64, WireError>;
    fn string(&mut self) -> Result<Option<Arc<str>>, WireError>;
    fn bytes(&mut self) -> Result<Option<Bytes>, WireError>;
    fn const8(&mut self) -> Result<[u8; 8], WireError>;
    fn nested<T: Structure>(&mut self) -> Result<Option<T>, WireError>;
    fn cached<T: Cacheable>(&mut self) -> Result<Option<T>, WireError>;
    fn array<T: Structure>(&mut self) -> Result<Option<Vec<Option<T>>>, WireError>;
    fn throwable(&mut self) -> Result<Option<Throwable>, WireError>;
}

/// Something with a data-structure type id.
pub(crate) trait Structure: Sized {
    /// The type id that stands before the fields.
    fn type_id(&self) -> u8;
    /// Writes the fields in wire order.
    fn write<W: Writer>(&self, writer: &mut W) -> Result<(), WireError>;
    /// Reads the fields of the type `id`, refusing ids that do not fit this place.
    fn read<R: Reader>(id: u8, reader: &mut R) -> Result<Self, WireError>;
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
    (bytes) => { Option<bytes::Bytes> };
    (const8) => { [u8; 8] };
    (throwable) => { Option<$crate::wire::Throwable> };
    (nested<$ty:ty>) => { Option<$ty> };
    (cached<$ty:ty>) => { Option<$ty> };
    (array<$ty:ty>) => { Option<Vec<Option<$ty>>> };
}

macro_rules! write_field {
    ($w:ident, $field:expr, bool) => {
        $w.boolean($field)?
    };
    ($w:ident, $field:expr, byte) => {
        $w.byte($field)?
    };
    ($w:ident, $field:expr, int) => {
        $w.int($field)?
    };
    ($w:ident, $field:expr, long) => {
        $w.long($field)?
    };
    ($w:ident, $field:expr, string) => {
        $w.string($field.as_deref())?
    };
    ($w:ident, $field:expr, bytes) => {
        $w.bytes($field.as_deref())?
    };
    ($w:ident, $field:expr, const8) => {
        $w.const8(&$field)?
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
    ($r:ident, bool) => {
        $r.boolean()?
    };
    ($r:ident, byte) => {
        $r.byte()?
    };
    ($r:ident, int) => {
        $r.int()?
    };
    ($r:ident, long) => {
        $r.long()?
    };
    ($r:ident, string) => {
        $r.string()?
    };
    ($r:ident, bytes) => {
        $r.bytes()?
    };
    ($r:ident, const8) => {
        $r.const8()?
    };
    ($r:ident, throwable) => {
        $r.throwable()?
    };
    ($r:ident, nested<$ty:ty>) => {
        $r.nested()?
    };
    ($r:ident, cached<$ty:ty>) => {
        $r.cached()?
    };
    ($r:ident, array<$ty:ty>) => {
        $r.array()?
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

            fn write<W: $crate::wire::fields::Writer>(&self, w: &mut W) -> Result<(), $crate::wire::WireError> {
                w.int(self.command_id)?;
                w.boolean(self.response_required)?;
                $( if in_version!(w.version() $(, $since $(, $until)?)?) {
                    write_field!(w, self.$field, $kind $(<$ty>)?);
                } )*
                if self.kind == MessageKind::Blob {
                    self.blob.as_deref().unwrap_or(&BlobReference::default()).write(w)?;
                }
                Ok(())
            }

            fn read<R: $crate::wire::fields::Reader>(id: u8, r: &mut R) -> Result<Self, $crate::wire::WireError> {
                let kind = MessageKind::from_type_id(id)
                    .ok_or_else(|| $crate::wire::WireError::unexpected_type(id, "a message"))?;
                Ok(Self {
                    kind,
                    command_id: r.int()?,
                    response_required: r.boolean()?,
                    $( $field: if in_version!(r.version() $(, $since $(, $until)?)?) {
                        read_field!(r, $kind $(<$ty>)?)
                    } else {
                        Default::default()
                    }, )*
                    blob: if kind == MessageKind::Blob { Some(Box::new(BlobReference::read(r)?)) } else { None },
                })
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
        #[derive(Debug, Clone, PartialEq, Eq, Default)]
        pub struct $name {
            $( $(#[$fmeta])* pub $field: field_type!($kind $(<$ty>)?), )*
        }

        impl $name {
            /// The data-structure type id of this type.
            pub const TYPE: u8 = $id;
        }

        impl $crate::wire::fields::Structure for $name {
            fn type_id(&self) -> u8 {
                Self::TYPE
            }

            fn write<W: $crate::wire::fields::Writer>(&self, _w: &mut W) -> Result<(), $crate::wire::WireError> {
                $( if in_version!(_w.version() $(, $since $(, $until)?)?) {
                    write_field!(_w, self.$field, $kind $(<$ty>)?);
                } )*
                Ok(())
            }

            fn read<R: $crate::wire::fields::Reader>(id: u8, _r: &mut R) -> Result<Self, $crate::wire::WireError> {
                if id != Self::TYPE {
                    return Err($crate::wire::WireError::unexpected_type(id, stringify!($name)));
                }
                Ok(Self {
                    $( $field: if in_version!(_r.version() $(, $since $(, $until)?)?) {
                        read_field!(_r, $kind $(<$ty>)?)
                    } else {
                        Default::default()
                    }, )*
                })
            }
        }
    };
}
