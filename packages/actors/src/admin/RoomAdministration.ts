/**
 * Rooms for administrators: listing, blocking, shutting down, purging, and granting power in a room whose members have none.
 *
 * Loaded on first use (`AdminServices`). Whether the caller is an administrator is checked before.
 *
 * Source: the room administration API of Synapse.
 */
import { randomBytes } from "node:crypto"
import type { Event } from "@greenroom/protocol/Event"
import { type EventId, type RoomId, serverNameOf, type UserId } from "@greenroom/protocol/Identifiers"
import { BadRequest, type MatrixError, NotFound } from "@greenroom/protocol/MatrixError"
import type { Levels } from "@greenroom/room/RoomVersion"
import {
  type AdministeredRoom,
  RoomAdministrationStore,
  type RoomQuery
} from "@greenroom/store/RoomAdministrationStore"
import { type Removal, RoomRemovalStore } from "@greenroom/store/RoomRemovalStore"
import { type StateKey, StateStore } from "@greenroom/store/StateStore"
import { untilSuccess } from "@greenroom/store/Supervision"
import { Context, Effect, Layer, Option } from "effect"
import { makeRoomLevels } from "../room/RoomLevels.ts"
import { Rooms } from "../room/Rooms.ts"
import { HomeServerConfig } from "../runtime/HomeServerConfig.ts"
import { outcomeOf } from "../runtime/ItemFailure.ts"
import { RoomRemovals } from "./RoomRemovals.ts"

/** A room with what its state says. */
export interface RoomDetails extends AdministeredRoom {
  readonly canonicalAlias: string | undefined
  readonly avatarUrl: string | undefined
  readonly creator: string | undefined
  readonly encryption: string | undefined
  readonly isFederated: boolean
  readonly joinRule: string | undefined
  readonly guestAccess: string | undefined
  readonly historyVisibility: string | undefined
  readonly roomType: string | undefined
  readonly isReplaced: boolean
  /** The number of events of the current state. */
  readonly stateEvents: number
}

const detailKeys: ReadonlyArray<StateKey> = [
  ["m.room.create", ""],
  ["m.room.canonical_alias", ""],
  ["m.room.avatar", ""],
  ["m.room.encryption", ""],
  ["m.room.join_rules", ""],
  ["m.room.guest_access", ""],
  ["m.room.history_visibility", ""],
  ["m.room.tombstone", ""]
]

/** The power level of users that may do everything, as the presets give it to creators. */
const fullPower = 100

const withDetails = (room: AdministeredRoom, state: ReadonlyArray<Event>, stateEvents: number): RoomDetails => {
  const find = (type: string) => state.find((event) => event.type === type)
  const text = (type: string, key: string) => {
    const value = find(type)?.content[key]
    return typeof value === "string" ? value : undefined
  }
  const create = find("m.room.create")
  return {
    ...room,
    canonicalAlias: text("m.room.canonical_alias", "alias"),
    avatarUrl: text("m.room.avatar", "url"),
    creator: create?.sender,
    encryption: text("m.room.encryption", "algorithm"),
    isFederated: create?.content["m.federate"] !== false,
    joinRule: text("m.room.join_rules", "join_rule"),
    guestAccess: text("m.room.guest_access", "guest_access"),
    historyVisibility: text("m.room.history_visibility", "history_visibility"),
    roomType: text("m.room.create", "type"),
    isReplaced: find("m.room.tombstone") !== undefined,
    stateEvents
  }
}

/** A requested removal of a room. */
export interface NewShutdown {
  /** Keep users of this server from entering again. */
  readonly block: boolean
  /** Remove the room from the database. */
  readonly purge: boolean
  /** Purge also if users could not leave. */
  readonly force: boolean
  /** Makes a new room in the name of this user, which everybody is put into. */
  readonly newRoomUserId?: UserId | undefined
  readonly roomName?: string | undefined
  readonly message?: string | undefined
}

/** A requested removal of old events. */
export interface NewHistoryPurge {
  readonly before: { readonly eventId: EventId } | { readonly time: number }
  /** Also events of users of this server. */
  readonly local: boolean
}

const newRemovalId = (): string => randomBytes(8).toString("hex")

