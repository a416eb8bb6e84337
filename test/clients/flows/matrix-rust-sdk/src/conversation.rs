//! What two users do in a room.
use anyhow::{Context, Result, bail, ensure};
use matrix_sdk::{
    Room,
    attachment::{AttachmentInfo, BaseImageInfo, Thumbnail},
    media::{MediaFormat, MediaRequestParameters, MediaThumbnailSettings},
    room::edit::EditedContent,
    ruma::{
        UInt,
        api::client::receipt::create_receipt::v3::ReceiptType,
        events::{
            AnyMessageLikeEventContent,
            room::{
                MediaSource,
                message::{MessageType, RoomMessageEventContentWithoutRelation},
            },
        },
    },
};
use matrix_sdk_ui::{
    room_list_service::filters,
    timeline::{AttachmentConfig, AttachmentSource, EventTimelineItem, TimelineDetails, TimelineFocus},
};

use crate::{
    Flow,
    rooms::{body_of, found, message, picture, say},
    steps::{Steps, until},
};

/// Messages and what refers to them.
pub async fn messages(steps: &Steps, flow: &Flow) {
    let Flow {
        alice,
        bob,
        room,
        at_alice,
        at_bob,
        at_bob2,
        ..
    } = flow;
    steps
        .step("send and decrypt", async {
            ensure!(
                alice
                    .client
                    .get_room(room)
                    .context("no room")?
                    .latest_encryption_state()
                    .await?
                    .is_encrypted()
            );
            say(at_alice, "good morning").await?;
            message(at_bob, "good morning").await?;
            message(at_bob2, "good morning").await?;
            say(at_bob, "good morning, alice").await?;
            message(at_alice, "good morning, alice").await
        })
        .await;
    steps
        .step("edit", async {
            let id = say(at_alice, "coffe").await?;
            let item = at_alice.item_by_event_id(&id).await.context("no item")?;
            let content = RoomMessageEventContentWithoutRelation::text_plain("coffee");
            at_alice
                .edit(&item.identifier(), EditedContent::RoomMessage(content))
                .await?;
            let edited = message(at_bob, "coffee").await?;
            ensure!(
                edited.content().as_message().is_some_and(|message| message.is_edited()),
                "not edited"
            );
            Ok(())
        })
        .await;
    steps
        .step("react, and take it back", async {
            let item = message(at_bob, "good morning").await?;
            let reactions = |item: &EventTimelineItem| item.content().reactions().map_or(0, |all| all.len());
            ensure!(at_bob.toggle_reaction(&item.identifier(), "👍").await?);
            found(at_alice, "the reaction", |item| reactions(item) == 1).await?;
            until("sent", || async {
                let item = message(at_bob, "good morning").await.ok()?;
                (reactions(&item) == 1).then_some(())
            })
            .await?;
            tokio::time::sleep(std::time::Duration::from_millis(500)).await;
            ensure!(!at_bob.toggle_reaction(&item.identifier(), "👍").await?);
            found(at_alice, "no reaction", |item| {
                body_of(item).as_deref() == Some("good morning") && reactions(item) == 0
            })
            .await
        })
        .await;
    steps
        .step("reply", async {
            let item = message(at_bob, "coffee").await?;
            let content = RoomMessageEventContentWithoutRelation::text_plain("with milk");
            at_bob
                .send_reply(content, item.event_id().context("no ID")?.to_owned())
                .await?;
            let reply = message(at_alice, "with milk").await?;
            at_alice
                .fetch_details_for_event(reply.event_id().context("no ID")?)
                .await?;
            found(at_alice, "the event replied to", |item| {
                item.content()
                    .in_reply_to()
                    .is_some_and(|to| matches!(to.event, TimelineDetails::Ready(_)))
            })
            .await?;
            Ok(())
        })
        .await;
    steps
        .step("thread", async {
            let root = say(at_alice, "what is for lunch?").await?;
            let focus = TimelineFocus::Thread {
                root_event_id: root.clone(),
            };
            let at_thread = bob.focused(room, focus.clone()).await?;
            say(&at_thread, "soup").await?;
            say(&at_thread, "and bread").await?;
            let answer = message(at_alice, "soup").await?;
            ensure!(
                answer.content().thread_root() == Some(root.clone()),
                "not in the thread"
            );
            found(at_alice, "the summary", |item| {
                item.content()
                    .thread_summary()
                    .is_some_and(|summary| summary.num_replies == 2)
            })
            .await?;
            let opened = alice.focused(room, focus).await?;
            while !opened.paginate_backwards(20).await? {}
            message(&opened, "what is for lunch?").await?;
            message(&opened, "and bread").await?;
            let threads = alice.room(room).await?.list_threads(Default::default()).await?;
            ensure!(threads.chunk.len() == 1, "{} threads", threads.chunk.len());
            Ok(())
        })
        .await;
    steps
        .step("redact", async {
            let id = say(at_alice, "a secret that slipped out").await?;
            message(at_bob, "a secret that slipped out").await?;
            let item = at_alice.item_by_event_id(&id).await.context("no item")?;
            at_alice.redact(&item.identifier(), Some("oops")).await?;
            found(at_bob, "redacted", |item| {
                item.event_id() == Some(&id) && item.content().is_redacted()
            })
            .await
        })
        .await;
}

