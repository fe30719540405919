//! Distributed transactions: a transaction manager commits what happens at a broker together with what happens elsewhere
//! (JMS `XASession`, `javax.transaction.xa.XAResource`).
//!
//! ```no_run
//! use openwire_client::xa::{End, Start, Vote, Xid};
//! use openwire_client::{Connection, Destination};
//!
//! # async fn example(connection: Connection) -> openwire_client::Result<()> {
//! let session = connection.create_xa_session().await?;
//! let producer = session.create_producer(&Destination::queue("Orders")).await?;
//! let xid = Xid::new(4660, "order-17", "broker")?;
//!
//! session.start(&xid, Start::New).await?;
//! producer.send("17").await?;
//! session.end(&xid, End::Success).await?;
//! if session.prepare(&xid).await? == Vote::Commit {
//!     // Here the others are prepared, and the decision is written down.
//!     session.commit(&xid, false).await?;
//! }
//! # Ok(())
//! # }
//! ```
//!
//! # When the connection breaks
//!
//! A branch belongs to its physical connection until it is prepared:
//!
//! | the break comes | what the next step gets |
//! |---|---|
//! | before the branch is prepared | [`RolledBackConnection`](XaCode::RolledBackConnection), which [is rolled back](crate::Error::is_rolled_back): the broker has rolled it back, and what it received is delivered again |
//! | while `prepare` is unanswered | the next connection's broker is asked which branches are prepared. If this one is, the vote is returned; if it is not and the broker is the same one, not restarted, the branch is rolled back; otherwise [in doubt](crate::Error::is_in_doubt) |
//! | while a commit of two phases, or the rollback of a prepared branch, is unanswered | it is sent again. If the same broker knows no such branch any more it is done; another one, or a restarted one, cannot tell, and it is in doubt. Asked again later, `UnknownXid` means done if that broker has the branch's store |
//! | while a commit of one phase is unanswered | in doubt: no broker can tell |
//! | after `prepare` was answered | nothing: a prepared branch stays with its broker until it is completed |
//!
//! What is in doubt has the code [`Unavailable`](XaCode::Unavailable) (`XAER_RMFAIL`), upon which a transaction manager asks
//! with [`recover`](XaSession::recover) once there is a connection.

mod branches;
mod code;
mod session;
mod steps;
mod xid;

pub use code::XaCode;
pub(crate) use session::Enlisted;
pub use session::{End, Start, Vote, XaSession};
pub use xid::{MAX_PART, Xid};
