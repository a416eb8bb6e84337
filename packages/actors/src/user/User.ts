/**
 * The User actor: one per user of this server, keyed by user ID. It owns the profile, the presence list and the permission
 * to see the user's presence, and is their only writer: what it writes is bound to the fence of its shard.
 *
 * Its state is in the store, so a restart or a move to another node loses nothing. A changed display name or avatar is marked
 * as pending in the commit of the change. The actor updates the memberships of the rooms after it has answered; a change that
 * is still pending later (after a restart, or on the next message) is sent to all rooms again, which is idempotent.
 *
 * Source: "Profiles", "Presence List" and "Presence and Permissions" of the draft.
 */
import type { ProfileVisibility } from "@greenroom/protocol/api/ProfileApi"
import type { RoomId, UserId } from "@greenroom/protocol/Identifiers"
import type { Json } from "@greenroom/protocol/Json"
import { BadRequest, NotFound, ProfileTooLarge } from "@greenroom/protocol/MatrixError"
import { PresenceListStore } from "@greenroom/store/PresenceListStore"
import { ProfileStore } from "@greenroom/store/ProfileStore"
import { RoomStore } from "@greenroom/store/RoomStore"
import { ShardFenceStore } from "@greenroom/store/ShardFenceStore"
import { Effect, Exit, Option, Schedule, Semaphore } from "effect"
import { Entity } from "effect/cluster"
import { EphemeralStream } from "../presence/EphemeralStream.ts"
import { Presences } from "../presence/Presences.ts"
import { Rooms } from "../room/Rooms.ts"
import { HomeServerConfig } from "../runtime/HomeServerConfig.ts"
import { NodeUnavailable } from "../runtime/NodeUnavailable.ts"
import { actorFence, ShardFences } from "../runtime/ShardFences.ts"
import { maxPresenceList, maxProfileBytes, maxProfileFields, User } from "./UserProtocol.ts"

/** The bytes of fields and their names, as JSON. */
const bytesOf = (fields: ReadonlyArray<readonly [string, Json]>): number =>
  fields.reduce((sum, [name, value]) => sum + Buffer.byteLength(name) + Buffer.byteLength(JSON.stringify(value)), 0)

// --- State ------------------------------------------------------------------------------------------------------------

/** Fields that are always public, and are part of memberships and presence. */
const isPublicField = (field: string): boolean => field === "displayname" || field === "avatar_url"

/** How many rooms are updated at once. */
const concurrentRooms = 4
/** A room that fails is retried after 1, 2, 4, 8 and 16 seconds, then when the actor or the server starts. */
const retryPolicy = Schedule.max([Schedule.exponential("1 second"), Schedule.recurs(5)])

// --- Behaviour --------------------------------------------------------------------------------------------------------

