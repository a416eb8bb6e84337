/**
 * The users who type in a room. They are published to the ephemeral stream; a user stops after a time without a repeat.
 *
 * Source: "Typing notifications" of the draft and of the client-server specification.
 */
import { serverNameOf, type UserId } from "@greenroom/protocol/Identifiers"
import { Effect, FiberMap } from "effect"
import { EphemeralStream } from "../../presence/EphemeralStream.ts"
import { requireAdmitted } from "../ServerAcl.ts"
import type { RoomWriter } from "./RoomWriter.ts"

/** The longest time that a user types without a further request, in milliseconds. */
export const maxTypingTimeout = 120_000

export const makeRoomTyping = Effect.fnUntraced(function* ({ loadForMember, roomId }: RoomWriter) {
  const ephemeral = yield* EphemeralStream
  const typing = yield* FiberMap.make<UserId>()

  const typists = new Set<UserId>()
  const publishTyping = Effect.suspend(() => ephemeral.publishTyping(roomId, [...typists]))
  const noLongerTypes = (userId: UserId) => Effect.suspend(() => (typists.delete(userId) ? publishTyping : Effect.void))
  const stopTyping = (userId: UserId) => Effect.andThen(FiberMap.remove(typing, userId), noLongerTypes(userId))

  // The room may continue at another node, which does not know the typing users.
  yield* Effect.addFinalizer(() => (typists.size === 0 ? Effect.void : ephemeral.publishTyping(roomId, [])))

  const setTyping = Effect.fnUntraced(function* (userId: UserId, isTyping: boolean, timeout: number) {
    const room = yield* loadForMember(userId)
    const server = serverNameOf(userId)
    if (server !== room.ours) yield* requireAdmitted(room.lookup, server)
    if (!isTyping) return yield* stopTyping(userId)
    const after = Math.min(timeout, maxTypingTimeout)
    yield* FiberMap.run(typing, userId, Effect.andThen(Effect.sleep(after), noLongerTypes(userId)))
    if (typists.has(userId)) return
    typists.add(userId)
    yield* publishTyping
  })

  return { setTyping, stopTyping }
})

export type RoomTyping = Effect.Success<ReturnType<typeof makeRoomTyping>>
