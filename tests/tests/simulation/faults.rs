//! What goes wrong in a world.

use std::sync::Arc;

use rand::RngExt;
use rand::rngs::SmallRng;
use tokio::time::{Instant, sleep};

use super::network::{Host, pause};
use super::world::{World, millis, random};

/// Lets things go wrong for a while, and heals everything. Says how many did.
pub(crate) async fn faults(world: &Arc<World>) -> u64 {
    let mut random = random(world.seed, "faults", 0);
    let end = Instant::now() + millis(random.random_range(1_000..40_000));
    // Worlds differ in how much goes wrong.
    let calm = [200, 1_000, 5_000][random.random_range(0..3)];
    let mut count = 0;
    loop {
        let next = Instant::now() + millis(random.random_range(1..calm));
        if next >= end {
            break;
        }
        tokio::time::sleep_until(next).await;
        count += 1;
        one(world, &mut random).await;
    }
    tokio::time::sleep_until(end).await;
    world.ledger.note("calm", count, 0);
    world.network.heal();
    world.network.set_latency(0..3);
    world.disk.set_sync(0..5);
    if !world.brokers.serves() {
        start(world, &mut random).await;
    }
    count
}

async fn one(world: &Arc<World>, random: &mut SmallRng) {
    let way = (
        random.random_range(0..world.clients),
        random.random_range(0..world.brokers.hosts()),
    );
    match random.random_range(0..12) {
        0..3 => {
            world.ledger.note("cut one", 0, 0);
            world.network.cut_one();
        }
        3 => {
            world.ledger.note("cut client", way.0 as u64, 0);
            world.network.cut(|(client, _)| client == way.0);
        }
        4..8 => {
            let answers = [Host::Nobody, Host::Silence][random.random_range(0..2)].clone();
            world.ledger.note("kill", 0, 0);
            if world.brokers.kill(answers) {
                pause(random, 1..5_000).await;
                start(world, random).await;
            }
        }
        8 => {
            let silent = [[true, true], [true, false], [false, true]][random.random_range(0..3)];
            world.ledger.note("silence", way.0 as u64, way.1 as u64);
            world.network.set_silent(way, silent);
            let (world, time) = (world.clone(), random.random_range(100..40_000));
            tokio::spawn(async move {
                sleep(millis(time)).await;
                world.network.set_silent(way, [false, false]);
            });
        }
        9 => {
            let longest = [5, 100, 3_000][random.random_range(0..3)];
            world.ledger.note("sync", longest, 0);
            world.disk.set_sync(0..longest);
        }
        10 => {
            let longest = [3, 50, 1_000][random.random_range(0..3)];
            world.ledger.note("latency", longest, 0);
            world.network.set_latency(0..longest);
        }
        _ => {
            world.ledger.note("cut all", 0, 0);
            world.network.cut(|_| true);
        }
    }
}

async fn start(world: &World, random: &mut SmallRng) {
    let host = random.random_range(0..world.brokers.hosts());
    world.ledger.note("start", host as u64, 0);
    world.brokers.start(host).await;
}
