//! Rooms, their timelines, and messages in them.
use anyhow::{Context, Result};
use matrix_sdk::{
    RoomState,
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
        until("joined", || async { (room.state() == RoomState::Joined).then_some(()) }).await?;
    }
    Ok(room_id)
}

/// A PNG of one colour.
pub fn picture() -> Vec<u8> {
    include_bytes!("picture.png").to_vec()
}
