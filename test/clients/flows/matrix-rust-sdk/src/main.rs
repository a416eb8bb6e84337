//! matrix-rust-sdk by the layers of Element X: SyncService (room list and encryption), Timeline, NotificationClient,
//! SpaceService. Two users with two devices each, in rooms that are encrypted.
#![recursion_limit = "512"]

mod steps;

use std::sync::Arc;

use anyhow::{Context, Result, bail, ensure};
use futures_util::StreamExt;
use matrix_sdk::{
    Client, Room, RoomMemberships, RoomState, ThreadingSupport,
    attachment::{AttachmentInfo, BaseImageInfo, Thumbnail},
    authentication::matrix::MatrixSession,
    encryption::{
        BackupDownloadStrategy, EncryptionSettings, VerificationState,
        recovery::RecoveryState,
        verification::{SasState, SasVerification, VerificationRequest, VerificationRequestState},
    },
    media::{MediaFormat, MediaRequestParameters, MediaThumbnailSettings},
    notification_settings::RoomNotificationMode,
    room::edit::EditedContent,
    ruma::{
        EventId, OwnedEventId, OwnedRoomId, OwnedUserId, RoomId, UInt, UserId,
        api::client::{
            account::register::v3::Request as Register,
            receipt::create_receipt::v3::ReceiptType,
            room::{Visibility, create_room::v3 as create_room},
            uiaa::{AuthData, Dummy},
        },
        events::{
            AnyMessageLikeEventContent, InitialStateEvent,
            room::{
                MediaSource,
                encryption::RoomEncryptionEventContent,
                history_visibility::{HistoryVisibility, RoomHistoryVisibilityEventContent},
                join_rules::{JoinRule, RoomJoinRulesEventContent},
                message::{MessageType, RoomMessageEventContent, RoomMessageEventContentWithoutRelation},
            },
        },
        room::RoomType,
        serde::Raw,
    },
    sliding_sync::{Version as SlidingSyncVersion, VersionBuilder},
};
use matrix_sdk_ui::{
    eyeball_im::Vector,
    notification_client::{NotificationClient, NotificationProcessSetup, NotificationStatus},
    room_list_service::{RoomListItem, RoomListLoadingState, filters},
    spaces::SpaceService,
    sync_service::{State as SyncState, SyncService},
    timeline::{
        AttachmentConfig, AttachmentSource, EventTimelineItem, RoomExt, Timeline, TimelineDetails, TimelineFocus,
        TimelineItemContent,
    },
};
use steps::{Steps, until};

const PASSWORD: &str = "correct horse battery staple";

/// A device of a user: an application of its own.
#[derive(Clone)]
struct Device {
    client: Client,
    sync: Arc<SyncService>,
}

impl Device {
    async fn login(url: &str, user: &str, name: &str) -> Result<Self> {
        let client = new_client(url).await?;
        client
            .matrix_auth()
            .login_username(user, PASSWORD)
            .initial_device_display_name(name)
            .send()
            .await?;
        client.encryption().wait_for_e2ee_initialization_tasks().await;
        Self::start(client).await
    }

    async fn start(client: Client) -> Result<Self> {
        client.event_cache().subscribe()?;
        let sync = Arc::new(SyncService::builder(client.clone()).with_offline_mode().build().await?);
        sync.start().await;
        Ok(Self { client, sync })
    }

    fn user_id(&self) -> &UserId {
        self.client.user_id().expect("is logged in")
    }

    /// The room once it is there, and opened.
    async fn room(&self, room_id: &RoomId) -> Result<Room> {
        let room = until("the room", || async { self.client.get_room(room_id) }).await?;
        self.sync.room_list_service().subscribe_to_rooms(&[room_id]).await;
        Ok(room)
    }

    async fn timeline(&self, room_id: &RoomId) -> Result<Timeline> {
        let room = self.room(room_id).await?;
        until("joined", || async { (room.state() == RoomState::Joined).then_some(()) }).await?;
        Ok(room.timeline().await?)
    }

