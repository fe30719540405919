//! Messages that are delivered later.

use std::time::{Duration, Instant, SystemTime};

use openwire_client::schedule::Schedule;

use super::*;

scenes! { ["--scheduler"] =>
    a_message_is_delivered_late,
    a_message_comes_again_and_again,
    what_is_scheduled_can_be_looked_at_and_removed,
    a_scheduled_message_of_a_transaction_waits_for_its_commit,
    too_many_repetitions_are_refused,
}

/// Long enough for all of a test to happen before.
const LATER: Duration = Duration::from_secs(3600);

async fn schedule(producer: &Producer, text: &str, schedule: &Schedule) {
    let mut message = Message::text(text);
    message.set_schedule(schedule).expect("the schedule can be");
    soon("sending", producer.send(message))
        .await
        .expect("the broker takes it");
}

mod scene {
    use super::*;

    pub(super) async fn a_message_is_delivered_late(url: &str) {
        let connection = connect(url).await;
        let queue = Destination::queue("scheduled.late");
        let session = session(&connection, AcknowledgeMode::Auto).await;
        let producer = producer(&session, &queue).await;
        let consumer = consumer(&session, &queue).await;
        let delay = Duration::from_millis(700);
        let began = Instant::now();
        schedule(&producer, "late", &Schedule::after(delay)).await;
        soon("sending", producer.send("at once")).await.unwrap();
        assert_eq!(text(&receive(&consumer).await), "at once");
        let late = receive(&consumer).await;
        assert_eq!(text(&late), "late");
        assert!(began.elapsed() >= delay, "{:?}", began.elapsed());
        assert!(late.scheduled_job_id().unwrap().is_some());
        assert_eq!(late.schedule().unwrap(), None);
        close(&connection).await;
    }

    pub(super) async fn a_message_comes_again_and_again(url: &str) {
        let connection = connect(url).await;
        let queue = Destination::queue("scheduled.again");
        let session = session(&connection, AcknowledgeMode::Auto).await;
        let producer = producer(&session, &queue).await;
        let consumer = consumer(&session, &queue).await;
        let period = Duration::from_millis(200);
        schedule(
            &producer,
            "thrice",
            &Schedule::after(period).every(period).repeat(2),
        )
        .await;
        let mut ids = Vec::new();
        for _ in 0..3 {
            let message = receive(&consumer).await;
            assert_eq!(text(&message), "thrice");
            ids.push(message.message_id());
        }
        ids.dedup();
        assert_eq!(ids.len(), 3, "each has an id of its own");
        let more = consumer.receive_timeout(3 * period).await.unwrap();
        assert!(more.is_none(), "{more:?}");
        schedule(&producer, "for ever", &Schedule::after(period).every(period)).await;
        assert_eq!(receive_texts(&consumer, 4).await, ["for ever"; 4]);
        let scheduler = soon("asking", connection.scheduler()).await.unwrap();
        soon("removing", scheduler.remove_all()).await.unwrap();
        close(&connection).await;
    }

    pub(super) async fn what_is_scheduled_can_be_looked_at_and_removed(url: &str) {
        let connection = connect(url).await;
        let queue = Destination::queue("scheduled.browsed");
        let session = session(&connection, AcknowledgeMode::Auto).await;
        let producer = producer(&session, &queue).await;
        let scheduler = soon("asking", connection.scheduler()).await.unwrap();
        assert!(soon("browsing", scheduler.browse()).await.unwrap().is_empty());
        let soonest = Schedule::after(LATER);
        let latest = Schedule::after(3 * LATER);
        schedule(&producer, "soonest", &soonest).await;
        schedule(&producer, "latest", &latest).await;
        schedule(&producer, "daily", &Schedule::cron("0 3 1 1 *")).await;
        let waiting = soon("browsing", scheduler.browse()).await.unwrap();
        let mut texts: Vec<_> = waiting.iter().map(text).collect();
        texts.sort();
        assert_eq!(texts, ["daily", "latest", "soonest"]);
        assert!(
            waiting
                .iter()
                .all(|message| message.original_destination() == Some(&queue))
        );

        let now = SystemTime::now();
        let between = soon("browsing", scheduler.browse_between(now, now + 2 * LATER))
            .await
            .unwrap();
        assert_eq!(between.len(), 1, "{between:?}");
        assert_eq!(between[0].schedule().unwrap(), Some(soonest));
        let id = between[0].scheduled_job_id().unwrap().expect("it has a name");
        soon("removing", scheduler.remove(&id)).await.unwrap();
        soon("removing", scheduler.remove(&id)).await.unwrap();
        let mut left = soon("browsing", scheduler.browse()).await.unwrap();
        left.sort_by_key(text);
        assert_eq!(left.iter().map(text).collect::<Vec<_>>(), ["daily", "latest"]);
        soon(
            "removing",
            scheduler.remove_between(now + 2 * LATER, now + 4 * LATER),
        )
        .await
        .unwrap();
        let left = soon("browsing", scheduler.browse()).await.unwrap();
        assert_eq!(left.iter().map(text).collect::<Vec<_>>(), ["daily"]);
        soon("removing", scheduler.remove_all()).await.unwrap();
        assert!(soon("browsing", scheduler.browse()).await.unwrap().is_empty());
        connection.stop().await.unwrap();
        assert!(scheduler.browse().await.unwrap_err().is_illegal_state());
        close(&connection).await;
    }

    pub(super) async fn a_scheduled_message_of_a_transaction_waits_for_its_commit(url: &str) {
        let connection = connect(url).await;
        let queue = Destination::queue("scheduled.transacted");
        let transacted = session(&connection, AcknowledgeMode::Transacted).await;
        let producer = producer(&transacted, &queue).await;
        let scheduler = soon("asking", connection.scheduler()).await.unwrap();
        for commit in [false, true] {
            schedule(&producer, "1", &Schedule::after(LATER)).await;
            assert!(soon("browsing", scheduler.browse()).await.unwrap().is_empty());
            match commit {
                true => soon("committing", transacted.commit()).await.unwrap(),
                false => soon("rolling back", transacted.rollback()).await.unwrap(),
            }
        }
        assert_eq!(soon("browsing", scheduler.browse()).await.unwrap().len(), 1);
        soon("removing", scheduler.remove_all()).await.unwrap();
        close(&connection).await;
    }

    pub(super) async fn too_many_repetitions_are_refused(url: &str) {
        let connection = connect(url).await;
        let session = session(&connection, AcknowledgeMode::Auto).await;
        let producer = producer(&session, &Destination::queue("scheduled.refused")).await;
        let mut message = Message::text("1");
        let schedule = Schedule::after(LATER).every(LATER).repeat(1001);
        message.set_schedule(&schedule).unwrap();
        let error = soon("sending", producer.send(message)).await.unwrap_err();
        assert!(error.throwable().is_some(), "{error}");
        close(&connection).await;
    }
}
