//! The list of rooms, and rooms that come and go.
use anyhow::{Context, ensure};
use futures_util::StreamExt;
use matrix_sdk::{
    RoomState,
    ruma::{
        api::client::room::{Visibility, create_room::v3 as create_room},
        events::{
            InitialStateEvent,
            room::{
                history_visibility::{HistoryVisibility, RoomHistoryVisibilityEventContent},
                join_rules::{JoinRule, RoomJoinRulesEventContent},
            },
        },
        room::RoomType,
        serde::Raw,
    },
};
use matrix_sdk_ui::{
    room_list_service::{RoomListLoadingState, filters},
    spaces::SpaceService,
};

use crate::{
    Flow,
    rooms::{becomes, encrypted_room, room_of, say},
    steps::{self, Steps, until},
};

pub async fn room_list(steps: &Steps, flow: &Flow) {
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
            becomes(&at, RoomState::Left).await?;
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
            becomes(&at, RoomState::Left).await?;
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
            becomes(&knocked, RoomState::Invited).await?;
            knocked.join().await?;
            becomes(&knocked, RoomState::Joined).await
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
            becomes(&joined, RoomState::Joined).await
        })
        .await;
}
