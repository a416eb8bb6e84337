/**
 * Making rooms of every version: the m.room.create is built first, since in version 12 its hash is the ID of the room, and
 * then the actor of that ID is asked to begin with it.
 *
 * Source: "Rooms" of the draft, "Creation" of the client-server specification.
 */
import { checkEvent } from "@greenroom/protocol/EventCheck"
import {
  formatRoomAlias,
  type RoomAlias,
  type RoomId,
  type ServerName,
  serverNameOf,
  type UserId
} from "@greenroom/protocol/Identifiers"
import type { JsonObject } from "@greenroom/protocol/Json"
import { BadJson, type MatrixError, UnsupportedRoomVersion } from "@greenroom/protocol/MatrixError"
import { isDraft } from "@greenroom/room/DraftRoomVersion"
import { draftSeed } from "@greenroom/room/draft/RoomCreation"
import { isPolicyType } from "@greenroom/room/RoomPolicy"
import { type RoomSeed, roomSeed } from "@greenroom/room/RoomPreset"
import type { RoomVersion } from "@greenroom/room/RoomVersion"
import { defaultRoomVersion, roomVersion, roomVersions } from "@greenroom/room/RoomVersions"
import { DirectoryStore } from "@greenroom/store/DirectoryStore"
import { RoomStore } from "@greenroom/store/RoomStore"
import { SigningKeys } from "@greenroom/store/SigningKeys"
import { Clock, Deferred, Effect, Result } from "effect"
import { ask } from "../../runtime/Ask.ts"
import { HomeServerConfig } from "../../runtime/HomeServerConfig.ts"
import { Nodes } from "../../runtime/Nodes.ts"
import type { Session } from "../../runtime/Session.ts"
import type { MembershipLimits } from "../MembershipLimits.ts"
import type { CreateRoom, SeededRoom } from "../RoomModel.ts"
import { type CreatedRoom, Room, requestTransaction } from "../RoomProtocol.ts"
import { makeAliasReservations } from "./AliasReservations.ts"
import { makeInvitedProfiles } from "./InvitedProfiles.ts"
import { creationScope, transactionKey } from "./RoomTransactions.ts"

/** How often a room that exists already is tried again with a later time. */
const maxAttempts = 1_000

/** How far times of rooms may run ahead of the clock, in ms, where more than one is made in a millisecond. */
const mostAhead = 60_000

interface RoomCreationNeeds {
  /** Errors: M_NOT_FOUND for users of this server who do not exist. */
  readonly mustBeInvitable: (inviter: UserId, userIds: ReadonlyArray<UserId>) => Effect.Effect<void, MatrixError>
  /** Errors: M_FORBIDDEN if the user is in as many rooms as they may be. */
  readonly entering: MembershipLimits["entering"]
  readonly profileOf: (userId: UserId) => Effect.Effect<JsonObject>
}

/** The version that a request names, or the default. Errors: M_UNSUPPORTED_ROOM_VERSION. */
const versionFor = (id: string | undefined) => {
  const version = id === undefined ? defaultRoomVersion : roomVersion(id)
  if (version !== undefined) return Effect.succeed(version)
  const known = [...roomVersions.keys()].join(", ")
  return new UnsupportedRoomVersion({ error: `room_version: ${id?.slice(0, 64)} is none of ${known}` })
}

/** The first events of a room of the API of 2014. */
const seedFor = (
  options: CreateRoom,
  creator: UserId,
  creatorProfile: JsonObject,
  version: RoomVersion,
  serverName: ServerName
): RoomSeed => {
  const { invite = [], name, room_alias_name, topic, visibility = "public" } = options
  const alias: RoomAlias | undefined =
    room_alias_name === undefined ? undefined : formatRoomAlias(room_alias_name, serverName)
  if (!isDraft(version)) {
    const preset = visibility === "public" ? "public_chat" : "private_chat"
    return roomSeed({ creator, creatorProfile, preset, name, topic, alias, invite }, version)
  }
  const aliases = alias === undefined ? undefined : [alias]
  return draftSeed({ creator, creatorProfile, visibility, roomVersion: version.id, name, topic, aliases })
}

