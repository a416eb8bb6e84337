//! A device of a user.
use std::sync::Arc;

use anyhow::{Context, Result};
use futures_util::StreamExt;
use matrix_sdk::{
    Client, Room, RoomState, ThreadingSupport,
    encryption::{BackupDownloadStrategy, EncryptionSettings},
    ruma::{
        OwnedRoomId, OwnedUserId, RoomId, UserId,
        api::client::{
            account::register::v3::Request as Register,
            uiaa::{AuthData, Dummy},
        },
    },
    sliding_sync::VersionBuilder,
};
use matrix_sdk_ui::{
    eyeball_im::Vector,
    room_list_service::{RoomListItem, filters},
    sync_service::SyncService,
    timeline::{RoomExt, Timeline, TimelineFocus},
};

use crate::{rooms::becomes, steps::until};

pub const PASSWORD: &str = "correct horse battery staple";

/// A device of a user: an application of its own.
#[derive(Clone)]
pub struct Device {
    pub client: Client,
    pub sync: Arc<SyncService>,
}

impl Device {
    pub async fn login(url: &str, user: &str, name: &str) -> Result<Self> {
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

    pub fn user_id(&self) -> &UserId {
        self.client.user_id().expect("is logged in")
    }

    /// The room once it is there, and opened.
    pub async fn room(&self, room_id: &RoomId) -> Result<Room> {
        let room = until("the room", || async { self.client.get_room(room_id) }).await?;
        self.sync.room_list_service().subscribe_to_rooms(&[room_id]).await;
        Ok(room)
    }

    pub async fn timeline(&self, room_id: &RoomId) -> Result<Timeline> {
        let room = self.room(room_id).await?;
        becomes(&room, RoomState::Joined).await?;
        Ok(room.timeline().await?)
    }

    /// A timeline of a part of the room: a thread, what is around an event, or the pinned events.
    pub async fn focused(&self, room_id: &RoomId, focus: TimelineFocus) -> Result<Timeline> {
        Ok(self
            .room(room_id)
            .await?
            .timeline_builder()
            .with_focus(focus)
            .build()
            .await?)
    }

    /// The rooms of the list as a user sees them.
    pub async fn list(&self, filter: filters::BoxedFilterFn) -> Result<Vec<OwnedRoomId>> {
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

pub async fn new_client(url: &str) -> Result<Client> {
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

pub async fn register(url: &str, name: &str) -> Result<OwnedUserId> {
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
