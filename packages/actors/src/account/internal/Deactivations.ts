/**
 * The deactivation of accounts: the account ends in the database, then its user leaves all rooms and is forgotten. Work that a
 * restart interrupted is finished later. The database refuses to store anything for an account that has ended; a request under way
 * meanwhile may still join a room, and the user leaves it when that request has ended.
 *
 * Source: "Account deactivation" of the client-server specification.
 */
import type { UserId } from "@greenroom/protocol/Identifiers"
import { AccountStore } from "@greenroom/store/AccountStore"
import { RoomStore } from "@greenroom/store/RoomStore"
import { Effect } from "effect"
import { Presences } from "../../presence/Presences.ts"
import { DelayedEvents } from "../../room/DelayedEvents.ts"
import { Rooms } from "../../room/Rooms.ts"
import { handleEach, outcomeOf } from "../../runtime/ItemFailure.ts"
import type { Session } from "../../runtime/Session.ts"
import { keepRunningOnce } from "../../runtime/Singletons.ts"
import { signalsOfWork } from "../../runtime/WorkSignals.ts"
import { Users } from "../../user/Users.ts"
import type { AccountSessions } from "./AccountSessions.ts"

/** The longest interval between runs that finish interrupted deactivations. */
const sweepInterval = "10 minutes"

export const makeDeactivations = Effect.fnUntraced(function* (sessions: AccountSessions) {
  const store = yield* AccountStore
  const rooms = yield* Rooms
  const roomStore = yield* RoomStore
  const presences = yield* Presences
  const delayedEvents = yield* DelayedEvents
  const users = yield* Users

  /** Leaves the rooms of a deactivated account, and declines its invitations. */
  const leaveRooms = Effect.fnUntraced(function* (session: Session) {
    const memberships = yield* roomStore.membershipsOf(session.userId, ["join", "invite", "knock"])
    yield* Effect.forEach(
      memberships,
      ({ roomId }) =>
        Effect.catchCause(rooms.leave(session, roomId), (cause) =>
          Effect.logWarning(`${session.userId} was deactivated but could not leave ${roomId}`, cause)
        ),
      { concurrency: 8, discard: true }
    )
  })

  /** The work that follows a deactivation. May run twice. */
  const finishDeactivation = Effect.fnUntraced(function* (session: Session) {
    yield* delayedEvents.cancelAll(session.userId)
    yield* presences.forget(session.userId)
    yield* users.forget(session.userId)
    yield* leaveRooms(session)
  })

  const unregister = Effect.fn("Accounts.unregister")(function* (session: Session, erase = false) {
    yield* sessions.endAccount(session.userId, erase)
    yield* finishDeactivation(session)
  })

  const deactivate = (userId: UserId, erase?: boolean) => unregister({ userId, tokenId: 0, deviceId: "" }, erase)

  const finishDeactivations = Effect.fnUntraced(function* (ofUser?: UserId) {
    yield* handleEach(yield* store.unfinishedDeactivations(ofUser), (userId) =>
      outcomeOf(`The deactivation of ${userId}`, finishDeactivation({ userId, tokenId: 0, deviceId: "" }))
    )
  })

  // Deactivations that were interrupted by a restart, or done by the command line.
  const signalled = Effect.timeoutOption(yield* signalsOfWork("deactivations"), sweepInterval)
  yield* keepRunningOnce("Finishing deactivations of accounts", Effect.andThen(finishDeactivations(), signalled))

  return { deactivate, finishDeactivation: (userId: UserId) => Effect.ignore(finishDeactivations(userId)), unregister }
})
