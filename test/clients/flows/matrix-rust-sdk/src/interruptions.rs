//! Absences, a killed server, and logins that end.
use anyhow::{Context, ensure};
use matrix_sdk::{authentication::matrix::MatrixSession, ruma::EventId};

use crate::{
    Flow,
    device::new_client,
    rooms::{body_of, events, message, text},
    steps::{self, Steps, until},
};

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
            for index in 0..60 {
                at_alice.send(text(&format!("absent {index}"))).await?;
            }
            message(at_alice, "absent 59").await?;
            bob.sync.start().await;
            message(at_bob, "absent 59").await?;
            until("all of it", || async {
                let count = events(at_bob)
                    .await
                    .iter()
                    .filter(|item| body_of(item).is_some_and(|body| body.starts_with("absent ")))
                    .count();
                if count == 60 {
                    return Some(());
                }
                at_bob.paginate_backwards(20).await.ok()?;
                None
            })
            .await?;
            let bodies: Vec<_> = events(at_bob)
                .await
                .iter()
                .filter_map(body_of)
                .filter(|body| body.starts_with("absent "))
                .collect();
            let wanted: Vec<_> = (0..60).map(|index| format!("absent {index}")).collect();
            ensure!(bodies == wanted, "{bodies:?}");
            Ok(())
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
                let sending = async {
                    for index in 0..20 {
                        at_alice.send(text(&format!("amid {index}"))).await?;
                        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
                    }
                    anyhow::Ok(())
                };
                let (killed, sent) = tokio::join!(kill, sending);
                killed?;
                sent?;
                alice.client.send_queue().set_enabled(true).await;
                until("all of it", || async {
                    alice.client.send_queue().set_enabled(true).await;
                    let bodies: Vec<_> = events(at_bob)
                        .await
                        .iter()
                        .filter_map(body_of)
                        .filter(|body| body.starts_with("amid "))
                        .collect();
                    if bodies.len() == 20 {
                        return Some(());
                    }
                    at_bob.paginate_backwards(20).await.ok()?;
                    None
                })
                .await?;
                let bodies: Vec<_> = events(at_bob)
                    .await
                    .iter()
                    .filter_map(body_of)
                    .filter(|body| body.starts_with("amid "))
                    .collect();
                let wanted: Vec<_> = (0..20).map(|index| format!("amid {index}")).collect();
                ensure!(bodies == wanted, "{bodies:?}");
                Ok(())
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
