//! Notifications, profiles, settings of rooms and devices.
use anyhow::{Context, bail, ensure};
use matrix_sdk::notification_settings::RoomNotificationMode;
use matrix_sdk_ui::{
    notification_client::{NotificationClient, NotificationProcessSetup, NotificationStatus},
    timeline::TimelineItemContent,
};

use crate::{
    Flow,
    rooms::{found, message, picture, say},
    steps::{Steps, until},
};

pub async fn settings(steps: &Steps, flow: &Flow) {
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
