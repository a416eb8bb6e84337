/**
 * Upgrading rooms: a room of another version takes the place of a room, whose members are led there by a tombstone.
 *
 * An upgrade that was interrupted continues where it ended, when it is asked for again or by itself (`UnfinishedUpgrades`). One that was
 * made is answered with the room that it made.
 *
 * Source: "Room Upgrades" of the client-server specification.
 */
import type { Event } from "@greenroom/protocol/Event"
import { isRoomId, type RoomId, type UserId } from "@greenroom/protocol/Identifiers"
import { Forbidden, type MatrixError, NotFound, UnsupportedRoomVersion } from "@greenroom/protocol/MatrixError"
import { closingLevels, transferredTypes, upgradeSeed } from "@greenroom/room/RoomUpgrade"
import { lookupIn, type RoomVersion } from "@greenroom/room/RoomVersion"
import { roomVersion } from "@greenroom/room/RoomVersions"
import { DirectoryStore } from "@greenroom/store/DirectoryStore"
import { EventStore } from "@greenroom/store/EventStore"
import { ProfileStore } from "@greenroom/store/ProfileStore"
import { PublicRoomStore } from "@greenroom/store/PublicRoomStore"
import { RoomStore } from "@greenroom/store/RoomStore"
import { StateStore } from "@greenroom/store/StateStore"
import { beginning } from "@greenroom/store/StreamToken"
import { UnfinishedUpgradeStore } from "@greenroom/store/UnfinishedUpgradeStore"
import { Context, Effect, Exit, Layer, Option } from "effect"
import { isRefusal } from "../runtime/ItemFailure.ts"
import type { Session } from "../runtime/Session.ts"
import { makePredecessorOf } from "./internal/Predecessor.ts"
import { theEnd } from "./internal/RoomViewer.ts"
import { RoomSuccession } from "./RoomSuccession.ts"
import { Rooms } from "./Rooms.ts"
import { finishUpgrades } from "./UnfinishedUpgrades.ts"

export interface UpgradeRequest {
  /** The ID of the version of the new room. */
  readonly newVersion: string
  /** The additional creators of the new room, in versions that have them. */
  readonly additionalCreators?: ReadonlyArray<UserId> | undefined
}

/** The parts of the old room that an upgrade reads. */
interface OldRoom {
  readonly roomId: RoomId
  readonly version: RoomVersion
  readonly state: ReadonlyArray<Event>
  readonly lastEvent: Event
}

