/**
 * Upgrading rooms: a room of another version takes the place of a room, whose members are led there by a tombstone.
 *
 * An upgrade that fails or is interrupted before it has made the new room has changed nothing. After that it continues where it ended, when
 * it is asked for again or by itself; if that is refused, or another upgrade came first, its user leaves the new room. One that was made
 * is answered with the room that it made.
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
import { beginning, theEnd } from "@greenroom/store/StreamToken"
import { type UnfinishedUpgrade, UnfinishedUpgradeStore } from "@greenroom/store/UnfinishedUpgradeStore"
import { Context, Effect, Exit, Layer, Option, Result } from "effect"
import { isRefusal, outcomeOf } from "../runtime/ItemFailure.ts"
import type { Session } from "../runtime/Session.ts"
import { keepFinishing } from "../runtime/UnfinishedWork.ts"
import { makePredecessorOf } from "./internal/Predecessor.ts"
import { creationScope, transactionKey } from "./internal/RoomTransactions.ts"
import { RoomSuccession } from "./RoomSuccession.ts"
import { Rooms } from "./Rooms.ts"

/** The room to upgrade, and its new version. */
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

/** The same upgrade of the same room in the same state is one request, however often it is sent, and by whichever login. */
const txnIdOf = ({ newVersion, roomId, tombstone, userId }: UnfinishedUpgrade) =>
  `upgrade ${roomId} by ${userId} to ${newVersion} after ${tombstone ?? ""}`

const anyLogin = 0

const nameOf = ({ newVersion, roomId, userId }: UnfinishedUpgrade) =>
  `The upgrade of ${roomId} by ${userId} to version ${newVersion}`

