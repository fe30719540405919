//! What a run says at its end.

use std::fmt;

use serde::Serialize;

/// The outcome of a soak.
///
/// Messages are counted once, however often they were sent or came again. Written as JSON it has the fields up to
/// [`longest_gap_ms`](Self::longest_gap_ms); its text has all.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct Report {
    /// Messages that producers began to send.
    pub sent: u64,
    /// Those the broker confirmed: it answered the send, or the commit of the transaction.
    pub confirmed: u64,
    /// Messages that came and were acknowledged, or whose receipt was committed or is in doubt.
    pub received: u64,
    /// Messages that were confirmed and did not come before the drain was given up, and those that are missing of a
    /// transaction in doubt of which others came.
    pub lost: u64,
    /// How often a message came, and was acknowledged or committed, after that had happened to it before.
    pub duplicated: u64,
    /// Messages whose send or commit got no answer, and messages received in a transaction whose commit got none.
    /// Whether they come, or come again, counts neither as loss nor as duplicate.
    pub in_doubt: u64,
    /// Messages that came to a consumer after a later one of the same producer. Those that come again are not counted,
    /// nor those sent before the last break of any consumer's connection, which puts messages back into the queue.
    pub out_of_order: u64,
    /// Broken connections that were replaced, by the client or by the soak.
    pub reconnects: u64,
    /// The longest time in which nothing came, while something had to.
    pub longest_gap_ms: u64,
    /// Of the duplicates, those that came with the redelivered flag.
    #[serde(skip)]
    pub flagged: u64,
    /// Messages that came again without a word: no redelivered flag, no doubt about their send or receipt, and no
    /// break soon after a consumer had acknowledged them without waiting for an answer.
    #[serde(skip)]
    pub unexplained: u64,
    /// Of those in doubt, how many on the side of consumers.
    #[serde(skip)]
    pub doubtful_receipts: u64,
    /// Messages that the broker refused, or whose transaction was rolled back and not done again before the end.
    #[serde(skip)]
    pub refused: u64,
    /// Messages that came although they were refused.
    #[serde(skip)]
    pub unexpected: u64,
    /// Messages in the queue that are none of this run, or not as they were sent.
    #[serde(skip)]
    pub foreign: u64,
    /// Messages that the client gave up because they had been delivered too often.
    #[serde(skip)]
    pub poisoned: u64,
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            sent,
            confirmed,
            received,
            lost,
            duplicated,
            in_doubt,
            out_of_order,
            reconnects,
            longest_gap_ms,
            flagged,
            unexplained,
            doubtful_receipts,
            ..
        } = self;
        write!(
            f,
            "{sent} sent, {confirmed} confirmed, {received} received, {lost} lost, {duplicated} duplicated \
             ({flagged} flagged as redelivered, {unexplained} without a word), {in_doubt} in doubt \
             ({} when sent, {doubtful_receipts} when received), {out_of_order} out of order, \
             {reconnects} reconnects, longest gap {longest_gap_ms} ms",
            in_doubt - doubtful_receipts,
        )?;
        for (count, what) in [
            (self.refused, "refused or rolled back for good"),
            (self.unexpected, "came although refused"),
            (self.foreign, "foreign"),
            (self.poisoned, "given up after too many deliveries"),
        ] {
            if count > 0 {
                write!(f, "; {count} {what}")?;
            }
        }
        Ok(())
    }
}