const make = Effect.gen(function* () {
  const { serverName } = yield* HomeServerConfig
  const store = yield* RoomAdministrationStore
  const removalStore = yield* RoomRemovalStore
  const removals = yield* RoomRemovals
  const states = yield* StateStore
  const rooms = yield* Rooms
  const levelsFor = yield* makeRoomLevels

  const existing = Effect.fnUntraced(function* (roomId: RoomId) {
    const found = yield* store.find(roomId)
    return Option.isSome(found) ? found.value : yield* new NotFound({ error: `There is no room ${roomId}` })
  })

  const detailed = Effect.fnUntraced(function* (found: ReadonlyArray<AdministeredRoom>) {
    const refs = found.map(({ roomNid, state }) => ({ roomNid, ref: state }))
    const entries = yield* states.read(refs, { keys: detailKeys })
    const sizes = yield* states.sizes(refs)
    return found.map((room) =>
      withDetails(
        room,
        entries.flatMap(({ event, roomNid }) => (roomNid === room.roomNid ? [event] : [])),
        sizes.get(room.roomNid) ?? 0
      )
    )
  })

  const state = Effect.fn("RoomAdministration.state")(function* (roomId: RoomId) {
    const room = yield* existing(roomId)
    return (yield* states.read([{ roomNid: room.roomNid, ref: room.state }])).map(({ event }) => event)
  })

  /** A member of this server with the power to change the power of others. */
  const powerfulMember = Effect.fnUntraced(function* (room: AdministeredRoom) {
    const candidates: Array<{ readonly userId: UserId; readonly power: number; readonly levels: Levels }> = []
    for (const userId of yield* store.members(room.roomNid, ["join"], serverName)) {
      const levels = Option.getOrUndefined(yield* levelsFor(userId, room.roomId))
      if (levels === undefined) continue
      const power = levels.user(userId)
      if (power >= levels.event("m.room.power_levels", true)) candidates.push({ userId, power, levels })
    }
    return candidates.sort((a, b) => b.power - a.power)[0]
  })

  const makeAdmin = Effect.fn("RoomAdministration.makeAdmin")(function* (roomId: RoomId, userId: UserId) {
    const room = yield* existing(roomId)
    const sender = yield* powerfulMember(room)
    if (sender === undefined) {
      return yield* new BadRequest({ error: "No user of this server in the room may change power levels" })
    }
    const session = { userId: sender.userId, tokenId: 0, deviceId: "" }
    const current = yield* states.read([{ roomNid: room.roomNid, ref: room.state }], {
      keys: [
        ["m.room.power_levels", ""],
        ["m.room.join_rules", ""],
        ["m.room.member", userId]
      ]
    })
    const content = (type: string) => current.find(({ event }) => event.type === type)?.event.content
    const levels = content("m.room.power_levels") ?? {}
    const users = (levels.users ?? {}) as { readonly [userId: string]: number }
    const power = Number.isFinite(sender.power) ? sender.power : fullPower
    // Creators above all levels are in no power levels.
    if (sender.levels.user(userId) < sender.power) {
      yield* rooms.setState(session, roomId, "m.room.power_levels", "", {
        ...levels,
        users: { ...users, [userId]: power }
      })
    }
    const membership = content("m.room.member")?.membership
    if (membership !== "join" && membership !== "invite" && content("m.room.join_rules")?.join_rule !== "public") {
      yield* rooms.setMembership(session, roomId, "invite", userId)
    }
  })

  const shutDown = Effect.fn("RoomAdministration.shutDown")(function* (
    roomId: RoomId,
    options: NewShutdown,
    requestedBy: string
  ) {
    const { newRoomUserId } = options
    if (newRoomUserId !== undefined && serverNameOf(newRoomUserId) !== serverName) {
      return yield* new BadRequest({ error: "new_room_user_id: must be a user of this server" })
    }
    // An unknown room can only be blocked.
    if (Option.isNone(yield* store.find(roomId)) && !options.block) {
      return yield* new NotFound({ error: `There is no room ${roomId}` })
    }
    const removalId = newRemovalId()
    yield* removalStore.addRemoval({ removalId, kind: "room", roomId, requestedBy, options })
    return removalId
  })

  const purgeHistory = Effect.fn("RoomAdministration.purgeHistory")(function* (
    roomId: RoomId,
    { before, local }: NewHistoryPurge,
    requestedBy: string
  ) {
    yield* existing(roomId)
    const point = yield* store.historyPoint(roomId, before)
    if (point === undefined) return yield* new NotFound({ error: "There is no event before that point" })
    const removalId = newRemovalId()
    yield* removalStore.addRemoval({ removalId, kind: "history", roomId, requestedBy, options: { point, local } })
    return removalId
  })

  const removal = Effect.fnUntraced(function* (removalId: string, kind: Removal["kind"]) {
    const found = yield* removalStore.removal(removalId)
    return Option.isSome(found) && found.value.kind === kind
      ? found.value
      : yield* new NotFound({ error: "There is no such removal" })
  })

  /** Repeated while something is not available. */
  const run = (removalId: string) => {
    const what = `The removal ${removalId}`
    return Effect.flatMap(untilSuccess(what, outcomeOf(what, removals.run(removalId))), Effect.fromResult)
  }

  return RoomAdministration.of({
    find: (roomId) => Effect.flatMap(existing(roomId), (room) => Effect.map(detailed([room]), ([details]) => details!)),
    list: (query) =>
      Effect.flatMap(store.list(query), ({ rooms, total }) =>
        Effect.map(detailed(rooms), (rooms) => ({ rooms, total }))
      ),
    members: (roomId) => Effect.flatMap(existing(roomId), ({ roomNid }) => store.members(roomNid, ["join"], undefined)),
    state,
    extremities: (roomId) => Effect.andThen(existing(roomId), store.extremities(roomId)),
    blockedBy: removalStore.blockedBy,
    setBlocked: removalStore.setBlocked,
    makeAdmin,
    join: (userId, room, servers) => rooms.join({ userId, tokenId: 0, deviceId: "" }, room, {}, undefined, servers),
    shutDown,
    purgeHistory,
    removal,
    removalsOf: removalStore.removalsOf,
    run
  })
})

