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
    ...known("Not served: Synapse's administration API for server notices", "TestServerNotices"),
    ...known("401 with the flows, as the specification has it for a stage that fails", "TestDeviceManagement"),
    ...known(
      "m.room.join_rules is sent as a message event, which we refuse",
      "TestRoomForget/Parallel/Can_re-join_room_if_re-invited"
    ),
    ...known(
      "`dir` is missing, which is required",
      "TestRoomForget/Parallel/Forgotten_room_messages_cannot_be_paginated"
    ),
    ...known(
      "The specification names no content of a join but `reason`",
      "TestRoomMembers/Parallel/POST_/join/:room_alias_can_join_a_room_with_custom_content",
      "TestRoomMembers/Parallel/POST_/join/:room_id_can_join_a_room_with_custom_content"
    ),
    ...known(
      "A new user has no display name, so there is no key",
      "TestRoomState/Parallel/GET_/rooms/:room_id/joined_members_fetches_my_membership"
    ),
    ...known("`next_batch` is there only where more results follow", "TestSearch"),
    ...known("Filters may name rooms and senders in any form", "TestFilter"),
    ...known("`end` is left out at the beginning of the room", "TestRoomImageRoundtrip"),
    ...known("Optional: unsigned.membership (MSC4115)", "TestMembershipOnEvents"),
    ...known(
      "The action dont_notify, which was removed, is dropped",
      "TestPushRuleCacheHealth",
      "TestPushRuleRoomUpgrade"
    ),
    ...known("prev_batch of a whole timeline is before the first event", "TestGetRoomMembersAtPoint"),
    ...known("A fault of ours: one back-fill does not reach all of 200 events", "TestMessagesOverFederation"),
    ...known(
      "All events fit, so the timeline is not limited",
      "TestSync/parallel/Newly_joined_room_has_correct_timeline_in_incremental_sync"
    ),
    ...known(
      "A fault of ours: a hole in history that federation leaves is not marked by `limited`",
      "TestSyncTimelineGap"
    ),
    ...known("A fault of ours: presence that two users set at the same time", "TestPresenceSyncDifferentRooms"),
    ...known(
      "400 for a kind of push rules that we do not know, where the test expects 404",
      "TestThreadedReceipts",
      "TestThreadReceiptsInSyncMSC4102"
    ),
    ...known("URLs of loopback addresses are not previewed", "TestUrlPreview")
  ],
  federation: [
    ...known("An invitation without m.room.create is refused", "TestIsDirectFlagFederation"),
    ...known("The test reads an empty `ephemeral`, which we leave out", "TestACLsForEDUs"),
    ...known(
      "The user's own name is not among the changed device lists of a join",
      "TestDeviceListsUpdateOverFederation"
    ),
    ...known(
      "A fault of ours: joining sends no m.device_list_update (Synapse and Dendrite fail it too)",
      "TestDeviceListsUpdateOverFederationOnRoomJoin"
    ),
    ...known("A fault of ours: a new name of a device is not sent to other servers", "TestFederationKeyUploadQuery"),
    ...known("Profiles of other servers are for users", "TestOutboundFederationProfile"),
    ...known("Events that are not there cannot be redacted", "TestFederationRedactSendsWithoutEvent"),
    ...known(
      "Not looked into: it may be a fault of ours",
      "TestInboundFederationRejectsEventsWithRejectedAuthEvents",
      "TestOutboundFederationIgnoresMissingEventWithBadJSONForRoomVersion6",
      "TestOutboundFederationEventSizeGetMissingEvents",
      "TestCorruptedAuthChain",
      "TestSyncOmitsStateChangeOnFilteredEvents",
      "TestJumpToDateEndpoint"
    ),
    ...known(
      "We set m.room.guest_access where a preset says `forbidden`",
      "TestInboundCanReturnMissingEvents",
      "TestSendJoinPartialStateResponse"
    ),
    ...known(
      "A fault of ours: unsigned.prev_content of a join after an invitation over federation; who may take an invitation back",
      "TestFederationRoomsInvite"
    ),
    ...known("404 for a join that nobody can authorise", "TestKnockingInMSC3787Room"),
    ...known(
      "Join rules of a wrong form are refused when they are set",
      "TestRestrictedRoomsLocalJoin",
      "TestRestrictedRoomsLocalJoinInMSC3787Room",
      "TestRestrictedRoomsRemoteJoin",
      "TestRestrictedRoomsRemoteJoinInMSC3787Room"
    ),
    ...known(
      "The server in the room ID is tried too",
      "TestRestrictedRoomsRemoteJoinFailOver",
      "TestRestrictedRoomsRemoteJoinFailOverInMSC3787Room"
    ),
    ...known("A refusal of another server is remembered for 5 seconds", "TestRestrictedRoomsSpacesSummaryFederation"),
    ...known("The client port has no federation endpoints", "TestUnknownEndpoints"),
    ...known(
      "403 M_FORBIDDEN, as for everything that the rules refuse",
      "TestMSC4289PrivilegedRoomCreators",
      "TestMSC4289PrivilegedRoomCreators_Additional"
    ),
    ...known("predecessor.event_id is optional and there", "TestMSC4291RoomIDAsHashOfCreateEvent_UpgradedRooms"),
    ...known("Clients get m.room.create stripped", "TestMSC4311FullCreateEventOnStrippedState")
  ]
}
