//! Absences, a killed server, and logins that end.
use std::time::Duration;

use anyhow::{Context, ensure};
use matrix_sdk::{Client, authentication::matrix::MatrixSession, ruma::EventId};

use crate::{
    Flow,
    device::new_client,
    rooms::{events, message, numbered, say_numbered},
    steps::{self, Steps, until},
};

/// Resumes the queue of outgoing messages whenever it has stopped, as it does when a message could not be sent.
async fn keep_sending(client: &Client) {
    loop {
        client.send_queue().set_enabled(true).await;
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

pub async fn interruptions(steps: &Steps, flow: &Flow) {
    let Flow {
        alice,
        bob,
        room,
        at_alice,
        at_bob,
        ..
    } = flow;
    steps
        .step("the gap after an absence is filled, in order", async {
            bob.sync.stop().await;
            say_numbered(at_alice, "absent", 60, Duration::ZERO).await?;
            message(at_alice, "absent 59").await?;
            bob.sync.start().await;
            message(at_bob, "absent 59").await?;
            numbered(at_bob, "absent", 60).await
        })
        .await;
    steps
        .step("the whole history is there once, oldest first", async {
            while !at_bob.paginate_backwards(50).await? {}
            let ids: Vec<_> = events(at_bob)
                .await
                .iter()
                .filter_map(|item| item.event_id().map(EventId::to_owned))
                .collect();
            let mut unique = ids.clone();
            unique.sort();
            unique.dedup();
            ensure!(
                unique.len() == ids.len(),
                "{} of {} are there twice",
                ids.len() - unique.len(),
                ids.len()
            );
            let times: Vec<_> = events(at_bob).await.iter().map(|item| item.timestamp()).collect();
            ensure!(times.is_sorted(), "out of order");
            Ok(())
        })
        .await;
    if steps.has_operator() {
        steps
            .step("the server is killed: what was sent meanwhile arrives once", async {
                let kill = steps::kill_server();
                let sending = say_numbered(at_alice, "amid", 20, Duration::from_millis(50));
                let (killed, sent) = tokio::join!(kill, sending);
                killed?;
                sent?;
                tokio::select! {
                    outcome = numbered(at_bob, "amid", 20) => outcome,
                    () = keep_sending(&alice.client) => unreachable!(),
                }
            })
            .await;
    }
    steps
        .step("a session is restored in a new process", async {
            let session: MatrixSession = alice.client.matrix_auth().session().context("no session")?;
            ensure!(session.meta.user_id == alice.user_id());
            let client = new_client(&flow.url).await?;
            client.restore_session(session).await?;
            ensure!(client.whoami().await?.user_id == alice.user_id());
            Ok(())
        })
        .await;
    steps
        .step("log out", async {
            for device in [&flow.alice2, &flow.bob2] {
                device.sync.stop().await;
                device.client.logout().await?;
            }
            until("gone", || async {
                let devices = alice.client.encryption().get_user_devices(bob.user_id()).await.ok()?;
                (devices.keys().count() == 1).then_some(())
            })
            .await?;
            alice.room(room).await?;
            Ok(())
        })
        .await;
}
