/** Tests of Complement that Greenroom fails, and why: at commit 50044ed of Complement. */
export interface KnownFailure {
  /** As Go writes its name. It stands for its subtests too. */
  readonly test: string
  readonly reason: string
}

const known = (reason: string, ...tests: ReadonlyArray<string>): ReadonlyArray<KnownFailure> =>
  tests.map((test) => ({ test, reason }))

export const knownFailures: Readonly<Record<string, ReadonlyArray<KnownFailure>>> = {
  csapi: [
    ...known(
      "A body is read before it is known who asks: 400 for one that is missing",
      "TestServerNotices//send_server_notice_is_not_allowed_as_normal_user"
    ),
    ...known(
      "m.room.join_rules is sent as a message event, which we refuse",
      "TestRoomForget/Parallel/Can_re-join_room_if_re-invited"
    ),
    ...known(
      "`dir` is missing, which is required",
      "TestRoomForget/Parallel/Forgotten_room_messages_cannot_be_paginated"
    ),
    ...known(
      "A user without an avatar has no `avatar_url`",
      "TestRoomState/Parallel/GET_/rooms/:room_id/joined_members_fetches_my_membership"
    ),
    ...known("`end` is left out at the beginning of the room", "TestRoomImageRoundtrip"),
    ...known("prev_batch of a whole timeline is before the first event", "TestGetRoomMembersAtPoint"),
    ...known(
      "All events fit, so the timeline is not limited",
      "TestSync/parallel/Newly_joined_room_has_correct_timeline_in_incremental_sync"
    ),
    ...known(
      "The timelines are as the test wants; its server takes a request for /backfill for an error",
      "TestSyncTimelineGap"
    ),
    ...known("A fault of ours: presence that two users set at the same time", "TestPresenceSyncDifferentRooms"),
    ...known("The rule by which a user ID in the text is a mention was removed", "TestThreadedReceipts"),
    ...known("URLs of loopback addresses are not previewed", "TestUrlPreview")
  ],
  federation: [
    ...known("The test reads an empty `ephemeral`, which we leave out", "TestACLsForEDUs"),
    ...known(
      "The state event of a fork comes last in our order, so it is in the timeline that the test limits to one event",
      "TestSyncOmitsStateChangeOnFilteredEvents"
    )
  ],
  // Proposals: `npm run test:conformance -- msc4140 msc4222 msc3967 msc3874 msc3890 msc3391 msc4155`.
  msc4140: [
    ...known(
      "A repeat without the body of the first request is 400",
      "TestDelayedEvents/delayed_message_events_are_sent_on_timeout/rerequesting_delayed_event_path_with_the_same_txnID_should_have_the_same_response",
      "TestDelayedEvents/delayed_message_events_are_sent_on_timeout/rerequesting_delayed_event_path_with_the_same_txnID_should_have_the_same_response#01",
      "TestDelayedEvents/delayed_message_events_are_sent_on_timeout/rerequesting_delayed_event_path_with_the_same_txnID_should_have_the_same_response#02"
    ),
    ...known(
      "400 M_INVALID_PARAM for an action that there is not",
      "TestDelayedEvents/cannot_update_a_delayed_event_with_an_invalid_action"
    )
  ],
  msc3874: known("Not served, and not announced: `rel_types` in filters", "TestFilterMessagesByRelType"),
  msc3890: known(
    "A fault of ours: settings of notifications of a device that is gone stay in the account data",
    "TestDeletingDeviceRemovesDeviceLocalNotificationSettings"
  ),
  msc3391: known("Not served, and not announced: account data is not deleted", "TestRemovingAccountData"),
  msc4155: known("Not served, and not announced: rules about who may invite", "TestInviteFiltering")
}
