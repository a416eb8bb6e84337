//! Recovery, verification, and key backup.
use anyhow::{Context, Result, ensure};
use matrix_sdk::encryption::{
    VerificationState,
    recovery::RecoveryState,
    verification::{SasState, SasVerification, VerificationRequest, VerificationRequestState},
};

use crate::{
    Flow,
    device::Device,
    rooms::{body_of, events, message, say},
    steps::{Steps, until},
};

/// Restarts the syncs, so that the SDK sends its outgoing requests.
async fn begin_syncs(devices: &[&Device]) {
    for device in devices {
        device.sync.stop().await;
        device.sync.start().await;
        tokio::time::sleep(std::time::Duration::from_millis(500)).await;
    }
}

/// Accepts, compares and confirms on both sides.
///
/// In a room the SDK sends its own answers only when the encryption sync begins its next request. `slow` devices begin one.
pub async fn verify(ours: VerificationRequest, theirs: &Device, slow: &[&Device]) -> Result<()> {
    let other = until("the request", || async {
        let request = theirs
            .client
            .encryption()
            .get_verification_request(ours.own_user_id(), ours.flow_id())
            .await?;
        (!request.is_cancelled()).then_some(request)
    })
    .await?;
    other.accept().await?;
    until("ready", || async { ours.is_ready().then_some(()) }).await?;
    let sas = ours.start_sas().await?.context("no SAS")?;
    let other_sas: SasVerification = until("the start", || async {
        match other.state() {
            VerificationRequestState::Transitioned { verification } => verification.sas(),
            _ => None,
        }
    })
    .await?;
    other_sas.accept().await?;
    until("keys", || async {
        let ready = sas.can_be_presented() && other_sas.can_be_presented();
        if !ready {
            begin_syncs(slow).await;
        }
        ready.then_some(())
    })
    .await?;
    ensure!(sas.decimals() == other_sas.decimals(), "the numbers differ");
    sas.confirm().await?;
    other_sas.confirm().await?;
    until("done", || async {
        if let SasState::Cancelled(info) = sas.state() {
            return Some(Err(anyhow::anyhow!("cancelled: {}", info.reason())));
        }
        let done = sas.is_done() && other_sas.is_done();
        if !done {
            begin_syncs(slow).await;
        }
        done.then_some(Ok(()))
    })
    .await?
}

/// Waits until the device is verified by its user's own identity.
async fn is_verified(device: &Device) -> Result<()> {
    let state = device.client.encryption().verification_state();
    until("verified", || async {
        (state.get() == VerificationState::Verified).then_some(())
    })
    .await
}

pub async fn encryption(steps: &Steps, flow: &Flow) {
    let Flow {
        alice,
        alice2,
        bob,
        room,
        at_alice,
        at_bob,
        url,
        ..
    } = flow;
    let key = steps
        .step("set up recovery", async {
            let recovery = alice.client.encryption().recovery();
            let key = recovery.enable().wait_for_backups_to_upload().await?;
            ensure!(recovery.state() == RecoveryState::Enabled, "{:?}", recovery.state());
            ensure!(alice.client.encryption().backups().fetch_exists_on_server().await?);
            Ok(key)
        })
        .await;
    steps
        .step("verify an own device", async {
            let id = alice.client.device_id().context("no device")?.to_owned();
            let request = until("the other device's keys", || async {
                let device = alice2
                    .client
                    .encryption()
                    .get_device(alice.user_id(), &id)
                    .await
                    .ok()??;
                device.request_verification().await.ok()
            })
            .await?;
            verify(request, alice, &[]).await?;
            let encryption = alice2.client.encryption();
            is_verified(alice2).await?;
            until("the secrets", || async {
                encryption.cross_signing_status().await?.is_complete().then_some(())
            })
            .await?;
            until("the backup", || async {
                (encryption.recovery().state() == RecoveryState::Enabled).then_some(())
            })
            .await
        })
        .await;
    steps
        .step("users verify each other", async {
            // A room that is not opened shows its latest event only, and its verification may miss the one before.
            let direct = alice
                .client
                .get_dm_room(bob.user_id())
                .context("no direct chat")?
                .room_id()
                .to_owned();
            for device in [alice, bob] {
                device.room(&direct).await?;
            }
            let identity = alice
                .client
                .encryption()
                .request_user_identity(bob.user_id())
                .await?
                .context("no identity")?;
            let request = identity.request_verification().await?;
            verify(request, bob, &[alice, bob]).await?;
            for device in [alice, alice2] {
                until("verified on both devices", || async {
                    let encryption = device.client.encryption();
                    let identity = encryption.get_user_identity(bob.user_id()).await.ok()??;
                    identity.is_verified().then_some(())
                })
                .await?;
            }
            Ok(())
        })
        .await;
    if let Some(key) = key {
        steps
            .step("a new device recovers, and reads the history from the backup", async {
                let device = Device::login(url, alice.user_id().as_str(), "alice's laptop").await?;
                device.client.encryption().recovery().recover(&key).await?;
                is_verified(&device).await?;
                let timeline = device.timeline(room).await?;
                until("the history", || async {
                    timeline.paginate_backwards(50).await.ok()?;
                    events(&timeline)
                        .await
                        .iter()
                        .any(|item| body_of(item).as_deref() == Some("good morning"))
                        .then_some(())
                })
                .await?;
                say(at_bob, "welcome, laptop").await?;
                message(&timeline, "welcome, laptop").await?;
                device.sync.stop().await;
                device.client.logout().await?;
                until("gone from the list of devices", || async {
                    let devices = bob.client.encryption().get_user_devices(alice.user_id()).await.ok()?;
                    (devices.keys().count() == 2).then_some(())
                })
                .await
            })
            .await;
    }
    steps
        .step("a message under a new room key", async {
            alice.room(room).await?.discard_room_key().await?;
            say(at_alice, "with a new key").await?;
            message(at_bob, "with a new key").await
        })
        .await;
}
