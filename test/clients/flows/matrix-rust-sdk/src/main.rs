//! matrix-rust-sdk by the layers of Element X: SyncService (room list and encryption), Timeline, NotificationClient,
//! SpaceService. Two users with two devices each, in encrypted rooms.
#![recursion_limit = "512"]

mod conversation;
mod device;
mod encryption;
mod interruptions;
mod room_list;
mod rooms;
mod settings;
mod steps;

use anyhow::{Context, ensure};
use device::{Device, register};
use matrix_sdk::{RoomMemberships, RoomState, ruma::OwnedRoomId, sliding_sync::Version as SlidingSyncVersion};
use matrix_sdk_ui::{room_list_service::filters, sync_service::State as SyncState, timeline::Timeline};
use rooms::{becomes, encrypted_room};
use steps::{Steps, until};

/// The users, their devices, and the room that most steps use. `at_bob` is the timeline of the room at the first device of bob.
pub struct Flow {
    pub url: String,
    pub alice: Device,
    pub alice2: Device,
    pub bob: Device,
    pub bob2: Device,
    pub room: OwnedRoomId,
    pub at_alice: Timeline,
    pub at_bob: Timeline,
    pub at_bob2: Timeline,
}

/// Registers two users, logs in two devices of each, and creates the room.
async fn begin(steps: &Steps) -> Option<Flow> {
    let url = steps.url.clone();
    let (alice_name, bob_name) = (steps.fresh("alice"), steps.fresh("bob"));
    steps
        .step("register", async {
            register(&url, &alice_name).await?;
            register(&url, &bob_name).await
        })
        .await?;
    let (alice, alice2, bob, bob2) = steps
        .step("log in two devices of two users", async {
            Ok((
                Device::login(&url, &alice_name, "alice's phone").await?,
                Device::login(&url, &alice_name, "alice's tablet").await?,
                Device::login(&url, &bob_name, "bob's phone").await?,
                Device::login(&url, &bob_name, "bob's tablet").await?,
            ))
        })
        .await?;
    steps
        .step("sliding sync is native, and runs", async {
            ensure!(matches!(
                alice.client.sliding_sync_version(),
                SlidingSyncVersion::Native
            ));
            for device in [&alice, &alice2, &bob, &bob2] {
                until("running", || async {
                    matches!(device.sync.state().get(), SyncState::Running).then_some(())
                })
                .await?;
            }
            Ok(())
        })
        .await?;
    steps
        .step("the first device has cross-signing keys", async {
            for device in [&alice, &bob] {
                let status = device
                    .client
                    .encryption()
                    .cross_signing_status()
                    .await
                    .context("no status")?;
                ensure!(status.is_complete(), "{status:?}");
            }
            Ok(())
        })
        .await;
    let room = steps
        .step("create an encrypted room, invite, and join", async {
            let room = alice
                .client
                .create_room(encrypted_room("kitchen", vec![bob.user_id().to_owned()]))
                .await?;
            let room_id = room.room_id().to_owned();
            until("the invitation in the list", || async {
                bob.list(Box::new(filters::new_filter_invite()))
                    .await
                    .ok()?
                    .contains(&room_id)
                    .then_some(())
            })
            .await?;
            let at_bob = bob.client.get_room(&room_id).context("no room")?;
            ensure!(at_bob.state() == RoomState::Invited);
            let invitation = at_bob.invite_details().await?;
            ensure!(invitation.inviter_id == alice.user_id(), "another inviter");
            ensure!(
                at_bob.display_name().await?.to_string() == "kitchen",
                "the invitation has no name"
            );
            at_bob.join().await?;
            becomes(&at_bob, RoomState::Joined).await?;
            until("bob is a member", || async {
                let members = room.members(RoomMemberships::JOIN).await.ok()?;
                (members.len() == 2).then_some(())
            })
            .await?;
            Ok(room_id)
        })
        .await?;
    let (at_alice, at_bob, at_bob2) = steps
        .step("open the room", async {
            Ok((
                alice.timeline(&room).await?,
                bob.timeline(&room).await?,
                bob2.timeline(&room).await?,
            ))
        })
        .await?;
    Some(Flow {
        url,
        alice,
        alice2,
        bob,
        bob2,
        room,
        at_alice,
        at_bob,
        at_bob2,
    })
}

#[tokio::main]
async fn main() {
    if let Ok(filter) = std::env::var("RUST_LOG") {
        tracing_subscriber::fmt()
            .with_env_filter(filter)
            .with_ansi(false)
            .with_writer(std::io::stderr)
            .init();
    }
    let steps = Steps::from_arguments();
    if let Some(flow) = begin(&steps).await {
        conversation::messages(&steps, &flow).await;
        conversation::reading(&steps, &flow).await;
        conversation::media(&steps, &flow).await;
        conversation::timelines(&steps, &flow).await;
        room_list::room_list(&steps, &flow).await;
        settings::settings(&steps, &flow).await;
        encryption::encryption(&steps, &flow).await;
        interruptions::interruptions(&steps, &flow).await;
    }
}