const behaviour = Effect.gen(function* () {
  const userId = (yield* Entity.CurrentAddress).entityId as unknown as UserId
  const self = (yield* User.client)(userId)
  const { acceptPresenceInvites = false } = yield* HomeServerConfig
  const profiles = yield* ProfileStore
  const lists = yield* PresenceListStore
  const roomStore = yield* RoomStore
  const rooms = yield* Rooms
  const presences = yield* Presences
  const stream = yield* EphemeralStream
  const oneAtATime = Semaphore.makeUnsafe(1).withPermits(1)
  const fences = yield* ShardFenceStore
  const { refused } = yield* ShardFences
  const fence = yield* actorFence
  const onePropagation = Semaphore.makeUnsafe(1).withPermits(1)

  /** Writes, unless another node has taken the shard. */
  const fenced = <A>(write: Effect.Effect<A>): Effect.Effect<A> =>
    Effect.catch(fences.under(fence, write), (stale) =>
      Effect.andThen(refused(stale.fence), Effect.die(new NodeUnavailable(`Another node runs User ${userId}`)))
    )

  // --- Profile

  /** A profile that is too large already may still become smaller. */
  const checkRoom = Effect.fnUntraced(function* (field: string, value: Json) {
    const fields = yield* profiles.fields(userId)
    if (!fields.has(field) && fields.size >= maxProfileFields) {
      return yield* new BadRequest({ error: `A profile has at most ${maxProfileFields} fields` })
    }
    const others = [...fields].filter(([name]) => name !== field)
    const bytes = bytesOf(others.map(([name, { value }]) => [name, value]))
    const before = bytesOf([...fields].map(([name, { value }]) => [name, value]))
    const after = bytes + bytesOf([[field, value]])
    if (after > maxProfileBytes && after > before) {
      return yield* new ProfileTooLarge({ error: `A profile has at most ${maxProfileBytes} bytes` })
    }
  })

  const setField = Effect.fnUntraced(function* (field: string, value: Json, visibility: ProfileVisibility) {
    if (value === null) yield* fenced(profiles.remove(userId, field))
    else {
      yield* checkRoom(field, value)
      yield* fenced(profiles.set(userId, field, { value, visibility: isPublicField(field) ? "public" : visibility }))
    }
    if (!isPublicField(field)) return
    yield* Effect.orDie(self.PropagateProfile(undefined, { discard: true }))
    yield* presences.announce(userId)
  })

  /** True if the room has the profile, or does not need it. */
  const updateRoom = (roomId: RoomId) =>
    rooms.refreshMember(userId, roomId).pipe(
      Effect.catchIf(
        (error) => error._tag !== "M_LIMIT_EXCEEDED",
        (error) => Effect.logDebug(`${roomId} does not take the profile of ${userId}: ${error.error}`)
      ),
      Effect.sandbox,
      Effect.retry(retryPolicy),
      Effect.exit,
      Effect.map(Exit.isSuccess)
    )

  const updateRooms: Effect.Effect<void> = Effect.gen(function* () {
    const change = yield* profiles.pendingPropagation(userId)
    if (Option.isNone(change)) return
    const notified = yield* Effect.forEach(yield* roomStore.joinedRooms(userId), updateRoom, {
      concurrency: concurrentRooms
    })
    if (!notified.every(Boolean)) return yield* Effect.logWarning(`Not every room has the new profile of ${userId}`)
    yield* profiles.finishPropagation(userId, change.value)
    yield* updateRooms
  })

  // --- Presence list

  const inviteToList = Effect.fnUntraced(function* (observed: ReadonlyArray<UserId>) {
    const list = new Set((yield* lists.list(userId)).map((entry) => entry.userId))
    for (const other of observed) list.add(other)
    if (list.size > maxPresenceList) {
      return yield* new BadRequest({ error: `A presence list has at most ${maxPresenceList} users` })
    }
    yield* fenced(Effect.forEach(observed, (other) => lists.invite(userId, other), { discard: true }))
  })

  const accept = Effect.fnUntraced(function* (observer: UserId) {
    const hasAsked = yield* fenced(lists.accept(userId, observer))
    // The observer sees the presence from now on, and gets the present one.
    if (hasAsked) yield* presences.announce(userId)
    return hasAsked
  })

  /** Accepted at once if this user has the observer on their own list, and never denied them. */
  const invited = Effect.fnUntraced(function* (observer: UserId) {
    if (yield* lists.accepted(userId, observer)) return true
    const reverse = (yield* lists.list(userId)).some((entry) => entry.userId === observer)
    const isWelcome = (reverse || acceptPresenceInvites) && !(yield* lists.denied(userId, observer))
    if (isWelcome) return yield* accept(observer)
    yield* stream.publishPresenceInvite(observer, userId)
    return false
  })

  const answerInvite = Effect.fnUntraced(function* (observer: UserId, accepting: boolean) {
    const hasAsked = accepting ? yield* accept(observer) : yield* fenced(lists.deny(userId, observer))
    if (!hasAsked) return yield* new NotFound({ error: `${observer} has not asked to see your presence` })
  })

  // An earlier change that did not reach all rooms.
  if (Option.isSome(yield* profiles.pendingPropagation(userId))) {
    yield* Effect.forkScoped(Effect.orDie(self.PropagateProfile(undefined, { discard: true })))
  }

  return User.of({
    SetProfileField: ({ payload: { field, value, visibility } }) => oneAtATime(setField(field, value, visibility)),
    PropagateProfile: () => onePropagation(updateRooms),
    InviteToList: ({ payload }) => oneAtATime(inviteToList(payload.observed)),
    DropFromList: ({ payload }) => oneAtATime(fenced(lists.drop(userId, payload.observed))),
    PresenceInvited: ({ payload }) => oneAtATime(invited(payload.observer)),
    AnswerPresenceInvite: ({ payload }) => oneAtATime(answerInvite(payload.observer, payload.accept)),
    Forget: () => oneAtATime(fenced(Effect.andThen(profiles.removeAll(userId), lists.removeAll(userId))))
  })
})

/**
 * Registers the actor with the runner. Messages are handled one at a time, except `PropagateProfile`, which may take long. A defect
 * restarts the actor.
 */
export const layer = User.toLayer(behaviour, { concurrency: "unbounded" })
