/**
 * Tests of Complement that Greenroom fails, and why: at commit 50044ed of Complement. Of the proposals
 * (`npm run test:conformance -- msc4140 msc4222 msc3967 msc3874 msc3890 msc3391 msc4155`) it fails none.
 */
export interface KnownFailure {
  /** The name as Go writes it. It includes the subtests. */
  readonly test: string
  readonly reason: string
}

const known = (reason: string, ...tests: ReadonlyArray<string>): ReadonlyArray<KnownFailure> =>
  tests.map((test) => ({ test, reason }))

export const knownFailures: Readonly<Record<string, ReadonlyArray<KnownFailure>>> = {
  csapi: [
    ...known(
      "A user without an avatar has no `avatar_url`: it is a string, says the specification, and not null",
      "TestRoomState/Parallel/GET_/rooms/:room_id/joined_members_fetches_my_membership"
    ),
    ...known(
      "The timelines are as the test wants; its server takes a request for /backfill for an error",
      "TestSyncTimelineGap"
    ),
    ...known("The rule by which a user ID in the text is a mention was removed", "TestThreadedReceipts")
  ],
  federation: [
    ...known(
      "The state event of a fork comes last in our order, so it is in the timeline that the test limits to one event",
      "TestSyncOmitsStateChangeOnFilteredEvents"
    )
  ]
}