async fn all_read(room: &Room) -> Result<()> {
    until("read on the other device", || async {
        (room.num_unread_messages() == 0).then_some(())
    })
    .await
}

/// Receipts, markers, typing, and marks of rooms.
pub async fn reading(steps: &Steps, flow: &Flow) {
    let Flow {
        bob,
        bob2,
        alice,
        room,
        at_alice,
        at_bob,
        ..
    } = flow;
    steps
        .step("receipts and unread counts", async {
            let id = say(at_alice, "read this").await?;
            message(at_bob, "read this").await?;
            let at = bob2.room(room).await?;
            until("unread", || async { (at.num_unread_messages() > 0).then_some(()) }).await?;
            at_bob.mark_as_read(ReceiptType::Read).await?;
            found(at_alice, "bob's receipt", |item| {
                item.event_id() == Some(&id) && item.read_receipts().contains_key(bob.user_id())
            })
            .await?;
            all_read(&at).await
        })
        .await;
    steps
        .step("fully read marker and private receipt", async {
            let id = say(at_alice, "read this in private").await?;
            message(at_bob, "read this in private").await?;
            at_bob.send_single_receipt(ReceiptType::ReadPrivate, id.clone()).await?;
            at_bob.send_single_receipt(ReceiptType::FullyRead, id.clone()).await?;
            let at = bob2.room(room).await?;
            all_read(&at).await?;
            until("the marker", || async {
                let marker = at.account_data("m.fully_read".into()).await.ok()??;
                marker.json().get().contains(id.as_str()).then_some(())
            })
            .await
        })
        .await;
    steps
        .step("typing", async {
            let at = bob.room(room).await?;
            let (_guard, mut typing) = at.subscribe_to_typing_notifications();
            alice.room(room).await?.typing_notice(true).await?;
            ensure!(typing.recv().await? == [alice.user_id().to_owned()]);
            alice.room(room).await?.typing_notice(false).await?;
            ensure!(typing.recv().await?.is_empty());
            Ok(())
        })
        .await;
    steps
        .step("mark a room as unread, favourite, low priority", async {
            let here = bob.room(room).await?;
            let there = bob2.room(room).await?;
            here.set_unread_flag(true).await?;
            until("marked", || async { there.is_marked_unread().then_some(()) }).await?;
            here.set_unread_flag(false).await?;
            until("not marked", || async { (!there.is_marked_unread()).then_some(()) }).await?;
            here.set_is_favourite(true, Some(0.5)).await?;
            until("favourite", || async {
                bob2.list(Box::new(filters::new_filter_favourite()))
                    .await
                    .ok()?
                    .contains(room)
                    .then_some(())
            })
            .await?;
            here.set_is_low_priority(true, None).await?;
            until("low priority", || async {
                (there.is_low_priority() && !there.is_favourite()).then_some(())
            })
            .await?;
            here.set_is_low_priority(false, None).await.map_err(Into::into)
        })
        .await;
}