const make = Effect.gen(function* () {
  const rooms = yield* Rooms
  const roomStore = yield* RoomStore
  const states = yield* StateStore
  const events = yield* EventStore
  const profiles = yield* ProfileStore
  const directory = yield* DirectoryStore
  const list = yield* PublicRoomStore
  const succession = yield* RoomSuccession
  const unfinished = yield* UnfinishedUpgradeStore
  const predecessorOf = yield* makePredecessorOf

  const versionOf = (roomId: RoomId) =>
    Effect.map(roomStore.version(roomId), (id) => (Option.isSome(id) ? roomVersion(id.value) : undefined))

  /** The old room, for a member with the power to send its tombstone. */
  const oldRoomFor = Effect.fnUntraced(function* ({ userId }: Session, roomId: RoomId) {
    const found = Option.getOrUndefined(yield* roomStore.membership(userId, roomId))
    const version = yield* versionOf(roomId)
    if (version === undefined || found?.membership !== "join" || found.current === undefined) {
      return yield* new Forbidden({ error: `${userId} is not in ${roomId}` })
    }
    const { current, roomNid } = found
    const entries = yield* states.read([{ roomNid, ref: current }], { types: transferredTypes })
    const state = entries.map(({ event }) => event)
    const levels = version.levels(lookupIn(state))
    if (levels.user(userId) < levels.event("m.room.tombstone", true)) {
      return yield* new Forbidden({ error: "An upgrade takes the power to send m.room.tombstone" })
    }
    const [last] = yield* events.timelines([{ roomNid, after: beginning, upTo: theEnd }], "b", 1)
    if (last === undefined) return yield* new NotFound({ error: `There is no room ${roomId}` })
    return { roomId, version, state, lastEvent: last.event } satisfies OldRoom
  })

  /** The room that the user made of the old one by the same upgrade before. */
  const madeBefore = Effect.fnUntraced(function* ({ userId }: Session, old: OldRoom, version: RoomVersion) {
    const tombstone = lookupIn(old.state)("m.room.tombstone", "")
    const replacement = tombstone?.content.replacement_room
    if (tombstone?.sender !== userId || typeof replacement !== "string" || !isRoomId(replacement)) return undefined
    if ((yield* versionOf(replacement))?.id !== version.id) return undefined
    return (yield* predecessorOf(replacement)) === old.roomId ? replacement : undefined
  })

  const createNew = Effect.fnUntraced(function* (
    session: Session,
    old: OldRoom,
    version: RoomVersion,
    additionalCreators: ReadonlyArray<UserId>
  ) {
    const seed = upgradeSeed(
      {
        oldRoom: old.roomId,
        lastEvent: old.lastEvent.event_id,
        state: old.state,
        creator: session.userId,
        creatorProfile: { ...(yield* profiles.publicProfile(session.userId)) },
        additionalCreators
      },
      version
    )
    const listed = Option.getOrElse(yield* list.isListed(old.roomId), () => false)
    const tombstone = lookupIn(old.state)("m.room.tombstone", "")?.event_id ?? ""
    // The same upgrade of the same room in the same state is one request, however often it is sent, and by whichever login.
    const txnId = `upgrade ${old.roomId} by ${session.userId} to ${version.id} after ${tombstone}`
    const anyLogin = { ...session, tokenId: 0 }
    return (yield* rooms.createSeeded(anyLogin, { version, seed, listed, invite: [] }, txnId)).room_id
  })

  /** Settings that the user has no power to change stay as they are. */
  const setIfAllowed = (...args: Parameters<(typeof rooms)["setState"]>) =>
    Effect.catchTag(rooms.setState(...args), "M_FORBIDDEN", () => Effect.void)

  /** Aliases and the place in the list of rooms go to the new room, and a tombstone leads there. */
  const closeOld = Effect.fnUntraced(function* (session: Session, old: OldRoom, replacement: RoomId) {
    yield* directory.move(old.roomId, replacement)
    yield* list.setListed(old.roomId, false)
    if (lookupIn(old.state)("m.room.canonical_alias", "") !== undefined) {
      yield* setIfAllowed(session, old.roomId, "m.room.canonical_alias", "", {})
    }
    yield* rooms.setState(session, old.roomId, "m.room.tombstone", "", {
      body: "This room has been replaced",
      replacement_room: replacement
    })
  })

  /** What follows the tombstone. Changes nothing where it was done before. */
  const finish = Effect.fnUntraced(function* (session: Session, old: OldRoom, replacement: RoomId) {
    const levels = closingLevels(lookupIn(old.state), old.version)
    if (levels !== undefined) yield* setIfAllowed(session, old.roomId, "m.room.power_levels", "", levels)
    yield* succession.inherit(session.userId, old.roomId, replacement)
  })

  const replace = Effect.fnUntraced(function* (
    session: Session,
    old: OldRoom,
    version: RoomVersion,
    additionalCreators: ReadonlyArray<UserId>
  ) {
    let replacement = yield* madeBefore(session, old, version)
    if (replacement === undefined) {
      replacement = yield* createNew(session, old, version, additionalCreators)
      yield* closeOld(session, old, replacement)
    }
    yield* finish(session, old, replacement)
    return replacement
  })

  const upgrade = Effect.fn("RoomUpgrades.upgrade")(function* (
    session: Session,
    roomId: RoomId,
    { additionalCreators = [], newVersion }: UpgradeRequest
  ) {
    const version = roomVersion(newVersion)
    if (version === undefined) {
      return yield* new UnsupportedRoomVersion({ error: `new_version: ${newVersion.slice(0, 64)} is not known here` })
    }
    const { userId } = session
    const old = yield* oldRoomFor(session, roomId)
    yield* unfinished.put({ roomId, userId, newVersion, additionalCreators })
    return yield* Effect.onExit(replace(session, old, version, additionalCreators), (exit) =>
      Exit.isSuccess(exit) || isRefusal(exit.cause) ? unfinished.remove(roomId, userId) : Effect.void
    )
  })

  yield* finishUpgrades(({ userId, roomId, ...request }) =>
    upgrade({ userId, tokenId: 0, deviceId: "" }, roomId, request)
  )

  return RoomUpgrades.of({ upgrade })
})

export class RoomUpgrades extends Context.Service<
  RoomUpgrades,
  {
    /**
     * Members with the power to send m.room.tombstone. The ID of the new room. Errors: M_FORBIDDEN, M_NOT_FOUND,
     * M_UNSUPPORTED_ROOM_VERSION.
     */
    readonly upgrade: (session: Session, roomId: RoomId, request: UpgradeRequest) => Effect.Effect<RoomId, MatrixError>
  }
>()("greenroom/actors/RoomUpgrades") {
  static readonly layer = Layer.effect(RoomUpgrades, make)
}