/** Rooms for administrators: lists, blocks, removals, power. Does not check whether the caller is one. */
export class RoomAdministration extends Context.Service<
  RoomAdministration,
  {
    /** Errors: M_NOT_FOUND, as of all that follows. */
    readonly find: (roomId: RoomId) => Effect.Effect<RoomDetails, MatrixError>
    readonly list: (
      query: RoomQuery
    ) => Effect.Effect<{ readonly rooms: ReadonlyArray<RoomDetails>; readonly total: number }>
    readonly members: (roomId: RoomId) => Effect.Effect<ReadonlyArray<UserId>, MatrixError>
    readonly state: (roomId: RoomId) => Effect.Effect<ReadonlyArray<Event>, MatrixError>
    readonly extremities: (
      roomId: RoomId
    ) => Effect.Effect<
      ReadonlyArray<{ readonly event_id: EventId; readonly depth: number; readonly received_ts: number }>,
      MatrixError
    >
    readonly blockedBy: (roomId: RoomId) => Effect.Effect<string | undefined>
    /** Blocks the room in the name of an administrator, or lifts the block. */
    readonly setBlocked: (roomId: RoomId, by: string | undefined) => Effect.Effect<void>
    /** Gives a user the highest power level that a user of this server has, and invites them if they could not join. */
    readonly makeAdmin: (roomId: RoomId, userId: UserId) => Effect.Effect<void, MatrixError>
    /** Joins a user of this server to a room. */
    readonly join: (
      userId: UserId,
      room: Parameters<Rooms["Service"]["join"]>[1],
      servers: Parameters<Rooms["Service"]["join"]>[4]
    ) => Effect.Effect<{ readonly room_id: RoomId }, MatrixError>
    /** Requests the shut-down of a room, which `RoomRemovals` carries out. Returns the ID of the removal. */
    readonly shutDown: (roomId: RoomId, options: NewShutdown, requestedBy: string) => Effect.Effect<string, MatrixError>
    /** Requests the removal of history, which `RoomRemovals` carries out. Returns the ID of the removal. */
    readonly purgeHistory: (
      roomId: RoomId,
      purge: NewHistoryPurge,
      requestedBy: string
    ) => Effect.Effect<string, MatrixError>
    readonly removal: (removalId: string, kind: Removal["kind"]) => Effect.Effect<Removal, MatrixError>
    readonly removalsOf: RoomRemovalStore["Service"]["removalsOf"]
    /** Runs the recorded removal; returns when it has ended. May be repeated. */
    readonly run: (removalId: string) => Effect.Effect<Removal, MatrixError>
  }
>()("greenroom/actors/RoomAdministration") {
  static readonly layer = Layer.effect(RoomAdministration, make)
}
