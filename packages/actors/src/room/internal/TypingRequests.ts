/**
 * Users who say that they type, and the end of that when they log out.
 *
 * Source: "Typing Notifications" of the client-server specification.
 */
import type { RoomId, UserId } from "@greenroom/protocol/Identifiers"
import { Forbidden } from "@greenroom/protocol/MatrixError"
import { keepRunning } from "@greenroom/store/Supervision"
import { Effect, Queue } from "effect"
import { EphemeralStream } from "../../presence/EphemeralStream.ts"
import { ask } from "../../runtime/Ask.ts"
import type { Session } from "../../runtime/Session.ts"
import { SessionRevocations } from "../../runtime/SessionRevocations.ts"
import { Room } from "../RoomProtocol.ts"

/** How long typing lasts by default, in milliseconds. */
const defaultTypingTimeout = 30_000

export const makeTypingRequests = Effect.gen(function* () {
  const room = yield* Room.client
  const ephemeral = yield* EphemeralStream
  const revocations = yield* SessionRevocations

  const setTyping = (session: Session, roomId: RoomId, userId: UserId, typing: boolean, timeout?: number) =>
    userId === session.userId
      ? ask(room(roomId).SetTyping({ userId, typing, timeout: timeout ?? defaultTypingTimeout }))
      : Effect.fail(new Forbidden({ error: `Only ${userId} may say that ${userId} is typing` }))

  const loggedOut = yield* Queue.unbounded<UserId>()
  yield* revocations.observe((ended) =>
    Queue.offerAllUnsafe(
      loggedOut,
      ended.map(({ userId }) => userId)
    )
  )
  const endTyping = Effect.flatMap(Queue.take(loggedOut), (userId) =>
    Effect.forEach(
      ephemeral.roomsTypedIn(userId),
      (roomId) => ask(room(roomId).SetTyping({ userId, typing: false, timeout: 0 })),
      { discard: true }
    )
  )
  yield* keepRunning("Ending the typing of users who logged out", endTyping)

  return { setTyping }
})
