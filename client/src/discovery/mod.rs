//! Brokers that find each other, and are found by clients, without anybody listing them (ActiveMQ's discovery
//! agents).
//!
//! [`MulticastDiscovery`] is ActiveMQ's `multicast:` agent, both halves of it: it learns which brokers announce
//! themselves in the local network, and announces one. A client that connects with `discovery:(multicast://default)`
//! runs one by itself, for as long as the connection lives; a broker uses it for its network of brokers.
//!
//! ```no_run
//! use openwire_client::discovery::MulticastDiscovery;
//! use openwire_client::uri::Agent;
//!
//! # async fn example() -> openwire_client::Result<()> {
//! let Agent::Multicast(options) = Agent::parse("multicast://default?group=shop")? else {
//!     unreachable!("it is a multicast: URI");
//! };
//! let discovery = MulticastDiscovery::start(&options).await?;
//! let mut services = discovery.services();
//! while services.changed().await.is_ok() {
//!     println!("brokers: {:?}", *services.borrow_and_update());
//! }
//! # Ok(())
//! # }
//! ```
//!
//! Whoever can send datagrams to the group can announce anything and say that anybody has left: multicast is for
//! networks whose hosts trust each other. Datagrams that make no sense are ignored and counted, and no flood of
//! them makes the list or the work without bound.

mod announcement;
mod group;
mod multicast;
mod services;

pub use multicast::MulticastDiscovery;