/// Attachments and thumbnails.
pub async fn media(steps: &Steps, flow: &Flow) {
    let Flow {
        alice,
        bob,
        at_alice,
        at_bob,
        ..
    } = flow;
    steps
        .step("a picture with a thumbnail, encrypted", async {
            let info = BaseImageInfo {
                width: Some(UInt::from(8u32)),
                height: Some(UInt::from(8u32)),
                size: Some(UInt::from(picture().len() as u32)),
                ..Default::default()
            };
            let config = AttachmentConfig {
                info: Some(AttachmentInfo::Image(info)),
                thumbnail: Some(Thumbnail {
                    data: picture(),
                    content_type: "image/png".parse()?,
                    width: UInt::from(8u32),
                    height: UInt::from(8u32),
                    size: UInt::from(picture().len() as u32),
                }),
                caption: Some(matrix_sdk::ruma::events::room::message::TextMessageEventContent::plain(
                    "our garden",
                )),
                ..Default::default()
            };
            let source = AttachmentSource::Data {
                bytes: picture(),
                filename: "garden.png".to_owned(),
            };
            at_alice
                .send_attachment(source, "image/png".parse()?, config)
                .use_send_queue()
                .await?;
            let item = message(at_bob, "our garden").await?;
            let Some(MessageType::Image(image)) = item.content().as_message().map(|message| message.msgtype().clone())
            else {
                bail!("not an image");
            };
            let thumbnail = image
                .info
                .as_ref()
                .and_then(|info| info.thumbnail_source.clone())
                .context("no thumbnail")?;
            for source in [image.source.clone(), thumbnail] {
                ensure!(matches!(source, MediaSource::Encrypted(_)), "in the clear");
                let request = MediaRequestParameters {
                    source,
                    format: MediaFormat::File,
                };
                ensure!(
                    bob.client.media().get_media_content(&request, false).await? == picture(),
                    "another picture"
                );
            }
            Ok(())
        })
        .await;
    steps
        .step("media in the clear, with a thumbnail of the server", async {
            let uri = alice
                .client
                .media()
                .upload(&"image/png".parse()?, picture(), None)
                .await?
                .content_uri;
            let source = MediaSource::Plain(uri);
            let settings = MediaThumbnailSettings::new(UInt::from(4u32), UInt::from(4u32));
            let request = MediaRequestParameters {
                source,
                format: MediaFormat::Thumbnail(settings),
            };
            ensure!(!bob.client.media().get_media_content(&request, false).await?.is_empty());
            ensure!(alice.client.load_or_fetch_max_upload_size().await? > UInt::from(1_000_000u32));
            Ok(())
        })
        .await;
}

/// Pinned events, permalinks, polls.
pub async fn timelines(steps: &Steps, flow: &Flow) {
    let Flow {
        alice,
        bob,
        room,
        at_alice,
        at_bob,
        ..
    } = flow;
    steps
        .step("pin an event", async {
            let id = say(at_alice, "the Wi-Fi password is on the fridge").await?;
            ensure!(alice.room(room).await?.pin_event(&id).await?);
            let at = bob.room(room).await?;
            until("pinned", || async {
                at.pinned_event_ids()?.contains(&id).then_some(())
            })
            .await?;
            let pinned = bob.focused(room, TimelineFocus::PinnedEvents).await?;
            message(&pinned, "the Wi-Fi password is on the fridge").await?;
            ensure!(alice.room(room).await?.unpin_event(&id).await?);
            until("unpinned", || async { at.pinned_event_ids()?.is_empty().then_some(()) }).await
        })
        .await;
    steps
        .step("a permalink opens the timeline around its event", async {
            let id = message(at_alice, "good morning")
                .await?
                .event_id()
                .context("no ID")?
                .to_owned();
            let focus = TimelineFocus::Event {
                target: id,
                num_context_events: 3,
                thread_mode: matrix_sdk_ui::timeline::TimelineEventFocusThreadMode::Automatic {
                    hide_threaded_events: false,
                },
            };
            let around = bob.focused(room, focus).await?;
            message(&around, "good morning").await?;
            while !around.paginate_forwards(5).await? {}
            message(&around, "our garden").await?;
            while !around.paginate_backwards(5).await? {}
            Ok(())
        })
        .await;
    steps
        .step("a poll", async {
            use matrix_sdk::ruma::events::poll::{
                unstable_response::UnstablePollResponseEventContent,
                unstable_start::{NewUnstablePollStartEventContent, UnstablePollAnswer, UnstablePollStartContentBlock},
            };
            let answers = vec![
                UnstablePollAnswer::new("a", "tea"),
                UnstablePollAnswer::new("b", "juice"),
            ];
            let block = UnstablePollStartContentBlock::new("what to drink?", answers.try_into()?);
            let content = NewUnstablePollStartEventContent::plain_text("what to drink?", block);
            at_alice
                .send(AnyMessageLikeEventContent::UnstablePollStart(content.into()))
                .await?;
            let poll = found(at_bob, "the poll", |item| item.content().is_poll()).await?;
            let response = UnstablePollResponseEventContent::new(
                vec!["a".to_owned()],
                poll.event_id().context("no ID")?.to_owned(),
            );
            at_bob
                .send(AnyMessageLikeEventContent::UnstablePollResponse(response))
                .await?;
            found(at_alice, "the vote", |item| {
                item.content()
                    .as_poll()
                    .is_some_and(|poll| poll.results().votes.values().any(|votes| votes.len() == 1))
            })
            .await
        })
        .await;
}
