//! Rooms, their timelines, and messages in them.
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use matrix_sdk::{
    Room, RoomState,
    ruma::{
        OwnedEventId, OwnedRoomId, OwnedUserId,
        api::client::room::create_room::v3 as create_room,
        events::{
            AnyMessageLikeEventContent, InitialStateEvent,
            room::{encryption::RoomEncryptionEventContent, message::RoomMessageEventContent},
        },
    },
};
use matrix_sdk_ui::timeline::{EventTimelineItem, Timeline};

use crate::{device::Device, steps::until};

pub fn text(body: &str) -> AnyMessageLikeEventContent {
    RoomMessageEventContent::text_plain(body).into()
}

pub fn body_of(item: &EventTimelineItem) -> Option<String> {
    item.content().as_message().map(|message| message.body().to_owned())
}

pub async fn events(timeline: &Timeline) -> Vec<EventTimelineItem> {
    timeline
        .items()
        .await
        .iter()
        .filter_map(|item| item.as_event().cloned())
        .collect()
}

/// The event of the timeline that `test` finds, once the server has it.
pub async fn found(
    timeline: &Timeline,
    what: &str,
    test: impl Fn(&EventTimelineItem) -> bool,
) -> Result<EventTimelineItem> {
    match until(what, || async {
        events(timeline)
            .await
            .into_iter()
            .find(|item| item.event_id().is_some() && test(item))
    })
    .await
    {
        Ok(item) => Ok(item),
        Err(error) => {
            let bodies: Vec<_> = events(timeline)
                .await
                .iter()
                .map(|item| body_of(item).unwrap_or_else(|| format!("{:?}", item.content().event_type_str())))
                .collect();
            Err(error.context(format!("the timeline has {bodies:?}")))
        }
    }
}

pub async fn message(timeline: &Timeline, body: &str) -> Result<EventTimelineItem> {
    found(timeline, body, |item| body_of(item).as_deref() == Some(body)).await
}

pub async fn say(timeline: &Timeline, body: &str) -> Result<OwnedEventId> {
    timeline.send(text(body)).await?;
    Ok(message(timeline, body)
        .await?
        .event_id()
        .context("no event ID")?
        .to_owned())
}

/// Sends messages with a prefix and a number, from 0 on.
pub async fn say_numbered(timeline: &Timeline, prefix: &str, count: usize, pause: Duration) -> Result<()> {
    for index in 0..count {
        timeline.send(text(&format!("{prefix} {index}"))).await?;
        tokio::time::sleep(pause).await;
    }
    Ok(())
}

/// Waits for the messages of [`say_numbered`], and looks for them in earlier parts of the timeline. Fails unless each is there once, in order.
pub async fn numbered(timeline: &Timeline, prefix: &str, count: usize) -> Result<()> {
    let bodies = || async {
        let all = events(timeline).await;
        let bodies = all.iter().filter_map(body_of);
        bodies
            .filter(|body| body.starts_with(&format!("{prefix} ")))
            .collect::<Vec<_>>()
    };
    until("all of it", || async {
        if bodies().await.len() >= count {
            return Some(());
        }
        timeline.paginate_backwards(20).await.ok()?;
        None
    })
    .await?;
    let found = bodies().await;
    let wanted: Vec<_> = (0..count).map(|index| format!("{prefix} {index}")).collect();
    ensure!(found == wanted, "{found:?}");
    Ok(())
}

/// Waits until the own membership in a room is this one.
pub async fn becomes(room: &Room, state: RoomState) -> Result<()> {
    until(&format!("{state:?}"), || async {
        (room.state() == state).then_some(())
    })
    .await
}

pub fn encrypted_room(name: &str, invite: Vec<OwnedUserId>) -> create_room::Request {
    let mut request = create_room::Request::new();
    request.name = Some(name.to_owned());
    request.preset = Some(create_room::RoomPreset::PrivateChat);
    request.invite = invite;
    let content = RoomEncryptionEventContent::with_recommended_defaults();
    request.initial_state = vec![InitialStateEvent::with_empty_state_key(content).to_raw_any()];
    request
}

/// A room between members, opened by all of these devices.
pub async fn room_of(owner: &Device, name: &str, others: &[&Device]) -> Result<OwnedRoomId> {
    let invite = others.iter().map(|device| device.user_id().to_owned()).collect();
    let room_id = owner
        .client
        .create_room(encrypted_room(name, invite))
        .await?
        .room_id()
        .to_owned();
    for device in others {
        let room = until("the invitation", || async { device.client.get_room(&room_id) }).await?;
        room.join().await?;
        becomes(&room, RoomState::Joined).await?;
    }
    Ok(room_id)
}

/// A PNG of one colour.
pub fn picture() -> Vec<u8> {
    include_bytes!("picture.png").to_vec()
}
