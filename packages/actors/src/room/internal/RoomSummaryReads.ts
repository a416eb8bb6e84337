/**
 * The summaries of rooms in which this server takes part, and which users may see them.
 *
 * Source: "Room Summaries" of the client-server specification.
 */
import { contentText, type Event } from "@greenroom/protocol/Event"
import { isRoomAlias, type RoomId, type ServerName, type UserId } from "@greenroom/protocol/Identifiers"
import { RoomServerStore } from "@greenroom/store/RoomServerStore"
import { RoomStore } from "@greenroom/store/RoomStore"
import { type StateKey, type StateRef, StateStore } from "@greenroom/store/StateStore"
import { SyncStore } from "@greenroom/store/SyncStore"
import { Effect, Option } from "effect"
import type { RoomSummary } from "../PublicRooms.ts"
import { allowedRooms } from "./RestrictedJoins.ts"

/** The most rooms of a restricted join rule that are searched for a membership. */
const maxAllowedRooms = 50

const summaryKeys: ReadonlyArray<StateKey> = [
  ["m.room.create", ""],
  ["m.room.name", ""],
  ["m.room.topic", ""],
  ["m.room.canonical_alias", ""],
  ["m.room.avatar", ""],
  ["m.room.join_rules", ""],
  ["m.room.history_visibility", ""],
  ["m.room.guest_access", ""],
  ["m.room.encryption", ""]
]

/** A room in which this server takes part, with its current state. */
export interface HeldRoom {
  readonly roomId: RoomId
  readonly roomNid: number
  readonly state: StateRef
}

const withoutUndefined = <T extends object>(object: T): T =>
  Object.fromEntries(Object.entries(object).filter(([, value]) => value !== undefined)) as T

const summaryOf = (roomId: RoomId, state: ReadonlyArray<Event>, joined: number): RoomSummary => {
  const find = (type: string) => state.find((event) => event.type === type)
  const joinRules = find("m.room.join_rules")
  const allowed = allowedRooms(joinRules)
  const alias = contentText(find("m.room.canonical_alias"), "alias")
  return withoutUndefined({
    room_id: roomId,
    num_joined_members: joined,
    world_readable: contentText(find("m.room.history_visibility"), "history_visibility") === "world_readable",
    guest_can_join: contentText(find("m.room.guest_access"), "guest_access") === "can_join",
    name: contentText(find("m.room.name"), "name"),
    topic: contentText(find("m.room.topic"), "topic"),
    canonical_alias: isRoomAlias(alias) ? alias : undefined,
    avatar_url: contentText(find("m.room.avatar"), "url"),
    join_rule: contentText(joinRules, "join_rule") ?? "invite",
    room_type: contentText(find("m.room.create"), "type"),
    room_version: contentText(find("m.room.create"), "room_version") ?? "1",
    encryption: contentText(find("m.room.encryption"), "algorithm"),
    allowed_room_ids: allowed.length === 0 ? undefined : allowed
  }) as RoomSummary
}

export const makeRoomSummaryReads = Effect.gen(function* () {
  const roomStore = yield* RoomStore
  const roomServers = yield* RoomServerStore
  const states = yield* StateStore
  const sync = yield* SyncStore

  /** The rooms, among the given, that this server takes part in. */
  const held = Effect.fnUntraced(function* (roomIds: ReadonlyArray<RoomId>) {
    const found = yield* Effect.forEach(roomIds, (roomId) =>
      Effect.map(
        roomStore.currentState(roomId),
        Option.map((current): HeldRoom => ({ roomId, ...current }))
      )
    )
    return found.flatMap((room) => Option.toArray(room))
  })

  const summarise = Effect.fnUntraced(function* (found: ReadonlyArray<HeldRoom>) {
    const [entries, counts] = yield* Effect.all([
      states.read(
        found.map(({ roomNid, state }) => ({ roomNid, ref: state })),
        { keys: summaryKeys }
      ),
      sync.memberCounts(found.map(({ roomNid }) => roomNid))
    ])
    const byRoom = Map.groupBy(entries, ({ roomNid }) => roomNid)
    return found.map(({ roomId, roomNid }) =>
      summaryOf(
        roomId,
        (byRoom.get(roomNid) ?? []).map(({ event }) => event),
        counts.get(roomNid)?.joined ?? 0
      )
    )
  })

  const membershipOf = Effect.fnUntraced(function* (userId: UserId, roomId: RoomId) {
    const found = yield* roomStore.membership(userId, roomId)
    return Option.isSome(found) ? found.value.membership : "leave"
  })

  /** Whether a user is in one of the rooms whose members a restricted room lets in. */
  const isAllowed = Effect.fnUntraced(function* (userId: UserId, allowed: ReadonlyArray<RoomId>) {
    for (const roomId of allowed.slice(0, maxAllowedRooms)) {
      if ((yield* membershipOf(userId, roomId)) === "join") return true
    }
    return false
  })

  /** Whether a user may know of the room: by being in it, or being allowed to join or read it. */
  const mayKnow = Effect.fnUntraced(function* (userId: UserId | undefined, room: RoomSummary) {
    if (room.world_readable || room.join_rule === "public") return true
    if (room.join_rule === "knock" || room.join_rule === "knock_restricted") return true
    if (userId === undefined) return false
    const membership = yield* membershipOf(userId, room.room_id)
    if (membership === "join" || membership === "invite") return true
    return room.join_rule === "restricted" && (yield* isAllowed(userId, room.allowed_room_ids ?? []))
  })

  /** Whether users of a server may know of the room: as `mayKnow` for any of them. */
  const mayServerKnow = Effect.fnUntraced(function* (server: ServerName, room: RoomSummary) {
    if (yield* mayKnow(undefined, room)) return true
    if (yield* roomServers.isInvited(server, room.room_id)) return true
    const servers = yield* roomServers.serversOf([
      room.room_id,
      ...(room.allowed_room_ids ?? []).slice(0, maxAllowedRooms)
    ])
    const here = servers.get(room.room_id) ?? []
    if (here.includes(server)) return true
    const isRestricted = room.join_rule === "restricted" || room.join_rule === "knock_restricted"
    return isRestricted && [...servers.values()].some((of) => of.includes(server))
  })

  return { held, summarise, membershipOf, mayKnow, mayServerKnow }
})

export type RoomSummaryReads = Effect.Success<typeof makeRoomSummaryReads>