    /// The rooms of the list as a user sees them.
    async fn list(&self, filter: filters::BoxedFilterFn) -> Result<Vec<OwnedRoomId>> {
        let rooms = self.sync.room_list_service().all_rooms().await?;
        let (stream, controller) = rooms.entries_with_dynamic_adapters(100);
        controller.set_filter(filter);
        futures_util::pin_mut!(stream);
        let mut entries: Vector<RoomListItem> = Vector::new();
        for diff in stream.next().await.context("the list ended")? {
            diff.apply(&mut entries);
        }
        Ok(entries.iter().map(|room| room.room_id().to_owned()).collect())
    }
}

async fn new_client(url: &str) -> Result<Client> {
    Ok(Client::builder()
        .homeserver_url(url)
        .sliding_sync_version_builder(VersionBuilder::DiscoverNative)
        .with_threading_support(ThreadingSupport::Enabled {
            with_subscriptions: false,
        })
        .with_encryption_settings(EncryptionSettings {
            auto_enable_cross_signing: true,
            backup_download_strategy: BackupDownloadStrategy::AfterDecryptionFailure,
            auto_enable_backups: true,
        })
        .build()
        .await?)
}

async fn register(url: &str, name: &str) -> Result<OwnedUserId> {
    let mut request = Register::new();
    request.username = Some(name.to_owned());
    request.password = Some(PASSWORD.to_owned());
    request.inhibit_login = true;
    request.auth = Some(AuthData::Dummy(Dummy::new()));
    Ok(Client::builder()
        .homeserver_url(url)
        .build()
        .await?
        .matrix_auth()
        .register(request)
        .await?
        .user_id)
}

fn text(body: &str) -> AnyMessageLikeEventContent {
    RoomMessageEventContent::text_plain(body).into()
}

fn body_of(item: &EventTimelineItem) -> Option<String> {
    item.content().as_message().map(|message| message.body().to_owned())
}

async fn events(timeline: &Timeline) -> Vec<EventTimelineItem> {
    timeline
        .items()
        .await
        .iter()
        .filter_map(|item| item.as_event().cloned())
        .collect()
}