const tombstoneOf = (state: ReadonlyArray<Event>) => lookupIn(state)("m.room.tombstone", "")

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
      return yield* new Forbidden({ error: "An upgrade requires the power level to send m.room.tombstone" })
    }
    const [last] = yield* events.timelines([{ roomNid, after: beginning, upTo: theEnd }], "b", 1)
    if (last === undefined) return yield* new NotFound({ error: `There is no room ${roomId}` })
    return { roomId, version, state, lastEvent: last.event } satisfies OldRoom
  })

  /** The room that the user made of the old one by the same upgrade before. */
  const madeBefore = Effect.fnUntraced(function* ({ userId }: Session, old: OldRoom, version: RoomVersion) {
    const tombstone = tombstoneOf(old.state)
    const replacement = tombstone?.content.replacement_room
    if (tombstone?.sender !== userId || typeof replacement !== "string" || !isRoomId(replacement)) return undefined
    if ((yield* versionOf(replacement))?.id !== version.id) return undefined
    return (yield* predecessorOf(replacement)) === old.roomId ? replacement : undefined
  })

  /** The room that the tombstone names. */
  const replacementOf = Effect.fnUntraced(function* (roomId: RoomId) {
    const [tombstone] = yield* states.readCurrent(roomId, { key: ["m.room.tombstone", ""] })
    return tombstone?.event.content.replacement_room
  })

  /** The room that an upgrade has made, if it has come so far. */
  const madeBy = (upgrade: UnfinishedUpgrade) => {
    const key = transactionKey({ tokenId: anyLogin, kind: "createRoom", txnId: txnIdOf(upgrade) })
    return Effect.map(roomStore.transaction(anyLogin, creationScope, key), (found) =>
      found === undefined ? undefined : (JSON.parse(found.response) as { readonly room_id: RoomId }).room_id
    )
  }

  const createNew = Effect.fnUntraced(function* (
    session: Session,
    old: OldRoom,
    version: RoomVersion,
    upgrade: UnfinishedUpgrade
  ) {
    const seed = upgradeSeed(
      {
        oldRoom: old.roomId,
        lastEvent: old.lastEvent.event_id,
        state: old.state,
        creator: session.userId,
        creatorProfile: { ...(yield* profiles.publicProfile(session.userId)) },
        additionalCreators: upgrade.additionalCreators
      },
      version
    )
    const listed = Option.getOrElse(yield* list.isListed(old.roomId), () => false)
    const seeded = { version, seed, listed, invite: [] }
    return (yield* rooms.createSeeded({ ...session, tokenId: anyLogin }, seeded, txnIdOf(upgrade))).room_id
  })

  /** Settings that the user has no power to change stay as they are. */
  const setIfAllowed = (...args: Parameters<(typeof rooms)["setState"]>) =>
    Effect.catchTag(rooms.setState(...args), "M_FORBIDDEN", () => Effect.void)

  /**
   * What follows the tombstone: aliases and the place in the list of rooms go to the new room, and the old one is closed. Changes nothing
   * where it was done before.
   */
  const finish = Effect.fnUntraced(function* (session: Session, old: OldRoom, replacement: RoomId) {
    yield* directory.move(old.roomId, replacement)
    yield* list.setListed(old.roomId, false)
    if (lookupIn(old.state)("m.room.canonical_alias", "") !== undefined) {
      yield* setIfAllowed(session, old.roomId, "m.room.canonical_alias", "", {})
    }
    const levels = closingLevels(lookupIn(old.state), old.version)
    if (levels !== undefined) yield* setIfAllowed(session, old.roomId, "m.room.power_levels", "", levels)
    yield* succession.inherit(session.userId, old.roomId, replacement)
  })

  const replace = Effect.fnUntraced(function* (
    session: Session,
    old: OldRoom,
    version: RoomVersion,
    upgrade: UnfinishedUpgrade
  ) {
    let replacement = yield* madeBefore(session, old, version)
    if (replacement === undefined) {
      replacement = yield* createNew(session, old, version, upgrade)
      // The tombstone decides: a user that may not send it changes nothing of the old room.
      yield* rooms.setState(session, old.roomId, "m.room.tombstone", "", {
        body: "This room has been replaced",
        replacement_room: replacement
      })
    }
    yield* finish(session, old, replacement)
    return replacement
  })

  /** Forgets an upgrade. If it has made a room to which the old one does not lead, its user leaves that. */
  const takeBack = Effect.fnUntraced(function* (upgrade: UnfinishedUpgrade) {
    const { roomId, userId } = upgrade
    const replacement = yield* madeBy(upgrade)
    if (replacement !== undefined && (yield* replacementOf(roomId)) !== replacement) {
      yield* list.setListed(replacement, false)
      const left = rooms.leave({ userId, tokenId: anyLogin, deviceId: "" }, replacement)
      yield* Effect.catchTag(left, "M_FORBIDDEN", () => Effect.void)
    }
    yield* unfinished.remove(roomId, userId)
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
    const upgrade = { roomId, userId, newVersion, additionalCreators, tombstone: tombstoneOf(old.state)?.event_id }
    const former = yield* unfinished.find(roomId, userId)
    if (former !== undefined && txnIdOf(former) !== txnIdOf(upgrade)) yield* takeBack(former)
    yield* unfinished.put(upgrade)
    return yield* Effect.onExit(replace(session, old, version, upgrade), (exit) => {
      if (Exit.isSuccess(exit)) return unfinished.remove(roomId, userId)
      return isRefusal(exit.cause) ? Effect.ignore(takeBack(upgrade)) : Effect.void
    })
  })

  /** Continues an upgrade that has made its room, unless the old one was replaced by another meanwhile. */
  const resume = Effect.fnUntraced(function* (upgrade: UnfinishedUpgrade) {
    const session = { userId: upgrade.userId, tokenId: anyLogin, deviceId: "" }
    const version = roomVersion(upgrade.newVersion)
    if (version === undefined) return undefined
    const old = yield* oldRoomFor(session, upgrade.roomId)
    const isReplaced = (yield* madeBefore(session, old, version)) !== undefined
    const isBegun = isReplaced || (yield* madeBy(upgrade)) !== undefined
    const isSame = isReplaced || tombstoneOf(old.state)?.event_id === upgrade.tombstone
    return isBegun && isSame ? yield* replace(session, old, version, upgrade) : undefined
  })

  yield* keepFinishing({
    name: "Finishing upgrades of rooms",
    kind: "unfinished upgrades",
    table: unfinished,
    // A process may still be at one that is not due.
    whenNodesChange: "due",
    nameOf,
    finish: Effect.fnUntraced(function* (upgrade) {
      const finished = yield* outcomeOf(nameOf(upgrade), resume(upgrade))
      if (Result.isFailure(finished) || finished.success === undefined) {
        yield* takeBack(upgrade)
        const why = Result.isFailure(finished) ? finished.failure.error : "it had not begun, or another came first"
        return yield* Effect.logWarning(`${nameOf(upgrade)} was interrupted and is undone: ${why}`)
      }
      yield* unfinished.remove(upgrade.roomId, upgrade.userId)
      yield* Effect.log(`${nameOf(upgrade)}, which was interrupted, is finished`)
    })
  })

  return RoomUpgrades.of({ upgrade })
})

/** Upgrades of rooms to another version. */
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
