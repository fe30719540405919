use super::*;

const START: Duration = Duration::ZERO;

fn ms(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

fn delivery(number: u64) -> Delivery {
    Delivery {
        producer: 0,
        number,
        redelivered: false,
    }
}

fn again(number: u64) -> Delivery {
    Delivery {
        redelivered: true,
        ..delivery(number)
    }
}

/// Books of one producer, whose first `sent` messages are confirmed, and two consumers.
fn books(sent: u64) -> Books {
    let mut books = Books::new(1, 2);
    books.begin(START);
    for number in 0..sent {
        assert_eq!(books.number(0), number);
        books.asked(0, number..number + 1);
        books.confirmed(0, number..number + 1);
    }
    books
}

/// A consumer without transactions gets a message.
fn take(books: &mut Books, consumer: usize, delivery: Delivery) {
    if books.delivered(consumer, delivery, START) {
        books.acknowledged(consumer, delivery);
    }
}

/// A consumer gets messages and commits.
fn commit(books: &mut Books, consumer: usize, numbers: impl IntoIterator<Item = u64>) {
    let deliveries: Vec<_> = numbers.into_iter().map(delivery).collect();
    for &delivery in &deliveries {
        books.delivered(consumer, delivery, START);
    }
    books.committing(consumer, deliveries);
}

#[test]
fn what_came_is_not_lost() {
    let mut books = books(10);
    for number in 0..10 {
        assert_eq!(books.missing(), 10 - number);
        take(&mut books, (number % 2) as usize, delivery(number));
    }
    let report = books.close(START);
    assert_eq!((report.sent, report.confirmed, report.received), (10, 10, 10));
    assert_eq!((report.lost, report.duplicated, report.out_of_order), (0, 0, 0));
}

#[test]
fn what_was_confirmed_and_did_not_come_is_lost() {
    let mut books = books(10);
    for number in [0, 1, 2, 5, 9] {
        take(&mut books, 0, delivery(number));
    }
    assert_eq!(books.close(START).lost, 5);
}

#[test]
fn a_send_without_an_answer_is_in_doubt_and_never_lost() {
    for came in [false, true] {
        let mut books = books(2);
        let doubtful = books.number(0);
        books.asked(0, doubtful..doubtful + 1);
        take(&mut books, 0, delivery(0));
        take(&mut books, 0, delivery(1));
        if came {
            take(&mut books, 0, delivery(doubtful));
        }
        let report = books.close(START);
        assert_eq!((report.sent, report.confirmed, report.in_doubt), (3, 2, 1));
        assert_eq!((report.lost, report.duplicated, report.unexpected), (0, 0, 0));
    }
}

#[test]
fn a_refused_message_is_neither_lost_nor_in_doubt_and_must_not_come() {
    for came in [false, true] {
        let mut books = books(0);
        let refused = books.number(0);
        books.asked(0, refused..refused + 1);
        books.refused(0, refused..refused + 1);
        if came {
            take(&mut books, 0, delivery(refused));
        }
        let report = books.close(START);
        assert_eq!((report.refused, report.in_doubt, report.lost), (1, 0, 0));
        assert_eq!(report.unexpected, u64::from(came));
    }
}

#[test]
fn a_transaction_in_doubt_comes_as_a_whole_or_not_at_all() {
    for (came, lost) in [(0, 0), (1, 3), (3, 1), (4, 0)] {
        let mut books = books(0);
        for _ in 0..4 {
            books.number(0);
        }
        books.asked(0, 0..4);
        books.commit_in_doubt(0, 0..4);
        for number in 0..came {
            take(&mut books, 0, delivery(number));
        }
        let report = books.close(START);
        assert_eq!((report.lost, report.in_doubt), (lost, 4), "{came} came");
    }
}

#[test]
fn a_transaction_that_is_done_again_counts_once_unless_it_comes_twice() {
    let mut books = books(0);
    for _ in 0..3 {
        books.number(0);
    }
    books.asked(0, 0..3);
    books.refused(0, 0..3);
    books.asked(0, 0..3);
    books.confirmed(0, 0..3);
    for number in 0..3 {
        take(&mut books, 0, delivery(number));
    }
    // The rollback was not true.
    for number in 0..3 {
        take(&mut books, 1, delivery(number));
    }
    let report = books.close(START);
    assert_eq!((report.sent, report.confirmed, report.received), (3, 3, 3));
    assert_eq!((report.duplicated, report.flagged, report.unexplained), (3, 0, 3));
}

#[test]
fn a_flagged_duplicate_is_told_apart() {
    let mut books = books(2);
    take(&mut books, 0, delivery(0));
    take(&mut books, 0, delivery(1));
    take(&mut books, 1, again(0));
    take(&mut books, 1, delivery(1));
    let report = books.close(START);
    assert_eq!((report.duplicated, report.flagged, report.unexplained), (2, 1, 1));
}

#[test]
fn a_duplicate_of_what_was_acknowledged_just_before_a_break_is_no_wonder() {
    let mut books = books(2);
    take(&mut books, 0, delivery(0));
    take(&mut books, 1, delivery(1));
    books.disturbed(0);
    take(&mut books, 1, delivery(0));
    take(&mut books, 0, delivery(1));
    let report = books.close(START);
    assert_eq!((report.duplicated, report.unexplained), (2, 1));
}

#[test]
fn what_was_acknowledged_long_before_a_break_is_no_longer_excused() {
    let sent = UNSETTLED as u64 + 1;
    let mut books = books(sent);
    for number in 0..sent {
        take(&mut books, 0, delivery(number));
    }
    books.disturbed(0);
    for number in 0..sent {
        take(&mut books, 1, delivery(number));
    }
    let report = books.close(START);
    assert_eq!((report.duplicated, report.unexplained), (sent, 1));
}

#[test]
fn a_receipt_that_was_rolled_back_does_not_count() {
    let mut books = books(3);
    commit(&mut books, 0, 0..3);
    books.rolled_back(0);
    assert_eq!(books.missing(), 3);
    commit(&mut books, 1, 0..3);
    books.committed(1);
    let report = books.close(START);
    assert_eq!((report.received, report.lost, report.duplicated), (3, 0, 0));
}

#[test]
fn a_receipt_in_doubt_is_neither_lost_nor_a_duplicate() {
    for comes_again in [false, true] {
        let mut books = books(3);
        commit(&mut books, 0, 0..3);
        books.receipt_in_doubt(0);
        if comes_again {
            commit(&mut books, 1, 0..3);
            books.committed(1);
        }
        let report = books.close(START);
        assert_eq!((report.received, report.lost, report.duplicated), (3, 0, 0));
        assert_eq!((report.in_doubt, report.doubtful_receipts), (3, 3));
    }
}

#[test]
fn a_commit_that_is_not_answered_at_the_end_is_in_doubt() {
    let mut books = books(3);
    commit(&mut books, 0, 0..3);
    let report = books.close(START);
    assert_eq!((report.lost, report.in_doubt), (0, 3));
}

#[test]
fn two_commits_of_the_same_message_make_a_duplicate() {
    let mut books = books(1);
    for consumer in 0..2 {
        commit(&mut books, consumer, 0..1);
        books.committed(consumer);
    }
    let report = books.close(START);
    assert_eq!((report.duplicated, report.unexplained), (1, 1));
}

#[test]
fn order_is_judged_for_each_consumer() {
    let mut books = books(6);
    for (consumer, number) in [(0, 1), (1, 0), (0, 3), (1, 2), (0, 5), (1, 4)] {
        take(&mut books, consumer, delivery(number));
    }
    assert_eq!(books.out_of_order, 0);
    let mut books = self::books(3);
    for number in [0, 2, 1] {
        take(&mut books, 0, delivery(number));
    }
    assert_eq!(books.close(START).out_of_order, 1);
}

#[test]
fn the_order_of_what_comes_again_is_not_judged() {
    let mut books = books(5);
    for delivery in [
        delivery(2),
        again(0),
        delivery(2),
        delivery(3),
        again(1),
        delivery(4),
    ] {
        take(&mut books, 0, delivery);
    }
    assert_eq!(books.out_of_order, 0);
}

#[test]
fn a_break_puts_messages_out_of_order_that_were_sent_before_it() {
    let mut books = books(4);
    take(&mut books, 0, delivery(3));
    // Another one's connection breaks, and the messages it held come here.
    books.disturbed(1);
    take(&mut books, 0, delivery(1));
    assert_eq!(books.out_of_order, 0);
    for number in 4..7 {
        books.number(0);
        books.confirmed(0, number..number + 1);
    }
    for number in [4, 6, 5] {
        take(&mut books, 0, delivery(number));
    }
    assert_eq!(books.out_of_order, 1);
}

#[test]
fn numbers_that_were_not_given_out_are_foreign() {
    let mut books = books(1);
    let strange = Delivery {
        producer: 1,
        ..delivery(0)
    };
    for delivery in [delivery(1), delivery(u64::MAX), strange] {
        assert!(!books.delivered(0, delivery, START));
    }
    let report = books.close(START);
    assert_eq!((report.foreign, report.received, report.lost), (3, 0, 1));
}

#[test]
fn the_longest_gap_ends_with_the_run_only_if_something_is_missing() {
    for (missing, longest) in [(false, 300), (true, 5000)] {
        let mut books = books(2 + u64::from(missing));
        books.begin(ms(1000));
        for (number, at) in [(0, 1100), (1, 1400)] {
            books.delivered(0, delivery(number), ms(at));
            books.acknowledged(0, delivery(number));
        }
        assert_eq!(books.close(ms(6400)).longest_gap_ms, longest);
    }
}

#[test]
fn a_long_run_takes_no_more_memory_than_a_short_one() {
    let mut books = books(100_000);
    for number in 0..100_000 {
        take(&mut books, (number % 2) as usize, delivery(number));
    }
    let account = &books.producers[0];
    assert_eq!((account.confirmed.len(), account.came.len()), (1, 1));
    assert!(account.unanswered.is_empty());
    assert_eq!(books.consumers[0].recent.len(), UNSETTLED);
}
