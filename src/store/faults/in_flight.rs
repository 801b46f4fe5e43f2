//! How many parts are under way at once: as many as asked for, or as the memory holds.

use std::time::Duration;

use bytes::Bytes;
use tokio::time::sleep;

use super::tests::{ARCHIVE, JOB, faulty, id};
use super::{Fault, Op, Rule};
use crate::archive::budget::{BudgetRequest, CHUNK, MemoryBudget, PARALLEL};
use crate::archive::openpgp::block_pool;
use crate::error::Error;
use crate::report::Reporter;
use crate::store::Kind;
use crate::store::fan::{FanOut, ObjectName};
use crate::store::rate::RateLimiter;
use crate::stream::channel::channel;
use crate::stream::counters::Counters;
use crate::stream::pool::Pool;

const MIB: u64 = 1 << 20;

/// Gives chunks for as long as anybody takes them.
fn give_all(chunks: Pool<Vec<u8>>) -> crate::stream::channel::Receiver<Bytes> {
    let (sender, receiver) = channel(2);
    tokio::task::spawn_blocking(move || {
        loop {
            let mut chunk = chunks.get();
            chunk.clear();
            chunk.resize(CHUNK as usize, 0);
            if sender.send_blocking(Bytes::from_owner(chunk)).is_err() {
                return;
            }
        }
    });
    receiver
}

/// Parts that a store has been sent when it answers none of them, and their number if only memory were the bound.
async fn in_flight(test: &str, request: BudgetRequest, parallel: usize) -> (u64, u64) {
    let plan = MemoryBudget::new(&request, Kind::S3.limits()).unwrap();
    let held = plan.chunks as u64 * CHUNK / plan.parts.size(0).unwrap();
    let expected = held.min(parallel as u64);
    let (store, faults, _) = faulty(test, vec![Rule::on(Op::Part, ARCHIVE, Fault::Stall)]);
    let chunks = block_pool(plan.chunks);
    let mut fan = FanOut::new(plan.parts.clone(), chunks.clone(), &Reporter::silent());
    let (id, counters) = (id(), Counters::default());
    let name = ObjectName { job: JOB, id: &id, suffix: ARCHIVE };
    fan.begin(&[store], &name, parallel, &counters).await.unwrap();
    let (_open, catalog) = channel(1);
    let watched = async {
        while faults.fired() < expected {
            sleep(Duration::from_millis(10)).await;
        }
        // One too many would be seen by now.
        sleep(Duration::from_millis(300)).await;
    };
    tokio::select! {
        ended = fan.pump(give_all(chunks), catalog, RateLimiter::new(None)) => panic!("it ended: {ended:?}"),
        () = watched => {}
        () = sleep(Duration::from_secs(60)) => panic!("{} of {expected} parts in flight", faults.fired()),
    }
    let sent = faults.fired();
    fan.abort_because(Error::interrupted()).await;
    (sent, held)
}

#[tokio::test]
async fn the_default_bound_has_nearly_all_parts_in_flight_that_are_asked_for() {
    let request = BudgetRequest { workers: 2, ..BudgetRequest::default() };
    let (sent, held) = in_flight("parts-default", request, PARALLEL.into()).await;
    assert_eq!(sent, held.min(PARALLEL.into()));
    assert!(sent >= 15, "{sent}");
}

#[tokio::test]
async fn little_memory_has_as_many_parts_in_flight_as_it_holds() {
    let request = BudgetRequest { workers: 1, memory: 160 * MIB, ..BudgetRequest::default() };
    let (sent, held) = in_flight("parts-memory", request, PARALLEL.into()).await;
    assert_eq!(sent, held);
    assert!((5..16).contains(&sent), "{sent}");
}

#[tokio::test]
async fn equal_parts_are_as_many_as_the_memory_holds() {
    let request = BudgetRequest { workers: 2, part_size: Some(64 * MIB), ..BudgetRequest::default() };
    let (sent, held) = in_flight("parts-equal", request, PARALLEL.into()).await;
    assert_eq!((sent, held), (2, 2));
}

#[tokio::test]
async fn no_more_parts_are_in_flight_than_asked_for() {
    let request = BudgetRequest { workers: 2, memory: 512 * MIB, ..BudgetRequest::default() };
    for parallel in [1, 4, 16] {
        let (sent, held) = in_flight(&format!("parts-{parallel}"), request, parallel).await;
        assert_eq!(sent, parallel as u64);
        assert!(held > sent, "{held}");
    }
}
