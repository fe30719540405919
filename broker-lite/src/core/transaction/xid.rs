//! Names of branches, and what is said of them.

use std::fmt::Write;

use bytes::Bytes;
use openwire_client::wire::{IntegerResponse, TransactionId, XaTransactionId};

use crate::core::effect::Then;
use crate::core::outcomes::OutcomeId;
use crate::core::refusal::{Refusal, XA_RBROLLBACK, XAER_NOTA};
use crate::store::StoredXid;

pub(super) fn stored_xid(id: &XaTransactionId) -> StoredXid {
    let part = |part: &Option<Bytes>| part.clone().unwrap_or_default();
    StoredXid {
        format_id: id.format_id,
        global: part(&id.global_transaction_id),
        branch: part(&id.branch_qualifier),
    }
}

pub(super) fn wire_xid(xid: &StoredXid) -> XaTransactionId {
    XaTransactionId {
        format_id: xid.format_id,
        global_transaction_id: Some(xid.global.clone()),
        branch_qualifier: Some(xid.branch.clone()),
    }
}

/// What the outcome of a branch is known by. No connection's id begins with a control character.
pub(super) fn outcome_of(xid: &StoredXid) -> OutcomeId {
    let mut text = format!("\u{1}xid {} ", xid.format_id);
    for part in [&xid.global, &xid.branch] {
        for byte in part {
            // Writing to a string does not fail.
            let _ = write!(text, "{byte:02x}");
        }
        text.push(' ');
    }
    (text.into(), 0)
}

/// The same reply, with a number.
pub(super) fn number(reply: Option<Then>, result: i32) -> Option<Then> {
    match reply {
        Some(Then::Reply { to, response }) => {
            let response = IntegerResponse {
                correlation_id: response.correlation_id().unwrap_or_default(),
                result,
                ..IntegerResponse::default()
            };
            Some(Then::Reply {
                to,
                response: response.into(),
            })
        }
        other => other,
    }
}

pub(super) fn not_started(id: &XaTransactionId) -> Refusal {
    let id = TransactionId::Xa(id.clone());
    Refusal::xa(format!("Transaction '{id}' has not been started."), XAER_NOTA)
}

pub(super) fn rolled_back(why: &str) -> Refusal {
    Refusal::xa(format!("the transaction was rolled back: {why}"), XA_RBROLLBACK)
}