export const makeRoomCreations = Effect.fnUntraced(function* ({
  mustBeInvitable,
  entering,
  profileOf
}: RoomCreationNeeds) {
  const { serverName } = yield* HomeServerConfig
  const nodes = yield* Nodes
  const room = yield* Room.client
  const rooms = yield* RoomStore
  const directory = yield* DirectoryStore
  const signingKeys = yield* SigningKeys
  const invitedProfiles = yield* makeInvitedProfiles
  const aliases = yield* makeAliasReservations
  /** Creations in progress, by login and transaction ID: a repeat waits for the first. */
  const underWay = new Map<string, Deferred.Deferred<CreatedRoom, MatrixError>>()
  const aliasOf = (localpart: string) => formatRoomAlias(localpart, serverName)
  let latest = 0

  /**
   * Equal rooms of one moment would have one ID in version 12: each is made at a time of its own. If the clock was set back, times go back
   * with it.
   */
  const timestamp = Effect.map(Clock.currentTimeMillis, (now) => {
    latest = latest < now || latest > now + mostAhead ? now : latest + 1
    return latest
  })

  const check = Effect.fnUntraced(function* ({ userId }: Session, { invite, seed }: SeededRoom) {
    for (const { content, state_key, type } of seed.state) {
      const problem = checkEvent(type, state_key, content)
      if (problem !== undefined) return yield* problem
    }
    yield* mustBeInvitable(userId, invite)
  })

  const attempt = Effect.fnUntraced(function* (
    session: Session,
    { aliasName, invite, isDirect = false, listed, seed, version }: SeededRoom,
    transaction: ReturnType<typeof requestTransaction>
  ) {
    const proposal = { type: "m.room.create", sender: session.userId, state_key: "", content: seed.create }
    const made = version.createRoom(proposal, yield* signingKeys.current, yield* timestamp)
    if (Result.isFailure(made))
      return yield* new BadJson({ error: "creation_content: the m.room.create event would be invalid or too large" })
    const create = made.success
    const isReserved = aliasName !== undefined && (yield* aliases.reserve(session, create.room_id, aliasName))
    const membership = { membership: "invite", ...(isDirect ? { is_direct: true } : {}) }
    const invited = [...new Set(invite)].filter((userId) => userId !== session.userId)
    const { foreign = [], first = [] } = Object.groupBy(invited, (userId) =>
      isDraft(version) || serverNameOf(userId) === serverName ? "first" : "foreign"
    )
    const profiles = yield* invitedProfiles(first)
    const invitations = first.map((state_key) => ({
      type: "m.room.member",
      state_key,
      content: { ...profiles.get(state_key), ...membership }
    }))
    // Events before the m.room.policy that names the policy server need no signature of it.
    const isPolicy = ({ type }: { readonly type: string }) => isPolicyType(type)
    const created = yield* ask(
      room(create.room_id).Create({
        create,
        version: version.id,
        listed,
        state: [...seed.state.filter((event) => !isPolicy(event)), ...invitations, ...seed.state.filter(isPolicy)],
        ...(aliasName === undefined ? {} : { alias: aliasOf(aliasName) }),
        ...transaction
      })
    ).pipe(Effect.tapError(() => (isReserved ? directory.release(aliasOf(aliasName), create.room_id) : Effect.void)))
    // The room ID is that of another room: the alias is needed for the next attempt.
    if (created === null && isReserved) yield* directory.remove(aliasOf(aliasName))
    if (created?.room_id === create.room_id) yield* inviteForeign(session, create.room_id, foreign, membership)
    return created
  })

  /** Users of other servers are invited through their servers. The room exists even if those cannot be reached. */
  const inviteForeign = (session: Session, roomId: RoomId, invited: ReadonlyArray<UserId>, content: JsonObject) =>
    Effect.forEach(
      invited,
      (userId) =>
        Effect.flatMap(invitedProfiles([userId]), (profiles) =>
          ask(
            room(roomId).InviteRemotely({
              sender: session.userId,
              invited: userId,
              content: { ...profiles.get(userId), ...content },
              ...requestTransaction(nodes, session, "invite", undefined)
            })
          )
        ).pipe(Effect.catch(({ error }) => Effect.logWarning(`${userId} was not invited to ${roomId}: ${error}`))),
      { concurrency: 8, discard: true }
    )

  const createNew = (session: Session, seeded: SeededRoom, txnId: string | undefined) =>
    Effect.andThen(
      check(session, seeded),
      entering(session.userId, undefined, aliases.holding(seeded.aliasName, createChecked(session, seeded, txnId)))
    )

  const createChecked = Effect.fnUntraced(function* (session: Session, seeded: SeededRoom, txnId: string | undefined) {
    const transaction = requestTransaction(nodes, session, "createRoom", txnId)
    for (let left = maxAttempts; left > 0; left--) {
      const created = yield* attempt(session, seeded, transaction)
      if (created !== null) return created
    }
    return yield* Effect.die(`${maxAttempts} rooms that were to be made exist already`)
  })

  /** A request that is repeated is answered with the room of the first, on this node or another, now or later. */
  const once = Effect.fnUntraced(function* (
    { tokenId }: Session,
    txnId: string,
    effect: Effect.Effect<CreatedRoom, MatrixError>
  ) {
    const key = transactionKey({ tokenId, txnId, kind: "createRoom" })
    const name = `${tokenId} ${key}`
    const running = underWay.get(name)
    if (running !== undefined) return yield* Deferred.await(running)
    const answer = Deferred.makeUnsafe<CreatedRoom, MatrixError>()
    underWay.set(name, answer)
    const stored = rooms.transaction(tokenId, creationScope, key)
    return yield* Effect.flatMap(stored, (found) =>
      found === undefined ? effect : Effect.succeed(JSON.parse(found.response) as CreatedRoom)
    ).pipe(
      Effect.onExit((exit) => {
        underWay.delete(name)
        Deferred.doneUnsafe(answer, exit)
        return Effect.void
      }),
      Effect.uninterruptible
    )
  })

  const createSeeded = Effect.fn("Rooms.createSeeded")(function* (
    session: Session,
    seeded: SeededRoom,
    txnId?: string
  ): Effect.fn.Return<CreatedRoom, MatrixError> {
    const made = Effect.suspend(() => createNew(session, seeded, txnId))
    return yield* txnId === undefined ? made : once(session, txnId, made)
  })

  const create = Effect.fn("Rooms.create")(function* (session: Session, options: CreateRoom, txnId?: string) {
    const version = yield* versionFor(options.room_version)
    const seed = seedFor(options, session.userId, yield* profileOf(session.userId), version, serverName)
    const { invite = [], room_alias_name: aliasName, visibility = "public" } = options
    const listed = visibility === "public"
    return yield* createSeeded(
      session,
      { version, seed, listed, invite, ...(aliasName === undefined ? {} : { aliasName }) },
      txnId
    )
  })

  return { create, createSeeded, versionFor }
})

export type RoomCreations = Effect.Success<ReturnType<typeof makeRoomCreations>>