/// The event of the timeline that `test` finds, once the server has it.
async fn found(
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

async fn message(timeline: &Timeline, body: &str) -> Result<EventTimelineItem> {
    found(timeline, body, |item| body_of(item).as_deref() == Some(body)).await
}

async fn say(timeline: &Timeline, body: &str) -> Result<OwnedEventId> {
    timeline.send(text(body)).await?;
    Ok(message(timeline, body)
        .await?
        .event_id()
        .context("no event ID")?
        .to_owned())
}

fn encrypted_room(name: &str, invite: Vec<OwnedUserId>) -> create_room::Request {
    let mut request = create_room::Request::new();
    request.name = Some(name.to_owned());
    request.preset = Some(create_room::RoomPreset::PrivateChat);
    request.invite = invite;
    let content = RoomEncryptionEventContent::with_recommended_defaults();
    request.initial_state = vec![InitialStateEvent::with_empty_state_key(content).to_raw_any()];
    request
}

/// A room between members, opened by all of these devices.
async fn room_of(owner: &Device, name: &str, others: &[&Device]) -> Result<OwnedRoomId> {
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
fn picture() -> Vec<u8> {
    include_bytes!("picture.png").to_vec()
}

async fn begin_syncs(devices: &[&Device]) {
    for device in devices {
        device.sync.stop().await;
        device.sync.start().await;
        tokio::time::sleep(std::time::Duration::from_millis(500)).await;
    }
}

/// Accepts, compares and confirms on both sides.
///
/// What the SDK answers by itself in a room is sent when the encryption sync begins its next request: `slow` devices begin one.
async fn verify(ours: VerificationRequest, theirs: &Device, slow: &[&Device]) -> Result<()> {
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

struct Flow {
    url: String,
    alice: Device,
    alice2: Device,
    bob: Device,
    bob2: Device,
    room: OwnedRoomId,
    at_alice: Timeline,
    at_bob: Timeline,
    at_bob2: Timeline,
}

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
            until("joined", || async {
                (at_bob.state() == RoomState::Joined).then_some(())
            })
            .await?;
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

async fn conversation(steps: &Steps, flow: &Flow) {
    let Flow {
        alice,
        bob,
        bob2,
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
            let at_thread = bob
                .room(room)
                .await?
                .timeline_builder()
                .with_focus(focus.clone())
                .build()
                .await?;
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
            let opened = alice
                .room(room)
                .await?
                .timeline_builder()
                .with_focus(focus)
                .build()
                .await?;
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
            until("read on the other device", || async {
                (at.num_unread_messages() == 0).then_some(())
            })
            .await
        })
        .await;
    steps
        .step("fully read marker and private receipt", async {
            let id = say(at_alice, "read this in private").await?;
            message(at_bob, "read this in private").await?;
            at_bob.send_single_receipt(ReceiptType::ReadPrivate, id.clone()).await?;
            at_bob.send_single_receipt(ReceiptType::FullyRead, id.clone()).await?;
            let at = bob2.room(room).await?;
            until("read on the other device", || async {
                (at.num_unread_messages() == 0).then_some(())
            })
            .await?;
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
    steps
        .step("pin an event", async {
            let id = say(at_alice, "the Wi-Fi password is on the fridge").await?;
            ensure!(alice.room(room).await?.pin_event(&id).await?);
            let at = bob.room(room).await?;
            until("pinned", || async {
                at.pinned_event_ids()?.contains(&id).then_some(())
            })
            .await?;
            let pinned = at
                .timeline_builder()
                .with_focus(TimelineFocus::PinnedEvents)
                .build()
                .await?;
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
            let around = bob
                .room(room)
                .await?
                .timeline_builder()
                .with_focus(focus)
                .build()
                .await?;
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

async fn lists(steps: &Steps, flow: &Flow) {
    let Flow {
        alice,
        alice2,
        bob,
        bob2,
        room,
        at_alice,
        ..
    } = flow;
    steps
        .step("the room list follows the latest message", async {
            let mut rooms = Vec::new();
            for index in 0..4 {
                rooms.push(room_of(alice, &format!("room {index}"), &[bob]).await?);
            }
            let oldest = alice.timeline(&rooms[0]).await?;
            say(&oldest, "to the top").await?;
            until("on top", || async {
                let list = bob2.list(Box::new(filters::new_filter_joined())).await.ok()?;
                (list.len() == 5 && list[0] == rooms[0]).then_some(())
            })
            .await?;
            say(at_alice, "no, to the top").await?;
            until("on top", || async {
                let list = bob2.list(Box::new(filters::new_filter_joined())).await.ok()?;
                (&list[0] == room).then_some(())
            })
            .await?;
            let all = bob2.sync.room_list_service().all_rooms().await?;
            until("the count", || async {
                (all.loading_state().get()
                    == RoomListLoadingState::Loaded {
                        maximum_number_of_rooms: Some(5),
                    })
                .then_some(())
            })
            .await?;
            Ok(())
        })
        .await;
    steps
        .step("a direct chat", async {
            let room = alice.client.create_dm(bob.user_id()).await?;
            let id = room.room_id().to_owned();
            until("on the other device", || async {
                let room = alice2.client.get_dm_room(bob.user_id())?;
                (room.room_id() == id).then_some(())
            })
            .await?;
            let invited = until("the invitation", || async { bob.client.get_room(&id) }).await?;
            invited.join().await?;
            let category = || Box::new(filters::new_filter_category(filters::RoomCategory::People));
            until("among people", || async {
                bob.list(category()).await.ok()?.contains(&id).then_some(())
            })
            .await?;
            let own = alice.room(&id).await?;
            let name = bob.user_id().localpart();
            until("named after bob", || async {
                (own.display_name().await.ok()?.to_string() == name).then_some(())
            })
            .await
        })
        .await;
    steps
        .step("leave and forget a room", async {
            let id = room_of(alice, "for a short time", &[bob]).await?;
            let at = bob.room(&id).await?;
            at.leave().await?;
            until("left on the other device", || async {
                let room = bob2.client.get_room(&id);
                (room.is_none_or(|room| room.state() == RoomState::Left)).then_some(())
            })
            .await?;
            until("left", || async { (at.state() == RoomState::Left).then_some(()) }).await?;
            at.forget().await?;
            ensure!(bob.client.get_room(&id).is_none());
            Ok(())
        })
        .await;
    steps
        .step("decline an invitation", async {
            let request = encrypted_room("unwelcome", vec![bob.user_id().to_owned()]);
            let id = alice.client.create_room(request).await?.room_id().to_owned();
            let at = until("the invitation", || async { bob.client.get_room(&id) }).await?;
            at.leave().await?;
            let other = bob2.client.clone();
            until("gone on the other device", || async {
                (other.get_room(&id).is_none_or(|room| room.state() == RoomState::Left)).then_some(())
            })
            .await
        })
        .await;
    steps
        .step("kick and ban are seen by the one concerned", async {
            let id = room_of(alice, "with a bouncer", &[bob]).await?;
            let at = bob.room(&id).await?;
            alice.room(&id).await?.kick_user(bob.user_id(), Some("out")).await?;
            until("kicked", || async { (at.state() == RoomState::Left).then_some(()) }).await?;
            alice
                .room(&id)
                .await?
                .ban_user(bob.user_id(), Some("and stay out"))
                .await?;
            until("banned", || async {
                let member = alice.client.get_room(&id)?.get_member(bob.user_id()).await.ok()??;
                (*member.membership() == matrix_sdk::ruma::events::room::member::MembershipState::Ban).then_some(())
            })
            .await
        })
        .await;
    steps
        .step("a space and its rooms", async {
            let mut request = create_room::Request::new();
            request.name = Some("our house".to_owned());
            let mut creation = create_room::CreationContent::new();
            creation.room_type = Some(RoomType::Space);
            request.creation_content = Some(Raw::new(&creation)?);
            let space = alice.client.create_room(request).await?.room_id().to_owned();
            let service = SpaceService::new(alice.client.clone()).await;
            until("the space", || async {
                alice.client.get_room(&space)?.is_space().then_some(())
            })
            .await?;
            service.add_child_to_space(room.clone(), space.clone()).await?;
            until("among the spaces", || async {
                service
                    .top_level_joined_spaces()
                    .await
                    .iter()
                    .any(|found| found.room_id == space)
                    .then_some(())
            })
            .await?;
            let rooms = service.space_room_list(space.clone()).await;
            rooms.paginate().await?;
            until("the child", || async {
                rooms
                    .rooms()
                    .await
                    .iter()
                    .any(|found| &found.room_id == room)
                    .then_some(())
            })
            .await?;
            let spaces = alice2.list(Box::new(filters::new_filter_space())).await?;
            ensure!(spaces == [space], "{spaces:?}");
            Ok(())
        })
        .await;
    steps
        .step("knock, and be let in", async {
            let mut request = create_room::Request::new();
            request.name = Some("behind a door".to_owned());
            request.initial_state = vec![
                InitialStateEvent::with_empty_state_key(RoomJoinRulesEventContent::new(JoinRule::Knock)).to_raw_any(),
            ];
            let made = alice.client.create_room(request).await?;
            let id = made.room_id().to_owned();
            let preview = bob.client.get_room_preview((&*id).into(), vec![]).await?;
            ensure!(preview.name.as_deref() == Some("behind a door"), "{preview:?}");
            let (requests, _task) = alice.room(&id).await?.subscribe_to_knock_requests().await?;
            futures_util::pin_mut!(requests);
            let knocked = bob
                .client
                .knock(id.clone().into(), Some("may I?".to_owned()), vec![])
                .await?;
            let on_other = until("the knock on the other device", || async { bob2.client.get_room(&id) }).await?;
            ensure!(on_other.state() == RoomState::Knocked, "{:?}", on_other.state());
            let request = loop {
                let all = requests.next().await.context("no requests")?;
                if let Some(request) = all.into_iter().next() {
                    break request;
                }
            };
            ensure!(request.member_info.reason.as_deref() == Some("may I?"));
            request.accept().await?;
            until("invited", || async {
                (knocked.state() == RoomState::Invited).then_some(())
            })
            .await?;
            knocked.join().await?;
            until("joined", || async {
                (knocked.state() == RoomState::Joined).then_some(())
            })
            .await
        })
        .await;
    steps
        .step("the preview of a public room, and the directory", async {
            let mut request = create_room::Request::new();
            request.name = Some("market place".to_owned());
            request.topic = Some("for everybody".to_owned());
            request.visibility = Visibility::Public;
            request.preset = Some(create_room::RoomPreset::PublicChat);
            request.initial_state = vec![
                InitialStateEvent::with_empty_state_key(RoomHistoryVisibilityEventContent::new(
                    HistoryVisibility::WorldReadable,
                ))
                .to_raw_any(),
            ];
            let alias = format!("market{}", steps::unique());
            request.room_alias_name = Some(alias.clone());
            let id = alice.client.create_room(request).await?.room_id().to_owned();
            let alias = matrix_sdk::ruma::RoomAliasId::parse(format!("#{alias}:{}", alice.user_id().server_name()))?;
            let preview = bob.client.get_room_preview((&*alias).into(), vec![]).await?;
            ensure!(preview.room_id == id && preview.num_joined_members == 1, "{preview:?}");
            ensure!(
                preview.is_world_readable == Some(true) && preview.topic.is_some(),
                "{preview:?}"
            );
            let mut search = matrix_sdk::room_directory_search::RoomDirectorySearch::new(bob.client.clone());
            search.search(Some("market place".to_owned()), 10, None).await?;
            let (found, _) = search.results();
            ensure!(found.iter().any(|room| room.room_id == id), "not in the directory");
            let joined = bob.client.join_room_by_id_or_alias((&*alias).into(), &[]).await?;
            until("joined", || async {
                (joined.state() == RoomState::Joined).then_some(())
            })
            .await
        })
        .await;
}

async fn settings(steps: &Steps, flow: &Flow) {
    let Flow {
        alice,
        bob,
        bob2,
        room,
        at_alice,
        at_bob,
        ..
    } = flow;
    steps
        .step("a notification of an encrypted message", async {
            let setup = NotificationProcessSetup::SingleProcess {
                sync_service: bob2.sync.clone(),
            };
            let notifications = NotificationClient::new(bob2.client.clone(), setup).await?;
            let id = say(at_alice, "are you there?").await?;
            let NotificationStatus::Event(item) = notifications.get_notification(room, &id).await? else {
                bail!("no notification");
            };
            ensure!(
                item.room_computed_display_name == "kitchen",
                "{}",
                item.room_computed_display_name
            );
            ensure!(item.is_room_encrypted == Some(true));
            ensure!(format!("{:?}", item.event).contains("are you there?"), "not decrypted");
            Ok(())
        })
        .await;
    steps
        .step("notification settings", async {
            let here = bob.client.notification_settings().await;
            let there = bob2.client.notification_settings().await;
            let kept = |wanted: Option<RoomNotificationMode>| {
                let there = there.clone();
                async move {
                    until("the mode", || async {
                        (there.get_user_defined_room_notification_mode(room).await == wanted).then_some(())
                    })
                    .await
                }
            };
            here.set_room_notification_mode(room, RoomNotificationMode::Mute)
                .await?;
            kept(Some(RoomNotificationMode::Mute)).await?;
            here.set_room_notification_mode(room, RoomNotificationMode::MentionsAndKeywordsOnly)
                .await?;
            kept(Some(RoomNotificationMode::MentionsAndKeywordsOnly)).await?;
            here.delete_user_defined_room_rules(room).await?;
            kept(None).await?;
            here.add_keyword("breakfast".to_owned()).await?;
            until("the keyword", || async {
                there.enabled_keywords().await.contains("breakfast").then_some(())
            })
            .await?;
            here.remove_keyword("breakfast").await?;
            here.set_default_room_notification_mode(
                true.into(),
                false.into(),
                RoomNotificationMode::MentionsAndKeywordsOnly,
            )
            .await?;
            until("the default", || async {
                let mode = there
                    .get_default_room_notification_mode(true.into(), false.into())
                    .await;
                (mode == RoomNotificationMode::MentionsAndKeywordsOnly).then_some(())
            })
            .await?;
            here.set_default_room_notification_mode(true.into(), false.into(), RoomNotificationMode::AllMessages)
                .await?;
            Ok(())
        })
        .await;
    steps
        .step("a profile changes", async {
            alice.client.account().set_display_name(Some("Alice A.")).await?;
            let uri = alice
                .client
                .account()
                .upload_avatar(&"image/png".parse()?, picture())
                .await?;
            until("bob sees it", || async {
                let member = bob
                    .client
                    .get_room(room)?
                    .get_member_no_sync(alice.user_id())
                    .await
                    .ok()??;
                (member.display_name() == Some("Alice A.") && member.avatar_url() == Some(&uri)).then_some(())
            })
            .await?;
            found(at_bob, "the change in the timeline", |item| {
                matches!(item.content(), TimelineItemContent::ProfileChange(_))
            })
            .await?;
            let profile = bob.client.account().fetch_user_profile_of(alice.user_id()).await?;
            ensure!(format!("{profile:?}").contains("Alice A."), "{profile:?}");
            let found = bob.client.search_users(alice.user_id().localpart(), 5).await?;
            ensure!(
                found.results.iter().any(|user| user.user_id == alice.user_id()),
                "not in the user directory"
            );
            Ok(())
        })
        .await;
    steps
        .step("ignore a user", async {
            bob.client.account().ignore_user(alice.user_id()).await?;
            until("on the other device", || async {
                bob2.client.is_user_ignored(alice.user_id()).await.then_some(())
            })
            .await?;
            bob.client.account().unignore_user(alice.user_id()).await?;
            until("no more", || async {
                (!bob2.client.is_user_ignored(alice.user_id()).await).then_some(())
            })
            .await
        })
        .await;
    steps
        .step("room settings", async {
            let own = alice.room(room).await?;
            own.set_name("big kitchen".to_owned()).await?;
            own.set_room_topic("food").await?;
            own.upload_avatar(&"image/png".parse()?, picture(), None).await?;
            own.update_power_levels(vec![(bob.user_id(), 50.into())]).await?;
            let at = bob.room(room).await?;
            until("bob sees it", || async {
                let all = at.name().as_deref() == Some("big kitchen")
                    && at.topic().as_deref() == Some("food")
                    && at.avatar_url().is_some();
                all.then_some(())
            })
            .await?;
            until("power", || async {
                (format!("{:?}", at.get_user_power_level(bob.user_id()).await.ok()?).contains("50")).then_some(())
            })
            .await
        })
        .await;
    steps
        .step("report a message and a room", async {
            let id = say(at_alice, "reported").await?;
            message(at_bob, "reported").await?;
            let at = bob.room(room).await?;
            at.report_content(id, Some("spam".to_owned())).await?;
            at.report_room("spam".to_owned()).await?;
            Ok(())
        })
        .await;
    steps
        .step("an OpenID token, devices, the name of a device", async {
            alice.client.account().request_openid_token().await?;
            let id = alice.client.device_id().context("no device")?.to_owned();
            alice.client.rename_device(&id, "alice's new phone").await?;
            let devices = alice.client.devices().await?.devices;
            ensure!(
                devices
                    .iter()
                    .any(|device| device.display_name.as_deref() == Some("alice's new phone"))
            );
            Ok(())
        })
        .await;
}

async fn encryption(steps: &Steps, flow: &Flow) {
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
            until("verified", || async {
                (encryption.verification_state().get() == VerificationState::Verified).then_some(())
            })
            .await?;
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
            until("verified", || async {
                let identity = alice
                    .client
                    .encryption()
                    .get_user_identity(bob.user_id())
                    .await
                    .ok()??;
                identity.is_verified().then_some(())
            })
            .await?;
            until("verified on the other device", || async {
                let identity = alice2
                    .client
                    .encryption()
                    .get_user_identity(bob.user_id())
                    .await
                    .ok()??;
                identity.is_verified().then_some(())
            })
            .await
        })
        .await;
    if let Some(key) = key {
        steps
            .step("a new device recovers, and reads the history from the backup", async {
                let device = Device::login(url, alice.user_id().as_str(), "alice's laptop").await?;
                device.client.encryption().recovery().recover(&key).await?;
                let encryption = device.client.encryption();
                until("verified", || async {
                    (encryption.verification_state().get() == VerificationState::Verified).then_some(())
                })
                .await?;
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

async fn interruptions(steps: &Steps, flow: &Flow) {
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
        conversation(&steps, &flow).await;
        lists(&steps, &flow).await;
        settings(&steps, &flow).await;
        encryption(&steps, &flow).await;
        interruptions(&steps, &flow).await;
    }
}
