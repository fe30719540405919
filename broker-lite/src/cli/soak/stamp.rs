//! What makes a message one of this run.

use bytes::{BufMut, Bytes, BytesMut};
use openwire_client::Message;

use super::books::Delivery;

/// Run, producer and number stand at the beginning of each body.
pub(super) const STAMP: usize = size_of::<u64>() + size_of::<u32>() + size_of::<u64>();

/// Writes and recognises the bodies of a run.
#[derive(Debug)]
pub(super) struct Stamp {
    /// A number that no other run has.
    run: u64,
    /// What follows the stamp.
    filler: Bytes,
}

impl Stamp {
    /// Bodies of `size` bytes, or of a stamp if that is more.
    pub(super) fn new(run: u64, size: usize) -> Self {
        Self {
            run,
            filler: vec![b'x'; size.saturating_sub(STAMP)].into(),
        }
    }

    pub(super) fn message(&self, producer: usize, number: u64) -> Message {
        let mut body = BytesMut::with_capacity(STAMP + self.filler.len());
        body.put_u64(self.run);
        body.put_u32(u32::try_from(producer).unwrap_or(u32::MAX));
        body.put_u64(number);
        body.extend_from_slice(&self.filler);
        Message::bytes(body.freeze())
    }

    /// None for a message of another run, or of which not every byte is as it was sent.
    pub(super) fn read(&self, message: &Message) -> Option<Delivery> {
        let body = message.as_bytes().ok()?;
        let (run, rest) = body.split_first_chunk()?;
        let (producer, rest) = rest.split_first_chunk()?;
        let (number, rest) = rest.split_first_chunk()?;
        (u64::from_be_bytes(*run) == self.run && rest == &*self.filler).then(|| Delivery {
            producer: usize::try_from(u32::from_be_bytes(*producer)).unwrap_or(usize::MAX),
            number: u64::from_be_bytes(*number),
            redelivered: message.redelivered(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read() {
        for size in [0, STAMP, 1000] {
            let stamp = Stamp::new(7, size);
            let message = stamp.message(3, 99);
            assert_eq!(message.as_bytes().unwrap().len(), size.max(STAMP));
            let delivery = Delivery {
                producer: 3,
                number: 99,
                redelivered: false,
            };
            assert_eq!(stamp.read(&message), Some(delivery));
        }
    }

    #[test]
    fn what_is_not_of_this_run_is_not_read() {
        let stamp = Stamp::new(7, 100);
        let mut damaged = stamp.message(0, 0).as_bytes().unwrap().to_vec();
        damaged[99] = b'y';
        for foreign in [
            Stamp::new(8, 100).message(0, 0),
            Stamp::new(7, 101).message(0, 0),
            Message::bytes(damaged),
            Message::bytes(vec![]),
            Message::text("hello"),
            Message::new(),
        ] {
            assert_eq!(stamp.read(&foreign), None);
        }
    }
}
